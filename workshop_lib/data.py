"""Data files: `models.json`, `prompts.json`, the index of the practice models, and any other checked JSON.

    cards = read_models()                       # alias → ModelCard
    prompts = read_prompts(path="mine.txt")          # or a set of data/prompts.json
    rubric = read_as(Rubric, Path("rubric.json"))

pydantic checks the values; its errors become one `DataFileError` that names the file, the key, the value and the fix.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

from workshop_lib import files, places
from workshop_lib.errors import DataFileError
from workshop_lib.records import Prompt

T = TypeVar("T")

DATA_FOLDER = places.DATA
MODELS_FILE = DATA_FOLDER / "models.json"
PROMPTS_FILE = DATA_FOLDER / "prompts.json"
PRACTICE_INDEX_FILE = DATA_FOLDER / "practice_models" / "index.json"
SCHEMA = 1
TASK = "meeting-notes"
"""The prompt set of the team's own task: what pages and `run` ask where nobody names another."""

STRICT: Any = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
"""`__pydantic_config__` of a file's outermost dataclass; those inside it inherit it."""

Size = Annotated[float, Field(gt=0)]
Schema = Literal[1]
Device = Literal["cpu", "gpu", "npu"]
ShapeKey = Literal[
    "parameters", "active", "num_hidden_layers", "hidden_size", "num_key_value_heads", "head_size", "vocab_size",
    "context_length", "tie_word_embeddings", "embedding_bits",
]  # fmt: skip


def _check_once(names: Iterable[str]) -> None:
    if twice := [name for name, times in Counter(names).items() if times > 1]:
        raise ValueError(f"'{twice[0]}' is there twice: rename or remove one of them.")


def _checked_prompt(prompt: Prompt) -> Prompt:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", prompt.id):
        raise ValueError(f"Its id is {prompt.id!r}: begin with a letter or digit, then use also '.', '_' and '-'.")
    if not prompt.text.strip():
        raise ValueError("Its text is empty: write the question out.")
    for aspect in (*prompt.aspects, *prompt.forbidden):
        if not all(any(map(str.isalnum, phrase)) for phrase in aspect.split("|")):
            raise ValueError(f"Its aspect {aspect!r} has an empty phrase: give one, or several with '|' between.")
    return prompt


def _checked_sets(sets: dict[str, tuple[Prompt, ...]]) -> dict[str, tuple[Prompt, ...]]:
    _check_once(prompt.id for prompts in sets.values() for prompt in prompts)
    return sets


_Prompts = Annotated[tuple[Annotated[Prompt, AfterValidator(_checked_prompt)], ...], Field(min_length=1)]
_Sets = Annotated[dict[str, _Prompts], AfterValidator(_checked_sets)]


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What `models.json` says of one alias; yours needs `capabilities`, the tags of routing, and `size_mb` only.

    Sizes are downloads in 10^6 bytes, of the CPU and of the GPU build; None when no listing names them. `listed` is
    False for a name that courses use but no catalog lists; `nearest` are aliases to offer instead. `watts` is the power
    drawn while it answers, where no meter can be read; reported as assumed. `default_builds` are the precisions that
    `auto` takes; None = all. `trained_on` names the prompt sets that it was trained on, or on close copies of; empty
    where it is older than all of them; None = unknown. `shape` counts what it is built of, as its `config.json` does,
    with the parameters `active` for a token and the bits of an embedding apart. `source` says where from, and when.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    capabilities: tuple[str, ...]
    size_mb: Size | None
    licence: str | None = None
    device_preference: tuple[Device, ...] = ("cpu",)
    profile: Literal["practice", "foundry"] = "foundry"
    size_gpu_mb: Size | None = None
    listed: bool = True
    nearest: tuple[str, ...] = ()
    watts: Size | None = None
    default_builds: tuple[str, ...] | None = None
    trained_on: tuple[str, ...] | None = None
    shape: dict[ShapeKey, Annotated[int, Field(ge=0)]] = field(default_factory=dict, hash=False)
    source: str | None = None


