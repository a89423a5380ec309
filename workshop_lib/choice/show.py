"""What evidence and a decision show: sentences that claim no more than they carry, tables, figures, files, sliders."""

from __future__ import annotations

import html
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from itertools import chain, cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import ipywidgets
from matplotlib.patches import Patch

from workshop_lib import benchmark, data
from workshop_lib.choice.decide import (  # noqa: F401 - the checks and the evidence are for pages, beside what shows them
    CRITERIA,
    FEWEST_CLEAR,
    FLOORS,
    LIMITS,
    check_floors,
    check_limits,
    check_weights,
    clear_from,
    decide,
    front,
    gather_evidence,
    percent,
    sweep,
)
from workshop_lib.errors import WorkshopError
from workshop_lib.files import write_atomically
from workshop_lib.records import Run, key
from workshop_lib.show import style, text
from workshop_lib.show.table import Table
from workshop_lib.show.text import NOT_MEASURED, UNKNOWN, markdown, number, one_line, printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from workshop_lib.choice.decide import Criterion, Decision, Evidence, Outcome
    from workshop_lib.comparison import Estimate
    from workshop_lib.quality.scores import Kind

LINE, NOTE = 400, 4000
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442")
"""Okabe and Ito's, safe for the colour-blind; the order tells neighbours apart, and so does a hatch."""
HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "++++")
VERDICTS: dict[Outcome, str] = {
    "none": "Every model is excluded: {reasons}.",
    "tie": "{leaders} share the first place: nothing with a weight tells them apart.",
    "only": "{first} is the only model left, so nothing was compared.",
    "clear": "{first} comes first, in {share} of the draws of prompts.",
    "once": "{first} comes first, by figures that were measured once per model: nothing says how surely.",
    "few": "{first} comes first, but too few prompts ({prompts}) were asked to say how surely: "
    f"it takes {FEWEST_CLEAR}.",
    "slight": "{first} comes first, in {share} of the draws of prompts, but by so little that measuring again could "
    "change the order.",
    "trained": "{first} comes first, in {share} of the draws of prompts, but it was trained on these prompts: "
    "other prompts can change the order.",
    "unsure": "{first} comes first, but only in {exact:g} % of random draws of the prompts ({rival}): other "
    "prompts could change the order; with {prompts} prompts, it takes {enough:g} % to be clear.",
}
SIDES = {"lower": "at most", "higher": "at least"}
LABELS: dict[Kind, str] = {
    "people": "Mean grade by people (1-5)",
    "reference": "Mean reference grade (1-5)",
    "aspects": "Grade by the aspect check (1-5)",
    "judge": "Mean grade by a judge model (1-5)",
}


def names(known: Evidence) -> list[str]:
    """What each model is called: `alias · precision · device`."""
    called = text.names(known.rows)
    return [called[key(row)] for row in known.rows]


# -- sentences


def verdict(decision: Decision) -> str:
    """Which model comes first, and how sure that is."""
    called, excluded_by = names(decision.evidence), Counter(chain.from_iterable(decision.excluded.values()))
    order = [(called[each.place], each.best_share or 0.0) for each in decision.ranked]
    first, share = order[0] if order else ("", 0.0)
    rival = max(order[1:], key=lambda each: each[1], default=("", 0.0))
    sentence = VERDICTS[decision.outcome].format(
        reasons=", ".join(f"{count} by {limit}" for limit, count in excluded_by.most_common()),
        leaders=" and ".join(called[each.place] for each in decision.ranked if each.rank == 1),
        first=first,
        share=percent(share),
        exact=math.floor(1000 * share) / 10,
        rival=f"{rival[0]} in {percent(rival[1])}",
        enough=100 * (clear_from(decision.prompts) or 1.0),
        prompts=decision.prompts,
    )
    return one_line(sentence, LINE)


