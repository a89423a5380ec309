"""The reference results that ship with the workshop: what another machine measured, labelled with machine and date.

Knows where the shipped reports lie and how to read them. That none holds a GPU is a normal state, and has its sentence.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workshop_lib.archive.results import Results, read_results, with_more
from workshop_lib.catalog import DATA_FOLDER
from workshop_lib.errors import DataFileError
from workshop_lib.records import Row

FOLDER = DATA_FOLDER / "reference"
REPORT = "benchmark_report.json"
NO_GPU = "No GPU reference results ship with this version: no GPU machine was available when they were made."


@dataclass(frozen=True, slots=True)
class Reference:
    """One shipped report: its samples, machine and plan, and its rows."""

    results: Results
    rows: tuple[Row, ...]

    @property
    def gpu_rows(self) -> tuple[Row, ...]:
        """What really ran on a GPU there: answered, and a GPU provider was registered."""
        on_gpu = (row for row in self.rows if (row.device, row.status) == ("gpu", "ok"))
        return tuple(row for row in on_gpu if "gpu_not_registered" not in row.warnings)

    @property
    def label(self) -> str:
        """The machine by its graphics card, if its name was recorded, else by its processor; and the date."""
        machine = self.results.machine
        hardware = machine.get("gpu") or machine.get("cpu") or "machine unknown"
        return f"{hardware}, {str(machine.get('started_at') or '')[:10] or 'date unknown'}"


def read_references(folder: Path | None = None) -> tuple[Reference, ...]:
    """Every shipped report under `folder` (None = `data/reference/`), by name; empty when there is none.

    Raises:
        DataFileError: one of them is damaged.
    """
    return tuple(read_report(path) for path in sorted((folder or FOLDER).glob(f"*/{REPORT}")))


def with_gpu(folder: Path | None = None) -> tuple[Reference, ...]:
    """The shipped reports that hold results of a GPU; empty where none was made.

    Raises:
        DataFileError: a report is damaged.
    """
    return tuple(reference for reference in read_references(folder) if reference.gpu_rows)


def read_report(path: Path) -> Reference:
    """Read one `benchmark_report.json`.

    Raises:
        DataFileError: it is missing or damaged.
    """
    results = read_results(path)
    try:
        rows = tuple(map(_row, json.loads(path.read_text(encoding="utf-8"))["rows"]))
    except (LookupError, TypeError, AttributeError) as error:
        raise DataFileError(f"{path} has no readable rows ({error}).", "Restore it from version control.") from error
    return Reference(results, rows)


def _row(entry: dict[str, Any]) -> Row:
    """A row of this version; what another version added is left out."""
    values = with_more(Row, entry)
    return Row(**{**values, "warnings": tuple(values.get("warnings") or ())})
