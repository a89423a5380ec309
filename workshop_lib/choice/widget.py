"""Sliders for weights and limits that order the models again from evidence gathered before: nothing is measured."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

import anywidget
import ipywidgets

from workshop_lib.choice import show
from workshop_lib.choice.decide import CRITERIA, LIMITS, decide
from workshop_lib.errors import WorkshopError
from workshop_lib.show.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workshop_lib.choice.decide import Decision

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
        return f"{show.verdict(self.decision)} Sliders need a running notebook: run this cell in JupyterLab."

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
        said = html.escape(printable(alarm + show.verdict(self.decision)))
        self._said.value = f'<p role="status" aria-live="polite">{said}</p>'
        shown = show.ranking(self.decision) if self.decision.ranked else show.limits(self.decision)
        self._shown.value = shown._repr_html_()
