"""Verdicts on disk: appended, synced, taken back by a further line; safe against names, crashes and two writers."""

from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workshop_lib.errors import ConfigurationError, RecordFileError
from workshop_lib.verdicts import score_files
from workshop_lib.verdicts.score_files import ScoreFile, current, rater_name, read_all
from workshop_lib.verdicts.scores import Preference, Score

KILLS = 10
FIXTURE = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def score(grade: int | None = 3, answer: str = "a" * 64, **changes: object) -> Score:
    values = {"rater": "ada", "prompt_id": "p", "rubric_version": "1+x", "scored_at": "2026-01-01T00:00:00Z", **changes}
    return Score(answer_sha256=answer, grade=grade, **values)


def preference(a: str, b: str, choice: str | None, rater: str = "ada") -> Preference:
    return Preference(rater, "p", a, b, choice, "1+x", "2026-01-01T00:00:00Z")


def verdicts_of(file: ScoreFile) -> list[object]:
    return [each.verdict for each in file.standing()]


@pytest.mark.parametrize(
    ("typed", "kept"),
    [(" Ada ", "ada"), ("Ada Lovelace", "ada-lovelace"), ("JOSÉ", "josé"), ("李", "李"), ("r2.d2", "r2.d2")],
)
def test_names_are_kept_in_one_spelling(typed: str, kept: str):
    """The same person is one file on systems that tell upper from lower case and on those that do not."""
    assert rater_name(typed) == kept


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "  ",
        ".",
        "..",
        "../ada",
        "a/b",
        "a\\b",
        "C:ada",
        "-ada",
        "ada.",
        "con",
        "NUL.x",
        "a\0b",
        "a:b",
        "x" * 41,
        "judge:",
    ],
)
def test_names_that_are_no_file_names_are_refused(typed: str):
    """No name leaves the folder, hides a file, or means a device on Windows."""
    with pytest.raises(ConfigurationError, match="cannot be a rater's name"):
        rater_name(typed)


@FIXTURE
@given(typed=st.text(max_size=60))
def test_no_name_ever_leaves_the_folder(tmp_path: Path, typed: str):
    """Whatever is typed, either it is refused or its file lies directly in the folder."""
    try:
        file = ScoreFile(tmp_path, typed)
    except ConfigurationError:
        return
    assert file.path.resolve().parent == tmp_path.resolve()
    assert rater_name(file.rater) == file.rater


def test_a_judge_has_a_file_of_its_own_too(tmp_path: Path):
    """A model id with colons and slashes becomes one plain file name, and comes back whole."""
    file = ScoreFile(tmp_path, "judge:org/model:1")
    file.add(score(rater="judge:org/model:1"))
    assert file.path.name == "judge%3Aorg%2Fmodel%3A1.jsonl"
    assert [each.rater for each in read_all(tmp_path)] == ["judge:org/model:1"]


@pytest.mark.parametrize(
    "model_id", ["モデル", "fox🦊-é:1", "lone\ud800", "/models/" + "long/" * 60 + "x.gguf", "家" * 300]
)
def test_a_judge_may_have_any_model_id(tmp_path: Path, model_id: str):
    """Ids in any script and whole paths become file names that every folder holds, and come back whole."""
    file = ScoreFile(tmp_path, f"judge:{model_id}")
    file.add(score(rater=file.rater))
    assert file.path.name.isascii() and len(file.path.name) <= 126
    assert [each.rater for each in read_all(tmp_path)] == [f"judge:{model_id}"]
    assert ScoreFile(tmp_path, f"judge:{model_id}x").path != file.path


def test_verdicts_read_back_in_order(tmp_path: Path):
    """Scores and preferences of one rater share a file."""
    file = ScoreFile(tmp_path, "Ada")
    given = [score(4), preference("a", "b", "tie"), score(None, comment="why?")]
    for each in given:
        file.add(each)
    assert verdicts_of(ScoreFile(tmp_path, "ada")) == given
    assert [each.line for each in file.standing()] == [2, 3, 4]


@FIXTURE
@given(comment=st.text(max_size=60))
def test_any_comment_survives(tmp_path: Path, comment: str):
    """New lines, quotes, half characters and separators come back unchanged."""
    file = ScoreFile(tmp_path, "ada")
    file.path.unlink(missing_ok=True)
    file.add(score(comment=comment))
    assert verdicts_of(file) == [score(comment=comment)]


