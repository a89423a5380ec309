"""A race: models answer one question, one after the other or at the same time, and are watched while they write.

Whoever watches looks at the growing list of stamped bytes, at most 30 times a second and from another thread: the
thread that asks does nothing for it. At the end the figures of a lane are those of `timing`, as in a benchmark; before
it, only pieces of text are counted. The page gets a finished race as frames, each with its moment and its figures, so
that it can play them at any speed and computes nothing itself. `charts.race` draws what remains.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

import anywidget
import traitlets

from workshop_lib import timing
from workshop_lib.client import DEFAULT_TIMEOUT_S, ChatClient, without_keys
from workshop_lib.errors import WorkshopError
from workshop_lib.quality.facts import check_answer
from workshop_lib.records import Chunk, Completion, ModelVariant, Prompt, Request, TokensSource
from workshop_lib.runtimes.profiles import Runtime
from workshop_lib.show.text import key, names, one_line, printable
from workshop_lib.streams import AnswerReader, Arrival
from workshop_lib.summary import WARNINGS

Turns = Literal["together", "in turns"]
Status = Literal["waiting", "loading", "asked", "thinking", "writing", "done", "failed"]

UPDATES_PER_S = 30
"""As often as a page is worth redrawing; more would only take time from those who race."""
WARM_UP, WARM_UP_TOKENS = Prompt("warm-up", "Say hello."), 8
"""Another question than the race's, so that no server has that one in its prompt cache."""


@dataclass(frozen=True, slots=True)
class LaneState:
    """One model at one moment; each time is in seconds after its own request, None while it is not known.

    `thinking` means reasoning only. `arrived_s` says when each piece of text arrived, reasoning included. `tokens` are
    those written so far; `tokens_source` says `chunks` while pieces are counted, `usage` once the server said. `place`
    is 1 for the first that was done, also of several at once. `invented` is what an answer states beyond its notes.
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
    invented: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True)
class RaceResult:
    """What happened: one record per lane, in the lanes' order."""

    prompt: Prompt
    turns: Turns
    variants: tuple[ModelVariant, ...] = ()
    completions: tuple[Completion, ...] = ()

    @property
    def lanes(self) -> tuple[LaneState, ...]:
        """The lanes at the end, with the same figures as in a benchmark."""
        called = names(self.variants)
        ends = zip(self.variants, self.completions, strict=True)
        lanes = placed([finished(called[key(variant)], completion) for variant, completion in ends])
        checks = (check_answer(self.prompt.text, lane.text) for lane in lanes)
        return tuple(
            replace(lane, invented=check.unsupported if check else ())
            for lane, check in zip(lanes, checks, strict=True)
        )


class Pick(NamedTuple):
    """Who should race, and why these."""

    variants: tuple[ModelVariant, ...]
    why: str


