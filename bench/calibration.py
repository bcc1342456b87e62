"""Is τ what it promises, how much does it leave on the table, how fast do alarms come, and what does it cost?

    python bench/calibration.py [--runs 10000] [--only WORDS] [--output bench/results/calibration.json]

Simulated operators judge actions with log-odds a + b·x + u, x ~ N(0, 1) what the critic sees, u the operator's own
severity: N(0, s²), or where `skewed` s(1 − Exp(1)), a few bad operators among good ones. True precision is that of the
population of operators, by quadrature. A drifting critic's score moves while labels come in, and the truth is that of
the whole window; what comes after is for the alarms. With --only, worlds whose name does not contain one of WORDS
(comma between) keep the figures in the output. One process, one thread.
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from provenance import describe_run
from scipy.special import expit

from pilotage_core.calibration import calibrate
from pilotage_core.certificate import find_attempt_share
from pilotage_core.monitoring import (
    AUDIT_ALL_AT,
    AUDIT_SHARE_BELOW,
    ROLL_BACK_AT,
    SHIRYAEV_ROBERTS_BET,
    TIGHTEN_AT,
)

TARGET, DELTA, LABELS, SESSION_ACTIONS = 0.9, 0.05, 3000, 8
GRID = np.linspace(-7.0, 7.0, 70_001)
DENSITY = np.exp(-(GRID**2) / 2.0)


@dataclass(frozen=True)
class World:
    """What is simulated. `a`, `b` set accept rate and AUROC; `lapse` is the mean share operators reject at random."""

    name: str
    operators: int
    spread: float = 0.0  # s.d. of the operators' log-odds
    sizes: str = "even"  # or "zipf": the i-th operator gives 1 / i as many labels
    a: float = 1.338  # with b = 1.368: accept rate 0.73, AUROC 0.80
    b: float = 1.368
    critic: str = "calibrated"  # or "tied" (20 values), "overconfident" (log-odds × 4 + 3 in bfloat16), "blind",
    # "drifting" (log-odds rise by DRIFT from the first label to the last)
    lapse: float = 0.0
    seldom: float = 0.0  # share of actions that are looked at with propensity `rare`, all others with 1 …
    rare: float = 1.0
    harder: float = 0.0  # … and whose log-odds of acceptance are lower by this
    unnamed: float = 0.0  # share of labels without operator
    labels: int = LABELS
    skewed: bool = False  # `spread` is that of 1 − Exp(1), not of a normal
    days: int = 0  # labels are given on so many days, one after the other (0: not told) …
    day_spread: float = 0.0  # … whose log-odds differ by this s.d.
    attempts: int = 1  # fresh labels are drawn until something is certified, so often at most …
    told: bool = True  # the days are
    shared: bool = True  # … each attempt at its share of δ; else at all of it


DRIFT = 1.0
EASY = {"a": 2.060, "b": 1.017}  # accept rate 0.85, AUROC 0.75
TEMPTING = {"a": 2.571, "b": 1.017}  # with s.d. 0.6 accept rate 0.89, so that certifying everything is just too much
SELDOM = {"a": 3.245, "b": 0.0, "critic": "blind", "seldom": 0.2, "rare": 0.02, "harder": 2.84}  # accept rate 0.89
BLIND = {"a": 2.28, "b": 0.0, "critic": "blind"}
WORLDS = (
    World("no differences, 8 operators", 8),
    World("no differences, 8 uneven operators", 8, sizes="zipf"),
    World("no differences, 20 operators", 20),
    World("no differences, 60 operators", 60),
    World("ties", 20, critic="tied"),
    World("overconfident critic, scores saturate", 20, critic="overconfident"),
    World("blind critic just below target", 20, a=2.15, b=0.0, critic="blind"),
    World("s.d. 0.4, 8 operators", 8, 0.4),
    World("s.d. 0.4, 8 uneven operators", 8, 0.4, "zipf"),
    World("s.d. 0.4, 20 operators", 20, 0.4),
    World("s.d. 0.4, 60 uneven operators", 60, 0.4, "zipf"),
    World("s.d. 0.6, 8 operators", 8, 0.6),
    World("s.d. 0.6, 8 uneven operators", 8, 0.6, "zipf"),
    World("s.d. 0.6, 20 operators", 20, 0.6),
    World("s.d. 0.6, 60 operators", 60, 0.6),
    World("s.d. 0.6, 60 uneven operators", 60, 0.6, "zipf"),
    World("s.d. 0.6, 8 operators, accept rate 0.85", 8, 0.6, **EASY),
    World("s.d. 0.6, 20 operators, accept rate 0.85", 20, 0.6, **EASY),
    World("drifting critic", 20, critic="drifting"),
    World("drifting critic, s.d. 0.5, 12 operators", 12, 0.5, critic="drifting"),
    World("audited: half looked at with 0.2", 20, seldom=0.5, rare=0.2),
    World("audited: a tenth looked at with 0.1, and err more", 20, seldom=0.1, rare=0.1, harder=2.5),
    World("audited: half looked at with 0.1, and err more", 20, seldom=0.5, rare=0.1, harder=1.6),
    World("audited: half looked at with 0.2, s.d. 0.5, 12 operators", 12, 0.5, seldom=0.5, rare=0.2),
    World("a fifth of labels unnamed, s.d. 0.5, 12 operators", 12, 0.5, unnamed=0.2),
    World("400 labels, no differences, 20 operators", 20, labels=400),
    World("300 labels, s.d. 0.6, 8 operators, accept rate 0.89", 8, 0.6, **TEMPTING, labels=300),
    World("400 labels, s.d. 0.6, 20 operators, blind just below target", 20, 0.6, a=2.28, b=0.0, labels=400),
    World("s.d. 0.5, 4 operators", 4, 0.5),
    World("audited: a fifth looked at with 0.02, and err more, 1,000 labels", 20, **SELDOM, labels=1000),
    World("earned by all: 0.96 at every score, 300 labels", 20, a=3.178, b=0.0, critic="blind", labels=300),
    World("earned by all: 0.94 at every score, 800 labels", 20, a=2.752, b=0.0, critic="blind", labels=800),
    World("10 days alike, 20 operators", 20, days=10),
    World("20 days alike, s.d. 0.6, 20 operators", 20, 0.6, days=20),
    World("10 days that differ by 0.3, 20 operators", 20, days=10, day_spread=0.3),
    World("10 days that differ by 0.4, 20 operators", 20, days=10, day_spread=0.4),
    World("20 days that differ by 0.4, s.d. 0.4, 20 operators", 20, 0.4, days=20, day_spread=0.4),
    World("10 days that differ by 0.4, accept rate 0.89, 20 operators", 20, **TEMPTING, days=10, day_spread=0.4),
    World("beyond the promise: days that differ by 0.4 and are not told", 20, days=10, day_spread=0.4, told=False),
    World("beyond the promise: 4 days that differ by 0.3", 20, days=4, day_spread=0.3),
    World("12 attempts, blind just below target", 20, a=2.15, b=0.0, critic="blind", attempts=12),
    World("12 attempts, s.d. 0.6, 20 operators, blind just below target", 20, 0.6, **BLIND, labels=400, attempts=12),
    World(
        "beyond the promise: 12 attempts at all of δ each, blind just below target",
        20,
        a=2.15,
        b=0.0,
        critic="blind",
        attempts=12,
        shared=False,
    ),
    World("beyond the promise: s.d. 0.5, 2 operators", 2, 0.5),
    World("beyond the promise: random rejects 3 %, 8 operators", 8, lapse=0.03),
    World("beyond the promise: random rejects 3 %, 20 operators", 20, lapse=0.03),
    World("beyond the promise: a few bad operators, 8 operators, accept rate 0.89", 8, 0.6, **TEMPTING, skewed=True),
    World("beyond the promise: a few bad operators, 20 operators, accept rate 0.89", 20, 0.6, **TEMPTING, skewed=True),
    World("beyond the promise: a few bad operators, 60 operators, accept rate 0.89", 60, 0.6, **TEMPTING, skewed=True),
)


# --- worlds -----------------------------------------------------------------------------------------------------------
def scores_of(world: World, x: np.ndarray) -> np.ndarray:
    """What the critic says of x: never decreasing in x."""
    match world.critic:
        case "tied":
            return np.round(expit(x) * 20.0) / 20.0
        case "overconfident":
            exact = expit(4.0 * x + 3.0).astype(np.float32)
            return ((exact.view(np.uint32) + 0x8000) & np.uint32(0xFFFF0000)).view(np.float32).astype(np.float64)
    return expit(x)


def true_precision(world: World) -> tuple[np.ndarray, np.ndarray]:
    """Precision and coverage of acting on x ≥ each point of GRID, for the population of operators."""
    nodes, weights = np.polynomial.laguerre.laggauss(41) if world.skewed else np.polynomial.hermite_e.hermegauss(41)
    nodes, weights = 1.0 - nodes if world.skewed else nodes, weights / weights.sum()
    spread = float(np.hypot(world.spread, world.day_spread))
    accept = (1.0 - world.seldom) * expit(world.a + world.b * GRID[:, None] + spread * nodes) @ weights
    if world.seldom:
        accept += world.seldom * expit(world.a - world.harder + world.b * GRID[:, None] + spread * nodes) @ weights
    above = np.cumsum(DENSITY[::-1])[::-1]
    right = np.cumsum((DENSITY * accept)[::-1])[::-1]
    if world.critic == "drifting":  # at each time x ≥ t − shift is acted on
        shifts = DRIFT * (np.arange(50) + 0.5) / 50
        above, right = (np.mean([np.interp(GRID - shift, GRID, y) for shift in shifts], axis=0) for y in (above, right))
    return right / above * (1.0 - world.lapse), above / above[0]


def draw(world: World, rng: np.random.Generator) -> tuple[tuple[np.ndarray, ...], dict[str, np.ndarray]]:
    """Scores, accepted, operators and sessions of one calibration, and what else `calibrate` is told.

    A session belongs to one operator. Of actions seldom looked at fewer become labels.
    """
    x = rng.standard_normal(world.labels)
    shares = 1.0 / np.arange(1, world.operators + 1) if world.sizes == "zipf" else np.ones(world.operators)
    sessions = np.arange(world.labels) // SESSION_ACTIONS
    who = rng.choice(world.operators, sessions[-1] + 1, p=shares / shares.sum())[sessions]
    apart = 1.0 - rng.exponential(size=world.operators) if world.skewed else rng.standard_normal(world.operators)
    attentive = 1.0 - np.minimum(rng.gamma(1.0, world.lapse, world.operators), 1.0) if world.lapse else np.ones(1)
    told, log_odds = {}, world.a + world.b * x + world.spread * apart[who]
    if world.seldom:
        among_labels = world.seldom * world.rare / (world.seldom * world.rare + 1.0 - world.seldom)
        seldom = rng.random(world.labels) < among_labels
        log_odds -= world.harder * seldom
        told["propensities"] = np.where(seldom, world.rare, 1.0)
    if world.days:
        day = np.arange(world.labels) * world.days // world.labels
        log_odds = log_odds + world.day_spread * rng.standard_normal(world.days)[day]
        told |= {"days": day} if world.told else {}
    accepted = rng.random(world.labels) < expit(log_odds) * attentive[who % len(attentive)]
    if world.unnamed:
        told["known"] = rng.random(world.labels) >= world.unnamed
    if world.critic == "drifting":
        x = x + DRIFT * np.arange(world.labels) / world.labels
    return (scores_of(world, x), accepted, who, sessions), told


def measure_promise(
    world: World, runs: int, seed: int, *, plain: bool = False, delta: float = DELTA
) -> dict[str, float]:
    """Share of calibrations whose τ has true precision below target, and mean coverage as a share of the oracle's.

    `plain` is the exact test alone: all labels by one operator, each its own session.
    """
    rng = np.random.default_rng(seed)
    precision, coverage = true_precision(world)
    scores_on_grid = scores_of(world, GRID)
    reachable = np.diff(scores_on_grid, prepend=-1.0) > 0.0  # tied scores cannot be parted
    oracle = float(coverage[reachable & (precision >= TARGET)].max(initial=0.0))
    violations, covered = 0, 0.0
    one, own = np.zeros(world.labels, dtype=np.int64), np.arange(world.labels)
    for _ in range(runs):
        for attempt in range(1, world.attempts + 1):
            (scores, accepted, who, sessions), told = draw(world, rng)
            groups = (one, own) if plain else (who, sessions)
            share = find_attempt_share(attempt) if world.attempts > 1 and world.shared else 1.0
            tau = calibrate(
                scores, accepted, *groups, target=TARGET, delta=delta * share, **({} if plain else told)
            ).tau
            if tau is not None:
                break
        if tau is not None:
            at = min(int(np.searchsorted(scores_on_grid, tau)), len(GRID) - 1)
            violations += precision[at] < TARGET
            covered += coverage[at]
    return {
        "violations": violations / runs,
        "standard_error": round((violations / runs * (1 - violations / runs) / runs) ** 0.5, 5),
        "coverage_of_oracle": round(covered / runs / oracle, 4) if oracle else None,
        "runs": runs,
    }


def measure_ceiling(world: World, runs: int, seed: int) -> dict[str, float]:
    """Coverage of the plain test where its δ is set, knowing the truth, so that violations are exactly δ."""
    measured = [measure_promise(world, runs, seed, plain=True, delta=delta) for delta in (0.04, 0.055, 0.07, 0.09)]
    violations = [m["violations"] for m in measured]
    return {"coverage_of_oracle": float(np.interp(DELTA, violations, [m["coverage_of_oracle"] for m in measured]))}


# --- alarms -----------------------------------------------------------------------------------------------------------
def alarm_delays(rng: np.random.Generator, precision: float, level: float, runs: int, warm_up: int = 0) -> np.ndarray:
    """Labels until R ≥ `level`, from R = 0, or after `warm_up` labels at precision exactly target (without alarm)."""
    r = np.zeros(runs)
    for _ in range(warm_up):
        r = (r + 1.0) * (1.0 + SHIRYAEV_ROBERTS_BET * (TARGET - (rng.random(runs) < TARGET)))
        r[r >= level] = 0.0
    delays, waiting, labels = np.zeros(runs), np.arange(runs), 0
    while len(waiting):
        labels += 1
        r = (r + 1.0) * (1.0 + SHIRYAEV_ROBERTS_BET * (TARGET - (rng.random(len(r)) < precision)))
        alarmed = r >= level
        delays[waiting[alarmed]] = labels
        r, waiting = r[~alarmed], waiting[~alarmed]
    return delays


def measure_alarms(runs: int, seed: int) -> dict[str, dict[str, float]]:
    """Mean run length without change, and median delay after a fall, to tightening and to rolling back."""
    rng = np.random.default_rng(seed)
    found = {}
    for name, level in (("tighten", TIGHTEN_AT), ("roll_back", ROLL_BACK_AT)):
        lengths = alarm_delays(rng, TARGET, level, runs)
        found[name] = {
            "mean_run_length_at_target": round(float(lengths.mean())),
            "standard_error": round(float(lengths.std() / runs**0.5)),
        }
        for precision in (0.70, 0.80, 0.85):
            for start, warm_up in (("from_zero", 0), ("from_steady_state", 500)):
                delay = float(np.median(alarm_delays(rng, precision, level, runs, warm_up)))
                found[name][f"median_delay_to_{precision:.2f}_{start}"] = delay
    return found


def measure_drift(runs: int, seed: int, falls_over: int = 1000) -> dict[str, float]:
    """A critic drifts after certification: precision falls from 0.95 to 0.70 over `falls_over` labels, and stays there.

    Delays count from the label at which precision falls below target.
    """
    rng = np.random.default_rng(seed)
    r, crossed = np.zeros(runs), round(falls_over * (0.95 - TARGET) / (0.95 - 0.70))
    first = {"tighten": np.zeros(runs), "roll_back": np.zeros(runs)}
    label = 0
    while not first["roll_back"].all():
        precision = max(0.95 - 0.25 * label / falls_over, 0.70)
        label += 1
        r = (r + 1.0) * (1.0 + SHIRYAEV_ROBERTS_BET * (TARGET - (rng.random(runs) < precision)))
        for name, level in (("tighten", TIGHTEN_AT), ("roll_back", ROLL_BACK_AT)):
            first[name][(r >= level) & (first[name] == 0)] = label
    return {
        **{f"median_delay_to_{name}": float(np.median(labels)) - crossed for name, labels in first.items()},
        "alarms_before_precision_is_below_target": float(np.mean(first["tighten"] < crossed)),
        "precision_at_median_roll_back": round(max(0.95 - 0.25 * np.median(first["roll_back"]) / falls_over, 0.70), 3),
    }


def measure_audits(runs: int, seed: int, share: float = 0.1) -> dict[str, float]:
    """Executed actions audited with `share`, or with all while R ≥ AUDIT_ALL_AT (until below AUDIT_SHARE_BELOW).

    Wrong actions until the roll-back where precision is 0.70, and the share audited where it is 0.93.
    """
    found = {}
    for adaptive in (False, True):
        rng = np.random.default_rng(seed)
        wrong = _audited(rng, 0.70, runs, share, adaptive, actions=None)[0]
        audited = _audited(rng, 0.93, min(runs, 2000), share, adaptive, actions=2000)[1]
        name = "adaptive" if adaptive else "fixed"
        found[f"median_wrong_actions_until_roll_back_{name}"] = float(np.median(wrong))
        found[f"share_audited_at_0.93_{name}"] = round(float(audited.mean()), 4)
    return found


def _audited(
    rng: np.random.Generator, precision: float, runs: int, share: float, adaptive: bool, actions: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Wrong actions until R rolls back, and the share of actions audited; `actions` of them, or until all are done."""
    r, looks_at_all = np.zeros(runs), np.zeros(runs, dtype=bool)
    wrong, audits, executed = np.zeros(runs), np.zeros(runs), np.zeros(runs)
    going = np.ones(runs, dtype=bool)
    while going.any() and (actions is None or executed.max() < actions):
        right = rng.random(runs) < precision
        audited = going & (looks_at_all | (rng.random(runs) < share))
        executed += going
        wrong += going & ~right
        audits += audited
        r = np.where(audited, (r + 1.0) * (1.0 + SHIRYAEV_ROBERTS_BET * (TARGET - right)), r)
        if adaptive:
            looks_at_all = (r >= AUDIT_ALL_AT) | (looks_at_all & (r >= AUDIT_SHARE_BELOW))
        going &= r < ROLL_BACK_AT
    return wrong, audits / executed


