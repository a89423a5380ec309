"""The annotation session on the screen: an anywidget whose every state comes from Python, after the disk.

The page sends commands and draws what it is sent. That holds nothing that would end the blindness before the reveal: no
model, and no hash. Text of models is made visible-only here and inserted as text there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from workshop_lib.errors import WorkshopError
from workshop_lib.quality import annotation
from workshop_lib.quality.annotation import JudgingError, Session
from workshop_lib.quality.facts import check_answer
from workshop_lib.quality.scores import GRADES, Answer
from workshop_lib.show.text import printable

STATIC = Path(__file__).resolve().parents[1] / "static"
SHORT = 90
"""Characters of a question or an answer in the reveal."""


class AnnotationWidget(anywidget.AnyWidget):
    """One rater's session as a widget; where none can be shown, a sentence says how far it is.

    `view` is all that the page knows: what the function `view` returns, what was saved or went wrong, and a turn that
    rises with every answer to the page. A command of an older turn was meant for another item and is not carried out.
    """

    _esm = STATIC / "annotation.js"
    _css = STATIC / "annotation.css"
    view = traitlets.Dict().tag(sync=True)

    def __init__(self, session: Session) -> None:
        self._session = session
        self._turn = 0
        super().__init__(view=self._shown())
        self.on_msg(self._receive)

    def __repr__(self) -> str:
        session = self._session
        what = "answers" if session.mode == "rubric" else "pairs of answers"
        return (
            f"{session.judged} of {session.total} {what} judged as {session.rater}. Judging here needs a running "
            "notebook: run this cell in JupyterLab, or fill in the CSV template."
        )

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        bundle = super()._repr_mimebundle_(**options)
        if bundle is not None:
            bundle[0]["text/plain"] = repr(self)
        return bundle

    def _receive(self, _: object, message: Mapping[str, Any], __: object) -> None:
        said = problem = ""
        if message["turn"] == self._turn:
            try:
                said = obey(self._session, message)
            except WorkshopError as error:
                problem = str(error)
        self._turn += 1
        self.view = self._shown(said, problem)

    def _shown(self, said: str = "", problem: str = "") -> dict[str, Any]:
        return {**view(self._session), "turn": self._turn, "said": said, "problem": printable(problem)}


def obey(session: Session, message: Mapping[str, Any]) -> str:
    """Do what a message of the page asks; return the sentence to show once it is done.

    Raises `JudgingError` where that is not possible now, other `WorkshopError` where it could not be saved.
    """
    text, comment = str(message.get("value")), message.get("comment")
    grade = int(text) if text in map(str, GRADES) else 0
    name = {step.value: step.name for step in session.scale}.get(text)
    commands: dict[str, tuple[Callable[[], None], str]] = {
        "grade": (lambda: session.judge(grade, comment), f"Saved: grade {text}"),
        "choose": (lambda: session.judge(text, comment), f"Saved: {name}"),
        "skip": (lambda: session.judge(None, comment), "Saved: skipped"),
        "comment": (lambda: session.comment(text), "Saved: comment"),
        "undo": (session.undo, "Saved: taken back"),
        "rater": (lambda: session.switch(text), "Judging as {rater}"),
        "next": (lambda: session.move(1), ""),
        "previous": (lambda: session.move(-1), ""),
        "skipped": (session.to_skipped, ""),
        "reveal": (session.reveal, "The models are revealed"),
    }
    if message["command"] not in commands:
        raise JudgingError(f"There is no command {message['command']!r}.", "Use the buttons.")
    act, said = commands[message["command"]]
    act()
    return said.format(rater=session.rater)


def view(session: Session) -> dict[str, Any]:
    """Everything that is shown now."""
    item, score = session.item, session.score(session.item)
    stage = "empty" if not session.total else "revealed" if session.revealed else "item" if item else "end"
    plain = ("rater", "mode", "position", "total", "judged", "skipped", "finished")
    return {
        **{name: getattr(session, name) for name in plain},
        "stage": stage,
        "prompt": printable(item[0].prompt.text) if item else "",
        "answers": [printable(answer.text) for answer in item or ()],
        "invented": [_invented(answer) for answer in item or ()],
        "verdict": None if score is None else "skip" if score.value is None else str(score.value),
        "comment": score.comment if score else "",
        "scale": [step._asdict() for step in session.scale],
        "revealed": _revealed(session) if session.revealed else None,
    }


def _invented(answer: Answer) -> list[list[int]]:
    """Where the answer states what the notes of its prompt do not hold, as characters of what is shown."""
    found = check_answer(answer.prompt.text, printable(answer.text))
    return [list(place) for place in found.places] if found else []


def _revealed(session: Session) -> dict[str, Any]:
    """Models and answers with the models' names, as rows of texts."""
    headings, models = annotation.reveal_models(session)
    return {
        "headings": [heading.capitalize() if len(heading) > 1 else heading for heading in headings],
        "models": [[f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in row] for row in models],
        "answers": [list(row) for row in annotation.reveal_answers(session, SHORT)],
    }
