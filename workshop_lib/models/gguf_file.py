"""A GGUF file, read and judged: what the import can reproduce as the file means it, and why it refuses the rest.

A key or a tensor that this import does not know is a reason to refuse: a model that lacks one of its parts still
answers, only worse, and nobody would see why. Tensors come as a precision keeps them, with the file's own codes where
it can, else rounded:

    weight = scale of its block * code + offset of its block

Q4_0 and Q8_0 say just that, Q4_1 with an offset; Q4_K and Q6_K once their nested scales are multiplied out: bit for bit
what `gguf`'s own dequantisation gives.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from gguf import GGML_QUANT_SIZES, GGUFReader
from gguf import GGMLQuantizationType as Kind
from gguf.quants import Q4_K, dequantize
from numpy.typing import NDArray

from workshop_lib.errors import DataFileError
from workshop_lib.show.text import one_line, without_home

Precision = Literal["exact4", "int8", "int4", "fp32"]

OFFICIAL_ROUTE = (
    "Convert the original model instead, downloaded from Hugging Face: python -m onnxruntime_genai.models.builder "
    "-i DOWNLOAD -o FOLDER -c CACHE -p int4 -e cpu, with the packages that samples/03-huggingface-models names."
)
_GIVE_GGUF = f"Give a GGUF file. Where there is none: {OFFICIAL_ROUTE}"
BLOCK = 32
"""Weights that share a scale where we round."""
ARCHITECTURES = ("llama", "qwen2")
"""Values of `general.architecture`; Mistral's models say `llama`."""

_USED = {
    "block_count", "context_length", "embedding_length", "feed_forward_length", "vocab_size",
    "attention.head_count", "attention.head_count_kv", "attention.key_length", "attention.value_length",
    "attention.layer_norm_rms_epsilon", "rope.freq_base", "rope.dimension_count", "rope.scaling.type",
    "rope.scaling.factor", "rope.scaling.original_context_length", "rope.scaling.finetuned",
}  # fmt: skip
_MEANINGS = {
    "expert_count": "is a mixture of experts",
    "attention.sliding_window": "attends to a sliding window",
    "attn_logit_softcapping": "caps its attention scores",
    "final_logit_softcapping": "caps its logits",
}
_FLOATS = {Kind.F32, Kind.F16, Kind.BF16}


@dataclass(frozen=True, slots=True)
class Architecture:
    """The sizes of a model of the Llama family: counts, the RMS norms' epsilon, the base of the rotary frequencies.

    Positions are divided by `rope_factor` (linear scaling; 1 = none).
    """

    kind: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    context_tokens: int
    norm_epsilon: float
    rope_base: float
    rope_factor: float


