"""How a Job can fail, and the exit code the controller knows each failure by (core/job_exit.py).

EvidenceError
├── OneClassError            all examples or labels are of one class
├── DamagedArtefactError     an artefact is missing, half-written, altered, or another one than it should be
├── NotANumberError          a loss was not a number
├── SplitLabelError          a tokenizer splits `accept` or `reject`
└── BaseModelError           a base model cannot be loaded, or does not fit
UnavailableError
└── WorkerDiedError          one of the processes that train together ended before the others
"""

import errno

from pilotage_core.errors import EvidenceError, InvalidInputError, PilotageError, UnavailableError
from pilotage_core.job_exit import JobExit


class OneClassError(EvidenceError):
    """Every example or label is of one class: nothing can be told apart."""


class DamagedArtefactError(EvidenceError):
    """An artefact is missing, half-written, altered, or another one than it should be."""


class NotANumberError(EvidenceError):
    """A loss was not a number: nothing that was learned after it means anything."""


class SplitLabelError(EvidenceError):
    """A tokenizer splits `accept` or `reject`, so no single token can be a critic's verdict."""


class BaseModelError(EvidenceError):
    """A base model cannot be loaded, or does not fit."""


class WorkerDiedError(UnavailableError):
    """One of the processes that train together ended before the others."""


EXIT_CODES: tuple[tuple[type[Exception], JobExit], ...] = (
    (OneClassError, JobExit.ONE_CLASS),
    (DamagedArtefactError, JobExit.DAMAGED),
    (NotANumberError, JobExit.NOT_A_NUMBER),
    (SplitLabelError, JobExit.SPLIT_LABEL),
    (BaseModelError, JobExit.BASE_MODEL),
    (WorkerDiedError, JobExit.WORKER_DIED),
    (EvidenceError, JobExit.TOO_LITTLE),
    (UnavailableError, JobExit.UNREACHABLE),
    (InvalidInputError, JobExit.USAGE),
    (PilotageError, JobExit.USAGE),
    (OSError, JobExit.DISK),
)
"""The first kind that fits decides."""


def find_exit_code(error: PilotageError | OSError) -> int:
    """The exit code the controller knows `error` by."""
    return int(next(code for kind, code in EXIT_CODES if isinstance(error, kind)))


def explain_error(error: PilotageError | OSError) -> str:
    """One line for people."""
    if isinstance(error, OSError):
        full = " (free some space)" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        return f"{error.filename or 'the artefact volume'}: {error.strerror or error}{full}"
    return str(error)
