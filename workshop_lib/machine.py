"""The machine: what it is, its memory and disk, its execution providers, and where watts can be read.

Says nothing that names a person or a place: no host name, no user name, no path. Energy is counted by NVIDIA's driver
for the graphics card that serves, by Linux (RAPL) for all processor packages, or assumed from declared watts; the
source is read just before and just after a request, never while it is timed.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from workshop_lib import places
from workshop_lib.errors import DiskSpaceError

BYTES_PER_MB = 1_000_000
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
PACKAGES = ("foundry-local-sdk", "onnxruntime", "onnxruntime-genai-core", "openai", "numpy", "pandas")
"""Packages whose version can change a result."""

CPU_PROVIDER = "CPUExecutionProvider"
PREFERENCE = ("cuda", "tensorrt", "trtrtx", "openvino", "qnn", "webgpu")
GPU_FIX = (
    "For an NVIDIA GPU install its driver, CUDA 12 and cuDNN 9 (on ARM64: CUDA 13); where the CUDA provider "
    "cannot be downloaded, set FOUNDRY_LOCAL_CUDA_EP_LIBRARY to its file."
)
_GPU_NAMES = ("cuda", "tensorrt", "trtrtx", "webgpu", "dml", "migraphx")

POWERCAP = Path("/sys/class/powercap")
ASSUMED, RAPL, NVML = "assumed", "measured:rapl", "measured:nvml"
UPDATE_S = {RAPL: 0.001, NVML: 0.1}
"""How often the counters behind a source move, at worst; shorter requests get their neighbours' energy as well."""


