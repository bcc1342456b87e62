"""The records' schema, one for SQLite and PostgreSQL. Tables only: who writes is in writes.py, who reads in queries.py.

Changed only together with a new file in migrations/versions; a test compares the two.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

SCHEMA_VERSION = "0006"
"""The newest file in migrations/versions."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_N_label)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    }
)

ROW_NUMBER = BigInteger().with_variant(Integer, "sqlite")
"""SQLite counts rows only in a column of type INTEGER."""

sessions = Table(
    "sessions",
    metadata,
    Column("session_id", String, primary_key=True),
    Column("process_cluster", String, nullable=False),
    Column("opened_at", String, nullable=False),
    Column("closed_at", String, nullable=False, default=""),
    Column("closed_pair", String, nullable=False, default=""),
    Column("closed_stage", String, nullable=False, default=""),
    Column("demonstrated", Boolean, nullable=False, default=False),
    Column("handed_off", String, nullable=False, default=""),
)
Index("ix_sessions_closed_at_opened_at", sessions.c.closed_at, sessions.c.opened_at, sessions.c.session_id)
Index("ix_sessions_process_cluster_closed_at", sessions.c.process_cluster, sessions.c.closed_at, sessions.c.session_id)

events = Table(
    "events",
    metadata,
    Column("session_id", String, ForeignKey("sessions.session_id"), primary_key=True),
    Column("sequence", Integer, primary_key=True),
    Column("event_id", String, nullable=False),
    Column("received_at", String, nullable=False),
    Column("body", LargeBinary, nullable=False),  # the event as JSON, without its HTML
    Column("html", Text, nullable=False, default=""),
    Column("source", String, nullable=False, server_default=""),
    Column("digest", String, nullable=False, server_default=""),  # of the event as it was sent; "" for old rows
    UniqueConstraint("session_id", "source", "event_id"),  # ids count within their source and session
)

proposals = Table(
    "proposals",
    metadata,
    Column("proposal_id", String, primary_key=True),
    Column("session_id", String, ForeignKey("sessions.session_id"), nullable=False),
    Column("at_version", Integer, nullable=False),
    Column("process_cluster", String, nullable=False),
    Column("pair", String, nullable=False),
    Column("stage", String, nullable=False),
    Column("decision", String, nullable=False),
    Column("tool", String, nullable=False),
    Column("critical", Boolean, nullable=False),
    Column("executed", Boolean, nullable=False, default=False),
    Column("body", LargeBinary, nullable=False),  # record.ProposalRecord as JSON; `executed` counts, not the body's
    UniqueConstraint("session_id", "at_version"),  # one proposal for each state
)

decisions = Table(
    "decisions",
    metadata,
    Column("number", ROW_NUMBER, primary_key=True, autoincrement=True),
    Column("session_id", String, nullable=False),
    Column("proposal_id", String, nullable=False, index=True),
    Column("process_cluster", String, nullable=False),
    Column("pair", String, nullable=False),
    Column("stage", String, nullable=False),
    Column("decision", String, nullable=False),
    Column("reason", String, nullable=False),
    Column("at", String, nullable=False),
    Column("facts", LargeBinary, nullable=False),  # core's DecisionRecord as JSON
    Column("former", String, nullable=False),
    Column("digest", String, nullable=False),
    UniqueConstraint("former"),  # a chain has no forks
)

