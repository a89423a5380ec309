"""Metrics of one completion, against numbers worked by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.measurement_helpers import completion
from workshop_lib.metrics import timing
from workshop_lib.records import Chunk

FIVE = [0.05, 0.06, 0.07, 0.08, 0.09]


def test_first_token_is_the_first_chunk_with_text():
    """TTFT is the first content chunk's arrival: 0.05 s."""
    assert timing.first_token_s(completion(FIVE)) == 0.05


def test_reasoning_counts_as_first_token_but_not_as_visible():
    """Reasoning at 0.05 s and content at 0.15 s give both times."""
    chunks = (Chunk(0.05, "reasoning", "hm"), Chunk(0.15, "content", "so"))
    both = completion(FIVE, chunks=chunks, completion_tokens=2)
    assert timing.first_token_s(both) == 0.05
    assert timing.first_visible_token_s(both) == 0.15


def test_latency_is_the_last_chunk_and_not_the_end_of_the_response():
    """A closing event after the last token does not lengthen the latency."""
    assert timing.latency_s(completion(FIVE, end_s=0.5)) == 0.09


def test_pace_divides_the_decode_interval_by_n_minus_1():
    """(0.09 - 0.05) / (5 - 1) = 0.01 s per token, 100 tokens per second."""
    assert timing.time_per_output_token_s(completion(FIVE)) == pytest.approx(0.01)
    assert timing.decode_tokens_per_s(completion(FIVE)) == pytest.approx(100)


def test_end_to_end_rate_counts_completion_tokens_only():
    """5 tokens in 0.09 s are 55.6 tokens per second, whatever the prompt's length."""
    assert timing.tokens_per_s(completion(FIVE, prompt_tokens=1000)) == pytest.approx(5 / 0.09)


def test_coalesced_chunks_leave_the_first_chunk_out_of_the_pace():
    """40 tokens in 10 chunks 40 ms apart: 36 tokens in 0.36 s are 100 per second, not 39 / 0.36."""
    times = [0.08 + 0.04 * chunk for chunk in range(10)]
    many = completion(times, [" one two three four"] * 10, completion_tokens=40)
    assert timing.has_coalesced_chunks(many)
    assert timing.decode_tokens_per_s(many) == pytest.approx(100)


def test_a_burst_at_the_start_is_left_out_of_the_pace():
    """12 tokens in the first read, then 20 more 1 ms apart: 20 tokens in 20 ms, not 31."""
    times = [0.015] * 12 + [0.015 + 0.001 * later for later in range(1, 21)]
    burst = completion(times)
    assert timing.has_burst(burst)
    assert timing.time_per_output_token_s(burst) == pytest.approx(0.001)


def test_a_burst_after_the_first_token_is_left_out_too():
    """1 token, 30 in the next read, then 20 more 1 ms apart: the pace is 1 ms, not 0.4 ms."""
    times = [0.0150] + [0.0151] * 30 + [0.0151 + 0.001 * later for later in range(1, 21)]
    assert timing.time_per_output_token_s(completion(times)) == pytest.approx(0.001)


@pytest.mark.parametrize("later", [0, 7])
def test_a_burst_that_leaves_nothing_to_time_gives_no_pace(later: int):
    """Everything, or all but 7 tokens, in one read: the pace is withheld."""
    assert timing.time_per_output_token_s(completion([0.015] * 40 + [0.016] * later)) is None


def test_a_short_answer_needs_no_burst_to_have_a_pace():
    """Four tokens one by one have a pace of three gaps: short is not the same as bursty."""
    assert timing.time_per_output_token_s(completion([0.1, 0.2, 0.3, 0.4])) == pytest.approx(0.1)


@pytest.mark.parametrize("tokens", [40, 20, 14])
def test_hidden_tokens_withhold_the_decode_rate(tokens: int):
    """More tokens in usage than single-word chunks can hold: no rate is given."""
    hidden = completion([0.01 * chunk for chunk in range(1, 11)], completion_tokens=tokens)
    assert timing.has_hidden_tokens(hidden)
    assert timing.decode_tokens_per_s(hidden) is None


