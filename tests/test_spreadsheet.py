"""The CSV template: blind, safe in a spreadsheet, and read back with every fault named by row and column."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.annotation_helpers import run_with
from workshop_lib.errors import ConfigurationError, DataFileError
from workshop_lib.quality import scores, spreadsheet
from workshop_lib.quality.annotation import Session, clean_comment
from workshop_lib.quality.spreadsheet import add_scores, restore, write_template
from workshop_lib.show.text import csv_cell, printable

FIXTURE = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
STARTS = ("=", "+", "-", "@", "\t", "\r")
TEXTS = {"one": {"x": "first", "y": "=cmd|' /C calc'!A0"}, "two": {"x": 'a,b;\n"c"', "y": "naïve 你好"}}


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(run_with(TEXTS), tmp_path / "annotations", rater="ada")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "annotations"
    folder.mkdir()
    return folder / "ada-20260101T000000Z.csv"


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="")))


def fill(path: Path, *changes: dict[str, str], delimiter: str = ",", encoding: str = "utf-8-sig") -> None:
    """Write the rows back as a person's spreadsheet would, with these cells changed row by row."""
    rows = rows_of(path)
    for row, change in zip(rows, changes, strict=False):
        row.update(change)
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def test_the_template_is_blind_and_complete(session: Session, path: Path):
    """One row per answer in the rater's order, aspects in words, scores empty, no model anywhere."""
    write_template(session)
    assert write_template(session) == session.folder / "ada-20260101T000000Z.csv"
    assert path.read_bytes()[:3] == b"\xef\xbb\xbf"  # without which Excel garbles every accent
    rows = rows_of(path)
    assert [row["prompt_id"] for row in rows] == [answer.prompt.id for (answer,) in session.items]
    assert tuple(rows[0]) == spreadsheet.COLUMNS
    assert {row["score"] + row["comment"] for row in rows} == {""}
    assert "int4" not in path.read_text("utf-8") and "x:1" not in path.read_text("utf-8")
    assert "'=cmd|' /C calc'!A0" in {row["answer"] for row in rows}, "what begins like a formula is shown, not run"
    with pytest.raises(ConfigurationError, match="holds grades, not pairs"):
        write_template(Session(session.run, session.folder, mode="pairwise"))


@given(
    text=st.text()
    | st.builds("".join, st.tuples(st.sampled_from(["", "'", " ", "''"]), st.sampled_from(STARTS), st.text()))
)
def test_defusing_can_be_undone(text: str):
    """Whatever the text, the cell is no formula, and reading gives the visible text back."""
    cell = csv_cell(text)
    assert not cell.lstrip(" ").startswith(STARTS)
    assert restore(cell) == printable(text)


@FIXTURE
@given(
    grades=st.lists(st.sampled_from([1, 2, 3, 4, 5, None]), min_size=4, max_size=4),
    comments=st.lists(
        st.text(max_size=30) | st.sampled_from(["=1+1", "-", "'x", "'=x", 'a;b,c\n"d"']), min_size=4, max_size=4
    ),
)
def test_grades_and_comments_come_back(tmp_path: Path, grades: list[int | None], comments: list[str]):
    """What was judged in the notebook and written out is read in again, cell by cell."""
    (tmp_path / "annotations" / "ada.jsonl").unlink(missing_ok=True)
    session = Session(run_with(TEXTS), tmp_path / "annotations", rater="ada")
    for grade, comment in zip(grades, comments, strict=True):
        session.judge(grade, comment)
    path = session.folder / "ada-20260101T000000Z.csv"
    path.unlink(missing_ok=True)
    write_template(session)
    other = Session(session.run, tmp_path / "other", rater="ada")
    other.file.path.unlink(missing_ok=True)
    add_scores(path, other)
    assert [(each.value, each.comment) for each in other.given.values()] == [
        (grade, clean_comment(comment))
        for grade, comment in zip(grades, comments, strict=True)
        if grade or clean_comment(comment)
    ]
    assert add_scores(path, session) == 0


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_filled_template_becomes_verdicts_once(session: Session, path: Path, delimiter: str):
    """Scores arrive in the rater's file with either list separator; reading twice adds nothing."""
    write_template(session)
    fill(path, {"score": "4", "comment": "good"}, {"score": " \uff12,0 "}, {"comment": "odd"}, delimiter=delimiter)
    before = path.read_bytes()
    assert write_template(session).read_bytes() == before, "running the cell again destroys no hour's work"
    assert [add_scores(path, session), add_scores(path, session)] == [3, 0]
    assert [(each.value, each.comment) for each in scores.read_all(session.folder)] == [
        (4, "good"),
        (2, ""),
        (None, "odd"),
    ]
    assert (session.judged, session.skipped) == (2, 1)


