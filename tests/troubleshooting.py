"""`docs/TROUBLESHOOTING.md` as values: what a person sees, per entry, and how a test compares with it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.markdown import PROJECT, Document, anchor, read
from workshop_lib.errors import WorkshopError

DOCUMENT = PROJECT / "docs" / "TROUBLESHOOTING.md"


@dataclass(frozen=True, slots=True)
class Entry:
    """One fault: its key is the anchor of its heading, its symptoms the messages in its first block."""

    key: str
    symptoms: tuple[str, ...]
    section: Document


def read_entries() -> dict[str, Entry]:
    """Every entry by its key. A blank line stands between two messages; a message may be wrapped."""
    entries = {}
    for title, section in read(DOCUMENT).sections(3).items():
        shown = section.fences[0].text if section.fences and section.fences[0].language == "text" else ""
        symptoms = tuple(" ".join(each.split()) for each in re.split(r"\n\s*\n", shown) if each.strip())
        entries[anchor(title)] = Entry(anchor(title), symptoms, section)
    return entries


ENTRIES = read_entries()


def expect(key: str, *messages: str) -> None:
    """The entry shows exactly these messages, in this order; `…` in the document stands for any text, even none."""
    symptoms = ENTRIES[key].symptoms
    assert len(symptoms) == len(messages), f"{key}: {len(symptoms)} messages in the document, {len(messages)} produced"
    for symptom, message in zip(symptoms, messages, strict=True):
        pattern = ".*".join(re.escape(part) for part in symptom.split("…"))
        assert re.fullmatch(pattern, " ".join(message.split())), (
            f"{key}:\n  {symptom}\nin the document, but\n  {message}"
        )


def shown(error: WorkshopError) -> str:
    """The line that a notebook shows for an error, and a command too."""
    (line,) = error._render_traceback_()
    return line
