"""Rows, warnings, energy and stability notes from completions, against numbers worked by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.benchmarks import drift_rates
from tests.comparison_helpers import gpu_run, mislabelled_run
from tests.measurement_helpers import VARIANT, completion, run_of
from workshop_lib.records import Chunk, Completion, Prompt, Row, Serving
from workshop_lib.show import tables
from workshop_lib.summary import (
    MOST_ROUNDS,
    UNSTABLE_SPREAD,
    WARNINGS,
    drift,
    name_of,
    outliers,
    rounds_needed,
    row_object,
    spread,
    stability_notes,
    summarise,
)


def timed(latency_s: float, number: int = 1, **changes: object) -> Completion:
    """A completion of two tokens: the first at half its latency."""
    return completion([latency_s / 2, latency_s], request_id=f"tiny:1/p/{number}", round=number, **changes)


def row_of(completions: list[Completion], **changes: object) -> Row:
    """The one row of a run."""
    (row,) = summarise(run_of(completions, **changes))
    return row


def test_averages_and_percentile_are_over_timed_requests():
    """Latencies 1, 2, 3 s: mean 2 s, p95 by linear interpolation 2.9 s, first token 1 s, decode 1 token/s."""
    row = row_of([timed(9.0, 0), timed(1.0, 1), timed(2.0, 2), timed(3.0, 3)])
    assert row.latency_avg == pytest.approx(2.0)
    assert row.latency_p95 == pytest.approx(2.9)
    assert row.first_token_latency_avg == pytest.approx(1.0)
    assert row.decode_tokens_per_sec == pytest.approx(1.0)
    assert row.tokens_per_sec_avg == pytest.approx((2 / 1 + 2 / 2 + 2 / 3) / 3)
    assert (row.requests_ok, row.rounds, row.completion_tokens_avg) == (3, 3, 2)


@pytest.mark.parametrize(
    ("samples", "given_"),
    [(1, ""), (2, "50"), (9, "50"), (10, "50 90"), (19, "50 90"), (20, "50 90 95"), (99, "50 90 95"),
     (100, "50 90 95 99")],
)  # fmt: skip
def test_a_percentile_needs_enough_samples(samples: int, given_: str):
    """p50 from 2 samples on, p90 from 10, p95 from 20, p99 from 100; only `latency_p95` is there for any number."""
    found = row_object(row_of([timed(float(number), number) for number in range(1, samples + 1)]))
    for stem, factor in (("latency", 1.0), ("first_token_latency", 0.5), ("time_per_output_token", 0.5)):
        for percent in (50, 90, 95, 99):
            value = found[f"{stem}_p{percent}"]
            assert (value is not None) == (str(percent) in given_.split() or f"{stem}{percent}" == "latency95")
            if value is not None:  # of 1 ... n, linear: 1 + (n - 1) x share
                assert value == pytest.approx(factor * (1 + (samples - 1) * percent / 100))


@pytest.mark.parametrize(
    ("trained_on", "sets", "expected"),
    [
        (("course", "meeting-notes"), ("course", "course"), ("course", True)),
        (("meeting-notes",), ("course", "course"), ("course", False)),
        ((), ("course", "course"), ("course", False)),
        (None, ("course", "course"), ("course", None)),
        (("course",), ("course", "meeting-notes"), (None, None)),
        (("course",), ("", ""), (None, None)),
    ],
)
def test_a_row_says_whether_the_model_was_trained_on_its_prompts(
    trained_on: tuple[str, ...] | None, sets: tuple[str, ...], expected: tuple[str | None, bool | None]
):
    """True or false where the prompts are of one known set and the model's sets are known; else null, never false."""
    serving = Serving(replace(VARIANT, trained_on=trained_on))
    prompts = tuple(Prompt(f"p{place}", "?", set_name=name) for place, name in enumerate(sets))
    row = row_of([timed(1.0)], servings=(serving,), prompts=prompts)
    assert (row.prompt_set, row.trained_on_prompts) == expected
    assert ("trained_on_prompts" in row.warnings) == bool(expected[1])
    assert (name_of(row).endswith(" †"), "yes" in tables.speed([row]).values) == (bool(expected[1]),) * 2