def sensitivity(decision: Decision) -> list[str]:
    """Which share of the weights would bring another model to the first place, one criterion at a time."""
    first = decision.first
    if first is None or len(decision.ranked) < 2 or len(decision.weights) < 2:
        return []
    said, firm, called = [], [], names(decision.evidence)
    for criterion, stretches in sweep(decision).items():
        label, others = CRITERIA[criterion].label, [each for each in stretches if each[2] != first.place]
        for start, end, place in others:
            share = f"{start} to {end} % of all weights instead of {100 * decision.share(criterion):.3g} %"
            said.append(f"If {label} had {share}, {called[place]} would come first.")
        firm += [] if others else [label]
    return said + ([f"No weight of {' or '.join(firm)} brings another model to the first place."] if firm else [])


def limits_set(limits: Mapping[str, float], licences: str = "", floors: Mapping[str, float] | None = None) -> list[str]:
    """Each limit and each floor that is set, in words."""
    said = [
        f"{which.label} {SIDES[which.better]} {which.say(limits[name])}"
        for name, which in LIMITS.items()
        if name in limits
    ]
    said += [f"licence: {licences}"] if licences.strip() else []
    return said + [
        f"{CRITERIA[name].label} good enough at {CRITERIA[name].say(at)}" for name, at in (floors or {}).items()
    ]


# -- tables


def sentences(decision: Decision) -> Table:
    """What a decision says: the verdict, how it depends on the weights, what to know of the figures."""
    said = [verdict(decision), *sensitivity(decision), *decision.remarks]
    return Table.of(([one_line(each, LINE)] for each in said), "what it says")


def evidence(found: Evidence) -> Table:
    """One line per model that answered: what was measured, with 95 % intervals over prompts, and the licence."""
    measured = [each for each in CRITERIA.values() if any(one.value is not None for one in found.figures[each.name])]
    lines = []
    for place, name in enumerate(names(found)):
        ranges = (_ranged(each, found.figures[each.name][place]) for each in measured)
        lines.append((name, *ranges, found.rows[place].licence or UNKNOWN))
    return Table.of(lines, "model", *map(_heading, measured), "licence")


def speed_and_quality(found: Evidence) -> Table:
    """One line per model, the fastest first: latency, mean grade by each kind of rater, and whether one beats it."""
    quality, latency, kinds = (
        CRITERIA["quality"],
        CRITERIA["latency"],
        [kind for kind in LABELS if kind in found.grades],
    )
    called, on_front, waits = names(found), front(found), found.figures["latency"]
    lines = []
    for place in sorted(range(len(called)), key=lambda place: waits[place].value or math.inf):
        kept, share = on_front[place]
        grades = (_ranged(quality, found.grades[kind][place]) for kind in kinds)
        beaten = UNKNOWN if found.figures["quality"][place].value is None else "no" if kept else "yes"
        sure = UNKNOWN if share is None else f"{percent(share)} of draws"
        lines.append((called[place], _ranged(latency, waits[place]), *grades, beaten, sure))
    headings = (f"{kind} (1-5)" for kind in kinds)
    return Table.of(lines, "model", _heading(latency), *headings, "beaten on both", "not beaten in")


def weights(given: Mapping[str, float]) -> Table:
    """One line per criterion: what a step of it is, what one is worth, and its share of all weights."""
    lines = []
    for name, which in CRITERIA.items():
        step = f"{'half' if which.better == 'lower' else 'twice'} the {which.label}"
        share = f"{100 * given.get(name, 0.0) / sum(given.values()):.3g} %"
        lines.append((which.label, "one grade" if which.per == "answer" else step, f"{given.get(name, 0.0):g}", share))
    return Table.of(lines, "criterion", "one step", "weight", "share")


def limits(decision: Decision) -> Table:
    """One line per model: kept, or excluded and why; one sentence where all are kept."""
    called = names(decision.evidence)
    if not decision.excluded:
        return Table.of([[f"All {len(called)} models keep every limit."]], "what the limits do")
    lines = []
    for place, name in enumerate(called):
        why = "; ".join(decision.excluded.get(place, {}).values())
        lines.append((name, "excluded" if why else "kept", why or "keeps every limit"))
    return Table.of(lines, "model", "verdict", "why")


