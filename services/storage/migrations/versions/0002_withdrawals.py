"""What took an asset out of service, so that undoing a takedown leaves alone what was withdrawn one by one."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("assets", sa.Column("withdrawn", sa.String(16), nullable=False, server_default=""))
    # What a takedown withdrew has its hash blocked; of what has not, a takedown is no part.
    op.execute("UPDATE assets SET withdrawn = 'ASSET' WHERE state = 'TAKEN_DOWN'")
    op.execute(
        "UPDATE assets SET withdrawn = 'CONTENT' WHERE state = 'TAKEN_DOWN'"
        " AND sha256 IN (SELECT sha256 FROM blocked_hashes)"
    )


def downgrade() -> None:
    op.drop_column("assets", "withdrawn")
