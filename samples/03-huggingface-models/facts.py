"""What both forms of the project share: the values that pass between the steps, and how a step says it is not written.

Given; nothing here needs to be changed.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

try:
    import workshop_lib as ws
except ModuleNotFoundError as error:
    sys.exit(f"Python cannot find {error.name}. Run `python3 workshop.py run` once, then use the Python in .venv.")

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
SNAPSHOT = HERE / "snapshot"
CONVERTED = PROJECT / "data" / "practice_models" / "practice-medium-int4-generic-cpu"
OUTPUT = HERE / "converted"
ALIAS = "my-candidate"

BITS = {"int4": 5, "fp16": 16, "fp32": 32}
"""Bits per weight on disk. int4 keeps one 32-bit scale for every 32 weights, which is one more bit for each."""


class TodoError(ws.WorkshopError):
    """A step that is not written yet: which one, and the line to begin with."""

    def __init__(self, step: str, line: str) -> None:
        super().__init__(f"{step} is not written yet.", f"Write next: {line}")


@dataclass(frozen=True, slots=True)
class Shape:
    """The network as `config.json` describes it; sizes in numbers, the context in tokens."""

    architecture: str
    vocabulary: int
    hidden: int
    feed_forward: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    context_tokens: int
    is_tied: bool


@dataclass(frozen=True, slots=True)
class Limits:
    """What the product can live with."""

    max_size_mb: float = 2.0
    min_context_tokens: int = 1000
    licences: tuple[str, ...] = ("mit", "apache-2.0")
    languages: tuple[str, ...] = ("en",)
