"""What fewer bits cost: which builds are compared, how far answers are the same, and how it is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.figure_helpers import assert_words_are_clear, legend
from workshop_lib import precision
from workshop_lib.comparison import Estimate
from workshop_lib.precision import compare_precisions
from workshop_lib.records import Chunk, Completion, ModelVariant, Prompt, Run, Serving
from workshop_lib.show import charts, style, tables

PROMPTS = tuple(Prompt(name, f"Question {name}?") for name in "abcd")
SIZES = {"fp32": 500.0, "exact4": 100.0, "int4": 80.0}
LATENCIES_S = {"fp32": 1.0, "exact4": 0.5, "int4": 0.25}
WHOLE = "one two three four"
ANSWERS = {
    "int4": ("one two no four", "other words", "one two three four five", "one TWO three four"),
    "exact4": (WHOLE,) * 4,
    "fp32": (WHOLE,) * 4,
}


def run_of(models: Mapping[str, Mapping[str, Sequence[str]]], **plan: float) -> Run:
    """Models of builds of answers, one to each prompt, given in two rounds alike; latencies are `LATENCIES_S`."""
    variants, completions = [], []
    for alias, builds in models.items():
        for name, texts in builds.items():
            which = ModelVariant(
                alias, f"{alias}-{name}:1", "cpu", precision=name or None, size_mb=SIZES.get(name, 1.0)
            )
            variants.append(which)
            for turn in (1, 2):
                for prompt, text in zip(PROMPTS, texts, strict=False):
                    completions.append(_completion(which, prompt, turn, text))
    servings = tuple(Serving(each, peak_resident_mb=300.0) for each in variants)
    return Run("r", "2026-01-01T00:00:00+00:00", "practice", {}, plan, PROMPTS, servings, tuple(completions))


def _completion(variant: ModelVariant, prompt: Prompt, turn: int, text: str) -> Completion:
    end_s = LATENCIES_S.get(variant.precision or "", 1.0)
    chunks = (Chunk(0.1, "content", text[:1]), Chunk(end_s, "content", text[1:]))
    name, at = f"{variant.model_id}/{prompt.id}/{turn}", "2026-01-01T00:00:00+00:00"
    same = (variant.alias, variant.model_id, variant.device, prompt.id, turn, at)
    return Completion(name, *same, chunks=chunks, end_s=end_s, finish_reason="stop", completion_tokens=20)


RUN = run_of({"tiny": {"int4": ANSWERS["int4"]}, "real": ANSWERS})
FOUND = compare_precisions(RUN)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        (WHOLE, WHOLE),
        ("one two no four", "one two"),
        ("other two three four", ""),
        ("one two three four five", WHOLE),
        ("one\n two  three", "one\n two  three"),
        ("", ""),
    ],
)
def test_words_count_until_the_first_other_one(text: str, same: str):
    """A word is kept if all before it are; letters must be equal, what stands between words need not be."""
    assert precision.repeated(WHOLE, text) == same


@given(st.text(), st.text())
def test_what_is_repeated_begins_both(reference: str, text: str):
    """The kept part begins the text, and its words begin the reference; a text keeps all of itself."""
    same = precision.repeated(reference, text)
    assert text.startswith(same) or same == ""
    assert reference.split()[: len(same.split())] == same.split()


@pytest.mark.parametrize(
    ("name", "bits"), [("int4", 4), ("exact4", 4), ("fp16", 16), ("bf16", 16), ("fp32", 32), ("q4_k_m", 4), (None, 0)]
)
def test_bits_are_in_the_name(name: str | None, bits: int):
    """The first number of a precision's name; without one, none."""
    assert precision.bits(name) == bits


def test_the_mean_share_has_an_interval_over_prompts():
    """Half of (0, 1, 0, 1) with an interval between 0 and 1; equal shares and two prompts have none, none is none."""
    found = precision.mean_share([0.0, 1.0, 0.0, 1.0])
    assert (found.value, found.n) == (0.5, 4)
    assert found.low is not None and found.high is not None and 0 <= found.low < 0.5 < found.high <= 1
    assert [precision.mean_share(shares).low for shares in ([1.0] * 8, [0.0, 1.0])] == [None, None]
    assert precision.mean_share([]).value is None
    assert precision.percent(Estimate(0.774, 0.6, 0.9, 8)) == "77 % (95 % CI 60-90)"
    assert precision.percent(Estimate(1.0, n=8)) == "100 % (8 prompts)"


def test_builds_are_compared_with_that_of_most_bits():
    """fp32 first, then by bits and size: half and a quarter of its time; int4 keeps (2 + 0 + 4 + 1) / 4 of 4 words."""
    reference, exact, rounded = FOUND.builds
    assert [build.precision for build in (reference, exact, rounded)] == ["fp32", "exact4", "int4"]
    assert [build.latency.value for build in (exact, rounded)] == [pytest.approx(0.5), pytest.approx(0.25)]
    assert (exact.words.value, exact.same, exact.shared) == (1.0, 4, 4)
    assert (rounded.words.value, rounded.same, rounded.shared) == (pytest.approx(7 / 16), 0, 4)


