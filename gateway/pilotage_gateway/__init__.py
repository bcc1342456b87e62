"""(index to come)."""
