"""What machines send becomes run folders: every record once, whatever arrives twice, late, or from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.measurement_helpers import VARIANT, completion
from workshop_lib import storage
from workshop_lib.data import read_prompts
from workshop_lib.errors import ConfigurationError, DataFileError, RecordFileError
from workshop_lib.fleets import classroom, fleet, fleet_collect, fleet_identity, fleet_plan, fleet_room, fleet_worker
from workshop_lib.fleets.fleet_collect import Collector
from workshop_lib.fleets.fleet_room import Machine, Room, Share, label_of, share_id_of
from workshop_lib.records import Completion, Run, Serving

ID = "0123456789ab"
MACHINE = Machine(ID, label_of("desk", ID), "host", {"cpu": "Test CPU"})
SHARE = Share(share_id_of(ID, VARIANT), ID, VARIANT)
ROOM = Room("20260101t000000z-abcdef", "2026-01-01T00:00:00+00:00", {"rounds": 3}, (MACHINE,), (SHARE,))
PROMPTS = read_prompts()[:1]


def request(turn: int, *, attempt: int = 1, started_at: str = "2026-01-01T00:00:00+00:00") -> Completion:
    name = f"tiny:1/p/{turn}"
    return completion([0.1, 0.2], request_id=name, round=turn, attempt=attempt, started_at=started_at)


def lines(tmp_path: Path, *records: Serving | Completion) -> list[str]:
    """The lines that a machine writes for these records, header first."""
    path = tmp_path / "sent" / "records.jsonl"
    path.unlink(missing_ok=True)
    run = Run(ROOM.room_id, ROOM.started_at, "practice", {}, {}, PROMPTS)
    with storage.RunWriter(path, run) as writer:
        for record in records:
            writer.append(record)
    return path.read_text(encoding="utf-8").splitlines()


def event(kind: str, **values: Any) -> dict[str, Any]:
    return {"kind": kind, "machine": ID, "share": SHARE.share_id, **values}


def collector(folder: Path, room: Room = ROOM) -> closing[Collector]:
    return closing(Collector(folder, room, prompts=PROMPTS, profile="practice"))


def measured(folder: Path) -> Run:
    return storage.read_run(folder / MACHINE.label / "records.jsonl")


@pytest.fixture
def sent(tmp_path: Path) -> list[str]:
    return lines(
        tmp_path, Serving(VARIANT), request(0), request(1), request(2), Serving(VARIANT, peak_resident_mb=70.0)
    )


def test_lines_become_a_run_of_that_machine(tmp_path: Path, sent: list[str]) -> None:
    """Header, servings and requests in the order in which they were sent, on the disk before the next event."""
    with collector(tmp_path) as one:
        one.take(event("start"))
        one.take(event("lines", lines=sent))
        run = measured(tmp_path)
        assert [each.round for each in run.completions] == [0, 1, 2]
        assert run.machine == {"cpu": "Test CPU", "label": "desk-01234567", "machine_id": ID}
        assert one.requests == {"desk-01234567": 2}, "the warm-up does not count"
        one.take(event("end", status="done", reason=None))
        assert not one.has_open_shares
    assert fleet_room.read_room(tmp_path).shares == (replace(SHARE, status="done", starts=1),)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=6))
def test_whatever_is_sent_again_counts_once(
    cuts: list[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Any pieces of a share, in any number of repetitions, followed by all of it, give every record exactly once."""
    folder = tmp_path_factory.mktemp("room")
    records = [Serving(VARIANT), *(request(turn) for turn in range(4)), Serving(VARIANT, peak_resident_mb=70.0)]
    everything = lines(folder, *records)
    with collector(folder) as one:
        for start, end in cuts:
            one.take(event("lines", lines=everything[start:end]))
        one.take(event("lines", lines=everything))
    run = measured(folder)
    assert sorted(each.round for each in run.completions) == [0, 1, 2, 3]
    assert len(run.servings) == 2


def test_a_share_begun_anew_adds_what_is_missing(tmp_path: Path, sent: list[str]) -> None:
    """A machine that lost its own file measures anew: known requests stay as they were, its second warm-up is kept."""
    again = lines(
        tmp_path, request(0, started_at="2026-01-01T00:01:00+00:00"), request(2, started_at="later"), request(3)
    )
    with collector(tmp_path) as one:
        one.take(event("lines", lines=sent))
        one.take(event("lines", lines=again))
    run = measured(tmp_path)
    assert [each.round for each in run.completions] == [0, 1, 2, 0, 3]
    assert "later" not in {each.started_at for each in run.completions}


