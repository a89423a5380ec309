"""A race on the screen: an anywidget that is told of every change while the models write, and plays the race again.

Whatever is shown comes from `race_view`; the page sends one command, to race again. Runtimes are only passed on.
"""

from __future__ import annotations

import html
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets

from workshop_lib.instrument.client import DEFAULT_TIMEOUT_S
from workshop_lib.measuring import racing
from workshop_lib.measuring.race import Pick, RaceState
from workshop_lib.showing import race_view
from workshop_lib.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workshop_lib.measuring.race import RaceResult, Turns
    from workshop_lib.records import Prompt
    from workshop_lib.runtimes.profiles import Runtime

STATIC = Path(__file__).resolve().parents[1] / "static"


class RaceWidget(anywidget.AnyWidget):
    """A race as a widget; where none can be shown, sentences say how it went.

    `view` is all that the page knows: what `race_view` says, the stage (`ready`, `running`, `over`), and a turn that
    rises with every race. A command given in an older turn was given twice and is not obeyed.
    """

    _esm = STATIC / "race.js"
    _css = STATIC / "race.css"
    view = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        runtime: Runtime,
        who: Pick,
        prompt: Prompt,
        *,
        max_tokens: int = 120,
        turns: Turns = "in turns",
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        self._lanes = racing.lanes_of(runtime, who.variants)
        self._prompt = prompt
        self._max_tokens = max_tokens
        self._turns: Turns = turns
        self._timeout_s = timeout_s
        self._turn = 0
        self._fixed = {"prompt": printable(prompt.text), "why": printable(who.why), "ways": race_view.TURNS}
        self._result: RaceResult | None = None
        super().__init__(view=self._shown("ready", race_view.view(RaceState(()), turns)))
        self.on_msg(self._receive)

    def __repr__(self) -> str:
        return " ".join(map(printable, race_view.in_words(self._result)))

    def in_words(self) -> str:
        """The latest race as HTML: what a saved page shows; where the widget lives, its style hides this."""
        sentences = "<br>".join(map(html.escape, map(printable, race_view.in_words(self._result))))
        return f'<p class="ws-race-in-words">{sentences}</p>'

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
            result = racing.run_race(
                self._lanes,
                self._prompt,
                max_tokens=self._max_tokens,
                turns=self._turns,
                timeout_s=self._timeout_s,
                on_change=self._show,
            )
        except BaseException:  # an interrupt: the page must not wait for an end that does not come
            self.view = self._shown("ready", race_view.view(RaceState(()), self._turns))
            raise
        self._result = result
        said = race_view.sentences(result)
        self.view = self._shown("over", race_view.finished_view(result), said)
        return result

    def _show(self, state: RaceState) -> None:
        self.view = self._shown("running", race_view.view(state, self._turns))

    def _shown(self, stage: str, shown: Mapping[str, Any], said: list[str] | None = None) -> dict[str, Any]:
        words = [printable(sentence) for sentence in said or []]
        return {**self._fixed, **shown, "stage": stage, "turn": self._turn, "said": words}

    def _receive(self, _: object, message: Mapping[str, Any], __: object) -> None:
        if message.get("command") != "race" or message.get("turn") != self._turn:
            return
        self._turns = next((turns for turns in race_view.TURNS if turns == message.get("turns")), self._turns)
        self.race()


def watch(runtime: Runtime, who: Pick, prompt: Prompt, **options: Any) -> RaceWidget:
    """Show a race in the notebook, run it at once, and return the widget, whose `result` is the latest race.

    Args:
        runtime: where the models are served.
        who: what `race.pick` chose.
        prompt: the question.
        options: those of `RaceWidget`: `max_tokens`, `turns` (`together` or `in turns`), `timeout_s`.

    Raises:
        ConfigurationError: `turns` is neither of the two.
    """
    from IPython.display import display

    widget = RaceWidget(runtime, who, prompt, **options)
    display(widget)  # type: ignore[no-untyped-call]
    widget.race()
    display({"text/html": widget.in_words(), "text/plain": repr(widget)}, raw=True)  # type: ignore[no-untyped-call]
    return widget
