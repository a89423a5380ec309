"""What the model card of a download says: the lines between the two `---` at the top of its `README.md`.

Given; nothing here needs to be changed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a card states, as written; None or empty where it states nothing."""

    licence: str | None = None
    languages: tuple[str, ...] = ()
    base_models: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


def read_card(snapshot: Path) -> ModelCard:
    """Read the card of a download; a card that is missing states nothing."""
    file = snapshot / "README.md"
    head = read_head(file.read_text(encoding="utf-8", errors="replace") if file.is_file() else "")
    licence = head.get("license", ())
    if licence == ("other",):
        licence = head.get("license_name", licence)
    lists = (head.get(name, ()) for name in ("language", "base_model", "tags"))
    return ModelCard(licence[0] if licence else None, *lists)


def read_head(text: str) -> dict[str, tuple[str, ...]]:
    r"""Name → values; plain values and lists are read, what is nested more deeply is left out.

    >>> read_head("---\nlicense: mit\ntags:\n- chat\n- edge\n---\n# A model")
    {'license': ('mit',), 'tags': ('chat', 'edge')}
    """
    found = re.match(r"\ufeff?---[ \t]*\n(.*?)\n---[ \t]*(?:\n|\Z)", text.replace("\r\n", "\n"), re.DOTALL)
    values: dict[str, list[str]] = {}
    name = ""
    for line in found.group(1).split("\n") if found else ():
        if entry := re.fullmatch(r"([A-Za-z_][\w-]*):[ \t]*(.*)", line):
            name = entry.group(1)
            values[name] = _listed(entry.group(2))
        elif name and (item := re.fullmatch(r"[ \t]*-[ \t]+(.*)", line)):
            values[name] += _listed(item.group(1))
    return {name: tuple(found) for name, found in values.items() if found}


def _listed(written: str) -> list[str]:
    """The values of `[a, b]` or of one plain value, without quotes and comments."""
    plain = re.sub(r"(^|\s)#.*", "", written).strip()
    parts = plain[1:-1].split(",") if plain.startswith("[") and plain.endswith("]") else [plain]
    return [value for part in parts if (value := part.strip().strip("'\""))]
