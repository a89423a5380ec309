"""Ratios and their intervals, against numbers worked by hand and against simulated truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workshop_lib.compare import Ratio, compare_samples, describe

EVEN = {"a": [1.0, 1.01, 0.99], "b": [2.0, 2.02, 1.98]}


def scaled(samples: dict[str, list[float]], factor: float) -> dict[str, list[float]]:
    """Every value times the factor."""
    return {prompt: [factor * value for value in values] for prompt, values in samples.items()}


def test_the_ratio_is_the_geometric_mean_of_ratios_of_medians():
    """Prompt a doubles (1 to 2), prompt b is eight times slower (1 to 8): together 4 times."""
    ratio = compare_samples({"a": [1.0], "b": [1.0]}, {"a": [2.0], "b": [8.0]})
    assert ratio.value == pytest.approx(4.0)
    assert (ratio.low, ratio.high, ratio.prompts, ratio.samples) == (None, None, 2, 4)


def test_only_shared_prompts_are_compared():
    """A prompt that one side did not answer takes no part."""
    assert compare_samples({"a": [1.0], "b": [5.0]}, {"a": [2.0], "b": []}).value == pytest.approx(2.0)


def test_nothing_shared_is_nothing_to_compare():
    """Without a common prompt there is no ratio and no claim."""
    ratio = compare_samples({"a": [1.0]}, {"b": [1.0]})
    assert (ratio.value, ratio.is_clear) == (None, False)
    assert describe(ratio, "lower") == "nothing to compare"


def test_the_same_seed_gives_the_same_interval():
    """Comparisons are repeatable."""
    assert compare_samples(EVEN, scaled(EVEN, 1.3)) == compare_samples(EVEN, scaled(EVEN, 1.3))


@settings(max_examples=25, deadline=None)
@given(st.floats(0.2, 5.0))
def test_the_interval_holds_the_ratio_and_scales_with_it(factor: float):
    """Multiplying one side multiplies ratio and interval."""
    ratio, base = compare_samples(EVEN, scaled(EVEN, factor)), compare_samples(EVEN, EVEN)
    assert ratio.value == pytest.approx(factor)
    assert ratio.low is not None and ratio.high is not None and base.low is not None and base.high is not None
    assert ratio.low <= ratio.value <= ratio.high
    assert (ratio.low, ratio.high) == pytest.approx((base.low * factor, base.high * factor))


def test_a_difference_smaller_than_a_repeat_is_not_clear():
    """1 % is below what repeating a run shifts by, however small the scatter."""
    tight = {"a": [1.0, 1.00001, 0.99999], "b": [2.0, 2.00002, 1.99998]}
    assert not compare_samples(tight, scaled(tight, 1.01)).is_clear
    assert compare_samples(tight, scaled(tight, 1.05)).is_clear


@pytest.mark.parametrize("scatter", [0.005, 0.03])
def test_equal_models_are_told_apart_in_at_most_7_of_100_repeats_and_ten_percent_is_found(scatter: float):
    """With 8 prompts x 3 rounds: no clear difference in at least 93 of 100 repeats, 10 % slower found in all."""
    generator = np.random.default_rng(7)
    typical = generator.uniform(0.1, 0.6, 8)

    def measured(factor: float = 1.0) -> dict[str, list[float]]:
        noise = np.exp(generator.normal(0, scatter, (8, 3)))
        return {str(prompt): list(factor * typical[prompt] * noise[prompt]) for prompt in range(8)}

    same = sum(compare_samples(measured(), measured()).is_clear for _ in range(100))
    slower = sum(compare_samples(measured(), measured(1.1)).is_clear for _ in range(40))
    assert same <= 7
    assert slower == 40


@pytest.mark.parametrize(
    ("ratio", "better", "sentence"),
    [
        (Ratio(0.5, 0.4, 0.625, 8, 48), "lower", "2.00x faster (95 % CI 1.60-2.50)"),
        (Ratio(2.0, 1.6, 2.5, 8, 48), "lower", "2.00x slower (95 % CI 1.60-2.50)"),
        (Ratio(2.0, 1.6, 2.5, 8, 48), "higher", "2.00x faster (95 % CI 1.60-2.50)"),
        (Ratio(0.5, 0.4, 0.625, 8, 48), "higher", "2.00x slower (95 % CI 1.60-2.50)"),
        (Ratio(1.02, 0.97, 1.08, 8, 48), "lower", "no clear difference (1.02x, 95 % CI 0.97-1.08)"),
        (
            Ratio(1.05, 1.02, 1.08, 8, 48, smallest=0.08),
            "lower",
            "no clear difference (1.05x, 95 % CI 1.02-1.08; repeating shifts by up to 8%)",
        ),
        (Ratio(1.37, 0.1, 2.0, 8, 48), "higher", "no clear difference (1.37x, 95 % CI 0.10-2.00)"),
        (
            Ratio(1.37, 0.0, 1245186.75, 8, 48, smallest=0.5),
            "higher",
            "nothing can be said (1.37x, 95 % CI spans a factor of more than 20)",
        ),
        (
            Ratio(30.0, 1.5, 600.0, 8, 48),
            "lower",
            "nothing can be said (30.00x, 95 % CI spans a factor of more than 20)",
        ),
        (Ratio(1.5, None, None, 8, 16), "lower", "1.50x, no interval: at least 2 rounds are needed"),
    ],
)
def test_verdicts_read_as_sentences(ratio: Ratio, better, sentence: str):
    """Faster and slower follow the metric's direction; an unclear difference says so with its interval."""
    assert describe(ratio, better) == sentence


def test_too_wide_an_interval_is_never_clear():
    """Ends that lie a factor of 20 apart still count; further apart nothing is clear, even without 1."""
    assert Ratio(6.0, 1.5, 30.0, 8, 48).is_clear
    assert not Ratio(6.0, 1.5, 30.1, 8, 48).is_clear
