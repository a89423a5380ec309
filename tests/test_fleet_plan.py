"""One plan on many machines as values and as a folder: every record once, whatever is sent twice or completed later."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.measurement_helpers import VARIANT, completion
from workshop_lib import storage
from workshop_lib.data import read_prompts
from workshop_lib.errors import ConfigurationError, DataFileError
from workshop_lib.fleet.plan import Fleet, FleetPlan, Machine, Share, open_fleet, read_fleet, write_fleet
from workshop_lib.records import Completion, Serving

PROMPTS = read_prompts()[:1]
PLAN = FleetPlan(PROMPTS, models=["tiny"], rounds=2)
DESK = Machine("desk-01234567", "host", {"cpu": "Test CPU"})
OTHER = replace(VARIANT, alias="other", model_id="other:1")
OPEN = Share(DESK.label, VARIANT)
DONE = replace(OPEN, status="done")
FLEET = Fleet("20260101T000000Z-abcdef", "2026-01-01T00:00:00+00:00", PLAN).with_machine(DESK, [VARIANT, OTHER])


def request(turn: int, **changes: object) -> Completion:
    return completion([0.1, 0.2], request_id=f"tiny:1/p/{turn}", round=turn, **changes)


RECORDS = [Serving(VARIANT), request(0), request(1), request(2), Serving(VARIANT, peak_resident_mb=70.0)]


def test_a_share_s_records_become_the_run_of_its_machine() -> None:
    """The run says which machine it is of; the warm-ups say how often a share was begun."""
    fleet = FLEET.with_share(DONE, RECORDS)
    run = fleet.runs[DESK.label]
    assert run.machine == {"cpu": "Test CPU", "label": DESK.label}
    assert (run.plan["rounds"], run.plan["order"], run.prompts) == (2, "blocks", PROMPTS)
    assert [each.round for each in run.completions] == [0, 1, 2]
    assert [fleet.starts(share) for share in fleet.shares] == [0, 1]
    assert [share.status for share in fleet.shares] == ["open", "done"]
    assert fleet.measured == [DESK] and FLEET.measured == []


@settings(max_examples=40, deadline=None)
@given(cuts=st.lists(st.integers(1, 5), max_size=5), between=st.booleans())
def test_whatever_is_sent_again_counts_once(cuts: list[int], between: bool) -> None:
    """Any beginnings of a share, then all of it, give every record exactly once, also beside another model's."""
    fleet = FLEET
    for cut in cuts:
        fleet = fleet.with_share(replace(OPEN, status="stopped"), RECORDS[:cut])
        if between:
            mine = [Serving(OTHER), completion([0.1], model_id=OTHER.model_id, request_id="other:1/p/1")]
            fleet = fleet.with_share(Share(DESK.label, OTHER, "done"), mine)
    fleet = fleet.with_share(DONE, RECORDS)
    run = fleet.runs[DESK.label]
    assert sorted(each.round for each in run.completions if each.model_id == "tiny:1") == [0, 1, 2]
    assert len(run.completions) == 3 + bool(cuts and between)
    assert len(run.servings) == 2 + bool(cuts and between)


def test_what_was_measured_before_a_machine_left_is_kept() -> None:
    """A missing share keeps its earlier records; one that never began is a failed serving with the reason."""
    fleet = FLEET.with_share(replace(OPEN, status="stopped"), RECORDS[:3]).with_machine(DESK, [VARIANT, OTHER])
    fleet = fleet.without(DESK.label, "missing", "It left.")
    run = fleet.runs[DESK.label]
    assert [(share.status, share.reason) for share in fleet.shares] == [("missing", "It left.")] * 2
    assert [each.round for each in run.completions] == [0, 1]
    assert [(each.variant, each.error) for each in run.servings] == [(OTHER, "It left."), (VARIANT, None)]
    silent = FLEET.without("silent-1", "missing", "It left.")
    assert silent.machines[-1] == Machine("silent-1", refused="It left.") and silent.shares == FLEET.shares


def test_a_fleet_is_its_folder(tmp_path: Path) -> None:
    """What was written is read back; each machine's folder is a run like any other, and no other file is left."""
    fleet = FLEET.with_share(DONE, RECORDS)
    write_fleet(tmp_path, fleet, DESK.label)
    read = read_fleet(tmp_path)
    assert replace(read, plan=PLAN) == fleet and open_fleet(tmp_path, PLAN).plan.prompts == list(PROMPTS)
    assert storage.read_run(tmp_path / DESK.label / "records.jsonl") == fleet.runs[DESK.label]
    assert {path.name for path in tmp_path.rglob("*")} == {"fleet.json", DESK.label, "records.jsonl"}


def test_a_fleet_is_completed_by_who_is_there(tmp_path: Path) -> None:
    """Finished shares stay done; the others are missing until their machine says again what it can measure."""
    write_fleet(tmp_path, FLEET.with_share(DONE, RECORDS), DESK.label)
    again = open_fleet(tmp_path, replace(PLAN, models=("tiny",)))
    assert sorted(share.status for share in again.shares) == ["done", "missing"]
    back = again.with_machine(DESK, [VARIANT, OTHER])
    assert [(share.variant.alias, share.status) for share in back.shares] == [("other", "open"), ("tiny", "done")]
    assert back.run_id == FLEET.run_id


def test_another_plan_is_refused(tmp_path: Path) -> None:
    """Results of two plans never mix; the error names what differs. A damaged file is named too."""
    write_fleet(tmp_path, FLEET)
    with pytest.raises(ConfigurationError, match=r"\(different: rounds, max_tokens\)"):
        open_fleet(tmp_path, replace(PLAN, rounds=5, max_tokens=9))
    (tmp_path / "fleet.json").write_text('{"run_id": 1}')
    with pytest.raises(DataFileError, match=r"fleet\.json"):
        read_fleet(tmp_path)
    for wrong in ({"rounds": 0}, {"max_tokens": 0}, {"prompts": ()}):
        with pytest.raises(ConfigurationError):
            replace(PLAN, **wrong)
