"""Reference grades of the practice models' answers: who or what read them, when and how, and two readings of each.

`data/reference/practice/scores.json`:
`{"schema": 1, "rubric_version": …, "read_by": …, "read_at": …, "method": …, "scores": [{"prompt_id": …,
"answer_sha256": …, "grade": 1-5, "second_grade": 1-5, "comment": …}]}`

The two readings become two raters, so that their agreement can be measured as that of two people. Knows the file.
Knows no models.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from workshop_lib import data
from workshop_lib.data import STRICT, check_name, check_unique, fault, read_as
from workshop_lib.verdicts.agreement import GRADES
from workshop_lib.verdicts.reliability import REFERENCE
from workshop_lib.verdicts.scores import Score

SCORES_FILE = data.DATA_FOLDER / "reference" / "practice" / "scores.json"
SCHEMA = 1
FIRST, SECOND = f"{REFERENCE}1", f"{REFERENCE}2"

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ReferenceScore:
    """The grades of one answer at the first and the second reading; None where a reading gave none."""

    prompt_id: str
    answer_sha256: str
    grade: int | None
    second_grade: int | None = None
    comment: str = ""


@dataclass(frozen=True, slots=True)
class ReferenceFile:
    """The whole file.

    Attributes:
        read_by: who or what read the answers, truthfully.
        read_at: when, ISO 8601.
        method: how the two readings were made.
    """

    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    schema: int
    rubric_version: str
    read_by: str
    read_at: str
    method: str
    scores: tuple[ReferenceScore, ...]

    def as_scores(self) -> list[Score]:
        """Both readings as scores of two raters, `reference:1` and `reference:2`."""
        return [
            Score(rater, each.prompt_id, each.answer_sha256, grade, self.rubric_version, self.read_at, each.comment)
            for each in self.scores
            for rater, grade in ((FIRST, each.grade), (SECOND, each.second_grade))
            if grade is not None
        ]


def read_reference(path: Path | str | None = None) -> ReferenceFile:
    """Read the shipped reference grades (or `path`). Raises `DataFileError`."""
    file = Path(path or SCORES_FILE)
    content = read_as(ReferenceFile, file)
    if content.schema != SCHEMA:
        raise fault(file, "schema", f"is {content.schema}", f"This version reads schema {SCHEMA}.")
    for key in ("rubric_version", "read_by", "read_at", "method"):
        if not getattr(content, key).strip():
            raise fault(file, key, "is empty", "Say it: a grade is worth what is known of who gave it.")
    for number, each in enumerate(content.scores):
        _check(file, f"scores[{number}]", each)
    check_unique(file, "scores", (f"{each.prompt_id} {each.answer_sha256}" for each in content.scores))
    return content


def _check(file: Path, key: str, score: ReferenceScore) -> None:
    check_name(file, f"{key}.prompt_id", score.prompt_id)
    if not _SHA256.fullmatch(score.answer_sha256):
        fix = "Give the SHA-256 of the answer's text, 64 hexadecimal digits."
        raise fault(file, f"{key}.answer_sha256", f"is {score.answer_sha256!r}", fix)
    for field in ("grade", "second_grade"):
        grade = getattr(score, field)
        if grade is not None and grade not in GRADES:
            raise fault(file, f"{key}.{field}", f"is {grade}", "Give 1 to 5, or null where none was given.")