def test_a_retried_request_is_a_record_of_its_own(tmp_path: Path) -> None:
    """Attempts of one request are kept apart, and counted as one request."""
    with collector(tmp_path) as one:
        one.take(event("lines", lines=lines(tmp_path, request(1), request(1, attempt=2))))
        assert one.requests == {"desk-01234567": 1}
    assert [each.attempt for each in measured(tmp_path).completions] == [1, 2]


def test_an_earlier_call_is_remembered(tmp_path: Path, sent: list[str]) -> None:
    """What was written before a crash of the coordinator is neither lost nor written again."""
    with collector(tmp_path) as one:
        one.take(event("lines", lines=sent[:4]))
    with collector(tmp_path) as other:
        assert other.requests == {"desk-01234567": 1}
        other.take(event("lines", lines=sent))
    assert [each.round for each in measured(tmp_path).completions] == [0, 1, 2]


@pytest.mark.parametrize(
    "line",
    ["", "no json", "[]", '{"kind":"completion"}', '{"kind":"serving","variant":{"name":1}}', '{"kind":"other"}'],
)
def test_what_is_no_record_ends_the_share(tmp_path: Path, line: str) -> None:
    """A machine that sends rubbish is reported; nothing of it reaches the records."""
    with collector(tmp_path) as one:
        one.take(event("start"))
        one.take(event("lines", lines=[line]))
        (share,) = one.shares
    assert share.status == "failed" and (share.reason or "").startswith("It sent what is no record")
    assert not list(tmp_path.glob("*/records.jsonl"))


def test_a_share_speaks_for_its_own_model_and_machine_only(tmp_path: Path, sent: list[str]) -> None:
    """Records of another model, events of another machine or of an unknown share are left out."""
    other = replace(request(1), model_id="other:1")
    with collector(tmp_path) as one:
        one.take(event("lines", lines=lines(tmp_path, other)))
        one.take({**event("lines", lines=sent), "machine": "ba9876543210"})
        one.take({**event("lines", lines=sent), "share": "unknown"})
        assert one.requests == {}
        one.end(SHARE, "missing", "It left.")
        one.take(event("lines", lines=sent))
    assert measured(tmp_path).completions == ()
    assert measured(tmp_path).servings == (Serving(VARIANT, status="failed", error="It left."),)


def test_more_machines_than_open_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are closed and opened again as needed, so that a large room does not run out of them."""
    monkeypatch.setattr(fleet_collect, "OPEN_FILES", 2)
    ids = [f"{place:012x}" for place in range(5)]
    machines = tuple(Machine(each, label_of("m", each)) for each in ids)
    shares = tuple(Share(share_id_of(each, VARIANT), each, VARIANT) for each in ids)
    with collector(tmp_path, replace(ROOM, machines=machines, shares=shares)) as one:
        for turn in (1, 2):
            for share in shares:
                line = lines(tmp_path, request(turn))
                one.take({"kind": "lines", "machine": share.machine_id, "share": share.share_id, "lines": line})
    assert {len(run.completions) for run in fleet_room.read_room(tmp_path).runs.values()} == {2}


def test_a_room_s_file_is_checked(tmp_path: Path) -> None:
    """A room of another version, a damaged one, and one whose labels lead elsewhere are refused."""
    fleet_room.write_room(tmp_path, ROOM)
    assert fleet_room.read_room(tmp_path) == ROOM
    good = json.loads((tmp_path / "room.json").read_text())
    for changes, error in (
        ({"schema": 2}, ConfigurationError),
        ({"machines": [{**good["machines"][0], "label": "../../elsewhere"}]}, RecordFileError),
        ({"shares": "none"}, DataFileError),
    ):
        (tmp_path / "room.json").write_text(json.dumps({**good, **changes}))
        with pytest.raises(error):
            fleet_room.read_room(tmp_path)


def test_a_room_is_read_machine_by_machine(tmp_path: Path, sent: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory holds no run that nobody asked for; a file without a whole first line is no run, and breaks nothing."""
    with collector(tmp_path) as one:
        one.take(event("lines", lines=sent))
    silent = Machine("ba9876543210", label_of("silent", "ba9876543210"))
    fleet_room.write_room(tmp_path, replace(ROOM, machines=(MACHINE, silent)))
    (tmp_path / silent.label).mkdir()
    (tmp_path / silent.label / "records.jsonl").write_bytes(b'{"kind":"ru')
    read: list[Path] = []
    read_run = storage.read_run
    monkeypatch.setattr(storage, "read_run", lambda path: read.append(path) or read_run(path))
    room = fleet_room.read_room(tmp_path)
    assert room.measured == (MACHINE,) and list(room.runs) == [MACHINE.label]
    assert silent.label not in room.runs and room.runs.get(silent.label) is None
    assert read == []
    assert len(room.runs[MACHINE.label].completions) == 3
    assert [path.parent.name for path in read] == [MACHINE.label]