intents = Table(
    "intents",
    metadata,
    Column("proposal_id", String, ForeignKey("proposals.proposal_id"), primary_key=True),  # at most one execution
    Column("session_id", String, ForeignKey("sessions.session_id"), nullable=False, index=True),
    Column("idempotency_key", String, nullable=False),
    Column("state_version", Integer, nullable=False),
    Column("authorised_by", String, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("at", String, nullable=False),
    UniqueConstraint("idempotency_key"),
)

outcomes = Table(
    "outcomes",
    metadata,
    Column("proposal_id", String, ForeignKey("intents.proposal_id"), primary_key=True),
    Column("outcome", String, nullable=False),
    Column("error", Text, nullable=False, default=""),
    Column("at", String, nullable=False),
)

labels = Table(
    "labels",
    metadata,
    Column("number", ROW_NUMBER, primary_key=True, autoincrement=True),  # label order
    Column("session_id", String, ForeignKey("sessions.session_id"), nullable=False, index=True),
    Column("proposal_id", String, ForeignKey("proposals.proposal_id"), nullable=False),
    Column("process_cluster", String, nullable=False),
    Column("pair", String, nullable=False),
    Column("stage", String, nullable=False),  # in which the proposal was made
    Column("stratum", String, nullable=False),
    Column("tool", String, nullable=False),
    Column("verdict", String, nullable=False),  # "" for an audited proposal that nobody answered
    Column("accepted", Boolean, nullable=False),
    Column("reviewed", Boolean, nullable=False),
    Column("body", LargeBinary, nullable=False),  # record.Label as JSON
    UniqueConstraint("proposal_id", "reviewed"),
)
Index("ix_labels_process_cluster_pair_number", labels.c.process_cluster, labels.c.pair, labels.c.number)

corrections = Table(
    "corrections",
    metadata,
    Column("proposal_id", String, ForeignKey("proposals.proposal_id"), primary_key=True),  # each counted once
    Column("process_cluster", String, nullable=False),
    Column("pair", String, nullable=False),
    Column("at", String, nullable=False),
)

reviews = Table(
    "reviews",
    metadata,
    Column("session_id", String, ForeignKey("sessions.session_id"), primary_key=True),
    Column("sequence", Integer, primary_key=True),
    Column("process_cluster", String, nullable=False),
    Column("pair", String, nullable=False),
    Column("approved", Boolean, nullable=False),
)

resolutions = Table(
    "resolutions",
    metadata,
    Column("session_id", String, ForeignKey("sessions.session_id"), primary_key=True),  # the first word counts
    Column("process_cluster", String, nullable=False),
    Column("pair", String, nullable=False),
    Column("unasked", Boolean, nullable=False),  # resolution.Resolution
    Column("right", Boolean, nullable=False),
)

answers = Table(
    "answers",
    metadata,
    Column("number", ROW_NUMBER, primary_key=True, autoincrement=True),  # in the order they were given
    Column("proposal_id", String, ForeignKey("proposals.proposal_id"), nullable=False, index=True),
    Column("session_id", String, ForeignKey("sessions.session_id"), nullable=False),
    Column("operator", String, nullable=False),
    Column("at", String, nullable=False),
    Column("undone", Boolean, nullable=False),  # taken back before any adapter had it
    Column("body", LargeBinary, nullable=False),  # wire.Answer as JSON; `number` counts, not the body's
)

reads = Table(
    "reads",
    metadata,
    Column("number", ROW_NUMBER, primary_key=True, autoincrement=True),
    Column("at", String, nullable=False),
    Column("who", String, nullable=False, index=True),
    Column("kind", String, nullable=False),
    Column("what", String, nullable=False, index=True),
)

suspensions = Table(
    "suspensions",
    metadata,
    Column("process_cluster", String, primary_key=True),  # "*": all
    Column("suspended", Boolean, nullable=False),
    Column("who", String, nullable=False),
    Column("why", Text, nullable=False),
    Column("at", String, nullable=False),
)

epochs = Table(
    "epochs",
    metadata,
    Column("domain", String, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("seen_at", Float, nullable=False),  # Unix seconds
)

FIRST_SLOT = 2
"""Slot 1 is an earlier release's, which reads that one alone: it can be gone back to."""
snapshots = Table(
    "snapshots",
    metadata,
    Column("slot", Integer, primary_key=True),  # the number of the part + FIRST_SLOT
    Column("body", LargeBinary, nullable=False),  # snapshot.Part as JSON
)

holders = Table(
    "holders",
    metadata,
    Column("slot", Integer, primary_key=True),  # 1: there is one
    Column("address", String, nullable=False),
    Column("generation", BigInteger, nullable=False),  # one more each time that the records are taken
)
