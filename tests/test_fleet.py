"""One plan on many machines, with real processes: every machine a worker with its own cache, runtime and models."""

from __future__ import annotations

import shutil
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from filelock import FileLock

from tests.fleet_helpers import Hosts, descendants, hosts, lines_of, wait_until, when
from workshop_lib import catalog
from workshop_lib.archive import storage
from workshop_lib.errors import ConfigurationError, EndpointError
from workshop_lib.fleets import fleet, fleet_cluster, fleet_engine, fleet_room
from workshop_lib.fleets.fleet_room import Room
from workshop_lib.measuring import benchmark, plan
from workshop_lib.metrics import summaries
from workshop_lib.records import Run
from workshop_lib.runtimes import profiles

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not fleet_engine.is_installed(), reason="NO FLEET IS TESTED: requirements-fleet.txt is missing"),
]

LARGE, SMALL = "practice-large-int4-generic-cpu:1", "practice-small-int4-generic-cpu:1"
ANSWER = {"rounds": 2, "max_tokens": 40}


def ignore(_: fleet.Progress) -> None:
    """No progress bar among the tests."""


def request_ids(run: Run) -> Counter[str]:
    return Counter(each.request_id for each in run.completions if each.round)


@pytest.fixture(scope="module")
def room_of_three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    with hosts(tmp_path_factory.mktemp("hosts"), "ada", "bob", "cy") as three:
        yield three


@pytest.fixture(scope="module")
def killed(room_of_three: Hosts, tmp_path_factory: pytest.TempPathFactory) -> tuple[Room, Path]:
    """Three machines measure two models; one is killed as soon as it has sent a few records, and joins again."""
    folder = tmp_path_factory.mktemp("room")
    made = fleet.make_fleet_plan(catalog.read_prompts(), models=[LARGE, SMALL, "no-such-model"], **ANSWER)

    def kill_and_join_again() -> None:
        room_of_three.kill("bob")
        room_of_three.join("bob")

    with fleet.connected(room_of_three.address) as client:
        watcher = when(lambda: lines_of(folder, "bob") >= 4, kill_and_join_again)
        room = fleet.run_fleet(client, made, folder, on_progress=ignore)
        watcher.join()
    return room, folder


def test_a_killed_machine_completes_its_share_when_it_comes_back(killed: tuple[Room, Path]) -> None:
    """Dask runs the share again on the same machine, which goes on where it stopped: nothing is lost."""
    room, _ = killed
    assert [share.status for share in room.shares] == ["done"] * 6
    (bob,) = [machine for machine in room.machines if machine.label.startswith("bob-")]
    starts = {share.machine_id: 0 for share in room.shares}
    for share in room.shares:
        starts[share.machine_id] += share.starts
    assert starts.pop(bob.machine_id) == 3, "two shares, one of them begun twice"
    assert set(starts.values()) == {2}


def test_no_request_is_counted_twice(killed: tuple[Room, Path]) -> None:
    """Every machine holds every request of the plan exactly once, also the one that was killed."""
    room, _ = killed
    prompts = catalog.read_prompts()
    wanted = {f"{model}/{each.id}/{turn}" for model in (LARGE, SMALL) for each in prompts for turn in (1, 2)}
    for run in room.runs.values():
        assert request_ids(run) == dict.fromkeys(wanted, 1)


def test_a_machine_s_folder_has_the_shape_of_a_single_run(killed: tuple[Room, Path], tmp_path: Path) -> None:
    """Every reader of runs reads a machine's folder: same requests, same rows, same fields as a run without a fleet."""
    room, folder = killed
    with profiles.open_runtime("practice") as runtime:
        variants = runtime.find([LARGE, SMALL], ["cpu"])
        single_plan = plan.make_plan(variants, catalog.read_prompts(), **ANSWER)
        single = benchmark.run_benchmark(single_plan, runtime, tmp_path, show_progress=False)
    for label, run in room.runs.items():
        assert storage.read_run(folder / label / "records.jsonl") == run
        assert request_ids(run) == request_ids(single)
        assert {row.model_id: row.requests_ok for row in summaries.summarise(run)} == {LARGE: 16, SMALL: 16}
        assert {each.prompt_sha256 for each in run.completions} == {each.prompt_sha256 for each in single.completions}
        assert set(single.machine) <= set(run.machine)
        assert set(single.plan) <= set(run.plan)
        assert run.machine["label"] == label