HEADING = ("prompt_id", "answer_id", "score", "comment")
SHAPES = {
    "sep line": lambda text: "sep=;\r\n" + text.replace(",", ";"),
    "quoted sep line": lambda text: '"sep=;"\r\n' + text.replace(",", ";"),
    "sep line, tab": lambda text: "sep=\t\n" + text.replace(",", "\t"),
    "blank lines first": lambda text: "\r\n ,,,\r\n" + text,
    "all quoted": lambda text: "".join('"' + line.replace(",", '","') + '"\r\n' for line in text.splitlines()),
    "rows quoted whole": lambda text: "".join('"' + line.replace('"', '""') + '"\r\n' for line in text.splitlines()),
    "only the heading in capitals": lambda text: text.replace("prompt_id", "Prompt ID").replace("score", " SCORE "),
    "old Mac line ends": lambda text: text.replace("\r\n", "\r"),
    "blank line between": lambda text: text.replace("\r\n", "\r\n\r\n"),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_file_is_read_as_spreadsheets_leave_it(session: Session, path: Path, shape: str, encoding: str):
    """A line `sep=;`, quotes, blank lines, other line ends and UTF-16 change no grade."""
    keys = [(row["prompt_id"], row["answer_id"]) for row in rows_of(write_template(session))]
    text = "".join(f"{','.join(row)}\r\n" for row in [HEADING, (*keys[0], "4", "gut é"), (*keys[1], "2.0", "")])
    path.write_bytes(SHAPES[shape](text).encode(encoding))
    assert add_scores(path, session) == 2
    assert [(score.value, score.comment) for score in session.given.values()] == [(4, "gut é"), (2, "")]


def test_a_changed_grade_replaces_the_old_one(session: Session, path: Path):
    """A second look in the spreadsheet counts; untouched rows take nothing back."""
    write_template(session)
    fill(path, {"score": "4"}, {"score": "3"})
    add_scores(path, session)
    fill(path, {"score": "5"}, {"score": ""})
    assert add_scores(path, session) == 1
    assert [score.value for score in scores.read_all(session.folder)] == [3, 5]


def test_every_fault_is_named_with_row_and_column(session: Session, path: Path):
    """All faults at once, numbered as the spreadsheet does; nothing of a faulty file is saved."""
    write_template(session)
    first = rows_of(path)[0]
    fill(
        path,
        {"score": "6"},
        {"score": "good", "comment": "x"},
        {"answer_id": "sha256-0"},
        {key: first[key] for key in ("prompt_id", "answer_id")},
    )
    with pytest.raises(DataFileError) as caught:
        add_scores(path, session)
    said = str(caught.value)
    assert "row 2, column score: '6' is no grade; give 1, 2, 3, 4 or 5, or leave it empty" in said
    assert "row 3, column score: 'good' is no grade" in said
    assert "row 4, column answer_id: 'sha256-0' for the prompt" in said and "is no answer of this run" in said
    assert "row 5, column answer_id:" in said and "is in an earlier row too" in said
    assert not session.file.path.exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no single column 'prompt_id'"),
        (b"prompt_id,answer_id,score\n", "no single column 'comment'"),
        (b"prompt_id,answer_id,score,score,comment\n", "no single column 'score'"),
        ("prompt_id,answer_id,score,comment\np,a,,é".encode("cp1252"), "position 39"),
        (b'prompt_id,answer_id,score,comment\np,a,"x', "is not CSV"),
        (b"\nprompt_id,answer_id,score,comment\n\np,a,4,0,\n", "row 4: more cells than the heading has; .*in quotes"),
        (b"p,sha256-0,4,good\n", "no single column 'prompt_id' in row 1.*prompt_id, answer_id, prompt, answer"),
        (b"prompt_id,answer_id,score,comment\n" + b"x" * 140_000, "is not CSV"),
    ],
)
def test_other_files_are_refused(session: Session, path: Path, content: bytes, said: str):
    """A file that is missing or no template is one sentence with the way out, also in the settings of a page."""
    with pytest.raises(DataFileError, match="is missing"):
        spreadsheet.check_file(str(path))
    spreadsheet.check_file("")
    path.write_bytes(content)
    with pytest.raises(DataFileError, match=said):
        add_scores(path, session)


def test_short_rows_and_extra_columns_do_no_harm(session: Session, path: Path):
    """Spreadsheets drop empty cells at the end of a row, and people add columns and empty rows."""
    write_template(session)
    row = rows_of(path)[0]
    text = f"Score,prompt_id,answer_id,comment,mine,,\r\n5,{row['prompt_id']},{row['answer_id']}\r\n,,,,,,\r\n"
    path.write_text(text, encoding="utf-8", newline="")
    assert add_scores(path, session) == 1
    assert [score.value for score in session.given.values()] == [5]
