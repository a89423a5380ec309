"""The command line of fleets: what the guide says is accepted, and a measured room can be shown."""

from __future__ import annotations

import re
import shlex
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fleet_helpers import made_room
from workshop_lib import storage
from workshop_lib.__main__ import _parser, main
from workshop_lib.fleets import fleet_engine, fleet_room, fleet_worker
from workshop_lib.fleets.fleet_room import Room, label_of
from workshop_lib.places import NOTEBOOKS, PROJECT

GUIDE = PROJECT / "samples" / "fleet" / "README.md"
COMMAND = re.compile(r"\.venv(?:/bin/|\\{1,2}Scripts\\{1,2})python -m workshop_lib (fleet [^`|\n\"\\]*)")


def stored_room(folder: Path) -> Room:
    """A room of three machines as its folder holds it."""
    room = made_room({"quick": 1.0, "usual": 2.0, "slow": 4.0}, wise=["practice-large"])
    labels = {machine.label: label_of(machine.label, machine.machine_id) for machine in room.machines}
    machines = tuple(replace(machine, label=labels[machine.label]) for machine in room.machines)
    room = replace(room, machines=machines, runs={labels[label]: run for label, run in room.runs.items()})
    for label, run in room.runs.items():
        with storage.RunWriter(folder / label / "records.jsonl", run) as writer:
            for record in (*run.servings, *run.completions):
                writer.append(record)
    fleet_room.write_room(folder, room)
    return room


@pytest.mark.parametrize("guide", [GUIDE, NOTEBOOKS / "07_benchmark_a_classroom.ipynb"], ids=lambda each: each.name)
def test_every_command_of_the_guides_is_accepted(guide: Path) -> None:
    """What an instructor copies from the guide is what the command line takes, in both shells."""
    commands = COMMAND.findall(guide.read_text(encoding="utf-8"))
    assert {"certificates", "scheduler", "join"} <= {command.split()[1] for command in commands}
    for command in commands:
        assert callable(_parser().parse_args(shlex.split(command)).command)


def test_bash_and_powershell_say_the_same() -> None:
    """Every table of the guide has the command twice, differing in its first word only."""
    bash = re.findall(r"^\| bash \| `\.venv/bin/python (.*)` \|$", GUIDE.read_text(encoding="utf-8"), re.M)
    powershell = re.findall(
        r"^\| PowerShell \| `\.venv\\Scripts\\python (.*)` \|$", GUIDE.read_text(encoding="utf-8"), re.M
    )
    assert bash == powershell and len(bash) == 6


def test_a_room_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Shares, speeds, the default for both views with how sure it is: all from the folder, without Dask."""
    stored_room(tmp_path)
    assert main(["fleet", "show", str(tmp_path), "--max-latency-ms", "300"]) == 0
    shown = capsys.readouterr().out
    assert "slow-00000000" in shown and "484 ms are more than 300 ms" in shown
    assert "On the slowest machine (slow-00000000) the best default is practice-small, int4, cpu" in shown
    assert "3 machines are few" in shown


def test_a_room_of_nothing_is_shown_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where no model was measured everywhere, the tables are shown and the reason instead of a default."""
    fleet_room.write_room(tmp_path, replace(stored_room(tmp_path / "other"), runs={}))
    assert main(["fleet", "show", str(tmp_path)]) == 0
    assert "No model was measured on every machine of the room." in capsys.readouterr().out


def test_a_folder_that_holds_no_room_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong folder is named with the file that it lacks; exit code 2."""
    assert main(["fleet", "show", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "room.json" in line


@pytest.mark.skipif(not fleet_engine.is_installed(), reason="requirements-fleet.txt is missing")
def test_certificates_are_made_and_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command names the folders, says what whoever holds one can do, and shows no key."""
    assert main(["fleet", "certificates", str(tmp_path / "keys"), "desk-1", "desk-2", "--days", "2"]) == 0
    shown = capsys.readouterr().out
    assert "Made 3 folders, valid for 2 days: instructor, desk-1, desk-2." in shown
    assert "can run programs on every machine" in shown and "PRIVATE KEY" not in shown
    assert main(["fleet", "certificates", str(tmp_path / "more"), "desk-1", "--days", "0"]) == 2


@pytest.mark.skipif(not fleet_engine.is_installed(), reason="requirements-fleet.txt is missing")
def test_a_port_that_is_taken_is_one_line() -> None:
    """A second scheduler on the same port says what to do."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        command = [sys.executable, "-m", "workshop_lib", "fleet", "scheduler", "--port", str(taken.getsockname()[1])]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("ConfigurationError: No scheduler can listen on") and "Choose another --port" in line


def test_only_finished_lines_are_sent(tmp_path: Path) -> None:
    """A line that is still being written waits for its end; no line is sent twice, and letters stay whole."""
    path = tmp_path / "records.jsonl"
    tail = fleet_worker.Tail(path)
    assert tail.lines() == []
    path.write_bytes("one\ntwö".encode())
    assert tail.lines() == ["one"]
    with path.open("ab") as file:
        file.write(b"\nthree\n")
    assert tail.lines() == ["twö", "three"] and tail.lines() == []
