"""Alembic's entry for the router's schema; run by `mesh.migrate.upgrade`."""

from mesh.migrate import run_migrations
from services.router.tables import metadata

run_migrations(metadata, "router_schema")
