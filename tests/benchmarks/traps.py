"""Every trap of a local endpoint, measured by the workshop against a server that has it: Markdown table.

Run `python tests/benchmarks/traps.py`. Each line is one behaviour of the fake server in a benchmark of its own
with three prompts and three rounds, unless it says otherwise. Prints; gates nothing (`tests/test_traps.py` does).
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


from tests.fault_server import fault_server
from workshop_lib.benchmark import run_plan
from workshop_lib.plan import make_plan
from workshop_lib.records import Prompt, Row, Run
from workshop_lib.runtimes.profiles import open_runtime
from workshop_lib.summary import stability_notes, summarise

PROMPTS = tuple(Prompt(name, f"Say {name}.") for name in ("one", "two", "three"))


def measured(base_url: str, model: str, **options: Any) -> tuple[Row, Run]:
    """One behaviour, measured end to end: server, client, record file, row."""
    with open_runtime("endpoint", endpoint=base_url) as runtime, tempfile.TemporaryDirectory() as folder:
        plan = make_plan(runtime.find([model]), PROMPTS, **{"rounds": 3, "timeout_s": 5.0, **options})
        run = run_plan(plan, runtime, Path(folder), show_progress=False)
    (row,) = summarise(run)
    return row, run


def ms(seconds: float | None) -> str:
    """`12.3 ms`, or `withheld`."""
    return "withheld" if seconds is None else f"{1e3 * seconds:.1f} ms"


def rate(value: float | None) -> str:
    """`99.8 tok/s`, or `withheld`."""
    return "withheld" if value is None else f"{value:.1f} tok/s"


def first(row: Row, _: Run) -> str:
    """The first-token time."""
    return f"first token {ms(row.first_token_latency_avg)}"


def decode(row: Row, _: Run) -> str:
    """The decode rate."""
    return f"decode {rate(row.decode_tokens_per_sec)}"


@dataclass(frozen=True, slots=True)
class Trap:
    """A line of the table: what the server does, which behaviour that is, what is shown, and the truth."""

    name: str
    model: str
    shown: Callable[[Row, Run], str]
    truth: str
    options: Mapping[str, Any] = field(default_factory=dict)


TRAPS = (
    Trap("none (control)", "steady", lambda row, run: f"{first(row, run)}, {decode(row, run)}", "50 ms, 100 tok/s"),
    Trap("empty role chunk at 0 ms", "early-role", first, "50 ms"),
    Trap("4 tokens per chunk", "coalesced", decode, "100 tok/s"),
    Trap("4 tokens per chunk, no usage", "coalesced-no-usage",
         lambda row, run: f"{decode(row, run)}, {row.completion_tokens_avg:g} {row.tokens_source}",
         "100 tok/s, 40 tokens"),
    Trap("10 of 40 tokens are reasoning, streamed apart", "reasoning",
         lambda row, run: f"{first(row, run)}, visible {ms(row.first_visible_token_latency_avg)}",
         "50 ms, visible 150 ms"),
    Trap("30 of 40 tokens never streamed", "hidden", decode, "100 tok/s"),
    Trap("10 of 40 tokens never streamed", "partly-hidden", decode, "100 tok/s"),
    Trap("first request 500 ms slow", "cold",
         lambda row, _: f"latency {ms(row.latency_avg)}, cold start {ms(row.cold_start_s)}",
         "440 ms, cold start 940 ms"),
    Trap("one request 500 ms slow", "spike",
         lambda row, run: f"latency {ms(row.latency_avg)}; {' '.join(stability_notes(run))}",
         "440 ms but for one of 940 ms"),
    Trap("repeated prompt cached, not reported", "cached", first, "200 ms for a new prompt"),
    Trap("repeated prompt cached, reported", "cached-reported", first, "200 ms for a new prompt"),
    Trap("the same, unique prefix asked for", "cached", first, "200 ms", {"unique_prefix": True}),
    Trap("connection used before stalls 40 ms", "reuse-stall", first, "50 ms"),
    Trap("second request fails, 1 retry after 1 s", "flaky",
         lambda row, run: f"latency {ms(row.latency_avg)}, {row.requests_ok} of {len(run.completions) - 1} attempts ok",
         "440 ms, 9 of 10", {"retries": 1}),
    Trap("9 requests", "steady", lambda row, _: f"p95 {ms(row.latency_p95)} of {row.requests_ok}",
         "440 ms of 20 or more"),
    Trap("answer cut by max_tokens 10", "steady",
         lambda row, _: f"latency {ms(row.latency_avg)}, {100 * (row.truncated_share or 0):.0f} % cut",
         "140 ms, 100 % cut", {"max_tokens": 10}),
    Trap("stall in the middle", "stall-middle", lambda row, _: f"{row.status}: {row.error}", "failed",
         {"timeout_s": 0.5}),
)  # fmt: skip


def main() -> None:
    """Print the table."""
    print("| trap | measured | truth | warning codes |\n|:---|:---|:---|:---|")
    with fault_server() as base_url:
        seen: set[str] = set()
        for trap in TRAPS:
            if trap.model in seen and trap.model != "steady":  # a cache and a count begin anew with the server
                with fault_server() as fresh:
                    row, run = measured(fresh, trap.model, **trap.options)
            else:
                row, run = measured(base_url, trap.model, **trap.options)
            seen.add(trap.model)
            codes = ", ".join(f"`{code}`" for code in row.warnings)
            print(f"| {trap.name} | {trap.shown(row, run)} | {trap.truth} | {codes} |", flush=True)


if __name__ == "__main__":
    main()
