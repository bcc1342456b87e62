"""Manifests and messages from values: core types of a manifest, the snapshot, Jobs, model servers, digests."""
