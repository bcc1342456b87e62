"""How a training Job ends, once for trainer and controller: exit codes, what they mean, and what mends them. Pure."""

from enum import IntEnum, StrEnum


class Remedy(StrEnum):
    """What helps after a Job has ended so."""

    NONE = "none"
    MORE_DATA = "more-data"  # more sessions, not another try
    ANOTHER_TRY = "another-try"
    A_PERSON = "a-person"  # somebody has to change something: the same would come out again
    PREEMPTED = "preempted"  # nobody's failure: it goes on from its checkpoint


class JobExit(IntEnum):
    """Exit codes of `pilotage-train`. Any other code is an ANOTHER_TRY."""

    DONE = 0
    CRASHED = 1
    USAGE = 2
    TOO_LITTLE = 3
    ONE_CLASS = 4
    UNREACHABLE = 5
    DAMAGED = 6
    DISK = 7
    NOT_A_NUMBER = 8
    SPLIT_LABEL = 9
    BASE_MODEL = 10
    WORKER_DIED = 11
    KILLED = 137
    STOPPED = 143


_TABLE: dict[JobExit, tuple[Remedy, int, str]] = {
    JobExit.DONE: (Remedy.NONE, 0, "done"),
    JobExit.CRASHED: (Remedy.ANOTHER_TRY, 3, "it crashed: its log has a trace"),
    JobExit.USAGE: (Remedy.A_PERSON, 0, "its command line or configuration was refused"),
    JobExit.TOO_LITTLE: (Remedy.MORE_DATA, 0, "too little data"),
    JobExit.ONE_CLASS: (Remedy.MORE_DATA, 0, "all data is of one class"),
    JobExit.UNREACHABLE: (Remedy.ANOTHER_TRY, 6, "the export or a model server did not answer"),
    JobExit.DAMAGED: (Remedy.A_PERSON, 0, "an artefact is damaged"),
    JobExit.DISK: (Remedy.ANOTHER_TRY, 6, "the disk is full or cannot be written"),
    JobExit.NOT_A_NUMBER: (Remedy.ANOTHER_TRY, 2, "a loss is not a number"),
    JobExit.SPLIT_LABEL: (Remedy.A_PERSON, 0, "the tokenizer splits accept or reject"),
    JobExit.BASE_MODEL: (Remedy.A_PERSON, 0, "the base model cannot be loaded or does not fit"),
    JobExit.WORKER_DIED: (Remedy.ANOTHER_TRY, 6, "one of its workers died"),
    JobExit.KILLED: (Remedy.ANOTHER_TRY, 2, "it was killed, most likely for memory: see training.memory"),
    JobExit.STOPPED: (Remedy.PREEMPTED, 0, "it was stopped"),
}
_CODES = frozenset(int(exit_code) for exit_code in JobExit)
UNKNOWN_TRIES = 6


def find_remedy(code: int | None) -> Remedy:
    """What helps after exit code `code` (None: unknown)."""
    return _TABLE[JobExit(code)][0] if code in _CODES else Remedy.ANOTHER_TRY


def count_tries(code: int | None) -> int:
    """How often in a row a Job may end with `code` before a person has to look."""
    return _TABLE[JobExit(code)][1] if code in _CODES else UNKNOWN_TRIES


def explain_exit(code: int | None) -> str:
    """`code` in words."""
    return _TABLE[JobExit(code)][2] if code in _CODES else f"exit code {code}"


def list_final() -> list[int]:
    """Codes after which the same pod must not be tried again: another try of it would end the same."""
    ends = (Remedy.MORE_DATA, Remedy.A_PERSON)
    return sorted(int(e) for e in JobExit if find_remedy(e) in ends or e is JobExit.NOT_A_NUMBER)
