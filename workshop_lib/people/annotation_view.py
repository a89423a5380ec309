"""What the annotation widget shows and which commands it may give, as plain values. Knows no widget.

A view holds nothing that would end the blindness before the reveal: no model, and no hash. Text of models is made
visible-only here and inserted as text there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from workshop_lib.people.annotation import JudgingError
from workshop_lib.show.text import one_line, printable
from workshop_lib.verdicts import reveal, rubric
from workshop_lib.verdicts.scores import Preference, Score

if TYPE_CHECKING:
    from workshop_lib.people.annotation import Session
    from workshop_lib.verdicts.assignments import Item
    from workshop_lib.verdicts.score_files import Verdict

CHOICES = (
    ("a", "A", "A is better", "A"),
    ("b", "B", "B is better", "B"),
    ("tie", "T", "Tie", "equally good"),
    ("both_bad", "X", "Both bad", "neither is usable"),
)
"""A choice, its key, its name, and what it means."""

SHORT = 90
"""Characters of a question or an answer in the reveal."""

NAMES = {choice: name for choice, _, name, _ in CHOICES}


def obey(session: Session, message: Mapping[str, Any]) -> str:
    """Do what a message of the widget asks; return the sentence that says so, to be shown after it is done.

    Raises:
        JudgingError: an unknown command, or one that cannot be obeyed now.
        WorkshopError: it could not be saved.
    """
    command, value, draft = (message.get(key) for key in ("command", "value", "comment"))
    comment = draft if isinstance(draft, str) else None
    if command == "grade":
        session.grade(next((grade for grade in rubric.GRADES if str(grade) == str(value)), 0), comment)
        return f"Saved: grade {value}"
    if command == "choose":
        session.choose(str(value), comment)  # type: ignore[arg-type]  # the session checks it
        return f"Saved: {NAMES[str(value)]}"
    if command == "skip":
        session.skip(comment)
        return "Saved: skipped"
    if command == "comment":
        session.comment(str(value))
        return "Saved: comment"
    if command == "rater":
        session.switch(str(value))
        return f"Judging as {session.rater}"
    return _obey_plain(session, str(command))


def _obey_plain(session: Session, command: str) -> str:
    """Do a command that has no value."""
    plain: dict[str, tuple[Callable[[], None], str]] = {
        "undo": (session.undo, "Saved: taken back"),
        "next": (session.next, ""),
        "previous": (session.previous, ""),
        "skipped": (session.to_skipped, ""),
        "reveal": (session.reveal, "The models are revealed"),
    }
    if command not in plain:
        raise JudgingError(f"There is no command {command!r}.", "Use the buttons.")
    act, said = plain[command]
    act()
    return said


def view(session: Session) -> dict[str, Any]:
    """Return everything that is shown now."""
    item = session.item
    return {
        "rater": session.rater,
        "mode": session.mode,
        "stage": _stage(session),
        "position": session.position,
        "total": session.total,
        "judged": session.judged,
        "skipped": session.skipped,
        "finished": session.finished,
        "prompt": printable(item.prompt.text) if item else "",
        "answers": [printable(each.answer.text) for each in item.shown] if item else [],
        "verdict": _shown_verdict(session, item),
        "comment": _comment(session, item),
        "scale": scale(session),
        "revealed": _revealed(session) if session.revealed else None,
    }


def scale(session: Session) -> list[dict[str, str]]:
    """Return the verdicts to choose from: key, value, name and meaning."""
    if session.mode == "rubric":
        return [
            {"key": str(each.grade), "value": str(each.grade), "name": each.name, "meaning": each.meaning}
            for each in session.rubric.grades
        ]
    return [dict(zip(("value", "key", "name", "meaning"), each, strict=True)) for each in CHOICES]


def in_words(session: Session) -> str:
    """Return the state of a session in a sentence, where no widget can be shown."""
    what = "answers" if session.mode == "rubric" else "pairs of answers"
    return (
        f"{session.judged} of {session.total} {what} judged as {session.rater}. Judging here needs a running notebook: "
        "run this cell in JupyterLab, or fill in the CSV template."
    )


def _stage(session: Session) -> str:
    if session.total == 0:
        return "empty"
    if session.revealed:
        return "revealed"
    return "item" if session.item else "end"


def _shown_verdict(session: Session, item: Item | None) -> str | None:
    """Return the value of the current verdict, `skip` for one without a grade, None without any."""
    verdict = session.verdict(item) if item else None
    if verdict is None:
        return None
    value = verdict.grade if isinstance(verdict, Score) else verdict.choice
    return "skip" if value is None else str(value)


def _comment(session: Session, item: Item | None) -> str:
    verdict = session.verdict(item) if item else None
    return verdict.comment if verdict else ""


def _revealed(session: Session) -> dict[str, Any]:
    """Return the models and the answers with the models' names, as rows of texts."""
    answers = [
        [
            one_line(item.prompt.text, SHORT),
            "\n".join(one_line(each.answer.text, SHORT) for each in item.shown),
            "\n".join(printable(reveal.authors(each)) for each in item.shown),
            _in_a_word(session.verdict(item)),
        ]
        for item in session.items
    ]
    return {**_models(session), "answers": answers}


def _models(session: Session) -> dict[str, Any]:
    if session.mode == "rubric":
        scores = [each for each in session.verdicts if isinstance(each, Score)]
        lines = reveal.mean_grades(session.run, scores)
        rows = [
            [printable(each.model), "no grade" if each.mean is None else f"{each.mean:.2f}", str(each.n)]
            for each in lines
        ]
        return {"headings": ["Model", "Mean grade", "n"], "models": rows}
    preferences = [each for each in session.verdicts if isinstance(each, Preference)]
    counted = reveal.choices(session.run, preferences)
    rows = [[printable(each.model), *map(str, (each.won, each.tied, each.lost, each.both_bad))] for each in counted]
    return {"headings": ["Model", "Won", "Tied", "Lost", "Both bad"], "models": rows}


def _in_a_word(verdict: Verdict | None) -> str:
    if isinstance(verdict, Score):
        return "skipped" if verdict.grade is None else str(verdict.grade)
    if isinstance(verdict, Preference) and verdict.choice:
        return NAMES[verdict.choice]
    return "skipped"
