"""kopf's part: what people write is taken into the stores (events.py); start, sweep and end of the process (run.py)."""
