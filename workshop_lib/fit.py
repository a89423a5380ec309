"""Will it fit? Size, memory and speed of models that are not here yet, from their shape and the records of a run.

Size is counting: weights times the bits of one in a file. To write a token, a model reads its weights and the KV cache:
seconds = overhead + MB read x seconds per MB, by precision. A process holds a base, a share for each MB of files and
each entry of the vocabulary, and the cache. The factors are fitted to the models that ran on this machine, CPU builds
only. Not counted: the memory that reading a long prompt takes, and that attention is slower than its reading.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, get_args

from workshop_lib import data
from workshop_lib.data import ModelCard, ShapeKey
from workshop_lib.errors import ConfigurationError, DataFileError
from workshop_lib.models import registry
from workshop_lib.models.folder import CONFIG
from workshop_lib.precision import bits
from workshop_lib.records import Run
from workshop_lib.show.text import number
from workshop_lib.summary import summarise

Shape = Mapping[ShapeKey, int]


class Need(NamedTuple):
    """MB on disk, MB of memory at the peak, decoded tokens per second; None where unknown."""

    size_mb: float | None = None
    memory_mb: float | None = None
    decode: float | None = None


class Estimate(NamedTuple):
    """What a model needs with `tokens` in its context, as known and as estimated. Not `paced`: they came in bursts."""

    alias: str
    precision: str | None
    shape: Shape
    tokens: float
    known: Need
    ran: bool = False
    paced: bool = True
    need: Need = Need()

    def counted(self) -> tuple[float, float, float]:
        """MB of a CPU build's files, of the weights read for a token, and of the KV cache; 0 where unknown.

        Below 16 bits each 32 weights share a scale of 32 bits; `exact4` takes 6 bits in all. Beside them lie angles for
        each place of the context, and a tokenizer of 50 bytes an entry. The cache has a key and a value of 32 bits for
        each layer and token. Where parameters or bits are unknown, all of the files is read.
        """
        count, named = Counter(self.shape), bits(self.precision)  # what is unknown counts 0
        cache = 8 * count["num_hidden_layers"] * count["num_key_value_heads"] * count["head_size"] * self.tokens / 1e6
        if not (count["parameters"] and named):
            return self.known.size_mb or 0.0, self.known.size_mb or 0.0, cache
        stored = 6 if self.precision == "exact4" else named + (named < 16)
        table, tied = count["vocab_size"] * count["hidden_size"], self.shape.get("tie_word_embeddings", 1)
        passed = count["parameters"] - (0 if tied else table)  # of an embedding, one row is read
        kept = passed * stored + table * self.shape.get("embedding_bits", 0 if tied else stored)
        beside = 4 * count["context_length"] * count["head_size"] + 50 * count["vocab_size"]
        return (kept / 8 + beside) / 1e6, (count["active"] or passed) * stored / 8e6, cache

    def errors(self) -> tuple[float | None, ...]:
        """How far each figure is off the known one, in %; None where there is none to compare with."""
        pairs = zip(self.need, (*self.known[:2], self.known.decode if self.paced else None), strict=True)
        return tuple(100 * (mine / known - 1) if mine and known else None for mine, known in pairs)

    def fits(self, free_mb: float) -> str:
        """`yes`, `tight` above four fifths of the free memory, `no`, or `unknown`."""
        share = (self.need.memory_mb or 0.0) / free_mb
        return "unknown" if not share else "yes" if share <= 0.8 else "tight" if share <= 1 else "no"


class Machine(NamedTuple):
    """Seconds per token and, by precision, per MB read; MB of memory: a base, and per MB of files and vocabulary."""

    overhead_s: float
    s_per_mb: Mapping[str | None, float]
    memory: tuple[float, ...]

    def estimate(self, model: Estimate) -> Estimate:
        """Estimate a model, by the pace of its precision, else the median of as many bits, else of all that ran."""
        size_mb, read_mb, kv_mb = model.counted()
        alike = [pace for name, pace in self.s_per_mb.items() if bits(name) == bits(model.precision)]
        pace = self.s_per_mb.get(model.precision) or median(alike or self.s_per_mb.values() or [0.0])
        terms = (1.0, size_mb, model.shape.get("vocab_size", 0))
        held = sum(mb * term for mb, term in zip(self.memory, terms, strict=False))
        decode = 1 / (self.overhead_s + pace * (read_mb + kv_mb)) if pace * read_mb else None
        return model._replace(need=Need(size_mb, held + kv_mb if held else None, decode)) if size_mb else model


def calibrate(models: Iterable[Estimate]) -> Machine:
    """Fit a machine to models that ran on it; where tokens came in bursts, a model only tells of the overhead."""
    every = [(each, *each.counted()) for each in models]
    timed = [(each, read + kv, 1 / each.known.decode) for each, _, read, kv in every if each.known.decode]
    names = sorted({each.precision for each, *_ in timed if each.paced}, key=str)
    reads = [(1.0, *(mb * (each.paced and each.precision == name) for name in names)) for each, mb, _ in timed]
    overhead_s, *paces = _fitted(reads, [seconds for *_, seconds in timed]) if timed else (0.0,)
    held = [(each, size, each.known.memory_mb - kv) for each, size, _, kv in every if each.known.memory_mb]
    words = [each.shape.get("vocab_size", 0) for each, *_ in held]  # where all have as many, they are part of the base
    sums = [(1.0, size, own * (min(words) < max(words))) for (_, size, _), own in zip(held, words, strict=True)]
    memory = _fitted(sums, [mb for *_, mb in held]) if held else ()
    return Machine(overhead_s, dict(zip(names, paces, strict=True)), memory)


def _fitted(terms: Sequence[Sequence[float]], wanted: Sequence[float]) -> tuple[float, ...]:
    """Factors of 0 or more that bring sums of terms near what is wanted, by relative errors; outliers count less."""
    import numpy as np
    from scipy.optimize import least_squares

    relative = np.array(terms) / np.array(wanted)[:, None]
    scale = np.where((largest := relative.max(axis=0)) > 0, largest, np.inf)  # what nobody has gets the factor 0
    options: dict[str, Any] = {"bounds": (0, np.inf), "loss": "soft_l1", "f_scale": 0.1, "xtol": 1e-12, "ftol": 1e-12}
    found = least_squares(lambda factors: relative / scale @ factors - 1, np.ones(len(scale)), **options)
    return tuple(map(float, found.x / scale))


class Fit(NamedTuple):
    """The models of a run, each estimated from the others, then those of a catalog; `free_mb` they may take."""

    estimates: tuple[Estimate, ...]
    machine: Machine
    free_mb: float

    def sentences(self) -> Iterator[str]:
        """The largest model of the catalog that fits, and how far estimates were off."""
        fitting = [each for each in self.estimates if not each.ran and each.fits(self.free_mb) == "yes"]
        if best := max(fitting, key=lambda each: each.need.memory_mb or 0.0, default=None):
            free, held, pace = (number(each or float("nan")) for each in (self.free_mb, *best.need[1:]))
            yield f"By estimate, {best.alias} is the largest of the catalog that fits {free} MB of free memory."
            yield f"With {best.tokens:,.0f} tokens of context it needs {held} MB and writes {pace} tokens/s."
        if rates := [f"{1e-3 / pace:.3g} GB/s at {name}" for name, pace in self.machine.s_per_mb.items() if pace]:
            yield f"This machine read weights at {', '.join(rates)}."
        for place, name in enumerate(("size", "memory", "decode")):
            errors = [each.errors()[place] for each in self.estimates if each.ran]
            if off := sorted(error for error in errors if error is not None):
                yield f"For models that ran, {name} estimated from the others is {off[0]:+.0f} to {off[-1]:+.0f} % off."


def estimate_fit(
    run: Run, models: Mapping[str, ModelCard] | None = None, *, context: int = 4096, free_mb: float | None = None
) -> Fit:
    """Estimate every model that ran, with the run's own prompts, and at 4 bits every other of a catalog.

    Those of `models`, None = `models.json`, have `context` tokens in their context. `free_mb` None = what is free now.
    Raises `ConfigurationError` for a context or memory of 0 or less.
    """
    import psutil

    free_mb = psutil.virtual_memory().available / 1e6 if free_mb is None else free_mb
    if context < 1 or not 0 < free_mb < math.inf:
        raise ConfigurationError(f"The context is {context} tokens, {free_mb:g} MB are free.", "Give more than 0.")
    cards = data.read_models() if models is None else models
    ran = list(_that_ran(run, cards))
    alone = [calibrate(other for other in ran if other is not each).estimate(each) for each in ran]
    machine, measured = calibrate(ran), {each.alias for each in ran}
    offered = [
        Estimate(alias, "int4", card.shape, min(context, card.shape.get("context_length", context)), Need(card.size_mb))
        for alias, card in cards.items()
        if card.profile == "foundry" and card.listed and alias not in measured
    ]
    return Fit((*alone, *map(machine.estimate, offered)), machine, free_mb)


def _that_ran(run: Run, cards: Mapping[str, ModelCard]) -> Iterator[Estimate]:
    """The models that answered on the CPU; their shapes are read from their folders, where those are here."""
    places = {each.model_id: each.place for each in registry.read()}
    shapes: dict[str, Shape] = {alias: card.shape for alias, card in cards.items()}
    for model in data.read_practice_index().models:
        shapes[model.alias] = {"parameters": model.parameters}
        places |= {each.model_id: data.PRACTICE_INDEX_FILE.parent / each.folder for each in model.variants}
    for row in summarise(run):
        if row.status == "ok" and row.device == "cpu":
            tokens = (row.prompt_tokens_avg or 0.0) + (row.completion_tokens_avg or 0.0)
            shape = {**shapes.get(row.alias, {}), **_in_folder(places.get(row.model_id, Path("gone")))}
            known = Need(row.size_mb, row.peak_resident_mb, row.decode_tokens_per_sec)
            yield Estimate(row.alias, row.precision, shape, tokens, known, ran=True, paced="bursts" not in row.warnings)


def _in_folder(place: Path) -> Shape:
    """What the configuration in a model's folder says of its shape; nothing where it says nothing."""
    try:
        model: Any = data.read_untyped(place / CONFIG)["model"]  # type: ignore[index]  # asked of whatever it is
        said = {**model, **model["decoder"]}
    except (DataFileError, KeyError, TypeError):
        return {}
    return {key: said[key] for key in get_args(ShapeKey) if isinstance(said.get(key), int) and said[key] > 0}
