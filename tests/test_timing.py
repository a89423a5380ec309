"""Metrics of one completion, against numbers worked by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.measurement_helpers import completion
from workshop_lib import timing
from workshop_lib.records import Chunk, Completion

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


def test_end_to_end_rate_counts_completion_tokens_only():
    """5 tokens in 0.09 s are 55.6 tokens per second, whatever the prompt's length."""
    assert timing.tokens_per_s(completion(FIVE, prompt_tokens=1000)) == pytest.approx(5 / 0.09)


def steps(first_s: float, step_s: float, count: int, times: int = 1) -> list[float]:
    """Moments that are so far apart, each so many times."""
    return [first_s + step_s * place for place in range(count) for _ in range(times)]


PACES = {
    "one by one": (completion(FIVE), 0.01),  # (0.09 - 0.05) / (5 - 1)
    "a short answer": (completion(steps(0.1, 0.1, 4)), 0.1),  # short is not the same as bursty
    # 40 tokens in 10 chunks 40 ms apart: 36 tokens in 0.36 s, not 39
    "several tokens a chunk": (
        completion(steps(0.08, 0.04, 10), [" one two three four"] * 10, completion_tokens=40),
        0.01,
    ),
    # 12 tokens in the first read, then 20 more 1 ms apart: 20 tokens in 20 ms, not 31; and so behind a first token
    "a burst at the start": (completion([0.015] * 12 + steps(0.016, 0.001, 20)), 0.001),
    "a burst behind the first token": (completion([0.0150] + [0.0151] * 30 + steps(0.0161, 0.001, 20)), 0.001),
    "nothing but a burst": (completion([0.015] * 40), None),
    "7 tokens behind a burst": (completion([0.015] * 40 + [0.016] * 7), None),
    # 120 words of 4 letters, 2.5 ms a letter: 479 gaps are 119.75 tokens of 10 ms
    "one letter a chunk": (completion(steps(0.05, 0.0025, 480), list(" abc" * 120), completion_tokens=120), 0.01),
    # four letters a read, 10 ms apart: the first read holds one token of 30, so 29 take 0.29 s
    "letters that come together": (completion(steps(0.05, 0.01, 30, 4), list(" abc" * 30), completion_tokens=30), 0.01),
    "one token in two chunks": (completion([0.1, 0.2], ["lon", "ger"], completion_tokens=1), None),
}


@pytest.mark.parametrize(("answer", "pace_s"), PACES.values(), ids=PACES)
def test_the_pace_is_the_time_per_token_after_the_first(answer: Completion, pace_s: float | None):
    """What came in the first read, or in a burst, is left out of it; where nothing is left to time there is none."""
    assert timing.time_per_output_token_s(answer) == (pace_s and pytest.approx(pace_s))
    assert timing.decode_tokens_per_s(answer) == (pace_s and pytest.approx(1 / pace_s))


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
    assert timing.measure(chinese).has_coalesced_chunks


def test_an_unstreamed_end_token_is_no_warning():
    """One token more than chunks is an end token, not a hidden answer."""
    one_more = completion(FIVE, completion_tokens=6)
    assert not timing.has_hidden_tokens(one_more)
    assert not timing.measure(one_more).has_coalesced_chunks


def test_without_usage_chunks_are_counted_and_no_rate_is_given():
    """No usage: 5 chunks, labelled as such, and neither rate."""
    bare = completion(FIVE, completion_tokens=None)
    assert timing.completion_tokens(bare) == (5, "chunks")
    assert timing.tokens_per_s(bare) is None
    assert timing.decode_tokens_per_s(bare) is None


MISFITS = {
    "a count of the first chunk alone": ([" word"] * 120, 1, True),
    "just under half": ([" word"] * 100, 49, True),
    "half": ([" word"] * 100, 50, False),
    "one chunk of many words": ([" word" * 100], 49, True),
    "ideographs, two to a token": (["\u4f1a\u8bae"] * 50, 25, False),
    "ideographs, five to a token": (["\u4f1a\u8bae"] * 50, 20, True),
    "words beside ideographs": ([" word \u4f1a\u8bae"] * 20, 19, True),
    "no spaces, 16 letters to a token": (["\u0e01"] * 320, 10, False),
    "no spaces, 40 letters to a token": (["\u0e01"] * 400, 9, True),
    "lines": (["word\n"] * 100, 49, True),
    "indentation is no text": (["x" + 20 * " "] * 10, 10, False),
    "several words a chunk, chunks counted": ([" one two three"] * 40, 40, True),
    "several ideographs a chunk, chunks counted": (["\u4f1a\u8bae\u4f1a\u8bae\u4f1a\u8bae"] * 40, 40, True),
    "a long last chunk": ([" word"] * 43 + [" word" * 120], 44, True),
    "a token a chunk": ([" word"] * 40, 40, False),
    "more tokens than words": ([" word"] * 10, 12, False),
}


