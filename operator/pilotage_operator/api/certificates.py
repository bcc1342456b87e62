"""Certificates as a status holds them: plain JSON objects."""

import msgspec

from pilotage_core.certificate import Certificate


def encode_certificates(certificates: tuple[Certificate, ...]) -> tuple[dict[str, object], ...]:
    """Certificates as plain JSON objects, for status."""
    return tuple(msgspec.to_builtins(certificate) for certificate in certificates)


def decode_certificates(objects: tuple[dict[str, object], ...]) -> tuple[Certificate, ...]:
    """Certificates from status; raises msgspec.ValidationError for what is none."""
    return tuple(msgspec.convert(item, Certificate) for item in objects)
