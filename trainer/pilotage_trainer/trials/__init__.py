"""A pair tried in closed loop: sessions with a customer who answers, and an outcome that is known.

source     trials that a package brings
worker     who works a session: the pair as far as it may, an operator beside it
record     the same as a record, for a critic to learn from
thresholds τ for whole sessions, and their certificate
report     what it came to
"""
