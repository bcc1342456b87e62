"""Ids of events count within their source and session, and a repeated one is known by its content.

On SQLite this rewrites the table of events once.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add source and digest, and widen the unique key."""
    with op.batch_alter_table("events") as events:
        events.add_column(sa.Column("source", sa.String(), nullable=False, server_default=""))
        events.add_column(sa.Column("digest", sa.String(), nullable=False, server_default=""))
        events.drop_constraint(op.f("uq_events_event_id"), type_="unique")
        events.create_unique_constraint(
            op.f("uq_events_session_id_source_event_id"), ["session_id", "source", "event_id"]
        )


def downgrade() -> None:
    """Go back. Fails where an id stands in two sessions by now."""
    with op.batch_alter_table("events") as events:
        events.drop_constraint(op.f("uq_events_session_id_source_event_id"), type_="unique")
        events.create_unique_constraint(op.f("uq_events_event_id"), ["event_id"])
        events.drop_column("digest")
        events.drop_column("source")
