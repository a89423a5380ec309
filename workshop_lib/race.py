"""A race: models answer one question, one after the other, and then are watched side by side as they wrote.

The figures of a lane are those of `timing`, as in a benchmark. The page gets HTML, one picture after the other, made
from the recorded time stamps, which it plays slowly enough to be seen. `charts.race` draws what remains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import anywidget
import traitlets

from workshop_lib import timing
from workshop_lib.client import ChatClient
from workshop_lib.errors import WorkshopError
from workshop_lib.quality.facts import check_answer
from workshop_lib.records import Chunk, Completion, ModelVariant, Prompt, Request
from workshop_lib.runtimes.profiles import Runtime
from workshop_lib.show.text import key, names, one_line, printable
from workshop_lib.summary import WARNINGS

WARM_UP, WARM_UP_TOKENS = "Say hello.", 8
"""Another question than the race's, so that no server has that one in its prompt cache."""
PLACES = {1: "first", 2: "second", 3: "third"}
FACTORS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
"""How many times slower than it happened a race may be played: so that it takes `VISIBLE_S` or more."""
VISIBLE_S = 3.0
FRAMES, STROKES = 90, 200
"""Pictures of a race that is played, and strokes of one lane: with more pieces of text, some share one."""
READABLE = 'role="region" tabindex="0" dir="auto" data-lm-suppress-shortcuts="true"'
"""A box that keys can scroll, while JupyterLab's own keys leave it alone."""


@dataclass(frozen=True, slots=True)
class LaneState:
    """One model at one moment: what has arrived, and at the end its record.

    Times are in seconds after its own request. `place` is 1 for the first that was done, also of several at once;
    `invented` is what an answer states beyond its notes.
    """

    name: str
    chunks: tuple[Chunk, ...] = ()
    completion: Completion | None = None
    place: int | None = None
    invented: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The answer so far, without reasoning."""
        return "".join(chunk.text for chunk in self.chunks if chunk.kind == "content")

    @property
    def arrived_s(self) -> tuple[float, ...]:
        """When each piece of text arrived, reasoning included."""
        return tuple(chunk.at_s for chunk in self.chunks)

    @property
    def error(self) -> str | None:
        """Why it did not finish."""
        return self.completion.error if self.completion else None

    @property
    def measures(self) -> timing.Measures:
        """Its figures in a benchmark; none before the end, and of a lane that failed."""
        return timing.measure(self.completion) if self.completion else timing.Measures()

    @property
    def status(self) -> str:
        """How far it is, in words."""
        if self.error:
            return "failed"
        if self.place:
            return PLACES.get(self.place, "done") + ", and wrong" * bool(self.invented)
        return "writes" if self.text else "thinks, no visible token yet" if self.chunks else "no token yet"


@dataclass(frozen=True, slots=True)
class RaceResult:
    """What happened: one record per lane, in the lanes' order."""

    prompt: Prompt
    variants: tuple[ModelVariant, ...] = ()
    completions: tuple[Completion, ...] = ()

    @property
    def lanes(self) -> tuple[LaneState, ...]:
        """The lanes at the end, with their places and what their answers made up; equal times share a place."""
        called, times = names(self.variants), [timing.latency_s(each) for each in self.completions]
        ends = sorted(each for each in times if each is not None)
        lanes = []
        for variant, completion, latency_s in zip(self.variants, self.completions, times, strict=True):
            check = check_answer(self.prompt.text, completion.text)
            place = None if latency_s is None else 1 + ends.index(latency_s)
            invented = check.unsupported if check else ()
            lanes.append(LaneState(called[key(variant)], completion.chunks, completion, place, invented))
        return tuple(lanes)


class Pick(NamedTuple):
    """Who should race, and why these."""

    variants: tuple[ModelVariant, ...]
    why: str


def pick(variants: Sequence[ModelVariant], absent: Mapping[str, str] | None = None) -> Pick:
    """Choose two that are worth racing.

    A model that is here for CPU and GPU races itself, the largest such model if there are several. Else the smallest
    model and the largest of its precision race, so that they differ in size alone where that is possible.
    `absent` are the devices that are not here, with the reason.
    """
    if len(variants) < 2:
        why = "Only one model is here, so it runs alone." if variants else "No model is here, so nobody races."
        return Pick(tuple(variants), why)
    on_cpu, on_gpu = ([each for each in variants if each.device == device] for device in ("cpu", "gpu"))
    both = [(cpu, gpu) for cpu in on_cpu for gpu in on_gpu if cpu.alias == gpu.alias]
    if both:
        pair = max(both, key=lambda pair: (pair[0].precision == pair[1].precision, pair[0].size_mb or 0.0))
        alias = one_line(pair[0].alias, 44)
        return Pick(pair, f"{alias} races itself: its CPU build against its GPU build, which is another file.")
    ordered = sorted(on_cpu if len(on_cpu) > 1 else variants, key=lambda each: each.size_mb or 0.0)
    alike = [each for each in ordered if each.precision == ordered[0].precision]
    ends = alike if alike[-1].alias != ordered[0].alias else ordered
    reason = (absent or {}).get("gpu", "").partition(". ")[0].rstrip(".")
    why = f"{f'{reason}, so' if reason else 'Here'} the smallest and the largest model race."
    return Pick((ends[0], ends[-1]), why)


