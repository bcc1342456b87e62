"""Identities that a certificate rests on and the controller knows: a process cluster's action rules and its screens.

Given to training Jobs in their configuration, so that the evidence carries them; compared on every sweep.
"""

import hashlib

import msgspec

from pilotage_core.screen import ScreenSchema
from pilotage_operator.api.process_cluster import ProcessClusterSpec
from pilotage_operator.api.rules import build_action_rules


def digest_actions(spec: ProcessClusterSpec) -> str:
    """Identity of what is critical, finalizing, in which stratum, stopped and legal: 16 hex digits."""
    return _digest(msgspec.json.encode(build_action_rules(spec)))


def digest_screens(screens: tuple[ScreenSchema, ...]) -> str:
    """Identity of the screen schemas: 16 hex digits."""
    return _digest(msgspec.json.encode(screens))


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()
