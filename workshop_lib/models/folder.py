"""A folder for ONNX Runtime GenAI: what its files say, before the runtime loads it.

`genai_config.json` names the model files, the context and the execution providers; a model card says what people may do
with it. Whether the runtime takes it, only loading shows: `registry.try_folder` does.
"""

from __future__ import annotations

import mmap
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from workshop_lib.data import Device, fault, read_as, read_untyped
from workshop_lib.errors import DataFileError
from workshop_lib.files import typed_path
from workshop_lib.machine import CPU_PROVIDER
from workshop_lib.show.text import one_line

CONFIG = "genai_config.json"
_AGAIN = "Convert the model again with `python -m onnxruntime_genai.models.builder`, or copy the whole folder again."
_CONVERT = "Convert it first, as samples/03-huggingface-models shows."
_OF_HUGGING_FACE = {"transformers_version", "_from_model_config", "architectures", "bos_token_id", "eos_token_id"}
"""Keys of `config.json` and `generation_config.json`, which stand inside `model` here."""
_PROVIDERS: dict[str, tuple[Device, str]] = {
    "cpu": ("cpu", CPU_PROVIDER),
    "cuda": ("gpu", "CUDAExecutionProvider"),
    "dml": ("gpu", "DmlExecutionProvider"),
    "webgpu": ("gpu", "WebGpuExecutionProvider"),
    "nvtensorrtrtx": ("gpu", "NvTensorRTRTXExecutionProvider"),
    "openvino": ("cpu", "OpenVINOExecutionProvider"),
    "qnn": ("npu", "QNNExecutionProvider"),
    "ryzenai": ("npu", "RyzenAIExecutionProvider"),
    "vitisai": ("npu", "VitisAIExecutionProvider"),
}
"""Provider as the configuration names it, in lower case → the device, and the provider as the runtime names it."""


@dataclass(frozen=True, slots=True)
class _Model:
    type: str
    context_length: int
    decoder: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Config:
    """The configuration, as far as it says what the model is; the runtime reads the rest."""

    __pydantic_config__: ClassVar[dict[str, object]] = {"extra": "ignore", "strict": True}

    model: _Model


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """What a folder's files say; `place` is absolute, `files` are the ONNX files in it.

    Device and `execution_provider` are those of the first stage that names a provider other than the CPU's,
    `context_tokens` are the longest prompt plus answer.
    """

    place: Path
    files: tuple[Path, ...]
    device: Device
    execution_provider: str
    context_tokens: int

    @property
    def precision(self) -> str | None:
        """Of the weights; None where no model file tells."""
        return next(filter(None, map(_precision, self.files)), None)

    @property
    def licence(self) -> str | None:
        """As the model card states it; None where nothing does."""
        return _licence(self.place / "README.md")


def read_folder(folder: Path | str) -> ModelFolder:
    """Look at a folder's files without loading anything.

    Raises:
        DataFileError: the configuration or a file that it names is missing or cannot be used; says what was mistaken
            for it.
    """
    place = typed_path(folder).absolute()
    file = _config_in(place)
    content = read_untyped(file)
    if isinstance(content, dict) and "model" not in content and _OF_HUGGING_FACE & content.keys():
        raise fault(file, "", "is a configuration of Hugging Face under another name", _CONVERT)
    model = read_as(_Config, file).model
    files = tuple(place / name for name in _all(content, "filename") if isinstance(name, str))
    for missing in (each for each in files if not each.is_file()):
        raise DataFileError(f"{missing} is missing.", _AGAIN)
    if not files:
        raise fault(file, "", "names no model file", _AGAIN)
    return ModelFolder(place, files, *_runs_on(file, content), model.context_length)


def _config_in(place: Path) -> Path:
    """The configuration of a folder. Raises `DataFileError`, which says what is there in its place."""
    file = place / CONFIG
    if file.is_file():
        return file
    if not place.is_dir():
        what = f"{place} is {'a file' if place.exists() else 'not there'}."
        raise DataFileError(what, f"Give the folder that holds {CONFIG}.")
    if deeper := sorted(found.parent.as_posix() for depth in ("*", "*/*") for found in place.glob(f"{depth}/{CONFIG}")):
        raise DataFileError(f"{place} holds no model, but a folder in it does.", f"Give {' or '.join(deeper[:3])}.")
    raise fault(file, "", "is missing", f"Give the folder that holds it. A download from Hugging Face: {_CONVERT}")


def _all(content: object, wanted: str) -> Iterator[Any]:
    """Every value of a key, at any depth: a model has parts, and a part may have stages."""
    pairs = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in pairs:
        if key == wanted:
            yield value
        else:
            yield from _all(value, wanted)


def _runs_on(file: Path, content: object) -> tuple[Device, str]:
    """Where the whole model needs to run: the first provider, of any part or stage, that is not the CPU's."""
    found: tuple[Device, str] = ("cpu", CPU_PROVIDER)
    for listed in _all(content, "provider_options"):
        if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
            raise fault(file, "provider_options", "is no list of providers", _AGAIN)
        for name, options in (pair for entry in listed for pair in entry.items()):
            known = _PROVIDERS.get(name.lower().removesuffix("executionprovider"))
            if known is None:
                fix = f"Use one of {', '.join(_PROVIDERS)}, or an empty list for the CPU."
                raise fault(file, "provider_options", f"names the provider '{one_line(name, 60)}'", fix)
            if found[1] == CPU_PROVIDER:
                chosen = str((options or {}).get("device_type", "")).lower()  # OpenVINO runs on all three
                device: Device = "gpu" if chosen.startswith("gpu") else "npu" if chosen.startswith("npu") else known[0]
                found = (device, known[1])
    return found


def _precision(file: Path) -> str | None:
    """The bits of most packed weights, else the type of the `logits`, found by how ONNX writes those two."""
    if not file.stat().st_size:
        return None
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        bits = Counter(re.findall(rb"\n\x04bits\x18([\x01-\x10])", content))
        if bits:
            return f"int{ord(bits.most_common(1)[0][0])}"
        kind = re.search(rb"\n\x06logits\x12.\n.\x08(.)", content, re.DOTALL)
        return {1: "fp32", 10: "fp16", 16: "bf16"}.get(kind[1][0]) if kind else None


def _licence(card: Path) -> str | None:
    """What the head of a model card states."""
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    head = re.match(r"\ufeff?---\s*\n(.*?)\n---", text, re.DOTALL)
    stated = dict(re.findall(r"^(license|license_name):[ \t]*['\"]?([^#'\"\n]*)", head[1] if head else "", re.M))
    licence = stated.get("license", "").strip()
    if licence == "other":
        licence = stated.get("license_name", "").strip() or licence
    return one_line(licence, 200) or None
