"""Tiny GGUF files written on the spot, and what such a model computes, in numpy and in GGUF's own terms."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter
from gguf.quants import dequantize, quantize

REPOSITORY = Path(__file__).resolve().parents[1]
K = GGMLQuantizationType
HEADS, KV_HEADS, HEAD_SIZE, HIDDEN, FEED_FORWARD, LAYERS, CONTEXT = 4, 2, 64, 256, 256, 2, 64
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_tokens() -> list[str]:
    """GPT-2's letters for the 256 bytes."""
    seen = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in seen]
    return [chr(byte) for byte in seen] + [chr(256 + at) for at in range(len(others))]


TOKENS = [*byte_tokens(), "he", "<|im_start|>", "<|im_end|>"]
IDS = [72, 5, 200, 33, 33, 258, 91, 7, 0, 120, 64]
CASES: list[dict[str, Any]] = [
    {"kind": "llama", "tied": True, "quantisation": K.Q4_1},
    {"kind": "llama", "tied": False, "quantisation": K.Q4_0},
    {"kind": "llama", "tied": True, "quantisation": K.Q8_0},
    {"kind": "llama", "tied": True, "quantisation": K.Q4_K, "mixed": K.Q6_K},
    {"kind": "llama", "tied": False, "quantisation": K.Q6_K, "mixed": K.F16},
    {"kind": "llama", "tied": True, "quantisation": K.Q4_0, "biases": True},
    {"kind": "qwen2", "tied": True, "quantisation": K.Q4_0, "biases": True},
    {"kind": "qwen2", "tied": False, "quantisation": K.Q4_1, "biases": True, "mixed": K.Q8_0},
    {"kind": "qwen2", "tied": True, "quantisation": K.Q8_0, "biases": True},
    {"kind": "qwen2", "tied": False, "quantisation": K.Q4_K, "biases": True, "mixed": K.Q4_1},
    {"kind": "qwen2", "tied": True, "quantisation": K.Q6_K, "biases": True, "mixed": K.Q4_K},
]
"""Both architectures in each type whose codes are kept, tied and not, with biases and without, mixed and not."""


def name_of(case: dict[str, Any]) -> str:
    """E.g. `llama-True-Q4_1`."""
    return "-".join(getattr(value, "name", str(value)) for value in case.values())


def tiny_gguf(
    path: Path,
    kind: str = "llama",
    quantisation: K = K.F32,
    *,
    tied: bool = True,
    biases: bool = False,
    changes: dict[str, Any] | None = None,
    extra: dict[str, np.ndarray] | None = None,
    mixed: K | None = None,
) -> dict[str, np.ndarray]:
    """Write a model with random weights; returns its tensors as the file means them.

    Args:
        path: of the file.
        kind: its architecture.
        quantisation: of the matrices.
        tied: no output layer of its own.
        biases: of queries, keys and values.
        changes: keys of the metadata with other values; None = left out.
        extra: more tensors, in float32.
        mixed: another type for the values' matrix.
    """
    random = np.random.default_rng(7)
    writer = GGUFWriter(path, kind)
    adders = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
    for key, value in {**metadata(kind), **(changes or {})}.items():
        if value is not None:
            adders.get(type(value), writer.add_array)(key, value)
    found: dict[str, np.ndarray] = {}
    for name, shape in shapes(tied=tied, biases=biases).items():
        is_matrix, is_norm = len(shape) == 2, "norm" in name
        of_kind = mixed if mixed and "attn_v.w" in name else quantisation
        spread = 1.0 if name.startswith("token") else 0.06 if is_matrix else 0.2
        values = (random.normal(size=shape) * spread + is_norm).astype(np.float32)
        as_kind = of_kind if is_matrix else K.F32
        raw = packed(values, as_kind, random)
        writer.add_tensor(name, raw, raw_dtype=as_kind)
        found[name] = dequantize(raw, as_kind)
    for name, values in (extra or {}).items():
        writer.add_tensor(name, values)
        found[name] = values
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return found


def metadata(kind: str) -> dict[str, Any]:
    """The keys of such a file."""
    return {
        "general.name": "Tiny",
        "general.license": "mit",
        f"{kind}.block_count": LAYERS,
        f"{kind}.context_length": CONTEXT,
        f"{kind}.embedding_length": HIDDEN,
        f"{kind}.feed_forward_length": FEED_FORWARD,
        f"{kind}.attention.head_count": HEADS,
        f"{kind}.attention.head_count_kv": KV_HEADS,
        f"{kind}.attention.layer_norm_rms_epsilon": 1e-5,
        f"{kind}.rope.freq_base": 10000.0,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": TOKENS,
        "tokenizer.ggml.token_type": [1] * 257 + [3, 3],
        "tokenizer.ggml.merges": ["h e"],
        "tokenizer.ggml.eos_token_id": 258,
        "tokenizer.chat_template": TEMPLATE,
    }


