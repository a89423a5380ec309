"""What a decision shows: sentences that claim no more than it carries, tables, a figure, decision.md, and sliders."""

from __future__ import annotations

import html
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from itertools import chain, cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import ipywidgets
from matplotlib.patches import Patch

from workshop_lib.choice.decide import (
    CRITERIA,
    FEWEST_CLEAR,
    LIMITS,
    Criterion,
    Outcome,
    clear_from,
    decide,
    percent,
    sweep,
)
from workshop_lib.errors import WorkshopError
from workshop_lib.files import write_atomically
from workshop_lib.show import style, text
from workshop_lib.show.style import PALETTES, Theme
from workshop_lib.show.table import Table
from workshop_lib.show.text import NOT_MEASURED, UNKNOWN, markdown, one_line, printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from workshop_lib.choice.decide import Decision, Evidence
    from workshop_lib.comparison import Estimate
    from workshop_lib.records import Run

LINE, NOTE = 400, 4000
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442")
"""Okabe and Ito's, safe for the colour-blind; the order tells neighbours apart, and so does a hatch."""
HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "++++")
VERDICTS: dict[Outcome, str] = {
    "none": "Every model is excluded: {reasons}.",
    "tie": "{leaders} share the first place: nothing with a weight tells them apart.",
    "only": "{first} is the only model left, so nothing was compared.",
    "unknown": "{first} comes first, but there is too little data to say how surely: {reason}",
    "clear": "{first} comes first, in {share} of the draws of prompts.",
    "few": "{first} comes first, in {share} of the draws of prompts, but {prompts} prompts are too few to rely on "
    f"that: it takes {FEWEST_CLEAR}.",
    "slight": "{first} comes first, in {share} of the draws of prompts, but by so little that measuring again could "
    "change the order.",
    "trained": "{first} comes first, in {share} of the draws of prompts, but it was trained on these prompts: "
    "others can change the order.",
    "unsure": "{first} comes first, but only in {exact:g} % of the draws of prompts ({rival}): below {enough:g} %, "
    "which {prompts} prompts call for, other prompts could change the order.",
}


def names(known: Evidence) -> list[str]:
    """What each model is called: `alias · precision · device`."""
    called = text.names(known.rows)
    return [called[text.key(row)] for row in known.rows]


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
        reason=decision.reason,
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
    return said + ([f"No share of {' or '.join(firm)} brings another model to the first place."] if firm else [])


def limits_set(limits: Mapping[str, float], licences: str = "") -> list[str]:
    """Each limit that is set, in words."""
    side = {"lower": "at most", "higher": "at least"}
    said = [f"{LIMITS[name].label} {side[LIMITS[name].better]} {LIMITS[name].say(limits[name])}" for name in limits]
    return said + ([f"licence: {licences}"] if licences.strip() else [])


# -- tables


def sentences(decision: Decision) -> Table:
    """What a decision says: the verdict, how it depends on the weights, what to know of the figures."""
    said = [verdict(decision), *sensitivity(decision), *decision.remarks]
    return Table.of(([one_line(each, LINE)] for each in said), "what it says")


def evidence(found: Evidence) -> Table:
    """One line per model that answered: every criterion with its 95 % interval over prompts, and the licence."""
    lines = []
    for place, name in enumerate(names(found)):
        ranges = (_ranged(each, found.figures[each.name][place]) for each in CRITERIA.values())
        lines.append((name, *ranges, found.rows[place].licence or UNKNOWN))
    return Table.of(lines, "model", *map(_heading, CRITERIA.values()), "licence")


def weights(given: Mapping[str, float]) -> Table:
    """One line per criterion: what a step of it is, what one is worth, and its share of all weights."""
    values = [(each, given.get(each.name, 0.0)) for each in CRITERIA.values()]
    lines = ((each.label, _step(each), f"{weight:g}", f"{weight / sum(given.values()):.0%}") for each, weight in values)
    return Table.of(lines, "criterion", "one step", "weight", "share")


