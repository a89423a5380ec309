"""Judging in a spreadsheet: a CSV template with the answers out, grades and comments back in.

The template is blind, in the rater's own order, and opens in Excel, LibreOffice and Numbers (UTF-8 with a byte order
mark); what comes back may have semicolons, tabs, a line `sep=;` or UTF-16. A cell that a spreadsheet would run as a
formula gets an apostrophe, which is taken off again on reading. Knows sessions; knows no widget and no models' names.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

from workshop_lib import files
from workshop_lib.errors import DataFileError
from workshop_lib.people.annotation import JudgingError, Session, clean_comment
from workshop_lib.untrusted import FORMULA_STARTS, printable
from workshop_lib.verdicts import score_files
from workshop_lib.verdicts.scores import Score

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from workshop_lib.verdicts.assignments import Item

COLUMNS = ("prompt_id", "answer_id", "prompt", "answer", "aspects", "score", "comment")
NEEDED = ("prompt_id", "answer_id", "score", "comment")
LONGEST_CELL = 30_000
"""Characters; Excel holds 32,767 and cuts silently."""

FAULTS_SHOWN = 10
_MARK = "\ufeff"
_DELIMITERS = (",", ";", "\t")
_HASH_LENGTH = 16


def template_path(session: Session) -> Path:
    """Return where the template of this rater and run is kept: beside the raters' files."""
    name = re.sub(r"[^\w.-]", "_", f"{session.rater}-{session.run.run_id}")
    return session.folder / f"{name}.csv"


def write_template(session: Session, path: Path | None = None) -> Path:
    """Write one row per answer with empty score and comment; a verdict already given is filled in.

    A file that is there is left as it is: it may hold an hour's work. Without a path it is `template_path`.

    Raises:
        JudgingError: the session judges pairs.
        ConfigurationError: the file cannot be written.
    """
    if session.mode != "rubric":
        raise JudgingError("A CSV template holds grades, not pairs.", "Use the rubric mode for it.")
    path = path or template_path(session)
    if path.exists():
        return path
    files.write_atomically(path, template(session))
    return path


