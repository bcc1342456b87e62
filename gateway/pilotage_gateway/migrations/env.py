"""Alembic's entry: migrates over the connection that store.py hands in. There is no alembic.ini."""

from alembic import context

from pilotage_gateway.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
