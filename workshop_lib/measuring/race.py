"""A race as values: who takes part, how far each lane is at a moment, and what remains at the end. Pure.

At the end the figures of a lane are those of `timing`, as in a benchmark; before it, only pieces of text are counted.
Knows no client, no widget and no sentence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from workshop_lib.metrics import timing
from workshop_lib.records import Chunk, Completion, ModelVariant, Prompt, TokensSource
from workshop_lib.untrusted import one_line

Turns = Literal["together", "in turns"]
Status = Literal["waiting", "loading", "asked", "thinking", "writing", "done", "failed"]

NAME_LETTERS = 44


@dataclass(frozen=True, slots=True)
class LaneState:
    """One lane at one moment; each time is in seconds after its own request.

    Attributes:
        name: alias, precision and device.
        status: `waiting` for its turn, `loading`, `asked`, `thinking` (reasoning only), `writing`, `done`, `failed`.
        text: what a user sees so far.
        arrived_s: when each piece of it arrived, reasoning included.
        first_token_s: None before it.
        tokens: written so far; `tokens_source` says `chunks` while pieces are counted, `usage` once the server said.
        tokens_per_s: the pace after the first token, in units of `tokens`; None while or where it cannot be known.
        latency_s: when the last token arrived; None before it is done.
        place: 1 for the first that was done, also of several at once; None before.
        error: why it failed.
    """

    name: str
    status: Status = "waiting"
    text: str = ""
    arrived_s: tuple[float, ...] = ()
    first_token_s: float | None = None
    tokens: int | None = None
    tokens_source: TokensSource = "unknown"
    tokens_per_s: float | None = None
    latency_s: float | None = None
    place: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class RaceState:
    """All lanes at one moment."""

    lanes: tuple[LaneState, ...]

    @property
    def over(self) -> bool:
        """True when every lane is done or has failed."""
        return all(lane.status in {"done", "failed"} for lane in self.lanes)


@dataclass(frozen=True, slots=True)
class RaceResult:
    """What happened: one record per lane, in the lanes' order."""

    prompt: Prompt
    turns: Turns
    variants: tuple[ModelVariant, ...] = ()
    completions: tuple[Completion, ...] = ()

    @property
    def state(self) -> RaceState:
        """The lanes at the end, with the same figures as in a benchmark."""
        return RaceState(placed(list(map(finished, names(self.variants), self.completions))))

    @property
    def longest_s(self) -> float:
        """When the last piece of text of any lane arrived after its request."""
        return max((each.chunks[-1].at_s for each in self.completions if each.chunks), default=0.0)

    def at(self, at_s: float) -> RaceState:
        """The lanes `at_s` seconds after each one's request, as if all had started together."""
        ends = zip(self.state.lanes, self.completions, strict=True)
        return RaceState(tuple(lane_at(last, completion, at_s) for last, completion in ends))


@dataclass(frozen=True, slots=True)
class Pick:
    """Who should race, and why these."""

    variants: tuple[ModelVariant, ...]
    why: str


def so_far(name: str, chunks: Sequence[Chunk]) -> LaneState:
    """The state of a lane that was asked and is not done: only pieces of text can be counted yet."""
    if not chunks:
        return LaneState(name, "asked")
    text = "".join(chunk.text for chunk in chunks if chunk.kind == "content")
    first_s, passed_s = chunks[0].at_s, chunks[-1].at_s - chunks[0].at_s
    return LaneState(
        name,
        "writing" if text else "thinking",
        text,
        tuple(chunk.at_s for chunk in chunks),
        first_s,
        len(chunks),
        "chunks",
        (len(chunks) - 1) / passed_s if passed_s > 0 else None,
    )


def lane_at(last: LaneState, completion: Completion, at_s: float) -> LaneState:
    """A lane `at_s` seconds after its request, where `last` is its state at the end."""
    if not completion.chunks or completion.chunks[-1].at_s <= at_s:
        return last
    return so_far(last.name, [chunk for chunk in completion.chunks if chunk.at_s <= at_s])


def finished(name: str, completion: Completion) -> LaneState:
    """The state of a lane at its end, by the definitions of `timing`; a failed one keeps what had arrived."""
    if completion.error is not None:
        return replace(so_far(name, completion.chunks), status="failed", tokens_per_s=None, error=completion.error)
    measured = timing.measure(completion)
    return LaneState(
        name,
        "done",
        completion.text,
        tuple(chunk.at_s for chunk in completion.chunks),
        measured.first_token_s,
        measured.tokens,
        measured.tokens_source,
        timing.decode_tokens_per_s(completion),
        measured.latency_s,
    )


def placed(lanes: Sequence[LaneState]) -> tuple[LaneState, ...]:
    """The lanes with the places of those that are done; equal times share a place."""
    ends = [lane.latency_s for lane in lanes if lane.latency_s is not None]
    return tuple(
        lane if lane.latency_s is None else replace(lane, place=1 + sum(end < lane.latency_s for end in ends))
        for lane in lanes
    )


def names(variants: Sequence[ModelVariant]) -> tuple[str, ...]:
    """Name each variant `alias · precision · device`; where that is not unique, by its model id."""
    short = [" · ".join(filter(None, (each.alias, each.precision, each.device))) for each in variants]
    return tuple(
        one_line(name if short.count(name) == 1 else f"{each.model_id} · {each.device}", NAME_LETTERS)
        for each, name in zip(variants, short, strict=True)
    )


def pick(variants: Sequence[ModelVariant], absent: Mapping[str, str] | None = None) -> Pick:
    """Choose two that are worth racing.

    A model that is here for CPU and GPU races itself, the largest such model if there are several. Else the smallest
    and the largest model of one precision race, so that they differ in size alone where that is possible.

    Args:
        variants: what can be served, e.g. `runs.answered(run)`.
        absent: devices that are not here → the reason.
    """
    if len(variants) < 2:
        why = "Only one model is here, so it runs alone." if variants else "No model is here, so nobody races."
        return Pick(tuple(variants), why)
    on_cpu, on_gpu = ([each for each in variants if each.device == device] for device in ("cpu", "gpu"))
    both = [(cpu, gpu) for cpu in on_cpu for gpu in on_gpu if cpu.alias == gpu.alias]
    if both:
        pair = max(both, key=lambda pair: (pair[0].precision == pair[1].precision, _size(pair[0])))
        alias = one_line(pair[0].alias, NAME_LETTERS)
        return Pick(pair, f"{alias} races itself: its CPU build against its GPU build, which is another file.")
    reason = (absent or {}).get("gpu", "").partition(". ")[0].rstrip(".")
    pair = _furthest_apart(on_cpu if len(on_cpu) > 1 else variants)
    return Pick(pair, f"{f'{reason}, so' if reason else 'Here'} the smallest and the largest model race.")


def _furthest_apart(variants: Sequence[ModelVariant]) -> tuple[ModelVariant, ModelVariant]:
    """The smallest and the largest, of one precision if it has two models; in the order given if sizes are unknown."""
    groups: dict[str | None, list[ModelVariant]] = {}
    for variant in variants:
        groups.setdefault(variant.precision, []).append(variant)
    several = [group for group in groups.values() if len({each.alias for each in group}) > 1] or [list(variants)]
    pairs = [(ordered[0], ordered[-1]) for ordered in (sorted(group, key=_size) for group in several)]
    return max(pairs, key=lambda pair: _size(pair[1]) / (_size(pair[0]) or 1.0))


def _size(variant: ModelVariant) -> float:
    return variant.size_mb or 0.0
