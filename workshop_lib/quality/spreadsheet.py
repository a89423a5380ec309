"""Judging in a spreadsheet: a CSV template with the answers goes out, grades and comments come back in.

The template is blind, in the rater's own order, and opens in Excel, LibreOffice and Numbers (UTF-8 with a byte order
mark); what comes back may have semicolons, tabs or UTF-16. A cell that a spreadsheet would run as a formula gets an
apostrophe, which is taken off again on reading.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from pathlib import Path

from workshop_lib import data, files
from workshop_lib.errors import ConfigurationError, DataFileError
from workshop_lib.quality import scores
from workshop_lib.quality.annotation import Session, clean_comment
from workshop_lib.quality.scores import GRADES, Answer, Score
from workshop_lib.show.text import FORMULA_STARTS, csv_cell, one_line

COLUMNS = ("prompt_id", "answer_id", "prompt", "answer", "aspects", "score", "comment")
NEEDED = ("prompt_id", "answer_id", "score", "comment")
LONGEST_CELL = 32_000
"""Characters; Excel holds 32,767 and cuts silently."""

FAULTS = {
    "cells": "row {row}: {seen} cells under a heading of fewer; put cells that hold a comma or semicolon in quotes",
    "unknown": "row {row}, column answer_id: {seen} is no answer of this run; leave both ids as they were",
    "twice": "row {row}, column answer_id: {seen} is in an earlier row too; keep one of them",
    "grade": "row {row}, column score: {seen} is no grade; give 1, 2, 3, 4 or 5, or leave it empty",
}
FAULTS_SHOWN = 10


def write_template(session: Session) -> Path:
    """Write one row per answer with empty score and comment; a score already given is filled in.

    It lies beside the raters' files. A file that is there is left as it is: it may hold an hour's work.
    Raises `ConfigurationError` if the session judges pairs, or if the file cannot be written.
    """
    if session.mode != "rubric":
        raise ConfigurationError("A CSV template holds grades, not pairs.", "Use the rubric mode for it.")
    name = re.sub(r"[^\w.-]", "_", f"{session.rater}-{session.run.run_id}")
    path = session.folder / f"{name}.csv"
    if not path.exists():
        out = io.StringIO(newline="")
        writer = csv.writer(out)
        writer.writerow(COLUMNS)
        for item in session.items:
            (answer,), score = item, session.score(item)
            aspects = "; ".join(aspect.replace("|", " or ") for aspect in answer.prompt.aspects)
            said = (str(score.value or ""), score.comment) if score else ("", "")
            cells = (answer.prompt.id, _answer_id(answer), answer.prompt.text, answer.text, aspects, *said)
            writer.writerow(map(_cell, cells))
        files.write_atomically(path, f"\ufeff{out.getvalue()}")
    return path


def check_file(filled: str) -> None:
    """Raise `DataFileError` where a file is named and cannot be read."""
    if filled:
        _rows(Path(filled))


def add_scores(path: Path | str, session: Session) -> int:
    """Save what a filled template says and the rater's file does not say yet; return how many scores that is.

    Raises as `read_scores`, or as `ScoreFile.add`; nothing is saved then.
    """
    session.refresh()
    known = {key: (score.value, score.comment) for key, score in session.given.items()}
    new = [score for score in read_scores(path, session) if known.get(score.key) != (score.value, score.comment)]
    if new:
        session.file.add(*new)
        session.refresh()
    return len(new)


def read_scores(path: Path | str, session: Session) -> list[Score]:
    """The grades and comments of a filled template as this session's rater; untouched rows give none.

    Raises:
        DataFileError: not such a file, or rows with faults: the first ten, each with row, column, value and what is
            allowed. Rows are numbered as a spreadsheet numbers them, the heading being row 1.
    """
    path = Path(path)
    (first, heading), *rows = _rows(path)
    columns = [name.strip().lower().replace(" ", "_") for name in heading]
    for name in NEEDED:
        if columns.count(name) != 1:
            fix = f"Put the heading back above the answers: {', '.join(COLUMNS)}."
            raise DataFileError(f"{path.name} has no single column {name!r} in row {first}.", fix)
    answers = {(item[0].prompt.id, _answer_id(item[0])): item for item in session.items}
    faults: list[str] = []
    found: dict[tuple[str, str], Score] = {}
    for number, line in rows:
        cells = dict.fromkeys(columns, "") | dict(zip(columns, map(restore, line), strict=False))
        key, grade = (cells["prompt_id"].strip(), cells["answer_id"].strip()), _grade(cells["score"])
        wrong = {
            "cells": str(len(line)) if len(line) > len(columns) else "",
            "unknown": "" if key in answers else " for the prompt ".join(map(_quoted, key[::-1])),
            "twice": _quoted(key[1]) if key in found else "",
            "grade": _quoted(cells["score"]) if grade == 0 else "",
        }
        faults += [FAULTS[code].format(row=number, seen=seen) for code, seen in wrong.items() if seen]
        if key in answers:
            comment = clean_comment(cells["comment"])
            found[key] = scores.score_now(answers[key], session.rater, grade, session.version, comment)
    if faults:
        listed = "".join(f"\n  {fault}" for fault in faults[:FAULTS_SHOWN])
        what = f"{path.name}: nothing was read in, of {len(faults)} faults the first are:{listed}\n"
        raise DataFileError(what, "Correct the file and try again.")
    return [score for score in found.values() if score.value or score.comment]


def restore(cell: str) -> str:
    """Undo `csv_cell`.

    >>> restore("'=1+1"), restore("'tis"), restore("''=1+1")
    ('=1+1', "'tis", "'=1+1")
    """
    return cell[1:] if cell.startswith("'") and cell.lstrip("' ").startswith(FORMULA_STARTS) else cell


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """Number and cells of each row that is not empty; at least the heading's. A line `sep=;` names the delimiter."""
    text = data.read_text(path)
    named = re.match(r'\s*"?sep=([^"\r\n])"?[^\r\n]*(\r\n|\n|\r|$)', text, re.IGNORECASE)
    text = text[named.end() :] if named else text
    heading = next((line for line in text.splitlines() if line.strip(" ,;\t")), "")
    if heading.startswith('"') and heading.endswith('"') and '","' not in heading and heading.count('"') == 2:
        # a program that knows another list separator took each row for one cell, and quoted it
        text = "\n".join(line[0] if line else "" for line in csv.reader(io.StringIO(text, newline="")))
    try:
        delimiter = named[1] if named else max(",", ";", "\t", key=heading.count)
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise DataFileError(f"{path.name} is not CSV ({error}).", "Save the template as 'CSV UTF-8'.") from error
    return [(number, line) for number, line in enumerate(lines, 1) if any(map(str.strip, line))] or [(1, [])]


def _cell(text: str) -> str:
    cell = csv_cell(text)
    return cell if len(cell) <= LONGEST_CELL else f"{cell[:LONGEST_CELL]}… [cut here]"


def _grade(cell: str) -> int | None:
    """The grade, None for an empty cell, 0 for anything else; spreadsheets write 4 as 4.0 or 4,0 at times."""
    text = unicodedata.normalize("NFKC", cell).strip().replace(",", ".")
    return {"": None, **{str(grade): grade for grade in GRADES}}.get(re.sub(r"\.00?$", "", text), 0)


def _answer_id(answer: Answer) -> str:
    """A short name that no spreadsheet takes for a number."""
    return f"sha256-{answer.sha256[:16]}"


def _quoted(text: str) -> str:
    return repr(one_line(text, 40))