def test_the_warm_up_is_the_cold_start_and_nothing_else():
    """A slow first request is shown as cold start with its warning; the mean does not know it."""
    row = row_of([timed(5.0, 0), timed(1.0, 1), timed(1.0, 2)])
    assert (row.cold_start_s, row.latency_avg) == (5.0, 1.0)
    assert "cold_start" in row.warnings


def test_nothing_measured_is_none_and_never_zero():
    """A model that never answered has no number at all; null in JSON, as what is no number."""
    row = row_of([timed(1.0, 1, error="broke", error_kind="reset")])
    assert (row.status, row.error, row.requests_ok) == ("failed", "broke", 0)
    assert (row.latency_avg, row.tokens_per_sec_avg, row.first_token_latency_avg, row.truncated_share) == (None,) * 4
    assert row_object(replace(row, load_s=math.inf))["load_s"] is None


@pytest.mark.parametrize(
    ("completions", "serving", "expected"),
    [
        ([], Serving(VARIANT), ("failed", "No request was sent.")),
        ([], Serving(VARIANT, status="failed", error="no memory"), ("failed", "no memory")),
        ([], Serving(VARIANT, status="skipped", error="no GPU"), ("skipped", "no GPU")),
        ([timed(1.0), timed(1.0, 2, error="stalled")], Serving(VARIANT, status="failed"), ("failed", "stalled")),
        ([timed(1.0), timed(1.0, 2, error="reset")], Serving(VARIANT), ("ok", None)),
    ],
)
def test_a_row_says_how_it_ended(completions: list[Completion], serving: Serving, expected: tuple[str, str | None]):
    """The serving's status and reason are the row's; else the last request's; some failures are a warning."""
    row = row_of(completions, servings=(serving,))
    assert (row.status, row.error) == expected
    assert ("some_failed" in row.warnings) == (len(completions) == 2)


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


def test_a_label_without_a_provider_is_a_warning():
    """A variant labelled gpu whose process registered no GPU provider carries the code."""
    codes = {row.device: "gpu_not_registered" in row.warnings for row in summarise(mislabelled_run())}
    assert codes == {"cpu": False, "gpu": True}
    assert not any("gpu_not_registered" in row.warnings for row in summarise(gpu_run()))


def test_a_count_that_does_not_fit_gives_no_rate_and_is_not_called_missing():
    """One such count and the row's source is the weakest, `chunks`; the mean of rates is that of the others."""
    misfit = timed(1.0, 1, chunks=(Chunk(1.0, "content", " word" * 10),), completion_tokens=4)
    row = row_of([misfit, timed(1.0, 2)])
    assert (row.tokens_source, row.tokens_per_sec_avg) == ("chunks", 2.0)
    assert "usage_mismatch" in row.warnings and "no_usage" not in row.warnings
    assert "no_usage" in row_of([misfit, timed(1.0, 2, completion_tokens=None)]).warnings


def test_too_few_samples_until_twenty():
    """19 requests are too few for a p95, 20 are enough."""
    assert "too_few_samples" in row_of([timed(1.0, number) for number in range(1, 20)]).warnings
    assert "too_few_samples" not in row_of([timed(1.0, number) for number in range(1, 21)]).warnings


def test_spread_and_outliers_are_judged_within_prompts():
    """A long prompt is no outlier and no spread; one slow answer to a short prompt is an outlier."""
    short = [timed(1.0 + 0.01 * number, number) for number in range(1, 9)]
    long = [timed(3.0 + 0.01 * number, number, prompt_id="long") for number in range(1, 9)]
    spike = timed(1.6, 9)
    assert outliers([*short, *long]) == []
    assert [each for each, _ in outliers([*short, *long, spike])] == [spike]
    assert spread([*short, *long]) < UNSTABLE_SPREAD
    assert spread([timed(1.0, 1), timed(2.0, 2)]) >= UNSTABLE_SPREAD


