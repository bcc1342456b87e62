"""Alembic migrations of the records' schema, run by the gateway when it starts (store.py)."""
