"""The critic Job: labelled proposals, training on one token, what becomes the score."""
