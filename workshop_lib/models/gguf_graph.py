"""The ONNX graph of a model of the Llama family, written tensor by tensor, with the official builder's operators.

Weights go to a file beside the graph as soon as they are known, so that memory holds one matrix at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from itertools import groupby
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np
import onnx
from gguf.quants import dequantize
from numpy.typing import NDArray
from onnx import TensorProto, helper

from workshop_lib.models.gguf_file import Codes, keep

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tqdm.auto import tqdm

    from workshop_lib.models.gguf_file import Architecture, GgufFile, Precision

WEIGHTS_FILE = "model.onnx.data"
_PAGE = 4096
"""Weights begin at multiples of this, so that the runtime can map them into memory."""
_RUNTIME = "com.microsoft"


@dataclass(frozen=True, slots=True)
class TensorReport:
    """What became of one tensor; `exact` = each weight is the very number that the file means."""

    name: str
    kind: str
    exact: bool
    how: str


class Matrix(NamedTuple):
    """A matrix that is in the file: either the name of its numbers, or its parts, which add up.

    A part is the names of whole numbers of so many `bits`, of their scales, and of the code that means zero, if it is
    not the middle; each scale stands for a `block` of columns.
    """

    rows: int
    columns: int
    numbers: str = ""
    parts: Sequence[tuple[int, list[str]]] = ()
    block: int = 0
    offsets: str = ""


class GraphWriter:
    """Writes matrices of a file in a precision, and the nodes that use them.

    `exact4` and `fp32` compute in float32; the others round the activations to 8 bits too, which is faster. `bar` shows
    how many weights are done; `treated` says what became of each tensor.
    """

    def __init__(self, file: GgufFile, precision: Precision, weights: BinaryIO, bar: tqdm) -> None:
        self._file, self._precision, self._weights, self._bar = file, precision, weights, bar
        self._exact = precision in {"exact4", "fp32"}
        self._nodes: list[onnx.NodeProto] = []
        self._tensors: dict[str, TensorProto] = {}
        self.treated: list[TensorReport] = []

    def numbers(self, *names: str) -> NDArray[np.float32]:
        """Vectors of the file behind each other; they have to be there."""
        for name in names:
            self._done(name, exact=True, how="kept as float32")
        return np.concatenate([dequantize(self._file.raw(name), self._file.kind(name)) for name in names])

    def matrix(self, stored: str, *names: str) -> Matrix:
        """Write matrices of the file, of one type, as one, below each other."""
        raw = np.concatenate([self._file.raw(name) for name in names])
        weights, exact, how = keep(raw, self._file.kind(names[0]), self._precision)
        for name in names:
            self._done(name, exact=exact, how=how)
        if not isinstance(weights, Codes):
            rows, columns = weights.shape
            return Matrix(rows, columns, numbers=self.stored(stored, weights))
        rows, blocks, block = weights.codes.shape
        parts, offsets = list(self._parts(stored, weights)), ""
        if weights.offsets is not None:  # [blocks, rows]; what the codes' zero of 8 takes away is added here
            offsets = self.stored(f"{stored}.offsets", (weights.offsets + 8 * weights.scales).T)
        return Matrix(rows, blocks * block, parts=parts, block=block, offsets=offsets)

    def _done(self, name: str, *, exact: bool, how: str) -> None:
        self.treated.append(TensorReport(name, self._file.kind(name).name, exact, how))
        self._bar.update(self._file.counts[name])

    def product(self, x: str, matrix: Matrix) -> str:
        """`x` of `[batch, tokens, columns]` times a matrix: `[batch, tokens, rows]`."""
        if matrix.numbers:
            return self.node("FusedMatMul", [x, matrix.numbers], domain=_RUNTIME, transB=1)
        sizes: dict[str, Any] = {"K": matrix.columns, "N": matrix.rows, "accuracy_level": 0 if self._exact else 4}
        terms = [
            self.node("MatMulNBits", [x, *names], domain=_RUNTIME, bits=bits, block_size=matrix.block, **sizes)
            for bits, names in matrix.parts
        ]
        if matrix.offsets:
            blocks = self.node("Reshape", [x, self.constant([0, 0, matrix.columns // matrix.block, matrix.block])])
            sums = self.node("ReduceSum", [blocks, self.constant([3])], keepdims=0)
            terms.append(self.node("MatMul", [sums, matrix.offsets]))
        return reduce(lambda total, term: self.node("Add", [total, term]), terms)

    def look_up(self, ids: str, matrix: Matrix) -> str:
        """The rows of a matrix that `ids` of `[batch, tokens]` name: `[batch, tokens, columns]`."""
        if matrix.numbers:
            return self.node("Gather", [matrix.numbers, ids])
        terms = []
        for bits, (packed, *others) in matrix.parts:
            facts: dict[str, Any] = {"bits": bits, "block_size": matrix.block, "quantize_axis": 1, "gather_axis": 0}
            rows = self._by_row(packed, matrix.rows, matrix.columns * bits // 8)
            terms.append(self.node("GatherBlockQuantized", [rows, ids, *others], domain=_RUNTIME, **facts))
        if matrix.offsets:
            offsets = self.node("Gather", [matrix.offsets, ids], axis=1)
            blocks = self.node("Unsqueeze", [self.node("Transpose", [offsets], perm=[1, 2, 0]), self.constant([3])])
            shape = [0, 0, matrix.columns // matrix.block, matrix.block]
            spread = self.node("Add", [self.node("Reshape", [terms[0], self.constant(shape)]), blocks])
            terms = [self.node("Reshape", [spread, self.constant([0, 0, matrix.columns])])]
        return reduce(lambda total, term: self.node("Add", [total, term]), terms)

    def node(
        self, operator: str, inputs: Sequence[str], outputs: Sequence[str] = (), *, domain: str = "", **facts: Any
    ) -> str:
        """Add a node; returns the name of its first output. Without `outputs` it has one."""
        name = f"{operator}_{len(self._nodes)}"
        outputs = outputs or [f"{name}:0"]
        self._nodes.append(helper.make_node(operator, inputs, outputs, name=name, domain=domain, **facts))
        return outputs[0]

    def constant(self, values: Sequence[int] | int) -> str:
        """A small tensor of whole numbers, kept in the graph itself."""
        name = f"constant_{values}".replace(" ", "")
        if name not in self._tensors:
            array = np.array(values, np.int64)
            self._tensors[name] = helper.make_tensor(name, TensorProto.INT64, array.shape, array.tobytes(), raw=True)
        return name

    def stored(self, name: str, array: NDArray[Any]) -> str:
        """Write a tensor to the weights' file."""
        array = np.ascontiguousarray(array)
        offset = -(-self._weights.tell() // _PAGE) * _PAGE
        self._weights.seek(offset)
        self._weights.write(array.data)
        tensor = TensorProto(name=name, data_type=helper.np_dtype_to_tensor_dtype(array.dtype), dims=array.shape)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", WEIGHTS_FILE), ("offset", offset), ("length", array.nbytes)):
            tensor.external_data.add(key=key, value=str(value))
        self._tensors[name] = tensor
        return name

    def model(self, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]) -> onnx.ModelProto:
        """The finished graph."""
        graph = helper.make_graph(self._nodes, "main", inputs, outputs, list(self._tensors.values()))
        opsets = [helper.make_opsetid("", 22), helper.make_opsetid(_RUNTIME, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10, producer_name="workshop")

    def _parts(self, name: str, weights: Codes) -> Iterator[tuple[int, list[str]]]:
        """Write codes as the operators take them: unsigned, packed, with the code that means zero.

        Products of 8 bits are fast only with rounded activations, so exact ones are two of 4 bits: 16 * high + low.
        """
        codes, scales = weights.codes, weights.scales
        if weights.bits == 4:
            zero = 0 if weights.offsets is not None else 8
            parts = [((codes + np.int8(zero)).view(np.uint8), scales, 8, 4)]
        elif self._exact:
            high, low = (codes >> 4) + np.int8(8), codes & np.int8(15)
            parts = [(high.view(np.uint8), 16 * scales, 8, 4), (low.view(np.uint8), scales, 0, 4)]
        else:
            parts = [(codes.view(np.uint8) ^ np.uint8(128), scales, 128, 8)]
        for at, (unsigned, scale, zero, bits) in enumerate(parts):
            part = f"{name}.{at}"
            packed = unsigned if bits == 8 else unsigned[..., 0::2] | (unsigned[..., 1::2] << 4)
            names = [self.stored(f"{part}.packed", packed)]
            if zero == 0:  # what the operators take for granted is the middle: 8 or 128
                zeros = self.stored(f"{part}.zeros", np.zeros([len(codes), (codes.shape[1] + 1) // 2], np.uint8))
            names.append(self.stored(f"{part}.scales", scale))
            yield bits, [*names, zeros] if zero == 0 else names

    def _by_row(self, packed: str, *sizes: int) -> str:
        """The packed numbers once more, the same bytes of the file, in the two dimensions that a look-up takes."""
        tensor = TensorProto()
        tensor.CopyFrom(self._tensors[packed])
        tensor.name, tensor.dims[:] = f"{packed}.rows", sizes
        self._tensors[tensor.name] = tensor
        return str(tensor.name)


def write_model(
    file: GgufFile, precision: Precision, weights: BinaryIO, bar: tqdm
) -> tuple[onnx.ModelProto, tuple[TensorReport, ...]]:
    """Write the weights of a whole model; returns its graph, and what became of each tensor."""
    shape, graph = file.shape, GraphWriter(file, precision, weights, bar)
    factors = graph.numbers("rope_freqs.weight") if file.has("rope_freqs.weight") else None
    cosines, sines = map(graph.stored, ("cosines", "sines"), _rope(shape, factors))
    counted = graph.node("ReduceSum", ["attention_mask", graph.constant([1])], keepdims=0)
    lengths = (  # of each sequence, its length less one; and of the batch, the greatest length
        graph.node("Sub", [counted, graph.constant(1)]),
        graph.node("Gather", [graph.node("Shape", ["attention_mask"]), graph.constant(1)]),
    )
    last, total = [graph.node("Cast", [length], to=TensorProto.INT32) for length in lengths]
    embeddings = graph.matrix("token_embd", "token_embd.weight")
    x, normed = graph.look_up("input_ids", embeddings), ""
    for layer in range(shape.layers):
        block, caches = f"blk.{layer}", [f"{layer}.{part}" for part in ("key", "value")]
        x, normed = _normed(graph, f"{block}.attn_norm.weight", x, normed, epsilon=shape.norm_epsilon)
        qkv = _linear(graph, file, normed, *(f"{block}.attn_{part}" for part in "qkv"))
        past = [f"past_key_values.{cache}" for cache in caches]
        attended = graph.node(
            "GroupQueryAttention",
            [qkv, "", "", *past, last, total, cosines, sines],
            [f"attended.{layer}", *(f"present.{cache}" for cache in caches)],
            domain=_RUNTIME,
            num_heads=shape.heads,
            kv_num_heads=shape.kv_heads,
            scale=shape.head_size**-0.5,
            do_rotary=1,
            rotary_interleaved=0,
        )
        added = _linear(graph, file, attended, f"{block}.attn_output")
        x, normed = _normed(graph, f"{block}.ffn_norm.weight", x, added, epsilon=shape.norm_epsilon)
        both = _linear(graph, file, normed, f"{block}.ffn_gate", f"{block}.ffn_up")
        gate, up = f"gate.{layer}", f"up.{layer}"
        graph.node("Split", [both], [gate, up], axis=-1, num_outputs=2)
        swish = graph.node("Mul", [gate, graph.node("Sigmoid", [gate])])
        normed = _linear(graph, file, graph.node("Mul", [swish, up]), f"{block}.ffn_down")
    x, normed = _normed(graph, "output_norm.weight", x, normed, epsilon=shape.norm_epsilon)
    newest = graph.node("Gather", [normed, graph.constant([-1])], axis=1)  # only the last token is continued
    output = graph.matrix("output", "output.weight") if file.has("output.weight") else embeddings
    graph.node("Identity", [graph.product(newest, output)], ["logits"])
    file.refuse_unused()
    return graph.model(*_interface(shape)), tuple(graph.treated)


def _rope(shape: Architecture, factors: NDArray[np.float32] | None) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cosines and sines of every position, each float32 `[context, head_size / 2]`, computed as PyTorch does."""
    steps = np.arange(0, shape.head_size, 2, dtype=np.float32) / np.float32(shape.head_size)
    frequencies = 1 / np.float32(shape.rope_base) ** steps
    if factors is not None:
        frequencies /= factors
    positions = np.arange(shape.context_tokens, dtype=np.float32) / np.float32(shape.rope_factor)
    angles = np.outer(positions, frequencies)
    return np.cos(angles), np.sin(angles)


def _linear(graph: GraphWriter, file: GgufFile, x: str, *names: str) -> str:
    """`x` times matrices that stand below each other, those of one type as one, plus their biases where they have."""
    results = []
    for at, (_, group) in enumerate(groupby((f"{name}.weight" for name in names), file.kind)):
        results.append(graph.product(x, graph.matrix(f"{names[0]}.{at}", *group)))
    result = graph.node("Concat", results, axis=-1) if results[1:] else results[0]
    if not file.has(f"{names[0]}.bias"):
        return result
    biases = graph.numbers(*(f"{name}.bias" for name in names))
    return graph.node("Add", [result, graph.stored(f"{names[0]}.bias", biases)])


def _normed(graph: GraphWriter, name: str, x: str, added: str, *, epsilon: float) -> tuple[str, str]:
    """The sum of `x` and what is added to it (empty = nothing), and the sum's RMS norm."""
    gain = graph.stored(name, graph.numbers(name))
    if not added:
        return x, graph.node("SimplifiedLayerNormalization", [x, gain], axis=-1, epsilon=epsilon, stash_type=1)
    normed, total = f"{name}:normed", f"{name}:sum"
    outputs = [normed, "", "", total]
    graph.node("SkipSimplifiedLayerNormalization", [x, added, gain], outputs, domain=_RUNTIME, epsilon=epsilon)
    return total, normed


def _interface(shape: Architecture) -> tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto]]:
    """Inputs and outputs, as ONNX Runtime GenAI names them."""

    def value(name: str, kind: int, *sizes: str | int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, sizes)

    def caches(name: str, length: str) -> list[onnx.ValueInfoProto]:
        sizes = ("batch", shape.kv_heads, length, shape.head_size)
        names = (f"{name}.{layer}.{part}" for layer in range(shape.layers) for part in ("key", "value"))
        return [value(each, TensorProto.FLOAT, *sizes) for each in names]

    ids = [value("input_ids", TensorProto.INT64, "batch", "tokens")]
    mask = [value("attention_mask", TensorProto.INT64, "batch", "total")]
    logits = [value("logits", TensorProto.FLOAT, "batch", 1, shape.vocabulary)]
    return [*ids, *mask, *caches("past_key_values", "past")], [*logits, *caches("present", "total")]
