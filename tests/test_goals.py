"""The share of requests that keep service goals, and what breaks one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.measurement_helpers import VARIANT, completion, run_of
from workshop_lib import goals, settings
from workshop_lib.choice.decide import FLOORS, check_floors
from workshop_lib.records import DOES_NOT_FIT, Completion, Serving
from workshop_lib.show import tables

BOTH = {"first_token": 0.3, "latency": 1.0}
GOOD = completion([0.1, 0.9])
FAILED = completion([], error="broke", error_kind="reset")
TOO_LONG = completion([], error="too long", error_kind=DOES_NOT_FIT)
WHOLE = completion([0.9], streamed=False)
TIMES = st.floats(0.001, 5)
LIMITS = st.lists(TIMES, min_size=3, max_size=3)


@pytest.mark.parametrize(
    ("kept", "tries", "low", "high"),
    [(0, 0, None, None), (0, 12, 0.0, 0.2425), (12, 12, 0.7575, 1.0), (9, 12, 0.4677, 0.9111), (1, 2, 0.0945, 0.9055)],
)
def test_the_interval_is_wilsons(kept: int, tries: int, low: float | None, high: float | None):
    """Worked by hand: (k + z²/2 ± z sqrt(k (n - k) / n + z²/4)) / (n + z²) with z = 1.96; nothing without a try."""
    assert goals.wilson(kept, tries) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("answer", "promised", "kept"),
    [
        (GOOD, BOTH, True),
        (completion([0.3, 1.0]), BOTH, True),
        (completion([0.31, 0.9]), BOTH, False),
        (completion([0.1, 1.01]), BOTH, False),
        (completion([0.31, 0.9]), {"latency": 1.0}, True),
        (completion([0.1, 9.0]), {"first_token": 0.3}, True),
        (completion([9.0, 99.0]), {}, True),
        (FAILED, {}, False),
        (completion([0.1], words=[" "]), BOTH, False),
        (WHOLE, BOTH, None),
        (WHOLE, {"latency": 1.0}, True),
        (WHOLE, {"first_token": 0.3, "latency": 0.8}, False),
    ],
)
def test_what_keeps_a_goal(answer: Completion, promised: goals.Goals, kept: bool | None):
    """In time at the limit; never for an error or nothing to see; unknown without a first token, unless late anyway."""
    assert goals.are_kept(answer, promised) is kept


def test_timed_first_attempts_that_fit_are_counted():
    """Of 3 requests to 2 prompts 2 keep the goals; warm-up and second attempt are none, what does not fit is apart."""
    other = replace(GOOD, prompt_id="q")
    found = goals.count([GOOD, other, FAILED, TOO_LONG, replace(GOOD, round=0), replace(GOOD, attempt=2)], BOTH)
    assert (found.kept, found.requests, found.left_out, found.share.n) == (2, 3, 1, 2)
    assert found.share.value == pytest.approx(2 / 3)
    assert (found.share.low, found.share.high) == goals.wilson(4 / 3, 2)


@pytest.mark.parametrize("completions", [[], [TOO_LONG], [GOOD, WHOLE]])
def test_no_share_where_nothing_can_be_said(completions: list[Completion]):
    """Nothing asked, nothing that fits, or a first token that nobody saw: not measured, never 0."""
    found = goals.count(completions, BOTH)
    assert (found.kept if WHOLE in completions else None, found.share.value, str(found)) == (None, None, "not measured")


@given(st.lists(st.tuples(TIMES, TIMES, st.sampled_from("pqr")), min_size=1, max_size=9), LIMITS)
def test_a_weaker_promise_is_kept_at_least_as_often(drawn: list[tuple[float, float, str]], limits: list[float]):
    """Shares lie between 0 and 1 and never fall when a goal is raised, or dropped."""
    first_s, latency_s, more_s = limits
    answers = [completion([start, start + rest], prompt_id=name) for start, rest, name in drawn]
    promises = [
        {"first_token": first_s, "latency": latency_s},
        {"first_token": first_s + more_s, "latency": latency_s},
        {"latency": latency_s},
        {"latency": latency_s + more_s},
        {},
    ]
    shares = [goals.count(answers, each).share.value for each in promises]
    assert shares[0] >= 0 and shares[-1] == 1 and shares == sorted(shares)


def test_the_goals_are_the_floors_unless_set():
    """0.3 s and 1 s; 0 promises nothing; the words name what is promised."""
    assert settings.parse([], {}).goals == FLOORS == check_floors(**FLOORS) == {"latency": 1.0, "first_token": 0.3}
    assert settings.parse(["--goal-latency", "0"], {"BENCH_GOAL_FIRST_TOKEN": "2"}).goals == {"first_token": 2.0}
    assert goals.describe(FLOORS) == "first token within 0.3 s, whole answer within 1 s"
    assert goals.describe({}) == "answered at all"


def test_the_table_has_a_line_for_each_model_that_was_asked():
    """Each goal apart, then all; a skipped model has no line; what was measured where is said."""
    skipped = Serving(replace(VARIANT, model_id="none:1"), status="skipped", error="Too large.")
    answers = [GOOD, completion([0.1, 2.0]), completion([0.5, 0.9]), FAILED, TOO_LONG]
    table = tables.in_time(run_of(answers, servings=(Serving(VARIANT), skipped)), BOTH)
    assert [list(line) for line in table.itertuples(index=False)] == [
        ["tiny · int4 · cpu", "4, and 1 that do not fit", 2, 2, "1 of 4, 25 % (95 % CI 1-88)", "this machine"]
    ]
    assert list(table.columns)[2:4] == ["first token within 0.3 s", "whole answer within 1 s"]
