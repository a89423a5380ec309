"""The tensors of a GGUF file as a precision keeps them: its own codes where it can, else rounded.

    weight = scale of its block * code + offset of its block

Q4_0 and Q8_0 say just that, Q4_1 with an offset; Q4_K and Q6_K once their nested scales are multiplied out. `values`
of what was kept equals `gguf`'s own dequantisation, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Literal

import numpy as np
from gguf import GGML_QUANT_SIZES
from gguf import GGMLQuantizationType as Kind
from gguf.quants import Q4_K, dequantize
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tqdm.auto import tqdm

    from workshop_lib.models.gguf_file import GgufFile, Precision

BLOCK = 32
"""Weights that share a scale where we round."""

_FLOATS = {Kind.F32, Kind.F16, Kind.BF16}


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

    @property
    def values(self) -> NDArray[np.float32]:
        """The weights, float32 `[rows, columns]`."""
        weights = self.codes.astype(np.float32) * self.scales[..., None]
        if self.offsets is not None:
            weights += self.offsets[..., None]
        return weights.reshape(len(self.codes), -1)


Weights = Codes | NDArray[np.float32]
"""A matrix as it goes into the folder: codes, or numbers `[rows, columns]`."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A matrix, whether each weight is the very number that the file means, and in words what became of it."""

    weights: Weights
    exact: bool
    how: str


class Tensors:
    """The tensors of a file in one precision, with a bar that shows how many weights are done.

    Attributes:
        treated: name, type, whether exact, and how, of each tensor that was asked for.
    """

    def __init__(self, file: GgufFile, precision: Precision, bar: tqdm) -> None:
        self._file, self._precision, self._bar = file, precision, bar
        self.treated: list[tuple[str, str, bool, str]] = []

    def vector(self, name: str) -> NDArray[np.float32]:
        """The numbers of a name, which has to be there."""
        kind = self._file.kind(name)
        self._done(name, exact=True, how="kept as float32")
        return dequantize(self._file.raw(name), kind)

    def biases(self, *names: str) -> NDArray[np.float32] | None:
        """The numbers of these names behind each other; None where the model has none."""
        return np.concatenate([self.vector(name) for name in names]) if self._file.has(names[0]) else None

    def matrices(self, *names: str) -> list[Weights]:
        """Matrices of these names; those of one type that stand next to each other become one, below each other."""
        found = []
        for kind, group in groupby(names, self._file.kind):
            same = list(group)
            kept = keep(np.concatenate([self._file.raw(name) for name in same]), kind, self._precision)
            found.append(kept.weights)
            for name in same:
                self._done(name, exact=kept.exact, how=kept.how)
        return found

    def _done(self, name: str, *, exact: bool, how: str) -> None:
        self.treated.append((name, self._file.kind(name).name, exact, how))
        self._bar.update(self._file.counts[name])


def keep(raw: NDArray[np.generic], kind: Kind, precision: Precision) -> Kept:
    """Bring a matrix into a precision, with as little rounding as that allows.

    Args:
        raw: `[rows, bytes]` of a quantised matrix, or `[rows, columns]` of numbers.
        kind: the file's type for it.
        precision: `exact4` and `fp32` keep each weight, where they know the type; `int8` and `int4` keep the codes that
            fit and round the rest.
    """
    if precision == "fp32" or (precision == "exact4" and kind in _FLOATS):
        return Kept(dequantize(raw, kind), exact=True, how="kept as float32")
    own = own_codes(raw, kind)
    if own is not None and precision == "exact4":
        return Kept(own, exact=True, how=f"{own.bits}-bit codes kept")
    bits: Literal[4, 8] = 4 if precision == "int4" else 8
    if own is not None and own.offsets is None and own.bits <= bits:
        return Kept(Codes(own.codes, own.scales, None, bits), exact=True, how=f"codes kept, in {bits} bits")
    values = own.values if own is not None else dequantize(raw, kind)
    if values.shape[1] % BLOCK:
        return Kept(values, exact=True, how=f"kept as float32: rows of {values.shape[1]} have no blocks of {BLOCK}")
    return Kept(rounded(values, bits), exact=False, how=f"rounded to {bits} bits")


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
