"""The policy Job: rows, training, the candidate that serves. Before it pretraining, after it preference."""
