"""One plan on many machines as values and as a folder: the records say how far every share is."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from tests.measurement_helpers import VARIANT, completion
from workshop_lib import storage
from workshop_lib.data import read_prompts
from workshop_lib.errors import ConfigurationError, DataFileError
from workshop_lib.fleet.plan import Fleet, FleetPlan, open_fleet, read_fleet
from workshop_lib.records import Completion, Run, Serving

PROMPTS = read_prompts()[:1]
PLAN = FleetPlan(PROMPTS, models=["tiny"], rounds=2)
DESK = "desk-01234567"
OTHER = replace(VARIANT, alias="other", model_id="other:1")


def request(turn: int) -> Completion:
    return completion([0.1, 0.2], request_id=f"tiny:1/p/{turn}", round=turn)


def sent(*records: Completion | Serving, **more: Any) -> dict[str, Any]:
    """What a machine sends that has so many records."""
    run = Run("run", "2026-01-01T00:00:00+00:00", "practice", {"label": DESK}, {}, PROMPTS)
    header = {name: getattr(run, name) for name in storage.HEADER}
    lines = [{"kind": "run", "schema": 1, **header, "prompts": list(map(asdict, PROMPTS))}]
    lines += map(storage.object_of, records)
    return {"machine": DESK, "records": "".join(f"{json.dumps(line)}\n" for line in lines), **more}


BEGUN = sent(models=list(map(asdict, (VARIANT, OTHER))))
DONE = sent(Serving(VARIANT), request(0), request(1), request(2))


def statuses(fleet: Fleet) -> list[tuple[str, int, str]]:
    return [(each.status, each.starts, each.reason) for each in fleet.shares]


def test_the_records_say_how_far_a_share_is(tmp_path: Path) -> None:
    """Open until all is recorded, or a reason is known: its model's, or its machine's; sent twice, it counts once."""
    fleet = Fleet("run", PLAN)
    fleet.take(BEGUN, tmp_path)
    assert statuses(fleet) == [("open", 0, "")] * 2
    fleet.take(sent(Serving(VARIANT), request(0), request(1), request(0)), tmp_path)
    assert statuses(fleet) == [("open", 2, ""), ("open", 0, "")]
    for _ in range(2):
        fleet.take(DONE, tmp_path)
    fleet.take({"machine": DESK, "ended": "It crashed."}, tmp_path)
    assert statuses(fleet) == [("done", 1, ""), ("missing", 0, "It crashed.")]
    fleet.take(sent(Serving(VARIANT, status="failed", error="No."), Serving(OTHER)), tmp_path)
    fleet.ended.clear()
    fleet.end(DESK, "It left.", tmp_path)
    assert statuses(fleet) == [("failed", 0, "No."), ("missing", 0, "It left.")] and fleet.refused == {}
    fleet.end("mute-1", "It left.", tmp_path)
    assert fleet.refused == {"mute-1": "It left."} and len(fleet.shares) == 2


def test_a_fleet_is_its_folder_and_is_completed_by_who_is_there(tmp_path: Path) -> None:
    """What was written is read back, no other file is left; until its machine is back, an open share is missing."""
    fleet = Fleet("run", PLAN)
    for event in (BEGUN, DONE):
        fleet.take(event, tmp_path)
    read = read_fleet(tmp_path)
    assert replace(read, plan=PLAN) == fleet
    assert storage.read_run(tmp_path / DESK / "records.jsonl") == fleet.runs[DESK]
    assert {path.name for path in tmp_path.rglob("*")} == {"fleet.json", DESK, "records.jsonl"}
    again = open_fleet(tmp_path, PLAN)
    assert again.run_id == "run" and [each.status for each in again.shares] == ["done", "missing"]


def test_another_plan_is_refused(tmp_path: Path) -> None:
    """Results of two plans never mix; the error names what differs. Damaged files are named, and replace nothing."""
    fleet = Fleet("run", PLAN)
    fleet.take(BEGUN, tmp_path)
    with pytest.raises(ConfigurationError, match=r"\(different: rounds, max_tokens\)"):
        open_fleet(tmp_path, replace(PLAN, rounds=5, max_tokens=9))
    fleet.take({"machine": DESK, "records": "{}"}, tmp_path)
    assert "no run header" in fleet.ended[DESK] and storage.read_run(tmp_path / DESK / "records.jsonl")
    assert [each.name for each in (tmp_path / DESK).iterdir()] == ["records.jsonl"]
    (tmp_path / "fleet.json").write_text('{"run_id": 1}')
    with pytest.raises(DataFileError, match=r"fleet\.json"):
        read_fleet(tmp_path)
    for wrong in ({"rounds": 0}, {"max_tokens": 0}, {"prompts": ()}):
        with pytest.raises(ConfigurationError):
            replace(PLAN, **wrong)