class GgufFile:
    """One file, opened and mapped into memory. Raises `DataFileError` for what cannot be imported.

    Attributes:
        path: where it lies.
        fields: the values of its metadata by key.
        shape: its architecture.
        counts: how many weights each tensor has, by name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with undamaged(path):
            with path.open("rb") as file:
                if file.read(4) != b"GGUF":
                    raise DataFileError(f"{without_home(str(path))} is no GGUF file.", _GIVE_GGUF)
            reader = _Bounded(path)
            self.fields = {name: field.contents() for name, field in reader.fields.items()}
            self._tensors = {tensor.name: tensor for tensor in reader.tensors}
            self._taken: set[str] = set()
            self.counts = {name: int(tensor.n_elements) for name, tensor in self._tensors.items()}
            kind = self.value("general.architecture")
            if kind not in ARCHITECTURES:
                raise self.refusal(f"has the architecture {kind!r}; this import knows {' and '.join(ARCHITECTURES)}")
            if self.value("split.count", 0) > 1:
                raise self.refusal(f"is one of {self.value('split.count')} parts of a model")
            for name, value in self.fields.items():
                key = name.removeprefix(f"{kind}.")
                if key not in {name, *_USED} and value:
                    raise self.refusal(_MEANINGS.get(key, f"sets {name}, which this import does not know"))
            self.shape = self._shape(kind)

    def value(self, key: str, default: Any = None) -> Any:
        """The value of a key of the metadata; without a default it has to be there."""
        if (found := self.fields.get(key, default)) is None:
            raise self.refusal(f"lacks the key {key}")
        return found

    def has(self, name: str) -> bool:
        """Whether there is such a tensor."""
        return name in self._tensors

    def kind(self, name: str) -> Kind:
        """The type of a tensor, which has to be there."""
        if name not in self._tensors:
            raise self.refusal(f"lacks the tensor {name}")
        return self._tensors[name].tensor_type

    def raw(self, name: str) -> NDArray[np.generic]:
        """A tensor's bytes or numbers, `[rows, …]`, its rows in the order in which the runtime rotates them.

        Files of the architecture `llama` hold the two halves of each head of queries and keys interleaved.
        """
        self.kind(name)
        self._taken.add(name)
        data: NDArray[np.generic] = self._tensors[name].data
        rotated = re.search(r"\.attn_([qk])\.", name)
        if rotated is None or self.shape.kind != "llama":
            return data
        heads, size = self.shape.heads if rotated[1] == "q" else self.shape.kv_heads, self.shape.head_size
        if len(data) != heads * size:
            raise self.refusal(f"has {len(data)} rows in {name}, which is not {heads} heads of {size}")
        return data[np.arange(heads * size).reshape(heads, size // 2, 2).swapaxes(1, 2).ravel()]

    def megabytes(self, precision: Precision) -> float:
        """An upper bound for the folder's weights, 10^6 bytes, scales included."""
        each = {"fp32": 4.0, "int4": 0.75}.get(precision, 1.25)
        wide = _FLOATS if precision == "exact4" else ()
        return sum(float(t.n_elements) * (4 if t.tensor_type in wide else each) for t in self._tensors.values()) / 1e6

    def refuse_unused(self) -> None:
        """Raise `DataFileError` where a tensor was never asked for: the model would lack a part."""
        if left := sorted(self._tensors.keys() - self._taken):
            raise self.refusal(f"holds {left[0]}, one of {len(left)} tensors that this import has no place for")

    def refusal(self, why: str) -> DataFileError:
        """The error for a file that cannot be imported, with the official route."""
        return DataFileError(f"{without_home(str(self.path))} {one_line(why, 300)}.", OFFICIAL_ROUTE)

    def _shape(self, kind: str) -> Architecture:
        def number(key: str, default: float | None = None) -> Any:
            found = self.value(f"{kind}.{key}", default)
            if isinstance(found, list):
                raise self.refusal(f"has a list as {kind}.{key}: its layers differ")
            return abs(found)  # a TypeError where it is a text

        heads, hidden = number("attention.head_count"), number("embedding_length")
        size = number("attention.key_length", hidden // heads)
        for key, what in (("attention.value_length", "values"), ("rope.dimension_count", "a rotary part")):
            if number(key, size) != size:
                raise self.refusal(f"has {what} of {number(key)} numbers a head, and keys of {size}")
        if (scaling := self.value(f"{kind}.rope.scaling.type", "none")) not in {"none", "linear"}:
            raise self.refusal(f"scales its positions by {scaling!r}")
        self.kind("token_embd.weight")
        columns, vocabulary = map(int, self._tensors["token_embd.weight"].shape)
        if columns != hidden:
            raise self.refusal(f"has embeddings of {columns} numbers, and states {hidden}")
        return Architecture(
            kind=kind,
            layers=number("block_count"),
            hidden=hidden,
            heads=heads,
            kv_heads=number("attention.head_count_kv", heads),
            head_size=size,
            vocabulary=vocabulary,
            context_tokens=number("context_length"),
            norm_epsilon=number("attention.layer_norm_rms_epsilon"),
            rope_base=number("rope.freq_base", 10000.0),
            rope_factor=number("rope.scaling.factor", 1.0) if scaling == "linear" else 1.0,
        )


class _Bounded(GGUFReader):
    """A reader that stops at the end of a file, where the original one would count on without end."""

    def _get(self, offset: int, dtype: Any, count: int = 1, override_order: Any = None) -> NDArray[Any]:
        with suppress(ValueError):  # of numpy, where it ends within a number
            found = super()._get(offset, dtype, count, override_order)
            if len(found) >= count:
                return found
        raise IndexError("it ends too early")


@contextmanager
def undamaged(path: Path) -> Iterator[None]:
    """Turn what reading a damaged file raises, or one that cannot be read, into a `DataFileError`."""
    named = without_home(str(path))
    try:
        yield
    except OSError as error:
        raise DataFileError(f"{named} cannot be read: {error.strerror or error}.", _GIVE_GGUF) from None
    except (ValueError, KeyError, IndexError, TypeError, OverflowError, ZeroDivisionError) as error:
        what = f"{named} is damaged or incomplete ({one_line(str(error), 120)})."
        raise DataFileError(what, "Download it again, and compare its size and its SHA-256.") from None


@dataclass(frozen=True, slots=True)
class Codes:
    """A quantised matrix of `[rows, columns]`.

    Attributes:
        codes: int8 `[rows, blocks, block]`; of 4 bits -8…7 without offsets, 0…15 with them.
        scales: float32 `[rows, blocks]`.
        offsets: float32 `[rows, blocks]`; None = 0.
        bits: 4 or 8.
    """

    codes: NDArray[np.int8]
    scales: NDArray[np.float32]
    offsets: NDArray[np.float32] | None
    bits: Literal[4, 8]


Weights = Codes | NDArray[np.float32]
"""A matrix as it goes into the folder: codes, or numbers `[rows, columns]`."""


def keep(raw: NDArray[np.generic], kind: Kind, precision: Precision) -> tuple[Weights, bool, str]:
    """Bring a matrix into a precision, with as little rounding as that allows; say whether it is exact, and how.

    Args:
        raw: `[rows, bytes]` of a quantised matrix, or `[rows, columns]` of numbers.
        kind: the file's type for it.
        precision: `exact4` and `fp32` keep each weight, where they know the type; `int8` and `int4` keep the codes that
            fit and round the rest.
    """
    if precision == "fp32" or (precision == "exact4" and kind in _FLOATS):
        return dequantize(raw, kind), True, "kept as float32"
    own = own_codes(raw, kind)
    if own is not None and precision == "exact4":
        return own, True, f"{own.bits}-bit codes kept"
    bits: Literal[4, 8] = 4 if precision == "int4" else 8
    if own is not None and own.offsets is None and own.bits <= bits:
        return replace(own, bits=bits), True, f"codes kept, in {bits} bits"
    values = dequantize(raw, kind)
    if values.shape[1] % BLOCK:
        return values, True, f"kept as float32: rows of {values.shape[1]} have no blocks of {BLOCK}"
    return rounded(values, bits), False, f"rounded to {bits} bits"


def rounded(values: NDArray[np.float32], bits: Literal[4, 8]) -> Codes:
    """Round to blocks of 32 that share a scale, as the official builder does: the largest weight gets the largest code.

    Args:
        values: float32 `[rows, columns]`, columns a multiple of 32.
        bits: 4 = codes -8…7, 8 = -127…127.
    """
    blocks = values.reshape(len(values), -1, BLOCK)
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(-1)[..., None], -1)
    scales = largest / np.float32(-8) if bits == 4 else np.abs(largest) / np.float32(127)
    scales = scales.astype(np.float32, copy=False)
    codes = np.rint(np.divide(blocks, scales, out=np.zeros_like(blocks), where=scales != 0))
    low, high = (-8, 7) if bits == 4 else (-127, 127)
    return Codes(codes.clip(low, high).astype(np.int8), scales[..., 0], None, bits)