def test_a_share_that_never_began_is_recorded_once(tmp_path: Path) -> None:
    """However often a room is run again without a machine, its records say once that the machine was missing."""
    for _ in range(3):
        with collector(tmp_path) as one:
            one.end(SHARE, "missing", "It left.")
    assert measured(tmp_path).servings == (Serving(VARIANT, status="failed", error="It left."),)


@pytest.mark.parametrize(
    "strange", [{}, {"kind": 1}, {"kind": "end"}, {"kind": "end", "status": "splendid"}, {"kind": "lines"}]
)
def test_what_is_no_event_changes_nothing(tmp_path: Path, strange: dict[str, Any]) -> None:
    """One machine's strange event neither stops the room nor gets into its file."""
    with collector(tmp_path) as one:
        one.take({"machine": ID, "share": SHARE.share_id, **strange})
        assert one.shares == (SHARE,)
    assert fleet_room.read_room(tmp_path).shares == (SHARE,)


SAID = {"name": "new name", "host": "host", "fingerprint": {"cpu": "Test CPU"}, "variants": []}
PLAN = fleet_plan.make_fleet_plan(PROMPTS)


def test_a_machine_keeps_its_folder_under_another_name() -> None:
    """Who joins again with another --name is the same machine: its records stay where they are, under their label."""
    (same,) = fleet.with_machines(ROOM, PLAN, {ID: SAID}, wanted=None, versions="warn").machines
    assert same.label == MACHINE.label
    for asked in (ID, MACHINE.label, label_of("new name", ID)):
        assert fleet.with_machines(ROOM, PLAN, {ID: SAID}, wanted=[asked], versions="warn").machines == (same,)


def test_only_who_takes_part_goes_on_with_its_shares() -> None:
    """Unfinished shares are open again where their machine is asked and not refused; what is done stays done."""
    other, third = (Machine(each * 12, label_of("m", each * 12)) for each in "ef")
    shares = (
        replace(SHARE, status="failed", reason="It broke."),
        Share(share_id_of(other.machine_id, VARIANT), other.machine_id, VARIANT),
        Share(share_id_of(third.machine_id, VARIANT), third.machine_id, VARIANT, "done"),
    )
    room = replace(ROOM, machines=(MACHINE, other, third), shares=shares)
    refused = {"error": "It runs another version."}

    def again(said: dict[str, Any], wanted: list[str] | None) -> list[tuple[str, str | None]]:
        made = fleet.with_machines(room, PLAN, said, wanted=wanted, versions="warn")
        return [(share.status, share.reason) for share in made.shares]

    assert again({ID: SAID}, None) == [("open", None), ("open", None), ("done", None)]
    assert again({ID: SAID, other.machine_id: SAID}, [ID]) == [
        ("open", None),
        ("stopped", "Its machine was not asked to complete it."),
        ("done", None),
    ]
    assert again({ID: refused, other.machine_id: refused}, None)[:2] == [
        ("failed", "It broke."),
        ("stopped", "It runs another version."),
    ]
    kept = fleet.with_machines(room, PLAN, {ID: refused}, wanted=None, versions="warn").machines[0]
    assert kept == replace(MACHINE, refused="It runs another version."), "what it is stays known"


