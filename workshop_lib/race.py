"""A race: models answer one question, one after the other or at the same time, and are watched while they write.

Whoever watches looks at the growing list of stamped bytes, at most 30 times a second and from another thread: the
thread that asks does nothing for it. At the end the figures of a lane are those of `timing`, as in a benchmark; before
it, only pieces of text are counted. The page gets HTML, and of a finished race one picture after the other, which it
plays slowly enough to be seen. `charts.race` draws what remains.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any, Literal, NamedTuple

import anywidget
import traitlets

from workshop_lib import timing
from workshop_lib.client import DEFAULT_TIMEOUT_S, ChatClient, without_keys
from workshop_lib.errors import WorkshopError
from workshop_lib.quality.facts import check_answer
from workshop_lib.records import Chunk, Completion, ModelVariant, Prompt, Request, key
from workshop_lib.runtimes.profiles import Runtime
from workshop_lib.show.text import names, one_line, printable
from workshop_lib.streams import AnswerReader, Arrival
from workshop_lib.summary import WARNINGS

Turns = Literal["together", "in turns"]
HOW: dict[Turns, str] = {
    "in turns": "Each ran alone, after a short question that does not count.",
    "together": "They ran at the same time and shared this machine, so these are no benchmark numbers.",
}
WAITS, LOADS, ASKED, THINKS, WRITES = (
    "waits for its turn", "is loaded and warmed up", "no token yet", "thinks, no visible token yet", "writes",
)  # fmt: skip
PLACES = {1: "first", 2: "second", 3: "third"}

UPDATES_PER_S = 30
"""As often as a page is worth redrawing; more would only take time from those who race."""
WARM_UP, WARM_UP_TOKENS = Prompt("warm-up", "Say hello."), 8
"""Another question than the race's, so that no server has that one in its prompt cache."""
FACTORS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
"""How many times slower than it happened a race may be played: so that it takes `VISIBLE_S` or more."""
VISIBLE_S = 3.0
FRAMES, STROKES = 90, 200
"""Pictures of a race that is played, and strokes of one lane: with more pieces of text, some share one."""
READABLE = 'role="region" tabindex="0" dir="auto" data-lm-suppress-shortcuts="true"'
"""A box that keys can scroll, while JupyterLab's own keys leave it alone."""
STATIC = Path(__file__).resolve().parent / "static"


@dataclass(frozen=True, slots=True)
class LaneState:
    """One model at one moment: how far it is, what has arrived, and at the end its record.

    Times are in seconds after its own request. `place` is 1 for the first that was done, also of several at once;
    `invented` is what an answer states beyond its notes.
    """

    name: str
    status: str = WAITS
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


@dataclass(frozen=True, slots=True)
class RaceResult:
    """What happened: one record per lane, in the lanes' order."""

    prompt: Prompt
    turns: Turns = "in turns"
    variants: tuple[ModelVariant, ...] = ()
    completions: tuple[Completion, ...] = ()

    @property
    def lanes(self) -> tuple[LaneState, ...]:
        """The lanes at the end, with their places and what their answers made up."""
        called = names(self.variants)
        ends = zip(self.variants, self.completions, strict=True)
        lanes = placed([finished(called[key(variant)], completion) for variant, completion in ends])
        checks = (check_answer(self.prompt.text, lane.text) for lane in lanes)
        made_up = (check.unsupported if check else () for check in checks)
        return tuple(replace(lane, invented=words) for lane, words in zip(lanes, made_up, strict=True))


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


# -- how far a lane is


def so_far(name: str, chunks: Sequence[Chunk]) -> LaneState:
    """A lane that was asked and is not done."""
    writes = any(chunk.kind == "content" for chunk in chunks)
    return LaneState(name, WRITES if writes else THINKS if chunks else ASKED, tuple(chunks))


def finished(name: str, completion: Completion) -> LaneState:
    """A lane at its end; a failed one keeps what had arrived."""
    return LaneState(name, "done" if completion.ok else "failed", completion.chunks, completion)


def placed(lanes: Sequence[LaneState]) -> tuple[LaneState, ...]:
    """The lanes with the places of those that are done; equal times share a place."""
    times = [lane.measures.latency_s for lane in lanes]
    ends = sorted(each for each in times if each is not None)
    return tuple(
        lane if latency_s is None else replace(lane, place=1 + ends.index(latency_s))
        for lane, latency_s in zip(lanes, times, strict=True)
    )


# -- asking


