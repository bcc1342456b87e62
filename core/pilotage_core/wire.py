"""Messages between processes: adapter ↔ gateway, gateway ↔ controller, Job → controller. Types once, for all of them.

Models behind vLLM's interface speak its own JSON (see trainer/pilotage_trainer/backends/vllm.py), not these.
"""

import base64
import zlib

import msgspec

from pilotage_core.actions import Action, ActionRules
from pilotage_core.certificate import Certificate
from pilotage_core.dialog import DEFAULT_FORMAT, DialogFormat
from pilotage_core.events import Event
from pilotage_core.record import Label
from pilotage_core.score import CRITIC_ALONE, ScoreRule
from pilotage_core.screen import ScreenSchema
from pilotage_core.stage import Stage


# --- adapter ↔ gateway ---
class PostEvents(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`POST /v1/sessions/{session_id}/events`: what happened since the last post, in order.

    `nonce` is the adapter's own, fresh for every post: an order answers it, and the adapter times from when it made it.
    Without one nothing is ordered. `wants_decision` false only stores (a session that is being caught up).
    """

    events: tuple[Event, ...]
    nonce: str = ""
    wants_decision: bool = True


GATEWAY_SECRET = "gateway.secret"
"""The file beside a local controller's keys that holds a gateway's credential."""
CONTROLLER_AUDIENCE, GATEWAY_AUDIENCE = "pilotage-controller", "pilotage-gateway"
EXPORT_AUDIENCE = "pilotage-export"
"""Whom a service account's token is meant for, and at a gateway what for: to post sessions, or to read records."""
TOKEN_FILE_VARIABLE = "PILOTAGE_TOKEN_FILE"
"""The environment variable that names a file with the token that a program shows to a gateway."""
CREDENTIAL_HEADER = "X-Pilotage-Credential"
"""Whoever stops process clusters: a header of its own, as an API server in between keeps Authorization for itself."""
BY_PERMIT = "permit"
"""`authorised_by` of what a gateway orders unasked; an operator's name else."""


class Order(msgspec.Struct, frozen=True):
    """Leave to execute one action once: the adapter checks all of it again (the BPM's fence).

    `remaining_ms` counts from the moment the adapter made `nonce`. `authorised_by` is "permit" (unattended) or the
    operator who accepted. `epoch` is the permit's; 0 for an operator's accept, which needs no permit. `digest` is
    `action.digest`: the bytes that were scored and recorded are the bytes that run.
    """

    proposal_id: str
    action: Action
    idempotency_key: str
    nonce: str
    state_version: int
    remaining_ms: int
    epoch: int
    authorised_by: str
    digest: str = ""


class ProposalCard(msgspec.Struct, frozen=True, omit_defaults=True):
    """A proposal as an operator sees it: without score or reason, which would give audits away."""

    proposal_id: str
    action: Action


class Turn(msgspec.Struct, frozen=True, omit_defaults=True):
    """The gateway's answer to a post. `decision` and `reason` are gate.Decision and gate.Reason values; the reason of
    a proposal is "proposed", whatever it is (`GET /v1/decisions/{proposal_id}` tells once the verdict is in).

    `sequence` is the next one expected. `executed` lists proposals run unattended in this session that a finalization
    review has to judge.
    """

    session_id: str
    process_cluster: str
    sequence: int
    stage: Stage
    decision: str
    reason: str
    detail: str = ""
    proposal: ProposalCard | None = None
    order: Order | None = None
    executed: tuple[str, ...] = ()


# --- controller → gateway ---
class MatchExpression(msgspec.Struct, frozen=True, omit_defaults=True):
    """One condition over session metadata, as in Kubernetes: In, NotIn, Exists, DoesNotExist, and AllIn.

    `AllIn`: the value is a comma-separated list, and every item of it is among `values`.
    """

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def matches(self, metadata: dict[str, str]) -> bool:
        """Whether `metadata` satisfies this condition."""
        value = metadata.get(self.key)
        match self.operator:
            case "In":
                return value in self.values
            case "NotIn":
                return value not in self.values
            case "Exists":
                return value is not None
            case "DoesNotExist":
                return value is None
            case "AllIn":
                return bool(value) and all(item in self.values for item in (value or "").split(","))
        return False


class PairRef(msgspec.Struct, frozen=True, omit_defaults=True):
    """One revision of policy and critic, and where both are served. Empty URLs: not served (yet).

    `dialog` is how both were trained to read a session: a gateway writes its prompts so. `score` is what a critic's
    answer and the policy's confidence make of an action.
    """

    revision: str
    policy_digest: str = ""
    critic_digest: str = ""
    policy_url: str = ""
    critic_url: str = ""
    dialog: DialogFormat = DEFAULT_FORMAT
    score: ScoreRule = CRITIC_ALONE


class Revocation(msgspec.Struct, frozen=True, omit_defaults=True):
    """Leave that was taken back: by which guardrail, when (seconds since the epoch), and why.

    It is published before it is written down. A controller that has died in between left it to its gateways, which
    tell it to the next one.
    """

    guardrail: str
    at: float
    detail: str = ""
    value: float | None = None


class Leave(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one process cluster may do now: an entry of the snapshot.

    `review_share` of the endings are put to an operator for ever, where they are not all (`finalizing_by_human`).
    `whole_sessions`: leave is for sessions that nobody was asked about; once somebody was, all that is critical is.
    `screens_digest` stands for `screens` where they travel apart (snapshot.py).
    `always_calibrating` is the share of sessions that stays in Calibration where others are in Automation.
    `revoked` is why it was taken back, while that holds.
    `longest_ms` after a permit was asked for its leave ends (0: with the permit): a gate's ttl is for its own alone.
    """

    name: str
    namespace: str
    stage: Stage
    selector: tuple[MatchExpression, ...] = ()
    priority: int = 0
    pair: PairRef | None = None
    certificates: dict[str, Certificate] = {}
    rules: ActionRules = ActionRules()
    finalizing_by_human: bool = True
    audit_share: float = 0.1
    suspended: bool = False
    screens: tuple[ScreenSchema, ...] = ()
    screens_digest: str = ""
    longest_ms: int = 0
    review_share: float = 1.0
    whole_sessions: bool = False
    always_calibrating: float = 0.0
    revoked: Revocation | None = None

    @property
    def key(self) -> str:
        """`namespace/name`, the identity used in records and metrics."""
        return f"{self.namespace}/{self.name}"

    def matches(self, metadata: dict[str, str]) -> bool:
        """Whether a session with `metadata` belongs to this process cluster (an empty selector matches all)."""
        return all(expression.matches(metadata) for expression in self.selector)


class PermitRequest(msgspec.Struct, frozen=True):
    """`POST /v1/permits`: a gateway asks.

    `highest_epoch` is the highest it has ever seen, `held` the digests of its snapshot's parts, in order (none: all are
    wanted). `revoked` is what was taken back lately, as it was told, by process cluster.
    """

    gateway: str
    nonce: str
    highest_epoch: int = 0
    held: tuple[str, ...] = ()
    wait_seconds: float = 0.0
    revoked: dict[str, Revocation] = {}


class SignedPermit(msgspec.Struct, frozen=True):
    """`permit` is the canonical JSON of permit.Permit; `signature` is Ed25519 over `permit.signing_input(permit)`."""

    permit: bytes
    signature: bytes
    kid: str


class PermitReply(msgspec.Struct, frozen=True, omit_defaults=True):
    """A permit, and those parts of the snapshot that the gateway has not, by number: a snapshot.Part each, as bytes."""

    signed: SignedPermit
    parts: dict[int, msgspec.Raw] = {}


# --- controller → simulator ---
class Pace(msgspec.Struct, frozen=True):
    """`GET /v1/process-clusters` of the controller, one item: for whoever paces sessions.

    `wants_sessions` is false while a Job or a server is awaited; `pipeline` is the phase of the pair being made.
    """

    name: str
    namespace: str
    stage: Stage
    held_by: str
    pipeline: str
    wants_sessions: bool

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"


# --- Job → controller ---
class JobResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """A training Job's termination message (at most 4 KB): the digests, and the figures that a decision needs.

    `metrics` keys are documented in trainer/pilotage_trainer/main.py. `passed` is the evaluation gate's word with
    `reason` in plain words. `dialog` is the format a policy was trained in, `score` the rule a critic was chosen
    with.
    """

    phase: str
    revision: str
    passed: bool
    reason: str = ""
    digests: dict[str, str] = {}
    metrics: dict[str, float] = {}
    certificates: tuple[Certificate, ...] = ()
    held_out_after: str = ""
    dialog: DialogFormat = DEFAULT_FORMAT
    score: ScoreRule = CRITIC_ALONE


PACKED = b"zlib:"
LONGEST_RESULT = 256 << 10


def pack_result(result: JobResult) -> bytes:
    """`result` compressed: certificates of many strata share most of what they say."""
    return PACKED + base64.b64encode(zlib.compress(msgspec.json.encode(result), 9))


def read_result(message: bytes) -> JobResult:
    """A result as JSON, packed or not. Raises ValueError (msgspec's errors among them) for anything else."""
    if message.startswith(PACKED):
        unpacker = zlib.decompressobj()
        try:
            message = unpacker.decompress(base64.b64decode(message.removeprefix(PACKED)), LONGEST_RESULT)
        except (zlib.error, ValueError) as error:
            raise ValueError(f"is no packed result: {error}") from error
    try:
        result = msgspec.json.decode(message, type=JobResult)
    except RecursionError as error:
        raise ValueError("is nested too deep") from error
    if len(result.certificates) > MOST_CERTIFICATES or len(result.metrics) > MOST_METRICS:
        raise ValueError(f"{len(result.certificates)} certificates, {len(result.metrics)} metrics: too many")
    return msgspec.structs.replace(result, reason=result.reason[:2000])


MOST_CERTIFICATES, MOST_METRICS = 64, 400


# --- gateway → simulator, CLI, controller ---
class ProcessClusterWork(msgspec.Struct, frozen=True):
    """What one gateway makes of one process cluster: `stage` is the one it works in (no permit: at most Copilot)."""

    stage: Stage
    pair: str
    suspended: bool


class GatewayStatus(msgspec.Struct, frozen=True):
    """`GET /v1/status`. `suspended` are the process clusters people have stopped here ("*": all).

    `withheld` is why nothing runs unattended here whatever the controller says (empty: nothing is wrong).
    """

    epoch: int
    permit_remaining_ms: int
    snapshot_digest: str
    live_sessions: int
    suspended: tuple[str, ...]
    process_clusters: dict[str, ProcessClusterWork]
    withheld: str = ""


class Suspend(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`POST /v1/suspend`: stop (or let go on) one process cluster by its key, or all of them with "*"."""

    process_cluster: str
    suspended: bool
    who: str
    why: str


class Suspended(msgspec.Struct, frozen=True):
    """The answer: from `at` on it is so."""

    process_cluster: str
    suspended: bool
    at: str


class LabelPage(msgspec.Struct, frozen=True, omit_defaults=True):
    """`GET /v1/labels`: labels in label order with their `numbers`, the number to ask after next, and the newest there
    is (of the process cluster that was named, if one was).
    """

    next: int
    labels: tuple[Label, ...]
    numbers: tuple[int, ...] = ()
    newest: int = 0
