"""Runs moderation's migrations on the connection that `mesh.db.upgrade` hands over."""

from mesh.migrate import run_migrations
from services.moderation.tables import METADATA, VERSION_TABLE

run_migrations(METADATA, VERSION_TABLE)
