"""Where the making of a pair stands: phases, how they fare, and what the next Job is told. A part of the status."""

from enum import StrEnum

from pilotage_operator.api.fields import StatusModel


class Phase(StrEnum):
    """What the pipeline of a process cluster is at. The order is that of a climb; a rollback leads to FRESH."""

    DEMONSTRATIONS = "Demonstrations"  # waiting for operators' work
    POLICY = "Policy"  # Job
    POLICY_ENDPOINT = "PolicyEndpoint"
    FEEDBACK = "Feedback"  # waiting for verdicts on proposals
    CRITIC = "Critic"  # Job
    CRITIC_ENDPOINT = "CriticEndpoint"
    CALIBRATE = "Calibrate"  # Job
    CERTIFIED = "Certified"  # nothing to do
    FRESH = "Fresh"  # rolled back, or nothing was certified: waiting for new sessions


class PhaseState(StrEnum):
    """How the phase fares."""

    WAITING = "Waiting"
    RUNNING = "Running"
    REFUSED = "Refused"  # its Job is asked for, and not let in: a quota, an admission policy
    FAILED = "Failed"  # retried after `retryAt`
    STALLED = "Stalled"  # not retried until a manifest or the image changes
    DONE = "Done"


class Pipeline(StatusModel):
    """Where the making of the next pair stands."""

    revision: str
    """The one in the making."""
    phase: Phase
    """What it is at."""
    state: PhaseState
    """How that fares."""
    since: str
    """Since when."""
    attempt: int = 1
    """Counts tries with one revision: Jobs that failed, and outcomes that were not good enough."""
    calibrations: int = 0
    """Attempts to certify that came to a result, over all revisions: the next one tests at its share of delta."""
    job: str = ""
    """The Job of this phase, if it is one."""
    window_since: str = ""
    """The Job's sessions closed from then on."""
    window_until: str = ""
    """They closed before."""
    held_out_after: str = ""
    """Sessions closed after it are held out for calibration."""
    fresh_after: str = ""
    """The time of the rollback that it recovers from."""
    failures: int = 0
    """Tries in a row that failed."""
    retry_at: str = ""
    """The next try."""
    stalled_at: str = ""
    """Digest of the manifests that it stalled with."""
    reason: str = ""
    """What the phase waits for, or failed with."""
    last_outcome: str = ""
    """Why the last attempt was not good enough."""
