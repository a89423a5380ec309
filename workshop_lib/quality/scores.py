"""Who said what of which answer: grades and preferences, as frozen values and as files that only grow.

A rater is a person (`ada`), the aspect check (`aspects`), a shipped reading (`reference:1`) or a model
(`judge:<model id>`). An answer is known by its prompt and the hash of its text, so models with the same answer share
its grades, and a changed answer has none.

`annotations/ada.jsonl` begins with a header and then has one line per verdict, which is on the disk before `add`
returns. A verdict is undone by a line of its own, and a later verdict replaces an earlier one.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args
from urllib.parse import quote

from workshop_lib import data, files
from workshop_lib.data import STRICT, fault, read_as
from workshop_lib.errors import ConfigurationError, RecordFileError
from workshop_lib.quality import aspects
from workshop_lib.records import Completion, ModelVariant, Prompt, Run, variant_key

RUBRIC_FILE = data.DATA_FOLDER / "rubric.json"
REFERENCE_FILE = data.DATA_FOLDER / "reference" / "practice" / "scores.json"
SCHEMA = 1

Grade = Literal[1, 2, 3, 4, 5]
Choice = Literal["a", "b", "tie", "both_bad"]
GRADES: tuple[int, ...] = get_args(Grade)
CHOICES: tuple[str, ...] = get_args(Choice)

AnswerKey = tuple[str, str]
"""Prompt and hash of the answer's text: what a verdict refers to."""


# -- answers


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
        """What verdicts on this answer refer to."""
        return self.prompt.id, self.sha256


def distinct_answers(run: Run) -> tuple[Answer, ...]:
    """Each model's first timed answer to each prompt, the same text once, in the order of prompts and of models."""
    variants = {variant_key(serving.variant): serving.variant for serving in run.servings}
    first: dict[tuple[str, str, str], Completion] = {}
    for completion in sorted(run.completions, key=lambda completion: completion.round):
        if completion.ok and completion.round:
            first.setdefault((completion.prompt_id, completion.model_id, completion.device), completion)
    authors: dict[tuple[str, str], list[ModelVariant]] = {}
    for (prompt_id, *model), completion in first.items():
        if (variant := variants.get((model[0], model[1]))) and completion.text.strip():
            authors.setdefault((prompt_id, completion.text), []).append(variant)
    return tuple(
        Answer(prompt, text, tuple(given))
        for prompt in run.prompts
        for (prompt_id, text), given in authors.items()
        if prompt_id == prompt.id
    )


# -- verdicts


@dataclass(frozen=True, slots=True)
class Score:
    """A grade from 1 to 5 by one rater.

    Attributes:
        grade: None when the rater gave none: a verdict that cannot be read is missing, never a number.
        rubric_version: of the rubric and the prompts under which it was given, see `version_for`.
        scored_at: ISO 8601, UTC.
        comment: free words of a person, or the reason that a model gave.
    """

    rater: str
    prompt_id: str
    answer_sha256: str
    grade: int | None
    rubric_version: str
    scored_at: str
    comment: str = ""

    @property
    def key(self) -> tuple[str, ...]:
        """What it is about: version, prompt, answer."""
        return self.rubric_version, self.prompt_id, self.answer_sha256

    @property
    def value(self) -> int | None:
        """The grade."""
        return self.grade


@dataclass(frozen=True, slots=True)
class Preference:
    """Which of two answers to one prompt is better, by one rater; `a` was shown first."""

    rater: str
    prompt_id: str
    a_sha256: str
    b_sha256: str
    choice: Choice | None
    rubric_version: str
    scored_at: str
    comment: str = ""

    @property
    def key(self) -> tuple[str, ...]:
        """What it is about: version, prompt, both answers as they were shown."""
        return self.rubric_version, self.prompt_id, self.a_sha256, self.b_sha256

    @property
    def value(self) -> Choice | None:
        """The choice."""
        return self.choice


Verdict = Score | Preference


def verdict_on(shown: Sequence[Answer], rater: str, value: Any, version: str, comment: str) -> Verdict:
    """A verdict given now: a score of one answer, or a preference between two."""
    kind: type[Any] = Score if len(shown) == 1 else Preference
    hashes = (answer.sha256 for answer in shown)
    verdict: Verdict = kind(rater, shown[0].prompt.id, *hashes, value, version, now(), comment)
    return verdict


def current(verdicts: Iterable[Verdict]) -> tuple[Verdict, ...]:
    """The last verdict on each answer and on each pair as it was shown, in the order in which they were given."""
    last: dict[tuple[str, ...], Verdict] = {}
    for verdict in verdicts:
        last.pop(verdict.key, None)
        last[verdict.key] = verdict
    return tuple(last.values())