def line(times: float, requests: int = 24, **changes: float) -> list[Completion]:
    """Two prompts of 1 s and 3 s, asked in turn each second, at whose end everything takes `times` as long."""
    return [
        timed(
            (1.0, 3.0)[second % 2] * times ** (second / (requests - 1)) * changes.get(f"at_{second}", 1.0),
            second + 1,
            prompt_id="ab"[second % 2],
            started_at=f"2026-01-01T00:00:{second:02}.000+00:00",
        )
        for second in range(requests)
    ]


@pytest.mark.parametrize(
    ("times", "requests", "at_11", "expected", "clear"),
    [
        (2.0, 24, 1.0, 2.0, True),
        (2.0, 24, 5.0, 2.0, True),  # one outlier makes no other trend
        (1.0, 24, 5.0, 1.0, False),
        (1.19, 24, 1.0, 1.19, False),  # beyond noise, and small
        (0.5, 24, 1.0, 0.5, True),  # another program ended
        (0.7, 24, 1.0, 0.7, False),  # as after a cold start
        (2.0, 19, 1.0, 1.0, False),  # too few
    ],
)
def test_a_drift_is_a_line_over_the_time_of_the_run(
    times: float, requests: int, at_11: float, expected: float, clear: bool
):
    """Without noise the fitted line is the one that the latencies lie on, and marks lie between its ends."""
    found = drift(line(times, requests, at_11=at_11))
    assert found.times == pytest.approx(expected, rel=1e-3)
    assert found.is_clear is clear
    if requests == 24:
        assert (found.low, found.high) == pytest.approx((expected, expected), rel=1e-2)
        assert found.points[23][0] - found.points[0][0] == 23
        assert (found.points[0][1], found.points[23][1]) == pytest.approx((times**-0.5, times**0.5), rel=1e-3)
    assert ("drift" in row_of(line(times, requests, at_11=at_11)).warnings) is clear
    cached = [replace(each, cached_tokens=9) for each in line(times, requests, at_11=at_11)]
    assert ("drift" in row_of(cached).warnings) is (clear and times > 1), "faster, as the prompts were cached"


@given(st.lists(st.tuples(st.floats(1e-6, 1e6), st.integers(0, 3), st.integers(0, 59)), min_size=1, max_size=40))
def test_any_latencies_at_any_time_have_a_drift(requests: list[tuple[float, int, int]]):
    """Whatever was measured whenever: figures in order, and a mark per request."""
    found = drift(
        [
            timed(latency, prompt_id=str(prompt), started_at=f"2026-01-01T00:00:{second:02}+00:00")
            for latency, prompt, second in requests
        ]
    )
    assert 0 <= found.low <= found.times <= found.high < math.inf
    assert len(found.points) == len(requests)
    assert all(0 < relative < math.inf for _, relative in found.points)


@pytest.mark.parametrize("noise", drift_rates.NOISES)
def test_a_steady_machine_is_not_flagged_in_100_runs(noise: str):
    """12 prompts in 2 rounds, with every noise that the rates were measured with."""
    generator = np.random.default_rng(1)
    assert not any(drift(drift_rates.simulated(generator, 12, 2, noise)).is_clear for _ in range(100))


@pytest.mark.parametrize(("rounds", "times", "least"), [(2, 1.3, 90), (2, 1.5, 100), (3, 1.3, 98)])
def test_a_machine_that_slows_down_is_flagged(rounds: int, times: float, least: int):
    """12 prompts with 5 % noise: of 100 runs that slow down by 30 % or 50 %, nearly all."""
    generator = np.random.default_rng(1)
    runs = [drift_rates.simulated(generator, 12, rounds, "5 %", times) for _ in range(100)]
    assert sum(drift(run).is_clear for run in runs) >= least


