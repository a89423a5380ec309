"""The machine and its meters: what is read, and what is said where nothing can be.

The meters are those of a made-up machine: counters as files, a driver as an object, a clock by hand.
"""

# ruff: noqa: N802 - the fake driver has the names of the real one

from __future__ import annotations

import getpass
import json
import re
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from workshop_lib import machine
from workshop_lib.machine import Meter, PowerSources, rapl

PID = 4711
needs_colons = pytest.mark.skipif(sys.platform == "win32", reason="no file of Windows has a colon in its name")


def test_fingerprint_is_plain_data_with_every_field(monkeypatch: pytest.MonkeyPatch):
    """A fingerprint survives JSON and says what a reader needs to judge a run, thread limits included."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    found: Any = machine.fingerprint()
    assert json.loads(json.dumps(found)) == found
    assert {"cpu", "physical_cores", "os", "python", "power_source", "load_average", "started_at"} < set(found)
    assert found["memory_mb"] > 100
    assert 1 <= found["usable_processors"] <= found["logical_cores"]
    assert found["versions"]["openai"]
    assert found["thread_variables"]["OMP_NUM_THREADS"] == "1"


@pytest.mark.parametrize(("physical", "usable", "expected"), [(8, 16, 8), (8, 4, 4), (None, 4, 4), (None, None, 1)])
def test_a_model_gets_a_thread_per_core_that_may_be_used(
    monkeypatch: pytest.MonkeyPatch, physical: int | None, usable: int | None, expected: int
):
    """Two logical processors of one core are one thread; a limit of the process counts; at least one."""
    monkeypatch.setattr("psutil.cpu_count", lambda logical=True: usable if logical else physical)
    monkeypatch.setattr(machine, "usable_processors", lambda: usable)
    assert machine.cores() == expected


def test_fingerprint_names_no_person_and_no_place():
    """Results are shared, so neither the host, nor the user, nor any folder is named."""
    text = json.dumps(machine.fingerprint())
    words = set(re.split(r"[^A-Za-z0-9_-]+", text))
    assert socket.gethostname() not in words
    assert getpass.getuser() not in words
    assert str(Path.home()) not in text
    assert str(Path.cwd()) not in text


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
    assert machine.fingerprint()["power_source"] == expected


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


def test_free_disk_of_a_folder_to_be_is_that_of_its_disk(tmp_path):
    """Free space can be asked for before the folder is made."""
    ahead = machine.free_disk_mb(tmp_path / "not" / "yet")
    assert ahead == pytest.approx(machine.free_disk_mb(tmp_path), rel=0.05)
    assert not (tmp_path / "not").exists()


def test_a_processor_without_a_readable_name_is_called_by_its_architecture(monkeypatch):
    """The CPU's name falls back to the architecture, and a missing command is no fault."""
    monkeypatch.setattr(machine.sys, "platform", "darwin")
    monkeypatch.setattr(machine.platform, "processor", lambda: "")
    monkeypatch.setenv("PATH", "")
    assert machine.cpu_model() == machine.platform.machine()


class DriverError(Exception):
    """Stands for `pynvml.NVMLError`."""


@dataclass
class Card:
    """A graphics card: its counter, power, and the memory that processes hold on it."""

    millijoules: int | None = 1000
    milliwatts: int | None = None
    compute: dict[int, int | None] = field(default_factory=dict)
    graphics: dict[int, int | None] = field(default_factory=dict)