def run_race(
    runtime: Runtime,
    variants: Sequence[ModelVariant],
    prompt: Prompt,
    *,
    max_tokens: int = 120,
    turns: Turns = "in turns",
    timeout_s: float = DEFAULT_TIMEOUT_S,
    on_change: Callable[[tuple[LaneState, ...]], None] = lambda _: None,
) -> RaceResult:
    """Serve each model, let it answer a short question that does not count, then the race's; watch it meanwhile.

    Together, all models are in memory and all requests leave at once. In turns, a model is loaded when the one before
    it has ended. What goes wrong in one lane stays in it.

    `timeout_s` are the seconds without a byte before a lane counts as stalled. `on_change` is called in this thread
    with each new state, at most `UPDATES_PER_S` times a second while they write.
    """
    called = names(variants)
    last: tuple[LaneState, ...] = ()
    lanes = [_Lane(called[key(variant)], variant, prompt, max_tokens) for variant in variants]

    def look() -> None:
        nonlocal last
        now = placed([lane.state() for lane in lanes])
        if now != last:
            on_change(now)
        last = now

    for heat in [lanes] if turns == "together" else [[lane] for lane in lanes]:
        with ThreadPoolExecutor(max(len(heat), 1)) as pool, ExitStack() as models:
            for lane in heat:
                lane.status = LOADS
                look()
                lane.load(runtime, models, timeout_s)
            running: set[Future[None]] = {pool.submit(lane.ask) for lane in heat if lane.completion is None}
            while running:
                done, running = wait(running, 1 / UPDATES_PER_S)
                for future in done:
                    future.result()
                look()
        look()
    return RaceResult(prompt, turns, tuple(variants), tuple(lane.completion for lane in lanes if lane.completion))


class LiveAnswer:
    """Reads the chunks of an answer while its list of stamped bytes still grows; each byte is parsed once."""

    def __init__(self, arrivals: list[Arrival]) -> None:
        self._arrivals, self._seen, self._reader = arrivals, 0, AnswerReader()

    def look(self) -> list[Chunk]:
        """All chunks whose events are complete by now, without keys."""
        new = self._arrivals[self._seen :]
        self._seen += len(new)
        self._reader.feed(new)
        return list(without_keys(self._reader.chunks()))


