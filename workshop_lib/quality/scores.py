"""Who said what of which answer: grades and preferences, as frozen values and as files that only grow.

A rater is a person (`ada`), the aspect check (`aspects`), a shipped reading (`reference:1`) or a model
(`judge:<model id>`). An answer is known by its prompt and the hash of its text, so models with the same answer share
its grades, and a changed answer has none.

`annotations/ada.jsonl` begins with a header and then has one line per score, which is on the disk before `add`
returns. A score is undone by a line of its own, and a later score replaces an earlier one.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args
from urllib.parse import quote

from workshop_lib import data, files
from workshop_lib.data import STRICT, read_as
from workshop_lib.errors import ConfigurationError, RecordFileError
from workshop_lib.quality import aspects
from workshop_lib.records import ModelVariant, Prompt, Run, key

RUBRIC_FILE = data.DATA_FOLDER / "rubric.json"
REFERENCE_FILE = data.DATA_FOLDER / "reference" / "practice" / "scores.json"
SCHEMA = 1

Grade = Literal[1, 2, 3, 4, 5]
GRADES: tuple[int, ...] = get_args(Grade)
CHOICES = ("a", "b", "tie", "both_bad")
Value = int | str | None
"""One of `GRADES` or of `CHOICES`; None = neither was given or could be read, which is missing and never a number."""

AnswerKey = tuple[str, str]
"""Prompt and hash of the answer's text."""
Key = tuple[str, ...]
"""What a score is about: rubric version, prompt, hash of one answer, or of two in the order as they were shown."""


# -- answers and scores


@dataclass(frozen=True, slots=True)
class Answer:
    """One text that is judged; `authors` are the models that gave exactly this text."""

    prompt: Prompt
    text: str
    authors: tuple[ModelVariant, ...] = ()

    @property
    def sha256(self) -> str:
        """Hash of the text."""
        return sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def key(self) -> AnswerKey:
        """What scores refer to."""
        return self.prompt.id, self.sha256


def distinct_answers(run: Run) -> tuple[Answer, ...]:
    """Each model's first timed answer to each prompt, the same text once, in the order of prompts and of models."""
    variants = {key(serving.variant): serving.variant for serving in run.servings}
    texts: dict[tuple[str, tuple[str, str]], str] = {}
    for each in sorted(run.completions, key=lambda completion: completion.round):
        if each.ok and each.round:
            texts.setdefault((each.prompt_id, key(each)), each.text)
    authors: dict[tuple[str, str], list[ModelVariant]] = {}
    for (prompt_id, model), text in texts.items():
        if model in variants and text.strip():
            authors.setdefault((prompt_id, text), []).append(variants[model])
    return tuple(
        Answer(prompt, text, tuple(by))
        for prompt in run.prompts
        for (prompt_id, text), by in authors.items()
        if prompt_id == prompt.id
    )


@dataclass(frozen=True, slots=True)
class Score:
    """What one rater said: the grade of one answer, or which of two answers to a prompt is better.

    Attributes:
        answers: hash of the answer, or hashes of both, the one first that was shown as A.
        rubric_version: of the rubric and the prompts under which it was given, see `version_for`.
        scored_at: ISO 8601, UTC.
        comment: free words of a person, or the reason that a model gave.
    """

    rater: str
    prompt_id: str
    answers: tuple[str, ...]
    value: Value
    rubric_version: str
    scored_at: str
    comment: str = ""

    @property
    def is_grade(self) -> bool:
        """True of a grade, False of a preference."""
        return len(self.answers) == 1

    @property
    def key(self) -> Key:
        """What it is about."""
        return self.rubric_version, self.prompt_id, *self.answers


def key_of(shown: Sequence[Answer], version: str) -> Key:
    """The `Score.key` of scores on one answer, or on two in this order."""
    return version, shown[0].prompt.id, *(answer.sha256 for answer in shown)


def score_now(shown: Sequence[Answer], rater: str, value: Value, version: str, comment: str) -> Score:
    """A score given now: a grade of one answer, or a preference between two."""
    hashes = tuple(answer.sha256 for answer in shown)
    return Score(rater, shown[0].prompt.id, hashes, value, version, now(), comment)


def current(scores: Iterable[Score]) -> dict[Key, Score]:
    """One rater's last score on each answer and on each pair as it was shown, in the order in which they were given."""
    last: dict[Key, Score] = {}
    for score in scores:
        last.pop(score.key, None)
        last[score.key] = score
    return last


