"""Will it fit: what is counted of a model, what a machine is fitted to, and how far that is off for models that ran."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.test_precision import run_of
from workshop_lib import data, fit, places
from workshop_lib.data import ModelCard
from workshop_lib.errors import ConfigurationError
from workshop_lib.fit import Estimate, Machine, Need, Shape, calibrate, estimate_fit
from workshop_lib.records import Chunk, Completion, Run
from workshop_lib.show import tables

MILLION: Shape = {"parameters": 1_000_000, "hidden_size": 100, "vocab_size": 2000}
REFERENCE = places.DATA / "reference" / "practice" / "records.jsonl"


def model(shape: Shape, precision: str = "int4", tokens: float = 0.0, **known: float) -> Estimate:
    return Estimate("m", precision, shape, tokens, Need(**known), ran=True)


@pytest.mark.parametrize(
    ("more", "precision", "size_mb", "read_mb"),
    [
        ({}, "fp32", 4.1, 4.0),  # 4 bytes each; a tokenizer of 2 000 x 50 bytes
        ({}, "int4", 0.725, 0.625),  # 4 bits and a 32nd of 32 bits: 5/8 bytes
        ({}, "exact4", 0.85, 0.75),
        ({"tie_word_embeddings": 0}, "fp32", 4.1, 3.2),  # of an embedding of 200 000 numbers one row is read
        ({"tie_word_embeddings": 0}, "int4", 0.725, 0.5),
        ({"tie_word_embeddings": 0, "embedding_bits": 32}, "int4", 1.4, 0.5),
        ({"embedding_bits": 32}, "int4", 1.525, 0.625),  # the output layer in 4 bits, the same table in 32 beside it
        ({"active": 250_000}, "fp32", 4.1, 1.0),
        ({"context_length": 1000, "head_size": 64}, "fp32", 4.356, 4.0),  # a sine and a cosine for every two numbers
    ],
)
def test_size_and_reading_are_counted(more: Shape, precision: str, size_mb: float, read_mb: float) -> None:
    """Each weight takes its bits and its share of a scale; a token reads every weight but the embedding's."""
    assert model({**MILLION, **more}, precision).counted() == pytest.approx((size_mb, read_mb, 0.0))


def test_the_kv_cache_of_qwen_is_worked_by_hand() -> None:
    """2 x 24 layers x 2 heads x 64 numbers x 4 096 tokens: 50.3 MB at 2 bytes each, twice that in a CPU build."""
    shape = data.read_models()["qwen2.5-0.5b"].shape
    assert model(shape, tokens=4096).counted()[2] == pytest.approx(2 * 50.331648)


@pytest.mark.parametrize("alias", ["qwen2.5-0.5b", "qwen2.5-1.5b", "qwen2.5-7b", "phi-3.5-mini", "phi-4-mini"])
def test_listed_sizes_follow_from_the_shapes(alias: str) -> None:
    """A catalog's 4-bit builds for the CPU are, within 5 %, weights of 5 bits and an embedding of 32."""
    card = data.read_models()[alias]
    assert model(card.shape).counted()[0] == pytest.approx(card.size_mb, rel=0.05)


def measured(machine: Machine, parameters: int, precision: str, vocabulary: int) -> Estimate:
    """A model exactly as the machine would have it."""
    shape: Shape = {"parameters": parameters, "vocab_size": vocabulary, "num_hidden_layers": 4}
    guess = machine.estimate(Estimate(str(parameters), precision, shape, 100, Need(), ran=True))
    return guess._replace(known=guess.need, need=Need())


TRUE = Machine(0.002, {"fp32": 0.00004, "int4": 0.00007}, (80.0, 1.2, 0.002))
SIZES = [(1, "int4", 10), (90, "int4", 40), (300, "int4", 90), (150, "fp32", 40), (700, "fp32", 150)]
RAN = [measured(TRUE, size * 1_000_000, precision, words * 1000) for size, precision, words in SIZES]


def test_a_machine_is_found_again() -> None:
    """Overhead, pace by precision and memory come back within 1 % from what models showed on it."""
    found = calibrate(RAN)
    assert found.overhead_s == pytest.approx(TRUE.overhead_s, rel=0.01)
    assert found.s_per_mb == pytest.approx(TRUE.s_per_mb, rel=0.01)
    assert found.memory == pytest.approx(TRUE.memory, rel=0.01)


