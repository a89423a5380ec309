"""What an ONNX file says of its weights: which other files hold them, how long those must be, in how many bits.

Reads the few fields it needs straight from the file, without the `onnx` package and without loading a weight, so that
a model of many gigabytes is looked at in milliseconds. Knows nothing of model folders.

The format is protobuf: a field is a number that holds its key and its kind, then a number or a length and so many
bytes. Field numbers are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

import math
import mmap
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workshop_lib.data import fault

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5
_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_INITIALIZER = 1, 5
_NODE_OPERATOR, _NODE_ATTRIBUTE = 4, 5
_ATTRIBUTE_NAME, _ATTRIBUTE_INTEGER = 1, 3
_TENSOR_DIMENSION, _TENSOR_TYPE, _TENSOR_EXTERNAL = 1, 2, 13
_ENTRY_KEY, _ENTRY_VALUE = 1, 2

_TYPES = {1: "fp32", 2: "uint8", 3: "int8", 10: "fp16", 11: "fp64", 16: "bf16", 21: "uint4", 22: "int4"}
_ROUNDED_OPERATORS = ("MatMulNBits", "GatherBlockQuantized")
"""Operators whose weights are packed into bytes; how many bits each has stands in the attribute `bits`."""

_LONGEST_NUMBER = 10
_MOST_NUMBERS = 10_000_000
"""More than this is no model's list of nodes and weights, and would be read for minutes."""

_MOST_DIMENSIONS = 16
_LONGEST_TEXT = 4096
"""Bytes of an operator's name or of a path; no file system has longer ones."""


@dataclass(frozen=True, slots=True)
class OnnxWeights:
    """What one ONNX file says of its weights.

    Attributes:
        external: name of another file, relative to this one's folder → the bytes it must have at least.
        precision: `int4`, `fp16`, `fp32`, … of most weights; None where the file does not tell.
    """

    external: Mapping[str, int]
    precision: str | None


class _FormatError(ValueError):
    """The bytes are no protobuf message of this kind."""


_Span = tuple[int, int]


def read_weights(file: Path) -> OnnxWeights:
    """Look at an ONNX file.

    Raises:
        DataFileError: it is missing, cannot be read, or is no ONNX model.
    """
    again = "Copy or convert the model again."
    if not file.is_file():  # a pipe would be waited for
        raise fault(file, "", "is no file" if file.exists() else "is missing", again)
    try:
        with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _Reader(content).weights()
    except _FormatError as error:
        raise fault(file, "", f"is no complete ONNX model ({error})", again) from None
    except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
        raise fault(file, "", f"cannot be read ({error})", again) from None


class _Reader:
    """The walk through one model's fields."""

    def __init__(self, content: mmap.mmap) -> None:
        self._content = content
        self._external: dict[str, int] = {}
        self._elements: Counter[str] = Counter()
        self._rounded: Counter[int] = Counter()
        self._numbers_read = 0

    def weights(self) -> OnnxWeights:
        graphs = self._spans((0, len(self._content)), _MODEL_GRAPH)
        if not graphs:
            raise _FormatError("it holds no graph")
        for graph in graphs:
            for key, value in self._fields(graph):
                if key == _GRAPH_NODE and isinstance(value, tuple):
                    self._node(value)
                elif key == _GRAPH_INITIALIZER and isinstance(value, tuple):
                    self._tensor(value)
        return OnnxWeights(self._external, self._precision())

    def _precision(self) -> str | None:
        if self._rounded:
            return f"int{self._rounded.most_common(1)[0][0]}"
        return self._elements.most_common(1)[0][0] if self._elements else None

    def _node(self, node: _Span) -> None:
        operators = [self._text(span) for span in self._spans(node, _NODE_OPERATOR)]
        if not operators or operators[0] not in _ROUNDED_OPERATORS:
            return
        for attribute in self._spans(node, _NODE_ATTRIBUTE):
            if [self._text(span) for span in self._spans(attribute, _ATTRIBUTE_NAME)] == ["bits"]:
                self._rounded.update(self._numbers(attribute, _ATTRIBUTE_INTEGER))

    def _tensor(self, tensor: _Span) -> None:
        kinds = self._numbers(tensor, _TENSOR_TYPE)
        if kinds and kinds[0] in _TYPES:
            dimensions = self._numbers(tensor, _TENSOR_DIMENSION)
            if len(dimensions) > _MOST_DIMENSIONS:
                raise _FormatError(f"a weight has {len(dimensions)} dimensions")
            self._elements[_TYPES[kinds[0]]] += math.prod(dimensions)
        entries = dict(self._entry(span) for span in self._spans(tensor, _TENSOR_EXTERNAL))
        if "location" in entries:
            try:
                end = int(entries.get("offset", "0")) + int(entries.get("length", "0"))
            except ValueError:
                raise _FormatError("the place of a weight is no number") from None
            location = entries["location"]
            self._external[location] = max(end, self._external.get(location, 0))

    def _entry(self, span: _Span) -> tuple[str, str]:
        key, value = self._spans(span, _ENTRY_KEY), self._spans(span, _ENTRY_VALUE)
        if not key or not value:
            raise _FormatError("the place of a weight has no name")
        return self._text(key[0]), self._text(value[0])

    def _text(self, span: _Span) -> str:
        if span[1] - span[0] > _LONGEST_TEXT:
            raise _FormatError(f"a name has {span[1] - span[0]} bytes")
        try:
            return self._content[slice(*span)].decode("utf-8")
        except UnicodeDecodeError:
            raise _FormatError("a name is no text") from None

    def _spans(self, span: _Span, wanted: int) -> list[_Span]:
        return [value for key, value in self._fields(span) if key == wanted and isinstance(value, tuple)]

    def _numbers(self, span: _Span, wanted: int) -> list[int]:
        """The numbers of a field, written one by one or packed together."""
        found: list[int] = []
        for key, value in self._fields(span):
            if key == wanted and isinstance(value, int):
                found.append(value)
            elif key == wanted and isinstance(value, tuple):
                place, end = value
                while place < end:
                    number, place = self._number(place, end)
                    found.append(number)
        return found

    def _fields(self, span: _Span) -> Iterator[tuple[int, int | _Span]]:
        """Key and value of each field: a number, or where its bytes lie."""
        place, end = span
        while place < end:
            tag, place = self._number(place, end)
            kind = tag & 7
            if kind == _VARINT:
                number, place = self._number(place, end)
                yield tag >> 3, number
                continue
            if kind == _BYTES:
                length, place = self._number(place, end)
            elif kind in {_FIXED_32, _FIXED_64}:
                length = 4 if kind == _FIXED_32 else 8
            else:
                raise _FormatError(f"byte {place} belongs to no field")
            if place + length > end:
                raise _FormatError(f"it ends {place + length - end} bytes too early")
            yield tag >> 3, (place, place + length)
            place += length

    def _number(self, place: int, end: int) -> tuple[int, int]:
        """A number of seven bits a byte, lowest first, and the place after it."""
        self._numbers_read += 1
        if self._numbers_read > _MOST_NUMBERS:
            raise _FormatError(f"more than {_MOST_NUMBERS} fields")
        number = 0
        for index in range(min(_LONGEST_NUMBER, end - place)):
            byte = self._content[place + index]
            number |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                return number, place + index + 1
        raise _FormatError(f"the number at byte {place} does not end")
