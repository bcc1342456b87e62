"""The driver of the main job. driver.py (the loop), local.py and kubernetes.py (two worlds, one interface, world.py),

processes.py (starting and ending by process id), timeline.py (what one sees), faults.py (what is killed), collect.py.
"""
