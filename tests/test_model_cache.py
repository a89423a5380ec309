import errno
import json
from pathlib import Path

import pytest

from tests.foundry_helpers import python, write_index
from workshop_lib import machine
from workshop_lib.errors import (
    ConfigurationError,
    DataFileError,
    DiskSpaceError,
    ModelServerError,
)
from workshop_lib.hosting import model_cache
from workshop_lib.records import ModelVariant
from workshop_lib.serving.offers import Offer
from workshop_lib.serving.practice_catalog import PracticeCatalog

FILES = {"genai_config.json": b"{}", "model.onnx": b"weights" * 1000, "extra/merges.txt": b"a b"}
MODEL_ID = "toy-int4-generic-cpu:1"


@pytest.fixture
def shelf(tmp_path):
    return PracticeCatalog(write_index(tmp_path / "shipped", files=FILES))


@pytest.fixture
def models_dir(tmp_path):
    return tmp_path / "cache" / "models"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_variant_is_put_where_the_runtime_looks_for_it(shelf, models_dir):
    """The folder is `<publisher>/<name>-<version>`, with every file and the runtime's marker."""
    target = shelf.install(MODEL_ID, models_dir)
    assert target == models_dir / "workshop" / "toy-int4-generic-cpu-1"
    installed = contents(target)
    assert json.loads(installed.pop("inference_model.json"))["Name"] == MODEL_ID
    assert installed == FILES


def test_what_a_killed_program_left_behind_is_removed(shelf, models_dir):
    """Half a copy may be gigabytes; that of another model, which may be under way, is let alone."""
    publisher = models_dir / "workshop"
    left, other = publisher / ".installing-toy-int4-generic-cpu-1~abc", publisher / ".installing-toy-1~abc"
    for folder in (left, other):
        (folder / "new").mkdir(parents=True)
    shelf.install(MODEL_ID, models_dir)
    assert (left.exists(), other.exists()) == (False, True)


def test_progress_counts_bytes_up_to_all_of_them(shelf, models_dir):
    """Progress grows byte by byte, never beyond the size, and ends at it."""
    seen = []
    shelf.install(MODEL_ID, models_dir, on_bytes=lambda done, total: seen.append((done, total)))
    size = sum(map(len, FILES.values()))
    assert seen == sorted(seen)
    assert seen[-1] == (size, size)


def test_a_second_install_does_no_work(shelf, models_dir, monkeypatch):
    """What is complete is neither read nor written again, even when its source is gone."""
    target = shelf.install(MODEL_ID, models_dir)
    before = {path: path.stat().st_mtime_ns for path in target.rglob("*")}
    (shelf.index_file.parent / "toy-int4-generic-cpu" / "model.onnx").unlink()
    monkeypatch.setattr(machine, "free_disk_mb", lambda path: 0.0)
    assert shelf.install(MODEL_ID, models_dir) == target
    assert {path: path.stat().st_mtime_ns for path in target.rglob("*")} == before


def test_an_incomplete_install_is_mended(shelf, models_dir):
    """A model folder that lost a file is replaced as a whole."""
    target = shelf.install(MODEL_ID, models_dir)
    (target / "model.onnx").unlink()
    (target / "stray.txt").write_text("of an older build")
    shelf.install(MODEL_ID, models_dir)
    assert set(contents(target)) == {*FILES, "inference_model.json"}


def test_a_model_that_was_built_again_replaces_the_old_one(tmp_path, shelf, models_dir):
    """Other weights under the same name are installed anew."""
    shelf.install(MODEL_ID, models_dir)
    newer = {**FILES, "model.onnx": b"better weights"}
    target = PracticeCatalog(write_index(tmp_path / "newer", files=newer)).install(MODEL_ID, models_dir)
    assert (target / "model.onnx").read_bytes() == b"better weights"


