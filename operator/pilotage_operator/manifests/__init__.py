"""Manifests and messages from values: Jobs, model servers, events. Nothing is read or decided here."""
