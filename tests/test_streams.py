"""From bytes to answers, without a network."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workshop_lib.metrics.streams import error_message, read_body, read_stream
from workshop_lib.records import Chunk


def event(delta: dict[str, Any] | None = None, finish: str | None = None, **rest: Any) -> bytes:
    """One server-sent event."""
    choices = [] if delta is None else [{"delta": delta, "finish_reason": finish}]
    return b"data: " + json.dumps({"choices": choices, **rest}).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"
HELLO = event({"content": "hello"})


def test_empty_role_chunk_is_ignored():
    """A role chunk with empty content is not a token."""
    answer = read_stream([(0.01, event({"role": "assistant", "content": ""})), (0.05, HELLO), (0.06, DONE)])
    assert answer.chunks == [Chunk(0.05, "content", "hello")]


def test_usage_comes_from_the_chunk_without_choices():
    """The final chunk has empty choices and the token counts, details included."""
    usage = {
        "prompt_tokens": 7,
        "completion_tokens": 3,
        "prompt_tokens_details": {"cached_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 1},
    }
    answer = read_stream([(0.1, HELLO + event(usage=usage) + DONE)])
    counts = (answer.prompt_tokens, answer.completion_tokens, answer.cached_tokens, answer.reasoning_tokens)
    assert counts == (7, 3, 2, 1)


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning"])
def test_reasoning_is_kept_apart(key: str):
    """Both names that servers use for reasoning text are reasoning, not content."""
    answer = read_stream([(0.1, event({key: "hm"})), (0.2, HELLO + DONE)])
    assert [chunk.kind for chunk in answer.chunks] == ["reasoning", "content"]


@given(st.integers(1, 200), st.text(min_size=1, max_size=20))
def test_cutting_the_bytes_anywhere_changes_no_text(cut: int, text: str):
    """However the network slices the stream, the answer is the same; an event arrives when its line ends."""
    stream = event({"content": text}) + event({}, "stop") + DONE
    cut = min(cut, len(stream) - 1)
    answer = read_stream([(0.1, stream[:cut]), (0.2, stream[cut:])])
    assert "".join(chunk.text for chunk in answer.chunks) == text
    assert answer.fault is None


def test_comments_and_other_fields_are_skipped():
    """Keep-alive comments and event names are not data."""
    answer = read_stream([(0.1, b": ping\n\nevent: x\n" + HELLO.replace(b"\n", b"\r\n") + DONE)])
    assert [chunk.text for chunk in answer.chunks] == ["hello"]


@pytest.mark.parametrize(
    ("tail", "kind"),
    [
        (b'data: {"error": {"message": "no memory"}}\n\n', "server_error"),
        (b"data: {broken\n\n", "bad_json"),
        (b"data: [1]\n\n", "bad_json"),
        (b'data: {"choices": "\xff"}\n\n', "bad_utf8"),
        (b"", "cut_off"),
        (b"data: " + b"[" * 100_000 + b"\n\n", "bad_json"),
    ],
)
def test_a_broken_stream_is_a_fault_that_keeps_the_text_before(tail: bytes, kind: str):
    """Each fault has its kind, and what arrived before it stays in the record."""
    answer = read_stream([(0.1, HELLO), (0.2, tail)])
    assert answer.fault is not None and answer.fault.kind == kind
    assert [chunk.text for chunk in answer.chunks] == ["hello"]


@pytest.mark.parametrize("delta", [{}, {"content": ""}, {"content": None}, {"content": 5}])
def test_an_answer_without_text_is_a_fault(delta: dict[str, Any]):
    """Empty, null or non-text content is no answer."""
    answer = read_stream([(0.1, event(delta, "stop") + DONE)])
    assert answer.fault is not None and answer.fault.kind == "empty_answer"


def test_a_finish_reason_replaces_a_missing_done():
    """Servers that close after the finish reason without `[DONE]` have finished."""
    assert read_stream([(0.1, HELLO + event({}, "stop"))]).fault is None


def test_a_web_page_is_named_as_such():
    """A proxy's sign-in page is recognised, streamed or not."""
    page = [(0.1, b"<!DOCTYPE html><html>sign in</html>")]
    for answer in (read_stream(page), read_body(page)):
        assert answer.fault is not None and answer.fault.kind == "not_json"
        assert "web page" in str(answer.fault)


def test_a_whole_answer_is_one_chunk_at_its_last_byte():
    """A one-piece answer carries the time of its last byte."""
    body = json.dumps({"choices": [{"message": {"content": "hello"}, "finish_reason": "stop"}]}).encode()
    answer = read_body([(0.1, body[:5]), (0.3, body[5:])])
    assert answer.chunks == [Chunk(0.3, "content", "hello")]
    assert answer.finish_reason == "stop"


@pytest.mark.parametrize("bad", [True, -1, 2.5, "3", None])
def test_odd_token_counts_are_unknown(bad: Any):
    """Only a non-negative whole number is a count."""
    assert read_stream([(0.1, HELLO + event(usage={"completion_tokens": bad}) + DONE)]).completion_tokens is None


def test_error_messages_are_short_single_lines():
    """Nested error bodies become one line of at most the limit."""
    assert error_message({"error": {"message": "a\nb"}}) == "a b"
    assert error_message({"error": "plain"}) == "plain"
    assert len(error_message("x" * 900)) == 200
