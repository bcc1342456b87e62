"""The world read into facts.

Counters and guardrail figures (figures.py, prometheus.py, gateway_metrics.py), labels into monitors (labels.py),
manifests, Jobs and model servers (world.py; kubernetes.py, local.py).
"""
