"""The ONNX graph of a model of the Llama family, written tensor by tensor, with the official builder's operators.

Weights go to a file beside the graph as soon as they are known, so that memory holds one matrix at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from workshop_lib.models.gguf_file import WEIGHTS_FILE, Codes, Tensors, Weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workshop_lib.models.gguf_file import Architecture, GgufFile

_PAGE = 4096
"""Weights begin at multiples of this, so that the runtime can map them into memory."""
_RUNTIME = "com.microsoft"


@dataclass(frozen=True, slots=True)
class _Part:
    """Names of whole numbers of one width, with their scales and the code that means zero ("" = the middle)."""

    packed: str
    scales: str
    zeros: str
    bits: int


@dataclass(frozen=True, slots=True)
class Matrix:
    """A matrix that is in the file: its sizes, and either the name of its numbers or its parts, which add up."""

    rows: int
    columns: int
    numbers: str = ""
    parts: tuple[_Part, ...] = ()
    block: int = 0
    offsets: str = ""


class GraphWriter:
    """Writes matrices and the nodes that use them.

    Args:
        weights_file: takes the weights.
        exact: products in float32; else the activations are rounded to 8 bits too, which is faster.
    """

    def __init__(self, weights_file: BinaryIO, *, exact: bool) -> None:
        self._file = weights_file
        self._exact = exact
        self._nodes: list[onnx.NodeProto] = []
        self._tensors: dict[str, TensorProto] = {}

    def matrix(self, name: str, weights: Weights) -> Matrix:
        """Write a matrix of `[rows, columns]`, float32 or codes."""
        if not isinstance(weights, Codes):
            rows, columns = weights.shape
            return Matrix(rows, columns, numbers=self.stored(name, weights))
        rows, blocks, block = weights.codes.shape
        parts = tuple(self._part(f"{name}.{at}", *part) for at, part in enumerate(self._as_unsigned(weights)))
        offsets = ""
        if weights.offsets is not None:  # [blocks, rows]; what the codes' zero of 8 takes away is added here
            offsets = self.stored(f"{name}.offsets", (weights.offsets + 8 * weights.scales).T)
        return Matrix(rows, blocks * block, parts=parts, block=block, offsets=offsets)

    def product(self, x: str, matrix: Matrix) -> str:
        """`x` of `[batch, tokens, columns]` times a matrix: `[batch, tokens, rows]`."""
        if matrix.numbers:
            return self.node("FusedMatMul", [x, matrix.numbers], domain=_RUNTIME, transB=1)
        sizes = {"K": matrix.columns, "N": matrix.rows, "accuracy_level": 0 if self._exact else 4}
        terms = [self._of_part("MatMulNBits", matrix, part, [x, part.packed], sizes) for part in matrix.parts]
        if matrix.offsets:
            blocks = self.node("Reshape", [x, self.constant([0, 0, matrix.columns // matrix.block, matrix.block])])
            sums = self.node("ReduceSum", [blocks, self.constant([3])], keepdims=0)
            terms.append(self.node("MatMul", [sums, matrix.offsets]))
        return reduce(lambda total, term: self.node("Add", [total, term]), terms)

    def look_up(self, ids: str, matrix: Matrix) -> str:
        """The rows of a matrix that `ids` of `[batch, tokens]` name: `[batch, tokens, columns]`."""
        if matrix.numbers:
            return self.node("Gather", [matrix.numbers, ids])
        axes = {"quantize_axis": 1, "gather_axis": 0}
        terms = [
            self._of_part("GatherBlockQuantized", matrix, part, [self._by_row(part, matrix), ids], axes)
            for part in matrix.parts
        ]
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
        offset = -(-self._file.tell() // _PAGE) * _PAGE
        self._file.seek(offset)
        self._file.write(array.data)
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

    def _as_unsigned(self, weights: Codes) -> list[tuple[NDArray[np.uint8], NDArray[np.float32], int, int]]:
        """Codes as the operators take them: unsigned, with the code that means zero, and their bits.

        Products of 8 bits are fast only with rounded activations, so exact ones are two of 4 bits: 16 * high + low.
        """
        codes, scales = weights.codes, weights.scales
        if weights.bits == 4:
            zero = 0 if weights.offsets is not None else 8
            return [((codes + np.int8(zero)).view(np.uint8), scales, 8, 4)]
        if not self._exact:
            return [(codes.view(np.uint8) ^ np.uint8(128), scales, 128, 8)]
        high, low = (codes >> 4) + np.int8(8), codes & np.int8(15)
        return [(high.view(np.uint8), 16 * scales, 8, 4), (low.view(np.uint8), scales, 0, 4)]

    def _part(self, name: str, codes: NDArray[np.uint8], scales: NDArray[np.float32], zero: int, bits: int) -> _Part:
        packed = codes if bits == 8 else codes[..., 0::2] | (codes[..., 1::2] << 4)
        stored = self.stored(f"{name}.packed", packed)
        zeros = ""
        if zero == 0:  # what the operators take for granted is the middle: 8 or 128
            zeros = self.stored(f"{name}.zeros", np.zeros([len(codes), (codes.shape[1] + 1) // 2], np.uint8))
        return _Part(stored, self.stored(f"{name}.scales", scales), zeros, bits)

    def _of_part(self, operator: str, matrix: Matrix, part: _Part, inputs: Sequence[str], facts: dict[str, Any]) -> str:
        """One of the terms that add up to a product or a look-up."""
        inputs = [*inputs, part.scales, *filter(None, [part.zeros])]
        return self.node(operator, inputs, domain=_RUNTIME, bits=part.bits, block_size=matrix.block, **facts)

    def _by_row(self, part: _Part, matrix: Matrix) -> str:
        """The packed numbers once more, the same bytes of the file, in the two dimensions that a look-up takes."""
        tensor = TensorProto()
        tensor.CopyFrom(self._tensors[part.packed])
        tensor.name, tensor.dims[:] = f"{part.packed}.rows", [matrix.rows, matrix.columns * part.bits // 8]
        self._tensors[tensor.name] = tensor
        return str(tensor.name)


def write_model(graph: GraphWriter, file: GgufFile, tensors: Tensors) -> onnx.ModelProto:
    """Write a whole model of a file, with its tensors in the precision that they have."""
    shape = file.shape
    factors = tensors.vector("rope_freqs.weight") if file.has("rope_freqs.weight") else None
    cosines, sines = map(graph.stored, ("cosines", "sines"), _rope(shape, factors))
    last, total = _lengths(graph)
    embeddings = graph.matrix("token_embd", tensors.matrices("token_embd.weight")[0])
    x, normed = graph.look_up("input_ids", embeddings), ""
    for layer in range(shape.layers):
        block, caches = f"blk.{layer}", [f"{layer}.{part}" for part in ("key", "value")]
        x, normed = _normed(graph, tensors, f"{block}.attn_norm.weight", x, normed, epsilon=shape.norm_epsilon)
        qkv = _linear(graph, tensors, normed, *(f"{block}.attn_{part}" for part in "qkv"))
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
        added = _linear(graph, tensors, attended, f"{block}.attn_output")
        x, normed = _normed(graph, tensors, f"{block}.ffn_norm.weight", x, added, epsilon=shape.norm_epsilon)
        both = _linear(graph, tensors, normed, f"{block}.ffn_gate", f"{block}.ffn_up")
        gate, up = f"gate.{layer}", f"up.{layer}"
        graph.node("Split", [both], [gate, up], axis=-1, num_outputs=2)
        swish = graph.node("Mul", [gate, graph.node("Sigmoid", [gate])])
        normed = _linear(graph, tensors, graph.node("Mul", [swish, up]), f"{block}.ffn_down")
    x, normed = _normed(graph, tensors, "output_norm.weight", x, normed, epsilon=shape.norm_epsilon)
    newest = graph.node("Gather", [normed, graph.constant([-1])], axis=1)  # only the last token is continued
    output = graph.matrix("output", tensors.matrices("output.weight")[0]) if file.has("output.weight") else embeddings
    graph.node("Identity", [graph.product(newest, output)], ["logits"])
    return graph.model(*_interface(shape))


def _rope(shape: Architecture, factors: NDArray[np.float32] | None) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cosines and sines of every position, each float32 `[context, head_size / 2]`, computed as PyTorch does."""
    steps = np.arange(0, shape.head_size, 2, dtype=np.float32) / np.float32(shape.head_size)
    frequencies = 1 / np.float32(shape.rope_base) ** steps
    if factors is not None:
        frequencies /= factors
    positions = np.arange(shape.context_tokens, dtype=np.float32) / np.float32(shape.rope_factor)
    angles = np.outer(positions, frequencies)
    return np.cos(angles), np.sin(angles)


