"""An adapter that keeps the contract passes; of each kind that breaks it, that very fault is found."""

import asyncio
import importlib
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pilotage.conformance import PROBES, Conductor, describe
from pilotage.conformance_server import hear_adapter

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "examples" / "bpm-adapter"))
example = importlib.import_module("adapter")
Toy = importlib.import_module("toy").Toy


class Quick(example.Adapter):
    """The example; a conformance run takes it a second."""


class Deaf(Quick):
    """Lets everything through but one check of its fence."""

    lets = ""

    def find_fault(self, order):
        fault = super().find_fault(order)
        return "" if fault == self.lets else fault


def lets(name: str) -> type[Quick]:
    return type(f"Lets_{name}", (Deaf,), {"lets": name})


class Forgets(Quick):
    def post(self):
        turn = super().post()
        self.events = self.events if turn is not None else self.events[1:]
        return turn


class OneNonce(Quick):
    def post(self):
        made, example.uuid.uuid4 = example.uuid.uuid4, lambda: "same"
        try:
            return super().post()
        finally:
            example.uuid.uuid4 = made

    def add(self, kind, **data):
        super().add(kind, **data)
        self.events[-1]["id"] = f"e{self.sequence}"


class Liar(Quick):
    """Reports done whatever the BPM says."""

    def obey(self, order):
        fault = self.find_fault(order)
        self.used.add(order["idempotency_key"])
        told = {name: order[name] for name in ("proposal_id", "idempotency_key")}
        self.add("outcome_reported", **told, outcome="refused" if fault else "done", error=fault)
        self.show()


class Hypocrite(Quick):
    """Reports that it refused, and does it all the same."""

    def obey(self, order):
        super().obey(order)
        if order["remaining_ms"] == 0:
            self.bpm.do(order["action"])
            self.show()


class Silent(Quick):
    def obey(self, order):
        if self.find_fault(order):
            self.add("screen_shown", html=self.bpm.screen())
        else:
            super().obey(order)


class NoOffset(Quick):
    def add(self, kind, **data):
        super().add(kind, **data)
        self.events[-1]["at"] = "2026-03-01T10:00:00"


class Rewrites(Quick):
    def post(self):
        turn = super().post()
        if turn is None and self.events:
            self.events[-1]["at"] = "2026-03-01T10:00:00+01:00"
        return turn


async def run(kind: type[Any]) -> Conductor:
    addresses: asyncio.Queue[str] = asyncio.Queue()
    hearing = asyncio.create_task(hear_adapter("127.0.0.1", 0, silence_seconds=1.5, ready=addresses.put_nowait))
    address = await addresses.get()

    def play() -> None:
        adapter = kind(address, "toy-1", Toy(), "ann")
        adapter.add("session_opened", metadata={}, profile={})
        adapter.show()
        until = time.monotonic() + 20
        try:
            while adapter.events and time.monotonic() < until:
                adapter.work()
        except (ValueError, KeyError):
            pass  # the gateway refuses it for good: that is a finding

    await asyncio.to_thread(play)
    return await hearing


async def test_the_example_conforms():
    conductor = await run(Quick)
    assert conductor.findings == []
    assert conductor.passed == [probe.name for probe in PROBES]
    assert list(describe(conductor))[-1] == "conforms"


@pytest.mark.parametrize(
    ("kind", "check"),
    [
        (lets("key-used"), "a key is used once"),
        (lets("wrong-nonce"), "an order answers its nonce"),
        (lets("stale-state"), "a stale state is refused"),
        (lets("too-late"), "leave that is over is refused"),
        (lets("old-epoch"), "an older controller is refused"),
        (lets("another-action"), "other bytes are refused"),
        (Liar, "what is not there is not done"),
        (Liar, "done is done"),
        (Hypocrite, "leave that is over is refused"),
        (Silent, "a key is used once"),
        (Forgets, "nothing is lost"),
        (OneNonce, "a nonce is fresh"),
        (NoOffset, "times have an offset"),
        (Rewrites, "what is sent again is the same"),
    ],
)
async def test_each_kind_of_broken_adapter_is_found(kind, check):
    conductor = await run(kind)
    assert check in {finding.check for finding in conductor.findings}, list(describe(conductor))


async def test_an_adapter_that_never_comes_is_a_finding():
    conductor = await hear_adapter("127.0.0.1", 0, silence_seconds=0.05)
    assert conductor.findings[0].says == "sent nothing"
