"""Data files: `models.json`, `prompts.json`, the index of the practice models, and any other checked JSON.

    cards = read_models()                       # alias → ModelCard
    prompts = read_prompts(path="mine.txt")          # or a set of data/prompts.json
    rubric = read_as(Rubric, Path("rubric.json"))

pydantic checks the values; its errors become one `DataFileError` that names the file, the key, the value and the fix.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

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

STRICT: dict[str, object] = {"extra": "forbid", "strict": True, "allow_inf_nan": False}
"""`__pydantic_config__` of a file's outermost dataclass; those inside it inherit it."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_NAME_FIX = "Begin with a letter or digit, then use letters, digits, '.', '_' and '-'."
_TWICE_FIX = "Rename or remove one of them."


class _WrongError(ValueError):
    """What a check raises: the fix and, where it is not the value itself, the key below it and what is wrong."""

    def __init__(self, fix: str, *, key: str = "", what: str = "") -> None:
        super().__init__(fix)
        self.key, self.what = key, what


def _rule(is_good: Callable[[Any], object], fix: str, what: str = "") -> AfterValidator:
    def check(value: T) -> T:
        if not is_good(value):
            raise _WrongError(fix, what=what)
        return value

    return AfterValidator(check)


def unique(names_of: Callable[[Any], Iterable[str]]) -> AfterValidator:
    """For the type of a field: whoever reads the file is told of a name given twice."""

    def check(value: T) -> T:
        if twice := _first_repeated(names_of(value)):
            raise _WrongError(_TWICE_FIX, what=f"holds '{twice}' twice")
        return value

    return AfterValidator(check)


