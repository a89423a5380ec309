"""The data files: `models.json`, `prompts.json` and the index of the shipped practice models.

Knows their format and checks every value where it comes in; each fault is a `DataFileError` naming the file, the
key and the fix. Knows nothing of the runtime that serves the models. pydantic is loaded by the first read only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, TypeVar

from workshop_lib.errors import DataFileError
from workshop_lib.records import Prompt

if TYPE_CHECKING:
    from pydantic import ValidationError

DATA_FOLDER = Path(__file__).resolve().parent.parent / "data"
MODELS_FILE = DATA_FOLDER / "models.json"
PROMPTS_FILE = DATA_FOLDER / "prompts.json"
PRACTICE_INDEX_FILE = DATA_FOLDER / "practice_models" / "index.json"
SCHEMA = 1

Device = Literal["cpu", "gpu", "npu"]
T = TypeVar("T")

_STRICT: dict[str, object] = {"extra": "forbid", "strict": True, "allow_inf_nan": False}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What `models.json` says of one alias; a list of your own needs `capabilities` and `size_mb` only.

    Attributes:
        capabilities: tags that drive routing, e.g. `summarise`.
        size_mb: download of the CPU build in 10^6 bytes; None when no listing names it.
        licence: SPDX name; None when unknown.
        device_preference: devices in the order to try them.
        profile: the profile that offers the model.
        size_gpu_mb: download of the GPU build in 10^6 bytes; None when there is none.
        listed: False for a name that courses use but no catalog lists.
        nearest: listed aliases to offer in place of one that is not.
    """

    __pydantic_config__: ClassVar[dict[str, object]] = _STRICT

    capabilities: tuple[str, ...]
    size_mb: float | None
    licence: str | None = None
    device_preference: tuple[Device, ...] = ("cpu",)
    profile: Literal["practice", "foundry"] = "foundry"
    size_gpu_mb: float | None = None
    listed: bool = True
    nearest: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PromptFile:
    """`prompts.json`: `version` names the rubric that a score was given under, `sets` maps names to prompts."""

    __pydantic_config__: ClassVar[dict[str, object]] = _STRICT

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
    """One practice model and its builds; `parameters` is a count of weights, limits are in tokens."""

    alias: str
    display_name: str
    parameters: int
    context_tokens: int
    max_output_tokens: int
    variants: tuple[PracticeVariant, ...]


@dataclass(frozen=True, slots=True)
class PracticeIndex:
    """`data/practice_models/index.json`: the models shipped with the workshop."""

    __pydantic_config__: ClassVar[dict[str, object]] = _STRICT

    schema: int
    publisher: str
    licence: str
    models: tuple[PracticeModel, ...]


def read_models(path: Path | str | None = None) -> dict[str, ModelCard]:
    """Read `models.json` (or `path`): alias → card. Raises `DataFileError`."""
    file = Path(path or MODELS_FILE)
    models = _read(file, dict[str, ModelCard])
    for alias, card in models.items():
        _check_name(file, alias, alias)
        for key in ("size_mb", "size_gpu_mb"):
            size = getattr(card, key)
            if size is not None and size <= 0:
                raise _fault(
                    file,
                    f"{alias}.{key}",
                    f"is {size}",
                    "Give megabytes above 0, or null if unknown.",
                )
        for name in card.nearest:
            if name not in models or not models[name].listed:
                raise _fault(
                    file,
                    f"{alias}.nearest",
                    f"names '{name}'",
                    "Name aliases that this file lists.",
                )
    return models


def read_prompts(path: Path | str | None = None, set_name: str = "course") -> tuple[Prompt, ...]:
    """Read one set of `prompts.json` (or `path`). Raises `DataFileError`.

    A plain JSON list of strings is accepted as well: its prompts are called `prompt-1`, `prompt-2`, … and
    have no expected aspects; `set_name` is then not looked at.
    """
    file = Path(path or PROMPTS_FILE)
    if isinstance(_parse(file, _text(file)), list):
        texts = _read(file, list[str])
        prompts = tuple(
            Prompt(id=f"prompt-{number}", text=text) for number, text in enumerate(texts, 1)
        )
        _check_prompts(file, "", prompts)
        return prompts
    sets = read_prompt_file(file).sets
    if set_name not in sets:
        raise _fault(file, "sets", f"has no set '{set_name}'", f"Use {_either(sets)}.")
    return sets[set_name]


def read_prompt_file(path: Path | str | None = None) -> PromptFile:
    """Read the whole `prompts.json` (or `path`) with its version. Raises `DataFileError`."""
    file = Path(path or PROMPTS_FILE)
    content = _read(file, PromptFile)
    _check_schema(file, content.schema)
    for name, prompts in content.sets.items():
        _check_prompts(file, f"sets.{name}", prompts)
    _check_unique(
        file, "sets", (prompt.id for prompts in content.sets.values() for prompt in prompts)
    )
    return content


def read_practice_index(path: Path | str | None = None) -> PracticeIndex:
    """Read the index of the practice models (or `path`). Raises `DataFileError`; opens no model file."""
    file = Path(path or PRACTICE_INDEX_FILE)
    index = _read(file, PracticeIndex)
    _check_schema(file, index.schema)
    _check_name(file, "publisher", index.publisher)
    for number, model in enumerate(index.models):
        key = f"models[{number}]"
        _check_name(file, f"{key}.alias", model.alias)
        for field in ("parameters", "context_tokens", "max_output_tokens"):
            _check_positive(file, f"{key}.{field}", getattr(model, field))
        for position, variant in enumerate(model.variants):
            _check_variant(file, f"{key}.variants[{position}]", variant)
    _check_unique(file, "models", (model.alias for model in index.models))
    _check_unique(
        file, "models", (variant.model_id for model in index.models for variant in model.variants)
    )
    return index


