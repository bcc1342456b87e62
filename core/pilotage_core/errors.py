"""The error tree. Every error a user can cause says what was wrong, where, and what to do.

PilotageError
├── InvalidInputError        something a person or another program sent is wrong; nothing was stored or executed
│   ├── InvalidEventError    an event does not decode, is out of order, or is about something unknown
│   ├── InvalidScreenError   a screen is too large, too deep, or does not fit its schema
│   └── InvalidActionError   an action names a control or value the screen does not have
├── ConflictError            right in itself, but the state has moved on (stale version, repeated key)
├── PermitError              a permit is forged, replayed, expired, or older than one already seen
├── EvidenceError            data or artefacts do not carry what is asked of them (too few, one class, bad digest)
└── UnavailableError         a part Pilotage depends on does not answer; try again later
"""


class PilotageError(Exception):
    """What went wrong (`what`), where (`where`: a field, file or object), and what to do about it (`remedy`)."""

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        self.what = what
        self.where = where
        self.remedy = remedy
        super().__init__(what)

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        advice = f" ({self.remedy})" if self.remedy else ""
        return f"{place}{self.what}{advice}"


class InvalidInputError(PilotageError):
    """Something a person or another program sent is wrong; nothing was stored or executed."""


class InvalidEventError(InvalidInputError):
    """An event does not decode, is out of order, or speaks of something unknown."""


class InvalidScreenError(InvalidInputError):
    """A screen is too large, too deep, or does not fit its schema."""


class InvalidActionError(InvalidInputError):
    """An action names a control or a value that the screen does not have."""


class ConflictError(PilotageError):
    """Right in itself, but the state has moved on: a stale version, a repeated key."""


class PermitError(PilotageError):
    """A permit is forged, replayed, expired, or older than one already seen."""


class EvidenceError(PilotageError):
    """Data or artefacts do not carry what is asked of them."""


class UnavailableError(PilotageError):
    """A part that Pilotage depends on does not answer; try again later."""