def _first_repeated(names: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def _checked_prompt(prompt: Prompt) -> Prompt:
    if not _NAME.fullmatch(prompt.id):
        raise _WrongError(_NAME_FIX, key=".id", what=f"is {prompt.id!r}")
    if not prompt.text.strip():
        raise _WrongError("Write the question out.", key=".text", what="is empty")
    for name in ("aspects", "forbidden"):
        for aspect in getattr(prompt, name):
            if not all(any(map(str.isalnum, phrase)) for phrase in aspect.split("|")):
                fix = "Give one phrase, or several with '|' between."
                raise _WrongError(fix, key=f".{name}", what=f"holds {aspect!r}")
    return prompt


Name = Annotated[str, _rule(_NAME.fullmatch, _NAME_FIX)]
"""Safe as one part of a path on every operating system."""

InsidePath = Annotated[
    str,
    _rule(
        lambda name: all(_NAME.fullmatch(part) for part in name.split("/")),
        "Use a relative name inside the folder, with '/' between parts.",
    ),
]
Sha256 = Annotated[str, _rule(re.compile(r"[0-9a-f]{64}").fullmatch, "Give its SHA-256, 64 hexadecimal digits.")]
Count = Annotated[int, Field(gt=0)]
Size = Annotated[float, Field(gt=0)]
Schema = Annotated[int, _rule(lambda schema: schema == SCHEMA, f"This version reads schema {SCHEMA}.")]
Device = Literal["cpu", "gpu", "npu"]
ShapeKey = Literal[
    "parameters", "active", "num_hidden_layers", "hidden_size", "num_key_value_heads", "head_size", "vocab_size",
    "context_length", "tie_word_embeddings", "embedding_bits",
]  # fmt: skip
Prompts = Annotated[
    tuple[Annotated[Prompt, AfterValidator(_checked_prompt)], ...],
    _rule(len, "Add at least one.", "holds no prompt"),
    unique(lambda prompts: (prompt.id for prompt in prompts)),
]


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

    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

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

    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    schema: Schema
    version: str
    sets: Annotated[
        dict[str, Prompts], unique(lambda sets: (prompt.id for prompts in sets.values() for prompt in prompts))
    ]


@dataclass(frozen=True, slots=True)
class _OwnPrompts:
    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    prompts: Prompts


@dataclass(frozen=True, slots=True)
class PracticeVariant:
    """One build of a practice model; its folder is relative to that of `index.json`, `files` are name → SHA-256."""

    name: Name
    version: Name
    device: Device
    execution_provider: str
    precision: str
    folder: InsidePath
    size_bytes: Count
    files: dict[InsidePath, Sha256]

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

    alias: Name
    display_name: str
    parameters: Count
    context_tokens: Count
    max_output_tokens: Count
    variants: tuple[PracticeVariant, ...]


@dataclass(frozen=True, slots=True)
class PracticeIndex:
    """`data/practice_models/index.json`: the models shipped with the workshop."""

    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    schema: Schema
    publisher: Name
    licence: str
    models: Annotated[
        tuple[PracticeModel, ...],
        unique(lambda models: (model.alias for model in models)),
        unique(lambda models: (variant.model_id for model in models for variant in model.variants)),
    ]


def read_models(path: Path | str | None = None) -> dict[str, ModelCard]:
    """Read `models.json` (or `path`): alias → card. Raises `DataFileError`."""
    return read_as(dict[Name, ModelCard], Path(path or MODELS_FILE))


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
    entries = _entries(file)
    if entries is not None:
        named = [_named(number, entry) for number, entry in enumerate(entries, 1)]
        return checked_as(_OwnPrompts, {"prompts": named}, file).prompts
    sets = read_prompt_file(file).sets
    if set_name not in sets:
        raise fault(file, "sets", f"has no set '{set_name}'", f"Use {' or '.join(sets)}.")
    origin = set_name if file == PROMPTS_FILE else ""
    return tuple(replace(prompt, set_name=origin) for prompt in sets[set_name])


def set_of(prompts: Iterable[Prompt]) -> str | None:
    """Return the shipped set that holds all these prompts as they are, None where none does. Raises `DataFileError`."""
    mine = tuple(prompts)
    return next((name for name, shipped in read_prompt_file().sets.items() if set(shipped).issuperset(mine)), None)


def has_sets(path: Path) -> bool:
    """Whether a file of prompts holds sets, and not one list. Raises `DataFileError`."""
    return _entries(path) is None


def _entries(file: Path) -> list[object] | None:
    """The prompts in a file of one's own; None where it has sets of them."""
    text = read_text(file)
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if file.suffix.lower() == ".txt":
        return [line.strip() for _, line in lines if not line.lstrip().startswith("#")]
    if file.suffix.lower() in (".jsonl", ".ndjson") or (len(lines) > 1 and _is_json(lines[0][1])):
        return [parse(file, "\n" * (number - 1) + line) for number, line in lines]
    content = parse(file, text)
    return content if isinstance(content, list) else None


def _is_json(line: str) -> bool:
    """Whether a line is JSON on its own: then the file holds one prompt per line."""
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _named(number: int, entry: object) -> object:
    if isinstance(entry, str):
        entry = {"text": entry}
    if not isinstance(entry, dict):
        return entry
    named = {"text" if key == "prompt" and "text" not in entry else key: value for key, value in entry.items()}
    return {"id": f"prompt-{number}", **named, "set_name": ""}


def read_as(kind: type[T], file: Path) -> T:
    """Read a file as a dataclass, `dict[...]` or `list[...]`. Raises `DataFileError`."""
    return checked_as(kind, read_untyped(file), file)


def read_untyped(file: Path) -> object:
    """Read a file as whatever JSON it holds. Raises `DataFileError`."""
    return parse(file, read_text(file))


def checked_as(kind: type[T], content: object, file: Path, place: str = "") -> T:
    """Turn parsed JSON, which stands at a place of a file, into a dataclass or the like. Raises `DataFileError`."""
    try:
        return TypeAdapter(kind).validate_json(json.dumps(content), strict=True)
    except ValidationError as error:
        raise _first_fault(file, place, error) from None


def fault(file: Path, key: str, what: str, fix: str) -> DataFileError:
    """Make the error for one key; an empty key stands for the whole file."""
    place = f"{file}: '{key}'" if key else str(file)
    return DataFileError(f"{place} {what}.", fix)


def read_text(file: Path) -> str:
    """Read a file of text in any Unicode encoding. Raises `DataFileError`."""
    try:
        return files.decoded(file.read_bytes())
    except FileNotFoundError:
        shipped = file.absolute().is_relative_to(places.DATA)
        what, fix = "is missing", "'git checkout -- data' brings it back." if shipped else "Check the path."
    except UnicodeDecodeError as error:
        what, fix = f"is not UTF-8 text at byte {error.start}", "Save it with the encoding UTF-8."
    except (OSError, ValueError) as error:
        what, fix = f"cannot be read ({error})", "Check that it is a file you may read."
    raise fault(file, "", what, fix)


def parse(file: Path, text: str) -> object:
    """Parse JSON, refusing a key given twice: Python would keep the last one silently. Raises `DataFileError`."""

    def without_twins(pairs: list[tuple[str, object]]) -> dict[str, object]:
        if twice := _first_repeated(key for key, _ in pairs):
            raise fault(file, "a JSON object", f"holds '{twice}' twice", _TWICE_FIX)
        return dict(pairs)

    try:
        parsed: object = json.loads(text, object_pairs_hook=without_twins)
    except json.JSONDecodeError as error:
        why = error.msg if text.strip() else "the file is empty"
        what = f"is not JSON at line {error.lineno}, column {error.colno} ({why})"
        comment = re.match(r"#|//|/\*", text[error.pos :])
        fix = "JSON has no comments: remove it." if comment else "Correct the syntax there."
    except RecursionError:
        what, fix = "is nested too deeply", "Use the documented format."
    except ValueError as error:  # a number of thousands of digits
        what, fix = f"is no JSON that Python reads ({error})", "Correct the number."
    else:
        return parsed
    raise fault(file, "", what, fix)


ADVICE = {
    "int_parsing": "Give a whole number.",
    "int_from_float": "Give a whole number.",
    "float_parsing": "Give a number.",
    "bool_parsing": "Give 1 or 0.",
    "json_invalid": 'Give a JSON object such as {"top_p": 0.9}.',
    "dict_type": 'Give a JSON object such as {"top_p": 0.9}.',
}
"""What to do about kinds of pydantic's errors whose own words speak of types and parsing."""


def advice(found: Mapping[str, Any]) -> str:
    """What is allowed instead of the value that pydantic refused, as one sentence."""
    said = found["msg"].removeprefix("Value error, ").replace("Input should be", "It should be")
    return ADVICE.get(str(found["type"]), str(said).rstrip(".") + ".")


def _first_fault(file: Path, place: str, error: ValidationError) -> DataFileError:
    """The one translation of pydantic's errors: the first fault, and how many more there are."""
    faults = error.errors(include_url=False)
    unknown = [each for each in faults if each["type"] == "unexpected_keyword_argument"]
    first = (unknown or faults)[0]  # a misspelt key is also a missing one: say the spelling
    raised = first.get("ctx", {}).get("error")
    checked = raised if isinstance(raised, _WrongError) else _WrongError("")
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"] if part != "[key]")
    key = f"{place}{''.join(parts)}{checked.key}".lstrip(".")
    seen = repr(first["input"])
    what, fix = checked.what or f"is {seen if len(seen) <= 60 else f'{seen[:57]}...'}", advice(first)
    if unknown:
        what, fix = "is an unknown key", "Remove it or correct its spelling."
    elif first["type"].startswith("missing"):
        what, fix = "is missing", "Add it."
    more = f" ({len(faults) - 1} more after this one.)" if len(faults) > 1 else ""
    return fault(file, key, what, f"{fix}{more}")
