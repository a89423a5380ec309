"""A room without a cluster: a shared folder, in which anything may lie, becomes tables and pictures; no Dask."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fleet_helpers import keep, made_fleet
from workshop_lib import report, storage, summary
from workshop_lib.errors import ConfigurationError
from workshop_lib.fleet import room
from workshop_lib.quality import scores
from workshop_lib.quality.scores import Score, ScoreFile
from workshop_lib.records import Run
from workshop_lib.show import style

SMALL, LARGE = "practice-small-int4-cpu:1", "practice-large-int4-cpu:1"
EVIL = "<script>$x^$</script>"


def run(factor: float = 1.0) -> Run:
    """Three models with median latencies of 24.2, 48.4 and 121 ms, so many times slower."""
    return made_fleet({"one": factor}).runs["one"]


def hand_in(folder: Path, run: Run) -> Path:
    folder.mkdir(parents=True)
    (folder / "benchmark_report.json").write_text(report.report_json(run, summary.summarise(run)), encoding="utf-8")
    return folder


def vote(folder: Path, predicted: str, model_id: str) -> None:
    (folder / "prediction.txt").write_text(f"{predicted}\n", encoding="utf-8")
    (folder / "decision.json").write_text(json.dumps({"model_id": model_id}), encoding="utf-8")


def grade(folder: Path, grades: str, rater: str = "me") -> None:
    """One grade for an answer to each of as many prompts."""
    given = [
        Score(rater, f"p{place}", ("a" * 64,), int(each), "1", scores.now())
        for place, each in enumerate(grades.split())
    ]
    ScoreFile(folder, rater).add(*given)


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """Ada's machine; Ben's, four times slower; and Ada's machine again at another desk."""
    for name, factor in (("ada", 1.0), ("ben", 4.0), ("cy", 1.0)):
        hand_in(tmp_path / "room" / name, run(factor))
    return tmp_path / "room"


def test_machines_are_compared_model_by_model(three: Path) -> None:
    """A desk's median is its own, and a ratio is in the first desk's units: 24.2 ms, 4 times and 1 time that."""
    found = room.read(three)
    assert [desk.name for desk in found.desks] == ["ada", "ben", "cy"] and found.faults == ()
    assert [round(desk.waits_s[SMALL, "cpu"], 4) for desk in found.desks] == [0.0242, 0.0968, 0.0242]
    compared = room.ratios(found)
    assert {(name, round(ratio.value or 0, 6), ratio.is_clear) for (name, _), ratio in compared.items()} == {
        ("ben", 4.0, True),
        ("cy", 1.0, False),
    }
    table = room.speed(found)
    assert list(table["desk"]) == ["ada", "ben", "cy"] * 3 and list(table["against the first desk"])[::3] == ["-"] * 3
    _edit(plan={"max_tokens": 7})(three / "cy" / "benchmark_report.json")
    assert set(list(room.speed(room.read(three))["against the first desk"])[2::3]) == {"other prompts or settings"}


def test_the_picture_has_a_field_per_model_and_desk(three: Path) -> None:
    """A number each, a ratio at the others, and all of it in the alt text; nan where a desk has no such model."""
    figure = room.picture(room.read(three))
    assert figure is not None
    (axes,) = figure.axes
    texts = [text.get_text() for text in axes.texts if text.get_text()]
    assert len(texts) == 9 + 6 and sum(each.startswith("4.00x (") for each in texts) == 3
    assert [each.get_text() for each in axes.get_yticklabels()] == ["ada", "ben", "cy"] and axes.get_ylim() == (
        2.5,
        -0.5,
    )
    (fields,) = axes.collections
    assert fields.get_array().shape == (3, 3)
    assert "practice-small · int4 · cpu: 24 ms at ada to 97 ms at ben" in style.alt_text(figure)


def test_pictures_are_drawn_of_any_room(tmp_path: Path) -> None:
    """Names that are code or formulas are only text; a desk that measured nothing has no line."""
    hostile = run()
    hostile = replace(
        hostile,
        servings=tuple(replace(each, variant=replace(each.variant, alias=EVIL)) for each in hostile.servings),
        completions=tuple(replace(each, alias=EVIL) for each in hostile.completions),
    )
    vote(hand_in(tmp_path / "$a$ <b>", hostile), EVIL, SMALL)
    (tmp_path / "only votes").mkdir()
    vote(tmp_path / "only votes", "<b>$\\frac$</b>", "x" * 999)
    found = room.read(tmp_path)
    for figure in (room.picture(found), room.votes(found)):
        assert figure is not None and style.png(figure).startswith(b"\x89PNG")
    for table in (room.desks(found), room.speed(found)):
        assert "<b>" not in table._repr_html_() and "<script>" not in table._repr_html_()
    assert [len(desk.chose) for desk in found.desks] == [len(EVIL), room.NAME]


