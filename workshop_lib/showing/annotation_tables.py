"""Annotation as tables for a notebook: the rubric, the aspect check, who judged how much, and the models at the end.

Nothing here names a model before the current rater has finished. Knows sessions; knows no widget.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workshop_lib.people.annotation import JudgingError, Session
from workshop_lib.show.table import Table
from workshop_lib.show.text import printable
from workshop_lib.verdicts import answers, reveal, score_files
from workshop_lib.verdicts.scores import Preference, Score
from workshop_lib.verdicts.scoring import score_aspects

if TYPE_CHECKING:
    from workshop_lib.records import Run
    from workshop_lib.verdicts.score_files import Verdict

NOTHING = "Nothing is annotated yet"
LONGEST = 300
"""Characters of an answer in a table; the widget shows all of it."""


def rubric(session: Session) -> Table:
    """Return what each grade means."""
    lines = [(each.grade, each.name, each.meaning) for each in session.rubric.grades]
    return Table(lines, columns=["grade", "name", "meaning"])


def aspects(run: Run, prompt_id: str) -> Table:
    """Return, for each different answer to one prompt, which expected aspects it mentions and which not."""
    lines = []
    for candidate in answers.candidates(run):
        if candidate.prompt.id == prompt_id:
            score = score_aspects(candidate.answer.text, candidate.prompt)
            missing = [aspect.split("|")[0] for aspect in score.missing]
            lines.append(
                (
                    _cut(candidate.answer.text),
                    score.verdict,
                    ", ".join(score.evidence) or "—",
                    ", ".join(missing) or "—",
                    ", ".join(score.forbidden_found) or "—",
                )
            )
    return Table(lines, columns=["answer", "mentions", "words found", "missing, e.g.", "must not say"])


def progress(session: Session) -> Table:
    """Return one line per rater with verdicts on this session's items."""
    keys = {item.key(session.version)[:2] for item in session.items}
    wanted = Score if session.mode == "rubric" else Preference
    lines: dict[str, list[int]] = {}
    for verdict in score_files.read_all(session.folder):
        if isinstance(verdict, wanted) and score_files.key_of(verdict)[:2] in keys:
            counts = lines.setdefault(verdict.rater, [0, 0])
            counts[0 if _decided(verdict) else 1] += 1
    if not lines:
        return Table([(NOTHING, 0, 0)], columns=["rater", "judged", "without a verdict"])
    shown = [(printable(rater), *counts) for rater, counts in sorted(lines.items())]
    return Table(shown, columns=["rater", "judged", "without a verdict"])


def added(count: int) -> Table:
    """Return how many verdicts a CSV file added, in words."""
    said = (
        f"{count} new verdicts" if count else "No new verdict: the score and comment cells are empty, or known already"
    )
    return Table([said], columns=["from the spreadsheet"])


def models(session: Session) -> Table:
    """Reveal which model got what from this rater, or say how much is still to be judged."""
    try:
        session.reveal()
    except JudgingError as error:
        return _not_yet(error)
    if session.mode == "rubric":
        scores = [each for each in session.verdicts if isinstance(each, Score)]
        lines = [
            (printable(each.model), "no grade" if each.mean is None else round(each.mean, 2), each.n)
            for each in reveal.mean_grades(session.run, scores)
        ]
        return Table(lines, columns=["model", "mean grade", "n"])
    preferences = [each for each in session.verdicts if isinstance(each, Preference)]
    counted = [
        (printable(each.model), each.won, each.tied, each.lost, each.both_bad)
        for each in reveal.choices(session.run, preferences)
    ]
    return Table(counted, columns=["model", "won", "tied", "lost", "both bad"])


def revealed(session: Session) -> Table:
    """Reveal which model gave which answer, with this rater's verdicts, or say how much is still to be judged."""
    try:
        session.reveal()
    except JudgingError as error:
        return _not_yet(error)
    lines = [
        (
            item.prompt.id,
            "\n".join(printable(reveal.authors(each)) for each in item.shown),
            "\n".join(_cut(each.answer.text) for each in item.shown),
            _word(session.verdict(item)),
        )
        for item in session.items
    ]
    return Table(lines, columns=["prompt", "model", "answer", "verdict"])


def _not_yet(error: JudgingError) -> Table:
    return Table([(error.what, error.fix)], columns=["the models stay hidden", "what to do"])


def _decided(verdict: Verdict) -> bool:
    return (verdict.grade if isinstance(verdict, Score) else verdict.choice) is not None


def _word(verdict: Verdict | None) -> str:
    value = None if verdict is None else verdict.grade if isinstance(verdict, Score) else verdict.choice
    return "skipped" if value is None else str(value)


def _cut(text: str) -> str:
    shown = printable(text)
    return shown if len(shown) <= LONGEST else f"{shown[:LONGEST]}…"