def test_a_later_verdict_replaces_an_earlier_one_and_undo_brings_it_back(tmp_path: Path):
    """Nothing is rewritten: the file holds both verdicts and the line that takes one back."""
    file = ScoreFile(tmp_path, "ada")
    file.add(score(2))
    file.add(score(5))
    assert current(file.standing()) == (score(5),)
    file.take_back(3)
    assert current(file.standing()) == (score(2),)
    assert len(file.path.read_bytes().splitlines()) == 4


def test_only_a_standing_verdict_can_be_taken_back(tmp_path: Path):
    """The header, an unknown line and a line already taken back are refused, and the file stays as it was."""
    file = ScoreFile(tmp_path, "ada")
    file.add(score())
    file.take_back(2)
    before = file.path.read_bytes()
    for line in (1, 2, 3, 9):
        with pytest.raises(RecordFileError, match="no verdict stands there"):
            file.take_back(line)
    assert file.path.read_bytes() == before


def test_both_orders_of_a_pair_are_two_verdicts():
    """A judge is asked twice about a pair, so the order in which it was shown belongs to the key."""
    both = [preference("a", "b", "a"), preference("b", "a", "b")]
    standing = [score_files.Standing(n, each) for n, each in enumerate(both)]
    assert current(standing) == tuple(both)


def test_every_cut_of_the_file_keeps_the_whole_lines(tmp_path: Path):
    """Wherever a crash cuts the file, whole lines are kept, and the next verdict follows them."""
    file = ScoreFile(tmp_path, "ada")
    for grade in (1, 2, 3):
        file.add(score(grade, answer=str(grade)))
    whole = file.path.read_bytes()
    for cut in range(len(whole)):
        file.path.write_bytes(whole[:cut])
        kept = max(0, whole[:cut].count(b"\n") - 1)
        assert len(file.standing()) == kept
        file.add(score(5, answer="new"))
        assert [each.grade for each in verdicts_of(file)] == [*range(1, kept + 1), 5]


def test_a_full_disk_saves_nothing_and_says_so(tmp_path: Path, monkeypatch):
    """A verdict that could not be synced is not in the file, and the next one is written as ever."""
    file = ScoreFile(tmp_path, "ada")
    file.add(score(1))
    before = file.path.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(RecordFileError, match=r"No space left on device.*Nothing was saved"):
            file.add(score(2, answer="x"), score(3, answer="y"))
    assert file.path.read_bytes() == before
    file.add(score(4, answer="z"))
    assert [each.grade for each in verdicts_of(file)] == [1, 4]


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path):
    """A file where the folder should be is answered with the reason."""
    (tmp_path / "annotations").write_text("in the way")
    with pytest.raises(RecordFileError, match="cannot be written"):
        ScoreFile(tmp_path / "annotations", "ada").add(score())


def test_two_writers_of_one_rater_interleave_whole_lines(tmp_path: Path):
    """Two notebooks with the same name wait for each other: all verdicts arrive, each on its own line."""
    code = (
        "import sys; from pathlib import Path; from tests.test_score_files import score, ScoreFile\n"
        "file = ScoreFile(Path(sys.argv[1]), 'ada')\n"
        "for n in range(25): file.add(score(3, answer=f'{sys.argv[2]}-{n}'))"
    )
    root = Path(__file__).parents[1]
    both = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), name], cwd=root) for name in ("one", "two")]
    assert [each.wait(60) for each in both] == [0, 0]
    seen = [each.answer_sha256 for each in verdicts_of(ScoreFile(tmp_path, "ada"))]
    assert sorted(seen) == sorted(f"{name}-{n}" for name in ("one", "two") for n in range(25))


