"""A learner's answer against what this run gives: right, or what is wrong with it and where to look.

An answer may be anything that fits into a cell; nothing here raises because of one. Knows the values that answers are
compared with from `exercises`; knows no pages.
"""

from __future__ import annotations

import difflib
import html
from dataclasses import dataclass
from typing import Any

from workshop_lib.errors import ConfigurationError
from workshop_lib.teaching.diagnosis import Verdict, judge
from workshop_lib.teaching.exercises import EXERCISES

NOT_ANSWERED = "Put your answer in place of the three dots in the cell above, run it, then run this one again."


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a checkpoint cell shows: a verdict in words, and a sentence that says why."""

    exercise: str
    verdict: Verdict
    said: str

    @property
    def is_right(self) -> bool:
        """True for a right answer only."""
        return self.verdict == "right"

    def __repr__(self) -> str:
        return f"{self.verdict.capitalize()}. {self.said}"

    def _repr_html_(self) -> str:
        verdict, said = html.escape(self.verdict.capitalize()), html.escape(self.said)
        return f"<p><strong>{verdict}.</strong> {said}</p>"


def check(exercise: str, answer: object, evidence: Any) -> Checkpoint:
    """Compare an answer with what the evidence gives.

    Args:
        exercise: a name of `exercises.EXERCISES`, e.g. `02-median-latency`.
        answer: what the learner's cell left behind; `...`, None and empty text mean that it is not filled yet.
        evidence: what the exercise is about: models on offer, a run, or one request.

    Raises:
        ConfigurationError: there is no such exercise; names the nearest.
    """
    if exercise not in EXERCISES:
        near = difflib.get_close_matches(exercise, EXERCISES, n=1, cutoff=0.0)
        raise ConfigurationError(f"There is no exercise {exercise!r}.", f"Did you mean {near[0]!r}?")
    if answer is ... or answer is None or (isinstance(answer, str) and not answer.strip()):
        return Checkpoint(exercise, "not answered yet", NOT_ANSWERED)
    verdict, said = judge(answer, EXERCISES[exercise](evidence))
    return Checkpoint(exercise, verdict, said)
