"""A simulated BPM: screens, customers and operators made from recorded STAR dialogues, played against a gateway.

In the order data meets them: star (reading; download where there is no copy), dialogue and forms (a script), change (a
process that changes), screens (HTML), case (the work on one case), judge (what is right), bpm (a session), outbox and
client (to the gateway), plan, pacer and play (many sessions), ledger (the BPM's own record), records, recording and
written (scripts without a gateway, as an export), benchmark (STAR's measure), main (the command), public (for other
packages).
"""