def run_race(runtime: Runtime, who: Sequence[ModelVariant], prompt: Prompt, *, max_tokens: int = 120) -> RaceResult:
    """Serve each model, let it answer a short question that does not count, then the race's; one after the other.

    What goes wrong in one lane stays in it.
    """
    return RaceResult(prompt, tuple(who), tuple(_answer(runtime, each, prompt, max_tokens) for each in who))


def _answer(runtime: Runtime, variant: ModelVariant, prompt: Prompt, max_tokens: int) -> Completion:
    asked = Request(f"{variant.model_id}/{prompt.id}/race", variant, prompt.id, prompt.text, 1, max_tokens)
    try:
        with runtime.serve(variant) as served, ChatClient.to(served) as client:
            client.ask(replace(asked, prompt_id="warm-up", text=WARM_UP, round=0, max_tokens=WARM_UP_TOKENS))
            return client.ask(asked)
    except WorkshopError as error:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        who = (variant.alias, variant.model_id, variant.device, prompt.id, asked.round)
        return Completion(asked.request_id, *who, now, error=str(error), error_kind="not_served")


# -- in words


def duration(seconds: float | None) -> str:
    """Write a time for people.

    >>> [duration(seconds) for seconds in (0.00614, 0.0523, 0.987, 12.345, None)]
    ['6.1 ms', '52 ms', '987 ms', '12.35 s', 'not known']
    """
    if seconds is None:
        return "not known"
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.{1 if seconds < 0.01 else 0}f} ms"


def figures(lane: LaneState) -> dict[str, str]:
    """What stands under a lane: until the end, and without the server's count, pieces of text are counted."""
    measured, ended = lane.measures, lane.completion is not None
    missing, pace_s = "not known" if ended else "…", measured.time_per_output_token_s
    first_s = measured.first_token_s if measured.tokens else min(lane.arrived_s, default=None)
    counted = measured.tokens_source == "usage"
    written = f"{measured.tokens:,} tokens" if counted else f"{len(lane.chunks):,} pieces of text"
    return {
        "First token": missing if first_s is None else duration(first_s),
        "Pace": f"{1 / pace_s:,.{0 if pace_s <= 0.1 else 1}f} tokens/s" if pace_s else missing,
        "Written": written if lane.chunks else missing,
        "Whole answer": missing if measured.latency_s is None else duration(measured.latency_s),
    }


def sentences(result: RaceResult) -> list[str]:
    """What the race showed, in sentences that claim no more than one request per model carries."""
    lanes = result.lanes
    done = sorted((lane for lane in lanes if lane.place), key=lambda lane: lane.place or 0)
    said = _order(done) if len(done) > 1 else []
    said += [f"{lane.name} did not finish: {one_line(lane.error)}" for lane in lanes if lane.error]
    for lane in lanes:
        if lane.invented:
            said.append(f"{lane.name} states what is not in the notes: {', '.join(map(one_line, lane.invented))}.")
    for lane, completion in zip(lanes, result.completions, strict=True):
        if timing.is_prompt_cached(completion):
            said.append(f"{lane.name}: {WARNINGS['cached_prompt']}")
        if lane.measures.time_per_output_token_s is None and timing.has_burst(completion):
            said.append(f"{lane.name}: {WARNINGS['bursts']}")
    if len(lanes) > 1:
        said.append("Each ran alone, after a short question that does not count.")
    return [*said, "One question is an anecdote; only a benchmark can say how sure this is."] if done else said


def _order(done: Sequence[LaneState]) -> list[str]:
    """Who finished and who began to write first, and a caution where the answers differ in length."""
    found = [(lane.name, lane.measures) for lane in done]
    (first, quickest), (last, slowest) = found[0], found[-1]
    ratio = (slowest.latency_s or 0.0) / (quickest.latency_s or 1.0)
    took = f"took {ratio:.1f} times as long, {duration(slowest.latency_s)}"
    said = [f"{first} finished first, after {duration(quickest.latency_s)}; {last} {took}."]
    if all(each.first_token_s is not None for _, each in found):
        started = sorted(found, key=lambda pair: pair[1].first_token_s or 0.0)
        waits = " and ".join(duration(each.first_token_s) for _, each in started)
        said.append(f"{started[0][0]} had the first token first: {waits}.")
    if all(each.tokens_source == "usage" for _, each in found) and len({each.tokens for _, each in found}) > 1:
        many = " and ".join(f"{each.tokens:,}" for _, each in found)
        said.append(f"They wrote {many} tokens, in this order: who writes less finishes sooner.")
    return said


