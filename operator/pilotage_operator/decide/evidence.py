"""Whether certificates still stand: compared, digest by digest, with what is configured and served now."""

from pilotage_core.certificate import Certificate, EvidenceDigests, changed_digests
from pilotage_operator.api.digests import digest_actions, digest_screens
from pilotage_operator.api.status import PairStatus
from pilotage_operator.facts import Bundle


def standing_certificates(
    bundle: Bundle, pair: PairStatus | None, certificates: tuple[Certificate, ...]
) -> tuple[Certificate, ...]:
    """Certificates that what is served and configured now still matches, of strata the gate lists."""
    listed = {stratum.name for stratum in bundle.gate.strata}
    return tuple(
        certificate
        for certificate in certificates
        if pair is not None
        and certificate.stratum in listed
        and not changed_digests(certificate, current_digests(bundle, pair, certificate))
    )


def find_void(bundle: Bundle, pair: PairStatus | None, certificates: tuple[Certificate, ...]) -> str:
    """Why none of `certificates` stands any more; empty where one does, or where there never was one."""
    if pair is None or not certificates or standing_certificates(bundle, pair, certificates):
        return ""
    changed = {name for c in certificates for name in changed_digests(c, current_digests(bundle, pair, c))}
    return f"certificates void: {', '.join(sorted(changed)) or 'strata'} changed"


def current_digests(bundle: Bundle, pair: PairStatus, certificate: Certificate) -> EvidenceDigests:
    """The digests as they are now. Labels do not change once given: their digest is the certificate's own."""
    return EvidenceDigests(
        data=certificate.digests.data,
        policy=pair.policy_digest,
        critic=pair.critic_digest,
        prompt_format=pair.dialog.form.digest,
        actions=digest_actions(bundle.cluster),
        screens=digest_screens(bundle.screens),
        serving_image=bundle.serving_image,
    )