def template(session: Session) -> str:
    """Return the text of the template, byte order mark included."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for item in session.items:
        verdict = session.verdict(item)
        grade = verdict.grade if isinstance(verdict, Score) and verdict.grade is not None else ""
        answer = item.shown[0].answer
        cells = (
            item.prompt.id,
            _answer_id(answer.sha256),
            item.prompt.text,
            answer.text,
            "; ".join(aspect.replace("|", " or ") for aspect in item.prompt.aspects),
            str(grade),
            verdict.comment if verdict else "",
        )
        writer.writerow([defuse(_fit(printable(cell))) for cell in cells])
    return _MARK + out.getvalue()


def read_scores(path: Path | str, session: Session) -> tuple[Score, ...]:
    """Read the grades and comments of a filled template as this session's rater; untouched rows give none.

    Raises:
        DataFileError: not such a file, or rows with faults: the first ten, each with row, column, value and what is
            allowed. Rows are numbered as a spreadsheet numbers them, the heading being row 1.
    """
    path = Path(path)
    rows = _rows(path)
    items = {(item.prompt.id, _answer_id(item.shown[0].answer.sha256)): item for item in session.items}
    faults: list[str] = []
    seen: dict[tuple[str, str], int] = {}
    scores = []
    for number, row in rows:
        key = row["prompt_id"].strip(), row["answer_id"].strip()
        item = items.get(key)
        found = _faults(row, known=item is not None, before=seen.get(key))
        seen.setdefault(key, number)
        faults += [f"row {number}, {fault}" for fault in found]
        if item is not None and not found:
            scores += _score(row, item, session)
    if faults:
        more = f" And {len(faults) - FAULTS_SHOWN} more." if len(faults) > FAULTS_SHOWN else ""
        listed = "\n".join(f"  {fault}" for fault in faults[:FAULTS_SHOWN])
        raise DataFileError(f"{path.name}: nothing was read in:\n{listed}\n", f"Correct the file and try again.{more}")
    return tuple(scores)


def add_scores(path: Path | str, session: Session) -> int:
    """Save what a filled template says and the rater's file does not say yet; return how many verdicts that is.

    Raises:
        DataFileError: see `read_scores`; nothing is saved then.
        RecordFileError: the verdicts could not be saved.
    """
    session.refresh()
    known = {score_files.key_of(each): _content(each) for each in session.verdicts if isinstance(each, Score)}
    new = [each for each in read_scores(path, session) if known.get(score_files.key_of(each)) != _content(each)]
    if new:
        session.file.add(*new)
        session.refresh()
    return len(new)


def defuse(text: str) -> str:
    """Put an apostrophe before what a spreadsheet would run; `restore` takes it off.

    >>> defuse("=1+1"), defuse("'tis"), defuse("'=1+1")
    ("'=1+1", "'tis", "''=1+1")
    """
    return f"'{text}" if text.lstrip("' ").startswith(FORMULA_STARTS) else text


def restore(cell: str) -> str:
    """Undo `defuse`.

    >>> restore("'=1+1"), restore("'tis"), restore("''=1+1")
    ('=1+1', "'tis", "'=1+1")
    """
    return cell[1:] if cell.startswith("'") and cell.lstrip("' ").startswith(FORMULA_STARTS) else cell


def _rows(path: Path) -> list[tuple[int, Mapping[str, str]]]:
    """Return the rows below the heading with their numbers, empty ones left out."""
    lines = _lines(path, _text(path))
    first = next((number for number, line in enumerate(lines) if any(map(str.strip, line))), 0)
    columns = [name.strip().lower().replace(" ", "_") for name in lines[first]] if lines else []
    missing = [name for name in NEEDED if columns.count(name) != 1]
    if missing:
        fix = f"Put the heading back above the answers: {', '.join(COLUMNS)}."
        raise _no_template(path, f"has no single column {missing[0]!r} in row {first + 1}", fix)
    rows = [(number, line) for number, line in enumerate(lines[first + 1 :], first + 2) if any(map(str.strip, line))]
    for number, line in rows:
        if len(line) > len(columns):
            what = f"has {len(line)} cells in row {number} under a heading of {len(columns)}"
            raise _no_template(path, what, "Put every cell that holds a comma or semicolon in double quotes.")
    empty = [""] * len(columns)
    return [(number, dict(zip(columns, [*map(restore, line), *empty], strict=False))) for number, line in rows]


def _lines(path: Path, text: str) -> list[list[str]]:
    """Return the cells of each row, without the line `sep=;` that some programs put above the heading."""
    named = re.match(r'\s*"?sep=([^"\r\n])"?[^\r\n]*(\r\n|\n|\r|$)', text, re.IGNORECASE)
    text = text[named.end() :] if named else text
    heading = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = named.group(1) if named else max(_DELIMITERS, key=heading.count)
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise _no_template(path, f"is not CSV ({error})") from error
    first = next((line for line in lines if any(map(str.strip, line))), [])
    whole = "\n".join(line[0] if line else "" for line in lines)
    if len(first) == 1 and any(each in first[0] for each in _DELIMITERS) and len(whole) < len(text):
        return _lines(path, whole)  # each row was quoted as if it were one cell
    return lines


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        if data.startswith(b"PK\3\4"):
            raise _no_template(path, "is a workbook, not CSV", "Save it as 'CSV UTF-8'.")
        return files.decoded(data)
    except UnicodeDecodeError as error:
        raise _no_template(path, f"is not UTF-8 text at byte {error.start}", "Save it as 'CSV UTF-8'.") from error
    except OSError as error:
        raise _no_template(path, f"cannot be read ({error.strerror})", "Check its path.") from error


def _no_template(path: Path, what: str, fix: str = "Fill in the template and save it as CSV.") -> DataFileError:
    return DataFileError(f"{path.name} {what}.", fix)


def _faults(row: Mapping[str, str], *, known: bool, before: int | None) -> Iterable[str]:
    found = []
    if not known:
        place = f"{_quoted(row['answer_id'])} for the prompt {_quoted(row['prompt_id'])}"
        found.append(f"column answer_id: {place} is no answer of this run; leave prompt_id and answer_id as they were")
    elif before is not None:
        found.append(f"column answer_id: {_quoted(row['answer_id'])} stands in row {before} already; keep one of them")
    if _grade(row["score"]) == 0:
        found.append(f"column score: {_quoted(row['score'])} is no grade; give 1, 2, 3, 4 or 5, or leave it empty")
    return found


def _grade(cell: str) -> int | None:
    """Return the grade, None for an empty cell, 0 for anything else; spreadsheets write 4 as 4.0 or 4,0 at times."""
    text = unicodedata.normalize("NFKC", cell).strip().replace(",", ".")
    whole = text.removesuffix(".0").removesuffix(".00")
    if not text:
        return None
    return int(whole) if whole in {"1", "2", "3", "4", "5"} else 0


def _score(row: Mapping[str, str], item: Item, session: Session) -> list[Score]:
    grade, comment = _grade(row["score"]), clean_comment(row["comment"])
    if grade is None and not comment:
        return []
    sha256 = item.shown[0].answer.sha256
    return [Score(session.rater, item.prompt.id, sha256, grade, session.version, score_files.now(), comment)]


def _content(score: Score) -> tuple[int | None, str]:
    return score.grade, score.comment


def _answer_id(sha256: str) -> str:
    """Return a short name that no spreadsheet takes for a number."""
    return f"sha256-{sha256[:_HASH_LENGTH]}"


def _fit(text: str) -> str:
    if len(text) <= LONGEST_CELL:
        return text
    return f"{text[:LONGEST_CELL]}… [cut here: {len(text) - LONGEST_CELL:,} more characters]"


def _quoted(text: str) -> str:
    shown = printable(text)
    return repr(shown if len(shown) <= 40 else f"{shown[:39]}…")
