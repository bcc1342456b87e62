"""A whole adapter between a BPM and Pilotage's gateway, on Python's standard library alone. docs/integrate.md reads it.

Events are numbered and kept until they are taken, an order passes the fence before it runs, its outcome is told.
"""

import hashlib
import json
import time
import urllib.error
import urllib.request
import uuid
from datetime import UTC, datetime


class Adapter:
    """One session. `bpm` has screen() → html, do(action) and says ValueError where it cannot."""

    def __init__(self, gateway: str, session_id: str, bpm, operator: str, token: str = "") -> None:
        self.url, self.session_id, self.bpm, self.operator = gateway.rstrip("/"), session_id, bpm, operator
        self.headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
        self.events, self.sequence, self.nonce, self.nonce_made = [], 0, "", 0.0
        self.used, self.highest_epoch, self.shown, self.after = set(), 0, "", 0  # keep these in your database

    def add(self, kind: str, **data) -> None:
        """Something happened."""
        at, data = datetime.now(UTC).astimezone().isoformat(), {"type": kind, **data}
        self.events.append({"id": str(uuid.uuid4()), "sequence": self.sequence, "at": at, "data": data})
        self.sequence += 1

    def show(self) -> None:
        """The screen, if it has changed."""
        if (html := self.bpm.screen()) != self.shown:
            self.shown = html
            self.add("screen_shown", html=html)

    def work(self) -> dict | None:
        """Hand over what happened and do what comes back, until nothing does. Gives the last turn."""
        turn = None
        while self.events:
            if (turn := self.post()) and turn.get("order"):
                self.obey(turn["order"])
        return turn

    def post(self) -> dict | None:
        """One post. What is not taken stays, and is sent again as it was, under a new nonce."""
        self.nonce, self.nonce_made = str(uuid.uuid4()), time.monotonic()
        body = {"events": self.events, "nonce": self.nonce}
        status, answer = self.ask("POST", f"/v1/sessions/{self.session_id}/events", body)
        if status == 409 and "sequence" in answer.get("remedy", ""):  # an answer was lost: known events go
            known = int(answer["remedy"].rpartition(" ")[2])
            self.events = [event for event in self.events if event["sequence"] >= known]
        elif 400 <= status < 500 and status != 429:
            raise ValueError(f"the gateway refuses it: {answer}")
        elif status == 200:
            self.events = []
            return answer
        else:
            time.sleep(0.2)
        return None

    def obey(self, order: dict) -> None:
        """Do an order, if the fence lets it through, and say what became of it."""
        error = self.find_fault(order)
        outcome = "refused" if error else "done"
        if not error:
            self.used.add(order["idempotency_key"])  # before it runs: at most once, whatever happens
            try:
                self.bpm.do(order["action"])
            except ValueError as fault:
                outcome, error = "failed", str(fault)
        told = {name: order[name] for name in ("proposal_id", "idempotency_key")}
        self.add("outcome_reported", **told, outcome=outcome, error=error)
        self.show()

    def find_fault(self, order: dict) -> str:
        """The fence: why this order may not run now; empty where it may."""
        by_permit, epoch = order["authorised_by"] == "permit", order["epoch"]
        told = {name: value for name in ("tool", "control_id", "value", "text") if (value := order["action"].get(name))}
        digest = hashlib.blake2b(json.dumps(told, separators=(",", ":"), ensure_ascii=False).encode(), digest_size=8)
        faults = {
            "wrong-nonce": order["nonce"] != self.nonce,
            "another-action": digest.hexdigest() != order["digest"],
            "stale-state": order["state_version"] != self.sequence,
            "key-used": order["idempotency_key"] in self.used,
            "old-epoch": by_permit and epoch < self.highest_epoch,
            "too-late": (time.monotonic() - self.nonce_made) * 1000 >= order["remaining_ms"],
        }
        self.highest_epoch = max(self.highest_epoch, epoch) if by_permit else self.highest_epoch
        return next((name for name, holds in faults.items() if holds), "")

    def ask(self, method: str, path: str, body: dict | None = None) -> tuple[int, dict]:
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.url + path, data, self.headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as reply:
                return reply.status, json.load(reply)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)
        except OSError:
            return 503, {}
