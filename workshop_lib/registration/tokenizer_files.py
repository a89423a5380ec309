"""The tokenizer of a model folder: are its files there, and do they hold a chat template?

Knows what the runtime opens (`tokenizer.json`, `tokenizer_config.json`, `chat_template.jinja`) and that it is JSON;
knows no vocabulary.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

TOKENIZER, CONFIG, TEMPLATE = "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"
LONGEST_BYTES = 200_000_000
_COPY = "Copy it from the model that was converted; the builder puts it beside the model."


class Fault(Exception):  # noqa: N818 - a finding, not an error of ours
    """What was seen, and what to do."""

    def __init__(self, seen: str, to_do: str) -> None:
        super().__init__(seen, to_do)
        self.seen, self.to_do = seen, to_do


def find_tokenizer(folder: Path) -> str:
    """Say which tokenizer a folder has.

    Raises:
        Fault: a file is missing or no JSON.
    """
    vocabulary = _object(folder / TOKENIZER).get("model")
    if not isinstance(vocabulary, dict) or not vocabulary:
        raise Fault(f"{TOKENIZER} holds no 'model', so no vocabulary.", _COPY)
    kind = _object(folder / CONFIG).get("tokenizer_class")
    if not isinstance(kind, str) or not kind:
        raise Fault(f"{CONFIG} names no 'tokenizer_class', without which the runtime reads no chat template.", _COPY)
    return f"{kind[:60]}, {(folder / TOKENIZER).stat().st_size / 1e6:.2f} MB."


def find_chat_template(folder: Path) -> str:
    """Say where a folder's chat template is; without one the runtime cannot turn messages into a prompt.

    Raises:
        Fault: there is none.
    """
    file = folder / TEMPLATE
    if file.is_file():
        if file.stat().st_size == 0:
            raise Fault(f"{TEMPLATE} is empty.", _COPY)
        return f"{TEMPLATE}, {file.stat().st_size} bytes."
    if _object(folder / CONFIG).get("chat_template"):
        return f"In {CONFIG}."
    what = f"Neither {TEMPLATE} nor a 'chat_template' in {CONFIG} is there."
    raise Fault(
        what, "Take an instruction-tuned model (its name ends in -Instruct, -it or -chat), or add the template."
    )


def _object(file: Path) -> dict[str, Any]:
    """Whatever object a file holds; a key given twice, as some vocabularies have, is no fault here."""
    if not file.is_file():  # a pipe or a device would be read for ever
        raise Fault(f"{file.name} is {'no file' if file.exists() else 'missing'}.", _COPY)
    try:
        size = file.stat().st_size
        if size > LONGEST_BYTES:
            raise Fault(f"{file.name} has {size} bytes, which no tokenizer has.", _COPY)
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise Fault(f"{file.name} is no JSON ({error}).", _COPY) from None
    if not isinstance(content, dict):
        raise Fault(f"{file.name} is no JSON object.", _COPY)
    return content
