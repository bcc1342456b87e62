"""Which model servers and which revisions of a process cluster should exist, now that its pairs are known."""

from pilotage_operator.api.status import PairStatus, ProcessClusterStatus, Retiring, read_time, write_time
from pilotage_operator.decide.pipeline import Making
from pilotage_operator.facts import Bundle, JobPhase, WantedEndpoint

RETIREMENT_SECONDS = 30.0
"""How long an endpoint outlives its pair: longer than a permit, so that no gateway asks one that is gone."""


def _endpoints_of(pair: PairStatus | None) -> list[WantedEndpoint]:
    if pair is None:
        return []
    wanted = [WantedEndpoint(pair.policy_endpoint, JobPhase.POLICY, pair.revision)]
    if pair.critic_endpoint:
        wanted.append(WantedEndpoint(pair.critic_endpoint, JobPhase.CRITIC, pair.revision))
    return wanted


def wanted_endpoints(making: Making) -> tuple[WantedEndpoint, ...]:
    """The servers of the current pair and of the one in the making."""
    wanted = {endpoint.name: endpoint for endpoint in _endpoints_of(making.pair) + _endpoints_of(making.candidate)}
    return tuple(wanted.values())


def retiring_endpoints(before: ProcessClusterStatus, making: Making, now: float) -> tuple[Retiring, ...]:
    """Servers nothing refers to any more, each with the time until which it stays."""
    wanted = {endpoint.name for endpoint in wanted_endpoints(making)}
    were = {endpoint.name for endpoint in _endpoints_of(before.pair) + _endpoints_of(before.candidate)}
    kept = [item for item in before.retiring if now < read_time(item.until) and item.endpoint not in wanted]
    known = {item.endpoint for item in before.retiring}
    new = [
        Retiring(endpoint=name, until=write_time(now + RETIREMENT_SECONDS)) for name in sorted(were - wanted - known)
    ]
    return tuple(kept + new)[-16:]


def kept_revisions(bundle: Bundle, making: Making) -> frozenset[str]:
    """The revisions whose Jobs are kept: the newest, up to the history limit, and the current one."""
    newest = int(making.pipeline.revision[1:])
    limit = bundle.policy_critic.revision_history_limit
    recent = {f"r{number}" for number in range(max(1, newest - limit), newest + 1)}
    return frozenset(recent | ({making.pair.revision} if making.pair else set()))
