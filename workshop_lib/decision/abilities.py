"""What the practice models were measured to be able to do, for each capability tag of `models.json`.

A tag is a claim; `data/practice_models/quality.json` holds what each shipped CPU build got right in held-out questions.
A practice model carries a tag only where its weakest build got at least half of the matching test right, because a
route may lead to any of them. Models of the public catalog were not measured here: their tags are claims. Knows that
file. Knows no runtime.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from workshop_lib import data
from workshop_lib.data import fault, read_as

QUALITY_FILE = data.DATA_FOLDER / "practice_models" / "quality.json"
SCHEMA = 1
ENOUGH = 0.5
"""Share of a test that earns a tag; with 100 questions a share is uncertain by about 0.1."""

TESTS: dict[str, str] = {
    "explain": "kept_out_phrasing",
    "list": "kept_out_phrasing",
    "summarise": "kept_out_phrasing",
    "summarise-meeting": "notes_known_names",
    "action-items": "notes_known_names",
    "decisions": "question_known_names",
    "who-owns-what": "question_known_names",
    "due-dates": "question_known_names",
}
"""Capability → the test that it rests on."""


@dataclass(frozen=True, slots=True)
class MeasuredBuild:
    """One build: test → share of it that was right, 0 to 1."""

    name: str
    scores: dict[str, float]


@dataclass(frozen=True, slots=True)
class MeasuredModel:
    """One practice model and the builds that were measured."""

    alias: str
    variants: tuple[MeasuredBuild, ...]

    def share(self, capability: str) -> float | None:
        """What the weakest build got right in the capability's test; None where no test stands for it."""
        test = TESTS.get(capability)
        shares = [build.scores[test] for build in self.variants if test in build.scores] if test else []
        return min(shares, default=None)


@dataclass(frozen=True, slots=True)
class _QualityFile:
    schema: int
    models: tuple[MeasuredModel, ...]


def read_measured(path: Path | str | None = None) -> Mapping[str, MeasuredModel]:
    """Read the measured shares: alias → model. Raises `DataFileError`."""
    file = Path(path or QUALITY_FILE)
    content = read_as(_QualityFile, file)
    if content.schema != SCHEMA:
        raise fault(file, "schema", f"is {content.schema}", f"This version reads schema {SCHEMA}.")
    for number, model in enumerate(content.models):
        for build in model.variants:
            for test, share in build.scores.items():
                if not 0 <= share <= 1:
                    raise fault(file, f"models[{number}].{build.name}.{test}", f"is {share}", "Give a share, 0 to 1.")
    return {model.alias: model for model in content.models}