def _linear(graph: GraphWriter, tensors: Tensors, x: str, *names: str) -> str:
    """`x` times matrices that stand below each other, plus their biases where they have some."""
    found = tensors.matrices(*(f"{name}.weight" for name in names))
    matrices = (graph.matrix(f"{names[0]}.{at}", weights) for at, weights in enumerate(found))
    results = [graph.product(x, matrix) for matrix in matrices]
    result = graph.node("Concat", results, axis=-1) if results[1:] else results[0]
    biases = tensors.biases(*(f"{name}.bias" for name in names))
    return result if biases is None else graph.node("Add", [result, graph.stored(f"{names[0]}.bias", biases)])


def _normed(graph: GraphWriter, tensors: Tensors, name: str, x: str, added: str, *, epsilon: float) -> tuple[str, str]:
    """The sum of `x` and what is added to it (empty = nothing), and the sum's RMS norm."""
    gain = graph.stored(name, tensors.vector(name))
    if not added:
        return x, graph.node("SimplifiedLayerNormalization", [x, gain], axis=-1, epsilon=epsilon, stash_type=1)
    normed, total = f"{name}:normed", f"{name}:sum"
    outputs = [normed, "", "", total]
    graph.node("SkipSimplifiedLayerNormalization", [x, added, gain], outputs, domain=_RUNTIME, epsilon=epsilon)
    return total, normed


def _lengths(graph: GraphWriter) -> tuple[str, str]:
    """Of each sequence, its length less one; and of the batch, the greatest length: both int32."""
    counted = graph.node("ReduceSum", ["attention_mask", graph.constant([1])], keepdims=0)
    last = graph.node("Sub", [counted, graph.constant(1)])
    total = graph.node("Gather", [graph.node("Shape", ["attention_mask"]), graph.constant(1)])
    return tuple(graph.node("Cast", [length], to=TensorProto.INT32) for length in (last, total))  # type: ignore[return-value]


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
