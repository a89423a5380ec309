"""Shipped reference results: which there are, which hold a GPU, what they are called."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.comparison_helpers import cpu_run, gpu_run, mislabelled_run
from workshop_lib.archive import references
from workshop_lib.errors import DataFileError
from workshop_lib.metrics.summaries import summarise
from workshop_lib.records import Run
from workshop_lib.show import report


def write(run: Run, folder: Path) -> Path:
    """The part of a report that is read back, as `write_report` writes it."""
    folder.mkdir()
    path = folder / references.REPORT
    path.write_text(report.report_json(run, summarise(run)), "utf-8")
    return path


def test_no_reference_is_a_normal_state(tmp_path: Path):
    """A folder that does not exist, or holds no report, gives nothing and raises nothing."""
    assert references.read_references(tmp_path / "none") == ()
    assert references.with_gpu(tmp_path) == ()


def test_a_report_is_read_back_as_it_was_written(tmp_path: Path):
    """Rows and samples of a report that this version wrote; its name is the folder's."""
    run = gpu_run()
    write(run, tmp_path / "cuda")
    (reference,) = references.read_references(tmp_path)
    assert reference.results.name == "cuda"
    assert len(reference.results.samples) == 12 * 2 * 3
    assert [row.model_id for row in reference.gpu_rows] == [
        serving.variant.model_id for serving in run.servings if serving.variant.device == "gpu"
    ]
    assert reference.rows[0].warnings == ("too_few_samples",)


def test_only_a_registered_provider_makes_a_gpu_reference(tmp_path: Path):
    """CPU results, and results labelled gpu without a provider, are references but none of a GPU."""
    write(cpu_run(), tmp_path / "cpu")
    write(mislabelled_run(), tmp_path / "label")
    assert len(references.read_references(tmp_path)) == 2
    assert references.with_gpu(tmp_path) == ()


@pytest.mark.parametrize(
    ("machine", "label"),
    [
        ({"gpu": "Card", "cpu": "Chip", "started_at": "2026-10-01T10:00:00+00:00"}, "Card, 2026-10-01"),
        ({"cpu": "Chip", "started_at": None}, "Chip, date unknown"),
        ({}, "machine unknown, date unknown"),
    ],
)
def test_a_reference_is_called_by_machine_and_date(machine: dict[str, object], label: str, tmp_path: Path):
    """The card if its name was recorded, else the processor; what is unknown is said."""
    write(replace(gpu_run(), machine=machine), tmp_path / "one")
    assert references.read_references(tmp_path)[0].label == label


def test_a_newer_report_is_read_without_what_it_added(tmp_path: Path):
    """A field that this version does not know is left out of the row."""
    path = write(gpu_run(), tmp_path / "new")
    report = json.loads(path.read_text("utf-8"))
    report["rows"][0]["colour"] = "blue"
    path.write_text(json.dumps(report), "utf-8")
    assert len(references.with_gpu(tmp_path)) == 1


@pytest.mark.parametrize("rows", [None, ["row"], [{"alias": "a"}]])
def test_a_damaged_report_is_named(rows: object, tmp_path: Path):
    """What cannot be read is an error with the file's name, not an absence."""
    path = write(gpu_run(), tmp_path / "bad")
    report = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**report, "rows": rows}), "utf-8")
    with pytest.raises(DataFileError, match=r"benchmark_report\.json has no readable rows.*Restore it"):
        references.read_references(tmp_path)