@dataclass(frozen=True, slots=True)
class PromptFile:
    """`prompts.json`: `version` names the rubric a score belongs to, `sets` has prompts by name."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    schema: Schema
    version: str
    sets: _Sets


@dataclass(frozen=True, slots=True)
class PracticeVariant:
    """One build of a practice model; its folder is relative to that of `index.json`, `files` are name → SHA-256."""

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
    """One practice model and its builds; `parameters` counts weights."""

    alias: str
    parameters: int
    context_tokens: int
    variants: tuple[PracticeVariant, ...]


@dataclass(frozen=True, slots=True)
class PracticeIndex:
    """What is needed of `data/practice_models/index.json`: the models shipped with the workshop."""

    schema: Schema
    licence: str
    models: tuple[PracticeModel, ...]


def read_models(path: Path | str | None = None) -> dict[str, ModelCard]:
    """Read `models.json` (or `path`): alias → card. Raises `DataFileError`."""
    return read_as(dict[str, ModelCard], Path(path or MODELS_FILE))


def read_prompt_file(path: Path | str | None = None) -> PromptFile:
    """Read the whole `prompts.json` (or `path`) with its version. Raises `DataFileError`."""
    return read_as(PromptFile, Path(path or PROMPTS_FILE))


def read_practice_index(path: Path | str | None = None) -> PracticeIndex:
    """Read the practice models' `index.json` (or `path`), no model file. Raises `DataFileError`."""
    return read_as(PracticeIndex, Path(path or PRACTICE_INDEX_FILE))


def read_prompts(set_name: str = "course", path: Path | str | None = None) -> tuple[Prompt, ...]:
    """Read one set of `prompts.json` (or `path`). Raises `DataFileError`.

    Also read are a JSON list, JSON lines, and a `.txt` file with one prompt per line, in which blank lines and lines
    that begin with `#` are skipped. An entry is a text, or an object like those of `prompts.json` that needs only
    `text` (or `prompt`). What has no id is called `prompt-1`, `prompt-2`, …; `set_name` is then ignored. Only prompts
    of the shipped file carry the name of their set.
    """
    file = Path(path or PROMPTS_FILE)
    content = _prompts_in(file)
    if isinstance(content, list):
        named = [_named(number, entry) for number, entry in enumerate(content, 1)]
        whole = {"schema": SCHEMA, "version": "", "sets": {"prompts": named}}
        return checked_as(PromptFile, whole, file, within="sets.").sets["prompts"]
    sets = checked_as(PromptFile, content, file).sets
    if set_name not in sets:
        raise fault(file, "sets", f"has no set '{set_name}'", f"Use {' or '.join(sets)}.")
    return tuple(replace(prompt, set_name=set_name if file == PROMPTS_FILE else "") for prompt in sets[set_name])


def has_sets(file: Path) -> bool:
    """Whether a file of prompts holds sets, and not one list. Raises `DataFileError`."""
    return not isinstance(_prompts_in(file), list)


def _prompts_in(file: Path) -> object:
    """The content of a file of prompts: a list, or what a file with sets holds."""
    text = read_text(file)
    lines = {number: line.strip() for number, line in enumerate(text.split("\n")) if line.strip()}
    first = next(iter(lines.values()), "")
    if file.suffix.lower() == ".txt":
        return [line for line in lines.values() if not line.startswith("#")]
    if file.suffix.lower() in (".jsonl", ".ndjson") or (len(lines) > 1 and f"{first[0]}{first[-1]}" in ('""', "{}")):
        return [_parsed(file, "\n" * number + line) for number, line in lines.items()]
    return _parsed(file, text)


def _named(number: int, entry: object) -> object:
    if isinstance(entry, str):
        entry = {"text": entry}
    if not isinstance(entry, dict):
        return entry
    named = {"text" if key == "prompt" and "text" not in entry else key: value for key, value in entry.items()}
    return {"id": f"prompt-{number}", **named, "set_name": ""}


