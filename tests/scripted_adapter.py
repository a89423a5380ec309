"""Adapters of known behaviour: the first word of the last message says what to do with the rest of it.

Not a test: the tests register this file. Each is told to the tests by what it answers, as it runs in another process.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workshop_lib.models.adapter import Chat, CustomModelAdapter, Piece


class Scripted(CustomModelAdapter):
    """Streams scripted pieces, one token each; a token of a text is a word."""

    context_tokens = 60

    def load(self, weights_path: Path) -> None:
        content = weights_path.read_text(encoding="utf-8")
        if content.startswith("broken"):
            raise ValueError("these are\nno weights")
        self.ballast = bytearray(b"x") * int(content)
        self.beside = weights_path.parent
        self.log: list[str] = []

    def stream(self, prompt: str, **params: Any) -> Iterator[str]:
        name, _, rest = Chat(prompt).messages[-1].content.partition(" ")
        self.log.append(f"{name} begins")
        try:
            for text in self.pieces(name, rest, prompt, params):
                yield self.piece(text)
        finally:
            self.log.append(f"{name} ends")

    def piece(self, text: Any) -> Any:
        return Piece(text) if type(text) is str or isinstance(text, Chat) else text

    def pieces(self, name: str, rest: str, prompt: str, params: dict[str, Any]) -> Iterator[Any]:
        if name == "say":
            yield from rest.split("|")
        elif name == "echo":
            yield prompt
        elif name == "params":
            yield json.dumps(params)
        elif name == "log":
            yield json.dumps(self.log)
        elif name == "endless":
            while True:
                time.sleep(0.001)
                yield Piece("more ", 0)  # no limit of tokens ends it
        else:
            yield from self.faults(name, rest)

    def faults(self, name: str, rest: str) -> Iterator[Any]:
        if name == "raise":
            yield from rest.split("|") if rest else ()
            raise KeyError("no\nsuch key")
        if name == "exit":
            sys.exit("enough")
        if name == "crash":
            os._exit(3)
        if name == "bytes":
            yield b"bytes"
        if name == "print":
            sys.stdout.write("noise on standard output\n")
            os.write(1, b"native noise\n")
            sys.stdout.write('{"event": "ready"}\n')
            sys.stdout.flush()
            yield "printed"

    def count_tokens(self, text: str) -> int | None:
        return len(text.split())

    def close(self) -> None:
        (self.beside / "closed.txt").write_text("closed", encoding="utf-8")


class Uncounted(Scripted):
    """The same without any count."""

    def piece(self, text: Any) -> Any:
        return text

    def count_tokens(self, text: str) -> int | None:
        return None


class Numpy(Scripted):
    """Counts in numbers of another library: three tokens for a prompt, five for a piece."""

    def piece(self, text: Any) -> Any:
        import numpy as np

        return Piece(text, np.int32(5))  # type: ignore[arg-type]

    def count_tokens(self, text: str) -> Any:
        import numpy as np

        return np.int64(3)


class Whole(CustomModelAdapter):
    """Writes the least: no stream, but it counts words."""

    def load(self, weights_path: Path) -> None:
        self.weights = weights_path.read_text(encoding="utf-8")

    def generate(self, prompt: str, **params: Any) -> str:
        return f"You said: {prompt}"

    def count_tokens(self, text: str) -> int:
        return len(text.split())


class Silent(CustomModelAdapter):
    """Forgot to write an answer."""

    def load(self, weights_path: Path) -> None:
        """Nothing."""


class Unfinished(CustomModelAdapter):
    """Forgot to write `load`."""

    def generate(self, prompt: str, **params: Any) -> str:
        return ""


class Stranger:
    """No adapter at all."""


class Nowhere(Scripted):
    """Says that it runs on a device that there is not."""

    device = "cuda"
