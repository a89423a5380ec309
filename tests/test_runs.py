"""What notebooks ask of a runtime and of run folders, against a loopback endpoint."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.behaviours import BEHAVIOURS
from tests.fault_server import FaultServer
from tests.report_helpers import run_of_models
from workshop_lib import places
from workshop_lib.archive import references, storage
from workshop_lib.errors import ConfigurationError, ModelNotFoundError, RecordFileError
from workshop_lib.measuring import runs
from workshop_lib.metrics.summaries import summarise
from workshop_lib.records import ModelVariant, Prompt, Run
from workshop_lib.runtimes import profiles
from workshop_lib.show import report, tables

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with FaultServer({name: BEHAVIOURS[name] for name in ("fast", "steady")}) as server:
        yield server.base_url


def write(folder: Path, run: Run) -> Path:
    """Put a run's records into a folder."""
    path = folder / "records.jsonl"
    with storage.RunWriter(path, run) as writer:
        for record in (*run.servings, *run.completions):
            writer.append(record)
    return path


def test_names_are_read_as_people_type_them():
    """Spaces and a last comma do not matter; an empty list is an error."""
    assert runs.names(" practice-small,practice-large , ") == ["practice-small", "practice-large"]
    with pytest.raises(ConfigurationError, match=r"models is empty.*separated by commas"):
        runs.names(" , ")


def test_devices_must_exist():
    """Any case is understood; a device that does not exist is named."""
    assert runs.devices("CPU, gpu") == ["cpu", "gpu"]
    with pytest.raises(ConfigurationError, match=r"no device 'tpu'.*cpu, gpu, npu"):
        runs.devices("cpu,tpu")


def test_choosing_nothing_is_an_error_that_names_the_nearest(endpoint: str):
    """A wrong name beside a right one is left out with its reason; a wrong one alone stops."""
    with profiles.open_runtime("endpoint", endpoint=endpoint) as runtime:
        variants, skipped = runs.choose(runtime, ["steady", "stedy"], ["cpu"])
        assert [variant.model_id for variant in variants] == ["steady"]
        assert skipped[0][0].alias == "stedy"
        with pytest.raises(ModelNotFoundError, match="steady"):
            runs.choose(runtime, ["stedy"], ["cpu"])


def test_a_probe_asks_once_and_leaves_no_file(endpoint: str, tmp_path: Path, monkeypatch):
    """One warm-up and one question per model; the folder it used is gone."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with profiles.open_runtime("endpoint", endpoint=endpoint) as runtime:
        variants, _ = runs.choose(runtime, ["fast"], ["cpu"])
        run = runs.probe(runtime, variants, Prompt("p", "Say it."), max_tokens=5)
    assert [completion.round for completion in run.completions] == [0, 1]
    assert all(completion.ok for completion in run.completions)


class Shop:
    """A runtime that has one model, in three steps."""

    def __init__(self) -> None:
        self.cached = False

    def list_models(self) -> list[ModelVariant]:
        return [ModelVariant("a", "a:1", "cpu", cached=self.cached)]

    def download(self, variant: ModelVariant, *, on_progress) -> None:
        for percent in (0.0, 40.0, 100.0):
            on_progress(percent)
        self.cached = True


def test_downloads_show_progress_and_return_what_is_cached(capsys):
    """A bar on standard error reaches 100 %; the variants come back as cached."""
    shop = Shop()
    (variant,) = runs.download(shop, shop.list_models())
    captured = capsys.readouterr()
    assert variant.cached
    assert captured.out == ""
    assert "100%" in captured.err


def test_a_new_run_has_a_folder_of_its_own(tmp_path: Path):
    """Named after the moment, or where it was wished."""
    assert runs.new_folder().parent == places.runs_folder()
    assert runs.new_folder(str(tmp_path / "here")) == (tmp_path / "here").resolve()


def test_the_newest_run_that_answered_is_charted(tmp_path: Path):
    """A newer run without answers, and one that cannot be read, are passed over."""
    assert runs.newest_records(tmp_path) is None
    good = write(tmp_path / "20260101T000000Z", run_of_models(1, failed=0))
    write(tmp_path / "20260102T000000Z", run_of_models(1, failed=1))
    (tmp_path / "20260103T000000Z").mkdir()
    (tmp_path / "20260103T000000Z" / "records.jsonl").write_text("broken\n")
    assert runs.newest_records(tmp_path) == good


def test_records_that_are_named_are_taken(tmp_path: Path):
    """A path is not second-guessed; one that does not exist is an error."""
    path = write(tmp_path, run_of_models(1, failed=0))
    assert runs.find_records(str(path)) == path.resolve()
    with pytest.raises(RecordFileError, match=r"no records at .*none.*leave it empty"):
        runs.find_records(str(tmp_path / "none"))


def test_without_any_run_a_little_is_measured(endpoint: str, tmp_path: Path, monkeypatch):
    """Three prompts, two rounds, every model that is ready."""
    monkeypatch.setenv("FOUNDRY_LOCAL_ENDPOINT", endpoint)
    monkeypatch.setenv("WORKSHOP_RUNS_DIR", str(tmp_path))
    run = storage.read_run(runs.find_records())
    timed = [completion for completion in run.completions if completion.round]
    assert len(timed) == 2 * runs.SMALL_RUN_PROMPTS * runs.SMALL_RUN_ROUNDS


def test_a_run_is_compared_with_the_newest_other_one_of_the_same_work(tmp_path: Path, monkeypatch):
    """Runs of other work and files that cannot be read are passed over; the remark names what it was compared with."""
    monkeypatch.setenv("WORKSHOP_RUNS_DIR", str(tmp_path))
    run = run_of_models(2, failed=0)
    write(tmp_path / "20260101T000000Z", run)
    write(tmp_path / "20260102T000000Z", replace(run, plan={**run.plan, "max_tokens": 7}))
    (tmp_path / "20260103T000000Z").mkdir()
    (tmp_path / "20260103T000000Z" / "records.jsonl").write_text("broken\n")
    found = runs.changes_since_another(write(tmp_path / "20260104T000000Z", run))
    assert found.remarks[0].startswith("This run, 20260104T000000Z, against 20260101T000000Z:")
    assert len(found.lines) == 2 * 3
    assert {line.verdict.split(" (")[0] for line in found.lines} == {"no clear difference"}
    shown = tables.changes(found)
    assert list(shown["measure"])[:3] == ["latency", "first token", "decode"]
    assert set(shown["device"]) == {"cpu"}


def test_a_run_alone_is_compared_with_the_shipped_reference(tmp_path: Path, monkeypatch):
    """Without another run the reference takes its place; with neither, a sentence says so."""
    monkeypatch.setenv("WORKSHOP_RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.setattr(references, "FOLDER", tmp_path / "reference")
    run = run_of_models(2, failed=0)
    path = write(tmp_path / "runs" / "20260101T000000Z", run)
    alone = runs.changes_since_another(path)
    assert alone.lines == ()
    assert alone.remarks[0].startswith("There is no other run of the same work to compare with")
    assert tables.changes(alone).empty
    (tmp_path / "reference" / "practice").mkdir(parents=True)
    written = report.report_json(run, summarise(run))
    (tmp_path / "reference" / "practice" / references.REPORT).write_text(written, "utf-8")
    found = runs.changes_since_another(path)
    assert "against the reference of Test CPU, date unknown" in found.remarks[0]
    assert len(found.lines) == 2 * 3