def own_codes(raw: NDArray[np.generic], kind: Kind) -> Codes | None:
    """The codes of the file itself; None for a type that has none, or none that are known here."""
    if kind not in READERS:
        return None
    _, block_bytes = GGML_QUANT_SIZES[kind]
    return READERS[kind](raw.view(np.uint8).reshape(len(raw), -1, block_bytes))


def _half(blocks: NDArray[np.uint8], at: int) -> NDArray[np.float32]:
    return np.ascontiguousarray(blocks[..., at : at + 2]).view(np.float16)[..., 0].astype(np.float32)


def _nibbles(packed: NDArray[np.uint8], *, run: int) -> NDArray[np.uint8]:
    """Codes of 4 bits that lie in runs: the low halves of `run` bytes, then their high halves."""
    runs = packed.reshape(*packed.shape[:-1], -1, 1, run)
    return np.concatenate([runs & 15, runs >> 4], -2).reshape(*packed.shape[:-1], -1)


def _q4_0(blocks: NDArray[np.uint8]) -> Codes:
    return Codes(_nibbles(blocks[..., 2:], run=16).view(np.int8) - np.int8(8), _half(blocks, 0), None, 4)


def _q4_1(blocks: NDArray[np.uint8]) -> Codes:
    return Codes(_nibbles(blocks[..., 4:], run=16).view(np.int8), _half(blocks, 0), _half(blocks, 2), 4)


def _q8_0(blocks: NDArray[np.uint8]) -> Codes:
    return Codes(np.ascontiguousarray(blocks[..., 2:]).view(np.int8), _half(blocks, 0), None, 8)


def _q4_k(blocks: NDArray[np.uint8]) -> Codes:
    rows = len(blocks)
    steps, lows = Q4_K.get_scale_min(np.ascontiguousarray(blocks[..., 4:16]).reshape(-1, 12))
    scales = _half(blocks, 0)[..., None] * steps.reshape(rows, -1, 8).astype(np.float32)
    offsets = _half(blocks, 2)[..., None] * lows.reshape(rows, -1, 8).astype(np.float32)
    codes = _nibbles(blocks[..., 16:], run=32).view(np.int8).reshape(rows, -1, 32)
    return Codes(codes, scales.reshape(rows, -1), -offsets.reshape(rows, -1), 4)


def _q6_k(blocks: NDArray[np.uint8]) -> Codes:
    rows = len(blocks)
    low = _nibbles(blocks[..., :128], run=64)
    shifts = np.arange(0, 8, 2, dtype=np.uint8)[:, None]
    high = ((blocks[..., 128:192].reshape(rows, -1, 2, 1, 32) >> shifts) & 3).reshape(low.shape)
    codes = (low | (high << 4)).view(np.int8) - np.int8(32)
    steps = np.ascontiguousarray(blocks[..., 192:208]).view(np.int8).astype(np.float32)
    return Codes(codes.reshape(rows, -1, 16), (_half(blocks, 208)[..., None] * steps).reshape(rows, -1), None, 8)


READERS: dict[Kind, Callable[[NDArray[np.uint8]], Codes]] = {
    Kind.Q4_0: _q4_0,
    Kind.Q4_1: _q4_1,
    Kind.Q8_0: _q8_0,
    Kind.Q4_K: _q4_k,
    Kind.Q6_K: _q6_k,
}
"""Each takes a matrix as `[rows, blocks, bytes of a block]`."""
