"""What the instrument itself adds: errors of first token and pace, processor time, scaling.

Run `python tests/benchmarks/instrument.py`. Every figure stands beside that of a bare standard-library client that
asks the same server in the same run, alternating, so that both meet the same machine. Prints; gates nothing.
"""

from __future__ import annotations

import argparse
import resource
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from workshop_lib import timing
from workshop_lib.client import ChatClient
from workshop_lib.records import Chunk, Completion, Request, Run, Serving
from workshop_lib.runtimes.profiles import open_runtime
from workshop_lib.self_check import (
    FIRST_TOKEN_S,
    PACE_S,
    VARIANT,
    Errors,
    Times,
    ask_bare,
    ask_workshop,
    compare_clients,
    reference_server,
)
from workshop_lib.summary import summarise

TOKENS = 40


def accuracy(base_url: str, repeats: int) -> None:
    """Errors against the server's schedule, ours and the bare client's."""
    check = compare_clients(base_url, repeats, tokens=TOKENS)
    first_ms, pace_ms = FIRST_TOKEN_S * 1e3, PACE_S * 1e3
    print(f"\nAgainst {first_ms:g} ms first token and {pace_ms:g} ms a token, n = {repeats}")
    print(f"{'':14}{'first-token error, median ms':>30}{'worst ms':>10}{'pace error %':>14}")
    for found in (check.bare, check.workshop):
        worst = max(found.first_token_errors_ms)
        print(f"{found.client:14}{found.first_token_ms:30.3f}{worst:10.3f}{_percent(found.pace_percent):>14}")


def processor_time(base_url: str, requests: int = 20) -> None:
    """CPU seconds of this process for requests of 40 tokens, imports included the first time."""

    def used(work: Callable[[], object]) -> float:
        before = time.process_time()
        work()
        return time.process_time() - before

    def all_ours() -> None:
        with ChatClient(base_url) as client:
            for _ in range(requests):
                ask_workshop(client, TOKENS)

    plain = used(lambda: [ask_bare(base_url, TOKENS) for _ in range(requests)])
    mine = used(all_ours)
    print(f"\nCPU seconds for {requests} requests of 40 tokens: workshop {mine:.2f}, bare {plain:.2f}")
    print(f"CPU seconds of this process in all, interpreter and imports included: {time.process_time():.2f}")


def scaling(base_url: str) -> None:
    """Simultaneous streams: the pace each client sees should stay the server's."""
    print(f"\n{'streams':>8}{'first-token error, median ms':>30}{'pace error %':>14}")
    for streams in (1, 8, 64):
        results: list[Times] = []

        def one(results: list[Times] = results) -> None:
            with ChatClient(base_url) as client:
                ask_workshop(client, TOKENS)
                results.append(ask_workshop(client, TOKENS))

        threads = [threading.Thread(target=one) for _ in range(streams)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seen = Errors("workshop", tuple(results))
        print(f"{streams:8}{seen.first_token_ms:30.3f}{_percent(seen.pace_percent):>14}")


def _percent(value: float | None) -> str:
    return "not claimed" if value is None else f"{value:.3f}"


def on_the_real_runtime(repeats: int) -> None:
    """First token of a practice model: on a client that listed the models before, and on a new client, alternating."""
    times: dict[str, list[float]] = {"after models.list()": [], "new client": []}
    with open_runtime("practice") as runtime:
        variant = runtime.find(["practice-large"], ["cpu"])[0]
        with runtime.serve(variant) as served:
            request = Request("real/p/1", variant, "p", "What is edge AI?", 1, 40)
            used = ChatClient(served.base_url)
            for _ in range(repeats + 1):
                used.list_models()
                times["after models.list()"].append(timing.first_token_s(used.ask(request)) or 0.0)
                with ChatClient(served.base_url) as new:
                    times["new client"].append(timing.first_token_s(new.ask(request)) or 0.0)
    print(f"\nFirst token of {variant.model_id} on the real runtime, n = {repeats}")
    for name, values in times.items():
        print(f"{name:22} median {1e3 * median(values[1:]):.2f} ms")


def summarising(records: int) -> None:
    """Seconds and memory to summarise many records of 40 chunks."""
    chunks = tuple(Chunk(0.05 + 0.01 * token, "content", " word") for token in range(40))

    def record(number: int) -> Completion:
        return Completion(
            f"steady/p{number % 8}/{number}", "steady", "steady", "unknown", f"p{number % 8}", 1 + number // 8,
            "2026-01-01T00:00:00+00:00", chunks=chunks, end_s=0.45, finish_reason="stop", completion_tokens=40,
        )  # fmt: skip

    completions = tuple(record(number) for number in range(records))
    run = Run("r", "now", "endpoint", {}, {"rounds": records // 8}, (), (Serving(VARIANT),), completions)
    started, used = time.perf_counter(), time.process_time()
    (row,) = summarise(run)
    seconds, used = time.perf_counter() - started, time.process_time() - used
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(f"\n{records} records summarised in {seconds:.2f} s, {used:.2f} CPU seconds; peak memory {peak_mb:.0f} MB")
    print(f"of them ok: {row.requests_ok}")


def main() -> None:
    """Print every figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=30, help="requests per client for the accuracy (default: 30)")
    parser.add_argument("--records", type=int, default=1_000_000, help="records to summarise (default: a million)")
    options = parser.parse_args()
    with reference_server() as base_url:
        accuracy(base_url, options.repeats)
        processor_time(base_url)
        scaling(base_url)
    on_the_real_runtime(options.repeats)
    summarising(options.records)


if __name__ == "__main__":
    main()
