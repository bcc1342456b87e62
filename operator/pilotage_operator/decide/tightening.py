"""Which τ are in force: those of standing certificates (evidence.py), a step stricter where labels since call for it.

Not here: following labels (observe/labels.py), what R calls for (core/monitoring.py).
"""

from pilotage_core.certificate import Certificate, tighten
from pilotage_operator.api.certificates import encode_certificates
from pilotage_operator.api.status import ProcessClusterStatus
from pilotage_operator.decide.evidence import standing_certificates
from pilotage_operator.decide.pipeline import Making
from pilotage_operator.facts import Bundle, MonitorFact


def find_tightened(before: ProcessClusterStatus, making: Making, monitor: MonitorFact | None) -> tuple[str, ...]:
    """The strata whose τ is tightened: those that were, and those that R calls for now.

    It lasts as long as these certificates count from this moment on: other certificates, or Calibration begun anew, are
    watched by other monitors. Kept in the status, so that neither a restart nor a silent gateway loosens a τ.
    """
    other = encode_certificates(making.certificates) != before.certificates
    if other or making.baseline.label_cursor != before.baseline.label_cursor:
        return ()
    called = () if monitor is None else monitor.tightened
    return tuple(sorted({*before.tightened, *called}))


def certificates_in_force(bundle: Bundle, making: Making, tightened: tuple[str, ...]) -> tuple[Certificate, ...]:
    """Standing certificates at the τ in force; none for a stratum that is to be tightened and has no stricter τ."""
    standing = standing_certificates(bundle, making.pair, making.certificates)
    found = (tighten(each) if each.stratum in tightened else each for each in standing)
    return tuple(each for each in found if each is not None)
