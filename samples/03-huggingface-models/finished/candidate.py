"""From a model on Hugging Face to a candidate in this workshop, in nine steps: the finished form.

`python check.py finished` checks each step, `python walk.py finished` takes them.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import cards
from facts import BITS, PROJECT, Limits, Shape

import workshop_lib as ws

if TYPE_CHECKING:
    from pathlib import Path

    from cards import ModelCard

    from workshop_lib.models.folder import ModelFolder
    from workshop_lib.models.registry import RegisteredModel


def read_card(snapshot: Path) -> ModelCard:
    """What the model card states: licence, languages, base models."""
    return cards.read_card(snapshot)


def read_shape(snapshot: Path) -> Shape:
    """The network's shape, from `config.json`.

    Older files leave out `num_key_value_heads` (then each head has its own), most leave out `head_dim`, and a missing
    `tie_word_embeddings` means apart.
    """
    config = json.loads((snapshot / "config.json").read_text(encoding="utf-8"))
    return Shape(
        architecture=config["architectures"][0],
        vocabulary=config["vocab_size"],
        hidden=config["hidden_size"],
        feed_forward=config["intermediate_size"],
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        kv_heads=config.get("num_key_value_heads", config["num_attention_heads"]),
        head_size=config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"],
        context_tokens=config["max_position_embeddings"],
        is_tied=config.get("tie_word_embeddings", False),
    )


def count_parameters(shape: Shape) -> int:
    """How many weights the network has.

    Llama, Mistral and Qwen2 are built alike; only Qwen2 has biases, one each for query, key and value.
    """
    query_size, kv_size = shape.heads * shape.head_size, shape.kv_heads * shape.head_size
    attention = 2 * shape.hidden * (query_size + kv_size)
    biases = query_size + 2 * kv_size if shape.architecture.startswith("Qwen2") else 0
    feed_forward = 3 * shape.hidden * shape.feed_forward
    layer = attention + biases + feed_forward + 2 * shape.hidden
    embeddings = shape.vocabulary * shape.hidden * (1 if shape.is_tied else 2)
    return embeddings + shape.layers * layer + shape.hidden


def estimate_mb(shape: Shape, precision: str) -> tuple[float, float]:
    """Size of the weights in 10^6 bytes: at least, and with the embeddings kept once more in full precision.

    Where both ends of the network share them, one rounded copy is enough; else the builder adds them in 32 bits.
    """
    least = count_parameters(shape) * BITS[precision] / 8
    embeddings = shape.vocabulary * shape.hidden * BITS["fp32"] / 8
    return least / 1e6, (least + embeddings) / 1e6


def objections(card: ModelCard, shape: Shape, size_mb: float, limits: Limits) -> list[str]:
    """Why the candidate is out, one reason each; none = it may stay."""
    found = []
    if (card.licence or "unknown").lower() not in limits.licences:
        found.append(f"licence: {card.licence or 'unknown'}, allowed are {', '.join(limits.licences)}")
    if not set(limits.languages) <= set(card.languages):
        found.append(f"languages: {', '.join(card.languages) or 'unknown'}, needed are {', '.join(limits.languages)}")
    if shape.context_tokens < limits.min_context_tokens:
        found.append(f"context: {shape.context_tokens} tokens, needed are {limits.min_context_tokens}")
    if size_mb > limits.max_size_mb:
        found.append(f"size: {size_mb:.2f} MB, allowed are {limits.max_size_mb:.2f}")
    return found


def builder_command(snapshot: Path, output: Path, *, precision: str = "int4", provider: str = "cpu") -> list[str]:
    """The command that converts the download; it needs the extra packages that the README names."""
    builder = [sys.executable, "-m", "onnxruntime_genai.models.builder"]
    places = ["-i", str(snapshot), "-o", str(output), "-c", str(output.with_name(f"{output.name}-cache"))]
    return [*builder, *places, "-p", precision, "-e", provider]


def examine_converted(folder: Path) -> ModelFolder:
    """What the converted folder is; the runtime loads it once."""
    return ws.try_folder(folder)


def register_converted(
    folder: Path, *, alias: str, licence: str | None, cache_dir: Path | None = None
) -> RegisteredModel:
    """Let the converted folder take its place beside the models of the catalog."""
    return ws.register(alias, folder, licence=licence, cache_dir=cache_dir)


def benchmark_command(alias: str) -> list[str]:
    """The command that measures the candidate, as any other model."""
    script = PROJECT / "samples" / "session03" / "benchmark_oss_models.py"
    return [sys.executable, str(script), "--models", alias]
