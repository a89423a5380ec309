"""Judging answers one at a time and blind: the session behind the widget and the spreadsheet.

A session shows the distinct answers of a run to one rater. The order is drawn by chance, but is the same again for the
same seed and name. Every verdict is on disk before the session knows it, so a new session goes on where the last one
stopped. Models are named by `reveal_models` and `reveal_answers`, at the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, get_args

from workshop_lib import places
from workshop_lib.errors import ConfigurationError, WorkshopError
from workshop_lib.quality import scores
from workshop_lib.quality.scores import CHOICES, GRADES, Answer, AnswerKey, ScoreFile, Verdict
from workshop_lib.records import ModelVariant, Run
from workshop_lib.show.text import one_line, printable

Mode = Literal["rubric", "pairwise"]
LONGEST_COMMENT = 2000
CHOICE_NAMES = {"a": "A is better", "b": "B is better", "tie": "Tie", "both_bad": "Both bad"}


class JudgingError(WorkshopError):
    """A command that is not possible now, e.g. a grade after the end."""


@dataclass(frozen=True, slots=True)
class Item:
    """What is judged at once: one answer, or two of which the first is called A."""

    shown: tuple[Answer, ...]

    def key(self, version: str) -> tuple[str, ...]:
        """The `key` of verdicts on it."""
        return version, self.shown[0].prompt.id, *(answer.sha256 for answer in self.shown)


def draw_items(answers: Iterable[Answer], mode: Mode, *, rater: str, seed: int) -> tuple[Item, ...]:
    """A rater's items: those of one prompt together, prompts and items in drawn order.

    Pairs form a circle through the answers to a prompt, which ranks all of them without asking for every pair. They are
    the same for all raters; their order, and which answer is called A, are the rater's own. The sides do not depend on
    the seed, so that a pair that is asked again is known again.
    """
    by_prompt: dict[str, list[Answer]] = {}
    for answer in answers:
        by_prompt.setdefault(answer.prompt.id, []).append(answer)
    items: list[Item] = []
    for mine in by_prompt.values():
        if mode == "rubric":
            items += [Item((answer,)) for answer in mine]
        else:
            circle = sorted(mine, key=lambda answer: _draw(seed, answer.key))
            closed = [*circle, circle[0]] if len(circle) > 2 else circle
            items += [Item(_sides(pair, rater)) for pair in pairwise(closed)]

    def place(item: Item) -> tuple[bytes, bytes]:
        return _draw(seed, rater, item.shown[0].prompt.id), _draw(seed, rater, sorted(item.key("")))

    return tuple(sorted(items, key=place))


def _sides(pair: tuple[Answer, Answer], rater: str) -> tuple[Answer, ...]:
    """The pair with the answer first that this rater sees as A."""
    both = sorted(answer.key for answer in pair)
    return tuple(sorted(pair, key=lambda answer: _draw(rater, both, answer.key)))


def _draw(*what: object) -> bytes:
    """A number as if drawn by chance, but the same on every system; so new answers do not move the others."""
    return sha256(repr(what).encode("utf-8", "backslashreplace")).digest()


def folder(output: str = "") -> Path:
    """The folder of the raters' files: in the folder `output`, or one that all runs share."""
    return (Path(output).resolve() if output else places.runs_folder()) / "annotations"


def clean_comment(typed: str) -> str:
    """A comment as it is kept: visible characters only, no space around, cut after 2,000."""
    return printable(typed).strip()[:LONGEST_COMMENT].rstrip()


