"""Rows from completions, against numbers worked by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.measurement_helpers import VARIANT, completion, run_of
from workshop_lib.metrics.summaries import UNSTABLE_SPREAD, WARNINGS, outliers, spread, summarise
from workshop_lib.records import Chunk, Completion, Row, Serving


def timed(latency_s: float, number: int = 1, **changes: object) -> Completion:
    """A completion of two tokens: the first at half its latency."""
    return completion([latency_s / 2, latency_s], request_id=f"tiny:1/p/{number}", round=number, **changes)


def row_of(completions: list[Completion], **changes: object) -> Row:
    """The one row of a run."""
    (row,) = summarise(run_of(completions, **changes))
    return row


def test_means_and_percentile_are_over_timed_requests():
    """Latencies 1, 2, 3 s: mean 2 s, p95 by linear interpolation 2.9 s, first token 1 s, decode 1 token/s."""
    row = row_of([timed(9.0, 0), timed(1.0, 1), timed(2.0, 2), timed(3.0, 3)])
    assert row.latency_avg == pytest.approx(2.0)
    assert row.latency_p95 == pytest.approx(2.9)
    assert row.first_token_latency_avg == pytest.approx(1.0)
    assert row.decode_tokens_per_sec == pytest.approx(1.0)
    assert row.tokens_per_sec_avg == pytest.approx((2 / 1 + 2 / 2 + 2 / 3) / 3)
    assert (row.requests_ok, row.rounds, row.completion_tokens_avg) == (3, 3, 2)


def test_the_warm_up_is_the_cold_start_and_nothing_else():
    """A slow first request is shown as cold start with its warning; the mean does not know it."""
    row = row_of([timed(5.0, 0), timed(1.0, 1), timed(1.0, 2)])
    assert row.cold_start_s == 5.0
    assert row.latency_avg == 1.0
    assert "cold_start" in row.warnings


def test_nothing_measured_is_none_and_never_zero():
    """A model that never answered has no number at all."""
    row = row_of([timed(1.0, 1, error="broke", error_kind="reset")])
    assert row.status == "failed"
    assert row.error == "broke"
    assert (row.latency_avg, row.tokens_per_sec_avg, row.first_token_latency_avg, row.truncated_share) == (None,) * 4
    assert row.requests_ok == 0


def test_a_model_that_was_never_asked_says_so():
    """Served but not asked is failed with that reason."""
    assert row_of([]).error == "No request was sent."


@pytest.mark.parametrize("status", ["failed", "skipped"])
def test_a_serving_that_failed_or_was_skipped_gives_its_reason(status: str):
    """The serving's status and reason are the row's."""
    row = row_of([], servings=(Serving(VARIANT, status=status, error="no memory"),))  # type: ignore[arg-type]
    assert (row.status, row.error) == (status, "no memory")


def test_a_model_that_was_given_up_names_its_last_failure():
    """When the serving itself is alive, the reason is the last request's."""
    failed = timed(1.0, 2, error="stalled", error_kind="stalled")
    row = row_of([timed(1.0, 1), failed], servings=(Serving(VARIANT, status="failed"),))
    assert (row.status, row.error, row.requests_ok) == ("failed", "stalled", 1)


def test_some_failures_leave_an_ok_row_with_a_warning():
    """One failed request among good ones does not fail the model."""
    row = row_of([timed(1.0, 1), timed(1.0, 2, error="reset", error_kind="reset"), timed(1.0, 3)])
    assert row.status == "ok"
    assert "some_failed" in row.warnings


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"finish_reason": "length"}, "truncated"),
        ({"completion_tokens": None}, "no_usage"),
        ({"completion_tokens": 30}, "hidden_tokens"),
        ({"cached_tokens": 9}, "cached_prompt"),
        ({"streamed": False}, "not_streamed"),
        ({"chunks": (Chunk(1.0, "content", " word" * 10),), "completion_tokens": 4}, "usage_mismatch"),
        ({"chunks": (Chunk(0.5, "reasoning", "hm"), Chunk(1.0, "content", "\n"))}, "empty_answers"),
    ],
)
def test_traps_become_warning_codes(changes: dict[str, object], code: str):
    """Each trap in a completion is a code on the row, and every code has a sentence."""
    assert code in row_of([timed(1.0, 1, **changes)]).warnings
    assert code in WARNINGS


def test_a_count_that_does_not_fit_gives_no_rate_and_is_not_called_missing():
    """One such count and the row's source is `chunks`; the mean of rates is that of the others."""
    misfit = timed(1.0, 1, chunks=(Chunk(1.0, "content", " word" * 10),), completion_tokens=4)
    row = row_of([misfit, timed(1.0, 2)])
    assert (row.tokens_source, row.tokens_per_sec_avg) == ("chunks", 2.0)
    assert "usage_mismatch" in row.warnings and "no_usage" not in row.warnings
    assert "no_usage" in row_of([misfit, timed(1.0, 2, completion_tokens=None)]).warnings


def test_tokens_source_is_the_weakest():
    """One request without usage makes the row's source `chunks`."""
    assert row_of([timed(1.0, 1), timed(1.0, 2, completion_tokens=None)]).tokens_source == "chunks"


def test_too_few_samples_until_twenty():
    """19 requests are too few for a p95, 20 are enough."""
    assert "too_few_samples" in row_of([timed(1.0, number) for number in range(1, 20)]).warnings
    assert "too_few_samples" not in row_of([timed(1.0, number) for number in range(1, 21)]).warnings


def test_an_outlier_is_found_against_its_own_prompt():
    """A long prompt is no outlier; one slow answer to a short prompt is."""
    short = [timed(1.0 + 0.01 * number, number) for number in range(1, 9)]
    long = [timed(3.0 + 0.01 * number, number, prompt_id="long") for number in range(1, 9)]
    spike = timed(1.6, 9)
    assert outliers([*short, *long]) == []
    assert outliers([*short, *long, spike]) == [spike]


def test_stability_is_judged_within_prompts():
    """Two prompts of different length with even latencies are stable; a 50 % spread is not."""
    even = [timed(value, 1, prompt_id=name) for name, value in (("a", 1.0), ("a", 1.01), ("b", 3.0), ("b", 3.01))]
    assert spread(even) < UNSTABLE_SPREAD
    assert spread([timed(1.0, 1), timed(2.0, 2)]) >= UNSTABLE_SPREAD


def test_rows_keep_variants_apart():
    """Two precisions of one alias are two rows, in serving order."""
    other = replace(VARIANT, model_id="tiny-fp32:1", precision="fp32")
    run = run_of(
        [timed(1.0, 1), timed(2.0, 1, model_id="tiny-fp32:1")],
        servings=(Serving(VARIANT), Serving(other), Serving(VARIANT, peak_resident_mb=90.0)),
    )
    rows = summarise(run)
    assert [(row.precision, row.latency_avg) for row in rows] == [("int4", 1.0), ("fp32", 2.0)]
    assert rows[0].peak_resident_mb == 90.0


@given(st.lists(st.floats(0.001, 100.0), min_size=1, max_size=50))
def test_p95_never_exceeds_the_slowest_request(latencies: list[float]):
    """numpy's linear percentile stays between the smallest and the largest sample."""
    row = row_of([timed(latency, number) for number, latency in enumerate(latencies, 1)])
    assert row.latency_p95 is not None
    assert min(latencies) <= row.latency_p95 <= max(latencies) + 1e-9
    assert row.latency_p95 == pytest.approx(float(np.percentile(latencies, 95)))
