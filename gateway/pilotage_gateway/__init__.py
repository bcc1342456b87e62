"""The gateway: sessions come in as events, proposals go through the gate, and nothing runs that is not stored first.

In the order a post meets them: main (command line), app (parts), routes (HTTP), credentials (whose), problems (errors),
intake (bytes to events), turns (one post from start to end), sessions (memory), checks (may these events follow?),
posts (what they mean), models (policy and critic), asking (them, and the gate's facts), rulings (its verdict, stored),
orders, permits (leave to run unattended), store (durable writes), writes and queries over tables (prepared compiles
them), export, metrics.
"""
