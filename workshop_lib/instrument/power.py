"""Where watts come from on this machine: counters of the processor or the graphics card, or a number that was declared.

| source | covers | needs |
|---|---|---|
| `measured:nvml` | the whole graphics card that serves, without the processor | an NVIDIA driver |
| `measured:rapl` | all processor packages, other programs included | Linux, and the right to read the counter |
| `assumed` | what the person meant who declared the watts | a setting, or `watts` in `models.json` |

A counter is read just before and just after a request, never while it is timed. Knows no models and no requests.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Literal, Protocol, Self

from workshop_lib.metrics.energy import ASSUMED

POWERCAP = Path("/sys/class/powercap")
BYTES_PER_MB = 1_000_000

Kind = Literal["measured", "assumed"]


class Meter(Protocol):
    """A source of energy: `name` (`rapl`, `nvml`, `declared`), `kind`, and a sentence on what it `covers`."""

    @property
    def name(self) -> str:
        """Which source it is."""

    @property
    def kind(self) -> Kind:
        """Whether its joules were measured."""

    @property
    def source(self) -> str:
        """What a record says of it: `measured:rapl`, `measured:nvml` or `assumed`."""

    @property
    def covers(self) -> str:
        """What its joules are the energy of, as a sentence."""

    def mark(self) -> Any:
        """The beginning of an interval, to be given to `joules_since`."""

    def joules_since(self, mark: Any) -> float | None:
        """Energy since a mark in joules; None when it could not be read."""


@dataclass(frozen=True, slots=True)
class DeclaredPower:
    """Watts that somebody declared: energy is watts x seconds, and labelled as assumed."""

    watts: float
    clock: Callable[[], float] = time.perf_counter
    name: ClassVar[str] = "declared"
    kind: ClassVar[Kind] = "assumed"
    source: ClassVar[str] = ASSUMED

    @property
    def covers(self) -> str:
        """What the number stands for."""
        return f"Energy is assumed, not measured: {self.watts:g} W were declared."

    def mark(self) -> float:
        """Seconds on the clock."""
        return self.clock()

    def joules_since(self, mark: float) -> float:
        """Watts x seconds."""
        return self.watts * (self.clock() - mark)


@dataclass(frozen=True, slots=True)
class RaplPackages:
    """The energy counters of all processor packages: `counters` are files, `ranges_uj` where each starts anew.

    A counter that starts anew twice within one request cannot be told from one that did so once; that takes minutes.
    """

    counters: tuple[Path, ...]
    ranges_uj: tuple[int, ...]
    name: ClassVar[str] = "rapl"
    kind: ClassVar[Kind] = "measured"
    source: ClassVar[str] = "measured:rapl"
    covers: ClassVar[str] = (
        "Energy is that of the whole processor package while a request ran: other programs and idling included, "
        "graphics cards and screen not."
    )

    def mark(self) -> tuple[int, ...] | None:
        """The counters in microjoules; None when one cannot be read."""
        try:
            return tuple(map(_number_in, self.counters))
        except (OSError, ValueError):
            return None

    def joules_since(self, mark: tuple[int, ...] | None) -> float | None:
        """Sum over the packages; None when a counter could not be read or did not move."""
        now = self.mark()
        if now is None or mark is None:
            return None
        return sum(map(_forward, mark, now, self.ranges_uj)) / 1e6 or None


@dataclass(frozen=True, slots=True)
class NvmlCard:
    """One NVIDIA graphics card: its counter of millijoules or, on cards without one, the power before and after."""

    nvml: Any
    card: Any
    clock: Callable[[], float] = time.perf_counter
    name: ClassVar[str] = "nvml"
    kind: ClassVar[Kind] = "measured"
    source: ClassVar[str] = "measured:nvml"
    covers: ClassVar[str] = (
        "Energy is that of the whole graphics card while a request ran: other programs on it and idling included, "
        "the processor not."
    )

    def mark(self) -> tuple[str, int, float] | None:
        """The unit that the card knows, its reading, and the clock; None when it tells neither."""
        for unit, read in (
            ("mJ", self.nvml.nvmlDeviceGetTotalEnergyConsumption),
            ("mW", self.nvml.nvmlDeviceGetPowerUsage),
        ):
            try:
                return unit, int(read(self.card)), self.clock()
            except self.nvml.NVMLError:
                continue
        return None

    def joules_since(self, mark: tuple[str, int, float] | None) -> float | None:
        """Difference of the counter, or mean power x seconds; None when the readings do not fit together."""
        now = self.mark()
        if now is None or mark is None or now[0] != mark[0]:
            return None
        if now[0] == "mW":
            return (mark[1] + now[1]) / 2 / 1000 * (now[2] - mark[2])
        return (now[1] - mark[1]) / 1000 if now[1] >= mark[1] else None  # it starts at 0 when the driver is reloaded


@dataclass(frozen=True, slots=True)
class NoMeter:
    """No source: why not, in place of what is covered."""

    covers: str
    name: ClassVar[str] = "none"
    source: ClassVar[None] = None

    def mark(self) -> None:
        """Nothing to read."""

    def joules_since(self, mark: None) -> None:
        """Nothing was measured."""


@dataclass(slots=True)
class PowerSources:
    """The sources of one machine, looked for once; a context manager, as the driver of the cards is opened.

    Args:
        powercap: the folder of Linux where processors show their counters.
        load_nvml: gives the module `pynvml`; raises ImportError where it is not installed.
        clock: seconds for declared watts and for cards without a counter.
    """

    powercap: Path = POWERCAP
    load_nvml: Callable[[], Any] = field(default_factory=lambda: _pynvml)
    clock: Callable[[], float] = time.perf_counter
    _nvml: Any = field(default=None, init=False)
    _cards: tuple[Any, ...] = field(default=(), init=False)
    _why_no_cards: str = field(default="", init=False)
    _rapl: RaplPackages | str = field(default="", init=False)

    def __enter__(self) -> Self:
        self._rapl = rapl(self.powercap)
        self._open_nvml()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._nvml is not None:
            self._nvml.nvmlShutdown()
            self._nvml, self._cards = None, ()

    def meter_for(self, device: str, pid: int | None, watts: float | None = None) -> Meter | NoMeter:
        """The best source for a model on `device`, served by process `pid`; measured before declared.

        Args:
            device: `cpu`, `gpu`, …: a processor's counter says nothing of a graphics card, nor the other way round.
            pid: the serving process; None for an endpoint, which may run on another machine.
            watts: declared power, for where nothing can be measured.
        """
        measured = self._measured(device, pid)
        if not isinstance(measured, str):
            return measured
        return NoMeter(f"Energy was not measured: {measured}") if watts is None else DeclaredPower(watts, self.clock)

    def gpu_memory_mb(self, pid: int | None) -> float | None:
        """Memory that a process holds on all cards in 10^6 bytes; None when no card knows the process.

        A driver that counts in another name space of processes (a container), and one under Windows, do not know it.
        """
        used = [] if pid is None else [held for card in self._cards for held in self._held_bytes(card, pid)]
        return sum(used) / BYTES_PER_MB if used else None

    def _measured(self, device: str, pid: int | None) -> Meter | str:
        if pid is None:
            return "the model's process is not known, and may be on another machine."
        if device == "cpu":
            return self._rapl
        if device == "gpu":
            return self._card_of(pid)
        return f"there is no meter for the device {device}."

    def _card_of(self, pid: int) -> Meter | str:
        if not self._cards:
            return self._why_no_cards
        serving = [card for card in self._cards if self._held_bytes(card, pid, known_only=False)]
        if len(serving or self._cards) > 1:
            return f"which of {len(serving or self._cards)} graphics cards serves the model cannot be told."
        meter = NvmlCard(self._nvml, (serving or self._cards)[0], self.clock)
        return meter if meter.mark() else "the graphics card tells neither its energy nor its power."

    def _held_bytes(self, card: Any, pid: int, *, known_only: bool = True) -> list[int]:
        """Memory of the process on one card, once; empty when the process does not use the card."""
        for list_processes in (
            self._nvml.nvmlDeviceGetComputeRunningProcesses,
            self._nvml.nvmlDeviceGetGraphicsRunningProcesses,
        ):
            try:
                held = [process.usedGpuMemory for process in list_processes(card) if process.pid == pid]
            except self._nvml.NVMLError:
                continue
            if held and (held[0] is not None or not known_only):
                return [held[0] or 0]
        return []

    def _open_nvml(self) -> None:
        try:
            nvml = self.load_nvml()
        except ImportError:
            self._why_no_cards = "the package nvidia-ml-py, which reads graphics cards, is not installed."
            return
        try:
            nvml.nvmlInit()
            self._cards = tuple(map(nvml.nvmlDeviceGetHandleByIndex, range(nvml.nvmlDeviceGetCount())))
        except nvml.NVMLError as error:
            self._why_no_cards = f"no NVIDIA driver answers ({error}), and other graphics cards cannot be read."
            return
        self._nvml = nvml
        self._why_no_cards = "the NVIDIA driver knows no graphics card."


def _pynvml() -> Any:
    import pynvml

    return pynvml


def rapl(powercap: Path = POWERCAP) -> RaplPackages | str:
    """The processor's counters, or why they cannot be read. Intel and AMD processors show them in the same place."""
    zones = [zone for zone in sorted(powercap.glob("intel-rapl:*")) if _is_package(zone)]
    if not zones:
        return "this machine shows no energy counter of its processor."
    try:
        counters = tuple(zone / "energy_uj" for zone in zones)
        ranges = tuple(_number_in(zone / "max_energy_range_uj") for zone in zones)
        for counter in counters:
            _number_in(counter)
    except PermissionError:
        return "this system lets only its administrator read the processor's energy counter."
    except (OSError, ValueError):
        return "the processor's energy counter cannot be read."
    return RaplPackages(counters, ranges)


def _is_package(zone: Path) -> bool:
    """Zones of cores and of memory lie inside or beside a package's, and that of the platform covers them all."""
    try:
        return (zone / "name").read_text(encoding="utf-8").startswith("package")
    except OSError:
        return False


def _number_in(file: Path) -> int:
    return int(file.read_text(encoding="ascii"))


def _forward(before: int, after: int, range_uj: int) -> int:
    """Microjoules from one reading to the next of a counter that starts anew at `range_uj`."""
    return after - before if after >= before else after - before + range_uj
