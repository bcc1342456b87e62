"""What `evaluate` is asked on sessions. Torch- and scikit-free, so that commands import it."""

from pathlib import Path

import msgspec

SAMPLE = 300
"""Points a general model is asked at, unless told."""


class SessionsRequest(msgspec.Struct, frozen=True):
    """What is to be evaluated on which sessions. `zero_shot` is an endpoint, `model` the model asked there."""

    export: str
    policy: Path
    process_cluster: str = ""
    since: str = ""
    until: str = ""
    held_out_after: str = ""
    config: str = ""
    critic: Path | None = None
    likeness: float = 0.8
    zero_shot: str = ""
    model: str = ""
    sample: int = SAMPLE
