"""Joules and tokens become energy and cost per token; what is assumed never passes for measured."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.measurement_helpers import VARIANT, completion, run_of
from workshop_lib import summary
from workshop_lib.records import Serving
from workshop_lib.summary import summarise

POSITIVE = st.floats(1e-6, 1e6)


def spent(joules: float | None, source: str | None = "measured:rapl", **changes: object):
    """A request of four tokens in 0.4 s that took this energy."""
    times = [0.1, 0.2, 0.3, 0.4]
    return completion(times, energy_j=joules, energy_source=source, **changes)


def test_energy_per_1000_tokens_is_the_sum_of_joules_over_the_sum_of_tokens():
    """3 J + 5 J over 4 + 4 tokens are 1 J per token: 1 000 J, 0.2778 Wh, per 1 000 tokens."""
    (row,) = summarise(run_of([spent(3.0), spent(5.0, prompt_id="q")]))
    assert row.energy_per_1000_tokens_wh == pytest.approx(1000 / 3600)
    assert row.energy_source == "measured:rapl"


def test_only_answered_timed_requests_count():
    """The warm-up's 100 J and those of a failed request are no part of 3 J for 4 tokens."""
    records = [spent(100.0, round=0), spent(3.0), spent(50.0, error="broke", error_kind="reset", chunks=())]
    (row,) = summarise(run_of(records))
    assert row.energy_per_1000_tokens_wh == pytest.approx(750 / 3600)


def test_a_request_without_energy_or_tokens_is_left_out_of_both_sums():
    """Unknown joules and uncounted tokens belong to neither side of the ratio."""
    records = [spent(3.0), spent(None, None), spent(9.0, completion_tokens=None)]
    (row,) = summarise(run_of(records))
    assert row.energy_per_1000_tokens_wh == pytest.approx(750 / 3600)


@pytest.mark.parametrize(
    "records", [[], [spent(None, None)], [spent(0.0)], [spent(3.0, completion_tokens=None)], [spent(3.0, error="x")]]
)
def test_what_is_not_known_is_none_and_never_zero(records: list):
    """No meter, a meter that stands still, and tokens that nobody counted give no figure and no source."""
    (row,) = summarise(run_of(records))
    assert (row.energy_per_1000_tokens_wh, row.energy_source) == (None, None)


def test_measured_and_assumed_energy_never_make_a_measured_figure():
    """A run completed on a machine where the meter could not be read is only assumed."""
    (row,) = summarise(run_of([spent(3.0), spent(5.0, "assumed")]))
    assert row.energy_source == "assumed"


def test_cost_needs_a_price():
    """1 J a token is 277.8 kWh for 10^9 tokens: a million cost 0.2778 kWh x 0.30 = 0.0833."""
    unpriced = run_of([spent(4.0)])
    priced = run_of([spent(4.0)], plan={"rounds": 3, "price_per_kwh": 0.30})
    assert summarise(unpriced)[0].energy_cost_per_million_tokens is None
    assert summarise(priced)[0].energy_cost_per_million_tokens == pytest.approx(1e6 / 3.6e6 * 0.30)


@pytest.mark.parametrize(
    ("source", "seconds", "coarse"),
    [
        ("measured:rapl", 0.4, False),  # 400 steps of a millisecond
        ("measured:nvml", 0.4, True),  # 4 steps of a tenth of a second
        ("measured:nvml", 1.1, False),
        ("measured:rapl", 0.009, True),
        ("assumed", 0.001, False),
        (None, 0.001, False),
        ("measured:nvml", None, False),
    ],
)
def test_requests_that_are_short_for_the_meter_are_marked(source: str | None, seconds: float | None, coarse: bool):
    """A counter that moves fewer than ten times in a request blurs what its neighbours used."""
    assert summary.is_coarse(source, seconds) is coarse


def test_a_short_request_shows_its_warning():
    """0.4 s are short for a graphics card's counter: the row carries the code, and a processor's does not."""
    card, package = (summarise(run_of([spent(3.0, source)]))[0] for source in ("measured:nvml", "measured:rapl"))
    assert "coarse_energy" in card.warnings
    assert "coarse_energy" not in package.warnings


def test_gpu_memory_is_that_of_the_last_look():
    """The row takes what the serving said when it ended."""
    servings = (Serving(VARIANT, gpu_memory_mb=100.0), Serving(VARIANT, gpu_memory_mb=120.0))
    assert summarise(run_of([], servings=servings))[0].gpu_memory_mb == 120.0


@given(POSITIVE, POSITIVE, st.integers(1, 10**6))
def test_assumed_energy_is_watts_times_seconds_per_token(watts: float, seconds: float, tokens: int):
    """The figure is watts x seconds per token x 1 000, in watt-hours of 3 600 J."""
    expected = watts * (seconds / tokens) * 1000 / 3600
    figure = summary.wh_per_1000_tokens(watts * seconds, tokens)
    assert figure is not None and math.isclose(figure, expected, rel_tol=1e-9)


@given(POSITIVE)
def test_watt_hours_turn_back_into_joules(joules: float):
    """A watt-hour is 3 600 joules, whichever way it is counted."""
    assert math.isclose(summary.watt_hours(joules) * summary.JOULES_PER_WATT_HOUR, joules)


@given(POSITIVE, POSITIVE, st.integers(1, 10**6))
def test_cost_agrees_with_counting_it_the_long_way(joules: float, price: float, tokens: int):
    """A million tokens at joules per token, in kilowatt-hours of 3.6 million joules, times the price."""
    long_way = joules / tokens * 1e6 / 3.6e6 * price
    short_way = summary.cost_per_million_tokens(summary.wh_per_1000_tokens(joules, tokens), price)
    assert short_way is not None and math.isclose(short_way, long_way, rel_tol=1e-9)
