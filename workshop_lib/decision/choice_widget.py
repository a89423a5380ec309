"""Sliders for weights and limits that order the models anew from evidence gathered before: nothing is measured.

Every control is a native one that Tab reaches; JupyterLab's single-key commands are kept away while one has the focus.
What cannot be (a negative limit, no weight at all) is said below the controls, and the last possible order stays. Knows
decisions. Knows no figures.
"""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

import anywidget
import ipywidgets

from workshop_lib.decision import choice, choice_tables, choice_words
from workshop_lib.decision import limits as bounds
from workshop_lib.decision.criteria import CRITERIA, criterion
from workshop_lib.decision.weights import Weights
from workshop_lib.errors import WorkshopError
from workshop_lib.show.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workshop_lib.decision.choice import Decision
    from workshop_lib.decision.evidence import Evidence
    from workshop_lib.decision.limits import Limits

HEAVIEST = 10.0
WIDE, LAYOUT = {"description_width": "13em"}, {"width": "30em"}
BOUND_LABELS = {
    "max_size_mb": "size at most (MB)",
    "max_first_token_s": "first token at most (s)",
    "max_latency_s": "p95 latency at most (s)",
    "max_memory_mb": "memory at most (MB)",
    "min_quality": "quality at least (1-5)",
}


class _KeepShortcutsAway(anywidget.AnyWidget):
    """An invisible neighbour: it names each control of the box around it, and keeps command keys away from it.

    The mark must be on the very element that has the focus: JupyterLab's commands match that one before its parents.
    """

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

    `decision` is the last one that was possible, `problem` what stands in the way of a newer one.

    Args:
        evidence: what `evidence.gather` found.
        given: weights to begin with.
        limits: limits to begin with; None = none.
    """

    def __init__(self, evidence: Evidence, given: Weights, limits: Limits | None = None) -> None:
        self._evidence = evidence
        self._licences = limits.licences if limits else ()
        self.weights = {each.name: _slider(each.label, given.of(each.name)) for each in CRITERIA}
        self.bounds = {name: _bound(name, limits) for name in BOUND_LABELS}
        self.decision: Decision = choice.decide(evidence, given, limits)
        self.problem = ""
        self._said = ipywidgets.HTML()
        self._shown = ipywidgets.HTML()
        hint = ipywidgets.HTML("Weights: what one step is worth. Limits: 0 means none.")
        columns = [ipywidgets.VBox(list(part.values())) for part in (self.weights, self.bounds)]
        super().__init__([hint, ipywidgets.HBox(columns), self._said, self._shown, _KeepShortcutsAway()])
        self.add_class("ws-choice")
        for control in (*self.weights.values(), *self.bounds.values()):
            control.observe(self._decide, names="value")
        self._show()

    def __repr__(self) -> str:
        return f"{choice_words.verdict(self.decision)} Sliders need a running notebook: run this cell in JupyterLab."

    def _repr_mimebundle_(self, **options: Any) -> Mapping[str, Any]:
        bundle: dict[str, Any] = super()._repr_mimebundle_(**options)
        return {**bundle, "text/plain": repr(self)}

    def _decide(self, _: object) -> None:
        try:
            given = Weights({name: slider.value for name, slider in self.weights.items()})
            limits = bounds.Limits(
                **{name: field.value or None for name, field in self.bounds.items()}, licences=self._licences
            )
            self.decision = choice.decide(self._evidence, given, limits)
            self.problem = ""
        except WorkshopError as error:
            self.problem = str(error)
        self._show()

    def _show(self) -> None:
        alarm = f"Not possible: {self.problem} Below is the last possible order. " if self.problem else ""
        self._said.value = (
            f'<p role="status" aria-live="polite">{_html(alarm + choice_words.verdict(self.decision))}</p>'
        )
        shown = choice_tables.ranking(self.decision) if self.decision.ranked else choice_tables.limits(self.decision)
        self._shown.value = shown._repr_html_()


def _slider(label: str, value: float) -> Any:
    most = max(HEAVIEST, value)
    return ipywidgets.FloatSlider(
        value=value, min=0.0, max=most, step=0.1, description=label, style=WIDE, layout=LAYOUT, readout_format=".1f"
    )


def _bound(name: str, limits: Limits | None) -> Any:
    value = getattr(limits, name) if limits else None
    tip = f"0 means no limit on {criterion(bounds.BOUNDS[name]).label}"
    return ipywidgets.FloatText(
        value=value or 0.0, description=BOUND_LABELS[name], tooltip=tip, style=WIDE, layout=LAYOUT
    )


def _html(text: str) -> str:
    return html.escape(printable(text))