@pytest.mark.parametrize(("words", "tokens", "is_misfit"), MISFITS.values(), ids=MISFITS)
@pytest.mark.parametrize("streamed", [True, False])
def test_a_count_that_is_far_too_small_is_not_believed(words: list[str], tokens: int, is_misfit: bool, streamed: bool):
    """Fewer tokens than half the words (ideographs: a quarter), or more than 32 letters to each: no rate is given."""
    times = [0.05 + 0.01 * place for place in range(len(words))]
    sample = completion(times, words, completion_tokens=tokens, streamed=streamed)
    assert timing.measure(sample).has_usage_mismatch is is_misfit
    assert (timing.tokens_per_s(sample) is None) is is_misfit
    counted = (len(words), "chunks") if streamed else (None, "unknown")
    assert timing.completion_tokens(sample) == (counted if is_misfit else (tokens, "usage"))
    if is_misfit:
        assert timing.decode_tokens_per_s(sample) is None


def test_thinking_counts_as_text():
    """Usage that leaves streamed thinking out cannot give the pace of all chunks."""
    thought = tuple(Chunk(0.01 * place, "reasoning", " hm") for place in range(1, 50))
    sample = completion([0.5], chunks=(*thought, Chunk(0.5, "content", " yes")), completion_tokens=1)
    assert timing.measure(sample).has_usage_mismatch


@pytest.mark.parametrize(
    ("chunks", "changes", "is_empty"),
    [
        ((Chunk(0.1, "content", "yes"), Chunk(0.2, "content", "\n")), {}, False),
        ((Chunk(0.1, "reasoning", "hm"), Chunk(0.2, "content", " \n")), {}, True),
        ((Chunk(0.1, "reasoning", "hm"),), {"finish_reason": "length"}, True),
        ((), {"error": "x", "error_kind": "empty_answer"}, True),
        ((), {"error": "x", "error_kind": "tool_calls"}, True),
        ((), {"error": "x", "error_kind": "http_500"}, False),
    ],
)
def test_an_answer_is_empty_when_nobody_can_see_it(chunks: tuple[Chunk, ...], changes: dict[str, str], is_empty: bool):
    """Thinking and white space are no answer; a request that failed for another reason is none at all."""
    assert completion([], chunks=chunks, **changes).is_empty is is_empty


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


def test_prefill_rate_is_withheld_for_cached_prompts():
    """10 prompt tokens in 0.05 s are 200 per second, 4 without a cached template 80; of a cached prompt, nothing."""
    assert timing.prefill_tokens_per_s(completion(FIVE)) == pytest.approx(200)
    assert timing.prefill_tokens_per_s(completion(FIVE, cached_tokens=6)) == pytest.approx(80)
    assert timing.prefill_tokens_per_s(completion(FIVE, cached_tokens=9)) is None


@pytest.mark.parametrize(
    ("finish_reason", "tokens", "pace_s"),
    [("stop", 5, 0.01), ("stop", 6, 0.01), ("length", 6, 0.008), ("stop", 7, 0.04 / 6)],
)
def test_an_end_token_that_is_counted_and_not_sent_is_no_part_of_the_pace(
    finish_reason: str, tokens: int, pace_s: float
):
    """Five chunks 10 ms apart: 40 ms for 4 tokens after the first; only one token more, at a stop, is the end token."""
    answer = completion(FIVE, finish_reason=finish_reason, completion_tokens=tokens)
    assert timing.time_per_output_token_s(answer) == pytest.approx(pace_s)


def test_a_failed_request_has_no_metrics():
    """Every metric of a failed request is None, however much of it arrived."""
    failed = completion(FIVE, error="broke", error_kind="reset")
    assert [metric.measure(failed) for metric in timing.METRICS] == [None] * len(timing.METRICS)
    assert timing.completion_tokens(failed) == (None, "unknown")


@given(st.lists(st.floats(1e-4, 5.0), min_size=2, max_size=60), st.floats(0.001, 10.0))
def test_times_are_ordered_and_rates_invert(gaps: list[float], first: float):
    """TTFT never exceeds latency, and the decode rate is the inverse of TPOT."""
    times = [first + sum(gaps[:count]) for count in range(len(gaps) + 1)]
    sample = completion(times)
    first_s, last_s = timing.first_token_s(sample), timing.latency_s(sample)
    pace, rate = timing.time_per_output_token_s(sample), timing.decode_tokens_per_s(sample)
    assert first_s is not None and last_s is not None and first_s <= last_s
    assert pace is not None and rate is not None and pace * rate == pytest.approx(1)