def limits(decision: Decision) -> Table:
    """One line per model: kept or excluded, and why."""
    whys = ["; ".join(decision.excluded.get(place, {}).values()) for place in range(len(decision.evidence.rows))]
    called = zip(names(decision.evidence), whys, strict=True)
    return Table.of(((name, "excluded" if why else "kept", why) for name, why in called), "model", "verdict", "why")


def ranking(decision: Decision) -> Table:
    """One line per model that is left, the first first, with what has a weight, and how sure its place is."""
    known, called, counted = decision.evidence, names(decision.evidence), [CRITERIA[name] for name in decision.weights]
    lines = []
    for each in decision.ranked:
        figures = (which.number(known.values(which.name)[each.place]) for which in counted)
        share = UNKNOWN if each.best_share is None else percent(each.best_share)
        lines.append((each.rank, called[each.place], *figures, f"{each.behind:.2f}", share))
    return Table.of(lines, "rank", "model", *map(_heading, counted), "steps behind", "first in draws")


def _heading(which: Criterion) -> str:
    return f"{which.label} ({which.unit or '1-5'})"


def _ranged(which: Criterion, figure: Estimate) -> str:
    """A figure with its interval: `15 (14.2 to 15.5)`, in the heading's unit."""
    if figure.value is None:
        return NOT_MEASURED
    low, high = figure.low, figure.high
    between = "" if low is None or high is None else f" ({which.number(low)} to {which.number(high)})"
    return which.number(figure.value) + between


def _step(which: Criterion) -> str:
    halved = "half the" if which.better == "lower" else "twice the"
    return "one grade" if which.step == "point" else f"{halved} {which.label}"


# -- the figure


def weight_sensitivity(decision: Decision, *, theme: Theme = "light") -> Figure:
    """Draw one line per criterion that counts: which model leads at each share of the weights, and the share now."""
    found, colours, called = sweep(decision), PALETTES[theme], names(decision.evidence)
    figure, (axes,) = style.sheet(
        [CRITERIA[each].label for each in decision.weights],
        "Which model comes first as the weights change?",
        "One criterion's share grows, the others keep their proportions. The bar and the number: your weights.",
        theme,
    )
    leaders = dict.fromkeys(place for stretches in found.values() for *_, place in stretches)
    looks = dict(zip(leaders, zip(cycle(HATCHES), cycle(COLOURS), strict=False), strict=False))
    said = []
    for line, criterion in enumerate(decision.weights):
        now = decision.share(criterion)
        for start, end, place in found[criterion]:
            hatch, colour = looks[place]
            look: dict[str, Any] = {"color": colour, "hatch": hatch, "edgecolor": colours.paper}
            axes.barh(line, end - start + 1, left=start - 0.5, zorder=3, **look)
        if not decision.ranked:
            style.inside(axes, line, "no model is left", colours)
        style.median_bar(axes, line, 100 * now, colours)
        style.beside(axes, line, f"{now:.0%}", colours)
        parts = [f"{called[place]} from {start}% to {end}%" for start, end, place in found[criterion]]
        said.append(f"{CRITERIA[criterion].label} (now {now:.0%}): {', '.join(parts) or 'no model is left'}")
    axes.set(xlim=(0, 100), xlabel="Share of all weights (%)")
    entries = [
        Patch(facecolor=colour, hatch=hatch, edgecolor=colours.paper, label=one_line(called[place], 34))
        for place, (hatch, colour) in looks.items()
    ]
    figure.legend(handles=entries, loc="lower left", ncols=3, fontsize=9, frameon=False, labelcolor=colours.quiet)
    figure.set_label(f"Which model comes first as each criterion's share of the weights changes. {'. '.join(said)}.")
    return figure


# -- the record


