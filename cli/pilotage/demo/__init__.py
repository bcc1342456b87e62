"""The driver of the main job.

command (its options), driver (the loop), world (the interface of two worlds: local and kubernetes), processes (starting
and ending by process id), timeline (what one sees), faults and killer (what is killed), collect.
"""