def fingerprint() -> dict[str, object]:
    """Describe this machine, so that runs on unlike machines are not compared unawares."""
    import psutil

    battery = psutil.sensors_battery() if hasattr(psutil, "sensors_battery") else None
    return {
        "cpu": cpu_model(),
        "physical_cores": psutil.cpu_count(logical=False),
        "logical_cores": psutil.cpu_count(),
        "usable_processors": usable_processors(),
        "memory_mb": round(psutil.virtual_memory().total / BYTES_PER_MB),
        "os": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "power_source": {None: "unknown", True: "mains", False: "battery"}[battery and battery.power_plugged],
        "load_average": None if sys.platform == "win32" else round(os.getloadavg()[0], 2),
        "thread_variables": {key: os.environ[key] for key in THREAD_VARIABLES if key in os.environ},
        "versions": package_versions(),
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def package_versions() -> dict[str, str]:
    """Versions of those of `PACKAGES` that are installed."""
    from importlib import metadata

    versions = {}
    for package in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions


def cpu_model() -> str:
    """The processor's name as its maker writes it, or the architecture where it cannot be read."""
    name = platform.processor()
    if sys.platform == "linux":
        name = _value_in(Path("/proc/cpuinfo"), "model name")
    elif sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        with suppress(OSError, subprocess.SubprocessError):
            name = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    return name or platform.machine()


def usable_processors() -> int | None:
    """How many logical processors this process may use, its affinity counted in; None when unknown."""
    import psutil

    process = psutil.Process()
    return len(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else psutil.cpu_count()


def cores() -> int:
    """Threads that a model gets: one for each physical core, and no more than this process may use."""
    import psutil

    return min(psutil.cpu_count(logical=False) or psutil.cpu_count() or 1, usable_processors() or 1)


def resident_mb(pid: int, kind: str = "rss") -> float | None:
    """Resident memory of a process now, in 10^6 bytes; None when it is gone or not ours to see."""
    import psutil

    try:
        held = getattr(psutil.Process(pid).memory_info(), kind, None)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return None
    return None if held is None else float(held) / BYTES_PER_MB


def peak_resident_mb(pid: int) -> float | None:
    """Highest resident memory a process ever had, in 10^6 bytes; None when it is gone, and on macOS."""
    if platform.system() == "Linux":
        peak_kib = _value_in(Path(f"/proc/{pid}/status"), "VmHWM")
        return int(peak_kib.split()[0]) * 1024 / BYTES_PER_MB if peak_kib else None
    return resident_mb(pid, "peak_wset")


def free_disk_mb(path: Path | None = None) -> float:
    """Free space in 10^6 bytes where `path` (None = the model cache) lies, or would be made if it is not there yet."""
    folder = (path or places.cache_root()).absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free / BYTES_PER_MB


def check_disk(folder: Path, need_mb: float, what: str) -> None:
    """Raise `DiskSpaceError` where `what`, e.g. a model's id, needs more than is free at `folder`."""
    if (free := free_disk_mb(folder)) < need_mb:
        raise DiskSpaceError(
            f"{what} needs {need_mb:.0f} MB of free disk, and {free:.0f} MB are free.",
            f"Free some space, or set {places.CACHE_VARIABLE} to a folder on a larger disk.",
        )


def _value_in(file: Path, name: str) -> str:
    """The value on the first line `name: value` of a file of `/proc`; nothing where there is none."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.lower().startswith(name.lower())), "")


def rank(provider: str | None) -> int:
    """Place of an execution provider in the order of preference; the lower the better."""
    name = (provider or "").lower()
    return next((place for place, part in enumerate(PREFERENCE) if part in name), len(PREFERENCE))


def has_gpu(registered: Sequence[str]) -> bool:
    """Whether any of the providers that a process registered runs models on a GPU: a variant's label does not say."""
    return any(part in provider.lower() for part in _GPU_NAMES for provider in registered)


def why_no_gpu(discoverable: Sequence[str], fault: str | None) -> str:
    """Why none of the providers that the runtime knows for this machine is a registered GPU's, as a sentence."""
    if found := [provider for provider in discoverable if has_gpu([provider])]:
        reason = f" ({fault})" if fault else ""
        return f"{' and '.join(found)} was found but could not be registered{reason}."
    if shutil.which("nvidia-smi"):
        return "No GPU provider is registered, although an NVIDIA driver is installed."
    return "No GPU provider is registered: the runtime found no GPU that it can use."


@dataclass(frozen=True, slots=True)
class Meter:
    """A source of energy, or the reason why there is none.

    `covers` says what its joules are the energy of, or why there are none; `source` is what a record says of it.
    `joules` counts on from any beginning; None = it cannot be read.
    """

    covers: str
    source: str | None = None
    joules: Callable[[], float | None] = lambda: None

    def joules_since(self, before: float | None) -> float | None:
        """Joules since an earlier count; None where either is unknown, it went back, or a processor's stood still."""
        now = self.joules()
        if before is None or now is None or now < before or (now == before and self.source == RAPL):
            return None
        return now - before


def declared(watts: float, clock: Callable[[], float] = time.perf_counter) -> Meter:
    """Watts that somebody declared: energy is watts x seconds, and labelled as assumed."""
    return Meter(f"Energy is assumed, not measured: {watts:g} W were declared.", ASSUMED, lambda: watts * clock())


def nvml_card(nvml: Any, card: Any, clock: Callable[[], float] = time.perf_counter) -> Meter | None:
    """One NVIDIA graphics card: its counter or, on cards without one, the mean of the power before and after."""
    used_j, last = 0.0, (0.0, 0.0)

    def counted() -> float | None:
        with suppress(nvml.NVMLError):
            return int(nvml.nvmlDeviceGetTotalEnergyConsumption(card)) / 1000
        return None

    def from_power() -> float | None:
        nonlocal used_j, last
        with suppress(nvml.NVMLError):
            now = clock(), int(nvml.nvmlDeviceGetPowerUsage(card)) / 1000
            used_j += (last[1] + now[1]) / 2 * (now[0] - last[0])
            last = now
            return used_j
        return None

    covers = "Energy is that of the whole graphics card while a request ran: idling included, the processor not."
    readers = (each for each in (counted, from_power) if each() is not None)
    return next((Meter(covers, NVML, reader) for reader in readers), None)


class PowerSources:
    """The sources of one machine, looked for once; a context manager, as the driver of the cards is opened."""

    def __init__(self, *, powercap: Path = POWERCAP) -> None:
        self._rapl = rapl(powercap)
        self._nvml: Any = None
        self._cards: tuple[Any, ...] = ()
        self._why_no_cards = "the NVIDIA driver knows no graphics card."
        try:
            import pynvml
        except ImportError:
            self._why_no_cards = "the package nvidia-ml-py, which reads graphics cards, is not installed."
            return
        try:
            pynvml.nvmlInit()
            self._cards = tuple(map(pynvml.nvmlDeviceGetHandleByIndex, range(pynvml.nvmlDeviceGetCount())))
        except pynvml.NVMLError as error:
            self._why_no_cards = f"no NVIDIA driver answers ({error}), and other graphics cards cannot be read."
        else:
            self._nvml = pynvml

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._nvml is not None:
            self._nvml.nvmlShutdown()
            self._nvml, self._cards = None, ()

    def meter_for(self, device: str, pid: int | None, watts: float | None = None) -> Meter:
        """The best source for a model on `device`, served by process `pid`; measured before declared `watts`.

        A processor's counter says nothing of a graphics card, nor the other way round.
        """
        measured: Meter | str = f"there is no meter for the device {device}."
        if pid is None:
            measured = "the model's process is not known, and may be on another machine."
        elif device == "cpu":
            measured = self._rapl
        elif device == "gpu":
            measured = self._card_of(pid)
        if not isinstance(measured, str):
            return measured
        return Meter(f"Energy was not measured: {measured}") if watts is None else declared(watts)

    def gpu_memory_mb(self, pid: int | None) -> float | None:
        """Memory that a process holds on all cards in 10^6 bytes; None when no card knows it, as in a container."""
        held = [found for card in self._cards if (found := self._held_bytes(card, pid))]
        return sum(held) / BYTES_PER_MB if held else None

    def _card_of(self, pid: int) -> Meter | str:
        if not self._cards:
            return self._why_no_cards
        cards = [card for card in self._cards if self._held_bytes(card, pid) is not None] or self._cards
        if len(cards) > 1:
            return f"which of {len(cards)} graphics cards serves the model cannot be told."
        return nvml_card(self._nvml, cards[0]) or "the graphics card tells neither its energy nor its power."

    def _held_bytes(self, card: Any, pid: int | None) -> int | None:
        """Memory of the process on one card, 0 where the driver hides it; None when the process does not use it."""
        for kind in ("Compute", "Graphics"):
            with suppress(self._nvml.NVMLError):
                for process in getattr(self._nvml, f"nvmlDeviceGet{kind}RunningProcesses")(card):
                    if process.pid == pid:
                        return process.usedGpuMemory or 0
        return None


def rapl(powercap: Path = POWERCAP) -> Meter | str:
    """The energy counters of all processor packages, or why they cannot be read.

    Intel and AMD processors show them in the same place. Zones of cores and of memory lie inside or beside a package's,
    and that of the platform covers them all. A counter starts anew after minutes; twice in one request is not seen.
    """
    used_uj, last_uj = 0, list[int]()

    def read(name: str) -> list[int]:
        return [int((zone / name).read_text(encoding="ascii")) for zone in zones]

    def joules() -> float | None:
        nonlocal last_uj, used_uj
        with suppress(OSError, ValueError, ZeroDivisionError):
            now_uj = read("energy_uj")
            used_uj += sum((now - last) % most for now, last, most in zip(now_uj, last_uj, ranges_uj, strict=True))
            last_uj = now_uj
            return used_uj / 1e6
        return None

    try:
        named = {name.parent: name.read_text(encoding="utf-8") for name in sorted(powercap.glob("intel-rapl:*/name"))}
        zones = [zone for zone, name in named.items() if name.startswith("package")]
        if not zones:
            return "this machine shows no energy counter of its processor."
        ranges_uj, last_uj = read("max_energy_range_uj"), read("energy_uj")
    except PermissionError:
        return "this system lets only its administrator read the processor's energy counter."
    except (OSError, ValueError):
        return "the processor's energy counter cannot be read."
    covers = "Energy is that of the whole processor package while a request ran: other programs and idling included."
    return Meter(covers, RAPL, joules)
