"""How often a steady run is called a drift, and how often one that slows down: simulated requests, no model.

.venv/bin/python -m tests.benchmarks.drift_rates [RUNS]
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import numpy as np

from tests.measurement_helpers import completion
from workshop_lib.records import Completion
from workshop_lib.summary import drift

SHAPES = ((12, 2), (8, 3), (1, 24), (12, 3), (10, 10))
NOISES: dict[str, tuple[float, float, float]] = {
    "2 %": (0.02, 0.0, 0.0),
    "5 %": (0.05, 0.0, 0.0),
    "5 %, 1 in 25 an outlier": (0.05, 0.0, 0.04),
    "5 %, autocorrelated 0.5": (0.05, 0.5, 0.0),
    "30 %": (0.3, 0.0, 0.0),
}
"""Standard deviation, correlation of neighbours, and share of requests that take 1.3 to 4 times as long."""
SLOWER = (1.0, 1.2, 1.3, 1.5)
START = datetime(2026, 1, 1, tzinfo=UTC)


def simulated(
    generator: np.random.Generator, prompts: int, rounds: int, noise: str, times: float = 1.0
) -> list[Completion]:
    """One model's requests of a run at whose end everything takes `times` as long; prompts differ in length."""
    spread, correlation, outliers = NOISES[noise]
    order = np.concatenate([generator.permutation(prompts) for _ in range(rounds)])
    usual = np.exp(generator.normal(0, 0.7, prompts))[order]
    ends = np.cumsum(usual * generator.uniform(1, 3, len(order)))  # other models are asked in between
    started = ends - ends[0]
    deviations = generator.normal(0, spread, len(order))
    for place in range(1, len(order)):
        fresh = deviations[place] * np.sqrt(1 - correlation**2)
        deviations[place] = correlation * deviations[place - 1] + fresh
    far = np.where(generator.random(len(order)) < outliers, generator.uniform(1.3, 4.0, len(order)), 1.0)
    latencies = usual * times ** (started / started[-1]) * np.exp(deviations) * far
    return list(_completions(order, started, latencies))


def _completions(order: np.ndarray, started: np.ndarray, latencies: np.ndarray) -> Iterator[Completion]:
    for prompt, at_s, latency_s in zip(order, started, latencies, strict=True):
        stamp = (START + timedelta(seconds=float(at_s))).isoformat()
        yield completion([float(latency_s)], prompt_id=str(prompt), started_at=stamp)


def main(runs: int) -> None:
    print(f"Share flagged of {runs} runs that slow down by the factor:")
    print("prompts x rounds, noise".ljust(40), *(f"{times:>9g}" for times in SLOWER))
    for prompts, rounds in SHAPES:
        for noise in NOISES:
            generator = np.random.default_rng(20)
            found = []
            for times in SLOWER:
                some = runs if times == 1 else -(-runs // 10)
                count = sum(drift(simulated(generator, prompts, rounds, noise, times)).is_clear for _ in range(some))
                found.append(f"{100 * count / some:8.2f}%")
            print(f"{prompts} x {rounds}, {noise}".ljust(40), *found, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