def ranking(decision: Decision) -> Table:
    """One line per model that is left, the first first, with what has a weight, and how sure its place is."""
    known, called, counted = decision.evidence, names(decision.evidence), [CRITERIA[name] for name in decision.weights]
    lines = []
    for each in decision.ranked:
        figures = (which.number(known.values(which.name)[each.place]) for which in counted)
        share = UNKNOWN if each.best_share is None else percent(each.best_share)
        lines.append((each.rank, called[each.place], *figures, f"{each.behind:.2f}", share))
    return Table.of(lines, "rank", "model", *map(_heading, counted), "steps behind", "first in draws")


def by_task(run: Run, **choice: Any) -> Table:
    """Does the choice depend on the task? It is made for the prompts of this run and for those of another set.

    The other set is that of the newest other run, else of the shipped reference results. Of its models, only those of
    this run take part, where there are two or more. Without another set, the table says how to measure one.
    `choice` are the arguments of `decide` after its first.
    """
    here = data.set_of(run.prompts)
    runs = [(here or "your own", f"this run, {run.run_id}", run)]
    if found := benchmark.run_of_another_set(here):
        where, there = found
        mine = set.intersection(*({key(each) for each in benchmark.answered(one)} for one in (run, there)))
        shared = tuple(each for each in there.servings if key(each.variant) in mine)
        runs.append(
            (str(data.set_of(there.prompts)), where, replace(there, servings=shared) if len(mine) > 1 else there)
        )
    lines = []
    for prompt_set, where, one in runs:
        decision = decide(one, **choice)
        first = names(decision.evidence)[decision.first.place] if decision.first else "none alone"
        lines.append((prompt_set, where, len(decision.evidence.rows), first, verdict(decision)))
    if not found:
        other = "course" if here != "course" else data.TASK
        lines.append((other, "", 0, "", f"Not measured yet: python3 workshop.py run --prompt-set {other}"))
    return Table.of(lines, "prompts", "measured in", "models", "comes first", "how sure")


def _heading(which: Criterion) -> str:
    return f"{which.label} ({which.unit or '1-5'})"


def _ranged(which: Criterion, figure: Estimate) -> str:
    """A figure with its interval: `15 (14.2 to 15.5)`, in the heading's unit."""
    if figure.value is None:
        return NOT_MEASURED
    low, high = figure.low, figure.high
    between = "" if low is None or high is None else f" ({which.number(low)} to {which.number(high)})"
    return which.number(figure.value) + between


# -- figures


def speed_against_quality(found: Evidence) -> Figure:
    """Draw median latency (ms) against quality: bars are 95 % intervals over prompts, filled marks are the front."""
    latency, quality = found.figures["latency"], found.figures["quality"]
    graded = [place for place, figure in enumerate(quality) if figure.value is not None]
    spans = {place: (style.span(latency[place], 1000), style.span(quality[place])) for place in graded}
    drawn = {place: (across, up) for place, (across, up) in spans.items() if across and up}
    called, label, missing = names(found), LABELS[found.measure], len(found.rows) - len(drawn)
    points = {called[place]: (across[0], up[0]) for place, (across, up) in drawn.items()}
    figure, axes = style.plane(
        list(points),
        "Which model is fast and good?",
        "Better is up and to the left. Filled: beaten by none on both. Bars: 95 % intervals over prompts."
        + (f" Not graded: {missing}." if missing else ""),
    )
    waits = [each for across, _ in drawn.values() for each in across]
    style.scale(axes, "x", waits, "Latency (ms), median and interval")
    axes.set(ylim=(0.8, 5.2), yticks=range(1, 6), ylabel=label)
    on_front, said = front(found), dict[bool, list[str]]({True: [], False: []})
    for place, ((x, *left_right), (y, *low_high)) in sorted(drawn.items(), key=lambda each: each[1][0]):
        row, kept = found.rows[place], on_front[place][0]
        colour = style.colour_of(row.device)
        for across, up in ((left_right, [y, y]), ([x, x], low_high)):
            axes.plot(across, up, color=colour, lw=1.4, alpha=0.55, zorder=2)
        look: dict[str, Any] = {"marker": style.marker(row.precision), "linewidths": 1.4, "zorder": 4}
        look |= {"facecolors": colour if kept else style.PAPER, "edgecolors": style.PAPER if kept else colour}
        axes.scatter(x, y, s=80, **look)
        said[kept].append(f"{called[place]} {number(x)} ms, {number(y)}")
    style.name_points(axes, points)
    style.legend(figure, style.legend_entries([found.rows[place] for place in drawn]))
    best, beaten = ("; ".join(said[kept]) or "none" for kept in (True, False))
    figure.set_label(f"Latency against quality ({label}). Beaten by none on both: {best}. Beaten on both: {beaten}.")
    return figure