def now() -> str:
    """The time as verdicts carry it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


# -- raters

ASPECTS = "aspects"
JUDGE = "judge:"
REFERENCE = "reference:"
OWN = "+own"
"""Ending of a judge's name where it graded what it wrote itself."""

Kind = Literal["people", "reference", "aspects", "judge", "own"]

_PERSON = re.compile(r"\w(?:[\w.-]{0,38}\w)?")
_JUDGE = re.compile(r"judge:[^\s\x00-\x1f\x7f]{1,1000}")  # ids of models are paths at times, and in any script
_WINDOWS_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?")


def kind_of(rater: str) -> Kind:
    """Who a rater is, by the form of its name; a judge of its own answers is a kind apart."""
    if rater.startswith(JUDGE):
        return "own" if rater.endswith(OWN) else "judge"
    if rater.startswith(REFERENCE):
        return "reference"
    return "aspects" if rater == ASPECTS else "people"


def rater_name(typed: str) -> str:
    """A rater's name as files hold it. Raises `ConfigurationError`: it is not safe as a file name on every system.

    >>> rater_name(" Ada Lovelace ")
    'ada-lovelace'
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", typed).casefold())
    name = "-".join(folded.split())
    if not (_JUDGE.fullmatch(name) or (_PERSON.fullmatch(name) and not _WINDOWS_DEVICES.fullmatch(name))):
        raise ConfigurationError(
            f"{typed[:60]!r} cannot be a rater's name.",
            "Use up to 40 letters, digits, '.', '_' and '-', with a letter or digit first and last.",
        )
    return name


def aspect_scores(answers: Iterable[Answer], *, rubric_version: str, scored_at: str) -> list[Score]:
    """The aspect check as a rater: grade 1 + 4 x share, rounded half up; 1 where a forbidden thing is said.

    A prompt that expects nothing in particular gets no grade.
    """
    scored = []
    for answer in answers:
        found = aspects.score_aspects(answer.text, answer.prompt)
        grade = None if found.credit is None else int(1 + 4 * found.credit + 0.5)
        parts = {"missing": found.missing, "forbidden": found.forbidden_found}
        comment = "; ".join(f"{name}: {', '.join(aspects)}" for name, aspects in parts.items() if aspects)
        scored.append(Score(ASPECTS, *answer.key, grade, rubric_version, scored_at, comment))
    return scored


def score_aspects(run: Run) -> list[Score]:
    """The aspect check of every distinct answer of a run, as scores that `decide` takes."""
    return aspect_scores(distinct_answers(run), rubric_version=version_for(run.prompts), scored_at=run.started_at)


# -- files

LOCK_TIMEOUT_S = 10.0
"""Longer than any line takes to write; whoever holds the lock longer is stuck."""

_LONGEST_FILE_NAME = 120
_RESTORE = "Restore the file from a copy, or move it out of the folder."


class ScoreFile:
    """The file of one rater in a folder, made by the first `add`; the name is checked as by `rater_name`."""

    def __init__(self, folder: Path, rater: str) -> None:
        self.rater = rater_name(rater)
        self.path = folder / f"{_file_name(self.rater)}.jsonl"

    def add(self, *verdicts: Verdict) -> None:
        """Append verdicts. Raises `RecordFileError`: it cannot be written, or is not this rater's; none is saved."""
        with self._locked():
            self._append(_entry(verdict) for verdict in verdicts)

    def undo(self, line: int) -> None:
        """Append a line that takes back the verdict of an earlier line. Raises `RecordFileError`, see `add`."""
        with self._locked():
            if line not in self.lines():
                raise RecordFileError(f"{self.path.name}, line {line}: there is no verdict to undo.", "Look again.")
            self._append([{"kind": "undo", "line": line, "undone_at": now()}])

    def lines(self) -> dict[int, Verdict]:
        """Number of the line → verdict, without those undone. Raises `RecordFileError`: unreadable or broken."""
        return _read(self.path, self.rater)[1] if self.path.exists() else {}

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with files.one_writer(self.path, wait_s=LOCK_TIMEOUT_S):
                yield
        except TimeoutError:
            raise RecordFileError(
                f"{self.path.name} has been locked by another program for {LOCK_TIMEOUT_S:.0f} s.",
                "Close the other notebook that scores under this name, then try again.",
            ) from None
        except OSError as error:
            raise RecordFileError(
                f"{self.path.name} cannot be written: {error.strerror or error}.",
                "Nothing was saved: free space or correct the folder, then try again.",
            ) from error

    def _append(self, entries: Iterable[dict[str, Any]]) -> None:
        """Write lines after the last whole one, all of them or none; a broken file is refused."""
        begun = self.path.exists() and _read(self.path, self.rater)[0]
        header = [] if begun else [{"kind": "scores", "schema": SCHEMA, "rater": self.rater}]
        files.append_lines(self.path, [*header, *entries])


