"""The world read into facts.

Counters and guardrail figures (figures.py, prometheus.py, gateway_metrics.py), labels into monitors (labels.py),
manifests, Jobs and model servers (manifests.py, watch.py, kubernetes.py). world.py is the interface to an installation,
which apply/ holds.
"""
