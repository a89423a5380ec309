"""Who thought what of which answer: grades and preferences, as frozen values. Knows no models and no widgets.

A rater is a person (`ada`), the aspect check (`aspects`) or a model (`judge:<model id>`). An answer is known by its
prompt and the hash of its text, so that two models with the same answer share its grades, and a changed answer has
none.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Literal

Choice = Literal["a", "b", "tie", "both_bad"]


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer to judge: the models that gave it are kept apart, so that judging can be blind."""

    prompt_id: str
    text: str

    @property
    def sha256(self) -> str:
        """Hash of the answer's text."""
        return sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class Score:
    """A grade from 1 to 5 by one rater.

    Attributes:
        grade: 1 to 5; None when the rater gave none (an unparsable verdict is missing, never a number).
        rubric_version: the version of the rubric and prompt set under which it was given.
        scored_at: wall clock, ISO 8601 UTC.
        comment: free words of a person, or the reason that a model gave.
    """

    rater: str
    prompt_id: str
    answer_sha256: str
    grade: int | None
    rubric_version: str
    scored_at: str
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Preference:
    """Which of two answers to one prompt is better; `a` was shown first.

    `choice` None means that no verdict could be read.
    """

    rater: str
    prompt_id: str
    a_sha256: str
    b_sha256: str
    choice: Choice | None
    rubric_version: str
    scored_at: str
    comment: str = ""