def weight_sensitivity(decision: Decision) -> Figure:
    """Draw one line per criterion that counts: which model leads at each share of the weights, and the share now."""
    found, called = sweep(decision), names(decision.evidence)
    figure, (axes,) = style.sheet(
        [CRITERIA[each].label for each in found],
        "Which model comes first as the weights change?",
        "One criterion's share grows, the others keep their proportions. The bar and the number: your weights.",
    )
    leaders = dict.fromkeys(place for stretches in found.values() for *_, place in stretches)
    looks: dict[int, dict[str, Any]] = {
        place: {"facecolor": colour, "hatch": hatch, "edgecolor": style.PAPER}
        for place, hatch, colour in zip(leaders, cycle(HATCHES), cycle(COLOURS), strict=False)
    }
    said = []
    for line, (criterion, stretches) in enumerate(found.items()):
        now = 100 * decision.share(criterion)
        for start, end, place in stretches:
            axes.barh(line, end - start + 1, left=start - 0.5, zorder=3, **looks[place])
        if not stretches:
            style.inside(axes, line, "no model is left")
        style.median_bar(axes, line, now)
        style.beside(axes, line, f"{now:.3g} %")
        parts = ", ".join(f"{called[place]} from {start} to {end} %" for start, end, place in stretches)
        said.append(f"{CRITERIA[criterion].label} (now {now:.3g} %): {parts or 'no model is left'}")
    axes.set(xlim=(0, 100), xlabel="Share of all weights (%)")
    entries = [Patch(label=one_line(called[place], 34), **look) for place, look in looks.items()]
    figure.legend(handles=entries, loc="lower left", ncols=3, fontsize=9, frameon=False, labelcolor=style.QUIET)
    figure.set_label(f"Which model comes first as each criterion's share of the weights changes. {'. '.join(said)}.")
    return figure


# -- the record


def record(decision: Decision, run: Run, *, note: str = "", decided_at: str = "") -> str:
    """A decision with its evidence as Markdown: what a reader needs to follow it, doubt it, or repeat it.

    `note` is quoted; `decided_at` is in ISO 8601.
    """
    first, known, called = decision.first, decision.evidence, names(decision.evidence)
    facts = {
        "Decided": decided_at,
        "Rests on": f"run {run.run_id}, profile {run.profile}",
        "Machine": text.machine_line(run),
        "Quality": f"mean grade from 1 to 5, by {known.measure}",
        "Licence": (first and first.row.licence) or "unknown: look it up before you ship the model",
    }
    parts = {
        "Candidates": evidence(known).markdown(),
        "Limits, and what is good enough": _bullets(limits_set(decision.limits, decision.licences, decision.floors)),
        "Excluded, and why": _bullets(
            f"{called[place]}: {'; '.join(why.values())}" for place, why in decision.excluded.items()
        ),
        "Weights": weights(decision.weights).markdown(),
        "Order": ranking(decision).markdown(),
        "Weight sensitivity": _bullets(sensitivity(decision)),
        "What to know of the figures": _bullets(decision.remarks),
    }
    lines = [f"# Decision: {_text(called[first.place] if first else 'none')}", "", _text(verdict(decision)), ""]
    lines += [f"- **{fact}:** {_text(value)}" for fact, value in facts.items()]
    lines += ["", *(f"> {markdown(line)}" for line in printable(note)[:NOTE].splitlines())]
    return "\n".join([*lines, *(f"\n## {title}\n\n{text}" for title, text in parts.items())]) + "\n"


