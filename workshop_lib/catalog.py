"""The data files: `models.json`, `prompts.json` and the index of the shipped practice models.

Knows their format and checks every value where it comes in; each fault is a `DataFileError` naming
the file, the key and the fix. Knows nothing of the runtime that serves the models. pydantic is
loaded by the first read only.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar, Literal

from workshop_lib import places
from workshop_lib.json_files import (
    STRICT,
    check_inside,
    check_name,
    check_unique,
    checked_as,
    fault,
    parse,
    read_as,
    read_text,
)
from workshop_lib.records import Prompt

DATA_FOLDER = places.DATA
MODELS_FILE = DATA_FOLDER / "models.json"
PROMPTS_FILE = DATA_FOLDER / "prompts.json"
PRACTICE_INDEX_FILE = DATA_FOLDER / "practice_models" / "index.json"
SCHEMA = 1

Device = Literal["cpu", "gpu", "npu"]

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What `models.json` says of one alias; yours needs `capabilities` and `size_mb` only.

    Attributes:
        capabilities: tags that drive routing, e.g. `summarise`.
        size_mb: download of the CPU build in 10^6 bytes; None when no listing names it.
        licence: SPDX name; None when unknown.
        device_preference: devices in the order to try them.
        profile: the profile that offers the model.
        size_gpu_mb: download of the GPU build in 10^6 bytes; None when there is none.
        listed: False for a name that courses use but no catalog lists.
        nearest: listed aliases to offer in place of one that is not.
        watts: power drawn while it answers, where no meter can be read; reported as assumed.
    """

    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    capabilities: tuple[str, ...]
    size_mb: float | None
    licence: str | None = None
    device_preference: tuple[Device, ...] = ("cpu",)
    profile: Literal["practice", "foundry"] = "foundry"
    size_gpu_mb: float | None = None
    listed: bool = True
    nearest: tuple[str, ...] = ()
    watts: float | None = None


@dataclass(frozen=True, slots=True)
class PromptFile:
    """`prompts.json`: `version` names the rubric a score belongs to, `sets` has prompts by name."""

    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    schema: int
    version: str
    sets: dict[str, tuple[Prompt, ...]]


@dataclass(frozen=True, slots=True)
class PracticeVariant:
    """One build of a practice model.

    Attributes:
        name, version: together `name:version`, the id the web service answers to.
        execution_provider: the runtime's provider, e.g. `CPUExecutionProvider`.
        folder: where the files lie, relative to the folder of `index.json`, with `/` between parts.
        size_bytes: all files together.
        files: relative name → SHA-256 in lower-case hexadecimal.
    """

    name: str
    version: str
    device: Device
    execution_provider: str
    precision: str
    folder: str
    size_bytes: int
    files: dict[str, str]

    @property
    def model_id(self) -> str:
        """The exact id: `name:version`."""
        return f"{self.name}:{self.version}"

    @property
    def size_mb(self) -> float:
        """Size on disk in 10^6 bytes."""
        return self.size_bytes / 1e6


@dataclass(frozen=True, slots=True)
class PracticeModel:
    """One practice model and its builds; `parameters` counts weights, the limits are in tokens."""

    alias: str
    display_name: str
    parameters: int
    context_tokens: int
    max_output_tokens: int
    variants: tuple[PracticeVariant, ...]


@dataclass(frozen=True, slots=True)
class PracticeIndex:
    """`data/practice_models/index.json`: the models shipped with the workshop."""

    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    schema: int
    publisher: str
    licence: str
    models: tuple[PracticeModel, ...]


def read_models(path: Path | str | None = None) -> dict[str, ModelCard]:
    """Read `models.json` (or `path`): alias → card. Raises `DataFileError`."""
    file = Path(path or MODELS_FILE)
    models = read_as(dict[str, ModelCard], file)
    for alias, card in models.items():
        check_name(file, alias, alias)
        for key, unit in (("size_mb", "megabytes"), ("size_gpu_mb", "megabytes"), ("watts", "watts")):
            size = getattr(card, key)
            if size is not None and not 0 < size < math.inf:
                raise fault(
                    file,
                    f"{alias}.{key}",
                    f"is {size}",
                    f"Give {unit} above 0, or null if unknown.",
                )
        for name in card.nearest:
            if name not in models or not models[name].listed:
                raise fault(
                    file,
                    f"{alias}.nearest",
                    f"names '{name}'",
                    "Name aliases that this file lists.",
                )
    return models


def read_prompts(path: Path | str | None = None, set_name: str = "course") -> tuple[Prompt, ...]:
    """Read one set of `prompts.json` (or `path`). Raises `DataFileError`.

    Also read are a JSON list, JSON lines, and a `.txt` file with one prompt per line, in which blank lines and lines
    that begin with `#` are left out. An entry is a text, or an object like those of `prompts.json` that needs only
    `text` (or `prompt`). What has no id is called `prompt-1`, `prompt-2`, …; `set_name` is then not looked at.
    """
    file = Path(path or PROMPTS_FILE)
    entries = _entries(file)
    if entries is not None:
        prompts = tuple(_prompt(file, place, number, entry) for number, (place, entry) in enumerate(entries, 1))
        check_prompts(file, "", prompts)
        check_unique(file, "", (prompt.id for prompt in prompts))
        return prompts
    sets = read_prompt_file(file).sets
    if set_name not in sets:
        raise fault(file, "sets", f"has no set '{set_name}'", f"Use {' or '.join(sets)}.")
    return sets[set_name]


