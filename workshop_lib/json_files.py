"""Reading a JSON file into frozen dataclasses, and refusing what does not belong in it.

Every fault is a `DataFileError` that names the file, the key, the value seen and the fix. pydantic
is loaded by the first read, not by the import. Knows nothing of what the files mean.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from workshop_lib import files, places
from workshop_lib.errors import DataFileError

if TYPE_CHECKING:
    from pydantic import ValidationError

T = TypeVar("T")

STRICT: dict[str, object] = {"extra": "forbid", "strict": True, "allow_inf_nan": False}
"""`__pydantic_config__` of a file's outermost dataclass; those inside it inherit it."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def read_as(kind: type[T], file: Path) -> T:
    """Read a file as a dataclass, `dict[...]` or `list[...]`. Raises `DataFileError`."""
    return checked_as(kind, read_untyped(file), file)


def read_untyped(file: Path) -> object:
    """Read a file as whatever JSON it holds. Raises `DataFileError`."""
    return parse(file, read_text(file))


def checked_as(kind: type[T], content: object, file: Path, place: str = "") -> T:
    """Turn parsed JSON, which stands at a place of a file, into a dataclass or the like. Raises `DataFileError`."""
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_json(json.dumps(content), strict=True)
    except ValidationError as error:
        raise _first_fault(file, place, error) from None


def fault(file: Path, key: str, what: str, fix: str) -> DataFileError:
    """Make the error for one key; an empty key stands for the whole file."""
    place = f"{file}: '{key}'" if key else str(file)
    return DataFileError(f"{place} {what}.", fix)


def check_name(file: Path, key: str, name: str) -> None:
    """Refuse a name that is not safe as one part of a path on every operating system."""
    if not _NAME.fullmatch(name):
        fix = "Begin with a letter or digit, then use letters, digits, '.', '_' and '-'."
        raise fault(file, key, f"is {name!r}", fix)


def check_inside(file: Path, key: str, name: str) -> None:
    """Refuse a relative name that is empty, absolute, or leaves its folder on any system."""
    if not all(_NAME.fullmatch(part) for part in name.split("/")):
        fix = "Use a relative name inside the folder, with '/' between parts."
        raise fault(file, key, f"is {name!r}", fix)


def check_unique(file: Path, key: str, names: Iterable[str]) -> None:
    """Refuse a name given twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise fault(file, key, f"holds '{name}' twice", "Rename or remove one of them.")
        seen.add(name)


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

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        check_unique(file, "a JSON object", (key for key, _ in pairs))
        return dict(pairs)

    try:
        parsed: object = json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        why = error.msg if text.strip() else "the file is empty"
        place = f"is not JSON at line {error.lineno}, column {error.colno} ({why})"
        comment = re.match(r"#|//|/\*", text[error.pos :])
        fix = "JSON has no comments: remove it." if comment else "Correct the syntax there."
        raise fault(file, "", place, fix) from None
    except RecursionError:
        raise fault(file, "", "is nested too deeply", "Use the documented format.") from None
    except ValueError as error:  # a number of thousands of digits
        raise fault(file, "", f"is no JSON that Python reads ({error})", "Correct the number.") from None
    return parsed


def _first_fault(file: Path, place: str, error: ValidationError) -> DataFileError:
    faults = error.errors(include_url=False)
    unknown = [each for each in faults if each["type"] == "unexpected_keyword_argument"]
    first = (unknown or faults)[0]  # a misspelt key is also a missing one: say the spelling
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
    key = f"{place}{''.join(parts)}".lstrip(".")
    more = f" ({len(faults) - 1} more after this one.)" if len(faults) > 1 else ""
    if unknown:
        return fault(file, key, "is an unknown key", f"Remove it or correct its spelling.{more}")
    if first["type"].startswith("missing"):
        return fault(file, key, "is missing", f"Add it.{more}")
    seen = repr(first["input"])
    seen = seen if len(seen) <= 60 else f"{seen[:57]}..."
    allowed = first["msg"].replace("Input should be", "It should be")
    return fault(file, key, f"is {seen}", f"{allowed}.{more}")
