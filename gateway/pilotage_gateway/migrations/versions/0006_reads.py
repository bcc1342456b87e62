"""Who read what."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "reads",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("at", sa.String(), nullable=False),
        sa.Column("who", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("what", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_reads")),
    )
    op.create_index(op.f("ix_reads_what"), "reads", ["what"], unique=False)
    op.create_index(op.f("ix_reads_who"), "reads", ["who"], unique=False)


def downgrade() -> None:
    """Drop it."""
    op.drop_index(op.f("ix_reads_who"), "reads")
    op.drop_index(op.f("ix_reads_what"), "reads")
    op.drop_table("reads")
