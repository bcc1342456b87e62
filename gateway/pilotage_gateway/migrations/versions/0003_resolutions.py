"""How closed cases came out, and whether anybody was asked before their ending."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "resolutions",
        sa.Column("session_id", sa.String(), nullable=False),
        sa.Column("process_cluster", sa.String(), nullable=False),
        sa.Column("pair", sa.String(), nullable=False),
        sa.Column("unasked", sa.Boolean(), nullable=False),
        sa.Column("right", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["session_id"], ["sessions.session_id"], name=op.f("fk_resolutions_session_id_sessions")
        ),
        sa.PrimaryKeyConstraint("session_id", name=op.f("pk_resolutions")),
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("resolutions")
