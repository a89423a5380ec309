"""Prompt sets of one's own: their hash, and a checked way to write them to a file beside the shipped one.

    prompts = [Prompt("greeting", "Write a greeting.", aspects=("hello|hi", "name*"))]
    add_prompt_set("my_prompts.json", "mine", prompts, version="2027-01")
    catalog.read_prompts("my_prompts.json", "mine")

Scores carry the version, so that a set whose aspects changed needs a new one. Knows the format of `data/prompts.json`.
Knows no scores.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

from workshop_lib import data, files
from workshop_lib.data import check_name, check_unique, fault
from workshop_lib.records import Prompt


def prompt_set_hash(prompts: Iterable[Prompt]) -> str:
    """SHA-256 of a prompt set in hexadecimal: every field counts, the order of the prompts does not.

    >>> one, other = Prompt("a", "A?"), Prompt("b", "B?")
    >>> prompt_set_hash([one, other]) == prompt_set_hash([other, one])
    True
    """
    plain = sorted((asdict(prompt) for prompt in prompts), key=lambda prompt: str(prompt["id"]))
    return sha256(json.dumps(plain, sort_keys=True).encode("ascii")).hexdigest()


def add_prompt_set(file: Path | str, name: str, prompts: Iterable[Prompt], *, version: str) -> None:
    """Write a set to a prompt file of one's own, which is made where there is none.

    Args:
        file: e.g. `my_prompts.json`; the shipped file is edited by hand.
        name: of the set; one that the file has already is refused.
        prompts: at least one, with ids that no other set of the file uses.
        version: of the whole file from now on.

    Raises:
        DataFileError: the file, the key and the fix, of what cannot be read or accepted; nothing is changed.
        ConfigurationError: the file cannot be written; nothing is changed.
    """
    file, added = Path(file), tuple(prompts)
    if file.resolve() == data.PROMPTS_FILE:
        raise fault(file, "", "is the shipped prompt file", "Write your prompts to a file of your own.")
    if not file.parent.is_dir():
        raise fault(file, "", "is in a folder that does not exist", "Make the folder first, or correct the path.")
    before = data.read_prompt_file(file).sets if file.exists() else {}
    check_name(file, "sets", name)
    if name in before:
        raise fault(file, f"sets.{name}", "exists already", "Choose another name for the new set.")
    if not version.strip():
        raise fault(file, "version", "is empty", "Name it, for example by year and month.")
    sets = {**before, name: added}
    check_unique(file, "sets", (prompt.id for each in sets.values() for prompt in each))
    content = {"schema": data.SCHEMA, "version": version, "sets": _plain(sets)}
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    files.write_atomically(file, text, check=data.read_prompt_file)


def _plain(sets: dict[str, tuple[Prompt, ...]]) -> dict[str, list[dict[str, object]]]:
    """As JSON, without the fields that hold nothing."""
    return {
        name: [{field: value for field, value in asdict(prompt).items() if value} for prompt in prompts]
        for name, prompts in sets.items()
    }
