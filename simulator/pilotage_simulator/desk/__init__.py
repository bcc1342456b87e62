"""The desk: a service desk whose sessions can be whole, made from Schema-Guided Dialogues and judged by outcome.

In the order data meets them: sgd (reading), services (what lies behind the desk: calls, results, books), desk (the BPM:
procedures, forms, rows, replies), screens (HTML), customer (a program with the dialogue's own goal and words), clerk (a
simulated operator), effort (its seconds), outcome (right or wrong, whatever the path), play (the closed loop),
recording (what it leaves).
"""
