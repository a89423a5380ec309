"""Hard limits: who breaks which, what is said, and what would let the nearest model in."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.choice_helpers import evidence_of
from workshop_lib.decision import limits
from workshop_lib.decision.evidence import Evidence
from workshop_lib.decision.limits import Limits
from workshop_lib.errors import ConfigurationError

MODELS = {
    "small": {"footprint": 400.0, "quality": 3.0, "latency_p95": 2.0, "first_token": 0.5, "memory": 900.0},
    "large": {"footprint": 6160.0, "quality": 4.5, "latency_p95": 9.0, "first_token": 1.5, "memory": 7000.0},
}
amounts = st.floats(0.001, 1e6, allow_nan=False)
grades = st.floats(1, 5, allow_nan=False)
somebody = st.fixed_dictionaries(
    {
        "footprint": st.none() | amounts,
        "quality": st.none() | grades,
        "latency_p95": amounts,
        "first_token": amounts,
        "memory": st.none() | amounts,
    }
)
anything = st.builds(
    Limits,
    max_size_mb=st.none() | amounts,
    max_first_token_s=st.none() | amounts,
    max_latency_s=st.none() | amounts,
    max_memory_mb=st.none() | amounts,
    min_quality=st.none() | grades,
    licences=st.sampled_from([(), ("MIT",), ("Apache-2.0",), ("mit ", "Apache-2.0")]),
)


def found() -> Evidence:
    return evidence_of(MODELS)


def said(evidence: Evidence, bounds: Limits) -> list[list[str]]:
    return [[each.sentence for each in broken] for broken in limits.breaches(evidence, bounds)]


@pytest.mark.parametrize(
    ("bounds", "small", "large"),
    [
        (Limits(max_size_mb=1000), [], ["size on disk 6,160 MB, the limit is 1,000 MB"]),
        (Limits(max_first_token_s=1), [], ["first token 1,500 ms, the limit is 1,000 ms"]),
        (Limits(max_latency_s=2), [], ["p95 latency 9,000 ms, the limit is 2,000 ms"]),
        (Limits(max_memory_mb=899), ["peak memory 900 MB, the limit is 899 MB"], None),
        (Limits(min_quality=4.5), ["quality 3, the limit is 4.5"], []),
        (Limits(licences=("mit", "BSD")), [], []),
        (
            Limits(licences=("Apache-2.0",)),
            ["licence MIT, allowed is Apache-2.0"],
            ["licence MIT, allowed is Apache-2.0"],
        ),
        (Limits(), [], []),
    ],
)
def test_a_broken_limit_is_said_with_both_values(bounds: Limits, small: list[str], large: list[str] | None) -> None:
    """Exactly on the limit is kept; over it, the value seen and the limit stand in one sentence."""
    first, second = said(found(), bounds)
    assert first == small
    assert large is None or second == large


def test_what_was_not_measured_keeps_no_limit() -> None:
    """Cannot be said is not a pass: neither for a figure nor for a licence."""
    evidence = evidence_of({"endpoint": {"latency": 1.0}})
    evidence = replace(evidence, rows=(replace(evidence.rows[0], licence=None),))
    assert said(evidence, Limits(max_memory_mb=100, licences=("MIT",))) == [
        ["peak memory was not measured, the limit is 100 MB", "licence is not known, allowed is MIT"]
    ]


def test_a_limit_that_other_prompts_could_break_is_said() -> None:
    """Kept on average, broken in part of the draws: a near miss; the other way round the share is in the sentence."""
    evidence = evidence_of({"swaying": {"latency_p95": [1.0, 1.0, 1.0, 3.0]}})
    kept = float((evidence.drawn["latency_p95"][:, 0] <= 1.6).mean())
    (near,) = limits.near_misses(evidence, Limits(max_latency_s=1.6), 0)
    assert near == f"p95 latency 1,500 ms keeps the limit of 1,600 ms in {kept:.0%} of draws"
    assert 0.4 < kept < 0.95
    (broken,) = limits.breaches(evidence, Limits(max_latency_s=1.4))[0]
    assert broken.kept_share == pytest.approx(float((evidence.drawn["latency_p95"][:, 0] <= 1.4).mean()))
    assert broken.sentence.endswith(f"(kept in {broken.kept_share:.0%} of draws)")
    assert limits.near_misses(evidence, Limits(max_latency_s=3), 0) == ()


def test_the_nearest_model_and_what_would_let_it_in_by_hand() -> None:
    """The small one must move one limit by 4, the large one by 61.6: the small one is nearer."""
    change = limits.nearest(found(), Limits(max_size_mb=100))
    assert change is not None
    assert (change.place, change.limits) == (0, Limits(max_size_mb=400))
    assert change.sentences == ("raise max_size_mb from 100 to 400",)
    assert limits.nearest(found(), Limits(max_size_mb=400)) is None


def test_fewer_broken_limits_are_nearer_than_smaller_steps() -> None:
    """The large one breaks one limit by far, the small one two by little: one is fewer."""
    change = limits.nearest(found(), Limits(min_quality=3.1, max_memory_mb=890, max_size_mb=7000, max_latency_s=10))
    assert change is not None and change.place == 1
    assert change.sentences == ("raise max_memory_mb from 890 to 7000",)


def test_a_missing_figure_is_to_be_measured() -> None:
    """No number would let it in, so it says what to do."""
    evidence = evidence_of({"endpoint": {"latency": 1.0}})
    evidence = replace(evidence, rows=(replace(evidence.rows[0], licence=None),))
    change = limits.nearest(evidence, Limits(max_memory_mb=100, licences=("MIT",)))
    assert change is not None
    assert change.sentences == (
        "measure its peak memory, or drop the limit max_memory_mb",
        "look its licence up: no list names it",
    )


@given(st.lists(somebody, max_size=4), anything)
def test_the_change_that_is_named_lets_that_model_in(each: list[dict[str, float | None]], bounds: Limits) -> None:
    """With the relaxed limits the nearest model keeps all of them; a change is named exactly where nobody did."""
    evidence = evidence_of({f"m{place}": values for place, values in enumerate(each)})
    broken = limits.breaches(evidence, bounds)
    change = limits.nearest(evidence, bounds)
    assert (change is None) == (not broken or not all(broken))
    if change is not None:
        assert limits.breaches(evidence, change.limits)[change.place] == ()


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"max_size_mb": 0}, "max_size_mb is 0"),
        ({"max_memory_mb": -1}, "max_memory_mb is -1"),
        ({"max_latency_s": math.nan}, "max_latency_s is nan"),
        ({"max_first_token_s": math.inf}, "max_first_token_s is inf"),
        ({"min_quality": 6}, "min_quality is 6"),
        ({"min_quality": 0.5}, "min_quality is 0.5"),
    ],
)
def test_limits_that_cannot_be_are_refused(wrong: dict[str, float], named: str) -> None:
    """Each is named with its value."""
    with pytest.raises(ConfigurationError, match=named):
        Limits(**wrong)


def test_settings_become_limits() -> None:
    """0 means no limit, licences are separated by commas, and a name that does not exist is refused."""
    made = limits.from_settings(max_size_mb=0.0, min_quality=3.0, licences=" MIT ,, Apache-2.0")
    assert made == Limits(min_quality=3.0, licences=("MIT", "Apache-2.0"))
    with pytest.raises(ConfigurationError, match="no limit 'max_size'"):
        limits.from_settings(max_size=3.0)


def test_limits_in_words() -> None:
    """Maxima and minima are told apart; no limits are no words."""
    assert limits.in_words(Limits(max_size_mb=10, min_quality=3, licences=("MIT", "BSD"))) == [
        "size on disk at most 10 MB",
        "quality at least 3",
        "licence MIT or BSD",
    ]
    assert limits.in_words(Limits()) == []
