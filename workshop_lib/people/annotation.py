"""Judging answers, one at a time and blind: the session behind the widget, without a browser.

A session shows the distinct answers of a run to one rater in an order that a seed fixes. Every verdict is on disk
before the session knows it, so a session that is made again goes on where it stopped. Knows answers, the rubric and the
rater's file. Knows no widget and no models' names; `reveal` joins those at the end.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from workshop_lib import places
from workshop_lib.errors import ConfigurationError, WorkshopError
from workshop_lib.show.text import printable
from workshop_lib.verdicts import answers, assignments, rubric, score_files
from workshop_lib.verdicts.assignments import Mode
from workshop_lib.verdicts.scores import Choice, Preference, Score

if TYPE_CHECKING:
    from workshop_lib.records import Run
    from workshop_lib.verdicts.assignments import Item
    from workshop_lib.verdicts.score_files import Verdict

LONGEST_COMMENT = 2000


class JudgingError(WorkshopError):
    """A command that cannot be obeyed now, e.g. a grade after the end."""


def folder(output: str = "") -> Path:
    """Return the folder of the raters' files: in the folder `output`, or one that all runs share."""
    return (Path(output).resolve() if output else places.runs_folder()) / "annotations"


def checked_mode(mode: str) -> Mode:
    """Return the mode. Raises `ConfigurationError` for any other word."""
    for known in get_args(Mode):
        if mode == known:
            return mode  # type: ignore[return-value]  # one of the literals
    raise ConfigurationError(f"There is no mode {mode!r}.", f"Use {' or '.join(get_args(Mode))}.")


def clean_comment(typed: str) -> str:
    """Return a comment as it is kept: visible characters only, no space around, cut after 2,000."""
    return printable(typed).strip()[:LONGEST_COMMENT].rstrip()