def test_only_prompts_that_both_answered_count():
    """A build with two of four answers is compared on those; its first timed answer is the one that counts."""
    run = run_of({"real": {"int4": (WHOLE, "other"), "fp32": ANSWERS["fp32"]}})
    other = (Chunk(0.2, "content", "changed"),)
    later = tuple(replace(each, chunks=other) if each.round == 2 else each for each in run.completions)
    found = compare_precisions(replace(run, completions=later)).builds[1]
    assert (found.words.value, found.words.n, found.same, found.shared) == (0.5, 2, 1, 2)


@pytest.mark.parametrize(
    ("models", "compared"),
    [
        ({"small": {"int8": ["a"], "fp16": ["a"]}, "real": {"int4": ["a"], "exact4": ["a"]}}, "real"),
        ({"small": {"int8": ["a"], "fp16": ["a"]}, "real": {"fp32": ["a"]}}, "small"),
        ({"real": {"int4": ["a"]}, "other": {"fp32": ["a"]}}, None),
        ({"real": {"": ["a"], "fp32": ["a"]}}, None),
        ({"real": {"int4": [], "fp32": ["a"]}}, None),
        ({}, None),
    ],
)
def test_the_largest_model_of_two_precisions_is_taken(
    models: Mapping[str, Mapping[str, Sequence[str]]], compared: str | None
):
    """One of an unknown precision or without an answer is no build; without two of a model one sentence says so."""
    found = compare_precisions(run_of(models))
    assert {build.row.alias for build in found.builds} == ({compared} if compared else set())
    if not compared:
        assert found.sentences == (precision.NOTHING,)
        assert tables.precisions(found) is tables.precision_answers(found, "a") is charts.precisions(found) is None


def test_builds_of_two_devices_are_not_mixed():
    """int4 on a GPU and fp32 on a CPU differ in more than their precision."""
    run = run_of({"real": {"int4": ["a"], "fp32": ["a"]}})
    gpu = tuple(
        replace(each, variant=replace(each.variant, device="gpu")) if each.variant.precision == "int4" else each
        for each in run.servings
    )
    moved = tuple(replace(each, device="gpu") if "int4" in each.model_id else each for each in run.completions)
    assert compare_precisions(replace(run, servings=gpu, completions=moved)).builds == ()


def test_rounding_is_named_only_where_it_was_measured():
    """Equal bits and clearly unlike shares say that rounding costs; like shares do not, nor do drawn answers."""
    alike = {**ANSWERS, "int4": (WHOLE, WHOLE, WHOLE, "other")}
    runs = (run_of({"real": alike}), run_of({"real": {**ANSWERS, "exact4": ANSWERS["int4"]}}))
    assert [len(found.sentences) for found in (FOUND, *map(compare_precisions, runs))] == [3, 2, 2]
    drawn = compare_precisions(run_of({"real": ANSWERS}, temperature=0.7)).sentences
    assert drawn[2] == precision.DRAWN


def test_the_table_holds_costs_and_what_is_kept():
    """One line per build, in MB, ms, tok/s, with the ratio, the share and the number of equal answers."""
    shown = tables.precisions(FOUND)
    assert shown is not None
    assert list(shown["precision"]) == ["fp32", "exact4", "int4"]
    assert list(shown["size (MB)"]) == [500.0, 100.0, 80.0]
    assert list(shown["latency against fp32"].str.split(" ").str[0]) == ["reference", "2.00x", "4.00x"]
    assert list(shown["answers all the same"]) == ["", "4 of 4", "0 of 4"]


def test_answers_are_cut_where_they_begin_to_differ():
    """What a build repeats stands apart from what it writes then; the reference repeats itself."""
    shown = tables.precision_answers(FOUND, "a")
    assert shown is not None
    assert shown.values.tolist() == [["fp32", WHOLE, ""], ["exact4", WHOLE, ""], ["int4", "one two", "no four"]]
    assert tables.precision_answers(FOUND, "unknown") is None


def test_the_figure_tells_the_builds_apart_without_colour():
    """A hatch of its own per precision, a title that asks, words that keep clear, an alt text with the numbers."""
    figure = charts.precisions(FOUND)
    assert figure is not None
    assert_words_are_clear(figure)
    assert legend(figure) == ["cpu", "int4", "exact4", "fp32"]
    assert figure.texts[0].get_text().endswith("?")
    assert [bar.get_width() for bar in figure.axes[2].patches] == pytest.approx([100, 100, 100 * 7 / 16])
    assert len({bar.get_hatch() for bar in figure.axes[2].patches}) == 3
    assert "real · exact4 · cpu 100 MB, 2.00x faster (95 % CI 2.00-2.00), 100 % (4 prompts)" in style.alt_text(figure)


def test_a_build_without_size_or_interval_is_drawn_as_such():
    """What is not measured says so in its place; a single mark has no line."""
    run = run_of({"real": {name: texts[:1] for name, texts in ANSWERS.items()}})
    servings = tuple(replace(each, variant=replace(each.variant, size_mb=None)) for each in run.servings)
    figure = charts.precisions(compare_precisions(replace(run, servings=servings)))
    assert figure is not None
    assert [text.get_text() for text in figure.axes[0].texts] == ["not measured"] * 3
    assert_words_are_clear(figure)
