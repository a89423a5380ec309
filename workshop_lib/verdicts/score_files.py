"""Verdicts on disk: one JSON-lines file per rater, only ever appended to.

`annotations/ada.jsonl` begins with a header, then has a line per verdict. A line is on the disk (flushed and synced)
before `add` returns. A verdict is taken back by a line of its own, and a later verdict replaces an earlier one. What a
crash left after the last newline is dropped. Several writers wait for each other, and each sees the others' lines.
Knows grades and preferences as values, and nothing of answers and models.
"""

from __future__ import annotations

import json
import re
import unicodedata
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args
from urllib.parse import quote

from workshop_lib import files
from workshop_lib.errors import ConfigurationError, RecordFileError
from workshop_lib.verdicts.scores import Choice, Preference, Score

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SCHEMA = 1
LOCK_TIMEOUT_S = 10.0
"""Longer than any line takes to write; whoever holds the lock longer is stuck."""

_PERSON = re.compile(r"\w(?:[\w.-]{0,38}\w)?")
_JUDGE = re.compile(r"judge:[^\s\x00-\x1f\x7f]{1,1000}")
"""Ids of models are paths at times, and in any script."""

_LONGEST_FILE_NAME = 120
_WINDOWS_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?")
_CHOICES = get_args(Choice)
_FRESH = "Restore the file from a copy, or move it out of the folder."

Verdict = Score | Preference


@dataclass(frozen=True, slots=True)
class Standing:
    """A verdict that was not taken back, and the number of its line."""

    line: int
    verdict: Verdict


def rater_name(typed: str) -> str:
    """Return a rater's name as files hold it: lower case, `-` for spaces.

    >>> rater_name(" Ada Lovelace ")
    'ada-lovelace'

    Raises:
        ConfigurationError: no name, or one that is not safe as a file name on every system.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", typed).casefold())
    name = "-".join(folded.split())
    good = _JUDGE.fullmatch(name) or (_PERSON.fullmatch(name) and not _WINDOWS_DEVICES.fullmatch(name))
    if not good:
        raise ConfigurationError(
            f"{typed[:60]!r} cannot be a rater's name.",
            "Use up to 40 letters, digits, '.', '_' and '-', with a letter or digit first and last.",
        )
    return name


class ScoreFile:
    """The file of one rater in a folder; made by the first `add`.

    Args:
        folder: where the raters' files are.
        rater: the name as typed; `rater` is the name as kept.

    Raises:
        ConfigurationError: the name cannot be one.
    """

    def __init__(self, folder: Path, rater: str) -> None:
        self.rater = rater_name(rater)
        self.path = folder / f"{_file_name(self.rater)}.jsonl"

    def add(self, *verdicts: Verdict) -> None:
        """Append verdicts; they are on the disk when this returns.

        Raises:
            RecordFileError: the file cannot be written, or is not this rater's.
            ConfigurationError: a verdict of another rater.
        """
        for verdict in verdicts:
            if verdict.rater != self.rater:
                raise ConfigurationError(f"A verdict of {verdict.rater!r} is not {self.rater!r}'s.", "Keep them apart.")
        entries = [{"kind": _kind(each), **_without_rater(each)} for each in verdicts]
        with self._locked():
            self._append(entries)

    def take_back(self, line: int) -> None:
        """Append a line that takes back the verdict of an earlier line.

        Raises:
            RecordFileError: no verdict stands at that line, or the file cannot be written.
        """
        with self._locked():
            if line not in {each.line for each in self.standing()}:
                raise RecordFileError(f"{self.path.name}, line {line}: no verdict stands there.", "Look again.")
            self._append([{"kind": "undo", "line": line, "undone_at": now()}])

    def standing(self) -> tuple[Standing, ...]:
        """Return the verdicts that were not taken back, oldest first; later ones replace earlier ones.

        Raises:
            RecordFileError: the file is unreadable, of another schema or rater, or broken before its last line.
        """
        return _read(self.path, self.rater)[1] if self.path.exists() else ()

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
        """Write lines after the last whole one, all of them or none."""
        begun = self.path.exists() and bool(_whole_lines(self.path))
        if begun:
            _read(self.path, self.rater)
        header = [] if begun else [{"kind": "scores", "schema": SCHEMA, "rater": self.rater}]
        files.append_lines(self.path, [*header, *entries])


def _file_name(rater: str) -> str:
    """The rater's name, or what a judge's makes of a plain one: any sign quoted, and cut to what folders hold."""
    if ":" not in rater:
        return rater
    name = quote(rater, safe="", errors="backslashreplace")
    return name if len(name) <= _LONGEST_FILE_NAME else f"{name[:80]}-{sha256(name.encode()).hexdigest()[:16]}"


def read_all(folder: Path) -> tuple[Verdict, ...]:
    """Return the current verdicts of all raters in a folder: by rater, the last on each answer or pair.

    Raises:
        RecordFileError: a file is unreadable or broken, or two files are of one rater.
    """
    found: dict[str, tuple[Verdict, ...]] = {}
    for path in sorted(folder.glob("*.jsonl")):
        rater, standing = _read(path)
        if rater in found:
            raise RecordFileError(f"{path.name} is a second file of the rater {rater!r}.", "Keep one of them.")
        found[rater] = current(standing)
    return tuple(verdict for rater in sorted(found) for verdict in found[rater])


def current(standing: Iterable[Standing]) -> tuple[Verdict, ...]:
    """Return the last verdict on each answer, and on each pair in the order in which it was shown."""
    last: dict[tuple[str, ...], Verdict] = {}
    for each in standing:
        verdict = each.verdict
        last.pop(key_of(verdict), None)
        last[key_of(verdict)] = verdict
    return tuple(last.values())


def key_of(verdict: Verdict) -> tuple[str, ...]:
    """Return what a verdict is about: version, prompt, and answer or ordered pair."""
    if isinstance(verdict, Score):
        return verdict.rubric_version, verdict.prompt_id, verdict.answer_sha256
    return verdict.rubric_version, verdict.prompt_id, verdict.a_sha256, verdict.b_sha256


def now() -> str:
    """Return the time as verdicts carry it: ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _read(path: Path, wanted: str | None = None) -> tuple[str, tuple[Standing, ...]]:
    rater: str | None = None
    standing: dict[int, Standing] = {}
    for number, line in enumerate(_whole_lines(path), 1):
        try:
            entry = json.loads(line)
            if number == 1:
                rater = _rater_of(path, entry, wanted)
            elif entry["kind"] == "undo":
                del standing[entry["line"]]
            else:
                standing[number] = Standing(number, _verdict(entry, str(rater)))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise RecordFileError(f"{path.name}, line {number}: not a verdict ({error}).", _FRESH) from error
    if rater is None:
        if wanted is not None:
            return wanted, ()
        raise RecordFileError(f"{path.name} has no header.", _FRESH)
    return rater, tuple(standing.values())


