"""Runs storage's migrations on the connection that `mesh.migrate.upgrade` hands over."""

from mesh.migrate import run_migrations
from services.storage.tables import METADATA, VERSION_TABLE

run_migrations(METADATA, VERSION_TABLE)
