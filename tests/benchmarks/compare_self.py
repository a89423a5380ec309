"""Is a model called faster than itself, and is one found that is 10 % slower? The default plan, many times over.

Run `python tests/benchmarks/compare_self.py`. One behaviour of the fake server is measured again and again with
8 prompts x 3 rounds; each measurement is compared with the next one of the same behaviour, and with one of a behaviour
that is 10 % slower. Several models are measured at once, each by a process of its own. Prints; gates nothing.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.behaviours import STEADY
from tests.fault_server import FaultServer
from tests.fault_steps import scaled
from workshop_lib import timing
from workshop_lib.client import ChatClient
from workshop_lib.comparison import Ratio, compare_samples
from workshop_lib.plan import Plan, make_plan
from workshop_lib.records import Completion, ModelVariant, Prompt

PROMPTS = tuple(Prompt(f"p{number}", f"Say {number}.") for number in range(8))
METRICS: dict[str, Callable[[Completion], float | None]] = {
    "latency": timing.latency_s,
    "first token": timing.first_token_s,
    "decode": timing.decode_tokens_per_s,
}
EVEN = replace(STEADY, first_token_s=0.040, pace_s=0.004, tokens=8)
SERVERS = {"same": EVEN, "again": EVEN, "slower": scaled(EVEN, 1.1)}
AT_ONCE = 4

Samples = dict[str, dict[str, list[float]]]


def plan() -> Plan:
    """The default plan for the three servers, taking turns in seeded order."""
    variants = [ModelVariant(alias=name, model_id=name, device="unknown") for name in SERVERS]
    return make_plan(variants, PROMPTS, order="round-robin")


def measure(base_url: str) -> dict[str, Samples]:
    """Server → metric → prompt → values, of one run of the plan."""
    values: dict[str, Samples] = {name: {metric: {} for metric in METRICS} for name in SERVERS}
    with ChatClient(base_url) as client:
        for _, requests in plan().blocks():
            for request in requests:
                completion = client.ask(request)
                for metric, of in METRICS.items():
                    if (value := of(completion)) is not None:
                        values[request.variant.model_id][metric].setdefault(request.prompt_id, []).append(value)
    return values


def serve_and_measure(repeats: int) -> list[dict[str, Samples]]:
    """Some of the repeats, against a server of this process's own."""
    with FaultServer(SERVERS) as server:
        return [measure(server.base_url) for _ in range(repeats)]


def verdicts(runs: Sequence[dict[str, Samples]], metric: str, other: str) -> list[Ratio]:
    """Every run's comparison of `same` with another server."""
    return [compare_samples(run["same"][metric], run[other][metric]) for run in runs]


def main() -> None:
    """Print how often a difference was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=100, help="comparisons of each kind (default: 100)")
    options = parser.parse_args()
    started = time.monotonic()
    with ProcessPoolExecutor(AT_ONCE) as pool:
        shares = [len(range(first, options.repeats, AT_ONCE)) for first in range(AT_ONCE)]
        runs = [run for part in pool.map(serve_and_measure, shares) for run in part]
    print(f"{len(runs)} runs of {len(PROMPTS)} prompts x {plan().rounds} rounds, {time.monotonic() - started:.0f} s\n")
    print("| metric | same model: no clear difference | 10 % slower: found | median ratio when slower |")
    print("|:---|---:|---:|---:|")
    for metric in METRICS:
        same, slower = verdicts(runs, metric, "again"), verdicts(runs, metric, "slower")
        unclear, found = sum(not each.is_clear for each in same), sum(each.is_clear for each in slower)
        middle = median(each.value for each in slower if each.value is not None)
        print(f"| {metric} | {unclear} of {len(same)} | {found} of {len(slower)} | {middle:.3f} |")


if __name__ == "__main__":
    main()
