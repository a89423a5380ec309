"""A benchmark in a process of its own that can be killed at any moment, and what must be true afterwards.

Run as a program it is that benchmark: `python -m tests.kill_helpers BASE_URL FOLDER ROUNDS`. It prints `started`,
then after every count of its progress bar the ids of the requests that are thereby acknowledged, then `done`.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from tests.fault_server import FaultServer
from tests.fault_steps import Behaviour
from workshop_lib.benchmark import RECORDS_FILE, run_plan
from workshop_lib.plan import Plan, make_plan
from workshop_lib.records import ModelVariant, Prompt, Run
from workshop_lib.storage import RunWriter, read_run

PROJECT = Path(__file__).resolve().parents[1]
MODELS = ("tiny", "tiny-2", "tiny-3")
TINY = Behaviour(first_token_s=0.001, pace_s=0.0003, tokens=4)
PROMPTS = tuple(Prompt(f"p{number}", f"Say {number}.") for number in range(8))
EARLY_KILLS, EARLY_S = 0.2, 0.4
"""The share of kills before the first acknowledgement is waited for, and within which time of the start."""

LONGEST_LIFE_S = 0.25
"""The other kills come within this time after the first acknowledgement."""

KILLED = 1 if sys.platform == "win32" else -9
"""How a process ends that was killed."""

POWER_CUTS = 0.3
"""The share of kills after which half a record is left behind."""


def tiny_server() -> FaultServer:
    """Three models that answer in two milliseconds."""
    return FaultServer(dict.fromkeys(MODELS, TINY))


def plan_for(rounds: int) -> Plan:
    """The plan that every driver of a folder has."""
    variants = [ModelVariant(alias=name, model_id=name, device="unknown") for name in MODELS]
    return make_plan(variants, PROMPTS, rounds=rounds, timeout_s=5.0, order="round-robin")


def start_driver(base_url: str, folder: Path, rounds: int) -> subprocess.Popen[str]:
    """The benchmark as a child process; returns once it has imported everything."""
    driver = subprocess.Popen(
        [sys.executable, "-m", "tests.kill_helpers", base_url, str(folder), str(rounds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
    )
    assert driver.stdout is not None
    assert driver.stdout.readline().strip() == "started"
    return driver


@dataclass(slots=True)
class Tally:
    """What became of one run that was killed again and again."""

    kills: int = 0
    acknowledged: int = 0
    lost: int = 0


def kill_until_done(base_url: str, folder: Path, rounds: int, kills: int, generator: random.Random) -> Tally:
    """Start, kill at a random moment, look for every acknowledged record; at last let the run end.

    A driver that ended before its kill ends the matter early.
    """
    tally, acknowledged = Tally(), set[str]()
    while True:
        driver, said = start_driver(base_url, folder, rounds), ""
        if tally.kills < kills:
            said = _wait_for_the_moment(driver, generator)
            driver.kill()
        rest, complaint = driver.communicate()
        said += rest
        acknowledged |= set(said.split()) - {"done"}
        tally.acknowledged = len(acknowledged)
        run = recorded(folder)
        tally.lost += len(acknowledged - {each.request_id for each in run.completions}) if run else len(acknowledged)
        if driver.returncode == 0 and said.endswith("done\n"):
            return tally
        assert driver.returncode == KILLED, complaint
        tally.kills += 1
        if generator.random() < POWER_CUTS:
            leave_half_a_line(folder)


def _wait_for_the_moment(driver: subprocess.Popen[str], generator: random.Random) -> str:
    """Let a random time pass, counted from the start or from the first acknowledgement; returns that one."""
    if generator.random() < EARLY_KILLS:
        time.sleep(generator.uniform(0.0, EARLY_S))  # the moment of the kill is what is random
        return ""
    said = driver.stdout.readline() if driver.stdout else ""
    time.sleep(generator.uniform(0.0, LONGEST_LIFE_S))
    return said


def leave_half_a_line(folder: Path) -> None:
    """What a power cut in the middle of a write leaves; a kill alone seldom does."""
    path = folder / RECORDS_FILE
    lines = path.read_bytes().splitlines() if path.exists() else []
    if lines:
        with path.open("ab") as file:
            file.write(lines[-1][: len(lines[-1]) // 2])


def recorded(folder: Path) -> Run | None:
    """What is on disk; None when the run was killed before it had a first line."""
    path = folder / RECORDS_FILE
    return read_run(path) if path.exists() and b"\n" in path.read_bytes() else None


def differences(folder: Path, rounds: int) -> list[str]:
    """How a run differs from an unbroken one: requests that are missing, surplus or there twice."""
    run = read_run(folder / RECORDS_FILE)
    counted = Counter(each.request_id for each in run.completions if each.round > 0 and each.ok)
    wanted = {request.request_id for _, requests in plan_for(rounds).blocks() for request in requests}
    missing = [f"missing {each}" for each in wanted - counted.keys()]
    surplus = [f"surplus {each}" for each in counted.keys() - wanted]
    return missing + surplus + [f"{times} times {each}" for each, times in counted.items() if times > 1]


def main(arguments: Sequence[str]) -> None:
    """Be the benchmark."""
    from tqdm.auto import tqdm

    from workshop_lib.client import ChatClient
    from workshop_lib.runtimes.endpoint import EndpointRuntime

    base_url, folder, rounds = arguments[0], Path(arguments[1]), int(arguments[2])
    written: list[str] = []
    append = RunWriter.append

    def remembering(self: RunWriter, record: object) -> None:
        append(self, record)  # type: ignore[arg-type]
        if getattr(record, "round", 0) > 0:
            written.append(record.request_id)  # type: ignore[attr-defined]

    class Bar(tqdm):  # type: ignore[type-arg]
        def update(self, n: float | None = 1) -> None:
            super().update(n)
            print("\n".join(written), flush=True)  # noqa: T201 - the acknowledgement
            written.clear()

    with ChatClient(base_url) as client:
        client.prepare()
    print("started", flush=True)  # noqa: T201
    with mock.patch("tqdm.auto.tqdm", Bar), mock.patch.object(RunWriter, "append", remembering):
        run_plan(plan_for(rounds), EndpointRuntime(base_url), folder)
    print("done", flush=True)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
