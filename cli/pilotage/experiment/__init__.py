"""Experiments: how many customers one needs, and what it showed."""