def decision_object(decision: Decision, run: Run) -> dict[str, Any]:
    """A decision as it stands in JSON: model id and name (null where none comes first), how sure, and the sentence."""
    first, called = decision.first, names(decision.evidence)
    return {
        "model_id": first and first.row.model_id,
        "label": first and called[first.place],
        "clear": decision.outcome == "clear",
        "sentence": verdict(decision),
        "prompt_set": run.prompt_set,
    }


def write(decision: Decision, run: Run, folder: Path, *, note: str = "") -> Path:
    """Write `decision.md` and `decision.json`, with the time in their names where they exist: nothing is overwritten.

    Returns the path of the Markdown. Raises as `files.write_atomically`.
    """
    now, called = datetime.now(UTC), names(decision.evidence)
    taken = any((folder / f"decision{ending}").exists() for ending in (".md", ".json"))
    path = folder / (f"decision-{now:%Y%m%dT%H%M%SZ}.md" if taken else "decision.md")
    order = [
        {
            "model_id": each.row.model_id,
            "label": called[each.place],
            "rank": each.rank,
            "steps_behind": round(each.behind, 4),
            "first_in_draws": each.best_share,
        }
        for each in decision.ranked
    ]
    when = now.isoformat(timespec="minutes")
    known = {
        **decision_object(decision, run),
        "run_id": run.run_id,
        "decided_at": when,
        "quality_by": decision.evidence.measure,
        "note": note[:NOTE],
        **{name: getattr(decision, name) for name in ("weights", "limits", "floors", "licences", "remarks")},
        "order": order,
        "excluded": {called[place]: list(why.values()) for place, why in decision.excluded.items()},
    }
    write_atomically(path.with_suffix(".json"), json.dumps(known, indent=2) + "\n")
    write_atomically(path, record(decision, run, note=note, decided_at=when))
    return path


def _text(value: object) -> str:
    """Untrusted text on one line of Markdown."""
    return markdown(one_line(str(value), LINE))


def _bullets(said: Iterable[str]) -> str:
    return "\n".join(f"- {_text(each)}" for each in said) or "none"


# -- sliders

LOOK = {"style": {"description_width": "13em"}, "layout": {"width": "30em"}}


class _KeepShortcutsAway(anywidget.AnyWidget):
    """Names each control of the box around it, and marks the focused one: JupyterLab's command keys leave it alone."""

    _esm = """
    function render({ el }) {
      const mark = ({ target }) => {
        target.setAttribute("data-lm-suppress-shortcuts", "true");
        const label = target.closest(".jupyter-widgets")?.querySelector("label")?.textContent;
        if (label && !target.hasAttribute("aria-label")) target.setAttribute("aria-label", label);
      };
      const find = () => {
        const box = el.closest(".ws-choice");
        if (box) box.addEventListener("focusin", mark);
        else if (!gone) requestAnimationFrame(find);
      };
      let gone = false;
      find();
      return () => { gone = true; };
    }
    export default { render };
    """


def bars(decision: Decision) -> str:
    """The order as bars in HTML: one step behind the first is half its length; then what is excluded, and why."""
    called = names(decision.evidence)
    lines = [
        (called[each.place], 20 * 2**-each.behind, "first" if each.rank == 1 else f"{each.behind:.2f} steps behind")
        for each in decision.ranked
    ]
    lines += [(called[place], 0.0, f"excluded: {'; '.join(why.values())}") for place, why in decision.excluded.items()]
    drawn = "".join(
        f"<span>{html.escape(name)}</span><span>"
        f'<span style="display:inline-block;height:.8em;width:{width:.2f}em;background:#3a8fd0"></span>'
        f" {html.escape(printable(said))}</span>"
        for name, width, said in lines
    )
    return f'<div style="display:grid;grid-template-columns:max-content 1fr;gap:.1em 1em">{drawn}</div>'


