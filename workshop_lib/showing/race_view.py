"""What the race widget shows, as plain values and sentences. Knows no widget.

Text of models is made visible-only here and inserted as text there. The page gets a finished race as frames, each with
its moment and its figures, so that it can play them at any speed and computes nothing itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from workshop_lib.measuring import race
from workshop_lib.measuring.race import LaneState, RaceResult, RaceState, Turns
from workshop_lib.metrics import timing
from workshop_lib.records import Completion
from workshop_lib.untrusted import one_line, printable

FACTORS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
"""How many times slower than it happened a race may be played."""

VISIBLE_S = 3.0
"""What takes this long can be followed by eye."""

MOST_FRAMES = 400
"""Frames and strokes of one lane; with more tokens than that, some share one."""

TURNS: dict[Turns, str] = {"in turns": "one after the other", "together": "at the same time"}
HOW: dict[Turns, str] = {
    "in turns": "Each ran alone, after a short question that does not count.",
    "together": "They ran at the same time and shared this machine, so these are no benchmark numbers.",
}
PLACES = ("first", "second", "third")
WORDS = {
    "waiting": "waits for its turn",
    "loading": "is loaded and warmed up",
    "asked": "no token yet",
    "thinking": "thinks, no visible token yet",
    "writing": "writes",
    "done": "done",
    "failed": "failed",
}
ENDED = {"done", "failed"}
UNKNOWN = "not known"


def slow_motion(longest_s: float) -> int:
    """The smallest factor that makes a race of `longest_s` seconds last long enough to be seen.

    >>> [slow_motion(seconds) for seconds in (0.03, 0.4, 8.0)]
    [100, 10, 1]
    """
    return next((factor for factor in FACTORS if factor * longest_s >= VISIBLE_S), FACTORS[-1])


def duration(seconds: float | None) -> str:
    """Write a time for people.

    >>> [duration(seconds) for seconds in (0.00614, 0.0523, 0.987, 12.345, None)]
    ['6.1 ms', '52 ms', '987 ms', '12.35 s', 'not known']
    """
    if seconds is None:
        return UNKNOWN
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{1000 * seconds:.{1 if seconds < 0.01 else 0}f} ms"


def figures(lane: LaneState) -> dict[str, str]:
    """What stands under a lane: while it writes, pieces of text are counted; at the end, the server's tokens."""
    missing = UNKNOWN if lane.status in ENDED else "…"
    unit = "tokens" if lane.tokens_source == "usage" else "pieces of text"
    return {
        "First token": missing if lane.first_token_s is None else duration(lane.first_token_s),
        "Pace": pace(lane) if lane.tokens_per_s else missing,
        "Written": missing if lane.tokens is None else f"{lane.tokens:,} {unit}",
        "Whole answer": missing if lane.latency_s is None else duration(lane.latency_s),
    }


def pace(lane: LaneState) -> str:
    """How fast a lane writes after its first token."""
    rate, unit = lane.tokens_per_s, "tokens" if lane.tokens_source == "usage" else "pieces"
    return "pace not known" if not rate else f"{rate:,.{0 if rate >= 10 else 1}f} {unit}/s"


def status(lane: LaneState) -> str:
    """What a lane does, or which place it took."""
    if lane.place is not None and lane.place <= len(PLACES):
        return PLACES[lane.place - 1]
    return WORDS[lane.status]


def sentences(result: RaceResult) -> list[str]:
    """What the race showed, in sentences that claim no more than one request per model carries."""
    lanes = [replace(lane, name=name) for lane, name in zip(result.state.lanes, short_names(result), strict=True)]
    done = sorted((lane for lane in lanes if lane.latency_s is not None), key=lambda lane: lane.latency_s or 0.0)
    said = [f"{lane.name} did not finish: {one_line(lane.error)}" for lane in lanes if lane.error]
    if len(done) > 1:
        said = [_order(done), *_first_words(done), *_lengths(done), *said]
    for lane, completion in zip(lanes, result.completions, strict=True):
        said += _doubts(lane, completion)
    if len(lanes) > 1:
        said.append(HOW[result.turns])
    return [*said, "One question is an anecdote; only a benchmark can say how sure this is."] if done else said


def short_names(result: RaceResult) -> tuple[str, ...]:
    """The lanes' names without what all have in common: aliases, or devices where those are the same."""
    aliases = [one_line(each.alias, 40) for each in result.variants]
    placed = [f"{alias} on {each.device}" for alias, each in zip(aliases, result.variants, strict=True)]
    for names in (aliases, placed):
        if len(set(names)) == len(names):
            return tuple(names)
    return race.names(result.variants)


