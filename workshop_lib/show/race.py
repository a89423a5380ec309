"""A race on the screen: a widget that shows it live and in slow motion, sentences, and the figure that remains.

The page gets a finished race as frames, each with its moment and its figures, so that it can play them at any speed and
computes nothing itself. Text of models is made visible-only here and inserted as text there.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets

from workshop_lib import race, timing
from workshop_lib.race import LaneState, Pick, RaceResult, Turns
from workshop_lib.show import style
from workshop_lib.show.text import one_line, printable
from workshop_lib.summary import WARNINGS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from workshop_lib.records import Prompt
    from workshop_lib.runtimes.profiles import Runtime

STATIC = Path(__file__).resolve().parents[1] / "static"
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
LOOKS = (("-", "o"), ("--", "s"), (":", "^"), ("-.", "D"))
"""Line and marker of each lane: lanes are told apart without colour, also where they share device and precision."""


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
        moments = [0.0, *_thinned(tuple(dict.fromkeys(last.arrived_s)))]
        frames.append([_frame(race.lane_at(last, completion, at_s), at_s) for at_s in moments])
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
        "status": PLACES.get(lane.place or 0, WORDS[lane.status]),
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
            result = race.run_race(*self._race, turns=self._turns, on_change=self._show, **self._options)
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

    `who` is what `race.pick` chose; the options are those of `race.run_race`: `max_tokens`, `turns`, `timeout_s`.
    """
    from IPython.display import display

    widget = RaceWidget(runtime, who, prompt, **options)
    display(widget)  # type: ignore[no-untyped-call]
    widget.race()
    said = f'<p class="ws-race-in-words">{html.escape(repr(widget))}</p>'  # hidden where the widget lives
    display({"text/html": said, "text/plain": repr(widget)}, raw=True)  # type: ignore[no-untyped-call]
    return widget


# -- the figure


def race_figure(result: RaceResult, *, theme: style.Theme = "light") -> Figure:
    """Draw the pieces of text that had arrived against time (ms), a line per lane, its first token ringed."""
    colours, lanes, seen = style.PALETTES[theme], result.lanes, set[str]()
    drawn: dict[str, tuple[LaneState, dict[str, str]]] = {}
    for place, (lane, variant) in enumerate(zip(lanes, result.variants, strict=True)):
        line, shape = LOOKS[place % len(LOOKS)]
        colour = colours.ink if variant.device in seen else colours.device(variant.device)
        seen.add(variant.device)
        pace = "did not finish" if lane.error else figures(lane)["Pace"]
        if lane.arrived_s:
            drawn[one_line(f"{lane.name}: {pace}", 62)] = (lane, {"color": colour, "linestyle": line, "marker": shape})
    failed = [f"{lane.name} did not finish: {lane.error}" for lane in lanes if lane.error]
    subtitle = "Further left starts sooner, steeper writes faster, and where a line ends, so does the answer."
    subtitle = one_line((*failed, subtitle)[0], style.SUBTITLE_LETTERS)
    figure, axes = style.plane(list(drawn), "Who writes first, and who writes faster?", subtitle, theme)
    ends = {label: (1000 * lane.arrived_s[-1], float(len(lane.arrived_s))) for label, (lane, _) in drawn.items()}
    longest, most = (max(values) for values in zip((0.0, 0.0), *ends.values(), strict=True))
    style.scale(axes, "x", [longest], "Time after each one's request (ms)")
    style.scale(axes, "y", [most], "Pieces of text that had arrived (number)")
    for lane, look in drawn.values():
        points = [(1000 * at_s, float(count)) for count, at_s in enumerate(lane.arrived_s, 1)]
        style.track(axes, points, look, every=-(-len(points) // 60))
        ring: dict[str, Any] = {"facecolors": "none", "edgecolors": look["color"], "linewidths": 1.6}
        axes.scatter(*points[0], s=130, zorder=4, clip_on=False, **ring)
    style.name_points(axes, ends, colours)
    style.legend(figure, [style.mark("o", colours.ink, "first token", filled=False)], colours)
    said = []
    for lane in lanes:
        first, pace, written, whole = figures(lane).values()
        said.append(f"{lane.name}: first token {first}, pace {pace}, written {written}, whole answer {whole}.")
    figure.set_label(" ".join(["A race over time.", *said, *sentences(result)]))
    return figure