def shapes(*, tied: bool, biases: bool) -> dict[str, tuple[int, ...]]:
    """The tensors of such a file."""
    found: dict[str, tuple[int, ...]] = {"token_embd.weight": (len(TOKENS), HIDDEN)}
    rows = {"q": HEADS * HEAD_SIZE, "k": KV_HEADS * HEAD_SIZE, "v": KV_HEADS * HEAD_SIZE}
    for place in (f"blk.{layer}" for layer in range(LAYERS)):
        for part, count in rows.items():
            found[f"{place}.attn_{part}.weight"] = (count, HIDDEN)
            if biases:
                found[f"{place}.attn_{part}.bias"] = (count,)
        found[f"{place}.attn_output.weight"] = (HIDDEN, rows["q"])
        found |= {f"{place}.ffn_{part}.weight": (FEED_FORWARD, HIDDEN) for part in ("gate", "up", "down")}
        found |= {f"{place}.{part}_norm.weight": (HIDDEN,) for part in ("attn", "ffn")}
    found["output_norm.weight"] = (HIDDEN,)
    return found if tied else {**found, "output.weight": (len(TOKENS), HIDDEN)}


def packed(values: np.ndarray, kind: K, random: np.random.Generator) -> np.ndarray:
    """Values in a type of GGUF; `gguf` does not quantise to Q4_K and Q6_K, so these get random codes."""
    if kind not in {K.Q4_K, K.Q6_K}:
        return quantize(values, kind)
    block, size = GGML_QUANT_SIZES[kind]
    raw = random.integers(0, 256, (len(values), values.shape[1] // block, size), dtype=np.uint8)
    halves = {K.Q4_K: ((0, 1 / 4096), (2, 1 / 512)), K.Q6_K: ((208, 1 / 16384),)}[kind]
    for at, scale in halves:
        raw[..., at : at + 2] = np.float16(values.std() * 8 * scale).reshape(1).view(np.uint8)
    return raw.reshape(len(values), -1)


@dataclass(frozen=True)
class Reference:
    """A model of the Llama family in float64, from the tensors of a GGUF file as they lie there."""

    tensors: dict[str, np.ndarray]
    kind: str
    rope_factor: float = 1.0

    def logits(self, ids: list[int]) -> np.ndarray:
        """Of the token after the last."""
        x = self.tensors["token_embd.weight"][ids].astype(np.float64)
        for layer in range(LAYERS):
            place = f"blk.{layer}"
            x = x + self._attention(self._norm(x, f"{place}.attn_norm"), place)
            y = self._norm(x, f"{place}.ffn_norm")
            gate = self._times(y, f"{place}.ffn_gate")
            x = x + self._times(gate / (1 + np.exp(-gate)) * self._times(y, f"{place}.ffn_up"), f"{place}.ffn_down")
        output = self.tensors.get("output.weight", self.tensors["token_embd.weight"])
        return self._norm(x, "output_norm")[-1] @ output.T.astype(np.float64)

    def _norm(self, x: np.ndarray, name: str) -> np.ndarray:
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * self.tensors[f"{name}.weight"]

    def _times(self, x: np.ndarray, name: str) -> np.ndarray:
        return x @ self.tensors[f"{name}.weight"].T.astype(np.float64) + self.tensors.get(f"{name}.bias", 0)

    def _attention(self, x: np.ndarray, place: str) -> np.ndarray:
        query, key, value = (
            self._times(x, f"{place}.attn_{part}").reshape(len(x), -1, HEAD_SIZE).swapaxes(0, 1) for part in "qkv"
        )
        query, key = self._rotated(query), self._rotated(key)
        mixed = []
        for head in range(HEADS):
            shared = head // (HEADS // KV_HEADS)
            scores = query[head] @ key[shared].T / np.sqrt(HEAD_SIZE)
            scores[np.triu_indices(len(x), 1)] = -np.inf
            chances = np.exp(scores - scores.max(-1, keepdims=True))
            mixed.append(chances / chances.sum(-1, keepdims=True) @ value[shared])
        return self._times(np.concatenate(mixed, -1), f"{place}.attn_output")

    def _rotated(self, x: np.ndarray) -> np.ndarray:
        """Llama's files pair neighbours, Qwen2's the two halves of a head."""
        frequencies = 10000.0 ** (-np.arange(0, HEAD_SIZE, 2) / HEAD_SIZE) / self.tensors.get("rope_freqs.weight", 1)
        angles = np.outer(np.arange(x.shape[1]) / self.rope_factor, frequencies)
        half = HEAD_SIZE // 2
        first, second = (x[..., ::2], x[..., 1::2]) if self.kind == "llama" else (x[..., :half], x[..., half:])
        turned = first * np.cos(angles) - second * np.sin(angles), second * np.cos(angles) + first * np.sin(angles)
        if self.kind == "llama":
            return np.stack(turned, -1).reshape(x.shape)
        return np.concatenate(turned, -1)