def test_reported_reasoning_that_never_arrives_is_hidden():
    """Usage names reasoning tokens, no reasoning was streamed: hidden, however wordy the chunks are."""
    hidden = completion(FIVE, [" one two three four"] * 5, completion_tokens=20, reasoning_tokens=10)
    assert timing.has_hidden_tokens(hidden)


def test_ideographs_count_one_by_one():
    """Four ideographs in a chunk can be four tokens, so nothing is hidden."""
    chinese = completion(FIVE, ["会议记录"] * 5, completion_tokens=20)
    assert timing.has_coalesced_chunks(chinese)


def test_an_unstreamed_end_token_is_no_warning():
    """One token more than chunks is an end token, not a hidden answer."""
    one_more = completion(FIVE, completion_tokens=6)
    assert not timing.has_hidden_tokens(one_more)
    assert not timing.has_coalesced_chunks(one_more)


def test_without_usage_chunks_are_counted_and_no_rate_is_given():
    """No usage: 5 chunks, labelled as such, and neither rate."""
    bare = completion(FIVE, completion_tokens=None)
    assert timing.completion_tokens(bare) == (5, "chunks")
    assert timing.tokens_per_s(bare) is None
    assert timing.decode_tokens_per_s(bare) is None


def test_one_piece_answers_have_no_first_token():
    """An answer that was not streamed has a latency and a total rate, but no TTFT and no pace."""
    whole = completion([2.0], streamed=False, completion_tokens=40)
    assert timing.first_token_s(whole) is None
    assert timing.first_visible_token_s(whole) is None
    assert timing.decode_tokens_per_s(whole) is None
    assert timing.tokens_per_s(whole) == 20


def test_one_piece_answers_without_usage_have_unknown_tokens():
    """Neither usage nor chunks: the count is unknown, never guessed from characters."""
    assert timing.completion_tokens(completion([2.0], streamed=False, completion_tokens=None)) == (None, "unknown")


def test_one_token_has_no_pace():
    """With a single arrival there is no interval to divide."""
    assert timing.time_per_output_token_s(completion([0.05])) is None


def test_prefill_rate_is_withheld_for_cached_prompts():
    """10 prompt tokens in 0.05 s are 200 per second; with a cached prompt the rate says nothing."""
    assert timing.prefill_tokens_per_s(completion(FIVE)) == pytest.approx(200)
    assert timing.prefill_tokens_per_s(completion(FIVE, cached_tokens=8)) is None


def test_a_failed_request_has_no_metrics():
    """Every metric of a failed request is None, however much of it arrived."""
    failed = completion(FIVE, error="broke", error_kind="reset")
    assert [metric.measure(failed) for metric in timing.METRICS] == [None] * len(timing.METRICS)
    assert timing.completion_tokens(failed) == (None, "unknown")


def test_truncation_is_what_the_server_says():
    """finish_reason `length` means that max_tokens cut the answer."""
    assert timing.is_truncated(completion(FIVE, finish_reason="length"))
    assert not timing.is_truncated(completion(FIVE))


@given(st.lists(st.floats(1e-4, 5.0), min_size=2, max_size=60), st.floats(0.001, 10.0))
def test_times_are_ordered_and_rates_invert(gaps: list[float], first: float):
    """TTFT never exceeds latency, and the decode rate is the inverse of TPOT."""
    times = [first + sum(gaps[:count]) for count in range(len(gaps) + 1)]
    sample = completion(times)
    first_s, last_s = timing.first_token_s(sample), timing.latency_s(sample)
    pace, rate = timing.time_per_output_token_s(sample), timing.decode_tokens_per_s(sample)
    assert first_s is not None and last_s is not None and first_s <= last_s
    assert pace is not None and rate is not None and pace * rate == pytest.approx(1)


def test_metric_names_are_unique():
    """Reports and charts look metrics up by name."""
    names = [metric.name for metric in timing.METRICS]
    assert len(set(names)) == len(names)
