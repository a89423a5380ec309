"""The machine: what it is, how much memory a process holds, how much disk is free.

Says nothing that names a person or a place: no host name, no user name, no path. Knows no models.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

BYTES_PER_MB = 1_000_000
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
PACKAGES = (
    "foundry-local-sdk",
    "onnxruntime",
    "onnxruntime-genai-core",
    "openai",
    "numpy",
    "pandas",
)

PowerSource = Literal["mains", "battery", "unknown"]


def fingerprint() -> dict[str, object]:
    """Describe this machine, so that runs on unlike machines are not compared unawares.

    Returns:
        cpu (model name), physical_cores, logical_cores, memory_mb (10^6 bytes), os, architecture,
        python, power_source, load_average (1 minute; None on Windows), thread_variables (if set),
        versions (package → version, those that are installed) and started_at (ISO 8601 UTC).
    """
    import psutil

    return {
        "cpu": cpu_model(),
        "physical_cores": psutil.cpu_count(logical=False),
        "logical_cores": psutil.cpu_count(),
        "memory_mb": round(psutil.virtual_memory().total / BYTES_PER_MB),
        "os": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "power_source": power_source(),
        "load_average": load_average(),
        "thread_variables": {key: os.environ[key] for key in THREAD_VARIABLES if key in os.environ},
        "versions": package_versions(),
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def cpu_model() -> str:
    """The processor's name as its maker writes it, or the architecture where it cannot be read."""
    if sys.platform == "linux":
        name = _cpu_model_of_linux()
    elif sys.platform == "darwin":
        name = _output_of(["sysctl", "-n", "machdep.cpu.brand_string"])
    else:
        name = platform.processor()
    return name or platform.machine()


def power_source() -> PowerSource:
    """What feeds the machine now: a laptop on its battery often runs slower."""
    import psutil

    battery = psutil.sensors_battery() if hasattr(psutil, "sensors_battery") else None
    if battery is None or battery.power_plugged is None:
        return "unknown"
    return "mains" if battery.power_plugged else "battery"


def load_average() -> float | None:
    """Processes that ran or waited in the last minute, on average; None on Windows."""
    if sys.platform == "win32":
        return None
    return round(os.getloadavg()[0], 2)


def package_versions() -> dict[str, str]:
    """Versions of the installed packages that can change a result."""
    from importlib import metadata

    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def resident_mb(pid: int) -> float | None:
    """Resident memory of a process now, in 10^6 bytes; None when it is gone or not ours to see."""
    import psutil

    try:
        return float(psutil.Process(pid).memory_info().rss) / BYTES_PER_MB
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return None


def peak_resident_mb(pid: int) -> float | None:
    """Highest resident memory a process ever had, in 10^6 bytes.

    Linux and Windows keep this figure for every process. macOS does not: None there, as when the
    process is gone.
    """
    import psutil

    if platform.system() == "Linux":
        return _high_water_mark(pid)
    try:
        peak = getattr(psutil.Process(pid).memory_info(), "peak_wset", None)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return None
    return None if peak is None else float(peak) / BYTES_PER_MB


def free_disk_mb(path: Path) -> float:
    """Free space in 10^6 bytes where `path` lies, or would be made if it does not exist yet."""
    folder = path.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free / BYTES_PER_MB


def _high_water_mark(pid: int) -> float | None:
    """`VmHWM` of Linux, which counts in units of 1 024 bytes."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / BYTES_PER_MB
    return None


def _cpu_model_of_linux() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ""
    for line in text.splitlines():
        if line.lower().startswith("model name"):
            return line.partition(":")[2].strip()
    return ""


def _output_of(command: list[str]) -> str:
    """Standard output of a command, or nothing when it is not there or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
