"""The rubric: what each grade from 1 to 5 means, read from `data/rubric.json`.

Knows the file and how a rubric and the prompts together make the version that scores carry. Knows no scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from workshop_lib import data
from workshop_lib.data import STRICT, fault, read_as

if TYPE_CHECKING:
    from collections.abc import Iterable

    from workshop_lib.records import Prompt

RUBRIC_FILE = data.DATA_FOLDER / "rubric.json"
SCHEMA = 1
GRADES = (1, 2, 3, 4, 5)


@dataclass(frozen=True, slots=True)
class Grade:
    """One grade: its number, its name, and its meaning in one line."""

    grade: int
    name: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Rubric:
    """What the grades mean; another wording is another `version`."""

    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    schema: int
    version: str
    grades: tuple[Grade, ...]


def read_rubric(path: Path | str | None = None) -> Rubric:
    """Read `data/rubric.json` (or `path`). Raises `DataFileError`."""
    file = Path(path or RUBRIC_FILE)
    rubric = read_as(Rubric, file)
    if rubric.schema != SCHEMA:
        raise fault(file, "schema", f"is {rubric.schema}", f"This version reads schema {SCHEMA}.")
    if tuple(each.grade for each in rubric.grades) != GRADES:
        raise fault(file, "grades", "are not 1 to 5", "Give the grades 1, 2, 3, 4, 5 in this order.")
    for number, grade in enumerate(rubric.grades):
        for field in ("name", "meaning"):
            text = getattr(grade, field)
            if not text.strip() or "\n" in text:
                raise fault(file, f"grades[{number}].{field}", f"is {text!r}", "Write one line.")
    return rubric


def version_for(prompts: Iterable[Prompt], rubric: Rubric | None = None) -> str:
    """Return the `rubric_version` of scores of answers to these prompts, e.g. `1+2026-11`.

    The part after `+` is the version of `prompts.json` where all prompts stand in it as they are here, whichever of
    them a run used; else it is a hash of the prompts, so that a changed prompt never inherits a score.
    """
    mine = tuple(prompts)
    shipped = data.read_prompt_file()
    name = (rubric or read_rubric()).version
    if {prompt for each in shipped.sets.values() for prompt in each}.issuperset(mine):
        return f"{name}+{shipped.version}"
    words = repr(sorted((each.id, each.text, each.aspects, each.forbidden) for each in mine))
    return f"{name}+{sha256(words.encode('utf-8', 'backslashreplace')).hexdigest()[:12]}"
