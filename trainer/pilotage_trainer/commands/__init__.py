"""The commands of `pilotage-train`, one a file; what they share is in options.py."""