def read_all(folder: Path) -> tuple[Verdict, ...]:
    """The current verdicts of all raters in a folder, by rater. Raises `RecordFileError`, also on a copied file."""
    found: dict[str, tuple[Verdict, ...]] = {}
    for path in sorted(folder.glob("*.jsonl")):
        rater, lines = _read(path)
        if rater in found:
            raise RecordFileError(f"{path.name} is a second file of the rater {rater!r}.", "Keep one of them.")
        found[rater] = current(lines.values())
    return tuple(verdict for rater in sorted(found) for verdict in found[rater])


def _read(path: Path, wanted: str | None = None) -> tuple[str, dict[int, Verdict]]:
    """Rater and verdicts by line; no rater where the first line was never finished."""
    try:
        lines = files.whole_lines(path.read_bytes())
    except OSError as error:
        raise RecordFileError(f"{path.name} cannot be read: {error.strerror}.", _RESTORE) from error
    rater = ""
    found: dict[int, Verdict] = {}
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            if number == 1:
                rater = _rater_of(path, entry, wanted)
            elif entry["kind"] == "undo":
                del found[entry["line"]]
            else:
                found[number] = _verdict(entry, rater)
        except (ValueError, TypeError, KeyError) as error:
            raise RecordFileError(f"{path.name}, line {number}: not a verdict ({error}).", _RESTORE) from error
    return rater, found


def _rater_of(path: Path, header: dict[str, Any], wanted: str | None) -> str:
    if header["schema"] != SCHEMA:
        what = f"{path.name} has schema {header['schema']!r}, this version reads {SCHEMA}."
        raise RecordFileError(what, "Read it with the version of the workshop that wrote it.")
    rater = str(header["rater"])
    if wanted not in (None, rater):
        raise RecordFileError(f"{path.name} holds the verdicts of {rater!r}.", "Give each rater's file their name.")
    return rater


def _verdict(entry: dict[str, Any], rater: str) -> Verdict:
    is_score = {"score": True, "preference": False}[entry.pop("kind")]
    verdict: Verdict = Score(rater, **entry) if is_score else Preference(rater, **entry)
    if verdict.value not in (None, *(GRADES if is_score else CHOICES)):
        raise ValueError(f"{verdict.value!r} is no grade or choice")
    return verdict


def _entry(verdict: Verdict) -> dict[str, Any]:
    kind = "score" if isinstance(verdict, Score) else "preference"
    return {"kind": kind, **{key: value for key, value in asdict(verdict).items() if key != "rater"}}


def _file_name(rater: str) -> str:
    """The rater's name; a judge's with every sign quoted, and cut to what folders hold."""
    name = quote(rater, safe="", errors="backslashreplace") if ":" in rater else rater
    return name if len(name) <= _LONGEST_FILE_NAME else f"{name[:80]}-{sha256(name.encode()).hexdigest()[:16]}"


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
    rubric = read_as(Rubric, RUBRIC_FILE)
    if tuple(line.grade for line in rubric.grades) != GRADES:
        raise fault(RUBRIC_FILE, "grades", "are not 1 to 5", "Give the grades 1, 2, 3, 4, 5 in this order.")
    return rubric


def version_for(prompts: Iterable[Prompt], rubric: Rubric | None = None) -> str:
    """The `rubric_version` of verdicts on answers to these prompts, e.g. `1+2026-11`.

    The part after `+` is the version of `prompts.json` where all prompts are in it as they are here; else a hash of the
    prompts, so that a changed prompt never inherits a score.
    """
    mine = tuple(prompts)
    shipped = data.read_prompt_file()
    name = (rubric or read_rubric()).version
    if {prompt for each in shipped.sets.values() for prompt in each}.issuperset(mine):
        return f"{name}+{shipped.version}"
    words = repr(sorted((prompt.id, prompt.text, prompt.aspects, prompt.forbidden) for prompt in mine))
    return f"{name}+{sha256(words.encode('utf-8', 'backslashreplace')).hexdigest()[:12]}"


@dataclass(frozen=True, slots=True)
class ReferenceScore:
    """The grades of one answer at the first and the second reading; None where a reading gave none."""

    prompt_id: str
    answer_sha256: str
    grade: Grade | None
    second_grade: Grade | None = None
    comment: str = ""


@dataclass(frozen=True, slots=True)
class ReferenceGrades:
    """Shipped grades of the practice models' answers: who or what read them, when (ISO 8601) and how."""

    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    schema: Literal[1]
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
            for rater, grade in ((f"{REFERENCE}1", each.grade), (f"{REFERENCE}2", each.second_grade))
            if grade is not None
        ]


def read_reference() -> ReferenceGrades:
    """Read the shipped reference grades. Raises `DataFileError`."""
    return read_as(ReferenceGrades, REFERENCE_FILE)