def _whole_lines(path: Path) -> list[bytes]:
    try:
        return files.whole_lines(path.read_bytes())
    except OSError as error:
        raise RecordFileError(f"{path.name} cannot be read: {error.strerror}.", _FRESH) from error


def _rater_of(path: Path, entry: dict[str, Any], wanted: str | None) -> str:
    if entry["kind"] != "scores":
        raise ValueError("no header")
    if entry["schema"] != SCHEMA:
        raise RecordFileError(
            f"{path.name} has schema {entry['schema']!r}, this version reads {SCHEMA}.",
            "Read it with the version of the workshop that wrote it.",
        )
    rater = str(entry["rater"])
    if wanted not in (None, rater):
        raise RecordFileError(f"{path.name} holds the verdicts of {rater!r}.", "Give each rater's file their name.")
    return rater


def _kind(verdict: Verdict) -> str:
    return "score" if isinstance(verdict, Score) else "preference"


def _without_rater(verdict: Verdict) -> dict[str, Any]:
    return {key: value for key, value in asdict(verdict).items() if key != "rater"}


def _verdict(entry: dict[str, Any], rater: str) -> Verdict:
    values = {key: value for key, value in entry.items() if key != "kind"}
    if entry["kind"] == "score":
        if not (entry["grade"] is None or (type(entry["grade"]) is int and 1 <= entry["grade"] <= 5)):
            raise ValueError(f"grade {entry['grade']!r}")
        return Score(rater=rater, **values)
    if entry["kind"] != "preference" or entry["choice"] not in (None, *_CHOICES):
        raise ValueError(f"kind {entry['kind']!r}, choice {entry.get('choice')!r}")
    return Preference(rater=rater, **values)