def test_rows_keep_variants_apart():
    """Two precisions of one alias are two rows, in serving order; the last look at a serving counts."""
    other = replace(VARIANT, model_id="tiny-fp32:1", precision="fp32")
    servings = (Serving(VARIANT, gpu_memory_mb=1.0), Serving(other), Serving(VARIANT, gpu_memory_mb=90.0))
    rows = summarise(run_of([timed(1.0, 1), timed(2.0, 1, model_id="tiny-fp32:1")], servings=servings))
    assert [(row.precision, row.latency_avg) for row in rows] == [("int4", 1.0), ("fp32", 2.0)]
    assert rows[0].gpu_memory_mb == 90.0


@given(st.lists(st.floats(0.001, 100.0), min_size=1, max_size=50))
def test_p95_never_exceeds_the_slowest_request(latencies: list[float]):
    """numpy's linear percentile stays between the smallest and the largest sample."""
    row = row_of([timed(latency, number) for number, latency in enumerate(latencies, 1)])
    assert row.latency_p95 is not None
    assert min(latencies) <= row.latency_p95 <= max(latencies) + 1e-9
    assert row.latency_p95 == pytest.approx(float(np.percentile(latencies, 95)))


# -- energy


def spent(joules: float | None, source: str | None = "measured:rapl", **changes: object) -> Completion:
    """A request of four tokens in 0.4 s that took this energy."""
    return completion([0.1, 0.2, 0.3, 0.4], energy_j=joules, energy_source=source, **changes)


@pytest.mark.parametrize(
    ("records", "joules_per_token", "source"),
    [
        ([spent(3.0), spent(5.0, prompt_id="q")], 1.0, "measured:rapl"),  # (3 + 5) J / (4 + 4) tokens
        ([spent(100.0, round=0), spent(3.0), spent(50.0, error="broke", chunks=())], 0.75, "measured:rapl"),
        ([spent(3.0), spent(None, None), spent(9.0, completion_tokens=None)], 0.75, "measured:rapl"),
        ([spent(3.0), spent(5.0, "assumed")], 1.0, "assumed"),  # never a measured figure
        ([], None, None),
        ([spent(None, None)], None, None),
        ([spent(0.0)], None, None),
        ([spent(3.0, completion_tokens=None)], None, None),
    ],
)
def test_energy_is_joules_over_tokens_where_both_are_known(records: list, joules_per_token, source):
    """Per 1 000 tokens in watt-hours of 3 600 J, over answered timed requests; unknown is none and never zero."""
    row = row_of(records)
    assert row.energy_source == source
    expected = None if joules_per_token is None else pytest.approx(joules_per_token * 1000 / 3600)
    assert row.energy_per_1000_tokens_wh == expected


def test_cost_needs_a_price():
    """1 J a token is 277.8 kWh for 10^9 tokens: a million cost 0.2778 kWh x 0.30 = 0.0833."""
    priced = row_of([spent(4.0)], plan={"rounds": 3, "price_per_kwh": 0.30})
    assert row_of([spent(4.0)]).energy_cost_per_million_tokens is None
    assert priced.energy_cost_per_million_tokens == pytest.approx(1e6 / 3.6e6 * 0.30)


@pytest.mark.parametrize(
    ("source", "seconds", "coarse"),
    [
        ("measured:rapl", 0.4, False),  # 400 steps of a millisecond
        ("measured:nvml", 0.4, True),  # 4 steps of a tenth of a second
        ("measured:nvml", 1.1, False),
        ("measured:rapl", 0.009, True),
        ("assumed", 0.001, False),
        (None, 0.001, False),
    ],
)
def test_requests_that_are_short_for_the_meter_are_marked(source: str | None, seconds: float, coarse: bool):
    """A counter that moves fewer than ten times in a request blurs what its neighbours used."""
    answer = timed(seconds, energy_j=3.0 if source else None, energy_source=source)
    assert ("coarse_energy" in row_of([answer]).warnings) is coarse


# -- stability