def test_answers_are_the_machine_s_own_and_the_same_at_temperature_0(killed: tuple[Room, Path]) -> None:
    """Three machines of one kind say the same: what travels are answers, not times of one machine under three names."""
    room, _ = killed
    texts = [{each.request_id: each.text for each in run.completions if each.round} for run in room.runs.values()]
    assert len(texts) == 3 and texts[0] == texts[1] == texts[2]
    started = [tuple(each.started_at for each in run.completions) for run in room.runs.values()]
    assert len(set(started)) == 3


def test_a_model_that_a_machine_lacks_is_reported_per_machine(killed: tuple[Room, Path]) -> None:
    """What is not offered somewhere is named with machine, model and reason, and the rest is measured."""
    room, _ = killed
    for machine in room.machines:
        ((model, _, reason),) = machine.left_out
        assert model == "no-such-model" and "no-such-model" in reason


def test_the_room_survives_a_second_call(killed: tuple[Room, Path], room_of_three: Hosts) -> None:
    """A finished room is not measured again, and another plan is refused in its folder."""
    room, folder = killed
    before = {label: (folder / label / "records.jsonl").read_bytes() for label in room.runs}
    same = fleet.make_fleet_plan(catalog.read_prompts(), models=[LARGE, SMALL, "no-such-model"], **ANSWER)
    other = fleet.make_fleet_plan(catalog.read_prompts(), models=[SMALL], rounds=1)
    with fleet.connected(room_of_three.address) as client:
        again = fleet.run_fleet(client, same, folder, on_progress=ignore)
        with pytest.raises(ConfigurationError, match=r"another plan \(different: fleet, max_tokens, rounds\)"):
            fleet.run_fleet(client, other, folder, on_progress=ignore)
    assert {label: (folder / label / "records.jsonl").read_bytes() for label in again.runs} == before


def test_nothing_listens_beyond_loopback(killed: tuple[Room, Path], room_of_three: Hosts) -> None:
    """Scheduler, workers and everything they start are out of reach for other computers unless asked otherwise."""
    listening = []
    for process in room_of_three.processes.values():
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for each in family:
            sockets = [one for one in each.net_connections("inet") if one.status == psutil.CONN_LISTEN]
            listening += [one.laddr.ip for one in sockets]
    assert len(listening) >= 4 and set(listening) <= {"127.0.0.1", "::1"}


def test_a_machine_joins_once(killed: tuple[Room, Path], room_of_three: Hosts) -> None:
    """A second worker with the same cache is refused with one line; a copied machine is told so until it is renewed."""
    copied = room_of_three.folder / "copy" / "cache" / "fleet"
    copied.mkdir(parents=True)
    shutil.copy(room_of_three.folder / "cy" / "cache" / "fleet" / "machine-id.txt", copied)
    with ExitStack() as stack:
        twins = Hosts(room_of_three.folder, stack)
        twins.address = room_of_three.address
        twins.join("cy", "copy")
        assert twins.processes["cy"].wait(timeout=30) == 2
        wait_until(lambda: "another was copied from this one" in twins.said("copy"))
    assert "This machine has joined already." in room_of_three.said("cy").splitlines()[-1]
    assert room_of_three.processes["cy"].poll() is None


def test_a_room_names_nobody(killed: tuple[Room, Path]) -> None:
    """Nothing that a room keeps says whose machines they are: no host name, no user's folder."""
    _, folder = killed
    kept = "".join(path.read_text(encoding="utf-8") for path in folder.rglob("*") if path.is_file())
    for private in (socket.gethostname(), str(Path.home()), str(folder.parent)):
        assert len(private) < 4 or private not in kept


def test_a_share_is_stopped_at_its_limit(room_of_three: Hosts, tmp_path: Path) -> None:
    """A slow machine holds nobody up for longer than agreed: what it measured is kept, its share is `stopped`."""
    made = fleet.make_fleet_plan(catalog.read_prompts(), models=[LARGE], rounds=500, max_tokens=120)
    with fleet.connected(room_of_three.address) as client:
        room = fleet.run_fleet(
            client, made, tmp_path, machines=_ids(room_of_three, "ada"), on_progress=ignore, limit_s=3
        )
    (share,) = room.shares
    assert (share.status, share.reason) == ("stopped", "It was not finished after 3 s.")
    (run,) = room.runs.values()
    assert 1 <= sum(request_ids(run).values()) < 4000


