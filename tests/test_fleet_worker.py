"""What runs on a machine of a fleet: who it is, what it measures, when, and what it sends."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from workshop_lib.data import read_prompts
from workshop_lib.fleet import worker
from workshop_lib.fleet.plan import FleetPlan
from workshop_lib.fleet.worker import Job
from workshop_lib.records import ModelVariant

SMALL = "practice-small-int4-generic-cpu:1"
VARIANT = ModelVariant(alias="tiny", model_id="tiny:1", device="cpu")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WORKSHOP_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def job(*, rounds: int = 1, **options: Any) -> Job:
    plan = FleetPlan(read_prompts()[:2], models=[SMALL, "no-such-model"], rounds=rounds, max_tokens=10)
    return Job(plan, "run", **options)


def test_a_machine_is_known_by_its_name_and_an_id_of_its_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The label is safe as a folder and stays the same; another cache is another machine."""
    labels = [worker.label_of(name) for name in ("Desk 4", "", "../Zoë's laptop", "Desk 4")]
    own = labels[1].partition("-")[2]
    assert len(own) == 8
    assert labels == [f"desk-4-{own}", f"machine-{own}", f"zo--s-laptop-{own}", f"desk-4-{own}"]
    monkeypatch.setenv("WORKSHOP_CACHE_DIR", str(tmp_path / "another"))
    assert not worker.label_of("").endswith(own)


@pytest.mark.slow
def test_a_share_is_measured_apart_sent_once_and_not_measured_again() -> None:
    """Two events: what the machine is, with what it lacks and why; then all that it recorded, from its own file."""
    sent: list[Mapping[str, Any]] = []
    worker.measure_all(job(), "desk", send=sent.append, is_wanted=lambda: True)
    begun, done = sent
    assert "no-such-model" in begun["records"] and [each["model_id"] for each in begun["models"]] == [SMALL]
    assert "ended" not in done and done["records"].count('"kind":"completion"') == 3
    worker.measure_all(job(), "desk", send=sent.append, is_wanted=lambda: True)
    assert len(sent) == 3 and sent[2]["records"] == done["records"], "from the cache"
    shutil.rmtree(worker.records_of("run", "desk").parent)
    worker.measure_all(job(records=done["records"]), "desk", send=sent.append, is_wanted=lambda: True)
    assert len(sent) == 4 and sent[3]["records"] == done["records"], "from the fleet"


@pytest.mark.slow
def test_a_share_ends_when_nobody_wants_it() -> None:
    """Of a share that nobody wants nothing is sent; what was recorded until then stays."""
    sent: list[Mapping[str, Any]] = []
    records = worker.records_of("run", "desk")

    def is_wanted() -> bool:
        return b'"kind":"completion"' not in records.read_bytes()

    worker.measure_all(job(rounds=5000), "desk", send=sent.append, is_wanted=is_wanted)
    assert len(sent) == 1 and not is_wanted()


@pytest.mark.slow
def test_a_machine_that_cannot_measure_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """No runtime, a broken file of records and a process that fails are a reason, and no folder is named."""
    sent: list[Mapping[str, Any]] = []

    def reason(asked: FleetPlan) -> str:
        worker.measure_all(Job(asked, "run"), "desk", send=sent.append, is_wanted=lambda: True)
        return str(sent[-1]["ended"])

    assert "FOUNDRY_LOCAL_ENDPOINT" in reason(FleetPlan(read_prompts(), profile="endpoint"))
    records = worker.records_of("run", "desk")
    records.write_text("no record\n")
    assert "records.jsonl" in reason(job().plan) and str(records.parent) not in reason(job().plan)
    records.unlink()
    worker._begin(job(), "desk", records)
    assert "holds a run of another plan" in reason(job(rounds=3).plan)


def test_every_machine_has_an_order_of_its_own() -> None:
    """The order of models is drawn by seed and label: the same again, another elsewhere."""
    asked = Job(FleetPlan(read_prompts()), "run")
    orders = [
        [each.model_id for each in worker._begin(asked, label, worker.records_of("run", label))] for label in "aab"
    ]
    assert orders[0] == orders[1] != orders[2] and sorted(orders[0]) == sorted(orders[2])


def test_old_records_are_forgotten() -> None:
    """A machine keeps its records for a week, so that they can be completed, and no longer."""
    young, old = (worker.records_of(name, "desk").parent for name in ("young", "old"))
    week = 7 * 86_400
    for folder, age in ((young, week - 60), (old, week + 60)):
        os.utime(folder, (time.time() - age,) * 2)
    worker._forget_old_records()
    assert young.exists() and not old.exists()
