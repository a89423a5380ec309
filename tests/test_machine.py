import getpass
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from workshop_lib import machine


def test_fingerprint_is_plain_data_with_every_field():
    """A fingerprint survives JSON and says what a reader needs to judge a run."""
    fingerprint = machine.fingerprint()
    assert json.loads(json.dumps(fingerprint)) == fingerprint
    assert set(fingerprint) == {
        "cpu",
        "physical_cores",
        "logical_cores",
        "memory_mb",
        "os",
        "architecture",
        "python",
        "power_source",
        "load_average",
        "thread_variables",
        "versions",
        "started_at",
    }
    assert fingerprint["memory_mb"] > 100
    assert fingerprint["versions"]["openai"]


def test_fingerprint_names_no_person_and_no_place():
    """Results are shared, so neither the host, nor the user, nor any folder is named."""
    text = json.dumps(machine.fingerprint())
    words = set(re.split(r"[^A-Za-z0-9_-]+", text))
    assert socket.gethostname() not in words
    assert getpass.getuser() not in words
    assert str(Path.home()) not in text
    assert str(Path.cwd()) not in text


def test_thread_variables_are_recorded_when_set(monkeypatch):
    """A thread limit changes every speed, so the fingerprint carries it."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert machine.fingerprint()["thread_variables"]["OMP_NUM_THREADS"] == "1"


@pytest.mark.parametrize(
    ("battery", "expected"),
    [
        (None, "unknown"),
        (SimpleNamespace(power_plugged=None), "unknown"),
        (SimpleNamespace(power_plugged=True), "mains"),
        (SimpleNamespace(power_plugged=False), "battery"),
    ],
)
def test_power_source_is_said_or_unknown(monkeypatch, battery, expected):
    """A machine whose power source cannot be read is never said to be on mains."""
    monkeypatch.setattr(psutil, "sensors_battery", lambda: battery, raising=False)
    assert machine.power_source() == expected


def test_peak_memory_outlives_what_was_freed():
    """The peak keeps memory that a process held and gave back, in units of 10^6 bytes."""
    code = "held = bytearray(200_000_000); del held; print('freed', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        peak, now = machine.peak_resident_mb(process.pid), machine.resident_mb(process.pid)
        process.communicate(b"\n")
    assert now < 100
    assert peak is None or 200 < peak < 300
    assert peak is not None or sys.platform == "darwin"


def test_memory_of_a_process_that_is_gone_is_not_measured():
    """No process, no figure: None, and never 0."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert machine.resident_mb(process.pid) is None
    assert machine.peak_resident_mb(process.pid) is None


@pytest.mark.skipif(sys.platform == "win32", reason="Windows tells the peak of every process")
def test_peak_memory_is_unknown_where_the_system_does_not_tell_it(monkeypatch):
    """macOS keeps no peak for other processes, and none is made up."""
    monkeypatch.setattr(machine.platform, "system", lambda: "Darwin")
    assert machine.peak_resident_mb(os.getpid()) is None


def test_free_disk_of_a_folder_to_be_is_that_of_its_disk(tmp_path):
    """Free space can be asked for before the folder is made."""
    ahead = machine.free_disk_mb(tmp_path / "not" / "yet")
    assert ahead == pytest.approx(machine.free_disk_mb(tmp_path), rel=0.05)
    assert not (tmp_path / "not").exists()


def test_a_processor_without_a_readable_name_is_called_by_its_architecture(monkeypatch):
    """The CPU's name falls back to the architecture, and a missing command is no fault."""
    monkeypatch.setattr(machine.sys, "platform", "darwin")
    monkeypatch.setattr(machine, "_output_of", lambda command: "")
    assert machine.cpu_model() == machine.platform.machine()
    monkeypatch.undo()
    assert machine._output_of(["no-such-command-anywhere"]) == ""
    assert machine._output_of([sys.executable, "-c", "print('named')"]) == "named"
