"""What a set of rows says, in sentences that claim no more than the rows can carry.

Averages alone cannot prove a small difference: close values are called a tie. Knows no files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from workshop_lib.showing.appearance import number

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from workshop_lib.records import Row

CLOSE = 0.05
"""Values nearer than this share are called a tie."""
CLOSE_WITH_WARNING = {"unstable": 0.10}
"""The same where a compared row carries a warning: `unstable` stands for a spread of 10 %."""
WITHOUT_ORDER = {"bursts": "many tokens arrived at one moment"}
"""Warnings of a compared row that leave no order, and why: with `bursts` only a part of the tokens had a pace."""

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Question:
    """One thing to be best at: how the winner is called, the value of a row, its unit."""

    winner: str
    quantity: str
    value: Callable[[Row], float | None]
    unit: str
    better: Literal["lower", "higher"]
    shaken_by: tuple[str, ...] = ()
    undone_by: tuple[str, ...] = ()


def _first_token_ms(row: Row) -> float | None:
    seconds = row.first_token_latency_avg
    return None if seconds is None else seconds * 1000


QUESTIONS: tuple[Question, ...] = (
    Question("Fastest first token", "first-token time", _first_token_ms, "ms", "lower", ("unstable",)),
    Question(
        "Fastest decode",
        "decode speed",
        lambda row: row.decode_tokens_per_sec,
        "tok/s",
        "higher",
        ("unstable",),
        ("bursts",),
    ),
    Question("Smallest on disk", "size", lambda row: row.size_mb, "MB", "lower"),
)


def highlights(rows: Sequence[Row], names: Mapping[Key, str]) -> list[str]:
    """Return what stands out, what is too close to call, what is uncertain and what failed.

    Args:
        rows: the rows of one run.
        names: what to call a row, by model id and device.
    """
    if not rows:
        return ["Nothing was measured."]
    good = [row for row in rows if row.status == "ok"]
    said = [_best(question, good, names) for question in QUESTIONS] if good else []
    return said + _doubts(good) + _failures(rows, names)


def _best(question: Question, rows: Sequence[Row], names: Mapping[Key, str]) -> str:
    known = [(value, row) for row in rows if (value := question.value(row)) is not None]
    known.sort(key=lambda pair: pair[0], reverse=question.better == "higher")
    if not known:
        return f"{question.winner}: not measured."
    said = [f"{names[row.model_id, row.device]} ({number(v)} {question.unit})" for v, row in known]
    if len(known) == 1:
        return f"{said[0]} is the only model with a {question.quantity}: nothing to compare."
    for code in question.undone_by:
        if any(code in row.warnings for _, row in known):
            quantities = f"{question.quantity}s".capitalize()
            return f"{quantities} cannot be ranked here: {WITHOUT_ORDER[code]} (warning `{code}`)."
    tied = _tied(known, question.shaken_by)
    if tied == 1:
        return f"{question.winner}: {said[0]}, ahead of {said[1]}."
    return f"{question.winner}: too close to call between {_and(said[:tied])}."


def _tied(known: Sequence[tuple[float, Row]], shaken_by: Sequence[str]) -> int:
    """Return how many of the sorted values cannot be told from the first by averages alone."""
    best, leader = known[0]
    count = 1
    for value, row in known[1:]:
        codes = {*leader.warnings, *row.warnings} & {*shaken_by}
        close = max([CLOSE, *(CLOSE_WITH_WARNING[code] for code in codes)])
        if abs(value - best) > close * max(value, best):
            break
        count += 1
    return count


def _doubts(rows: Sequence[Row]) -> list[str]:
    few = [row.requests_ok for row in rows if "too_few_samples" in row.warnings]
    shaky = sum("unstable" in row.warnings for row in rows)
    doubts = []
    if few:
        doubts.append(
            f"{len(few)} of {len(rows)} models answered fewer than 20 requests "
            f"(the least {min(few)}): small differences may be chance."
        )
    if shaky:
        doubts.append(
            f"{shaky} of {len(rows)} models varied by 10 % or more on the same prompt: "
            "run more rounds on a quiet machine before relying on small differences."
        )
    return doubts


def _failures(rows: Sequence[Row], names: Mapping[Key, str]) -> list[str]:
    """Return a sentence per reason, naming every model that it stopped."""
    stopped: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row.status != "ok":
            reason = (row.status, row.error or "no reason given")
            stopped.setdefault(reason, []).append(names[row.model_id, row.device])
    return [f"{_and(who)} {_verb(status, who)}: {why}" for (status, why), who in stopped.items()]


def _verb(status: str, who: Sequence[str]) -> str:
    if status == "failed":
        return "failed"
    return "was skipped" if len(who) == 1 else "were skipped"


def _and(parts: Sequence[str]) -> str:
    return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else parts[0]