class FakeNvml:
    """What is used of `pynvml`."""

    NVMLError = DriverError

    def __init__(self, *cards: Card, broken: bool = False) -> None:
        self.cards, self.broken, self.open = cards, broken, 0

    def nvmlInit(self) -> None:
        if self.broken:
            raise DriverError("Driver Not Loaded")
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, number: int) -> Card:
        return self.cards[number]

    def nvmlDeviceGetTotalEnergyConsumption(self, card: Card) -> int:
        return self._known(card.millijoules)

    def nvmlDeviceGetPowerUsage(self, card: Card) -> int:
        return self._known(card.milliwatts)

    def _known(self, value: int | None) -> int:
        if value is None:
            raise DriverError("Not Supported")
        return value

    def nvmlDeviceGetComputeRunningProcesses(self, card: Card) -> list[SimpleNamespace]:
        return [SimpleNamespace(pid=pid, usedGpuMemory=held) for pid, held in card.compute.items()]

    def nvmlDeviceGetGraphicsRunningProcesses(self, card: Card) -> list[SimpleNamespace]:
        if not card.graphics:
            raise DriverError("Not Supported")
        return [SimpleNamespace(pid=pid, usedGpuMemory=held) for pid, held in card.graphics.items()]


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def zone(powercap: Path, number: str, name: str, microjoules: int, range_uj: int = 1_000_000) -> Path:
    """A zone as Linux shows it; returns its counter."""
    folder = powercap / f"intel-rapl:{number}"
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "max_energy_range_uj").write_text(f"{range_uj}\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    return folder / "energy_uj"


def sources(powercap: Path, driver: FakeNvml | None = None) -> PowerSources:
    """The sources of a machine with this driver of graphics cards, or without the package that asks it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "pynvml", driver)
        return PowerSources(powercap=powercap)


@needs_colons
def test_packages_are_summed_and_what_lies_inside_them_is_not(tmp_path: Path):
    """Two packages gave 1.5 J and 0.25 J; cores, memory and the platform would count them twice."""
    first, second = zone(tmp_path, "0", "package-0", 100, 10**7), zone(tmp_path, "1", "package-1", 200)
    others = [zone(tmp_path, "0:0", "core", 5), zone(tmp_path, "0:1", "dram", 5), zone(tmp_path, "2", "psys", 5)]
    (tmp_path / "intel-rapl:9").mkdir()  # a zone without a name is none
    with sources(tmp_path) as found:
        meter = found.meter_for("cpu", PID, 40.0)
    before = meter.joules()
    first.write_text("1500100\n")
    second.write_text("250200\n")
    for other in others:
        other.write_text("900000\n")
    assert meter.joules_since(before) == pytest.approx(1.75)
    assert meter.source == "measured:rapl"
    assert "whole processor package" in meter.covers


@needs_colons
def test_a_counter_that_starts_anew_loses_nothing_and_one_that_stands_still_is_not_zero(tmp_path: Path):
    """From 900 000 to 100 000 with a range of 1 000 000 µJ: 0.2 J. One that never moves, or vanished, is none."""
    counter = zone(tmp_path, "0", "package-0", 900_000, range_uj=1_000_000)
    meter = rapl(tmp_path)
    assert isinstance(meter, Meter)
    before = meter.joules()
    assert meter.joules_since(before) is None
    counter.write_text("100000")
    assert meter.joules_since(before) == pytest.approx(0.2)
    counter.unlink()
    assert (meter.joules(), meter.joules_since(before), meter.joules_since(None)) == (None, None, None)


@needs_colons
def test_a_counter_that_cannot_be_read_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """None at all, no number, or the administrator's: each is one sentence."""
    assert rapl(tmp_path) == "this machine shows no energy counter of its processor."
    zone(tmp_path, "0", "package-0", 7).write_text("many")
    assert rapl(tmp_path) == "the processor's energy counter cannot be read."

    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    assert "only its administrator" in str(rapl(tmp_path))


def test_declared_watts_are_watts_times_seconds():
    """40 W for 2.5 s are 100 J, and they are called assumed."""
    clock = Clock()
    meter = machine.declared(40.0, clock)
    before = meter.joules()
    clock.now = 2.5
    assert meter.joules_since(before) == 100.0
    assert (meter.source, meter.covers) == ("assumed", "Energy is assumed, not measured: 40 W were declared.")


def test_the_counter_of_the_card_that_the_process_uses_is_read(tmp_path: Path):
    """From 1 000 to 3 500 mJ: 2.5 J, also where its memory is hidden; a counter that went back says nothing."""
    idle, busy = Card(millijoules=0), Card(millijoules=1000, compute={PID: None})
    with sources(tmp_path, FakeNvml(idle, busy)) as found:
        meter = found.meter_for("gpu", PID, 40.0)
        before = meter.joules()
        idle.millijoules, busy.millijoules = 9_000, 3_500
        assert meter.joules_since(before) == 2.5
        assert meter.joules_since(meter.joules()) == 0.0  # its counter moves ten times a second
        busy.millijoules = 10
        assert meter.joules_since(before) is None
        assert meter.source == "measured:nvml"
        assert "whole graphics card" in meter.covers


def test_a_card_without_a_counter_gives_its_power_before_and_after():
    """100 W before and 200 W after 2 s: 150 W x 2 s = 300 J."""
    card, clock = Card(millijoules=None, milliwatts=100_000), Clock()
    meter = machine.nvml_card(FakeNvml(card), card, clock)
    assert meter is not None
    clock.now = 1.0
    before = meter.joules()
    card.milliwatts, clock.now = 200_000, 3.0
    assert meter.joules_since(before) == pytest.approx(300.0)
    card.milliwatts = None
    assert meter.joules_since(before) is None


@pytest.mark.parametrize(
    ("driver", "reason"),
    [
        (FakeNvml(Card(), Card()), "which of 2 graphics cards"),
        (FakeNvml(Card(compute={PID: 1}), Card(compute={PID: 1}), Card()), "which of 2 graphics cards"),
        (FakeNvml(Card(millijoules=None)), "neither its energy nor its power"),
        (FakeNvml(), "knows no graphics card"),
        (FakeNvml(broken=True), "no NVIDIA driver answers (Driver Not Loaded)"),
        (None, "nvidia-ml-py"),
    ],
)
def test_a_card_that_cannot_be_told_or_read_is_a_reason(tmp_path: Path, driver: FakeNvml | None, reason: str):
    """Reading the wrong card would be worse than reading none; declared watts take its place."""
    with sources(tmp_path, driver) as found:
        meter = found.meter_for("gpu", PID)
        assert meter.covers.startswith("Energy was not measured: ") and reason in meter.covers
        assert (meter.source, meter.joules(), meter.joules_since(None)) == (None, None, None)
        assert found.meter_for("gpu", PID, 40.0).source == "assumed"


@pytest.mark.parametrize(
    ("cards", "megabytes"),
    [
        ([Card(compute={PID: 3_000_000, 1: 9_000_000})], 3.0),
        ([Card(compute={PID: 3_000_000}), Card(compute={PID: 500_000})], 3.5),
        ([Card(graphics={PID: 2_000_000})], 2.0),
        ([Card(compute={PID: 2_000_000}, graphics={PID: 2_000_000})], 2.0),  # both lists name it: one memory
        ([Card(compute={PID: None})], None),
        ([Card(compute={1: 9_000_000})], None),
        ([], None),
    ],
)
def test_gpu_memory_is_the_serving_processs_own(tmp_path: Path, cards: list[Card], megabytes: float | None):
    """Megabytes of 10^6 bytes on all cards; None where the driver does not know the process or hides its memory."""
    driver = FakeNvml(*cards)
    with sources(tmp_path, driver) as found:
        assert found.gpu_memory_mb(PID) == megabytes
        assert found.gpu_memory_mb(None) is None
        assert driver.open == 1
    assert driver.open == 0


def test_the_device_decides_what_may_be_read(tmp_path: Path):
    """A processor's counter says nothing of other devices or machines; declared watts help where nothing is read."""
    with sources(tmp_path, FakeNvml(Card())) as found:
        assert found.meter_for("npu", PID).covers == "Energy was not measured: there is no meter for the device npu."
        assert "may be on another machine" in found.meter_for("cpu", None).covers
        assert found.meter_for("cpu", None, 40.0).source == "assumed"


def test_looking_at_this_machine_fails_nowhere():
    """Whatever this machine has, there is a meter or a reason in one sentence."""
    with PowerSources() as found:
        for device in ("cpu", "gpu"):
            meter = found.meter_for(device, PID)
            assert meter.covers.endswith(".") and "\n" not in meter.covers
            meter.joules_since(meter.joules())
