"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

ROW_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make every table, in the order in which they refer to each other."""
    _sessions_and_events()
    _proposals()
    _executions()
    _verdicts()
    _authority()


def downgrade() -> None:
    """Drop every table."""
    for name in (
        "snapshots",
        "epochs",
        "suspensions",
        "reviews",
        "corrections",
        "labels",
        "outcomes",
        "intents",
        "decisions",
        "proposals",
        "events",
        "sessions",
    ):
        op.drop_table(name)


def _sessions_and_events() -> None:
    op.create_table(
        "sessions",
        sa.Column("session_id", sa.String(), nullable=False),
        sa.Column("process_cluster", sa.String(), nullable=False),
        sa.Column("opened_at", sa.String(), nullable=False),
        sa.Column("closed_at", sa.String(), nullable=False),
        sa.Column("closed_pair", sa.String(), nullable=False),
        sa.Column("closed_stage", sa.String(), nullable=False),
        sa.Column("demonstrated", sa.Boolean(), nullable=False),
        sa.Column("handed_off", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("session_id", name=op.f("pk_sessions")),
    )
    op.create_index(
        "ix_sessions_process_cluster_closed_at",
        "sessions",
        ["process_cluster", "closed_at", "session_id"],
        unique=False,
    )
    op.create_table(
        "events",
        sa.Column("session_id", sa.String(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("event_id", sa.String(), nullable=False),
        sa.Column("received_at", sa.String(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("html", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.session_id"], name=op.f("fk_events_session_id_sessions")),
        sa.PrimaryKeyConstraint("session_id", "sequence", name=op.f("pk_events")),
        sa.UniqueConstraint("event_id", name=op.f("uq_events_event_id")),
    )


def _proposals() -> None:
    op.create_table(
        "proposals",
        sa.Column("proposal_id", sa.String(), nullable=False),
        sa.Column("session_id", sa.String(), nullable=False),
        sa.Column("at_version", sa.Integer(), nullable=False),
        sa.Column("process_cluster", sa.String(), nullable=False),
        sa.Column("pair", sa.String(), nullable=False),
        sa.Column("stage", sa.String(), nullable=False),
        sa.Column("decision", sa.String(), nullable=False),
        sa.Column("tool", sa.String(), nullable=False),
        sa.Column("critical", sa.Boolean(), nullable=False),
        sa.Column("executed", sa.Boolean(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.session_id"], name=op.f("fk_proposals_session_id_sessions")),
        sa.PrimaryKeyConstraint("proposal_id", name=op.f("pk_proposals")),
        sa.UniqueConstraint("session_id", "at_version", name=op.f("uq_proposals_session_id_at_version")),
    )
    op.create_table(
        "decisions",
        sa.Column("number", ROW_NUMBER, autoincrement=True, nullable=False),
        sa.Column("session_id", sa.String(), nullable=False),
        sa.Column("proposal_id", sa.String(), nullable=False),
        sa.Column("process_cluster", sa.String(), nullable=False),
        sa.Column("pair", sa.String(), nullable=False),
        sa.Column("stage", sa.String(), nullable=False),
        sa.Column("decision", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("at", sa.String(), nullable=False),
        sa.Column("facts", sa.LargeBinary(), nullable=False),
        sa.Column("former", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_decisions")),
        sa.UniqueConstraint("former", name=op.f("uq_decisions_former")),
    )
    op.create_index(op.f("ix_decisions_proposal_id"), "decisions", ["proposal_id"], unique=False)


def _executions() -> None:
    op.create_table(
        "intents",
        sa.Column("proposal_id", sa.String(), nullable=False),
        sa.Column("session_id", sa.String(), nullable=False),
        sa.Column("idempotency_key", sa.String(), nullable=False),
        sa.Column("state_version", sa.Integer(), nullable=False),
        sa.Column("authorised_by", sa.String(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("at", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["proposal_id"], ["proposals.proposal_id"], name=op.f("fk_intents_proposal_id_proposals")
        ),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.session_id"], name=op.f("fk_intents_session_id_sessions")),
        sa.PrimaryKeyConstraint("proposal_id", name=op.f("pk_intents")),
        sa.UniqueConstraint("idempotency_key", name=op.f("uq_intents_idempotency_key")),
    )
    op.create_index(op.f("ix_intents_session_id"), "intents", ["session_id"], unique=False)
    op.create_table(
        "outcomes",
        sa.Column("proposal_id", sa.String(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("at", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["proposal_id"], ["intents.proposal_id"], name=op.f("fk_outcomes_proposal_id_intents")),
        sa.PrimaryKeyConstraint("proposal_id", name=op.f("pk_outcomes")),
    )


def _verdicts() -> None:
    op.create_table(
        "labels",
        sa.Column("number", ROW_NUMBER, autoincrement=True, nullable=False),
        sa.Column("session_id", sa.String(), nullable=False),
        sa.Column("proposal_id", sa.String(), nullable=False),
        sa.Column("process_cluster", sa.String(), nullable=False),
        sa.Column("pair", sa.String(), nullable=False),
        sa.Column("stage", sa.String(), nullable=False),
        sa.Column("stratum", sa.String(), nullable=False),
        sa.Column("tool", sa.String(), nullable=False),
        sa.Column("verdict", sa.String(), nullable=False),
        sa.Column("accepted", sa.Boolean(), nullable=False),
        sa.Column("reviewed", sa.Boolean(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["proposal_id"], ["proposals.proposal_id"], name=op.f("fk_labels_proposal_id_proposals")
        ),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.session_id"], name=op.f("fk_labels_session_id_sessions")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_labels")),
        sa.UniqueConstraint("proposal_id", "reviewed", name=op.f("uq_labels_proposal_id_reviewed")),
    )
    op.create_index(
        "ix_labels_process_cluster_pair_number", "labels", ["process_cluster", "pair", "number"], unique=False
    )
    op.create_index(op.f("ix_labels_session_id"), "labels", ["session_id"], unique=False)
    op.create_table(
        "corrections",
        sa.Column("proposal_id", sa.String(), nullable=False),
        sa.Column("process_cluster", sa.String(), nullable=False),
        sa.Column("pair", sa.String(), nullable=False),
        sa.Column("at", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["proposal_id"], ["proposals.proposal_id"], name=op.f("fk_corrections_proposal_id_proposals")
        ),
        sa.PrimaryKeyConstraint("proposal_id", name=op.f("pk_corrections")),
    )
    op.create_table(
        "reviews",
        sa.Column("session_id", sa.String(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("process_cluster", sa.String(), nullable=False),
        sa.Column("pair", sa.String(), nullable=False),
        sa.Column("approved", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.session_id"], name=op.f("fk_reviews_session_id_sessions")),
        sa.PrimaryKeyConstraint("session_id", "sequence", name=op.f("pk_reviews")),
    )


def _authority() -> None:
    op.create_table(
        "suspensions",
        sa.Column("process_cluster", sa.String(), nullable=False),
        sa.Column("suspended", sa.Boolean(), nullable=False),
        sa.Column("who", sa.String(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("at", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("process_cluster", name=op.f("pk_suspensions")),
    )
    op.create_table(
        "epochs",
        sa.Column("domain", sa.String(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("domain", name=op.f("pk_epochs")),
    )
    op.create_table(
        "snapshots",
        sa.Column("slot", sa.Integer(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("slot", name=op.f("pk_snapshots")),
    )
