"""Where the gateway that holds the records is reached, for those that stand by; open sessions by when they began."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add table and index."""
    op.create_table(
        "holders",
        sa.Column("slot", sa.Integer(), nullable=False),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("slot", name=op.f("pk_holders")),
    )
    op.create_index(
        op.f("ix_sessions_closed_at_opened_at"), "sessions", ["closed_at", "opened_at", "session_id"], unique=False
    )


def downgrade() -> None:
    """Drop both."""
    op.drop_index(op.f("ix_sessions_closed_at_opened_at"), "sessions")
    op.drop_table("holders")