def pick(variants: Sequence[ModelVariant], absent: Mapping[str, str] | None = None) -> Pick:
    """Choose two that are worth racing.

    A model that is here for CPU and GPU races itself, the largest such model if there are several. Else the smallest
    and the largest model of one precision race, so that they differ in size alone where that is possible.
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
    alike = ([each for each in ordered if each.precision == one.precision] for one in ordered)
    pairs = [(group[0], group[-1]) for group in alike if group[0].alias != group[-1].alias]
    ends = max(pairs or [(ordered[0], ordered[-1])], key=lambda pair: (pair[1].size_mb or 0) / (pair[0].size_mb or 1))
    reason = (absent or {}).get("gpu", "").partition(". ")[0].rstrip(".")
    return Pick(ends, f"{f'{reason}, so' if reason else 'Here'} the smallest and the largest model race.")


# -- how far a lane is


def so_far(name: str, chunks: Sequence[Chunk]) -> LaneState:
    """A lane that was asked and is not done: only pieces of text can be counted yet."""
    if not chunks:
        return LaneState(name, "asked")
    text = "".join(chunk.text for chunk in chunks if chunk.kind == "content")
    times = tuple(chunk.at_s for chunk in chunks)
    pace = (len(chunks) - 1) / (times[-1] - times[0]) if times[-1] > times[0] else None
    return LaneState(name, "writing" if text else "thinking", text, times, times[0], len(chunks), "chunks", pace)


def finished(name: str, completion: Completion) -> LaneState:
    """A lane at its end, by the definitions of `timing`; a failed one keeps what had arrived."""
    seen = so_far(name, completion.chunks)
    if completion.error is not None:
        return replace(seen, status="failed", tokens_per_s=None, error=completion.error)
    measured, pace = timing.measure(completion), timing.decode_tokens_per_s(completion)
    return replace(
        seen,
        status="done",
        first_token_s=measured.first_token_s,
        tokens=measured.tokens,
        tokens_source=measured.tokens_source,
        tokens_per_s=pace,
        latency_s=measured.latency_s,
    )


def placed(lanes: Sequence[LaneState]) -> tuple[LaneState, ...]:
    """The lanes with the places of those that are done; equal times share a place."""
    ends = sorted(lane.latency_s for lane in lanes if lane.latency_s is not None)
    return tuple(
        lane if lane.latency_s is None else replace(lane, place=1 + ends.index(lane.latency_s)) for lane in lanes
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
                lane.status = "loading"
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

    status: Status = "waiting"
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
        self.status = "asked"
        self.completion = self._client.ask(self._asked, arrivals=self._arrivals)

    def state(self) -> LaneState:
        """How far it is now."""
        if self.completion is not None:
            return finished(self.name, self.completion)
        if self.status == "asked":
            return so_far(self.name, self._live.look())
        return LaneState(self.name, self.status)


# -- in words

STATIC = Path(__file__).resolve().parent / "static"
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
PLACES = {1: "first", 2: "second", 3: "third"}
WORDS = {
    "waiting": "waits for its turn",
    "loading": "is loaded and warmed up",
    "asked": "no token yet",
    "thinking": "thinks, no visible token yet",
    "writing": "writes",
    "done": "done",
    "failed": "failed",
}


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
    missing = "not known" if lane.status in {"done", "failed"} else "…"
    unit, rate = "tokens" if lane.tokens_source == "usage" else "pieces", lane.tokens_per_s
    return {
        "First token": missing if lane.first_token_s is None else duration(lane.first_token_s),
        "Pace": f"{rate:,.{0 if rate >= 10 else 1}f} {unit}/s" if rate else missing,
        "Written": missing if lane.tokens is None else f"{lane.tokens:,} {unit.replace('pieces', 'pieces of text')}",
        "Whole answer": missing if lane.latency_s is None else duration(lane.latency_s),
    }


def sentences(result: RaceResult) -> list[str]:
    """What the race showed, in sentences that claim no more than one request per model carries."""
    lanes = result.lanes
    done = sorted((lane for lane in lanes if lane.latency_s is not None), key=lambda lane: lane.latency_s or 0.0)
    said = _order(done) if len(done) > 1 else []
    said += [f"{lane.name} did not finish: {one_line(lane.error)}" for lane in lanes if lane.error]
    for lane in lanes:
        if lane.invented:
            said.append(f"{lane.name} states what is not in the notes: {', '.join(map(one_line, lane.invented))}.")
    for lane, completion in zip(lanes, result.completions, strict=True):
        if timing.is_prompt_cached(completion):
            said.append(f"{lane.name}: {WARNINGS['cached_prompt']}")
        if lane.tokens_per_s is None and timing.has_burst(completion):
            said.append(f"{lane.name}: {WARNINGS['bursts']}")
    if len(lanes) > 1:
        said.append(HOW[result.turns])
    return [*said, "One question is an anecdote; only a benchmark can say how sure this is."] if done else said


def _order(done: Sequence[LaneState]) -> list[str]:
    """Who finished and who began to write first, and a caution where the answers differ in length."""
    first, last = done[0], done[-1]
    ratio = (last.latency_s or 0.0) / (first.latency_s or 1.0)
    took = f"took {ratio:.1f} times as long, {duration(last.latency_s)}"
    said = [f"{first.name} finished first, after {duration(first.latency_s)}; {last.name} {took}."]
    if all(lane.first_token_s is not None for lane in done):
        started = sorted(done, key=lambda lane: lane.first_token_s or 0.0)
        waits = " and ".join(duration(lane.first_token_s) for lane in started)
        said.append(f"{started[0].name} had the first token first: {waits}.")
    if all(lane.tokens_source == "usage" for lane in done) and len({lane.tokens for lane in done}) > 1:
        many = " and ".join(f"{lane.tokens:,}" for lane in done)
        said.append(f"They wrote {many} tokens, in this order: who writes less finishes sooner.")
    return said


# -- what the page gets


def view(lanes: Sequence[LaneState], turns: Turns) -> dict[str, Any]:
    """The lanes of a race that is still running."""
    latest = max((lane.arrived_s[-1] for lane in lanes if lane.arrived_s), default=0.0)
    return {"turns": turns, "length_s": latest, "lanes": list(map(_lane, lanes)), "replay": None}


def finished_view(result: RaceResult) -> dict[str, Any]:
    """The lanes at the end, and the frames to play the race from its start, slow enough to be seen."""
    lanes, shown = result.lanes, view(result.lanes, result.turns)
    factor = next((factor for factor in FACTORS if factor * shown["length_s"] >= VISIBLE_S), FACTORS[-1])
    frames = []
    for last, completion in zip(lanes, result.completions, strict=True):
        *moments, end = [0.0, *_thinned(tuple(dict.fromkeys(last.arrived_s)))]
        seen = [(at_s, [chunk for chunk in completion.chunks if chunk.at_s <= at_s]) for at_s in moments]
        frames.append([*(_frame(so_far(last.name, chunks), at_s) for at_s, chunks in seen), _frame(last, end)])
    if shown["length_s"]:
        by_itself = result.turns == "in turns" or factor > 1
        shown["replay"] = {"factor": factor, "factors": list(FACTORS), "by_itself": by_itself, "frames": frames}
    return shown


def _lane(lane: LaneState) -> dict[str, Any]:
    fixed = {"name": printable(lane.name), "text": printable(lane.text), "error": one_line(lane.error or "")}
    return {**fixed, "strokes": _thinned(lane.arrived_s), **_frame(lane, lane.latency_s or 0.0)}


def _frame(lane: LaneState, at_s: float) -> dict[str, Any]:
    """What changes in a lane while it writes; `letters` is how much of its text is there."""
    return {
        "at_s": at_s,
        "letters": len(printable(lane.text)),
        "status": PLACES.get(lane.place or 0, WORDS[lane.status]) + (", and wrong" if lane.invented else ""),
        "wrong": bool(lane.invented),
        "place": lane.place,
        "ended": lane.status in {"done", "failed"},
        "figures": list(figures(lane).items()),
    }


def _thinned(moments: Sequence[float]) -> list[float]:
    """At most `MOST_FRAMES` of the moments, the last one among them."""
    step = -(-len(moments) // MOST_FRAMES) or 1
    return list(moments[::-step][::-1])


# -- the widget


class RaceWidget(anywidget.AnyWidget):
    """A race as a widget; where none can be shown, sentences say how it went.

    `view` is all that the page knows: the lanes, the stage (`ready`, `running`, `over`), and a turn that rises with
    every race. A command given in an older turn was given twice and is not obeyed.
    """

    _esm = STATIC / "race.js"
    _css = STATIC / "race.css"
    view = traitlets.Dict().tag(sync=True)

    def __init__(
        self, runtime: Runtime, who: Pick, prompt: Prompt, *, turns: Turns = "in turns", **options: Any
    ) -> None:
        self._race = (runtime, who.variants, prompt)
        self._options, self._turns, self._turn = options, turns, 0
        self._fixed = {"prompt": printable(prompt.text), "why": printable(who.why), "ways": TURNS}
        self._result: RaceResult | None = None
        super().__init__(view=self._shown("ready", view((), turns)))
        self.on_msg(self._receive)

    def __repr__(self) -> str:
        said = [] if self._result is None else sentences(self._result)
        return " ".join(map(printable, [*said, "To watch a race, run this cell in JupyterLab."]))

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        bundle = super()._repr_mimebundle_(**options)
        if bundle is not None:
            bundle[0]["text/plain"] = repr(self)
        return bundle

    @property
    def result(self) -> RaceResult:
        """The latest race; it is run now if there was none."""
        return self._result or self.race()

    def race(self) -> RaceResult:
        """Run the race, with every change on the page, and return what happened."""
        self._turn += 1
        try:
            result = run_race(*self._race, turns=self._turns, on_change=self._show, **self._options)
        except BaseException:  # an interrupt: the page must not wait for an end that does not come
            self.view = self._shown("ready", view((), self._turns))
            raise
        self._result = result
        self.view = self._shown("over", finished_view(result), sentences(result))
        return result

    def _show(self, lanes: Sequence[LaneState]) -> None:
        self.view = self._shown("running", view(lanes, self._turns))

    def _shown(self, stage: str, shown: Mapping[str, Any], said: Sequence[str] = ()) -> dict[str, Any]:
        words = list(map(printable, said))
        return {**self._fixed, **shown, "stage": stage, "turn": self._turn, "said": words}

    def _receive(self, _: object, message: Mapping[str, Any], __: object) -> None:
        if message.get("command") == "race" and message.get("turn") == self._turn:
            self._turns = next((turns for turns in TURNS if turns == message.get("turns")), self._turns)
            self.race()


def watch(runtime: Runtime, who: Pick, prompt: Prompt, **options: Any) -> RaceWidget:
    """Show a race in the notebook, run it at once, and return the widget, whose `result` is the latest race.

    `who` is what `pick` chose; the options are those of `run_race`: `max_tokens`, `turns`, `timeout_s`.
    """
    from IPython.display import display

    widget = RaceWidget(runtime, who, prompt, **options)
    display(widget)  # type: ignore[no-untyped-call]
    widget.race()
    said = f'<p class="ws-race-in-words">{html.escape(repr(widget))}</p>'  # hidden where the widget lives
    display({"text/html": said, "text/plain": repr(widget)}, raw=True)  # type: ignore[no-untyped-call]
    return widget