def _link(path: Path) -> None:
    path.unlink()
    path.symlink_to(__file__)


def _grow(path: Path) -> None:
    with path.open("ab") as file:
        file.truncate(room.LARGEST_BYTES + 1)


def _edit(**changes: object) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        path.write_text(json.dumps({**json.loads(path.read_bytes()), **changes}), encoding="utf-8")

    return edit


def _slow_down(path: Path) -> None:
    path.write_text(path.read_text("utf-8").replace('"latency_s": 0.', '"latency_s": Infinity, "x": 0.'), "utf-8")


BROKEN: dict[str, Callable[[Path], object]] = {
    "half a file": lambda path: path.write_bytes(path.read_bytes()[:999]),
    "no JSON": lambda path: path.write_bytes(b"\xff\x00"),
    "a deep nest": lambda path: path.write_text("[" * 100_000),
    "another report": lambda path: path.write_text('{"samples": [], "rows": 3}'),
    "samples of the wrong type": _edit(samples=[{"alias": {}}]),
    "rows that are none": _edit(rows=[{"alias": 1, "model_id": [], "device": None, "status": "odd"}]),
    "a time without end": _slow_down,
    "too large": _grow,
    "a link out": _link,
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_file_is_one_line_and_the_rest_is_drawn(three: Path, how: str) -> None:
    """Whatever is wrong with Ben's report: its name in one sentence without this machine's folders, and two desks."""
    BROKEN[how](three / "ben" / "benchmark_report.json")
    found = room.read(three)
    (fault,) = found.faults
    assert fault.startswith("ben/benchmark_report.json is left out. ") and len(fault) <= 300
    assert str(three) not in fault and fault in room.sentences(found)
    assert [desk.name for desk in found.desks] == ["ada", "cy"] and room.picture(found) is not None


def test_other_files_are_judged_by_themselves(three: Path) -> None:
    """Broken grades, choices and links to folders have a line each; what the workshop else writes is nobody's fault."""
    (three / "ada" / "me.jsonl").write_text('{"kind":"scores","schema":1,"rater":"me"}\n{"kind":"score"}\n', "utf-8")
    (three / "ben" / "decision.json").write_text("{}", "utf-8")
    (three / "dee").mkdir()
    (three / "away").symlink_to(Path(__file__).parent, target_is_directory=True)
    (three / "cy" / "loads.jsonl").write_text("{}\n", "utf-8")
    (three / "notes.txt").write_text("hello", "utf-8")
    if hasattr(os, "mkfifo"):
        os.mkfifo(three / "cy" / "pipe.json")
    found = room.read(three)
    assert [fault.partition(" ")[0] for fault in found.faults] == ["ada/me.jsonl", "away", "ben/decision.json"]
    assert "It has no 'model_id'." in found.faults[2]
    assert [len(desk.rows) for desk in found.desks] == [3, 3, 3]


def test_an_empty_room_is_one_sentence(tmp_path: Path) -> None:
    """Nothing handed in yet is no error; a folder that is not there, or is a file, is one; spaces alone name none."""
    empty = room.read(tmp_path)
    assert room.sentences(empty) == ["Nothing that can be used lies in this folder yet."]
    assert (room.picture(empty), room.votes(empty), len(room.desks(empty)), len(room.speed(empty))) == (
        None,
        None,
        0,
        0,
    )
    assert [each.reason is not None for each in room.agreement(empty)] == [True]
    (tmp_path / "file.json").write_text("{}", "utf-8")
    for wrong in ("typo", "file.json"):
        with pytest.raises(ConfigurationError, match=wrong):
            room.read(tmp_path / wrong)
    assert room.read("  ") == room.read()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may open every folder")
def test_a_closed_folder_is_one_line(three: Path) -> None:
    """Ben's folder lets nobody in, and the two other desks are drawn; a room that lets nobody in is an error."""
    for closed in (three / "ben", three):
        closed.chmod(0)
    try:
        with pytest.raises(ConfigurationError):
            room.read(three)
        three.chmod(0o700)
        found = room.read(three)
    finally:
        for opened in (three, three / "ben"):
            opened.chmod(0o700)
    assert [fault.partition(" ")[0] for fault in found.faults] == ["ben"]
    assert [desk.name for desk in found.desks] == ["ada", "cy"]


def test_neighbours_are_compared_by_what_both_graded(three: Path) -> None:
    """Ada and Ben, Ben and Cy, then all: equal grades are 1; (1,1), (2,2), (1,2) are 1 - (2/6) / (18/30) = 0.444."""
    for name, grades in (("ada", "1 2 1"), ("ben", "1 2 1"), ("cy", "1 2 2")):
        grade(three / name, grades)
    first, second, everyone = room.agreement(room.read(three))
    assert (first.raters, first.value, first.n) == (("ada", "ben"), 1.0, 3)
    assert second.raters == ("ben", "cy") and second.value == pytest.approx(1 - (2 / 6) / (18 / 30))
    assert everyone.raters == ("all 3 readers",) and everyone.n == 3
    grade(three / "cy" / "annotations", "1 2 2", rater="zoe")
    assert "cy (zoe)" in {rater for pair in room.agreement(room.read(three)) for rater in pair.raters}


def test_votes_are_compared_as_aliases(three: Path) -> None:
    """An alias and the id of one of its builds are one vote; the latest choice counts; one vote alone is no pair."""
    vote(three / "ada", "practice-small", SMALL)
    vote(three / "ben", LARGE, LARGE)
    (three / "ben" / "decision-20260102T000000Z.json").write_text(json.dumps({"model_id": SMALL}), "utf-8")
    (three / "cy" / "prediction.txt").write_text("gpt-9", "utf-8")
    found = room.read(three)
    assert [(desk.predicted, desk.chose) for desk in found.desks] == [
        ("practice-small", "practice-small"),
        ("practice-large", "practice-small"),
        ("gpt-9", ""),
    ]
    said = "1 of 2 chose another model than predicted; most chose practice-small (2)."
    assert room.votes_said(found) == said
    figure = room.votes(found)
    assert figure is not None and "gpt-9 1 before, 0 after" in style.alt_text(figure)


def test_what_is_handed_in_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records stand in for a missing report; people's grades and the prediction come along, a judge's grades do not."""
    monkeypatch.setenv("WORKSHOP_RUNS_DIR", str(tmp_path / "runs"))
    mine, records = run(), tmp_path / "runs" / "20260101T000000Z" / "records.jsonl"
    with storage.RunWriter(records, mine) as writer:
        writer.append(*mine.servings, *mine.completions)
    for rater in ("me", "judge:x"):
        grade(tmp_path / "runs" / "annotations", "1 2 3", rater)
    assert "Nothing is handed in" in room.hand_in(str(tmp_path / "room"), "")
    said = room.hand_in(str(tmp_path / "room"), "Ada Lovelace", "practice-small")
    assert said == "Handed in as ada-lovelace: records.jsonl, me.jsonl, prediction.txt."
    (desk,) = room.read(tmp_path / "room").desks
    assert (desk.name, len(desk.rows), len(desk.grades), desk.predicted) == ("ada-lovelace", 3, 3, "practice-small")
    with pytest.raises(ConfigurationError, match="rater's name"):
        room.hand_in(str(tmp_path / "room"), "../ada")


def test_a_fleet_s_folder_is_a_room(tmp_path: Path) -> None:
    """Its machines are the desks; what belongs to the fleet itself is no desk and no fault."""
    keep(made_fleet({"quick": 1.0, "slow": 4.0}), tmp_path)
    found = room.read(tmp_path)
    assert [desk.name for desk in found.desks] == ["quick", "slow"] and found.faults == ()


def test_the_example_is_what_its_description_says() -> None:
    """Three desks of one machine that gave equal answers, all with both votes; two of them graded all 23."""
    found = room.read()
    assert [desk.name for desk in found.desks] == ["1-quiet", "2-busy", "3-busy-one-processor"] and found.faults == ()
    texts = [{(each.prompt_id, each.model_id): each.text for each in some.samples} for some in found.results.values()]
    assert texts[0] == texts[1] == texts[2] and len(texts[0]) == 24
    assert [len(desk.grades) for desk in found.desks] == [23, 0, 23]
    assert room.votes_said(found) == "3 of 3 chose another model than predicted; most chose practice-medium (3)."