def _check_variant(file: Path, key: str, variant: PracticeVariant) -> None:
    _check_name(file, f"{key}.name", variant.name)
    _check_name(file, f"{key}.version", variant.version)
    _check_inside(file, f"{key}.folder", variant.folder)
    _check_positive(file, f"{key}.size_bytes", variant.size_bytes)
    for name, digest in variant.files.items():
        _check_inside(file, f"{key}.files", name)
        if not _SHA256.fullmatch(digest):
            raise _fault(
                file,
                f"{key}.files.{name}",
                f"is {digest!r}",
                "Give its SHA-256, 64 hexadecimal digits.",
            )


def _check_prompts(file: Path, key: str, prompts: tuple[Prompt, ...]) -> None:
    if not prompts:
        raise _fault(file, key, "holds no prompt", "Add at least one.")
    for number, prompt in enumerate(prompts):
        place = f"{key}[{number}]"
        _check_name(file, f"{place}.id", prompt.id)
        if not prompt.text.strip():
            raise _fault(file, f"{place}.text", "is empty", "Write the question out.")
        for field in ("aspects", "forbidden"):
            for aspect in getattr(prompt, field):
                if not all(any(map(str.isalnum, phrase)) for phrase in aspect.split("|")):
                    fix = "Give one phrase, or several with '|' between."
                    raise _fault(file, f"{place}.{field}", f"holds {aspect!r}", fix)


def _check_schema(file: Path, schema: int) -> None:
    if schema != SCHEMA:
        raise _fault(file, "schema", f"is {schema}", f"This version reads schema {SCHEMA}.")


def _check_positive(file: Path, key: str, value: int) -> None:
    if value < 1:
        raise _fault(file, key, f"is {value}", "Give a number above 0.")


def _check_name(file: Path, key: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise _fault(
            file,
            key,
            f"is {name!r}",
            "Use letters, digits, '.', '_' and '-', beginning with a letter or digit.",
        )


def _check_inside(file: Path, key: str, name: str) -> None:
    """Refuse a relative name that is empty, absolute, or leaves its folder on any operating system."""
    if not all(_NAME.fullmatch(part) for part in name.split("/")):
        raise _fault(
            file,
            key,
            f"is {name!r}",
            "Use a relative name inside the folder, with '/' between parts.",
        )


def _check_unique(file: Path, key: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise _fault(file, key, f"holds '{name}' twice", "Rename one of them.")
        seen.add(name)


def _read(file: Path, kind: type[T]) -> T:
    """Validate the JSON of `file` as `kind`."""
    from pydantic import TypeAdapter, ValidationError

    text = _text(file)
    _parse(file, text)
    try:
        return TypeAdapter(kind).validate_json(text, strict=True)
    except ValidationError as error:
        raise _first_fault(file, error) from None


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        what, fix = (
            "is missing",
            "Check the path, or get the file back with 'git checkout -- data'.",
        )
    except UnicodeDecodeError as error:
        what, fix = f"is not UTF-8 text at byte {error.start}", "Save it as UTF-8."
    except OSError as error:
        what, fix = f"cannot be read ({error.strerror})", "Check that it is a file you may read."
    raise _fault(file, "", what, fix)


def _parse(file: Path, text: str) -> object:
    """Parse JSON, refusing a key given twice in one object; Python would keep the last one silently."""

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        _check_unique(file, "a JSON object", (key for key, _ in pairs))
        return dict(pairs)

    try:
        parsed: object = json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        place = f"is not JSON at line {error.lineno}, column {error.colno} ({error.msg})"
        raise _fault(file, "", place, "Correct the syntax there.") from None
    except RecursionError:
        raise _fault(file, "", "is nested too deeply", "Use the documented format.") from None
    return parsed


def _first_fault(file: Path, error: ValidationError) -> DataFileError:
    faults = error.errors(include_url=False)
    unknown = [fault for fault in faults if fault["type"] == "unexpected_keyword_argument"]
    first = (unknown or faults)[0]  # a misspelt key is also a missing one: say the spelling
    key = "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]
    ).lstrip(".")
    others = f" ({len(faults) - 1} more after this one.)" if len(faults) > 1 else ""
    if first["type"].startswith("missing"):
        return _fault(file, key, "is missing", f"Add it.{others}")
    if first["type"] == "unexpected_keyword_argument":
        return _fault(file, key, "is an unknown key", f"Remove it or correct its spelling.{others}")
    seen = repr(first["input"])
    seen = seen if len(seen) <= 60 else f"{seen[:57]}..."
    return _fault(
        file,
        key,
        f"is {seen}",
        f"{first['msg'].replace('Input should be', 'It should be')}.{others}",
    )


def _fault(file: Path, key: str, what: str, fix: str) -> DataFileError:
    place = f"{file}: '{key}'" if key else str(file)
    return DataFileError(f"{place} {what}.", fix)


def _either(names: Iterable[str]) -> str:
    return " or ".join(f"'{name}'" for name in names)
