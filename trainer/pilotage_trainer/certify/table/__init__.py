"""`pilotage-train calibrate --feedback FILE`: a τ for each gate of a table of labels, whoever made the labels.

In the order data meets it: command, targets, table (rows read and checked), ids, gates (rows dealt by gate),
calibration, monitoring (labels newer than the τ), report.
"""
