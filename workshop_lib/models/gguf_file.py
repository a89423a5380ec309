"""A GGUF file, read and judged: what the import can reproduce as the file means it, and why it refuses the rest.

A key or a tensor that this import does not know is a reason to refuse: a model that lacks one of its parts still
answers, only worse, and nobody would see why.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from workshop_lib.errors import DataFileError
from workshop_lib.show.text import one_line, without_home

if TYPE_CHECKING:
    import numpy as np
    from gguf import GGUFReader, ReaderTensor
    from numpy.typing import NDArray

Precision = Literal["exact4", "int8", "int4", "fp32"]

OFFICIAL_ROUTE = (
    "Convert the original model instead, downloaded from Hugging Face: python -m onnxruntime_genai.models.builder "
    "-i DOWNLOAD -o FOLDER -c CACHE -p int4 -e cpu, with the packages that samples/03-huggingface-models names."
)
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


@dataclass(frozen=True, slots=True)
class Architecture:
    """The sizes of a model of the Llama family.

    Attributes:
        kind: one of `ARCHITECTURES`.
        layers, hidden, feed_forward, heads, kv_heads, head_size, vocabulary: counts.
        context_tokens: longest prompt plus answer.
        norm_epsilon: of the RMS norms.
        rope_base: of the rotary frequencies.
        rope_factor: by which positions are divided (linear scaling); 1 = none.
    """

    kind: str
    layers: int
    hidden: int
    feed_forward: int
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
        shape: its architecture.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reader = _opened(path)
        self._tensors = {tensor.name: tensor for tensor in self._reader.tensors}
        self._taken: set[str] = set()
        kind = self.value("general.architecture")
        if kind not in ARCHITECTURES:
            raise self.refusal(f"has the architecture {kind!r}; this import knows {' and '.join(ARCHITECTURES)}")
        if (parts := self.value("split.count", 0)) > 1:
            raise self.refusal(f"is one of {parts} parts of a model")
        self._refuse_unknown_keys(kind)
        self.shape = self._shape(kind)

    def value(self, key: str, default: Any = None) -> Any:
        """The value of a key of the metadata; without a default it has to be there."""
        field = self._reader.fields.get(key)
        if field is not None:
            return field.contents()
        if default is None:
            raise self.refusal(f"lacks the key {key}")
        return default

    def has_key(self, key: str) -> bool:
        """Whether the metadata have such a key."""
        return key in self._reader.fields

    def tensor(self, name: str) -> ReaderTensor:
        """A tensor by its name; it has to be there."""
        if name not in self._tensors:
            raise self.refusal(f"lacks the tensor {name}")
        self._taken.add(name)
        return self._tensors[name]

    def has(self, name: str) -> bool:
        """Whether there is such a tensor."""
        return name in self._tensors

    @property
    def largest_matrix(self) -> int:
        """Weights of the largest matrix that is handled at once."""
        largest = max(int(tensor.n_elements) for tensor in self._reader.tensors)
        return max(largest, 2 * self.shape.hidden * self.shape.feed_forward)

    @property
    def weights(self) -> int:
        """Weights of all tensors."""
        return sum(int(tensor.n_elements) for tensor in self._reader.tensors)

    def bytes_per_weight(self, precision: Precision) -> float:
        """An upper bound, scales included."""
        types = {tensor.tensor_type.name for tensor in self._reader.tensors if len(tensor.shape) == 2}
        if precision == "fp32" or (precision == "exact4" and types & {"F32", "F16", "BF16"}):
            return 4.0
        return 0.75 if precision == "int4" else 1.25

    def refuse_unused(self) -> None:
        """Raise `DataFileError` where a tensor was never asked for: the model would lack a part."""
        if left := sorted(self._tensors.keys() - self._taken):
            raise self.refusal(f"holds {left[0]}, one of {len(left)} tensors that this import has no place for")

    def refusal(self, why: str) -> DataFileError:
        """The error for a file that cannot be imported, with the official route."""
        return DataFileError(f"{without_home(str(self.path))} {one_line(why, 300)}.", OFFICIAL_ROUTE)

    def _refuse_unknown_keys(self, kind: str) -> None:
        for name in self._reader.fields:
            key = name.removeprefix(f"{kind}.")
            if key == name or key in _USED or not self.value(name):
                continue
            raise self.refusal(_MEANINGS.get(key, f"sets {name}, which this import does not know"))

    def _shape(self, kind: str) -> Architecture:
        def number(key: str, default: float | None = None) -> Any:
            found = self.value(f"{kind}.{key}", default)
            if isinstance(found, list):
                raise self.refusal(f"has a list as {kind}.{key}: its layers differ")
            return found

        heads, hidden = number("attention.head_count"), number("embedding_length")
        size = number("attention.key_length", hidden // heads)
        for key, what in (("attention.value_length", "values"), ("rope.dimension_count", "a rotary part")):
            if number(key, size) != size:
                raise self.refusal(f"has {what} of {number(key)} numbers a head, and keys of {size}")
        if (scaling := self.value(f"{kind}.rope.scaling.type", "none")) not in {"none", "linear"}:
            raise self.refusal(f"scales its positions by {scaling!r}")
        return Architecture(
            kind=kind,
            layers=number("block_count"),
            hidden=hidden,
            feed_forward=number("feed_forward_length"),
            heads=heads,
            kv_heads=number("attention.head_count_kv", heads),
            head_size=size,
            vocabulary=int(self.tensor("token_embd.weight").shape[1]),
            context_tokens=number("context_length"),
            norm_epsilon=number("attention.layer_norm_rms_epsilon"),
            rope_base=number("rope.freq_base", 10000.0),
            rope_factor=number("rope.scaling.factor", 1.0) if scaling == "linear" else 1.0,
        )


def rotary_order(heads: int, head_size: int) -> NDArray[np.int64]:
    """The rows of a query or key matrix of architecture `llama`, in the order in which the runtime rotates them.

    GGUF files hold the two halves of each head interleaved. Returns row numbers of shape `[heads * head_size]`.

    >>> rotary_order(1, 4).tolist()
    [0, 2, 1, 3]
    """
    import numpy as np

    return np.arange(heads * head_size).reshape(heads, head_size // 2, 2).swapaxes(1, 2).ravel()


def _opened(path: Path) -> GGUFReader:
    named = without_home(str(path))
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise DataFileError(f"{named} cannot be read: {error.strerror}.", "Give the path of a GGUF file.") from None
    if magic != b"GGUF":
        raise DataFileError(f"{named} is no GGUF file.", "Give a file whose name ends in .gguf.")
    from gguf import GGUFReader

    try:
        return GGUFReader(path)
    except (ValueError, KeyError, IndexError, TypeError, OverflowError) as error:  # whatever garbage leads to
        what = f"{named} is damaged or incomplete ({one_line(str(error), 120)})."
        raise DataFileError(what, "Download it again, and compare its size and its SHA-256.") from None
