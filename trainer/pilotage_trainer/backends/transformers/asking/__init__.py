"""A trained model answers: inference over a shared trunk, grammar, the artefact it is exported to and loaded from."""