# -- the page


def drawn(lanes: Sequence[LaneState], length_s: float, note: str = "") -> str:
    """The lanes at one moment as HTML: answers, a stroke per arrival on one clock of `length_s`, and figures."""
    shown = "".join(_lane(lane, length_s) for lane in lanes)
    return f'<div class="wr-track">{shown}</div><p class="wr-note">{escape(note)}</p>'


def _lane(lane: LaneState, length_s: float) -> str:
    name = escape(printable(lane.name))
    look = f"wr-state{' wr-first' * (lane.place == 1)}{' wr-wrong' * bool(lane.invented)}"
    moments = lane.arrived_s[:: -(-len(lane.chunks) // STROKES) or 1]
    strokes = "".join(f"M{1 + 998 * at_s / (length_s or 1.0):.0f} 0V10" for at_s in moments)
    shown = "".join(f"<div><dt>{label}</dt><dd>{value}</dd></div>" for label, value in figures(lane).items())
    parts = [
        f'<div class="wr-head"><b><bdi>{name}</bdi></b><span class="{look}">{lane.status}</span></div>',
        f'<div class="wr-text" {READABLE} aria-label="Answer of {name}">{escape(printable(lane.text))}</div>',
        f'<svg viewBox="0 0 1000 10" preserveAspectRatio="none" aria-hidden="true"><path d="{strokes}"/></svg>',
        f"<dl>{shown}</dl>",
        f'<p class="wr-error">{escape(one_line(lane.error))}</p>' if lane.error else "",
    ]
    return f'<section aria-label="{name}">{"".join(parts)}</section>'


def played(result: RaceResult) -> dict[str, Any]:
    """The end of a race with what it showed, and the pictures before it with the seconds for which they are played."""
    lanes = result.lanes
    length_s = max((lane.arrived_s[-1] for lane in lanes if lane.chunks), default=0.0)
    factor = next((factor for factor in FACTORS if factor * length_s >= VISIBLE_S), FACTORS[-1])
    speed = f"Slow motion, {factor:,} times slower than it happened" if factor > 1 else "Replay at true speed"
    frames = []
    for number in range(FRAMES if length_s else 0):
        at_s = length_s * number / FRAMES
        seen = [[chunk for chunk in lane.chunks if chunk.at_s <= at_s] for lane in lanes]
        now = [
            lane if len(chunks) == len(lane.chunks) else LaneState(lane.name, tuple(chunks))
            for lane, chunks in zip(lanes, seen, strict=True)
        ]
        frames.append(drawn(now, length_s, f"{speed}: {duration(at_s)} of {duration(length_s)}."))
    clock = f"Each stroke is a piece of text that arrived, on one clock from 0 to {duration(length_s)}."
    said = "".join(f"<p>{escape(printable(each))}</p>" for each in sentences(result))
    last = drawn(lanes, length_s, clock if length_s else "")
    return {"lanes": last, "said": said, "frames": frames, "play_s": factor * length_s}


class RaceWidget(anywidget.AnyWidget):
    """A race as a widget, whose `result` is the latest one. The page knows `view`: HTML, and pictures to play."""

    _esm = Path(__file__).with_name("static") / "race.js"
    _css = Path(__file__).with_name("static") / "race.css"
    view = traitlets.Dict().tag(sync=True)

    def __init__(self, runtime: Runtime, who: Pick, prompt: Prompt, **options: Any) -> None:
        self._race, self._options, self.result = (runtime, who.variants, prompt), options, RaceResult(prompt)
        asked, why = escape(printable(prompt.text)), escape(printable(who.why))
        self._head = (
            f'<div class="wr-prompt" {READABLE} aria-label="Question">{asked}</div><p class="wr-note">{why}</p>'
        )
        super().__init__(view={"head": self._head, "lanes": "<p>They answer, one after the other.</p>"})
        self.on_msg(self._receive)

    def race(self) -> RaceResult:
        """Run the race, show it, and return what happened."""
        self.result = run_race(*self._race, **self._options)
        self.view = {"head": self._head, **played(self.result)}
        return self.result

    def _receive(self, _: object, message: Mapping[str, Any], __: object) -> None:
        if message == {"command": "race"}:
            self.race()


def watch(runtime: Runtime, who: Pick, prompt: Prompt, *, max_tokens: int = 120) -> RaceWidget:
    """Run a race between those that `pick` chose and show it; return the widget, whose `result` is the latest race."""
    from IPython.display import display

    widget = RaceWidget(runtime, who, prompt, max_tokens=max_tokens)
    display(widget)  # type: ignore[no-untyped-call]
    said = printable(" ".join([*sentences(widget.race()), "To watch a race, run this cell in JupyterLab."]))
    words = {"text/html": f'<p class="ws-race-in-words">{escape(said)}</p>', "text/plain": said}
    display(words, raw=True)  # type: ignore[no-untyped-call] # hidden where the widget lives
    return widget
