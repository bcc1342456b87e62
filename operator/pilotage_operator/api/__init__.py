"""The custom resources as pydantic models, in the order a reader meets them; generate.py writes crds/ from them.

Not here: what is done with a resource (decide/), and types shared with gateways and Jobs (core/pilotage_core/wire.py).
"""