class ChoiceWidget(ipywidgets.VBox):  # type: ignore[misc]  # ipywidgets ships no types
    """The order of the models under the weights, limits and floors that the controls show, and a button to keep it.

    `decision` is where they begin, and then the last one that was possible; `problem` says why there is no newer one.
    The button writes the choice on this run into the folder.
    """

    def __init__(self, decision: Decision, run: Run, folder: Path, *, note: str = "") -> None:
        self.decision, self.problem, self._run, self._folder = decision, "", run, folder
        slider, number = (
            partial(ipywidgets.FloatSlider, max=max(10.0, *decision.weights.values())),
            ipywidgets.FloatText,
        )
        labels = {name: each.label for name, each in CRITERIA.items()}
        enough = {name: f"{labels[name]} good enough" for name in {**FLOORS, **decision.floors}}
        self.weights = _controls(slider, labels, decision.weights)
        self.limits = _controls(
            number, {name: f"{each.label} {SIDES[each.better]}" for name, each in LIMITS.items()}, decision.limits
        )
        self.floors = _controls(number, enough, decision.floors)
        self.note = ipywidgets.Text(note, placeholder="why, in your own words", description="note", **LOOK)
        self.button = ipywidgets.Button(description="Write down this choice", layout={"width": "15em"})
        self.button.on_click(self._write)
        self._said, self._shown, self._written = (ipywidgets.HTML() for _ in range(3))
        controls = (list(self.weights.values()), [*self.limits.values(), *self.floors.values()])
        columns = ipywidgets.HBox(list(map(ipywidgets.VBox, controls)))
        columns.layout.flex_flow = "row wrap"  # beside each other only where there is room
        hint = "Weights: what one step is worth. Limits and good enough: 0 means none; times in seconds."
        ending = [ipywidgets.HBox([self.note, self.button]), self._written, _KeepShortcutsAway()]
        super().__init__([ipywidgets.HTML(hint), columns, self._said, self._shown, *ending])
        self.add_class("ws-choice")
        for control in chain(*controls):
            control.observe(self._decide, names="value")
        self._show()

    def __repr__(self) -> str:
        return f"{verdict(self.decision)} Sliders need a running notebook: run this cell in JupyterLab."

    def _repr_mimebundle_(self, **options: Any) -> Mapping[str, Any]:
        return {**super()._repr_mimebundle_(**options), "text/plain": repr(self)}

    def _decide(self, _: object) -> None:
        parts = (self.weights, self.limits, self.floors)
        weights, limits, floors = ({name: each.value for name, each in part.items()} for part in parts)
        try:
            self.decision = decide(self.decision.evidence, weights, limits, self.decision.licences, floors=floors)
            self.problem = ""
        except WorkshopError as error:
            self.problem = str(error)
        self._show()

    def _write(self, _: object) -> None:
        try:
            path = write(self.decision, self._run, self._folder, note=self.note.value)
            both = f"{path.name} and {path.with_suffix('.json').name}"
            said = f"Written down: {both}, in the folder {path.parent.name}."
        except WorkshopError as error:
            said = str(error)
        self._written.value = _status(said)

    def _show(self) -> None:
        alarm = f"Not possible: {self.problem} Below is the last possible order. " if self.problem else ""
        self._said.value, self._written.value = _status(alarm + verdict(self.decision)), ""
        gaps = "<style>.ws-choice th, .ws-choice td { padding: 0 .6em }</style>"  # widgets' tables have none
        self._shown.value = gaps + bars(self.decision) + ranking(self.decision)._repr_html_()
        self.button.disabled = bool(self.problem)


def _controls(kind: Callable[..., Any], labels: Mapping[str, str], given: Mapping[str, float]) -> dict[str, Any]:
    return {name: kind(given.get(name, 0.0), description=label, **LOOK) for name, label in labels.items()}


def _status(said: str) -> str:
    return f'<p role="status" aria-live="polite">{html.escape(printable(said))}</p>'