class _Lane:
    """One model while it races."""

    status = WAITS
    completion: Completion | None = None

    def __init__(self, name: str, variant: ModelVariant, prompt: Prompt, max_tokens: int) -> None:
        self.name, self.variant = name, variant
        self._asked = Request(f"{variant.model_id}/{prompt.id}/race", variant, prompt.id, prompt.text, 1, max_tokens)
        self._arrivals: list[Arrival] = []
        self._live = LiveAnswer(self._arrivals)

    def load(self, runtime: Runtime, models: ExitStack, timeout_s: float) -> None:
        """Serve the model and warm it up, or end with the reason why that is not possible."""
        asked = self._asked
        try:
            served = models.enter_context(runtime.serve(self.variant))
        except WorkshopError as error:
            who = (self.variant.alias, self.variant.model_id, self.variant.device, asked.prompt_id, asked.round)
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            self.completion = Completion(asked.request_id, *who, now, error=str(error), error_kind="not_served")
            return
        self._client = models.enter_context(ChatClient.to(served, timeout_s=timeout_s))
        warm_up = replace(asked, prompt_id=WARM_UP.id, text=WARM_UP.text, round=0, max_tokens=WARM_UP_TOKENS)
        self._client.ask(warm_up)

    def ask(self) -> None:
        """Ask; runs in a thread of its own."""
        self.status = ASKED
        self.completion = self._client.ask(self._asked, arrivals=self._arrivals)

    def state(self) -> LaneState:
        """How far it is now."""
        if self.completion is not None:
            return finished(self.name, self.completion)
        return so_far(self.name, self._live.look()) if self.status == ASKED else LaneState(self.name, self.status)


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
    """What stands under a lane: while it writes, pieces of text are counted; at the end, the server's tokens."""
    measured, times, ended = lane.measures, lane.arrived_s, lane.completion is not None
    first, tokens, rate = measured.first_token_s, measured.tokens, None
    if ended and not lane.error and measured.time_per_output_token_s:
        rate = 1 / measured.time_per_output_token_s
    if times and (lane.error or not ended):
        first, tokens = times[0], len(times)
        rate = (tokens - 1) / (times[-1] - first) if not ended and times[-1] > first else None
    missing, unit = "not known" if ended else "…", "tokens" if measured.tokens_source == "usage" else "pieces"
    return {
        "First token": missing if first is None else duration(first),
        "Pace": f"{rate:,.{0 if rate >= 10 else 1}f} {unit}/s" if rate else missing,
        "Written": missing if tokens is None else f"{tokens:,} {unit.replace('pieces', 'pieces of text')}",
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
        said.append(HOW[result.turns])
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
        said.append(f"{started[0][0]} began first: first tokens after {waits}.")
    if all(each.tokens_source == "usage" for _, each in found) and len({each.tokens for _, each in found}) > 1:
        many = " and ".join(f"{each.tokens:,}" for _, each in found)
        said.append(f"In order of finishing they wrote {many} tokens: who writes less finishes sooner.")
    return said


# -- the page


def drawn(lanes: Sequence[LaneState], length_s: float, note: str = "") -> str:
    """The lanes at one moment as HTML: answers, a stroke per arrival on one clock of `length_s`, and figures."""
    shown = "".join(_lane(lane, length_s) for lane in lanes)
    return f'<div class="wr-track">{shown}</div><p class="wr-note">{escape(note)}</p>'


def _lane(lane: LaneState, length_s: float) -> str:
    name = escape(printable(lane.name))
    status = PLACES.get(lane.place or 0, lane.status) + (", and wrong" if lane.invented else "")
    look = f"wr-state{' wr-first' * (lane.place == 1)}{' wr-wrong' * bool(lane.invented)}"
    moments = lane.arrived_s[:: -(-len(lane.chunks) // STROKES) or 1]
    strokes = "".join(f"M{1 + 998 * at_s / (length_s or 1.0):.0f} 0V10" for at_s in moments)
    shown = "".join(f"<div><dt>{label}</dt><dd>{value}</dd></div>" for label, value in figures(lane).items())
    parts = [
        f'<div class="wr-head"><b><bdi>{name}</bdi></b><span class="{look}">{status}</span></div>',
        f'<div class="wr-text" {READABLE} aria-label="Answer of {name}">{escape(printable(lane.text))}</div>',
        f'<svg viewBox="0 0 1000 10" preserveAspectRatio="none" aria-hidden="true"><path d="{strokes}"/></svg>',
        f"<dl>{shown}</dl>",
        f'<p class="wr-error">{escape(one_line(lane.error))}</p>' if lane.error else "",
    ]
    return f'<section aria-label="{name}">{"".join(parts)}</section>'


def played(result: RaceResult) -> dict[str, Any]:
    """The end of a race with what it showed, and the pictures before it with the seconds for which they are played.

    `by_itself` is false where the reader has just seen the same, live.
    """
    lanes = result.lanes
    length_s = max((lane.arrived_s[-1] for lane in lanes if lane.chunks), default=0.0)
    factor = next((factor for factor in FACTORS if factor * length_s >= VISIBLE_S), FACTORS[-1])
    speed = f"Slow motion, {factor:,} times slower than it happened" if factor > 1 else "Replay at true speed"
    frames = []
    for number in range(FRAMES if length_s else 0):
        at_s = length_s * number / FRAMES
        seen = [[chunk for chunk in lane.chunks if chunk.at_s <= at_s] for lane in lanes]
        now = [
            lane if len(chunks) == len(lane.chunks) else so_far(lane.name, chunks)
            for lane, chunks in zip(lanes, seen, strict=True)
        ]
        frames.append(drawn(now, length_s, f"{speed}: {duration(at_s)} of {duration(length_s)}."))
    clock = f"Each stroke is a piece of text that arrived, on one clock from 0 to {duration(length_s)}."
    said = "".join(f"<p>{escape(printable(each))}</p>" for each in sentences(result))
    by_itself = result.turns == "in turns" or factor > 1
    shown = {"lanes": drawn(lanes, length_s, clock if length_s else ""), "said": said}
    return {**shown, "frames": frames, "play_s": factor * length_s, "by_itself": by_itself}


class RaceWidget(anywidget.AnyWidget):
    """A race as a widget. `view` is all that the page knows: HTML, the stage, and pictures to play at the end.

    `result` is the latest race; it has no lanes before there was one.
    """

    _esm = STATIC / "race.js"
    _css = STATIC / "race.css"
    view = traitlets.Dict().tag(sync=True)

    def __init__(self, runtime: Runtime, who: Pick, prompt: Prompt, **options: Any) -> None:
        self._race, self._options, self.result = (runtime, who.variants, prompt), options, RaceResult(prompt)
        asked, why = escape(printable(prompt.text)), escape(printable(who.why))
        self._head = (
            f'<div class="wr-prompt" {READABLE} aria-label="Question">{asked}</div><p class="wr-note">{why}</p>'
        )
        super().__init__(view={"stage": "ready", "head": self._head})
        self.on_msg(self._receive)

    def race(self) -> RaceResult:
        """Run the race, with every change on the page, and return what happened."""
        try:
            self.result = run_race(*self._race, on_change=self._show, **self._options)
        except BaseException:  # an interrupt: the page must not wait for an end that does not come
            self.view = {"stage": "ready", "head": self._head}
            raise
        self.view = {"stage": "over", "head": self._head, **played(self.result)}
        return self.result

    def _show(self, lanes: Sequence[LaneState]) -> None:
        latest = max((lane.arrived_s[-1] for lane in lanes if lane.chunks), default=0.0)
        html = drawn(lanes, latest, "Live: text is shown as it arrives.")
        self.view = {"stage": "running", "head": self._head, "lanes": html}

    def _receive(self, _: object, message: Mapping[str, Any], __: object) -> None:
        if message.get("turns") in HOW:
            self._options["turns"] = message["turns"]
            self.race()


def watch(runtime: Runtime, who: Pick, prompt: Prompt, **options: Any) -> RaceWidget:
    """Show a race in the notebook, run it at once, and return the widget, whose `result` is the latest race.

    `who` is what `pick` chose; the options are those of `run_race`: `max_tokens`, `turns`, `timeout_s`.
    """
    from IPython.display import display

    widget = RaceWidget(runtime, who, prompt, **options)
    display(widget)  # type: ignore[no-untyped-call]
    said = printable(" ".join([*sentences(widget.race()), "To watch a race, run this cell in JupyterLab."]))
    words = {"text/html": f'<p class="ws-race-in-words">{escape(said)}</p>', "text/plain": said}
    display(words, raw=True)  # type: ignore[no-untyped-call] # hidden where the widget lives
    return widget
