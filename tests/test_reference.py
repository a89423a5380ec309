"""Making the reference results anew: nothing of the machine in them, nothing lost, and outputs of pages in place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.comparison_helpers import gpu_run
from tests.report_helpers import run_of_models
from tools import reference
from workshop_lib import summary
from workshop_lib.errors import ConfigurationError, NotebookError
from workshop_lib.records import Run
from workshop_lib.report import report_json

V4: Any = nbformat.v4


def write_report(run: Run, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "benchmark_report.json").write_text(report_json(run, summary.summarise(run)), encoding="utf-8")


def write_page(path: Path, *sources: str, output: str = "") -> Path:
    cells = [V4.new_code_cell(source, outputs=[V4.new_output("stream", text=output)]) for source in sources]
    for cell in cells:
        cell.metadata["papermill"] = {"duration": 1.0}
    nbformat.write(V4.new_notebook(cells=cells, metadata={"papermill": {}, "widgets": {}}), path)
    return path


def measured(apart: Path) -> int:
    """Stands in for a measurement: a report, a page and a figure that know where they were made."""
    write_report(run_of_models(2, failed=0), apart / "run")
    write_page(apart / "run" / "01.ipynb", "1", output=repr(str(apart / "run")))
    (apart / "run" / "annotations").mkdir()
    (apart / "run" / "annotations" / "me.csv").touch()
    (apart / "run" / "records.jsonl.lock").touch()
    return 0


def test_the_reference_is_replaced_and_free_of_paths(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No path of this machine is left, what was put there by hand stays, and what changed is printed."""
    (tmp_path / "figures").mkdir()
    (tmp_path / "scores.json").write_text("{}")
    assert reference.make_reference(tmp_path, measure=measured) == 0
    (tmp_path / "figures" / "old.png").touch()
    assert reference.make_reference(tmp_path, measure=measured, unwanted=["*.csv"]) == 0
    assert "2 of 2 answers are the same" in capsys.readouterr().out
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"benchmark_report.json", "01.ipynb", "scores.json", "figures"}
    assert not list((tmp_path / "figures").iterdir())
    page = (tmp_path / "01.ipynb").read_text("utf-8")
    assert "runs/reference" in page and "papermill" not in page and "widgets" not in page


@pytest.mark.parametrize("lost", ["nothing was measured", "a GPU"])
def test_a_reference_that_cannot_be_replaced_stays(lost: str, tmp_path: Path) -> None:
    """Without a measurement, and where results of a GPU would give way to those of a machine without one."""
    write_report(gpu_run(), tmp_path)
    before = (tmp_path / "benchmark_report.json").read_bytes()
    assert reference.make_reference(tmp_path, measure=measured if lost == "a GPU" else lambda _: 1) == 1
    assert (tmp_path / "benchmark_report.json").read_bytes() == before
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="cannot be written"):
        reference.make_reference(tmp_path / "file", measure=lambda _: pytest.fail("something was measured"))


@pytest.mark.parametrize("place", ["/some where/run", "C:\\Users\\ada\\run"])
def test_places_are_named_however_they_are_written(place: str, tmp_path: Path) -> None:
    """As they are, in JSON, and in the JSON of a `repr`; other bytes stay."""
    (tmp_path / "a.md").write_text(f"see {place}")
    (tmp_path / "b.jsonl").write_text(json.dumps({"at": place, "said": repr(place)}))
    (tmp_path / "c.png").write_text(place)
    reference.forget_places(tmp_path, {Path(place): "HERE"})
    assert (tmp_path / "a.md").read_text() == "see HERE"
    assert json.loads((tmp_path / "b.jsonl").read_text()) == {"at": "HERE", "said": "'HERE'"}
    assert (tmp_path / "c.png").read_text() == place


def test_the_reference_is_measured_apart_from_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither settings nor registered models nor old runs reach the process that measures; it cannot write to them."""
    for name in ("BENCH_ROUNDS", "API_KEY", "RETRY_ON_FAIL", "WORKSHOP_CACHE_DIR", "WORKSHOP_RUNS_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, "the user's")
    monkeypatch.setenv("FOUNDRY_LOCAL_CUDA_EP_LIBRARY", "the machine's")
    started: list[tuple[list[str], dict[str, str]]] = []

    class Done:
        returncode = 3

    run: Callable[..., Any] = lambda command, *, env, **_: started.append((command, env)) or Done()  # noqa: E731
    monkeypatch.setattr(reference.subprocess, "run", run)
    assert reference.run_apart(tmp_path, "course") == 3
    ((command, seen),) = started
    assert command[-4:] == ["--prompt-set", "course", "--output", str(tmp_path / "run")]
    assert "the user's" not in seen.values()
    assert not [name for name in seen if name.startswith(("BENCH_", "RETRY_", "API_KEY"))]
    assert [name for name in seen if name.startswith("FOUNDRY_LOCAL_")] == ["FOUNDRY_LOCAL_CUDA_EP_LIBRARY"]
    kept = {name: seen[name] for name in ("WORKSHOP_CACHE_DIR", "WORKSHOP_RUNS_DIR", "IPYTHONDIR")}
    assert all(Path(place).parent == tmp_path for place in kept.values()) and len(set(kept.values())) == 3


@pytest.mark.slow
def test_refreshed_outputs_are_fit_for_version_control(tmp_path: Path) -> None:
    """Results are stored, progress bars and warnings are not; a page that fails stays as it was."""
    page = write_page(
        tmp_path / "a.ipynb", "from tqdm.auto import tqdm\nlist(tqdm([3]))", "import sys\nsys.stderr.write('x')"
    )
    reference.refresh_outputs(page)
    stored: Any = nbformat.read(page, as_version=4)
    assert [[each.output_type for each in cell.outputs] for cell in stored.cells] == [["execute_result"]] * 2
    assert "widgets" not in stored.metadata
    broken = write_page(tmp_path / "b.ipynb", "raise ValueError('no')")
    before = broken.read_bytes()
    with pytest.raises(NotebookError, match="ValueError: no"):
        reference.refresh_outputs(broken)
    assert broken.read_bytes() == before