def test_a_damaged_shipped_file_is_refused_and_nothing_is_left(shelf, models_dir):
    """A file whose SHA-256 is not the index's is named, and the cache stays as it was."""
    (shelf.index_file.parent / "toy-int4-generic-cpu" / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(DataFileError, match=r"model\.onnx.*not the one the index describes"):
        shelf.install(MODEL_ID, models_dir)
    assert [path for path in (models_dir / "workshop").iterdir() if path.is_dir()] == []


def test_a_missing_shipped_folder_is_named_with_the_way_to_get_it_back(shelf, models_dir):
    """A model folder that is not there is one clear error."""
    shelf.index_file.parent.joinpath("toy-int4-generic-cpu").rename(shelf.index_file.parent / "moved")
    with pytest.raises(DataFileError, match=r"toy-int4-generic-cpu.*is missing.*git checkout"):
        shelf.install(MODEL_ID, models_dir)


def test_too_little_disk_is_found_before_anything_is_written(shelf, models_dir, monkeypatch):
    """The error names what is needed and what is free, and no folder appears."""
    monkeypatch.setattr(machine, "free_disk_mb", lambda path: 12.0)
    with pytest.raises(DiskSpaceError, match=r"needs 50 MB.*12 MB are free.*WORKSHOP_CACHE_DIR"):
        shelf.install(MODEL_ID, models_dir)
    assert not (models_dir / "workshop" / "toy-int4-generic-cpu-1").exists()


@pytest.mark.parametrize(
    ("code", "expected"),
    [(errno.ENOSPC, DiskSpaceError), (errno.EACCES, ModelServerError)],
)
def test_a_fault_while_writing_leaves_no_half_model(shelf, models_dir, monkeypatch, code, expected):
    """A full or forbidden disk in the middle of a copy is one clear error, cleaned up after."""

    def fail(*_):
        raise OSError(code, "as the system says it")

    monkeypatch.setattr(model_cache, "_copy_checked", fail)
    with pytest.raises(expected, match=r"The disk became full|cannot be put into"):
        shelf.install(MODEL_ID, models_dir)
    assert [path for path in (models_dir / "workshop").iterdir() if path.is_dir()] == []


def test_an_installation_held_by_another_process_is_not_waited_for_forever(shelf, models_dir, monkeypatch):
    """When another process keeps the lock, the wait ends with what to do."""
    from filelock import FileLock

    (models_dir / "workshop").mkdir(parents=True)
    monkeypatch.setattr(model_cache, "LOCK_TIMEOUT_S", 0.05)
    held = FileLock(models_dir / "workshop" / ".toy-int4-generic-cpu-1.lock")
    with held, pytest.raises(ModelServerError, match=r"Another process has been installing"):
        shelf.install(MODEL_ID, models_dir)


@pytest.mark.parametrize("name", ["../out", "a/../../out", "", "."])
def test_names_never_lead_out_of_the_cache(tmp_path, name):
    """Whatever an index says, files are read and written inside their folders only."""
    with pytest.raises(DataFileError, match="leads out of"):
        model_cache._inside(tmp_path, name)


def test_a_variant_made_by_hand_cannot_escape_either(tmp_path):
    """The check is where paths are used, so it holds for an index that was never validated."""
    variant = ModelVariant(alias="evil", model_id="../../evil:1", device="cpu")
    offer = Offer(variant, "workshop", "Evil", 1, tmp_path, files={}, size_bytes=1)
    with pytest.raises(DataFileError, match="leads out of"):
        model_cache.install_variant(offer, tmp_path / "models" / "workshop")


def test_processes_that_install_at_once_copy_once(tmp_path, models_dir):
    """Four notebooks may start together: one copies, all succeed, nothing is left over."""
    files = {"model.onnx": bytes(30_000_000)}
    index = write_index(tmp_path / "shipped", files=files)
    code = (
        "from pathlib import Path; from workshop_lib.serving.practice_catalog import PracticeCatalog\n"
        "steps = []\n"
        f"PracticeCatalog(Path({str(index)!r})).install({MODEL_ID!r}, Path({str(models_dir)!r}),\n"
        "    on_bytes=lambda *step: steps.append(step))\n"
        "print('copied' if len(steps) > 1 else 'found', flush=True)"
    )
    processes = [python(code) for _ in range(4)]
    said = sorted(process.communicate(timeout=60)[0].strip() for process in processes)
    assert said == ["copied", "found", "found", "found"]
    folders = [path.name for path in (models_dir / "workshop").iterdir() if path.is_dir()]
    assert folders == ["toy-int4-generic-cpu-1"]


def test_the_cache_folder_can_be_chosen(tmp_path, monkeypatch):
    """`WORKSHOP_CACHE_DIR` wins over the user's cache folder."""
    monkeypatch.setenv("WORKSHOP_CACHE_DIR", str(tmp_path / "mine"))
    assert model_cache.cache_root() == tmp_path / "mine"
    monkeypatch.delenv("WORKSHOP_CACHE_DIR")
    assert model_cache.cache_root().name == "edge-ai-workshop"


def test_a_cache_folder_that_cannot_be_made_is_named(tmp_path):
    """A forbidden place is a setting to change."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigurationError, match=r"cannot be made.*WORKSHOP_CACHE_DIR"):
        model_cache.make_folder(tmp_path / "file" / "cache")


def test_a_size_that_no_catalog_tells_does_not_stop_a_download(tmp_path):
    """An unknown size passes the disk check."""
    model_cache.check_disk("model:1", None, tmp_path)