# --- cost -------------------------------------------------------------------------------------------------------------
def measure_cost(gates: int, seed: int) -> dict[str, float]:
    """Wall and CPU seconds for `gates` calibrations of 3,000 labels each, sorting included; drawing them is not."""
    rng = np.random.default_rng(seed)
    drawn = [draw(WORLDS[2], rng)[0] for _ in range(200)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall, cpu = time.perf_counter(), time.process_time()
    for gate in range(gates):
        calibrate(*drawn[gate % len(drawn)], target=TARGET, delta=DELTA)
    return {
        "gates": gates,
        "labels_each": LABELS,
        "wall_seconds": round(time.perf_counter() - wall, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "memory_growth_mb": round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, 1),
    }


# --- report -----------------------------------------------------------------------------------------------------------
def timed(name: str, work: Callable[[], object]) -> object:
    """Run `work`, saying on standard error how long it took."""
    start = time.perf_counter()
    result = work()
    print(f"{time.perf_counter() - start:6.1f} s  {name}: {json.dumps(result)}", file=sys.stderr, flush=True)
    return result


def main() -> None:
    """Measure everything, print it, and write it to the output file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000, help="calibrations per world")
    parser.add_argument("--seed", type=int, default=20250301)
    parser.add_argument("--only", default="", help="worlds by words in their names; the others keep their figures")
    parser.add_argument("--output", type=Path, default=Path("bench/results/calibration.json"))
    options = parser.parse_args()
    runs, seed = options.runs, options.seed
    words = [word for word in options.only.split(",") if word]
    before = json.loads(options.output.read_text()) if words else {}
    report = {
        **describe_run("numpy", "scipy"),
        "setting": {"target": TARGET, "delta": DELTA, "labels": LABELS},
        "cost": timed("cost", lambda: measure_cost(10_000, seed)) if not words else before["cost"],
        "alarms": timed("alarms", lambda: measure_alarms(min(runs, 10_000), seed)) if not words else before["alarms"],
        "drift_after_certification": timed("drift", lambda: measure_drift(runs, seed)),
        "audits": timed("audits", lambda: measure_audits(runs, seed)),
        "ceiling": timed("ceiling", lambda: measure_ceiling(WORLDS[2], runs, seed)) if not words else before["ceiling"],
        "promise": {},
    }
    for world in WORLDS:
        known = before.get("promise", {}).get(world.name)
        if known is not None and not any(word in world.name for word in words):
            report["promise"][world.name] = {"commit": before["commit"], **known}
            continue
        report["promise"][world.name] = {
            "commit": report["commit"],
            **asdict(world),
            **timed(world.name, lambda world=world: measure_promise(world, runs, seed)),
            "plain_test": timed("… plain", lambda world=world: measure_promise(world, runs // 10, seed, plain=True)),
        }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
