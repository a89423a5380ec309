"""Simultaneous users against a server whose capacity is known."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.fault_server import fault_server
from tests.measurement_helpers import VARIANT, completion
from workshop_lib.errors import ConfigurationError
from workshop_lib.measuring.concurrency import Load, measure_loads, saturation
from workshop_lib.records import ModelVariant, Prompt

PROMPTS = (Prompt("p", "Say it."), Prompt("q", "Say that."))


def load(users: int, tokens_per_s: float | None) -> Load:
    """A level whose total throughput is given: 100 tokens in the time that makes it so."""
    tokens = None if tokens_per_s is None else 100
    answer = completion([0.1, 1.0], completion_tokens=tokens)
    return Load(users, (answer,), 100 / tokens_per_s if tokens_per_s else 1.0)


def test_a_server_without_contention_doubles_with_its_users():
    """The fake server serves everybody at the same pace: 4 users get 4 times the throughput of one."""
    with fault_server() as base_url:
        variant = ModelVariant(alias="steady", model_id="steady", device="unknown")
        model = SimpleNamespace(variant=variant, base_url=base_url, api_key=None)
        one, four = measure_loads(model, PROMPTS, levels=(1, 4), requests_per_user=2, max_tokens=10)
    assert (one.users, len(one.completions), four.users, len(four.completions)) == (1, 2, 4, 8)
    assert one.total_tokens_per_s and four.total_tokens_per_s
    assert four.total_tokens_per_s / one.total_tokens_per_s == pytest.approx(4, rel=0.15)
    assert four.latency_s == pytest.approx(one.latency_s, rel=0.15)


def test_failed_requests_are_kept_and_not_counted_as_work():
    """A level in which every request fails has records but no rates."""
    failed = Load(2, (completion([], error="broke", error_kind="reset"),) * 2, 1.0)
    assert len(failed.completions) == 2
    assert (failed.total_tokens_per_s, failed.tokens_per_s, failed.first_token_s, failed.latency_s) == (None,) * 4


@pytest.mark.parametrize(
    ("throughputs", "users"),
    [([100, 190, 200, 205], 2), ([100, 101, 180], 1), ([100, 200, 400], None), ([100, None], None), ([100], None)],
)
def test_saturation_is_where_more_users_only_wait(throughputs: list[float | None], users: int | None):
    """The first level whose successor adds under 10 %; None when it still grows or is not known."""
    levels = [load(2**step, rate) for step, rate in enumerate(throughputs)]
    assert saturation(levels) == users


@pytest.mark.parametrize("options", [{"levels": (0, 2)}, {"requests_per_user": 0}])
def test_levels_below_one_are_refused(options: dict[str, object]):
    """Nobody asking nothing is a mistake."""
    model = SimpleNamespace(variant=VARIANT, base_url="http://127.0.0.1:1/v1", api_key=None)
    with pytest.raises(ConfigurationError, match="1 or more"):
        measure_loads(model, PROMPTS, **options)
