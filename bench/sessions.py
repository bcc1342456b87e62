"""Is a session certificate what it promises?

    python bench/sessions.py [--runs 10000] [--output bench/results/sessions.json]

Simulated sessions have a latent ease; each stratum's least score tells of it, more or less, and so does how the session
ends. What strata need is chosen on some sessions and tested on others, as `pilotage-train evaluate --desk` does. A
certificate that stands is wrong where, of all sessions that run unattended at its τ, fewer than the target end right:
found on 200,000 other sessions of the world. One process, one thread.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from provenance import describe_run
from scipy.special import betaincinv, expit

from pilotage_trainer.trials.thresholds import Table, certify_table

TARGET, DELTA = 0.95, 0.05
POPULATION = 200_000
STRATA = ("booking", "finalizing", "message")


@dataclass(frozen=True)
class World:
    """`right` gives the chance that a session of an ease ends right; `tells` how much scores say of the ease.

    `kinder`: the sessions that choose are easier by so much than those that are tested, as Copilot's are. `digits`:
    scores come rounded. `chosen` and `tested` sessions.
    """

    name: str
    right: Callable[[np.ndarray], np.ndarray]
    tells: float = 1.0
    kinder: float = 0.0
    digits: int | None = None
    chosen: int = 300
    tested: int = 600


def slope(base: float, steep: float) -> Callable[[np.ndarray], np.ndarray]:
    """Log-odds of ending right, `base` at a middling ease, `steep` an ease."""
    return lambda ease: expit(base + steep * ease)


WORLDS = (
    World("scores tell much", slope(3.0, 2.0)),
    World("scores tell little", slope(3.0, 2.0), tells=0.3),
    World("flat just below the target", lambda ease: np.full(len(ease), 0.949), tells=0.0),
    World("flat just below the target, 300 tested", lambda ease: np.full(len(ease), 0.949), tells=0.0, tested=300),
    World("ties: scores of one digit", slope(3.0, 2.0), digits=1),
    World("closed-loop shift: chosen on kinder sessions", slope(3.0, 2.0), kinder=1.0),
    World("few sessions", slope(3.0, 2.0), chosen=60, tested=150),
    World("easy: most end right", slope(4.0, 1.0)),
)


def draw(world: World, rng: np.random.Generator, sessions: int, kinder: float = 0.0) -> Table:
    """So many sessions of `world`."""
    ease = rng.normal(size=sessions) + kinder
    noise = rng.normal(size=(sessions, len(STRATA)))
    scores = expit(1.0 + world.tells * ease[:, None] + 0.5 * noise * np.array([0.5, 0.2, 1.0]))
    if world.digits is not None:
        scores = np.clip(np.round(scores, world.digits), 0.01, 0.99)
    return Table(STRATA, np.log(scores / (1.0 - scores)), rng.random(sessions) < world.right(ease))


def measure(world: World, runs: int, seed: int) -> dict[str, object]:
    """How often a certificate stands, how often it is wrong, and the share of sessions that run by it."""
    rng = np.random.default_rng(seed)
    population = draw(world, rng, POPULATION)
    stands = wrong = 0
    shares = []
    for _ in range(runs):
        choosing, walking = draw(world, rng, world.chosen, world.kinder), draw(world, rng, world.tested)
        offsets, found = certify_table(choosing, walking, TARGET, DELTA)
        if found.stands:
            runs_alone = (population.odds >= offsets + found.strictness).all(axis=1)
            stands += 1
            wrong += bool(runs_alone.any()) and float(population.right[runs_alone].mean()) < TARGET
            shares.append(float(runs_alone.mean()))
    low = float(betaincinv(wrong, runs - wrong + 1, 0.01)) if wrong else 0.0
    return {
        "stands": stands / runs,
        "wrong": wrong / runs,
        "wrong_low_99": low,
        "share_unattended": float(np.mean(shares)) if shares else None,
        "kept": low <= DELTA,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "sessions.json")
    options = parser.parse_args()
    told = describe_run("numpy", "scipy")
    worlds = {}
    for world in WORLDS:
        began = time.monotonic()
        worlds[world.name] = measure(world, options.runs, options.seed)
        figures = ", ".join(f"{name} {value}" for name, value in worlds[world.name].items())
        print(f"{world.name}: {figures} ({time.monotonic() - began:.0f} s)", flush=True)
    settings = {"target": TARGET, "delta": DELTA, "runs": options.runs, "population": POPULATION}
    worlds_as = {world.name: {k: v for k, v in asdict(world).items() if k not in ("name", "right")} for world in WORLDS}
    result = {**told, "setting": settings, "worlds": worlds_as, "promise": worlds}
    options.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