def record(decision: Decision, run: Run, *, records: Path | str, note: str = "", decided_at: str = "") -> str:
    """A decision with its evidence as Markdown: what a reader needs to follow it, doubt it, or repeat it.

    Of `records`, the file of the run, only the name is written; `note` is quoted; `decided_at` is in ISO 8601.
    """
    first, known, called = decision.first, decision.evidence, names(decision.evidence)
    facts = {
        "Decided": decided_at or datetime.now(UTC).isoformat(timespec="minutes"),
        "Rests on": f"run {run.run_id}, profile {run.profile}, file {Path(records).name}",
        "Machine": text.machine_line(run),
        "Quality": f"mean grade from 1 to 5, by {known.measure}",
        "Licence": (first and first.row.licence) or "unknown: look it up before you ship the model",
    }
    excluded = (f"{called[place]}: {'; '.join(reasons.values())}" for place, reasons in decision.excluded.items())
    parts = {
        "Candidates": evidence(known).markdown(),
        "Limits": _bullets(limits_set(decision.limits, decision.licences)),
        "Excluded, and why": _bullets(excluded),
        "Weights": weights(decision.weights).markdown(),
        "Order": ranking(decision).markdown(),
        "Weight sensitivity": _bullets(sensitivity(decision)),
        "What to know of the figures": _bullets(decision.remarks),
    }
    lines = [f"# Decision: {_text(called[first.place] if first else 'none')}", "", _text(verdict(decision)), ""]
    lines += [f"- **{fact}:** {_text(value)}" for fact, value in facts.items()]
    lines += ["", *(f"> {markdown(line)}" for line in printable(note)[:NOTE].splitlines())]
    return "\n".join([*lines, *(f"\n## {title}\n\n{text}" for title, text in parts.items())]) + "\n"


def write(text: str, folder: Path) -> Path:
    """Write a record as `decision.md`, or with the time in its name where that exists: nothing is overwritten."""
    path = folder / "decision.md"
    if path.exists():
        path = folder / f"decision-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.md"
    write_atomically(path, text)
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


class ChoiceWidget(ipywidgets.VBox):  # type: ignore[misc]  # ipywidgets ships no types
    """The order of the models under the weights and limits that the controls show.

    `decision` is where they begin, and then the last one that was possible; `problem` says why there is no newer one.
    """

    def __init__(self, decision: Decision) -> None:
        self.decision, self.problem = decision, ""
        most = max(10.0, *decision.weights.values())
        self.weights = {
            name: ipywidgets.FloatSlider(value, max=most, description=CRITERIA[name].label, **LOOK)
            for name, value in {**dict.fromkeys(CRITERIA, 0.0), **decision.weights}.items()
        }
        self.limits = {
            name: ipywidgets.FloatText(decision.limits.get(name, 0.0), description=name.replace("_", " "), **LOOK)
            for name in LIMITS
        }
        self._said, self._shown = ipywidgets.HTML(), ipywidgets.HTML()
        columns = ipywidgets.HBox([ipywidgets.VBox(list(part.values())) for part in (self.weights, self.limits)])
        hint = "Weights: what one step is worth. Limits: 0 means none."
        super().__init__([ipywidgets.HTML(hint), columns, self._said, self._shown, _KeepShortcutsAway()])
        self.add_class("ws-choice")
        for control in (*self.weights.values(), *self.limits.values()):
            control.observe(self._decide, names="value")
        self._show()

    def __repr__(self) -> str:
        return f"{verdict(self.decision)} Sliders need a running notebook: run this cell in JupyterLab."

    def _repr_mimebundle_(self, **options: Any) -> Mapping[str, Any]:
        return {**super()._repr_mimebundle_(**options), "text/plain": repr(self)}

    def _decide(self, _: object) -> None:
        weights, limits = ({name: each.value for name, each in part.items()} for part in (self.weights, self.limits))
        try:
            self.decision = decide(self.decision.evidence, weights, limits, self.decision.licences)
            self.problem = ""
        except WorkshopError as error:
            self.problem = str(error)
        self._show()

    def _show(self) -> None:
        alarm = f"Not possible: {self.problem} Below is the last possible order. " if self.problem else ""
        said = html.escape(printable(alarm + verdict(self.decision)))
        self._said.value = f'<p role="status" aria-live="polite">{said}</p>'
        shown = ranking(self.decision) if self.decision.ranked else limits(self.decision)
        self._shown.value = shown._repr_html_()
