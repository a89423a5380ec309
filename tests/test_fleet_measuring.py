"""One plan on many machines, with real processes: every machine a worker with its own cache, runtime and models."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.fleet_helpers import NO_DASK, Hosts, hosts, wait_until, when
from workshop_lib import benchmark, data, summary
from workshop_lib.errors import ConfigurationError, EndpointError
from workshop_lib.fleet import cluster
from workshop_lib.fleet.plan import Fleet, FleetPlan, read_fleet
from workshop_lib.records import Run
from workshop_lib.runtimes import profiles

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(NO_DASK, reason="NO FLEET IS TESTED: requirements-fleet.txt is missing"),
]

LARGE, SMALL = "practice-large-int4-generic-cpu:1", "practice-small-int4-generic-cpu:1"
PROMPTS = data.read_prompts()[:4]
PLAN = FleetPlan(PROMPTS, models=[LARGE, SMALL, "no-such-model"], rounds=2, max_tokens=40)
ENDLESS = FleetPlan(PROMPTS, models=[LARGE], rounds=500)


def ignore(_: Fleet, __: frozenset[str]) -> None:
    """No progress bar among the tests."""


def request_ids(run: Run) -> Counter[str]:
    return Counter(each.request_id for each in run.completions if each.round)


def statuses(fleet: Fleet) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for share in fleet.shares:
        found.setdefault(share.machine.partition("-")[0], []).append(share.status)
    return found


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    with hosts(tmp_path_factory.mktemp("hosts"), "ada", "bob", "cy") as made:
        yield made


@pytest.fixture(scope="module")
def killed(three: Hosts, tmp_path_factory: pytest.TempPathFactory) -> tuple[Fleet, Path]:
    """Three machines measure two models; one is killed as soon as it has written a few records, and joins again."""
    folder = tmp_path_factory.mktemp("results")

    def kill_and_join_again() -> None:
        three.kill("bob")
        three.join("bob")

    with cluster.connect(three.address) as client:
        watcher = when(lambda: three.recorded("bob") >= 5, kill_and_join_again)
        fleet = cluster.run_fleet(client, PLAN, folder, on_progress=ignore)
        watcher.join()
    return fleet, folder


def test_a_killed_machine_completes_its_share_when_it_comes_back(killed: tuple[Fleet, Path]) -> None:
    """Dask runs the task again on the same machine, which goes on where it stopped."""
    fleet, _ = killed
    assert statuses(fleet) == {"ada": ["done"] * 2, "bob": ["done"] * 2, "cy": ["done"] * 2}
    assert sorted(share.starts for share in fleet.shares) == [1, 1, 1, 1, 1, 2]
    assert [share.starts for share in fleet.shares if share.machine.startswith("bob")].count(2) == 1


def test_no_request_is_counted_twice(killed: tuple[Fleet, Path], tmp_path: Path) -> None:
    """Every machine holds the same requests and rows as a run without a fleet, each exactly once."""
    fleet, folder = killed
    with profiles.open_runtime("practice") as runtime:
        variants = runtime.find([LARGE, SMALL], ["cpu"])
        single = benchmark.run_plan(PLAN.for_models(variants), runtime, tmp_path, show_progress=False)
    assert fleet.runs.keys() == fleet.models.keys() and len(fleet.runs) == 3
    for label, run in fleet.runs.items():
        assert request_ids(run) == request_ids(single) and set(request_ids(run).values()) == {1}
        assert {row.model_id: row.requests_ok for row in summary.summarise(run)} == {
            LARGE: 8,
            SMALL: 8,
            "no-such-model": 0,
        }
        assert {each.prompt_sha256 for each in run.completions} == {each.prompt_sha256 for each in single.completions}
        assert set(single.machine) <= set(run.machine) and single.plan.keys() <= run.plan.keys()
        assert run.machine["label"] == label
    assert read_fleet(folder).runs == fleet.runs


def test_every_record_is_its_machine_s_own(killed: tuple[Fleet, Path]) -> None:
    """At temperature 0 three machines of one kind say the same, each at times of its own."""
    fleet, _ = killed
    texts = [{each.request_id: each.text for each in run.completions if each.round} for run in fleet.runs.values()]
    assert texts[0] == texts[1] == texts[2]
    assert len({tuple(each.started_at for each in run.completions) for run in fleet.runs.values()}) == 3
    for run in fleet.runs.values():
        (lacking,) = [each for each in run.servings if each.status == "skipped"]
        assert lacking.variant.alias == "no-such-model" and "no-such-model" in (lacking.error or "")


def test_finished_shares_are_not_measured_again(killed: tuple[Fleet, Path], three: Hosts) -> None:
    """The same folder and plan change no record; another plan is refused there."""
    fleet, folder = killed
    with cluster.connect(three.address) as client:
        again = cluster.run_fleet(client, PLAN, folder, on_progress=ignore)
        with pytest.raises(ConfigurationError, match="different: models, rounds"):
            cluster.run_fleet(client, ENDLESS, folder, on_progress=ignore)
    assert again.runs == fleet.runs and again.run_id == fleet.run_id


def test_nothing_listens_beyond_loopback_and_results_name_nobody(killed: tuple[Fleet, Path], three: Hosts) -> None:
    """Nobody reaches a scheduler or worker from outside unless asked; no host name and no folder is kept."""
    family = [psutil.Process(each.pid) for each in three.processes.values()]
    family += [child for each in family for child in each.children(recursive=True)]
    sockets = [one for each in family for one in each.net_connections("inet") if one.status == psutil.CONN_LISTEN]
    assert len(sockets) >= 4 and {one.laddr.ip for one in sockets} <= {"127.0.0.1", "::1"}
    kept = "".join(path.read_text(encoding="utf-8") for path in killed[1].rglob("*") if path.is_file())
    for private in (socket.gethostname(), str(Path.home()), str(three.folder)):
        assert len(private) < 4 or private not in kept


def test_a_machine_joins_once(killed: tuple[Fleet, Path], three: Hosts) -> None:
    """A second window on one computer ends with a sentence, whatever its name; the first goes on."""
    (three.folder / "twin").mkdir()
    (three.folder / "twin" / "cache").symlink_to(three.folder / "cy" / "cache")
    twin = three.start("twin", "join", three.address, "--name", "other")
    assert twin.wait(timeout=30) == 2 and "takes part in a fleet already" in three.said("twin")
    assert three.processes["cy"].poll() is None


def test_a_slow_machine_does_not_hold_back_the_others(three: Hosts, tmp_path: Path) -> None:
    """Shares of the quick machines are on the disk while one machine stands still."""
    plan = FleetPlan(PROMPTS[:2], models=[SMALL], rounds=1, max_tokens=10)
    cy = psutil.Process(three.processes["cy"].pid)
    seen: list[dict[str, list[str]]] = []

    def go_on_when_others_are_done(fleet: Fleet, _: frozenset[str]) -> None:
        if not seen and statuses(fleet) == {"ada": ["done"], "bob": ["done"]}:
            seen.append(statuses(read_fleet(tmp_path)))
            cy.resume()

    with cluster.connect(three.address) as client:
        cy.suspend()
        fleet = cluster.run_fleet(client, plan, tmp_path, on_progress=go_on_when_others_are_done)
    assert seen == [{"ada": ["done"], "bob": ["done"]}]
    assert statuses(fleet) == {"ada": ["done"], "bob": ["done"], "cy": ["done"]}


def test_leaving_a_run_leaves_nothing_behind(three: Hosts, tmp_path: Path) -> None:
    """Who interrupts a run finds the machines free, which keep what they recorded."""

    def measuring() -> int:
        started = [psutil.Process(each.pid).children() for each in three.processes.values() if each.poll() is None]
        return sum(map(len, started))

    def interrupt(_: Fleet, __: frozenset[str]) -> None:
        if all(three.recorded(name) > before[name] + 5 for name in before):
            assert measuring() == 3
            raise KeyboardInterrupt

    before = {name: three.recorded(name) for name in ("ada", "bob", "cy")}
    with cluster.connect(three.address) as client:
        with pytest.raises(KeyboardInterrupt):
            cluster.run_fleet(client, ENDLESS, tmp_path, on_progress=interrupt)
        wait_until(lambda: measuring() == 0)
    assert statuses(read_fleet(tmp_path)) == {"ada": ["open"], "bob": ["open"], "cy": ["open"]}


def test_a_machine_that_stays_away_is_missing(tmp_path: Path) -> None:
    """After the grace the others' results stand, and what it did not finish is named with the reason."""
    plan = FleetPlan(PROMPTS, models=[LARGE], rounds=3, max_tokens=60)
    with hosts(tmp_path / "hosts", "dee", "eve") as pair:
        watcher = when(lambda: pair.recorded("eve") >= 4, lambda: pair.kill("eve"))
        with cluster.connect(pair.address) as client:
            fleet = cluster.run_fleet(client, plan, tmp_path, on_progress=ignore, grace_s=1.5)
        watcher.join()
    assert statuses(fleet) == {"dee": ["done"], "eve": ["missing"]}
    assert fleet.shares[1].reason == "The machine left and was not back after 1.5 s."


def test_a_lost_scheduler_is_one_error_and_the_fleet_can_be_completed(tmp_path: Path) -> None:
    """Machines join a new scheduler by themselves, and the same folder is completed from where they stopped."""
    plan = FleetPlan(PROMPTS, models=[LARGE, SMALL], rounds=2, max_tokens=60)
    with hosts(tmp_path / "hosts", "fay") as one:
        with cluster.connect(one.address) as client:
            watcher = when(lambda: one.recorded("fay") >= 6, lambda: one.kill("scheduler"))
            with pytest.raises(EndpointError, match=r"The scheduler is gone; finished shares are kept\."):
                cluster.run_fleet(client, plan, tmp_path, on_progress=ignore)
            watcher.join()
        one.start_scheduler()
        one.wait_for(1)
        with cluster.connect(one.address) as client:
            fleet = cluster.run_fleet(client, plan, tmp_path, on_progress=ignore)
            client.shutdown()
    (run,) = fleet.runs.values()
    assert set(request_ids(run).values()) == {1} and len(request_ids(run)) == 16
    assert statuses(fleet) == {"fay": ["done", "done"]}