def test_a_slow_machine_does_not_hold_back_the_others(room_of_three: Hosts, tmp_path: Path) -> None:
    """Records of the quick machines are complete on the disk while another benchmark still keeps one machine busy."""
    made = fleet.make_fleet_plan(catalog.read_prompts()[:2], models=[SMALL], rounds=1, max_tokens=10)
    (busy,) = (room_of_three.folder / "cy").glob("edge-ai-workshop-fleet-*/bench.lock")
    lock = FileLock(busy)
    seen: list[dict[str, int]] = []

    def release_when_others_are_done(progress: fleet.Progress) -> None:
        done = {label.partition("-")[0]: count for label, count in progress.done.items()}
        if done == {"ada": 2, "bob": 2} and not seen:
            seen.append({name: lines_of(tmp_path, name) for name in ("ada", "bob", "cy")})
            lock.release()

    with fleet.connected(room_of_three.address) as client, lock:
        room = fleet.run_fleet(client, made, tmp_path, on_progress=release_when_others_are_done)
    assert seen == [{"ada": 6, "bob": 6, "cy": 0}], "header, two servings, warm-up and two answers"
    assert [share.status for share in room.shares] == ["done"] * 3


def test_leaving_a_run_leaves_nothing_behind(room_of_three: Hosts, tmp_path: Path) -> None:
    """Whoever interrupts a run finds the machines free again: no process goes on measuring for nobody."""
    made = fleet.make_fleet_plan(catalog.read_prompts(), models=[LARGE], rounds=500, max_tokens=120)
    machines = list(room_of_three.processes.values())

    def interrupt(progress: fleet.Progress) -> None:
        if len([count for count in progress.done.values() if count]) == 3:
            assert len(descendants(machines, "workshop_lib.fleets.fleet_share")) == 3
            raise KeyboardInterrupt

    with fleet.connected(room_of_three.address) as client:
        with pytest.raises(KeyboardInterrupt):
            fleet.run_fleet(client, made, tmp_path, on_progress=interrupt)
        wait_until(lambda: not descendants(machines, "workshop_lib.fleets.fleet_share"))
    assert len(fleet_room.read_room(tmp_path).runs) == 3, "what was measured is kept"


def test_a_machine_that_stays_away_is_reported_and_other_versions_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the grace its share is `missing` with the reason; a machine with an older workshop takes no part."""
    made = fleet.make_fleet_plan(catalog.read_prompts(), models=[LARGE], rounds=3, max_tokens=60)
    with hosts(tmp_path / "hosts", "dee", "eve") as room_of_four:
        (tmp_path / "sitecustomize.py").write_text("import workshop_lib\nworkshop_lib.__version__ = '0.0.9'\n")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        room_of_four.join("old")
        fleet_cluster.wait_for_machines(room_of_four.address, 3)
        with fleet.connected(room_of_four.address) as client:
            watcher = when(lambda: lines_of(tmp_path, "eve") >= 4, lambda: room_of_four.kill("eve"))
            room = fleet.run_fleet(client, made, tmp_path, on_progress=ignore, grace_s=2, versions="refuse")
            watcher.join()
    named = {machine.machine_id: machine for machine in room.machines}
    shares = {named[share.machine_id].label.partition("-")[0]: share for share in room.shares}
    assert {name: share.status for name, share in shares.items()} == {"dee": "done", "eve": "missing"}
    assert shares["eve"].reason == "The machine left and was not back after 2 s."
    assert [each.refused for each in named.values() if each.label.startswith("old-")] == [
        "Other versions than most machines have: workshop 0.0.9 instead of 0.1.0."
    ]


def test_a_lost_scheduler_is_one_error_and_the_room_can_be_completed(tmp_path: Path) -> None:
    """What was measured is kept; machines join a new scheduler by themselves, and the same folder is completed."""
    made = fleet.make_fleet_plan(catalog.read_prompts(), models=[LARGE], rounds=2, max_tokens=60)
    with hosts(tmp_path / "hosts", "fay") as pair:
        with fleet.connected(pair.address) as client:
            watcher = when(lambda: lines_of(tmp_path, "fay") >= 4, lambda: pair.kill("scheduler"))
            with pytest.raises(EndpointError, match=r"The scheduler is gone; what was measured until then is kept\."):
                fleet.run_fleet(client, made, tmp_path, on_progress=ignore)
            watcher.join()
        kept = fleet_room.read_room(tmp_path)
        (before,) = kept.runs.values()
        pair.start_scheduler()
        fleet_cluster.wait_for_machines(pair.address, 1)
        with fleet.connected(pair.address) as client:
            room = fleet.run_fleet(client, made, tmp_path, on_progress=ignore)
    (run,) = room.runs.values()
    assert run.completions[: len(before.completions)] == before.completions
    assert request_ids(run) == dict.fromkeys(request_ids(run), 1) and len(request_ids(run)) == 16
    assert [share.status for share in room.shares] == ["done"]


def _ids(made: Hosts, *names: str) -> list[str]:
    return [(made.folder / name / "cache" / "fleet" / "machine-id.txt").read_text().strip() for name in names]
