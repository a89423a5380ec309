"""Quality as tables and sentences for people. What is undefined says why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from workshop_lib.comparison import Estimate
from workshop_lib.quality import scores
from workshop_lib.quality.agreement import Agreement
from workshop_lib.quality.annotation import Session
from workshop_lib.quality.aspects import score_aspects
from workshop_lib.quality.facts import check_answer
from workshop_lib.records import Run
from workshop_lib.show.table import Table
from workshop_lib.show.text import printable

NO_NOTES = "The prompt holds no notes to compare the answer with."
LONGEST = 300
"""Characters of an answer in a table; the widget shows all of it."""


def rubric(session: Session) -> Table:
    """What each grade means."""
    lines = [(line.grade, line.name, line.meaning) for line in session.rubric.grades]
    return Table(lines, columns=["grade", "name", "meaning"])


def aspects(run: Run, prompt_id: str) -> Table:
    """For each different answer to one prompt, which expected aspects it mentions and which not."""
    lines = []
    for answer in (each for each in scores.distinct_answers(run) if each.prompt.id == prompt_id):
        found, said = score_aspects(answer.text, answer.prompt), printable(answer.text)
        missing = [aspect.split("|")[0] for aspect in found.missing]
        words = map(_listed, (found.evidence, missing, found.forbidden_found))
        lines.append((said if len(said) <= LONGEST else f"{said[:LONGEST]}…", found.verdict, *words))
    table = Table(lines, columns=["answer", "mentions", "words found", "missing, e.g.", "must not say"])
    return table if "forbidden" in set(table["mentions"]) else table.drop(columns="must not say")


def facts(run: Run, prompt_id: str) -> Table:
    """For each different answer to a prompt with notes, the facts it invents (underlined) and leaves out."""
    lines, places = [], {}
    for answer in (each for each in scores.distinct_answers(run) if each.prompt.id == prompt_id):
        said = printable(answer.text)
        if found := check_answer(answer.prompt.text, said, answer.prompt.aspects):
            places[said] = found.places
            lines.append((said, _listed(found.unsupported), _listed(found.missing)))
    return Table(lines or [(NO_NOTES, "—", "—")], columns=["answer", "not in the notes", "left out"]).underline(places)


def inventions(run: Run) -> Table:
    """Which model invents: one line per model over all its answers to prompts with notes."""
    answers = scores.distinct_answers(run)
    checked = [(each.authors, check_answer(each.prompt.text, each.text, each.prompt.aspects)) for each in answers]
    lines = []
    for model in dict.fromkeys(serving.variant for serving in run.servings):
        mine = [check for authors, check in checked if check and model in authors]
        invented = [len(check.unsupported) for check in mine]
        if mine:
            line = {
                "model": printable(model.alias),
                "precision": model.precision or "unknown",
                "device": model.device,
                "answers with an invented fact": f"{sum(map(bool, invented))} of {len(mine)}",
                "invented facts per answer": f"{sum(invented) / len(mine):.2f}",
                "expected facts left out": sum(len(check.missing) for check in mine),
            }
            lines.append(line)
    return Table(lines or [{"which model invents": NO_NOTES}])


def agreements(found: Sequence[Agreement]) -> Table:
    """One line per two raters with answers in common: how many, alpha, and what follows; the others on a last line."""
    lines, apart = [], [each for each in found if not each.n]
    for each in (each for each in found if each.n):
        figure = "none" if each.low is None else f"{each.value:.2f}"  # of too few answers alpha says nothing
        value = "undefined" if each.value is None else figure
        lines.append((" and ".join(each.raters), each.n, value, each.interval, each.follows))
    if apart:
        raters = "; ".join(" and ".join(each.raters) for each in apart)
        lines.append((raters or "none", 0, "none", "none", str(apart[0].reason)))
    return Table.of(lines, "raters", "shared answers", "alpha", "95 % CI", "what follows")


def _listed(words: Iterable[str]) -> str:
    return ", ".join(words) or "—"


def ranged(figure: Estimate, decimals: int, *, factor: float = 1.0) -> str:
    """A figure with its interval: `3.4 (2.9 to 4.0)`; without one, the figure alone."""
    if figure.value is None:
        return "not measured"
    if figure.low is None or figure.high is None:
        return f"{figure.value * factor:.{decimals}f} (no interval)"
    low, high = (f"{bound * factor:.{decimals}f}" for bound in (figure.low, figure.high))
    return f"{figure.value * factor:.{decimals}f} ({low} to {high})"
