"""The command line: status and explanations, the demo, the report.

What each module holds, in the order a user meets it:
main.py      the commands; offline.py: those about files alone
status.py    process clusters as a table
explain.py   one process cluster, or one decision of the gate, in plain words
client.py    a gateway for programs: Client and AsyncClient, which are all of `import pilotage`
place.py     where a command looks: Kubernetes, a local run, records; services.py asks gateway and controller
demo/        the driver of the main job: processes or Kubernetes, timeline, faults, collecting the records
stop.py      every replica of the gateway stopped; diff.py: what manifests would do
screen.py    how a page is read; screen_checks.py: what schemas miss, what a release changed
run.py       the folder of one run: what is stored in it and how it is read
replay.py    what another τ would have done, from the records
report/      figures from the records, and the page; its markup is in templates/
anonymise.py, experiment/   texts masked; arms compared
forecast/    what a history promises, what it takes, and the page
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pilotage.client import AsyncClient, Client

__all__ = ["AsyncClient", "Client"]


def __getattr__(name: str) -> Any:
    """Client and AsyncClient, once they are asked for: a quarter of a second that commands have no use for."""
    if name in __all__:
        from pilotage import client

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
