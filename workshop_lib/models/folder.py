"""A folder for ONNX Runtime GenAI: what its files say, before the runtime loads it.

`genai_config.json` names the model files, the context and the execution providers; a model card or a licence file says
what people may do with it. Whether the runtime takes it, only loading shows: `local.try_folder` does.
"""

from __future__ import annotations

import mmap
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from workshop_lib.errors import DataFileError
from workshop_lib.json_files import fault, read_as
from workshop_lib.providers import CPU_PROVIDER
from workshop_lib.untrusted import one_line

CONFIG = "genai_config.json"
AGAIN = "Convert the model again with `python -m onnxruntime_genai.models.builder`, or copy the whole folder again."
_CONVERT = "Convert it first, as samples/03-huggingface-models shows."
Device = Literal["cpu", "gpu", "npu"]
_PROVIDERS: Mapping[str, tuple[Device, str]] = {
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

_LICENCES = (
    (r"Apache License\s+Version 2\.0", "apache-2.0"),
    (r"MIT License|Permission is hereby granted, free of charge", "mit"),
    (r"BSD 3-Clause License", "bsd-3-clause"),
    (r"GNU GENERAL PUBLIC LICENSE\s+Version 3", "gpl-3.0"),
)


@dataclass(frozen=True, slots=True)
class _Session:
    provider_options: list[dict[str, dict[str, Any] | None]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of the model, or one stage of it."""

    filename: str | None = None
    session_options: _Session | None = None
    pipeline: list[dict[str, _Part]] = field(default_factory=list)

    def stages(self) -> Iterator[_Part]:
        yield self
        for entry in self.pipeline:
            for stage in entry.values():
                yield from stage.stages()


@dataclass(frozen=True, slots=True)
class _Model:
    type: str
    context_length: int
    decoder: _Part
    encoder: _Part | None = None
    embedding: _Part | None = None
    vision: _Part | None = None
    speech: _Part | None = None


@dataclass(frozen=True, slots=True)
class _Config:
    """The configuration, as far as it says what the model is and where it runs; the runtime reads the rest."""

    __pydantic_config__: ClassVar[dict[str, object]] = {"extra": "ignore", "strict": True}

    model: _Model


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """What a folder's files say.

    Attributes:
        place: its absolute path.
        model_type: the family, e.g. `qwen2`.
        files: names of the ONNX files, relative to it.
        device, execution_provider: those of the first stage that names a provider other than the CPU's.
        context_tokens: longest prompt plus answer.
    """

    place: Path
    model_type: str
    files: tuple[str, ...]
    device: Device
    execution_provider: str
    context_tokens: int

    @property
    def precision(self) -> str | None:
        """Of the weights; None where no model file tells."""
        return next(filter(None, (_precision(self.place / name) for name in self.files)), None)

    @property
    def licence(self) -> str | None:
        """As the folder states it; None where nothing does."""
        return _licence(self.place)


def read_folder(folder: Path | str) -> ModelFolder:
    """Look at a folder's files without loading anything.

    Raises:
        DataFileError: the configuration or a file that it names is missing or cannot be used; says what was mistaken
            for it.
    """
    place = Path(folder).expanduser().absolute()
    model = _config(place).model
    parts = (model.decoder, model.encoder, model.embedding, model.vision, model.speech)
    stages = [stage for part in parts if part for stage in part.stages()]
    files = tuple(dict.fromkeys(stage.filename for stage in stages if stage.filename))
    missing = [name for name in files if not (place / name).is_file()]
    if missing or not files:
        what = f"{place / missing[0]} is missing." if missing else f"{place / CONFIG} names no model file."
        raise DataFileError(what, AGAIN)
    device, provider = _runs_on(place, stages)
    return ModelFolder(place, model.type, files, device, provider, model.context_length)


def _config(place: Path) -> _Config:
    """Read the configuration, or say what is there instead. Raises `DataFileError`."""
    file = place / CONFIG
    if file.is_file():
        return read_as(_Config, file)
    if not place.is_dir():
        what = f"{place} is {'a file' if place.exists() else 'not there'}."
        raise DataFileError(what, f"Give the folder that holds {CONFIG}.")
    deeper = sorted(found.parent for found in place.glob(f"*/{CONFIG}"))
    if deeper:
        names = " and ".join(found.name for found in deeper[:3])
        raise DataFileError(f"{place} holds no model; its folder {names} does.", f"Give {deeper[0]}.")
    if (place / "generation_config.json").is_file():
        what = f"{file} is missing; generation_config.json is another file, of a download from Hugging Face."
        raise DataFileError(what, _CONVERT)
    raise fault(file, "", "is missing", f"Give the folder that holds it. A download from Hugging Face: {_CONVERT}")


def _runs_on(place: Path, stages: list[_Part]) -> tuple[Device, str]:
    """The device and provider of the first stage that names one other than the CPU. Raises `DataFileError`."""
    sessions = [stage.session_options for stage in stages if stage.session_options]
    named = [(n, options) for session in sessions for entry in session.provider_options for n, options in entry.items()]
    for name, options in named:
        known = _PROVIDERS.get(name.lower().removesuffix("executionprovider"))
        if known is None:
            key = "model.decoder.session_options.provider_options"
            fix = f"Use one of {', '.join(_PROVIDERS)}, or an empty list for the CPU."
            raise fault(place / CONFIG, key, f"names the provider '{one_line(name, 60)}'", fix)
        if known[1] != CPU_PROVIDER:
            chosen = str((options or {}).get("device_type", "")).lower()  # OpenVINO runs on all three
            return "gpu" if chosen.startswith("gpu") else "npu" if chosen.startswith("npu") else known[0], known[1]
    return "cpu", CPU_PROVIDER


def _precision(file: Path) -> str | None:
    """The bits of most packed weights, else the type of the `logits`, found by how ONNX writes those two."""
    if not file.stat().st_size:
        return None
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        bits = Counter(found[0] for found in re.findall(rb"\n\x04bits\x18([\x01-\x10])", content))
        if bits:
            return f"int{bits.most_common(1)[0][0]}"
        kind = re.search(rb"\n\x06logits\x12.\n.\x08(.)", content, re.DOTALL)
        return {1: "fp32", 10: "fp16", 16: "bf16"}.get(kind[1][0]) if kind else None


def _licence(folder: Path) -> str | None:
    """What the head of `README.md` states, else which licence a licence file holds."""
    head = re.match(r"\ufeff?---\s*\n(.*?)\n---", _text(folder / "README.md"), re.DOTALL)
    stated = dict(re.findall(r"^(license|license_name):[ \t]*['\"]?([^#'\"\n]*)", head[1] if head else "", re.M))
    if licence := stated.get("license", "").strip():
        named = stated.get("license_name", "").strip() if licence == "other" else ""
        return one_line(named or licence, 200)
    texts = "".join(_text(file)[:2000] for file in sorted(folder.glob("LICEN[CS]E*")))
    return next((name for pattern, name in _LICENCES if re.search(pattern, texts, re.IGNORECASE)), None)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
    except OSError:
        return ""