def test_one_vocabulary_is_part_of_the_base() -> None:
    """What all models have alike cannot be told from the base, and is not multiplied for larger vocabularies."""
    alike = [measured(TRUE, size * 1_000_000, "int4", 50_000) for size in (50, 100, 200)]
    assert calibrate(alike).memory == pytest.approx((180.0, 1.2, 0.0), rel=0.01)


def test_a_disturbed_model_hardly_moves_the_others() -> None:
    """One of six that ran at a third of its pace, and held twice the memory, moves a large model by less than 10 %."""
    good = [*RAN, measured(TRUE, 200_000_000, "int4", 60_000)]
    need = good[1].known
    bad = good[1]._replace(known=Need(need.size_mb, 2 * (need.memory_mb or 0), (need.decode or 0) / 3))
    large = Estimate("large", "int4", {"parameters": 2_000_000_000, "vocab_size": 150_000}, 4096, Need())
    asked = calibrate([good[0], bad, *good[2:]]).estimate(large).need
    assert asked == pytest.approx(TRUE.estimate(large).need, rel=0.1)


def test_tokens_in_bursts_tell_of_the_overhead_alone() -> None:
    """A burst's rate is none of the model's: it sets no pace, and no error is told for it."""
    burst = RAN[0]._replace(paced=False)
    assert set(calibrate([burst]).s_per_mb) == set()
    assert calibrate([burst]).overhead_s == pytest.approx(1 / (burst.known.decode or 0))
    assert TRUE.estimate(burst).errors()[2] is None
    assert TRUE.estimate(RAN[0]).errors() == pytest.approx((0, 0, 0))


@pytest.mark.parametrize(("precision", "pace"), [("int4", 0.00007), ("exact4", 0.00007), ("fp16", 0.000055)])
def test_a_precision_that_did_not_run_borrows_a_pace(precision: str, pace: float) -> None:
    """Of as many bits, else the median of all."""
    read_mb = model(MILLION, precision).counted()[1]
    decode = TRUE.estimate(model(MILLION, precision)).need.decode
    assert decode == pytest.approx(1 / (0.002 + pace * read_mb))


@pytest.mark.parametrize(
    ("memory_mb", "fits"), [(800.0, "yes"), (801.0, "tight"), (1000.0, "tight"), (1001.0, "no"), (None, "unknown")]
)
def test_four_fifths_of_the_free_memory_may_be_taken(memory_mb: float | None, fits: str) -> None:
    """Beyond that it is tight, and an unknown need fits nothing."""
    assert model(MILLION)._replace(need=Need(1.0, memory_mb)).fits(1000.0) == fits


@given(st.integers(1, 10**12), st.integers(1, 10**12), st.floats(0, 10**6))
def test_more_weights_never_need_less(one: int, other: int, tokens: float) -> None:
    """Size, memory and time per token grow with the parameters."""
    small, large = (TRUE.estimate(model({"parameters": count}, tokens=tokens)).need for count in sorted((one, other)))
    assert small.size_mb and large.size_mb and small.memory_mb and large.memory_mb and small.decode and large.decode
    assert small.size_mb <= large.size_mb and small.memory_mb <= large.memory_mb and small.decode >= large.decode


# -- of a run