def view(state: RaceState, turns: Turns) -> dict[str, Any]:
    """The lanes of a race that is still running."""
    latest = max((lane.arrived_s[-1] for lane in state.lanes if lane.arrived_s), default=0.0)
    return {"turns": turns, "length_s": latest, "lanes": list(map(_lane, state.lanes)), "replay": None}


def finished_view(result: RaceResult) -> dict[str, Any]:
    """The lanes at the end, and the frames to play the race from its start."""
    state, factor = result.state, slow_motion(result.longest_s)
    frames = [_frames(lane, completion) for lane, completion in zip(state.lanes, result.completions, strict=True)]
    return {
        **view(state, result.turns),
        "replay": {
            "factor": factor,
            "factors": list(FACTORS),
            "by_itself": result.turns == "in turns" or factor > 1,
            "frames": frames,
        }
        if result.longest_s
        else None,
    }


def in_words(result: RaceResult | None) -> list[str]:
    """A race as sentences, where no widget can be shown."""
    return [*([] if result is None else sentences(result)), "To watch a race, run this cell in JupyterLab."]


def _lane(lane: LaneState) -> dict[str, Any]:
    return {
        "name": printable(lane.name),
        "text": printable(lane.text),
        "error": one_line(lane.error or ""),
        "strokes": _thinned(lane.arrived_s),
        **_frame(lane, lane.latency_s or 0.0),
    }


def _frame(lane: LaneState, at_s: float) -> dict[str, Any]:
    """What changes in a lane while it writes; `letters` is how much of its text is there."""
    return {
        "at_s": at_s,
        "letters": len(printable(lane.text)),
        "status": status(lane),
        "place": lane.place,
        "ended": lane.status in ENDED,
        "figures": list(figures(lane).items()),
    }


def _frames(last: LaneState, completion: Completion) -> list[dict[str, Any]]:
    moments = [0.0, *_thinned(tuple(dict.fromkeys(last.arrived_s)))]
    return [_frame(race.lane_at(last, completion, at_s), at_s) for at_s in moments]


def _thinned(moments: Sequence[float]) -> list[float]:
    """At most `MOST_FRAMES` of the moments, the last one among them."""
    step = -(-len(moments) // MOST_FRAMES) or 1
    return list(moments[::-step][::-1])


def _order(done: Sequence[LaneState]) -> str:
    first, last = done[0], done[-1]
    if first.latency_s == last.latency_s:
        return f"{' and '.join(lane.name for lane in done)} finished together, after {duration(first.latency_s)}."
    ratio = (last.latency_s or 0.0) / (first.latency_s or 1.0)
    return (
        f"{first.name} finished first, after {duration(first.latency_s)}; {last.name} took {ratio:.1f} times as long, "
        f"{duration(last.latency_s)}."
    )


def _first_words(done: Sequence[LaneState]) -> list[str]:
    """Who began to write first, where that was not who finished first."""
    started = [lane for lane in done if lane.first_token_s is not None]
    if len(started) < len(done):
        return []
    soonest = min(started, key=lambda lane: lane.first_token_s or 0.0)
    also = "also " if soonest is done[0] else ""
    waits = " and ".join(duration(lane.first_token_s) for lane in sorted(started, key=lambda lane: lane is not soonest))
    return [f"{soonest.name} {also}had the first token first: {waits}."]


def _doubts(lane: LaneState, completion: Completion) -> list[str]:
    """Why a figure of a lane is missing or says little."""
    said = []
    if timing.is_prompt_cached(completion):
        said.append(f"The server of {lane.name} had the question in its cache: its first token says little.")
    if lane.tokens_per_s is None and timing.has_burst(completion):
        said.append(f"Most of what {lane.name} wrote arrived at one moment, so no pace is claimed.")
    return said


def _lengths(done: Sequence[LaneState]) -> list[str]:
    """A caution where the answers differ in length."""
    counts = [lane.tokens for lane in done if lane.tokens is not None and lane.tokens_source == "usage"]
    if len(counts) < len(done) or len(set(counts)) == 1:
        return []
    many = " and ".join(f"{count:,}" for count in counts)
    return [f"They wrote {many} tokens, in this order: who writes less finishes sooner."]
