"""From a model on Hugging Face to a candidate in this workshop, in nine steps: yours to write.

Replace each `raise TodoError(...)` by a few lines. `python check.py starter` says after every step what came, what was
expected, and what to write next; `python walk.py starter` takes the steps when they are all there.
"""

# ruff: noqa: ARG001, F401 - the steps to come use what is imported and given

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import cards
from facts import BITS, PROJECT, Limits, Shape, TodoError

import workshop_lib as ws

if TYPE_CHECKING:
    from pathlib import Path

    from cards import ModelCard

    from workshop_lib.models.folder import ModelFolder
    from workshop_lib.models.registry import RegisteredModel


def read_card(snapshot: Path) -> ModelCard:
    """What the model card states: licence, languages, base models."""
    raise TodoError("read_card", "`return cards.read_card(snapshot)`")


def read_shape(snapshot: Path) -> Shape:
    """The network's shape, from `config.json`.

    Older files leave out `num_key_value_heads` (then each head has its own), most leave out `head_dim`, and a missing
    `tie_word_embeddings` means apart.
    """
    raise TodoError(
        "read_shape",
        '`config = json.loads((snapshot / "config.json").read_text(encoding="utf-8"))`, then a `Shape(...)` of it',
    )


def count_parameters(shape: Shape) -> int:
    """How many weights the network has.

    Llama, Mistral and Qwen2 are built alike; only Qwen2 has biases, one each for query, key and value.
    """
    raise TodoError(
        "count_parameters",
        "`kv_size = shape.kv_heads * shape.head_size`, the same for queries, then what a layer holds",
    )


def estimate_mb(shape: Shape, precision: str) -> tuple[float, float]:
    """Size of the weights in 10^6 bytes: at least, and with the embeddings kept once more in full precision.

    Where both ends of the network share them, one rounded copy is enough; else the builder adds them in 32 bits.
    """
    raise TodoError(
        "estimate_mb",
        "`least = count_parameters(shape) * BITS[precision] / 8`, then the embeddings, then both in 10^6 bytes",
    )


def objections(card: ModelCard, shape: Shape, size_mb: float, limits: Limits) -> list[str]:
    """Why the candidate is out, one reason each; none = it may stay."""
    raise TodoError(
        "objections", '`found = []`, then one `if` and one reason each for "licence", "languages", "context" and "size"'
    )


def builder_command(snapshot: Path, output: Path, *, precision: str = "int4", provider: str = "cpu") -> list[str]:
    """The command that converts the download; it needs the extra packages that the README names."""
    raise TodoError(
        "builder_command",
        '`builder = [sys.executable, "-m", "onnxruntime_genai.models.builder"]`, then -i, -o, -c, -p and -e',
    )


def examine_converted(folder: Path) -> ModelFolder:
    """What the converted folder is; the runtime loads it once."""
    raise TodoError("examine_converted", "`return ws.try_folder(folder)`")


def register_converted(
    folder: Path, *, alias: str, licence: str | None, cache_dir: Path | None = None
) -> RegisteredModel:
    """Let the converted folder take its place beside the models of the catalog."""
    raise TodoError(
        "register_converted",
        "`return ws.register(alias, folder, licence=licence, cache_dir=cache_dir)`",
    )


def benchmark_command(alias: str) -> list[str]:
    """The command that measures the candidate, as any other model."""
    raise TodoError(
        "benchmark_command",
        '`script = PROJECT / "samples" / "session03" / "benchmark_oss_models.py"`, then a list with "--models"',
    )