def now() -> str:
    """The time as scores carry it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


# -- raters

ASPECTS, JUDGE, REFERENCE = "aspects", "judge:", "reference:"
Kind = Literal["people", "reference", "aspects", "judge"]

_PERSON = re.compile(r"(?!(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|$))\w(?:[\w.-]{0,38}\w)?")  # Windows' devices are none
_JUDGE = re.compile(r"judge:[^\s\x00-\x1f\x7f]+")  # ids of models are paths at times, and in any script


def kind_of(rater: str) -> Kind:
    """Who a rater is, by the form of its name."""
    if rater.startswith((JUDGE, REFERENCE)):
        return "judge" if rater.startswith(JUDGE) else "reference"
    return "aspects" if rater == ASPECTS else "people"


def rater_name(typed: str) -> str:
    """A rater's name as files hold it. Raises `ConfigurationError`: it is not safe as a file name on every system.

    >>> rater_name(" Ada Lovelace ")
    'ada-lovelace'
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", typed).casefold())
    name = "-".join(folded.split())
    if not (_JUDGE.fullmatch(name) or _PERSON.fullmatch(name)):
        raise ConfigurationError(
            f"{typed[:60]!r} cannot be a rater's name.",
            "Use up to 40 letters, digits, '.', '_' and '-', with a letter or digit first and last.",
        )
    return name


def score_aspects(run: Run) -> list[Score]:
    """The aspect check of every distinct answer of a run as a rater; a prompt without aspects gets no grade."""
    version, check = version_for(run.prompts), aspects.score_aspects
    return [
        Score(ASPECTS, each.prompt.id, (each.sha256,), check(each.text, each.prompt).grade, version, run.started_at)
        for each in distinct_answers(run)
    ]


# -- files

LOCK_TIMEOUT_S = 10.0
"""Longer than any line takes to write; whoever holds the lock longer is stuck."""
_GRADE, _PREFERENCE = (("answer_sha256",), "grade", GRADES), (("a_sha256", "b_sha256"), "choice", CHOICES)
"""Of a line: its keys of the answers, its key of the value, and the values that it may have."""
_LONGEST_FILE_NAME = 120
_RESTORE = "Restore the file from a copy, or move it out of the folder."


class ScoreFile:
    """The file of one rater in a folder, made by the first `add`; the name is checked as by `rater_name`."""

    def __init__(self, folder: Path, rater: str) -> None:
        self.rater = rater_name(rater)
        self.path = folder / _file_name(self.rater)

    def add(self, *scores: Score) -> None:
        """Append scores, all of them or none.

        Raises:
            RecordFileError: the file is broken, not this rater's, or locked.
            ConfigurationError, DiskSpaceError: it cannot be written.
        """
        self._append(map(_line, scores))

    def undo(self, line: int) -> None:
        """Append a line that takes back the score of an earlier line. Raises as `add`."""
        self._append([{"kind": "undo", "line": line, "undone_at": now()}])

    def lines(self) -> dict[int, Score]:
        """Number of the line → score, without those undone. Raises `RecordFileError`: unreadable or broken."""
        return _read(self.path) or {}

    def _append(self, entries: Iterable[dict[str, Any]]) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with files.one_writer(self.path, wait_s=LOCK_TIMEOUT_S):
                header = [{"kind": "scores", "schema": SCHEMA, "rater": self.rater}] if _read(self.path) is None else []
                files.append_lines(self.path, [*header, *entries])
        except TimeoutError:
            what = f"{self.path.name} has been locked by another program for {LOCK_TIMEOUT_S:.0f} s."
            fix = "Close the other notebook that scores under this name, then try again."
            raise RecordFileError(what, fix) from None
        except OSError as error:
            raise files.unwritable(self.path, error) from error


def read_all(folder: Path) -> list[Score]:
    """The current scores of all raters in a folder. Raises `RecordFileError`, also on a copied or renamed file."""
    return [
        score for path in sorted(folder.glob("*.jsonl")) for score in current((_read(path) or {}).values()).values()
    ]


