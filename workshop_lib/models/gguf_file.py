"""A GGUF file, read and judged: what the import can reproduce as the file means it, and why it refuses the rest.

A key or a tensor that this import does not know is a reason to refuse: a model that lacks one of its parts still
answers, only worse, and nobody would see why.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from workshop_lib.errors import DataFileError
from workshop_lib.show.text import one_line, without_home

if TYPE_CHECKING:
    import numpy as np
    from gguf import GGMLQuantizationType, GGUFReader
    from numpy.typing import NDArray

Precision = Literal["exact4", "int8", "int4", "fp32"]

OFFICIAL_ROUTE = (
    "Convert the original model instead, downloaded from Hugging Face: python -m onnxruntime_genai.models.builder "
    "-i DOWNLOAD -o FOLDER -c CACHE -p int4 -e cpu, with the packages that samples/03-huggingface-models names."
)
_GIVE_GGUF = f"Give a GGUF file. Where there is none: {OFFICIAL_ROUTE}"
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
_GARBAGE = (ValueError, KeyError, IndexError, TypeError, OverflowError, ZeroDivisionError)
"""What reading a damaged file raises."""


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
        shape: its architecture.
        counts: how many weights each tensor has, by name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reader = _opened(path)
        self._tensors = {tensor.name: tensor for tensor in self._reader.tensors}
        self._taken: set[str] = set()
        self.counts = {name: int(tensor.n_elements) for name, tensor in self._tensors.items()}
        kind = self.value("general.architecture")
        if kind not in ARCHITECTURES:
            raise self.refusal(f"has the architecture {kind!r}; this import knows {' and '.join(ARCHITECTURES)}")
        if self.value("split.count", 0) > 1:
            raise self.refusal(f"is one of {self.value('split.count')} parts of a model")
        self._refuse_unknown_keys(kind)
        try:
            self.shape = self._shape(kind)
        except _GARBAGE as error:
            raise _damaged(path, error) from None

    def value(self, key: str, default: Any = None) -> Any:
        """The value of a key of the metadata; without a default it has to be there."""
        if key in self._reader.fields:
            try:
                return self._reader.fields[key].contents()
            except _GARBAGE as error:
                raise _damaged(self.path, error) from None
        if default is None:
            raise self.refusal(f"lacks the key {key}")
        return default

    def has_key(self, key: str) -> bool:
        """Whether the metadata have such a key."""
        return key in self._reader.fields

    def has(self, name: str) -> bool:
        """Whether there is such a tensor."""
        return name in self._tensors

    def kind(self, name: str) -> GGMLQuantizationType:
        """The type of a tensor, which has to be there."""
        if name not in self._tensors:
            raise self.refusal(f"lacks the tensor {name}")
        return self._tensors[name].tensor_type

    def raw(self, name: str) -> NDArray[np.generic]:
        """A tensor's bytes or numbers, `[rows, …]`, its rows in the order in which the runtime rotates them.

        Files of the architecture `llama` hold the two halves of each head of queries and keys interleaved.
        """
        import numpy as np

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
        numbers = {"exact4": ("F32", "F16", "BF16"), "fp32": ("",)}.get(precision, ())
        each = 0.75 if precision == "int4" else 1.25
        kinds = {name: tensor.tensor_type.name for name, tensor in self._tensors.items()}
        return (
            sum(count * (4 if kinds[name].startswith(numbers) else each) for name, count in self.counts.items()) / 1e6
        )

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
            if key != name and key not in _USED and self.value(name):
                raise self.refusal(_MEANINGS.get(key, f"sets {name}, which this import does not know"))

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


def check_magic(path: Path) -> None:
    """Raise `DataFileError` for a file that cannot be read, or does not begin as a GGUF file does."""
    named = without_home(str(path))
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise DataFileError(f"{named} cannot be read: {error.strerror}.", _GIVE_GGUF) from None
    if magic != b"GGUF":
        raise DataFileError(f"{named} is no GGUF file.", _GIVE_GGUF)


def _opened(path: Path) -> GGUFReader:
    check_magic(path)
    from gguf import GGUFReader

    class Bounded(GGUFReader):
        """A reader that stops at the end of a file, where the original one would count on without end."""

        def _get(self, offset: int, dtype: Any, count: int = 1, override_order: Any = None) -> NDArray[Any]:
            with suppress(ValueError):  # of numpy, where it ends within a number
                found = super()._get(offset, dtype, count, override_order)
                if len(found) >= count:
                    return found
            raise IndexError("it ends too early")

    try:
        return Bounded(path)
    except _GARBAGE as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> DataFileError:
    what = f"{without_home(str(path))} is damaged or incomplete ({one_line(str(error), 120)})."
    return DataFileError(what, "Download it again, and compare its size and its SHA-256.")
