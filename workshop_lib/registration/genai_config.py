"""`genai_config.json`: how ONNX Runtime GenAI is told what a model folder holds.

Reads what the runtime cannot do without, and what tells a person where the model runs. The runtime reads more, and
refuses keys that it does not know; only loading shows that. Knows no other file of the folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from workshop_lib.json_files import fault, read_untyped
from workshop_lib.providers import CPU_PROVIDER

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

FILE_NAME = "genai_config.json"
LONGEST_BYTES = 4_000_000
MOST_SOUGHT, MOST_NAMED = 100, 3
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

_PARTS = ("decoder", "encoder", "embedding", "vision", "speech")
_OF_HUGGING_FACE = {"transformers_version", "_from_model_config", "architectures", "bos_token_id", "eos_token_id"}
"""Keys of `config.json` and `generation_config.json`, which stand inside `model` here."""

_CONVERT_FIRST = (
    "Give the folder that holds it; a download from Hugging Face must be converted first, as "
    "samples/03-huggingface-models shows."
)
_FIX = "Convert the model again with `python -m onnxruntime_genai.models.builder`."


@dataclass(frozen=True, slots=True)
class GenaiConfig:
    """What one configuration says.

    Attributes:
        model_type: the family, e.g. `qwen2`.
        context_tokens: longest prompt plus answer.
        model_files: names of the ONNX files, relative to the folder, as written: not checked to lie in it.
        device, execution_provider: where the model was built to run.
    """

    model_type: str
    context_tokens: int
    model_files: tuple[str, ...]
    device: Device
    execution_provider: str


def read_config(folder: Path) -> GenaiConfig:
    """Read a folder's configuration.

    Raises:
        DataFileError: it is missing, too large, no JSON, or lacks what the runtime needs; names the key.
    """
    file = folder / FILE_NAME
    model = _part(file, _content(file), "model")
    _count(file, model, "vocab_size")
    decoder = _part(file, model, "decoder", "model.")
    model_files = tuple(dict.fromkeys(_model_files(file, model)))
    if not model_files:
        raise fault(file, "model.decoder.filename", "is missing", _FIX)
    if "pipeline" not in decoder:
        _count(file, decoder, "head_size", "model.decoder.")
    device, provider = _where(file, model)
    return GenaiConfig(
        model_type=_text(file, model, "type"),
        context_tokens=_count(file, model, "context_length"),
        model_files=model_files,
        device=device,
        execution_provider=provider,
    )


def _content(file: Path) -> Mapping[str, Any]:
    if not file.is_file():  # a pipe or a device would be read for ever
        below = sorted(found.parent.as_posix() for found in islice(_below(file), MOST_SOUGHT))
        fix = f"The model is deeper: give {' or '.join(below[:MOST_NAMED])}." if below else _CONVERT_FIRST
        raise fault(file, "", "is no file" if file.exists() else "is missing", fix)
    size = file.stat().st_size
    if size > LONGEST_BYTES:
        raise fault(file, "", f"has {size} bytes, which no configuration has", _FIX)
    content = read_untyped(file)
    if b"\0" in file.read_bytes():
        raise fault(file, "", "is UTF-16 or UTF-32, and the runtime reads UTF-8 only", "Save it as UTF-8.")
    if not isinstance(content, dict):
        raise fault(file, "", "is no JSON object", _FIX)
    if "model" not in content and _OF_HUGGING_FACE & content.keys():
        raise fault(file, "", "is a configuration of Hugging Face under another name", _CONVERT_FIRST)
    return content


def _below(file: Path) -> Iterator[Path]:
    """Configurations one and two folders deeper, where downloads with several builds have them."""
    for pattern in (f"*/{FILE_NAME}", f"*/*/{FILE_NAME}"):
        yield from (found for found in file.parent.glob(pattern) if found.is_file())


def _part(file: Path, content: Mapping[str, Any], key: str, place: str = "") -> Mapping[str, Any]:
    part = content.get(key)
    if not isinstance(part, dict):
        raise fault(file, f"{place}{key}", "is missing" if part is None else f"is {_shown(part)}, no object", _FIX)
    return part


def _count(file: Path, part: Mapping[str, Any], key: str, place: str = "model.") -> int:
    value = part.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        seen = "is missing" if value is None else f"is {_shown(value)}, no number above 0"
        raise fault(file, f"{place}{key}", seen, _FIX)
    return value


def _text(file: Path, part: Mapping[str, Any], key: str) -> str:
    value = part.get(key)
    if not isinstance(value, str) or not value:
        raise fault(file, f"model.{key}", "is missing" if value is None else f"is {_shown(value)}, no name", _FIX)
    return value


def _model_files(file: Path, model: Mapping[str, Any]) -> Iterator[str]:
    """The ONNX files of every part; a part made of several stages names one for each."""
    for name in _PARTS:
        part = model.get(name)
        for stage in _stages(part) if isinstance(part, dict) else ():
            if "filename" in stage:
                filename = stage["filename"]
                if not isinstance(filename, str) or not filename:
                    raise fault(file, f"model.{name}.filename", f"is {_shown(filename)}, no file name", _FIX)
                yield filename


def _stages(part: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield part
    pipeline = part.get("pipeline", [])
    for entry in pipeline if isinstance(pipeline, list) else [pipeline]:
        if isinstance(entry, dict):
            yield from (stage for stage in entry.values() if isinstance(stage, dict))


def _where(file: Path, model: Mapping[str, Any]) -> tuple[Device, str]:
    """Where the whole model needs to run: the first provider of any part or stage that is not the CPU's."""
    named = [_placed(file, *each) for each in _providers(file, model, "model")]
    return next((each for each in named if each[0] != "cpu"), named[0] if named else ("cpu", CPU_PROVIDER))


def _providers(file: Path, part: object, place: str) -> Iterator[tuple[str, str, object]]:
    """The key, name and options of each provider, at any depth."""
    if isinstance(part, list):
        for entry in part:
            yield from _providers(file, entry, place)
    for key, value in part.items() if isinstance(part, dict) else ():
        if key != "provider_options":
            yield from _providers(file, value, f"{place}.{key}")
        elif isinstance(value, list) and all(isinstance(entry, dict) and entry for entry in value):
            yield from ((f"{place}.{key}", name, options) for entry in value for name, options in entry.items())
        else:
            raise fault(file, f"{place}.{key}", "is no list of providers", _FIX)


def _placed(file: Path, key: str, name: str, options: object) -> tuple[Device, str]:
    if name.lower() not in _PROVIDERS:
        known = ", ".join(_PROVIDERS)
        raise fault(
            file, key, f"names the provider {_shown(name)}", f"Use one of {known}, or an empty list for the CPU."
        )
    device, provider = _PROVIDERS[name.lower()]
    chosen = str(options.get("device_type", "")).lower() if isinstance(options, dict) else ""
    return _openvino_device(chosen) if provider.startswith("OpenVINO") else device, provider


def _openvino_device(chosen: str) -> Device:
    """OpenVINO runs on all three, and says on which."""
    if chosen.startswith("gpu"):
        return "gpu"
    return "npu" if chosen.startswith("npu") else "cpu"


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
