"""Answers, verdicts and their files: appended, synced, undone by a further line; safe against names and crashes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.annotation_helpers import answer, run_with, variant
from tests.measurement_helpers import run_of
from workshop_lib import data
from workshop_lib.errors import ConfigurationError, RecordFileError
from workshop_lib.quality import scores
from workshop_lib.quality.scores import Score, ScoreFile, current, kind_of, rater_name, read_all
from workshop_lib.records import Prompt, Serving

FIXTURE = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def score(grade: int | str | None = 3, answer: str = "a" * 64, **changes: object) -> Score:
    fixed = {"rater": "ada", "prompt_id": "p", "rubric_version": "1+x", "scored_at": "2026-01-01T00:00:00Z"}
    return Score(**{**fixed, "answers": (answer,), "value": grade, **changes})


def preference(a: str, b: str, choice: str | None) -> Score:
    return score(choice, answers=(a, b))


def said_in(file: ScoreFile) -> list[Score]:
    return list(file.lines().values())


def test_answers_are_the_first_timed_ones_with_their_authors() -> None:
    """The same text of two models is one answer of both; warm-ups, failures, silence and unserved models give none."""
    run = run_of(
        [
            answer("p", "a", "warm", round=0),
            answer("p", "a", "same"),
            answer("p", "a", "later", round=2),
            answer("p", "b", "same"),
            answer("p", "c", " \n"),
            answer("p", "d", "late", error="broke", error_kind="reset"),
            answer("p", "ghost", "boo"),
        ],
        servings=tuple(Serving(variant(name)) for name in "abcd"),
    )
    (found,) = scores.distinct_answers(run)
    assert (found.text, [author.alias for author in found.authors]) == ("same", ["a", "b"])


KEPT = [
    (" Ada ", "ada"), ("Ada Lovelace", "ada-lovelace"), ("JOSÉ", "josé"), ("李", "李"), ("r2.d2", "r2.d2"),
    ("judge:org/model:1", "judge:org/model:1"),
]  # fmt: skip
REFUSED = ["", "  ", "..", "../ada", "a/b", "a\\b", "-ada", "ada.", "con", "NUL.x", "a\0b", "a:b", "x" * 41, "judge:"]


@pytest.mark.parametrize(("typed", "kept"), KEPT)
def test_names_are_kept_in_one_spelling(typed: str, kept: str) -> None:
    """The same person is one file on systems that tell upper from lower case and on those that do not."""
    assert rater_name(typed) == kept


@pytest.mark.parametrize("name", ["judge", "reference", "judge-ada"])
def test_a_person_may_have_any_name(name: str) -> None:
    """Only what is before a colon makes a judge or a shipped reading."""
    kinds = [kind_of(rater) for rater in (rater_name(name), f"judge:{name}", f"reference:{name}", "aspects")]
    assert kinds == ["people", "judge", "reference", "aspects"]


@pytest.mark.parametrize("typed", REFUSED)
def test_names_that_are_no_file_names_are_refused(typed: str) -> None:
    """No name leaves the folder, hides a file, or means a device on Windows."""
    with pytest.raises(ConfigurationError):
        rater_name(typed)


@pytest.mark.parametrize(
    "model", ["org/model:1", "モデル", "fox🦊-é:1", "lone\ud800", "/m/" + "long/" * 60, "家" * 300]
)
def test_a_judge_may_have_any_model_id(tmp_path: Path, model: str) -> None:
    """Ids in any script and whole paths become file names that every folder holds, and come back whole."""
    file = ScoreFile(tmp_path, f"judge:{model}")
    file.add(score(rater=file.rater))
    assert file.path.name.isascii() and len(file.path.name) <= 126
    assert [verdict.rater for verdict in read_all(tmp_path)] == [f"judge:{model}"]
    assert ScoreFile(tmp_path, f"judge:{model}x").path != file.path


@FIXTURE
@given(comment=st.text(max_size=60))
def test_verdicts_read_back_in_order_with_any_comment(tmp_path: Path, comment: str) -> None:
    """Scores and preferences share a file; new lines, quotes and half characters come back unchanged."""
    file = ScoreFile(tmp_path, "Ada")
    file.path.unlink(missing_ok=True)
    given_ = [score(4, comment=comment), preference("a", "b", "tie"), score(None)]
    for verdict in given_:
        file.add(verdict)
    assert list(ScoreFile(tmp_path, "ada").lines().items()) == list(enumerate(given_, 2))


def test_a_later_verdict_replaces_an_earlier_one_and_undo_brings_it_back(tmp_path: Path) -> None:
    """Nothing is rewritten; what is undone already stays undone; both orders of a pair are two scores."""
    file = ScoreFile(tmp_path, "ada")
    file.add(score(2), score(5))
    assert list(current(said_in(file)).values()) == [score(5)]
    assert len(current([preference("a", "b", "a"), preference("b", "a", "b")])) == 2
    file.undo(3)
    assert list(current(said_in(file)).values()) == [score(2)]
    file.undo(3)  # two windows at once
    assert said_in(file) == [score(2)]
    assert len(file.path.read_bytes().splitlines()) == 5


def test_every_cut_of_the_file_keeps_the_whole_lines(tmp_path: Path) -> None:
    """Wherever a crash cuts the file, whole lines are kept, and the next verdict follows them."""
    file = ScoreFile(tmp_path, "ada")
    for grade in (1, 2, 3):
        file.add(score(grade, answer=str(grade)))
    whole = file.path.read_bytes()
    for cut in range(len(whole)):
        file.path.write_bytes(whole[:cut])
        kept = max(0, whole[:cut].count(b"\n") - 1)
        assert len(read_all(tmp_path)) == len(file.lines()) == kept
        file.add(score(5, answer="new"))
        assert [each.value for each in said_in(file)] == [*range(1, kept + 1), 5]


def test_what_cannot_be_written_or_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file where the folder should be, a folder where the file should be, a lock that is never released."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="cannot be written"):
        ScoreFile(tmp_path / "file", "ada").add(score())
    (tmp_path / "bob.jsonl").mkdir()
    with pytest.raises(RecordFileError, match="cannot be read"):
        read_all(tmp_path)
    monkeypatch.setattr(scores, "LOCK_TIMEOUT_S", 0.05)
    file = ScoreFile(tmp_path, "ada")
    with FileLock(f"{file.path}.lock"), pytest.raises(RecordFileError, match="locked by another program"):
        file.add(score())


HEADER = {"kind": "scores", "schema": 1, "rater": "ada"}
GOOD = {"kind": "score", "prompt_id": "p", "answer_sha256": "a", "grade": 3, "rubric_version": "1", "scored_at": "now"}
BROKEN = [
    (["{"], "line 1: not a score"),
    (["[]"], "line 1: not a score"),
    ([{**HEADER, "schema": 9}], "has schema 9, this version reads 1"),
    ([{**HEADER, "rater": "bob"}], "holds the scores of 'bob'"),
    ([HEADER, {**GOOD, "grade": 6}], "line 2: not a score"),
    ([HEADER, {**GOOD, "colour": "red"}], "line 2: not a score"),
    ([HEADER, {"kind": "preference", "choice": "c"}], "line 2: not a score"),
    ([HEADER, {"kind": "opinion"}], "line 2: not a score"),
]


@pytest.mark.parametrize(("lines", "said"), BROKEN)
def test_broken_files_are_refused_with_the_line(tmp_path: Path, lines: list[object], said: str) -> None:
    """A broken line before the last is never passed over, on reading and before writing."""
    file = ScoreFile(tmp_path, "ada")
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    file.path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    for act in (file.lines, lambda: file.add(score())):
        with pytest.raises(RecordFileError, match=said):
            act()


def test_all_raters_are_read_together_and_a_copy_is_refused(tmp_path: Path) -> None:
    """The current verdicts of every rater, by name; a copied file would count a person twice."""
    ScoreFile(tmp_path, "bob").add(score(5, rater="bob"))
    ScoreFile(tmp_path, "ada").add(score(1), score(2))
    (tmp_path / "template.csv").write_text("x")
    assert read_all(tmp_path) == [score(2), score(5, rater="bob")]
    assert read_all(tmp_path / "none") == []
    (tmp_path / "copy.jsonl").write_bytes((tmp_path / "ada.jsonl").read_bytes())
    with pytest.raises(RecordFileError, match=r"Name it ada\.jsonl"):
        read_all(tmp_path)


def test_the_aspect_check_grades_as_a_rater() -> None:
    """1 + 4 x share, rounded half up: 1 of 2 is 3, 1 of 3 is 2; 1 for what must not be said; no aspects, no grade."""
    prompts = [
        Prompt("p0", "?", aspects=("local", "private"), forbidden=("cloud",)),
        Prompt("p1", "?", aspects=("local", "private", "fast")),
        Prompt("p2", "?"),
        Prompt("p3", "?", aspects=("it",), forbidden=("cloud",)),
    ]
    for text, grades in (("It is local", [3, 2, None, 5]), ("It is in the cloud", [1, 1, None, 1])):
        scored = scores.score_aspects(run_with({prompt.id: {"x": text} for prompt in prompts}, prompts))
        assert [(each.rater, each.value) for each in scored] == [("aspects", grade) for grade in grades]


def test_the_version_names_rubric_and_prompts() -> None:
    """Shipped prompts, any of them, have the version of their file; others a hash of what they say."""
    shipped = data.read_prompts()
    assert scores.version_for(shipped) == scores.version_for(shipped[:2]) == f"1+{data.read_prompt_file().version}"
    versions = {scores.version_for([Prompt("p", text)]) for text in "ab"}
    assert len(versions) == 2 and all(len(version) == len("1+") + 12 for version in versions)


def test_the_shipped_grades_fit_answers_of_the_shipped_prompts() -> None:
    """Somebody is named as their reader; every prompt of the course and of the team's own task has grades, no other."""
    found = scores.read_reference()
    assert found.read_by.strip() and found.method.strip()
    assert {each.scored_at for each in found.as_scores()} == {found.read_at}
    assert {each.rater for each in found.as_scores()} == {"reference:1", "reference:2"}
    assert all(each.value for each in found.as_scores())  # a missing second grade is no score
    prompts = (*data.read_prompts("course"), *data.read_prompts(data.TASK))
    assert {each.prompt_id for each in found.as_scores()} == {prompt.id for prompt in prompts}
    assert len({(each.rater, each.key) for each in found.as_scores()}) == len(found.as_scores())
    assert found.rubric_version == scores.version_for(prompts)