def _entries(file: Path) -> list[tuple[str, object]] | None:
    """The places and contents of a file's prompts; None where it has sets of them."""
    text = read_text(file)
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if file.suffix.lower() == ".txt":
        return [(f"line {number}", line.strip()) for number, line in lines if not line.lstrip().startswith("#")]
    if file.suffix.lower() in (".jsonl", ".ndjson") or (len(lines) > 1 and _is_json(lines[0][1])):
        return [(f"line {number}", parse(file, "\n" * (number - 1) + line)) for number, line in lines]
    content = parse(file, text)
    return [(f"[{number}]", entry) for number, entry in enumerate(content)] if isinstance(content, list) else None


def _is_json(line: str) -> bool:
    """Whether a line is JSON on its own; what follows it is then more of the same."""
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _prompt(file: Path, place: str, number: int, entry: object) -> Prompt:
    if isinstance(entry, str):
        entry = {"text": entry}
    if not isinstance(entry, dict):
        raise fault(file, place, f"is {entry!r}", "Give a text, or an object with a text.")
    named = {"text" if key == "prompt" and "text" not in entry else key: value for key, value in entry.items()}
    for key in named.keys() - {field.name for field in fields(Prompt)}:
        raise fault(file, f"{place}.{key}", "is an unknown key", "Remove it or correct its spelling.")
    prompt = checked_as(Prompt, {"id": f"prompt-{number}", **named}, file, place)
    _check_prompt(file, place, prompt)
    return prompt


def read_prompt_file(path: Path | str | None = None) -> PromptFile:
    """Read the whole `prompts.json` (or `path`) with its version. Raises `DataFileError`."""
    file = Path(path or PROMPTS_FILE)
    content = read_as(PromptFile, file)
    _check_schema(file, content.schema)
    for name, prompts in content.sets.items():
        check_prompts(file, f"sets.{name}", prompts)
    check_unique(file, "sets", (prompt.id for prompts in content.sets.values() for prompt in prompts))
    return content


def read_practice_index(path: Path | str | None = None) -> PracticeIndex:
    """Read the practice models' `index.json` (or `path`), no model file. Raises `DataFileError`."""
    file = Path(path or PRACTICE_INDEX_FILE)
    index = read_as(PracticeIndex, file)
    _check_schema(file, index.schema)
    check_name(file, "publisher", index.publisher)
    for number, model in enumerate(index.models):
        key = f"models[{number}]"
        check_name(file, f"{key}.alias", model.alias)
        for field in ("parameters", "context_tokens", "max_output_tokens"):
            _check_positive(file, f"{key}.{field}", getattr(model, field))
        for position, variant in enumerate(model.variants):
            _check_variant(file, f"{key}.variants[{position}]", variant)
    check_unique(file, "models", (model.alias for model in index.models))
    check_unique(file, "models", (variant.model_id for model in index.models for variant in model.variants))
    return index


def _check_variant(file: Path, key: str, variant: PracticeVariant) -> None:
    check_name(file, f"{key}.name", variant.name)
    check_name(file, f"{key}.version", variant.version)
    check_inside(file, f"{key}.folder", variant.folder)
    _check_positive(file, f"{key}.size_bytes", variant.size_bytes)
    for name, digest in variant.files.items():
        check_inside(file, f"{key}.files", name)
        if not _SHA256.fullmatch(digest):
            raise fault(
                file,
                f"{key}.files.{name}",
                f"is {digest!r}",
                "Give its SHA-256, 64 hexadecimal digits.",
            )


def check_prompts(file: Path, key: str, prompts: tuple[Prompt, ...]) -> None:
    """Refuse a set without prompts, and prompts without a usable id, a text or a phrase in each aspect."""
    if not prompts:
        raise fault(file, key, "holds no prompt", "Add at least one.")
    for number, prompt in enumerate(prompts):
        _check_prompt(file, f"{key}[{number}]", prompt)


def _check_prompt(file: Path, place: str, prompt: Prompt) -> None:
    check_name(file, f"{place}.id", prompt.id)
    if not prompt.text.strip():
        raise fault(file, f"{place}.text", "is empty", "Write the question out.")
    for field in ("aspects", "forbidden"):
        for aspect in getattr(prompt, field):
            if not all(any(map(str.isalnum, phrase)) for phrase in aspect.split("|")):
                fix = "Give one phrase, or several with '|' between."
                raise fault(file, f"{place}.{field}", f"holds {aspect!r}", fix)


def _check_schema(file: Path, schema: int) -> None:
    if schema != SCHEMA:
        raise fault(file, "schema", f"is {schema}", f"This version reads schema {SCHEMA}.")


def _check_positive(file: Path, key: str, value: int) -> None:
    if value < 1:
        raise fault(file, key, f"is {value}", "Give a number above 0.")
