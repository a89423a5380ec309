"""The same model on CPU and on GPU, side by side; another machine's GPU, labelled, where this one has none.

What a process registered decides what counts as a GPU, never a variant's label. Knows runs, references and ratios; no
files, no tables, no figures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from workshop_lib.archive.changes import compare_named
from workshop_lib.archive.references import NO_GPU, Reference
from workshop_lib.archive.results import Results, Sample, results_of
from workshop_lib.errors import WorkshopError
from workshop_lib.metrics.summaries import summarise
from workshop_lib.records import Row, Run

HERE = "this machine"
ELSEWHERE = "reference, another machine"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a build is in units of a CPU build of this machine, e.g. `1.80x faster (95 % CI 1.60-2.00)`."""

    against: str
    first_token: str
    decode: str


@dataclass(frozen=True, slots=True)
class Build:
    """One build of a model on one device: its row and samples, where it ran, and how it compares.

    Attributes:
        where: `this machine`, or the reference's machine and date.
        verdict: None for a CPU build, which the others are compared with, and for a device that is not known.
    """

    row: Row
    samples: tuple[Sample, ...]
    where: str = HERE
    verdict: Verdict | None = None

    @property
    def is_reference(self) -> bool:
        """True when another machine measured it."""
        return self.where != HERE

    @property
    def is_confirmed(self) -> bool:
        """False for a build labelled gpu that no GPU provider was registered for: its device is not known."""
        return "gpu_not_registered" not in self.row.warnings


def side_by_side(run: Run, references: Sequence[Reference] = ()) -> tuple[Build, ...]:
    """The CPU builds of each model, then its GPU builds: those of this machine or, where it has none, the references'.

    A build labelled gpu without a registered GPU provider is listed and compared with nothing.
    """
    here, rows = results_of(run), [row for row in summarise(run) if row.status == "ok"]
    found: list[Build] = []
    for alias in dict.fromkeys(row.alias for row in rows):
        mine = [row for row in rows if row.alias == alias]
        cpus = [row for row in mine if row.device == "cpu"]
        gpus = [row for row in mine if row.device == "gpu"]
        found += [Build(row, _samples(here, row)) for row in cpus]
        for row in gpus:
            verdict = _verdict(here, cpus, here, row) if _is_gpu(row) else None
            found.append(Build(row, _samples(here, row), HERE, verdict))
        if not any(map(_is_gpu, gpus)):
            found += _elsewhere(alias, references, here, cpus)
    return tuple(found)


def has_gpu(builds: Sequence[Build]) -> bool:
    """True when there is a GPU to draw: this machine's or a reference's."""
    return any(_is_gpu(build.row) for build in builds)


def absences(run: Run) -> dict[str, str]:
    """Each model without a GPU build that answered here → the reason that was recorded."""
    rows = summarise(run)
    measured = {row.alias for row in rows if row.status == "ok" and row.device == "gpu"}
    missing = [row for row in rows if row.status != "ok" and row.device == "gpu" and row.alias not in measured]
    return {row.alias: row.error or "no reason was recorded." for row in missing}


def notes(run: Run, references: Sequence[Reference] = ()) -> tuple[str, ...]:
    """What a reader of the comparison must know: why a GPU is absent, what stands in for it, what cannot be trusted."""
    builds = side_by_side(run, references)
    said = [f"There are no GPU figures of this machine. {why}" for why in dict.fromkeys(absences(run).values())]
    if not said and not any(row.device == "gpu" for row in summarise(run)):
        said.append("This run has no GPU model: none was asked for, or the server does not say what it runs on.")
    if doubtful := [name(build.row) for build in builds if not build.is_confirmed]:
        what = "labelled gpu, but no GPU provider was registered where it ran, so it counts as no GPU"
        said.append(f"{', '.join(doubtful)}: {what}.")
    if not has_gpu(builds):
        said.append("The shipped GPU reference results hold none of these models." if references else NO_GPU)
    if labels := ", ".join(dict.fromkeys(build.where for build in builds if build.is_reference)):
        said.append(
            f"GPU figures of another machine stand beside this one's: {labels}. A ratio holds both differences."
        )
    return (*said, *_on_their_own_machine(builds, references))


def name(row: Row) -> str:
    """`alias · precision · device`."""
    return " · ".join(part for part in (row.alias, row.precision, row.device) if part)


def _is_gpu(row: Row) -> bool:
    return row.device == "gpu" and "gpu_not_registered" not in row.warnings


def _elsewhere(alias: str, references: Sequence[Reference], here: Results, cpus: Sequence[Row]) -> Iterator[Build]:
    for reference in references:
        for row in reference.gpu_rows:
            if row.alias == alias:
                verdict = _verdict(here, cpus, reference.results, row)
                yield Build(row, _samples(reference.results, row), reference.label, verdict)


def _on_their_own_machine(builds: Sequence[Build], references: Sequence[Reference]) -> Iterator[str]:
    """What the device alone is worth: a reference's GPU against the same machine's CPU."""
    shown = {(build.row.model_id, build.where) for build in builds if build.is_reference}
    for reference in references:
        answered = [row for row in reference.rows if (row.device, row.status) == ("cpu", "ok")]
        for row in reference.gpu_rows:
            cpus = [each for each in answered if each.alias == row.alias]
            if cpus and (row.model_id, reference.label) in shown:
                found = _verdict(reference.results, cpus, reference.results, row)
                what = f"first token {found.first_token}, decode {found.decode}"
                yield f"On that machine alone, {name(row)} against its {found.against}: {what}."


def _verdict(a: Results, cpus: Sequence[Row], b: Results, row: Row) -> Verdict:
    """Compare with the CPU build of the same precision, else with the first."""
    if not cpus:
        return Verdict("no CPU build", "nothing to compare", "nothing to compare")
    cpu = next((each for each in cpus if each.precision == row.precision), cpus[0])
    try:
        changes = compare_named(a, b, f"{cpu.model_id}@{cpu.device}", f"{row.model_id}@{row.device}")
    except WorkshopError as error:
        return Verdict(_short(cpu), f"not compared: {error.what}", f"not compared: {error.what}")
    said = {line.measure: line.verdict for line in changes.lines}
    return Verdict(_short(cpu), said["first token"], said["decode"])


def _short(row: Row) -> str:
    return f"{row.precision or 'precision unknown'} · {row.device}"


def _samples(results: Results, row: Row) -> tuple[Sample, ...]:
    wanted = (row.model_id, row.device)
    return tuple(sample for sample in results.samples if (sample.model_id, sample.device) == wanted)
