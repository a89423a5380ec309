"""A folder of one's own: what is read from its files, and what is refused with the value seen and what to do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.adapter_helpers import SMALL
from workshop_lib import data
from workshop_lib.errors import DataFileError
from workshop_lib.machine import CPU_PROVIDER
from workshop_lib.models.folder import CONFIG, read_folder

SHIPPED = data.PRACTICE_INDEX_FILE.parent
Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of a shipped model that a test may break."""
    return shutil.copytree(SMALL, tmp_path / "my model")


def edit_config(folder: Path, change: Change) -> None:
    file = folder / CONFIG
    config = json.loads(file.read_text(encoding="utf-8"))
    change(config["model"])
    file.write_text(json.dumps(config), encoding="utf-8")


def session(*providers: dict[str, Any]) -> dict[str, Any]:
    return {"session_options": {"provider_options": list(providers)}}


@pytest.mark.parametrize("name", sorted(path.name for path in SHIPPED.iterdir() if path.is_dir()))
def test_what_a_shipped_folder_is_can_be_read_from_its_files(name: str) -> None:
    """Device, provider, precision and context come out as the index of the shipped models states them."""
    variants = {each.folder: each for model in data.read_practice_index().models for each in model.variants}
    found = read_folder(SHIPPED / name)
    assert (found.device, found.execution_provider) == (variants[name].device, variants[name].execution_provider)
    assert (found.precision, found.context_tokens, found.licence) == (variants[name].precision, 1024, None)
    assert found.files == (SHIPPED / name / "model.onnx",)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda model: model.pop("context_length"), "'model.context_length' is missing"),
        (lambda model: model.update(context_length="1024"), "'model.context_length' is '1024'"),
        (lambda model: model.pop("decoder"), "'model.decoder' is missing"),
        (lambda model: model["decoder"].pop("filename"), "names no model file"),
        (lambda model: model["decoder"].update(filename="other.onnx"), "other.onnx is missing"),
        (lambda model: model["decoder"].update(session({"abacus": {}})), "the provider 'abacus'"),
        (lambda model: model["decoder"].update(session_options={"provider_options": "cuda"}), "is no list of"),
    ],
)
def test_a_configuration_that_cannot_be_used_names_key_and_value(folder: Path, change: Change, said: str) -> None:
    """One line with what was seen, and what to do."""
    edit_config(folder, change)
    with pytest.raises(DataFileError) as error:
        read_folder(folder)
    assert said in error.value.what
    assert error.value.fix
    assert "\n" not in str(error.value)


def test_what_is_mistaken_for_a_model_folder_is_named(tmp_path: Path) -> None:
    """A path that leads nowhere, a file, a folder above the model's, one without a configuration or with another."""
    (tmp_path / "file").write_text("x", encoding="utf-8")
    (tmp_path / "renamed").mkdir()
    (tmp_path / "renamed" / CONFIG).write_text('{"bos_token_id": 1, "max_length": 20}', encoding="utf-8")
    shutil.copytree(SMALL, tmp_path / "above" / "onnx" / "cpu-int4")
    (tmp_path / "empty").mkdir()
    for name, what, fix in (
        ("nothing", "is not there", "Give the folder that holds"),
        ("file", "is a file", "Give the folder that holds"),
        ("above", "a folder in it does", (tmp_path / "above" / "onnx" / "cpu-int4").as_posix()),
        ("empty", f"{CONFIG} is missing", "Convert it first"),
        ("renamed", "is a configuration of Hugging Face under another name", "Convert it first"),
    ):
        with pytest.raises(DataFileError) as error:
            read_folder(tmp_path / name)
        assert what in error.value.what
        assert fix in error.value.fix


@pytest.mark.parametrize(
    ("decoder", "expected"),
    [
        ({"session_options": {}}, ("cpu", CPU_PROVIDER)),
        (session({"cuda": {}}), ("gpu", "CUDAExecutionProvider")),
        (session({"cpu": {}}, {"WebGPU": None}), ("gpu", "WebGpuExecutionProvider")),
        (session({"QNNExecutionProvider": {}}), ("npu", "QNNExecutionProvider")),
        (session({"OpenVINO": {}}), ("cpu", "OpenVINOExecutionProvider")),
        (session({"OpenVINO": {"device_type": "GPU.0"}}), ("gpu", "OpenVINOExecutionProvider")),
        (session({"OpenVINO": {"device_type": "NPU"}}), ("npu", "OpenVINOExecutionProvider")),
        ({"pipeline": [{"first": session()}, {"last": session({"qnn": {}})}]}, ("npu", "QNNExecutionProvider")),
        ({"pipeline": {"a": session({"cpu": {}}), "b": session({"qnn": {}})}}, ("npu", "QNNExecutionProvider")),
        ({**session({"cuda": {}}), "pipeline": [{"a": session({"qnn": {}})}]}, ("gpu", "CUDAExecutionProvider")),
    ],
)
def test_the_device_is_that_of_the_first_provider_beside_the_cpu(
    folder: Path, decoder: dict[str, Any], expected: tuple[str, str]
) -> None:
    """In the decoder or in any stage of its pipeline; OpenVINO says on which of three devices it runs."""
    edit_config(folder, lambda model: model["decoder"].update({"session_options": None, **decoder}))
    found = read_folder(folder)
    assert (found.device, found.execution_provider) == expected


def test_a_model_of_several_parts_names_all_its_files(folder: Path) -> None:
    """Embedding, decoder and the stages of a pipeline are files like the model itself, each named once."""
    stages = [{"first": {"filename": "model.onnx"}}, {"last": {"filename": "b.onnx"}}]
    parts = {"embedding": {"filename": "b.onnx"}, "decoder": {"pipeline": stages}}
    edit_config(folder, lambda model: model.update(parts))
    shutil.copy(folder / "model.onnx", folder / "b.onnx")
    assert set(read_folder(folder).files) == {folder / "model.onnx", folder / "b.onnx"}


@pytest.mark.parametrize(
    ("content", "precision"),
    [
        (b"..\n\x04bits\x18\x04..\n\x04bits\x18\x04..\n\x04bits\x18\x08", "int4"),
        (b"..\n\x06logits\x12\x20\n\x1e\x08\x0a..", "fp16"),
        (b"..\n\x06logits\x12\x20\n\x1e\x08\x01..", "fp32"),
        (b"nothing of it", None),
        (b"", None),
    ],
)
def test_precision_is_that_of_most_weights_or_unknown(folder: Path, content: bytes, precision: str | None) -> None:
    """Packed weights say their bits; else the type of the logits counts; nothing is guessed."""
    (folder / "model.onnx").write_bytes(content)
    assert read_folder(folder).precision == precision


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        ("---\r\nlicense: MIT # as is\r\n---\r\n", "MIT"),
        ('---\nlicense: other\nlicense_name: "gemma"\n---\n', "gemma"),
        ("license: mit\n", None),
        ("---\nlicense: mi\x1b[2Jt\n---\n", "mi\ufffd[2Jt"),
        (f"---\nlicense: {'x' * 9000}\n---\n", f"{'x' * 199}\u2026"),
    ],
)
def test_a_licence_is_stated_or_unknown(folder: Path, text: str, licence: str | None) -> None:
    """The head of the model card counts; nothing is guessed."""
    (folder / "README.md").write_bytes(text.encode())
    assert read_folder(folder).licence == licence