PACES_S = {"int4": 0.01, "exact4": 0.02, "fp32": 0.03}
CARDS = {
    "real": ModelCard((), 500.0, shape={"parameters": 135_000_000, "vocab_size": 49_000}),
    "bigger": ModelCard((), 800.0, shape={"parameters": 500_000_000, "context_length": 512}),
    "sized": ModelCard((), 4000.0),
    "nameless": ModelCard((), None),
    "gone": ModelCard((), 1.0, listed=False),
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Three builds of one model that ran, and a cache in which nothing is registered."""
    monkeypatch.setenv(places.CACHE_VARIABLE, str(tmp_path))
    found = run_of({"real": dict.fromkeys(PACES_S, ("one two",) * 4)})
    return replace(found, completions=tuple(steady(each) for each in found.completions))


def steady(completion: Completion, slower: float = 1.0) -> Completion:
    """The completion with its 20 tokens one by one, at the pace of its build."""
    pace_s = slower * next(pace for name, pace in PACES_S.items() if name in completion.model_id)
    chunks = tuple(Chunk(0.1 + place * pace_s, "content", "a ") for place in range(20))
    return replace(completion, chunks=chunks, end_s=chunks[-1].at_s)


def test_a_run_estimates_itself_and_the_catalog(run: Run) -> None:
    """Models that ran come first, then what the catalog lists and did not run, with the context that it has."""
    found = estimate_fit(run, CARDS, free_mb=1000.0)
    assert [(each.alias, each.precision, each.ran) for each in found.estimates] == [
        ("real", "int4", True), ("real", "exact4", True), ("real", "fp32", True),
        ("bigger", "int4", False), ("sized", "int4", False), ("nameless", "int4", False),
    ]  # fmt: skip
    bigger, sized, nameless = found.estimates[3:]
    assert (bigger.tokens, sized.tokens, nameless.need) == (512, 4096, Need())
    assert sized.need.size_mb == 4000.0 and sized.need.decode is not None
    assert estimate_fit(run, CARDS).free_mb > 0


@pytest.mark.parametrize(
    "wrong", [{"context": 0}, {"context": -5}, {"free_mb": 0.0}, {"free_mb": -100.0}, {"free_mb": float("nan")}]
)
def test_no_context_and_no_memory_are_refused(run: Run, wrong: dict[str, Any]) -> None:
    """Nothing fits into 0 MB or less: no model is named the largest that does, and 0 is not what happens to be free."""
    with pytest.raises(ConfigurationError):
        estimate_fit(run, {}, **wrong)


def test_a_model_is_estimated_without_its_own_record(run: Run) -> None:
    """An error is that of a model never seen: another figure of its own changes the error, not the estimate."""
    slower = tuple(steady(each, 3.0 if "int4" in each.model_id else 1.0) for each in run.completions)
    first, changed = (estimate_fit(each, CARDS).estimates[0] for each in (run, replace(run, completions=slower)))
    assert first.need.decode == changed.need.decode
    assert first.errors()[2] != changed.errors()[2]


def test_shapes_are_read_from_the_models_folders(run: Run) -> None:
    """What a folder says counts more than the list: practice-large has 5 layers of 4 heads of 32."""
    variant = replace(run.servings[0].variant, alias="practice-large", model_id="practice-large-int4-generic-cpu:1")
    completions = tuple(replace(each, model_id=variant.model_id, alias=variant.alias) for each in run.completions)
    servings = (replace(run.servings[0], variant=variant),)
    shape = estimate_fit(replace(run, servings=servings, completions=completions), {}).estimates[0].shape
    wanted = {"num_hidden_layers": 5, "num_key_value_heads": 4, "head_size": 32, "hidden_size": 256}
    assert shape == {**wanted, "vocab_size": 2048, "context_length": 1024, "parameters": shape["parameters"]}


@pytest.mark.parametrize(
    ("content", "shape"),
    [
        ({"model": {"vocab_size": 9, "decoder": {"head_size": 8, "hidden_size": "x", "num_hidden_layers": -1}}},
         {"vocab_size": 9, "head_size": 8}),
        ({"model": {"vocab_size": 9}}, {}),
        ({"model": 3}, {}),
        ([], {}),
    ],
)  # fmt: skip
def test_a_strange_configuration_says_nothing(tmp_path: Path, content: object, shape: Shape) -> None:
    """Files of others may hold anything: only counts are taken."""
    (tmp_path / "genai_config.json").write_text(json.dumps(content), "utf-8")
    assert fit._in_folder(tmp_path) == shape


def test_the_table_tells_what_is_known_and_escapes_names(run: Run) -> None:
    """An alias comes from a catalog or a server: it is text, never part of the page."""
    name = "<script>alert(1)</script>\u202e"
    found = estimate_fit(run, {name: CARDS["bigger"]}, free_mb=1e6)
    shown = tables.fit(found)
    assert len(shown) == len(found.estimates) and "%" in shown["size (MB)"][3]
    said = tables.sentences(found.sentences())
    for page in (shown._repr_html_(), said._repr_html_()):
        assert "&lt;script&gt;" in page and "<script>" not in page and "\u202e" not in page


def test_where_nothing_ran_nothing_is_claimed(run: Run) -> None:
    """Sizes can be counted anywhere; memory, pace and errors need a run."""
    found = estimate_fit(replace(run, servings=(), completions=()), CARDS)
    assert [each.need.memory_mb for each in found.estimates] == [None] * 4
    assert found.estimates[1].need.size_mb == pytest.approx(312.5)
    assert list(found.sentences()) == []
    assert set(tables.fit(found).iloc[:, -1]) == {"unknown"}
