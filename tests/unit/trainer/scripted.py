"""A policy for trials that says what it is told to."""

from types import SimpleNamespace

from pilotage_core.actions import Action, Tool
from pilotage_core.dialog import DEFAULT_FORMAT, encode_action

DONE = Action(Tool.CLOSE_CHAT)


class Scripted:
    """A policy that says what it is told to, one after the other, then nothing."""

    def __init__(self, *replies, confidence=0.8):
        self.manifest = SimpleNamespace(dialog=DEFAULT_FORMAT, digest="p")
        self._replies = list(replies)
        self._confidence = confidence

    def propose_many(self, asks):
        reply = self._replies.pop(0) if self._replies else None
        text = (
            '{"tool":""}'
            if reply is None
            else reply
            if isinstance(reply, str)
            else encode_action(reply, DEFAULT_FORMAT)
        )
        return [(text, self._confidence)]