def answers(latencies: dict[str, list[float]]) -> list[Completion]:
    """A completion of two tokens for each latency in seconds, prompt by prompt, rounds in order."""
    return [
        timed(latency_s, number, prompt_id=prompt)
        for prompt, values in latencies.items()
        for number, latency_s in enumerate(values, 1)
    ]


def even(rounds: int, prompts: int = 8) -> dict[str, list[float]]:
    """The same latency always."""
    return {f"p{number}": [1.0] * rounds for number in range(prompts)}


NAME = "tiny · int4 · cpu"
SCATTERED = f"{NAME}: requests with the same prompt scatter by"


@pytest.mark.parametrize(
    ("latencies", "notes"),
    [
        (even(3), ()),
        (even(2), (f"{NAME}: 16 requests are few; about 1 more round would do.",)),
        # s = 20 %; 16 degrees of freedom, t = 2.12: (2.12 x 0.2 / 0.05)^2 = 72 requests, 9 rounds
        (
            {f"p{number}": [0.8, 1.0, 1.2] for number in range(8)},
            (f"{SCATTERED} 20 % of their mean; about 6 more rounds would do.",),
        ),
        (
            {"p": [0.5, 1.0, 1.5, 1.0]},
            (f"{SCATTERED} 41 % of their mean; 100 rounds would not do, so measure on a quieter machine.",),
        ),
        (
            {name: [0.88, 1.12] * 24 for name in ("a", "b")},
            (f"{SCATTERED} 12 % of their mean; the mean is known to 5 % all the same.",),
        ),
        (
            {**even(3), "p5": [1.0, 3.0, 1.0]},
            (f"{NAME}: prompt p5, round 2 took 3.0x its median.",),
        ),
        (
            {**even(5), **{f"p{number}": [1.0, 1.0, number + 2.0, 1.0, 1.0] for number in range(5)}},
            (
                f"{SCATTERED} 51 % of their mean; about 49 more rounds would do.",
                (
                    f"{NAME}: prompt p4, round 3 took 6.0x its median; prompt p3, round 3 took 5.0x its median; "
                    "prompt p2, round 3 took 4.0x its median; 2 more outliers."
                ),
            ),
        ),
    ],
)
def test_a_run_says_how_far_it_can_be_trusted(latencies: dict[str, list[float]], notes: tuple[str, ...]):
    """Scatter with the rounds it takes, too few requests, the three worst outliers; nothing where all is even."""
    assert stability_notes(run_of(answers(latencies), servings=(Serving(VARIANT),))) == notes


def test_cold_start_and_load_time_are_results_of_their_own():
    """A first request of 5 s and a load of half a second are said apart from everything else."""
    run = run_of([timed(5.0, 0, prompt_id="p0"), *answers({**even(3), "p5": [1.0, 3.0, 1.0]})])
    assert stability_notes(run)[1:] == (
        f"{NAME}: the first request took 5.00 s; it is in no average.",
        f"Load times, in no other figure: {NAME} 0.50 s.",
    )


def test_what_failed_has_no_notes():
    """A model that answered nothing has no scatter to speak of."""
    failed = run_of([completion([], error="broke", error_kind="reset")])
    assert stability_notes(failed) == ()


@pytest.mark.parametrize(
    ("relative_spread", "prompts", "rounds", "needed"),
    [
        (0.0, 8, 3, 3),  # 20 requests
        (0.2, 8, 3, 9),  # as above: 71.9 requests
        (0.2, 1, 3, MOST_ROUNDS),  # t(0.975, 2) = 4.303: 296 requests
        (0.05, 1, 11, 20),  # t(0.975, 10) = 2.228: 5 requests, but 20 for a percentile
        (0.1, 1, 1, MOST_ROUNDS),  # one round says nothing about scatter: t(0.975, 1) = 12.7
    ],
)
def test_rounds_follow_from_the_interval_of_the_mean(relative_spread: float, prompts: int, rounds: int, needed: int):
    """n = (t s / 0.05)^2 requests, at least 20, at most 100 rounds."""
    assert rounds_needed(relative_spread, prompts=prompts, rounds=rounds) == needed
