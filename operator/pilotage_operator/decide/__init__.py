"""Decisions: facts in, a decision with its reason out. No clock, network, file or global is read here.

In the order data meets them: facts.py (what was observed), guardrails.py (verdicts), pipeline.py (what to train and
serve next), evidence.py (certificates that stand), stages.py (the stage, by core/stage.py), workloads.py and summary.py
(what follows from it), lifecycle.py (all of it, for one process cluster).
"""
