"""Ablations: what one choice in training is worth, all else equal. Arms, what they share, runs, report."""