class Session:
    """One rater's way through the answers of a run.

    Attributes:
        items: what is judged, in this rater's order; the same for the same run, seed and rater.
        position: the index of the current item; `len(items)` at the end.
        revealed: True once the models' names were shown; no verdict is taken after that.

    Args:
        seed: fixes which pairs are made and, with the rater's name, the order.

    Raises:
        ConfigurationError: an unusable name or mode.
        RecordFileError: the rater's file cannot be read.
    """

    def __init__(self, run: Run, folder: Path, *, rater: str = "me", mode: str = "rubric", seed: int = 20) -> None:
        self.run = run
        self.folder = folder
        self.mode = checked_mode(mode)
        self.seed = seed
        self.rubric = rubric.read_rubric()
        self.version = rubric.version_for(run.prompts, self.rubric)
        self._candidates = answers.candidates(run)
        self.switch(rater)

    def switch(self, rater: str) -> None:
        """Go on as another rater, where that one stopped.

        Raises:
            ConfigurationError: an unusable name; the rater stays as before.
            RecordFileError: that rater's file cannot be read; the rater stays as before.
        """
        file = score_files.ScoreFile(self.folder, rater)
        file.standing()
        self.file = file
        self.rater = file.rater
        self.items = assignments.items(self._candidates, self.mode, rater=self.rater, seed=self.seed)
        self.revealed = False
        self.refresh()
        self.position = self._first_open(0)

    def refresh(self) -> None:
        """Read the rater's file: another window may have written to it."""
        keys = {item.key(self.version) for item in self.items}
        self._standing = [each for each in self.file.standing() if score_files.key_of(each.verdict) in keys]
        self._current = {score_files.key_of(each): each for each in score_files.current(self._standing)}

    # -- what is to be seen

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
        return sum(_is_judged(verdict) for verdict in self._current.values())

    @property
    def skipped(self) -> int:
        """How many items were passed over, with or without a comment."""
        return len(self._current) - self.judged

    @property
    def finished(self) -> bool:
        """True when every item was judged or skipped; never for a run without answers."""
        return len(self._current) == self.total > 0

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """The current verdicts on these items, in the order in which they were given."""
        return tuple(self._current.values())

    def verdict(self, item: Item) -> Verdict | None:
        """Return the current verdict on an item."""
        return self._current.get(item.key(self.version))

    # -- commands

    def grade(self, grade: int, comment: str | None = None) -> None:
        """Grade the current answer from 1 to 5 and go on; an earlier comment stays unless another is given.

        Raises:
            JudgingError: no such grade, not this mode, the end is reached, or the models are revealed.
            RecordFileError: the verdict could not be saved.
        """
        if self.mode != "rubric" or grade not in rubric.GRADES:
            raise JudgingError(f"{grade!r} is no verdict here.", "Give 1 to 5 in the rubric mode.")
        self._save(replace(self._blank_score(comment), grade=grade))
        self._advance()

    def choose(self, choice: Choice, comment: str | None = None) -> None:
        """Say which of the two answers is better and go on. Raises as `grade`."""
        if self.mode != "pairwise" or choice not in get_args(Choice):
            raise JudgingError(f"{choice!r} is no verdict here.", "Give a, b, tie or both_bad in the pairwise mode.")
        self._save(replace(self._blank_preference(comment), choice=choice))
        self._advance()

    def skip(self, comment: str | None = None) -> None:
        """Pass over the current item: recorded as a verdict without a grade. Raises as `grade`."""
        self._save(self._blank(comment))
        self._advance()

    def comment(self, text: str) -> None:
        """Keep a comment on the current item beside its verdict, and stay there. Raises as `grade`."""
        before = self.verdict(self._present())
        if isinstance(before, Score):
            self._save(replace(self._blank_score(text), grade=before.grade))
        elif before is not None:
            self._save(replace(self._blank_preference(text), choice=before.choice))
        else:
            self._save(self._blank(text))

    def undo(self) -> None:
        """Take back the last verdict or comment in this session's items, and go there.

        Raises:
            JudgingError: nothing to take back, or the models are revealed.
            RecordFileError: it could not be saved.
        """
        self._check_blind()
        self.refresh()
        if not self._standing:
            raise JudgingError("There is nothing to take back.", "Give a verdict first.")
        last = self._standing[-1]
        self.file.take_back(last.line)
        self.refresh()
        key = score_files.key_of(last.verdict)
        self.position = next(n for n, item in enumerate(self.items) if item.key(self.version) == key)

    def next(self) -> None:
        """Go to the following item, judged or not; after the last one comes the end."""
        self.position = min(self.position + 1, self.total)

    def previous(self) -> None:
        """Go to the item before."""
        self.position = max(self.position - 1, 0)

    def to_skipped(self) -> None:
        """Go to the first item that was passed over; stay where there is none."""
        for number, item in enumerate(self.items):
            verdict = self.verdict(item)
            if verdict is not None and not _is_judged(verdict):
                self.position = number
                return

    def reveal(self) -> None:
        """End the blindness: no verdict is taken after this.

        Raises:
            JudgingError: something is still to be judged.
        """
        self.refresh()
        if not self.finished:
            left = self.total - len(self._current)
            raise JudgingError(f"{left} of {self.total} are still to be judged.", "Judge or skip them first.")
        self.revealed = True
        self.position = self.total

    # -- inside

    def _first_open(self, start: int) -> int:
        """Return the first item from `start` on, then from the beginning, that has no verdict."""
        order = [*range(start, self.total), *range(start)]
        return next((n for n in order if self.verdict(self.items[n]) is None), self.total)

    def _advance(self) -> None:
        self.position = self._first_open(self.position + 1)

    def _check_blind(self) -> None:
        if self.revealed:
            raise JudgingError("The models are revealed, so judging is over.", "Run the cell again to look back.")

    def _save(self, verdict: Verdict) -> None:
        self._check_blind()
        self.file.add(verdict)
        self.refresh()

    def _blank(self, comment: str | None) -> Verdict:
        return self._blank_score(comment) if self.mode == "rubric" else self._blank_preference(comment)

    def _blank_score(self, comment: str | None) -> Score:
        item = self._present()
        text = self._comment(item, comment)
        answer = item.shown[0].answer
        return Score(self.rater, answer.prompt_id, answer.sha256, None, self.version, score_files.now(), text)

    def _blank_preference(self, comment: str | None) -> Preference:
        item = self._present()
        text = self._comment(item, comment)
        a, b = (each.answer.sha256 for each in item.shown)
        return Preference(self.rater, item.prompt.id, a, b, None, self.version, score_files.now(), text)

    def _present(self) -> Item:
        if self.item is None:
            raise JudgingError("The end is reached: there is no answer to judge here.", "Go back to one.")
        return self.item

    def _comment(self, item: Item, comment: str | None) -> str:
        if comment is not None:
            return clean_comment(comment)
        before = self.verdict(item)
        return before.comment if before else ""


def _is_judged(verdict: Verdict) -> bool:
    return (verdict.grade if isinstance(verdict, Score) else verdict.choice) is not None
