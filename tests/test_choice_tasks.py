"""The same choice for another prompt set: whose run it is, which models take part, what is said without one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.annotation_helpers import write_run
from tests.measurement_helpers import completion
from workshop_lib import comparison, data
from workshop_lib.choice.show import by_task
from workshop_lib.records import ModelVariant, Run, Serving

CHOICE = {"weights": {"latency": 1.0}, "limits": {}}


def run_of(set_name: str, seconds: dict[str, float]) -> Run:
    """A run of these models, each as slow on every prompt as given."""
    prompts = data.read_prompts(set_name)
    variants = [ModelVariant(alias, f"{alias}:1", "cpu", "int4") for alias in seconds]
    asked = [
        completion(
            [at_s / 2, at_s], alias=alias, model_id=f"{alias}:1", prompt_id=prompt.id, request_id=f"{alias}{prompt.id}"
        )
        for alias, at_s in seconds.items()
        for prompt in prompts
    ]
    servings = tuple(Serving(variant) for variant in variants)
    when = "2026-01-01T00:00:00+00:00"
    return Run("20260101T000000Z", when, "practice", {"cpu": "x"}, {"rounds": 1}, prompts, servings, tuple(asked))


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No run and no shipped result but the test's own."""
    monkeypatch.setenv("WORKSHOP_RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.setattr(comparison, "REFERENCES", tmp_path / "reference")
    return tmp_path


MINE = {"quick": 1.0, "slow": 2.0}


def test_the_winner_of_another_set_stands_beside_it(places: Path) -> None:
    """The newest run of another set; a model that this run has not takes no part, however quick."""
    write_run(
        run_of("course", {"quick": 2.0, "slow": 1.0, "stranger": 0.1}),
        places / "runs" / "20260102T000000Z" / "records.jsonl",
    )
    write_run(run_of("meeting-notes", MINE), places / "runs" / "20260103T000000Z" / "records.jsonl")
    table = by_task(run_of("meeting-notes", MINE), **CHOICE)
    assert list(table["prompts"]) == ["meeting-notes", "course"]
    assert list(table["models"]) == [2, 2]
    assert [first.split()[0] for first in table["comes first"]] == ["quick", "slow"]
    assert "20260102T000000Z" in table["measured in"][1]


def test_shipped_results_stand_in_and_keep_their_models_where_none_is_shared(places: Path) -> None:
    """Without another run the shipped results answer; models of other names are all taken."""
    write_run(run_of("course", {"other": 1.0, "third": 3.0}), places / "reference" / "practice" / "records.jsonl")
    table = by_task(run_of("meeting-notes", MINE), **CHOICE)
    assert (table["models"][1], table["comes first"][1].split()[0]) == (2, "other")
    assert table["measured in"][1] == "the shipped results practice"


@pytest.mark.parametrize(("set_name", "other"), [("meeting-notes", "course"), ("course", "meeting-notes")])
def test_without_another_set_the_table_says_how_to_measure_one(set_name: str, other: str) -> None:
    """One command, for the set that this run has not; prompts of one's own have no set."""
    table = by_task(run_of(set_name, MINE), **CHOICE)
    assert table["prompts"][1] == other
    assert table["how sure"][1].endswith(f"run --prompt-set {other}")
    own = run_of(set_name, MINE)
    changed = tuple(replace(prompt, text=f"{prompt.text} Be brief.") for prompt in own.prompts)
    assert by_task(replace(own, prompts=changed), **CHOICE)["prompts"][0] == "your own"
