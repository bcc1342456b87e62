"""One loop for all that is trained (sft.py), and what it is made of: model, attention, batches, optimizer."""
