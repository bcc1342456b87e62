"""Where the gateway that holds the records is reached, for those that stand by."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "holders",
        sa.Column("slot", sa.Integer(), nullable=False),
        sa.Column("address", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("slot", name="pk_holders"),
    )


def downgrade() -> None:
    """Remove it."""
    op.drop_table("holders")
