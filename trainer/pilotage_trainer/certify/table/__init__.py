"""`pilotage-train calibrate --feedback FILE`: a τ for each gate of a table of labels, whoever made the labels.

In the order data meets it: targets, file (which kind it is, shapes that are none), labels (rows read and checked;
times, ids), gates (rows dealt by gate), calibration, monitoring (labels newer than the τ), report.
"""
