"""Requests that are asked again where whoever answers is gone or overloaded: the one rule for all of the trainer's."""

from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_incrementing

from pilotage_core.errors import UnavailableError

ATTEMPTS = 5
PAUSE_SECONDS = 0.5
"""Longer by as much each time: five seconds in all."""

ask_again = retry(
    retry=retry_if_exception_type(UnavailableError),
    stop=stop_after_attempt(ATTEMPTS),
    wait=wait_incrementing(start=PAUSE_SECONDS, increment=PAUSE_SECONDS),
    reraise=True,
)
"""Decorates a function or coroutine: UnavailableError is another try, and after the last one it is raised."""
