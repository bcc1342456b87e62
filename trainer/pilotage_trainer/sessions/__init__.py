"""Recorded sessions: where they are read from, which count, what operators said in them.

sources, parquet  exports: NDJSON, Parquet, a gateway, formats that packages bring
export            the sessions of a window
steps, labels     what an action is called; what operators accept: live verdicts and replay
"""
