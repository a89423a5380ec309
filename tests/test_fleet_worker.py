"""What runs on a machine of a fleet: who it is, what it measures, when, and what it sends."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

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
    own = worker.computer_id()[:8]
    assert labels == [f"desk-4-{own}", f"machine-{own}", f"zo--s-laptop-{own}", f"desk-4-{own}"]
    monkeypatch.setenv("WORKSHOP_CACHE_DIR", str(tmp_path / "another"))
    assert worker.computer_id()[:8] != own


@pytest.mark.slow
def test_a_share_is_measured_apart_sent_once_and_not_measured_again() -> None:
    """Two events: what the machine is, with what it lacks and why; then all records of its share, from its own file."""
    sent: list[Mapping[str, Any]] = []
    worker.measure_all(job(), "desk", emit=sent.append, is_wanted=lambda: True)
    machine, share = sent
    assert machine["machine"]["skipped"][0][0] == "no-such-model"
    assert [each["model_id"] for each in machine["variants"]] == [SMALL]
    assert (share["share"]["status"], share["share"]["reason"], len(share["records"])) == ("done", None, 6)
    worker.measure_all(job(), "desk", emit=sent.append, is_wanted=lambda: True)
    assert sent[3]["records"] == share["records"], "from the cache"
    done = frozenset({(SMALL, "cpu")})
    worker.measure_all(job(done=done), "desk", emit=sent.append, is_wanted=lambda: True)
    assert len(sent) == 5


@pytest.mark.slow
def test_a_share_ends_at_its_limit_and_when_nobody_wants_it() -> None:
    """What was written until then is sent with the reason; of a share that nobody wants nothing is sent."""
    limit_s = 1.0
    sent: list[Mapping[str, Any]] = []
    worker.measure_all(job(rounds=5000, limit_s=limit_s), "desk", emit=sent.append, is_wanted=lambda: True)
    assert sent[1]["share"]["status"] == "stopped"
    until = time.monotonic() + limit_s
    worker.measure_all(job(rounds=5000), "desk", emit=sent.append, is_wanted=lambda: time.monotonic() < until)
    assert len(sent) == 3


def test_one_benchmark_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """While another benchmark of a fleet runs on the computer, a machine waits, as long as it is wanted."""
    monkeypatch.setattr(worker, "_measure_apart", lambda *_: ("done", None))
    folder = worker.share_folder("run", "desk", VARIANT)
    polls = iter([True, True])
    with FileLock(worker.fleet_folder() / "benchmark.lock"):
        assert worker._measure_in_turn(job(), VARIANT, folder, lambda: next(polls, False)) is None
    assert worker._measure_in_turn(job(), VARIANT, folder, lambda: True) == ("done", None)


@pytest.mark.slow
def test_a_share_that_cannot_be_measured_says_why() -> None:
    """A model that is not there is no traceback, and no folder of this machine is named."""
    folder = worker.share_folder("run", "desk", VARIANT)
    (folder / "records.jsonl").write_text("no record\n")
    ended = worker._measure_apart(job(), VARIANT, folder, lambda: True)
    assert ended is not None and ended[0] == "failed"
    assert "records.jsonl" in (ended[1] or "") and str(folder.parent) not in (ended[1] or "")


def test_a_machine_whose_runtime_cannot_be_opened_takes_no_part() -> None:
    """It says why, and the fleet goes on without it."""
    unknown = Job(FleetPlan(read_prompts(), profile="endpoint"), "run")
    assert "FOUNDRY_LOCAL_ENDPOINT" in (worker.describe(unknown, "desk")[0].refused or "")


def test_every_machine_has_an_order_of_its_own() -> None:
    """The order of models is drawn by seed and label: the same again, another elsewhere."""
    plan = FleetPlan(read_prompts())
    orders = [[each.model_id for each in worker.describe(Job(plan, "run"), label)[1]] for label in ("a", "a", "b")]
    assert orders[0] == orders[1] != orders[2] and sorted(orders[0]) == sorted(orders[2])


def test_old_shares_are_forgotten() -> None:
    """A machine keeps a share for a week, so that it can be completed, and no longer."""
    young, old = (worker.share_folder(name, "desk", VARIANT) for name in ("young", "old"))
    week = 7 * 86_400
    for folder, age in ((young, week - 60), (old, week + 60)):
        os.utime(folder.parent, (time.time() - age,) * 2)
    worker.forget_old_shares()
    assert young.exists() and not old.parent.exists()
