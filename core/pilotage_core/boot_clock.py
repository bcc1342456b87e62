"""The clock that permits are counted by, one for both ends. The core itself never reads it: times are arguments."""

import time


def boot_seconds() -> float:
    """Seconds since boot, suspended time included: a machine that slept wakes up with its permits expired."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