def test_a_room_of_one_is_completed_and_not_measured_twice(
    tmp_path: Path, sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same folder again goes on with the same room; what is done is not asked again."""
    begun: list[str] = []

    def run_share(job: dict[str, Any], *, emit: Any, is_wanted: Any) -> None:
        begun.append(job["room"])
        for said in ({"kind": "start"}, {"kind": "lines", "lines": sent}):
            emit(said)
        if len(begun) == 1:
            raise KeyboardInterrupt
        emit({"kind": "end", "status": "done", "reason": None})

    variant = {"alias": VARIANT.alias, "model_id": VARIANT.model_id, "device": VARIANT.device}
    monkeypatch.setattr(fleet_worker, "describe", lambda _: {**SAID, "variants": [variant]})
    monkeypatch.setattr(fleet_worker, "run_share", run_share)
    with pytest.raises(KeyboardInterrupt):
        classroom.measure_alone(PLAN, tmp_path / "room")
    for _ in range(2):
        room = classroom.measure_alone(PLAN, tmp_path / "room")
    assert begun == [room.room_id] * 2 and [share.status for share in room.shares] == ["done"]
    (run,) = room.runs.values()
    assert [each.round for each in run.completions] == [0, 1, 2]
    with pytest.raises(ConfigurationError, match="another plan"):
        classroom.measure_alone(fleet_plan.make_fleet_plan(PROMPTS, rounds=9), tmp_path / "room")


def test_waiting_for_another_benchmark_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose computer is busy says so once; it counts as waiting until it is heard of again."""
    monkeypatch.setattr(fleet_worker, "POLL_S", 0.01)
    monkeypatch.setattr(fleet_worker, "PATIENCE_S", 0.02)
    monkeypatch.setattr(fleet_identity, "host_file", lambda name: tmp_path / name)
    polls, said = iter([True] * 20), []
    with FileLock(tmp_path / "bench.lock"):
        turn = fleet_worker._turn(lambda: next(polls, False), lambda: said.append("wait"))
        with turn as is_mine:
            assert (is_mine, said) == (False, ["wait"])
    with fleet_worker._turn(lambda: True, lambda: said.append("again")) as is_mine:
        assert (is_mine, said) == (True, ["wait"])
    with collector(tmp_path / "room") as made:
        for kind, waiting in (
            ("start", set()),
            ("wait", {MACHINE.label}),
            ("lines", set()),
            ("wait", {MACHINE.label}),
            ("end", set()),
        ):
            made.take(event(kind, status="done"))
            assert fleet._progress(made, PLAN, {}).waiting == waiting


def test_versions_decide_who_takes_part() -> None:
    """Where other versions are refused, the most frequent ones stay, and who differs is told what differs."""
    versions = [{"workshop": "0.1.0", "onnxruntime": "1.31.0"}] * 2 + [{"workshop": "0.1.0", "onnxruntime": "1.30.0"}]
    machines = [Machine(str(place), str(place), fingerprint={"versions": each}) for place, each in enumerate(versions)]
    first, second, third = fleet_plan.refuse_others(machines)
    assert first.refused is second.refused is None
    assert third.refused == "Other versions than most machines have: onnxruntime 1.30.0 instead of 1.31.0."
    assert fleet_plan.shares_of(third, {"variants": [{"alias": "a", "model_id": "a:1", "device": "cpu"}]}, 1) == []
    assert fleet_plan.refuse_others([]) == []


def test_two_machines_of_one_label_are_refused() -> None:
    """Their records would go into one folder and count as one machine's."""
    fleet.check_labels([MACHINE, replace(MACHINE, label="other")])
    with pytest.raises(ConfigurationError, match=r"Two machines are called desk-01234567\. Let one join again"):
        fleet.check_labels([MACHINE, replace(MACHINE, machine_id="0123456789ff")])


def test_every_machine_has_an_order_of_its_own() -> None:
    """The order of models is drawn by seed and machine: the same again, another elsewhere."""
    said = {"variants": [{"alias": each, "model_id": f"{each}:1", "device": "cpu"} for each in "abcdefgh"]}
    orders = [
        [share.variant.alias for share in fleet_plan.shares_of(Machine(f"{place:012x}", "m"), said, 20)]
        for place in (1, 1, 2)
    ]
    assert orders[0] == orders[1] != orders[2] and sorted(orders[2]) == list("abcdefgh")


def test_another_protocol_is_refused_with_a_sentence() -> None:
    """A coordinator of another version gets words, not a traceback."""
    said = fleet_worker.describe({"protocol": 0})
    assert said["error"].startswith("It runs workshop 0.1.0, which cannot work with")


def test_names_from_elsewhere_are_no_paths() -> None:
    """A room or share whose name could lead out of the cache is refused."""
    for name in ("../x", "a/b", "", ".", "A", "x" * 81):
        with pytest.raises(ConfigurationError, match="no name of a share"):
            fleet_worker.share_folder("room", name)


def test_old_shares_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine keeps a share for a week after its last record, so that it can be completed, and no longer."""
    monkeypatch.setenv("WORKSHOP_CACHE_DIR", str(tmp_path))
    folder = fleet_worker.share_folder("room", "share")
    (folder / "records.jsonl").write_text("{}\n")
    written = (folder / "records.jsonl").stat().st_mtime
    fleet_worker.forget_old_shares(now_s=written + 6 * 86_400)
    assert folder.exists()
    fleet_worker.forget_old_shares(now_s=written + 8 * 86_400)
    assert not folder.parent.exists()


@pytest.fixture(autouse=True)
def cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("WORKSHOP_CACHE_DIR", str(tmp_path / "cache"))
    return