def _read(path: Path) -> dict[int, Score] | None:
    """Line → score; None where not even the header was finished."""
    try:
        lines = files.whole_lines(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RecordFileError(f"{path.name} cannot be read: {error.strerror}.", _RESTORE) from error
    rater = ""
    found: dict[int, Score] = {}
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            if number == 1:
                rater = _rater_of(path, **entry)
            elif entry["kind"] == "undo":
                found.pop(entry["line"], None)
            else:
                found[number] = _score(rater, **entry)
        except (ValueError, TypeError, KeyError) as error:
            raise RecordFileError(f"{path.name}, line {number}: not a score ({error}).", _RESTORE) from error
    return found if lines else None


def _rater_of(path: Path, kind: str, schema: int, rater: str) -> str:  # noqa: ARG001 - all that a header holds
    if schema != SCHEMA:
        what = f"{path.name} has schema {schema!r}, this version reads {SCHEMA}."
        raise RecordFileError(what, "Read it with the version of the workshop that wrote it.")
    if path.name != _file_name(rater):  # a copy would count a rater twice
        raise RecordFileError(f"{path.name} holds the scores of {rater!r}.", f"Name it {_file_name(rater)}.")
    return rater


def _score(rater: str, kind: str, **entry: Any) -> Score:
    hashes, name, allowed = {"score": _GRADE, "preference": _PREFERENCE}[kind]
    value = entry.pop(name)
    if value is not None and value not in allowed:
        raise ValueError(f"{value!r} is no {name}")
    return Score(rater, answers=tuple(entry.pop(each) for each in hashes), value=value, **entry)


def _line(score: Score) -> dict[str, Any]:
    hashes, name, _ = _GRADE if score.is_grade else _PREFERENCE
    kind = {"kind": "score" if score.is_grade else "preference", "prompt_id": score.prompt_id}
    given = {"rubric_version": score.rubric_version, "scored_at": score.scored_at, "comment": score.comment}
    return {**kind, **dict(zip(hashes, score.answers, strict=True)), name: score.value, **given}


def _file_name(rater: str) -> str:
    """The rater's name; a judge's with every sign quoted, and cut to what folders hold."""
    name = quote(rater, safe="", errors="backslashreplace") if ":" in rater else rater
    if len(name) > _LONGEST_FILE_NAME:
        name = f"{name[:80]}-{sha256(name.encode()).hexdigest()[:16]}"
    return f"{name}.jsonl"


# -- the rubric, and the grades that are shipped


@dataclass(frozen=True, slots=True)
class RubricLine:
    """What one grade means."""

    grade: Grade
    name: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Rubric:
    """What the grades mean; another wording needs another `version`."""

    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    schema: Literal[1]
    version: str
    grades: tuple[RubricLine, ...]


def read_rubric() -> Rubric:
    """Read `data/rubric.json`. Raises `DataFileError`."""
    return read_as(Rubric, RUBRIC_FILE)


def version_for(prompts: Iterable[Prompt]) -> str:
    """The `rubric_version` of scores on answers to these prompts, e.g. `1+2026-11`.

    The part after `+` is the version of `prompts.json` where all prompts are in it as they are here; else a hash of the
    prompts, so that a changed prompt never inherits a score.
    """
    mine = tuple(prompts)
    shipped = data.read_prompt_file()
    name = read_rubric().version
    if {prompt for each in shipped.sets.values() for prompt in each}.issuperset(mine):
        return f"{name}+{shipped.version}"
    words = repr(sorted((prompt.id, prompt.text, prompt.aspects, prompt.forbidden) for prompt in mine))
    return f"{name}+{sha256(words.encode('utf-8', 'backslashreplace')).hexdigest()[:12]}"


@dataclass(frozen=True, slots=True)
class ReferenceGrades:
    """Shipped grades of the practice models' answers: who or what read them, when (ISO 8601) and how.

    `scores` has for each answer the `prompt_id`, `answer_sha256`, `comment`, and `grade` and `second_grade`, those of
    the first and the second reading; null where a reading gave none.
    """

    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    schema: Literal[1]
    rubric_version: str
    read_by: str
    read_at: str
    method: str
    scores: tuple[dict[str, Any], ...]

    def as_scores(self) -> list[Score]:
        """Both readings as scores of two raters, `reference:1` and `reference:2`."""
        about = (self.rubric_version, self.read_at)
        return [
            Score(rater, each["prompt_id"], (each["answer_sha256"],), each[reading], *about, each.get("comment", ""))
            for each in self.scores
            for rater, reading in ((f"{REFERENCE}1", "grade"), (f"{REFERENCE}2", "second_grade"))
            if each.get(reading) is not None
        ]


def read_reference() -> ReferenceGrades:
    """Read the shipped reference grades. Raises `DataFileError`."""
    return read_as(ReferenceGrades, REFERENCE_FILE)
