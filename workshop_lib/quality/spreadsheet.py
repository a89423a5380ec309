"""Judging in a spreadsheet: a CSV template with the answers goes out, grades and comments come back in.

The template is blind, in the rater's own order, and opens in Excel, LibreOffice and Numbers (UTF-8 with a byte order
mark); what comes back may have semicolons, tabs, a line `sep=;` or UTF-16. A cell that a spreadsheet would run as a
formula gets an apostrophe, which is taken off again on reading.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path

from workshop_lib import files
from workshop_lib.errors import DataFileError
from workshop_lib.quality import scores
from workshop_lib.quality.annotation import JudgingError, Session, clean_comment
from workshop_lib.quality.scores import GRADES, Answer, Verdict
from workshop_lib.show.text import FORMULA_STARTS, one_line, printable

COLUMNS = ("prompt_id", "answer_id", "prompt", "answer", "aspects", "score", "comment")
NEEDED = ("prompt_id", "answer_id", "score", "comment")
LONGEST_CELL = 30_000
"""Characters; Excel holds 32,767 and cuts silently."""

FAULTS_SHOWN = 10
_BYTE_ORDER_MARK = "\ufeff"
_DELIMITERS = (",", ";", "\t")


def write_template(session: Session, path: Path | None = None) -> Path:
    """Write one row per answer with empty score and comment; a verdict already given is filled in.

    Without a path it lies beside the raters' files. A file that is there is left as it is: it may hold an hour's work.
    Raises `JudgingError` if the session judges pairs, `ConfigurationError` if the file cannot be written.
    """
    if session.mode != "rubric":
        raise JudgingError("A CSV template holds grades, not pairs.", "Use the rubric mode for it.")
    name = re.sub(r"[^\w.-]", "_", f"{session.rater}-{session.run.run_id}")
    path = path or session.folder / f"{name}.csv"
    if not path.exists():
        files.write_atomically(path, _template(session))
    return path


def _template(session: Session) -> str:
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for item in session.items:
        verdict, answer = session.verdict(item), item.shown[0]
        cells = (
            answer.prompt.id,
            _answer_id(answer),
            answer.prompt.text,
            answer.text,
            "; ".join(aspect.replace("|", " or ") for aspect in answer.prompt.aspects),
            "" if verdict is None or verdict.value is None else str(verdict.value),
            verdict.comment if verdict else "",
        )
        writer.writerow([defuse(_fit(printable(cell))) for cell in cells])
    return _BYTE_ORDER_MARK + out.getvalue()


def add_scores(path: Path | str, session: Session) -> int:
    """Save what a filled template says and the rater's file does not say yet; return how many verdicts that is.

    Raises `DataFileError`, see `read_scores`, or `RecordFileError`; nothing is saved then.
    """
    session.refresh()
    known = {verdict.key: (verdict.value, verdict.comment) for verdict in session.verdicts}
    read = read_scores(path, session)
    new = [verdict for verdict in read if known.get(verdict.key) != (verdict.value, verdict.comment)]
    if new:
        session.file.add(*new)
        session.refresh()
    return len(new)


def read_scores(path: Path | str, session: Session) -> tuple[Verdict, ...]:
    """The grades and comments of a filled template as this session's rater; untouched rows give none.

    Raises:
        DataFileError: not such a file, or rows with faults: the first ten, each with row, column, value and what is
            allowed. Rows are numbered as a spreadsheet numbers them, the heading being row 1.
    """
    path = Path(path)
    answers = {(item.shown[0].prompt.id, _answer_id(item.shown[0])): item.shown for item in session.items}
    faults: list[str] = []
    seen: dict[tuple[str, str], int] = {}
    found = []
    for number, row in _rows(path):
        key = row["prompt_id"].strip(), row["answer_id"].strip()
        grade, comment = _grade(row["score"]), clean_comment(row["comment"])
        if key not in answers:
            where = f"{_quoted(key[1])} for the prompt {_quoted(key[0])}"
            fix = "leave prompt_id and answer_id as they were"
            faults.append(f"row {number}, column answer_id: {where} is no answer of this run; {fix}")
        elif key in seen:
            where = f"{_quoted(key[1])} is in row {seen[key]} already"
            faults.append(f"row {number}, column answer_id: {where}; keep one of them")
        if grade == 0:
            fix = "give 1, 2, 3, 4 or 5, or leave it empty"
            faults.append(f"row {number}, column score: {_quoted(row['score'])} is no grade; {fix}")
        seen.setdefault(key, number)
        if not faults and (grade or comment):
            found.append(scores.verdict_on(answers[key], session.rater, grade, session.version, comment))
    if faults:
        more = f" And {len(faults) - FAULTS_SHOWN} more." if len(faults) > FAULTS_SHOWN else ""
        listed = "\n".join(f"  {fault}" for fault in faults[:FAULTS_SHOWN])
        raise DataFileError(f"{path.name}: nothing was read in:\n{listed}\n", f"Correct the file and try again.{more}")
    return tuple(found)


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
    """The rows below the heading with their numbers, empty ones skipped."""
    lines = [(number, line) for number, line in enumerate(_lines(path, _text(path)), 1) if any(map(str.strip, line))]
    first, heading = lines[0] if lines else (1, [])
    columns = [name.strip().lower().replace(" ", "_") for name in heading]
    missing = [name for name in NEEDED if columns.count(name) != 1]
    if missing:
        fix = f"Put the heading back above the answers: {', '.join(COLUMNS)}."
        raise _no_template(path, f"has no single column {missing[0]!r} in row {first}", fix)
    for number, line in lines[1:]:
        if len(line) > len(columns):
            what = f"has {len(line)} cells in row {number} under a heading of {len(columns)}"
            raise _no_template(path, what, "Put every cell that holds a comma or semicolon in double quotes.")
    empty = [""] * len(columns)
    return [(number, dict(zip(columns, [*map(restore, line), *empty], strict=False))) for number, line in lines[1:]]


def _lines(path: Path, text: str) -> list[list[str]]:
    """The cells of each row, without the line `sep=;` that some programs put above the heading."""
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
    if len(first) == 1 and any(sign in first[0] for sign in _DELIMITERS) and len(whole) < len(text):
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


def _grade(cell: str) -> int | None:
    """The grade, None for an empty cell, 0 for anything else; spreadsheets write 4 as 4.0 or 4,0 at times."""
    text = unicodedata.normalize("NFKC", cell).strip().replace(",", ".")
    if not text:
        return None
    return {str(grade): grade for grade in GRADES}.get(re.sub(r"\.00?$", "", text), 0)


def _answer_id(answer: Answer) -> str:
    """A short name that no spreadsheet takes for a number."""
    return f"sha256-{answer.sha256[:16]}"


def _fit(text: str) -> str:
    if len(text) <= LONGEST_CELL:
        return text
    return f"{text[:LONGEST_CELL]}… [cut here: {len(text) - LONGEST_CELL:,} more characters]"


def _quoted(text: str) -> str:
    return repr(one_line(text, 40))
