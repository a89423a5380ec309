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
from itertools import zip_longest
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

    Untouched rows give none. Nothing is saved where this raises:

        DataFileError: not such a file, or rows with faults: the first ten, each with row, column, value and what is
            allowed. Rows are numbered as a spreadsheet numbers them, the heading being row 1.
        RecordFileError, ConfigurationError, DiskSpaceError: as `ScoreFile.add`.
    """
    items = {(item[0].prompt.id, _answer_id(item[0])): item for item in session.items}
    faults: list[str] = []
    found: dict[tuple[str, str], Score] = {}
    for number, cells in _rows(Path(path)):
        key, grade = (cells["prompt_id"].strip(), cells["answer_id"].strip()), _grade(cells["score"])
        if "" in cells:
            faults.append(f"row {number}: more cells than the heading has; put a text with a comma in quotes")
        elif key not in items or key in found:
            why = "is no answer of this run" if key not in items else "is in an earlier row too"
            seen = " for the prompt ".join(repr(one_line(each, 40)) for each in key[::-1])
            faults.append(f"row {number}, column answer_id: {seen} {why}; each answer has one row with its own ids")
        else:
            comment = clean_comment(cells["comment"])
            found[key] = scores.score_now(items[key], session.rater, grade, session.version, comment)
        if grade == 0:
            seen = repr(one_line(cells["score"], 40))
            faults.append(f"row {number}, column score: {seen} is no grade; give 1, 2, 3, 4 or 5, or leave it empty")
    if faults:
        what = f"{Path(path).name}: nothing was read in, of {len(faults)} faults the first are:"
        raise DataFileError("\n  ".join([what, *faults[:FAULTS_SHOWN], ""]), "Correct the file and try again.")
    session.refresh()
    known = {key: (score.value, score.comment) for key, score in session.given.items()}
    said = {score: (score.value, score.comment) for score in found.values() if score.value or score.comment}
    if new := [score for score, now in said.items() if known.get(score.key) != now]:
        session.file.add(*new)
        session.refresh()
    return len(new)


def restore(cell: str) -> str:
    """Undo `csv_cell`.

    >>> restore("'=1+1"), restore("'tis"), restore("''=1+1")
    ('=1+1', "'tis", "'=1+1")
    """
    return cell[1:] if cell.startswith("'") and cell.lstrip("' ").startswith(FORMULA_STARTS) else cell


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Number and cells of each row below the heading that is not empty; under no name, what the heading lacks.

    A line `sep=;` names the delimiter. Raises `DataFileError`.
    """
    text = data.read_text(path)
    named = re.match(r'\s*"?sep=([^"\r\n])"?[^\r\n]*(\r\n|\n|\r|$)', text, re.IGNORECASE)
    text = text[named.end() :] if named else text
    heading = next((line for line in text.splitlines() if line.strip(" ,;\t")), "")
    if heading.startswith('"') and heading.endswith('"') and '","' not in heading and heading.count('"') == 2:
        # a program that knows another list separator took each row for one cell, and quoted it
        text = "\n".join(line[0] if line else "" for line in csv.reader(io.StringIO(text, newline="")))
    try:
        delimiter = named[1] if named else max(",", ";", "\t", key=heading.count)
        lines = list(enumerate(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True), 1))
    except csv.Error as error:
        raise DataFileError(f"{path.name} is not CSV ({error}).", "Save the template as 'CSV UTF-8'.") from error
    (first, names), *rows = [(number, line) for number, line in lines if any(map(str.strip, line))] or [(1, [])]
    columns = [name.strip().lower().replace(" ", "_") or f"column {place}" for place, name in enumerate(names)]
    for name in NEEDED:
        if columns.count(name) != 1:
            fix = f"Put the heading back above the answers: {', '.join(COLUMNS)}."
            raise DataFileError(f"{path.name} has no single column {name!r} in row {first}.", fix)
    return [(number, dict(zip_longest(columns, map(restore, line), fillvalue=""))) for number, line in rows]


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
