"""A process that changes at the desk: from a point on nothing is assumed of a booking, everything is asked.

Pure. Forms lose their presets, and what a form does not need for the BPM it needs by the rules: an operator asks for it
before the customer confirms. All controls are there before and after; only what is right changes, so that a model which
confirms what was preset books less than what was wanted, and can learn it again.
"""

import msgspec

from pilotage_simulator.desk.sgd import DONTCARE, Schema, Service


def change_schema(schema: Schema) -> Schema:
    """`schema` without presets for what is booked."""
    return {name: _without_presets(service) for name, service in schema.items()}


def _without_presets(service: Service) -> Service:
    intents = tuple(
        msgspec.structs.replace(intent, optional_slots=dict.fromkeys(intent.optional_slots, DONTCARE))
        if intent.is_transactional
        else intent
        for intent in service.intents
    )
    return msgspec.structs.replace(service, intents=intents)