@pytest.mark.slow
def test_a_killed_writer_loses_nothing_that_it_acknowledged(tmp_path: Path):
    """Killed at any moment, also within a write, all verdicts that were said to be saved are in the file."""
    code = (
        "import sys; from pathlib import Path; from tests.test_score_files import score, ScoreFile\n"
        "file = ScoreFile(Path(sys.argv[1]), 'ada')\n"
        "while True:\n"
        "    n = len(file.standing())\n"
        "    file.add(score(3, answer=f'answer {n}', comment='long ' * 500))\n"
        "    print(n, flush=True)"
    )
    chance, saved = random.Random(7), 0
    for _ in range(KILLS):
        command = [sys.executable, "-c", code, str(tmp_path)]
        with subprocess.Popen(command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True) as writer:
            said = [writer.stdout.readline()]
            threading.Timer(chance.uniform(0, 0.05), writer.kill).start()
            said += writer.stdout.readlines()
        whole = [line for line in said if line.endswith("\n")]
        assert int(whole[0]) >= saved
        saved = int(whole[-1]) + 1
        seen = [each.answer_sha256 for each in verdicts_of(ScoreFile(tmp_path, "ada"))]
        assert len(seen) >= saved and seen == [f"answer {n}" for n in range(len(seen))]


def test_a_lock_that_is_never_released_is_said(tmp_path: Path, monkeypatch):
    """Who waits in vain learns which file and what to close."""
    from filelock import FileLock

    monkeypatch.setattr(score_files, "LOCK_TIMEOUT_S", 0.05)
    file = ScoreFile(tmp_path, "ada")
    with FileLock(f"{file.path}.lock"), pytest.raises(RecordFileError, match="Close the other notebook"):
        file.add(score())


def test_nobody_writes_under_another_name(tmp_path: Path):
    """A verdict carries its rater; it cannot land in another's file."""
    with pytest.raises(ConfigurationError, match="'bob'"):
        ScoreFile(tmp_path, "ada").add(score(rater="bob"))


HEADER = {"kind": "scores", "schema": 1, "rater": "ada"}
GOOD = {"kind": "score", "prompt_id": "p", "answer_sha256": "a", "grade": 3, "rubric_version": "1", "scored_at": "now"}


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["{"], "line 1: not a verdict"),
        (["[]"], "line 1: not a verdict"),
        ([{**HEADER, "kind": "run"}], "line 1: not a verdict"),
        ([{**HEADER, "schema": 9}], "has schema 9, this version reads 1"),
        ([{**HEADER, "rater": "bob"}], "holds the verdicts of 'bob'"),
        ([HEADER, {**GOOD, "grade": 6}], "line 2: not a verdict"),
        ([HEADER, {**GOOD, "grade": True}], "line 2: not a verdict"),
        ([HEADER, {**GOOD, "colour": "red"}], "line 2: not a verdict"),
        ([HEADER, {"kind": "preference", "choice": "c"}], "line 2: not a verdict"),
        ([HEADER, GOOD, {"kind": "undo", "line": 7}], "line 3: not a verdict"),
    ],
)
def test_broken_files_are_refused_with_the_line(tmp_path: Path, lines: list[object], said: str):
    """A broken line before the last is never passed over, on reading and before writing."""
    file = ScoreFile(tmp_path, "ada")
    texts = [each if isinstance(each, str) else json.dumps(each) for each in lines]
    file.path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    with pytest.raises(RecordFileError, match=said):
        file.standing()
    with pytest.raises(RecordFileError, match=said):
        file.add(score())


def test_all_raters_are_read_together(tmp_path: Path):
    """The current verdicts of every rater, by name; other files in the folder do not matter."""
    ScoreFile(tmp_path, "bob").add(score(5, rater="bob"))
    ScoreFile(tmp_path, "ada").add(score(1), score(2))
    (tmp_path / "template.csv").write_text("x")
    assert read_all(tmp_path) == (score(2), score(5, rater="bob"))
    assert read_all(tmp_path / "none") == ()


def test_two_files_of_one_rater_are_refused(tmp_path: Path):
    """A copied file would count a person twice."""
    file = ScoreFile(tmp_path, "ada")
    file.add(score())
    (tmp_path / "copy.jsonl").write_bytes(file.path.read_bytes())
    with pytest.raises(RecordFileError, match="second file of the rater 'ada'"):
        read_all(tmp_path)


def test_an_empty_file_among_the_raters_is_refused(tmp_path: Path):
    """Without a header it is not known whose verdicts these are."""
    (tmp_path / "ada.jsonl").touch()
    with pytest.raises(RecordFileError, match="has no header"):
        read_all(tmp_path)
