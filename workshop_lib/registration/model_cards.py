"""What a model folder says of itself for people: the model card's head and the licence.

Knows the head of a Hugging Face `README.md` and the first lines of a licence file. Judges nothing: what is not stated
stays None.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from workshop_lib.show.text import one_line

CARD_FILE = "README.md"
LONGEST_CARD_BYTES = 1_000_000
LONGEST_VALUE = 200
_LICENCE_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "LICENCE.txt", "LICENCE.md")
_KNOWN_LICENCES = (
    (r"Apache License\s+Version 2\.0", "apache-2.0"),
    (r"MIT License|Permission is hereby granted, free of charge", "mit"),
    (r"BSD 3-Clause License", "bsd-3-clause"),
    (r"GNU GENERAL PUBLIC LICENSE\s+Version 3", "gpl-3.0"),
)
_HEAD = re.compile(r"\A\ufeff?---[ \t]*\n(.*?)\n---[ \t]*(?:\n|\Z)", re.DOTALL)
_ENTRY = re.compile(r"([A-Za-z_][\w-]*):[ \t]*(.*)")
_ITEM = re.compile(r"[ \t]*-[ \t]+(.*)")


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a folder states.

    Attributes:
        licence: as written, usually an SPDX name in lower case; None where nothing states it.
        licence_from: the file that states it; None where none does.
        languages, base_models, tags: as written; empty where nothing states them.
    """

    licence: str | None = None
    licence_from: str | None = None
    languages: tuple[str, ...] = ()
    base_models: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


def read_card(folder: Path) -> ModelCard:
    """Read what a folder states; a file that is missing or unreadable states nothing.

    The head of `README.md` counts first (`license`, where that is `other` also `license_name`), then a licence file.
    """
    head = read_head(_text(folder / CARD_FILE))
    licence = _first(head, "license")
    if licence == "other":
        licence = _first(head, "license_name") or licence
    source = CARD_FILE if licence else None
    if licence is None:
        licence, source = _licence_file(folder)
    return ModelCard(
        licence=licence,
        licence_from=source,
        languages=head.get("language", ()),
        base_models=head.get("base_model", ()),
        tags=head.get("tags", ()),
    )


def read_head(text: str) -> dict[str, tuple[str, ...]]:
    r"""Read the lines between the two `---` at the top of a model card: name → values.

    Plain values and lists are read; what is nested more deeply is left out.

    >>> read_head("---\nlicense: mit\ntags:\n- chat\n- edge\n---\n# A model")
    {'license': ('mit',), 'tags': ('chat', 'edge')}
    """
    found = _HEAD.match(text.replace("\r\n", "\n"))
    values: dict[str, list[str]] = {}
    name = ""
    for line in found.group(1).split("\n") if found else []:
        entry, item = _ENTRY.fullmatch(line), _ITEM.fullmatch(line)
        if entry:
            name, written = entry.groups()
            values[name] = _listed(written)
        elif item and name:
            values[name] += _listed(item.group(1))
    return {name: tuple(found) for name, found in values.items() if found}


def _listed(written: str) -> list[str]:
    """The values of `[a, b]` or of one plain value, without quotes and comments, each fit to be shown."""
    plain = re.sub(r"(^|\s)#.*", "", written).strip()
    parts = plain[1:-1].split(",") if plain.startswith("[") and plain.endswith("]") else [plain]
    values = (one_line(part.strip().strip("'\""), LONGEST_VALUE) for part in parts)
    return [value for value in values if value]


def _first(head: dict[str, tuple[str, ...]], name: str) -> str | None:
    return head[name][0] if head.get(name) else None


def _licence_file(folder: Path) -> tuple[str | None, str | None]:
    for name in _LICENCE_FILES:
        text = _text(folder / name)[:2000]
        for pattern, licence in _KNOWN_LICENCES:
            if re.search(pattern, text, re.IGNORECASE):
                return licence, name
    return None, None


def _text(file: Path) -> str:
    try:
        if not file.is_file():  # a pipe would be waited for
            return ""
        with file.open("rb") as opened:
            return opened.read(LONGEST_CARD_BYTES).decode("utf-8", errors="replace")
    except OSError:
        return ""