def set_of(prompts: Iterable[Prompt]) -> str | None:
    """Return the shipped set that holds all these prompts as they are, None where none does. Raises `DataFileError`."""
    mine = tuple(prompts)
    return next((name for name, shipped in read_prompt_file().sets.items() if set(shipped).issuperset(mine)), None)


def read_as(kind: type[T], file: Path) -> T:
    """Read a file as a dataclass, `dict[...]` or `list[...]`. Raises `DataFileError`."""
    return checked_as(kind, read_untyped(file), file)


def read_untyped(file: Path) -> object:
    """Read a file as whatever JSON it holds. Raises `DataFileError`."""
    return _parsed(file, read_text(file))


def read_text(file: Path) -> str:
    """Read a file of text in any Unicode encoding. Raises `DataFileError`."""
    try:
        return files.decoded(file.read_bytes())
    except FileNotFoundError:
        shipped = file.absolute().is_relative_to(places.DATA)
        what, fix = "is missing", "'git checkout -- data' brings it back." if shipped else "Check the path."
    except (OSError, ValueError) as error:
        what, fix = f"cannot be read ({error})", "Check that it is a file you may read, of text in UTF-8."
    raise fault(file, "", what, fix)


def _parsed(file: Path, text: str) -> object:
    """Parse JSON, refusing a key given twice: Python would keep the last one silently. Raises `DataFileError`."""

    def with_unlike_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
        _check_once(key for key, _ in pairs)
        return dict(pairs)

    try:
        parsed: object = json.loads(text, object_pairs_hook=with_unlike_keys)
    except (ValueError, RecursionError) as error:
        raise fault(file, "", f"is not JSON ({error})", "Correct the syntax there; JSON has no comments.") from None
    return parsed


def checked_as(kind: type[T], content: object, file: Path, *, within: str = "") -> T:
    """Turn parsed JSON into a dataclass or the like; of several faults the first is named, without `within`.

    Raises `DataFileError`.
    """
    try:
        return TypeAdapter(kind).validate_json(json.dumps(content), strict=True)
    except ValidationError as error:
        faults = error.errors(include_url=False)
    unknown = [each for each in faults if each["type"] == "unexpected_keyword_argument"]
    first = (unknown or faults)[0]  # a misspelt key is also a missing one: say the spelling
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"] if part != "[key]")
    seen = repr(first["input"])
    short = seen if len(seen) <= 60 else f"{seen[:57]}..."
    what = {"Field required": "is missing", "Unexpected keyword argument": "is an unknown key"}.get(first["msg"])
    more = f" ({len(faults) - 1} more after this one.)" if len(faults) > 1 else ""
    raise fault(file, key.lstrip(".").removeprefix(within), what or f"is {short}", f"{advice(first)}{more}")


def fault(file: Path, key: str, what: str, fix: str) -> DataFileError:
    """Make the error for one key; an empty key stands for the whole file."""
    place = f"{file}: '{key}'" if key else str(file)
    return DataFileError(f"{place} {what}.", fix)


_ADVICE = {
    "int_parsing": "Give a whole number.",
    "int_from_float": "Give a whole number.",
    "float_parsing": "Give a number.",
    "bool_parsing": "Give 1 or 0.",
    "too_short": "Give at least one.",
    "missing": "Add it.",
    "unexpected_keyword_argument": "Remove it or correct its spelling.",
    "greater_than_equal": "Give {ge} or more.",
    "greater_than": "Give more than {gt}.",
    "less_than_equal": "Give {le} or less.",
}
"""What to do about kinds of pydantic's errors whose own words speak of types and parsing."""


def advice(found: Mapping[str, Any]) -> str:
    """What is allowed instead of the value that pydantic refused, as one sentence."""
    said = found["msg"].removeprefix("Value error, ").replace("Input should be", "It should be")
    advised = _ADVICE.get(str(found["type"]))
    return advised.format(**found.get("ctx", {})) if advised else str(said).rstrip(".") + "."