class Session:
    """One rater's way through the answers of a run.

    Args:
        seed: fixes which pairs are made and, with the rater's name, the order.

    Attributes:
        items: what is judged, in this rater's order.
        position: the index of the current item; `len(items)` at the end.
        revealed: True once the models' names were shown; no verdict is taken after that.

    Raises:
        ConfigurationError: an unusable name or mode.
        RecordFileError: the rater's file cannot be read.
    """

    def __init__(self, run: Run, folder: Path, *, rater: str = "me", mode: str = "rubric", seed: int = 20) -> None:
        if mode not in get_args(Mode):
            raise ConfigurationError(f"There is no mode {mode!r}.", f"Use {' or '.join(get_args(Mode))}.")
        self.run = run
        self.folder = folder
        self.mode: Mode = mode  # type: ignore[assignment]  # checked above
        self.seed = seed
        self.rubric = scores.read_rubric()
        self.version = scores.version_for(run.prompts, self.rubric)
        self.answers = scores.distinct_answers(run)
        self.switch(rater)

    def switch(self, rater: str) -> None:
        """Go on as another rater, where that one stopped; after an error the rater stays as before. Raises as above."""
        file = ScoreFile(self.folder, rater)
        file.lines()
        self.file = file
        self.rater = file.rater
        self.items = draw_items(self.answers, self.mode, rater=self.rater, seed=self.seed)
        self.revealed = False
        self.refresh()
        self.position = self._first_open(0)

    def refresh(self) -> None:
        """Read the rater's file: another window may have written to it."""
        keys = {item.key(self.version) for item in self.items}
        self._lines = {line: verdict for line, verdict in self.file.lines().items() if verdict.key in keys}
        self.verdicts = scores.current(self._lines.values())
        self._current = {verdict.key: verdict for verdict in self.verdicts}

    # -- what there is to see

    @property
    def item(self) -> Item | None:
        """The current item; None at the end."""
        return self.items[self.position] if self.position < len(self.items) else None

    @property
    def total(self) -> int:
        """How many items there are."""
        return len(self.items)

    @property
    def judged(self) -> int:
        """How many items have a grade or choice."""
        return sum(verdict.value is not None for verdict in self.verdicts)

    @property
    def skipped(self) -> int:
        """How many items were passed over."""
        return len(self.verdicts) - self.judged

    @property
    def finished(self) -> bool:
        """True when every item was judged or skipped; never for a run without answers."""
        return len(self.verdicts) == self.total > 0

    def verdict(self, item: Item | None) -> Verdict | None:
        """The current verdict on an item."""
        return self._current.get(item.key(self.version)) if item else None

    # -- commands; each raises `JudgingError` if it is not possible now, `RecordFileError` if it could not be saved

    def judge(self, value: object, comment: str | None = None) -> None:
        """Give the current item a verdict and go on: 1 to 5, or `a`, `b`, `tie`, `both_bad` for a pair; None skips it.

        A comment given earlier stays unless there is a new one.
        """
        allowed: tuple[object, ...] = (*(GRADES if self.mode == "rubric" else CHOICES), None)
        if value not in allowed:
            fix = f"Give one of {', '.join(map(str, allowed[:-1]))} in the {self.mode} mode."
            raise JudgingError(f"{value!r} is no verdict here.", fix)
        self._save(value, comment)
        self.position = self._first_open(self.position + 1)

    def comment(self, text: str) -> None:
        """Keep a comment on the current item beside its verdict, and stay there."""
        before = self.verdict(self.item)
        self._save(before.value if before else None, text)

    def undo(self) -> None:
        """Take back the last verdict or comment in this session's items, and go there."""
        self._check_blind()
        self.refresh()
        if not self._lines:
            raise JudgingError("There is nothing to undo.", "Give a verdict first.")
        line, verdict = list(self._lines.items())[-1]
        self.file.undo(line)
        self.refresh()
        self.position = [item.key(self.version) for item in self.items].index(verdict.key)

    def next(self) -> None:
        """Go to the following item, judged or not; after the last one comes the end."""
        self.position = min(self.position + 1, self.total)

    def previous(self) -> None:
        """Go to the item before."""
        self.position = max(self.position - 1, 0)

    def to_skipped(self) -> None:
        """Go to the first item that was passed over; stay where there is none."""
        skipped = {verdict.key for verdict in self.verdicts if verdict.value is None}
        places = (number for number, item in enumerate(self.items) if item.key(self.version) in skipped)
        self.position = next(places, self.position)

    def reveal(self) -> None:
        """End the blindness: no verdict is taken after this. Only when everything was judged or skipped."""
        self.refresh()
        if not self.finished:
            left = self.total - len(self.verdicts)
            raise JudgingError(f"{left} of {self.total} are still to be judged.", "Judge or skip them first.")
        self.revealed = True
        self.position = self.total

    def _save(self, value: object, comment: str | None) -> None:
        self._check_blind()
        if self.item is None:
            raise JudgingError("This is the end: there is no answer to judge here.", "Go back to one.")
        before = self.verdict(self.item)
        text = clean_comment(comment) if comment is not None else before.comment if before else ""
        self.file.add(scores.verdict_on(self.item.shown, self.rater, value, self.version, text))
        self.refresh()

    def _check_blind(self) -> None:
        if self.revealed:
            raise JudgingError("The models are revealed, so judging is over.", "Run the cell again to look back.")

    def _first_open(self, start: int) -> int:
        """The first item from `start` on, then from the beginning, that has no verdict."""
        order = [*range(start, self.total), *range(start)]
        return next((place for place in order if self.verdict(self.items[place]) is None), self.total)


def model_name(variant: ModelVariant) -> str:
    """A model's name for people: alias, precision and device."""
    return printable(f"{variant.alias} · {variant.precision or 'unknown'} · {variant.device}")


def reveal_models(session: Session) -> tuple[tuple[str, ...], Sequence[tuple[object, ...]]]:
    """Headings, and one row per model, best first. An answer of several models counts for each of them."""
    keys: dict[str, list[AnswerKey]] = {}
    for answer in session.answers:
        for variant in answer.authors:
            keys.setdefault(model_name(variant), []).append(answer.key)
    if session.mode == "rubric":
        given: dict[tuple[str, ...], Any] = {verdict.key[1:]: verdict.value for verdict in session.verdicts}
        grades = {model: [given[key] for key in mine if given.get(key)] for model, mine in keys.items()}
        means = {model: round(fmean(mine), 2) if mine else None for model, mine in grades.items()}
        order = sorted(keys, key=lambda model: (-(means[model] or 0), model))
        rows = [(model, means[model] or "no grade", len(grades[model])) for model in order]
        return ("model", "mean grade", "n"), rows
    counts: Counter[tuple[str, AnswerKey]] = Counter()
    for verdict in session.verdicts:
        for side, hashed in zip("ab", verdict.key[2:], strict=True):
            outcome = {side: "won", "tie": "tied", "both_bad": "both bad", "None": ""}.get(str(verdict.value), "lost")
            counts[outcome, (verdict.key[1], hashed)] += 1
    headings = ("won", "tied", "lost", "both bad")
    totals = {model: [sum(counts[name, key] for key in mine) for name in headings] for model, mine in keys.items()}
    order = sorted(keys, key=lambda model: (-totals[model][0] / (sum(totals[model]) or 1), model))
    return ("model", *headings), [(model, *totals[model]) for model in order]


def reveal_answers(session: Session, letters: int) -> list[tuple[str, str, str, str]]:
    """Question, answer, model and verdict of each item; the first two cut to so many letters."""
    rows = []
    for item in session.items:
        verdict = session.verdict(item)
        value = None if verdict is None else verdict.value
        rows.append(
            (
                one_line(item.shown[0].prompt.text, letters),
                "\n".join(one_line(answer.text, letters) for answer in item.shown),
                "\n".join(", ".join(map(model_name, answer.authors)) for answer in item.shown),
                "skipped" if value is None else CHOICE_NAMES.get(str(value), str(value)),
            )
        )
    return rows
