"""Decisions: facts in, a decision with its reason out. No clock, network, file or global is read here.

In the order data meets them: facts.py (what was observed), guardrails.py (verdicts), pipeline.py (what to train and
serve next), stages.py (the stage, by core/stage.py), lifecycle.py (all of it, for one process cluster).
"""
