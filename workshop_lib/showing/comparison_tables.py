"""Comparisons as pandas tables for people: CPU and GPU, two runs, simultaneous users, cold and warm, the instrument.

What was not measured says so and is never 0. Knows no files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workshop_lib import compare
from workshop_lib.display import Table
from workshop_lib.showing.tables import NOT_MEASURED, UNKNOWN
from workshop_lib.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from workshop_lib.compare import Build, Changes, Reference
    from workshop_lib.load import KeepWarmResult, Load
    from workshop_lib.records import Run
    from workshop_lib.self_check import SelfCheck

DEVICE_COLUMNS = [
    "model", "build", "measured on", "first token (ms)", "decode (tok/s)", "against", "first token", "decode",
]  # fmt: skip
LOAD_COLUMNS = [
    "users", "answered", "all users (tok/s)", "each user (tok/s)", "first token (ms)", "latency (ms)",
]  # fmt: skip


def devices(run: Run, references: Sequence[Reference] = ()) -> Table:
    """Return the CPU builds of each model and its GPU builds, here or of another machine, with ratios to the CPU."""
    lines = [
        (
            printable(build.row.alias),
            f"{build.row.precision or UNKNOWN} · {build.row.device if build.is_confirmed else 'labelled gpu'}",
            where(build),
            _rounded(build.row.first_token_latency_avg, 1, factor=1000),
            _rounded(build.row.decode_tokens_per_sec, 0),
            *_verdict(build),
        )
        for build in compare.side_by_side(run, references)
    ]
    return Table(lines, columns=DEVICE_COLUMNS)


def where(build: Build) -> str:
    """Return where a build was measured, in words: another machine's figure never passes for this one's."""
    place = f"{compare.ELSEWHERE}: {build.where}" if build.is_reference else build.where
    return printable(place)


def changes(found: Changes) -> Table:
    """Return one line per model and measure: what the second side is in units of the first."""
    lines = [
        (
            _both(line.a.model_id, line.b.model_id),
            _both(line.a.device, line.b.device),
            line.measure,
            line.verdict,
        )
        for line in found.lines
    ]
    return Table(lines, columns=["model", "device", "measure", "second against first"])


def loads(found: Iterable[Load]) -> Table:
    """Return one line per number of simultaneous users: what all get together, and what each of them sees."""
    lines = [
        (
            load.users,
            f"{len(load.answered)} of {len(load.completions)}",
            _rounded(load.total_tokens_per_s, 0),
            _rounded(load.tokens_per_s, 0),
            _rounded(load.first_token_s, 1, factor=1000),
            _rounded(load.latency_s, 1, factor=1000),
        )
        for load in found
    ]
    return Table(lines, columns=LOAD_COLUMNS)


def instrument(check: SelfCheck) -> Table:
    """Return how wrong each client is about a server of known timing, in milliseconds and percent."""
    lines = [
        (
            errors.client,
            len(errors.times),
            round(errors.first_token_ms, 2),
            round(min(errors.first_token_errors_ms), 2),
            round(max(errors.first_token_errors_ms), 2),
            _rounded(errors.pace_percent, 2),
        )
        for errors in (check.workshop, check.bare)
    ]
    error = "first token too late, {} (ms)"
    columns = ["client", "requests", *(error.format(which) for which in ("median", "least", "most")), "pace error (%)"]
    return Table(lines, columns=columns)


def kept_warm(found: KeepWarmResult) -> Table:
    """Return a user's first request right after loading and after one light prompt, in milliseconds, with ratios."""
    lines = [
        (
            f"{each.name} (ms)",
            *(_rounded(seconds, 1, factor=1000) for seconds in (each.cold_s, each.kept_s)),
            compare.describe(each.ratio, "lower"),
        )
        for each in found.lines()
    ]
    return Table(lines, columns=["first request", "right after loading", "after one light prompt", "against"])


def _rounded(value: float | None, decimals: int, *, factor: float = 1.0) -> str | float:
    return NOT_MEASURED if value is None else round(value * factor, decimals or None)


def _verdict(build: Build) -> tuple[str, str, str]:
    if build.verdict is not None:
        return build.verdict.against, build.verdict.first_token, build.verdict.decode
    return ("", "", "") if build.row.device == "cpu" else ("", "not compared", "not compared")


def _both(first: str, second: str) -> str:
    return printable(" / ".join(dict.fromkeys((first, second))))
