"""From bytes to answers, without a network."""

from __future__ import annotations

import itertools
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workshop_lib.records import Chunk
from workshop_lib.streams import Answer, AnswerReader, EndWatch, error_message, part_thinking, read_answer

DONE = b"data: [DONE]\n\n"


def data(value: object) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def event(delta: dict[str, Any] | None = None, finish: object = None, **rest: Any) -> bytes:
    """One event of a chat completion."""
    choices = [] if delta is None else [{"delta": delta, "finish_reason": finish}]
    return data({"choices": choices, **rest})


def chunk_of(**choice: Any) -> bytes:
    return data({"choices": [choice]})


def says(*texts: str, **rest: Any) -> bytes:
    """One event per text."""
    return b"".join(event({"content": text}, **rest) for text in texts)


HELLO = says("hel", "lo")
STOP = event({}, "stop")
END = STOP + DONE
USAGE = {"prompt_tokens": 7, "completion_tokens": 3}


def body(message: object, finish: object = "stop", **rest: Any) -> bytes:
    """An answer in one piece."""
    return json.dumps({"choices": [{"message": message, "finish_reason": finish}], **rest}).encode()


def read(stream: bytes) -> Answer:
    """The answer when all bytes came at once."""
    return read_answer([(0.1, stream)])


def text_of(answer: Answer, kind: str = "content") -> str:
    return "".join(chunk.text for chunk in answer.chunks if chunk.kind == kind)


def kind_of(answer: Answer) -> str | None:
    return answer.fault.kind if answer.fault else None


# -- how a stream ends

EMPTY_REASONS = [event({"content": "hello"}, reason) for reason in ("", "null", " None ", False, 0, {}, ["stop"])]
ENDINGS = {
    "reason and [DONE]": (HELLO + END, None),
    "reason, no [DONE]": (HELLO + STOP, None),
    "no reason, [DONE]": (HELLO + DONE, None),
    "[DONE] without a space": (HELLO + b"data:[DONE]\n\n", None),
    "no reason, no [DONE]": (HELLO, "cut_off"),
    "cut within [DONE]": (HELLO + b"data: [DO", "cut_off"),
    "the text [DONE] is no end": (HELLO + says("[DONE]", "data: [DONE]"), "cut_off"),
    "nothing at all": (b"", "cut_off"),
    **{f"{one[-30:]!r}, then cut": (one, "cut_off") for one in EMPTY_REASONS},
    "a reason in every chunk, then cut": (event({"content": "hel"}, "stop") * 2, "cut_off"),
    "a reason in every chunk, and [DONE]": (event({"content": "hel"}, "stop") + event({"content": "lo"}) + DONE, None),
    "broken bytes after the reason": (HELLO + STOP + b"data: {broken}\n\n" + DONE, None),
    "an error after the end": (HELLO + END + data({"error": "too late"}), None),
    "text after [DONE]": (HELLO + DONE + says("!") + b"data: {\n\n", None),
    "an unlisted reason": (HELLO + event({}, "content_filter") + DONE, "not_complete"),
    "broken JSON": (HELLO + b"data: {broken\n\n" + END, "bad_json"),
    "JSON that is no object": (HELLO + data([1]) + END, "bad_json"),
    "JSON that is too deep": (HELLO + b"data: " + b"[" * 100_000 + b"\n\n" + END, "bad_json"),
    "bytes that are no UTF-8": (HELLO + b'data: {"choices": "\xff"}\n\n' + END, "bad_utf8"),
    "a server's last words": (HELLO + b"upstream timed out", "cut_off"),
    "an object that says abort": (HELLO + event({}, {"type": "abort"}), "not_complete"),
    "not finished, says a reason": (HELLO + event({"content": "!"}, "not_finished"), "cut_off"),
    "[DONE] in quotes": (HELLO + b'data: "[DONE]"\n\n', None),
    "an error as bare text": (HELLO + b"data: Error: out of memory\n\n" + DONE, "bad_json"),
    "an error after the answer": (HELLO + data({"error": "no memory"}) + END, "server_error"),
    "a code 0 is no error": (HELLO + STOP + data({"code": 0, "message": "Success", "choices": []}) + DONE, None),
    "an error that says ok": (event({"content": "hel"}, error={"code": 0, "message": "ok"}) + END, None),
    "a filter that is off": (
        HELLO + data({"choices": [{"delta": {}, "content_filter_result": {"error": {"message": "unfiltered"}}}]}) + END,
        None,
    ),
}


@pytest.mark.parametrize(("stream", "kind"), ENDINGS.values(), ids=ENDINGS)
def test_a_stream_is_complete_by_a_listed_reason_or_by_done(stream: bytes, kind: str | None):
    """Neither of them: the answer is cut off. Text that came before a fault is kept."""
    answer = read(stream)
    assert kind_of(answer) == kind
    assert text_of(answer)[:3] == ("hel" if stream else "")


@pytest.mark.parametrize(
    ("said", "called"),
    [
        ("stop", "stop"), ("STOP", "stop"), ("eos", "stop"), ("end_turn", "stop"), ("stop_sequence", "stop"),
        ("length", "length"), ("MAX_TOKENS", "length"), ("model_length", "length"),
        ("tool_calls", "tool_calls"), ("function_call", "tool_calls"), ("tool_use", "tool_calls"),
        ("content_filter", "content_filter"), ("Error", "Error"), ("null", None), (None, None),
    ],
)  # fmt: skip
def test_finish_reasons_have_three_names(said: object, called: str | None):
    """Servers' words become `stop`, `length` or `tool_calls`; a word that is not on the list stays as it is."""
    assert read(HELLO + event({}, said)).finish_reason == called
    assert read(body({"content": "hello"}, said)).finish_reason == called


def test_a_whole_event_before_a_cut_is_kept():
    """Without blank lines between events, half of the next one does not take the last one along."""
    assert text_of(read(HELLO.replace(b"\n\n", b"\n") + b'data: {"cho')) == "hello"


def test_the_last_reason_counts():
    """A null after the reason takes nothing back, and another word does."""
    assert read(HELLO + STOP + event({}, None)).finish_reason == "stop"
    assert kind_of(read(HELLO + STOP + event({}, "content_filter") + DONE)) == "not_complete"


# -- errors inside HTTP 200

NO_MEMORY = {"message": "no memory", "code": 500}
ERRORS = {
    "object": data({"error": NO_MEMORY}),
    "text": data({"error": "no memory"}),
    "true, with a message": data({"error": True, "message": "no memory"}),
    "in a choice": data({"choices": [{"error": NO_MEMORY, "delta": {}, "finish_reason": "error"}]}),
    "in another choice": data({"choices": [{"index": 0, "delta": {}}, {"index": 1, "error": NO_MEMORY}]}),
    "in a delta": event({"error": "no memory"}),
    "object: error": data({"object": "error", **NO_MEMORY}),
    "type: error": data({"type": "error", "error": NO_MEMORY}),
    "detail": data({"detail": "no memory"}),
    "detail, a list": data({"detail": [{"msg": "no memory", "type": "x"}]}),
    "in an array": data([{"error": NO_MEMORY}]),
    "as a field": b'error: {"message": "no memory"}\n\n',
    "as a field of text": b"error: no memory\n\n",
    "as a field, ended by [DONE]": b'error: {"error": "no memory"}\ndata: [DONE]\n\n',
    "event: error": b'event: error\ndata: {"reason": 1, "message": "no memory"}\n\n',
    "event: error behind its data": b"data: no memory\nevent: error\n\n",
    "without framing": b'{"error": {"message": "no memory"}}\n',
    "fastchat": data({"text": "no memory", "error_code": 50002}),
    "minimax": data({"choices": None, "base_resp": {"status_code": 1004, "status_msg": "no memory"}}),
    "success: false": data({"success": False, "msg": "no memory"}),
    "groq": event({}, x_groq={"error": "no memory"}),
    "event: exception": b'event: exception\ndata: {"why": "no memory"}\n\n',
    "without framing, over lines": json.dumps({"error": NO_MEMORY}, indent=2).encode() + b"\n",
}


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_an_error_is_one_wherever_it_stands(error: bytes):
    """Alone, in the middle, after the reason; cut or ended: its message is the reason, and what was said is kept."""
    for before, after in itertools.product((b"", HELLO, HELLO + STOP), (b"", b"\n", DONE, END)):
        answer = read(before + error + after)
        assert (kind_of(answer), "no memory" in str(answer.fault)) == ("server_error", True)
        assert text_of(answer) == ("hello" if before else "")


@pytest.mark.parametrize(
    "nothing", [None, False, "", {}, {"message": "", "code": 0}, []], ids=["null", "false", "", "{}", "blank", "[]"]
)
def test_an_empty_error_is_none(nothing: object):
    """Some servers send an error field in every chunk."""
    assert kind_of(read(event({"content": "hello"}, error=nothing) + END)) is None


def test_error_messages_are_short_single_lines():
    """Error bodies of every usual shape become one line of at most the limit."""
    assert error_message({"error": {"message": "a\nb"}}) == "a b"
    assert error_message({"error": "plain"}) == "plain"
    assert error_message([{"error": {"message": "first"}}, 2]) == "first"
    assert error_message({"detail": [{"loc": ["body", "max_tokens"], "msg": "too big"}]}) == "body.max_tokens: too big"
    assert error_message({"error": {"code": 5}}) == "{'code': 5}"
    assert len(error_message("x" * 900)) == 300


# -- framing

BARE = [line.removeprefix(b"data: ") for line in (HELLO + STOP).split(b"\n\n")]
FRAMINGS = {
    "line feeds": HELLO + END,
    "CR and LF": (HELLO + END).replace(b"\n", b"\r\n"),
    "CR alone": (HELLO + END).replace(b"\n", b"\r"),
    "a byte order mark": b"\xef\xbb\xbf" + HELLO + END,
    "blank lines first": b"\n\r\n" + HELLO + END,
    "no space behind data:": (HELLO + END).replace(b"data: ", b"data:"),
    "no blank lines": (HELLO + END).replace(b"\n\n", b"\n"),
    "several data: lines": says("hel") + b"".join(
        b"data: " + line + b"\n" for line in json.dumps(json.loads(says("lo")[6:]), indent=1).encode().split(b"\n")
    ) + b"\n" + END,
    "comments": b": ping\n\n" + (HELLO + END).replace(b"\n\n", b"\n\n:\n: ping\n\n"),
    "comment within an event": HELLO + STOP.replace(b"\n\n", b"\n: ping\n\n"),
    "other fields": b"retry: 3000\n\nevent: message\nid: 1\n" + HELLO + b"foo: bar\nbaz\n\n" + END,
    "pings that are events": b"event: ping\ndata: now\n\n" + HELLO + b"data: {}\n\ndata:\n\ndata: null\n\n" + END,
    "JSON without framing": b"\n".join(BARE) + b"\n",
    "JSON without framing, and [DONE]": HELLO + BARE[2] + b"\ndata: [DONE]\n\n",
    "no blank line at the end": (HELLO + STOP)[:-2],
    "zeros first": b"\0\0\0" + HELLO + END,
    "a JSON sequence": b"".join(b"\x1e" + line + b"\n" for line in BARE),
    "data: twice": (HELLO + END).replace(b"data: ", b"data: data: "),
    "pings that are data": b"data: ping\n\ndata: [HEARTBEAT]\n\ndata: : PROCESSING\n\n" + HELLO + END,
    "null choices": data({"choices": None}) + data({"choices": [None]}) + HELLO + END,
}  # fmt: skip


@pytest.mark.parametrize("stream", FRAMINGS.values(), ids=FRAMINGS)
def test_framing_changes_nothing(stream: bytes):
    """Two chunks, `hel` and `lo`, whatever stands around the JSON."""
    answer = read(stream)
    assert ([chunk.text for chunk in answer.chunks], kind_of(answer)) == (["hel", "lo"], None)
    assert answer.streamed and answer.finish_reason == "stop"


@pytest.mark.parametrize("stream", FRAMINGS.values(), ids=FRAMINGS)
def test_an_event_arrives_with_the_end_of_its_line(stream: bytes):
    """Bytes that come one by one, 1 s apart: the chunk's moment is that of its line's last byte."""
    answer = read_answer([(float(place), stream[place : place + 1]) for place in range(len(stream))])
    for chunk in answer.chunks:
        at = int(chunk.at_s)
        line = stream[:at].replace(b"\r", b"\n").rpartition(b"\n")[2]
        assert stream[at : at + 1] in b"\r\n" and line.endswith(b"}")


def test_an_answer_in_one_piece_is_told_by_its_first_bytes():
    """Its one chunk carries the time of the last byte; white space before it is a keep-alive."""
    whole = b" \n" + body({"content": "hello"}, usage=USAGE)
    answer = read_answer([(0.1, whole[:9]), (0.3, whole[9:])])
    assert (answer.chunks, answer.streamed) == ([Chunk(0.3, "content", "hello")], False)
    assert (answer.finish_reason, answer.completion_tokens, answer.fault) == ("stop", 3, None)


@pytest.mark.parametrize("finish", [None, "stop", ""])
def test_an_answer_in_one_piece_ends_by_itself(finish: str | None):
    """A body that is whole is complete without a reason; over many lines too."""
    whole = json.dumps(json.loads(body({"content": "hello"}, finish)), indent=2).encode() + b"\n"
    assert (kind_of(read(whole)), text_of(read(whole))) == (None, "hello")


BROKEN_BODIES = {
    "cut": (body({"content": "hello"})[:-4], "cut_off"),
    "cut, over lines": (
        json.dumps({"choices": [{"message": {"content": "hello"}}]}, indent=2).encode()[:60],
        "cut_off",
    ),
    "no JSON": (b'{"choices": oh no}', "bad_json"),
    "no UTF-8": (b'{"choices": "\xff"}', "bad_utf8"),
    "a number in a list": (b"[1]\n", "cut_off"),
    "error": (body({}, error="no memory"), "server_error"),
    "a list of errors": (b'[{"error": {"message": "no memory"}}]', "server_error"),
    "empty": (body({"content": ""}), "empty_answer"),
    "no choices": (b"{}", "empty_answer"),
    "not complete": (body({"content": "hello"}, "content_filter"), "not_complete"),
    "a web page": (b" <!DOCTYPE html><html>sign in</html>", "not_json"),
    "a web page in an event": (b"data: <html>sign in</html>\n\n", "not_json"),
    "plain text": (b"upstream connect error\nreset before headers", "not_json"),
}


@pytest.mark.parametrize(("stream", "kind"), BROKEN_BODIES.values(), ids=BROKEN_BODIES)
def test_what_is_no_answer_has_its_kind(stream: bytes, kind: str):
    """Web pages, plain text and broken bodies are told apart."""
    assert kind_of(read(stream)) == kind


# -- what an event holds

TEXT, THOUGHT = {"type": "text", "text": "hello"}, {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
DELTAS: dict[str, tuple[dict[str, Any], str, str]] = {
    "text": ({"content": "hello"}, "", "hello"),
    "a list of parts": ({"content": [TEXT]}, "", "hello"),
    "thinking among the parts": ({"content": [THOUGHT, TEXT]}, "hm", "hello"),
    "thinking as text": ({"content": [{"type": "reasoning", "text": "hm"}, "hello"]}, "hm", "hello"),
    "a part alone": ({"content": TEXT}, "", "hello"),
    "parts without text": ({"content": [{"type": "image_url", "text": "no"}, 5, None, TEXT]}, "", "hello"),
    "reasoning_content": ({"reasoning_content": "hm", "content": "hello"}, "hm", "hello"),
    "thinking": ({"content": "hello", "thinking": "hm"}, "hm", "hello"),
    "reasoning, an object": ({"content": "hello", "reasoning": {"text": "hm"}}, "hm", "hello"),
    "reasoning under two names": ({"reasoning": "hm", "reasoning_content": "hm", "content": "hello"}, "hm", "hello"),
    "a refusal": ({"content": None, "refusal": "no"}, "", "no"),
    "reasoning alone": ({"reasoning": "hm", "content": ""}, "hm", ""),
    "reasoning details": ({"reasoning_details": [{"type": "reasoning.text", "text": "hm"}], "content": "hello"},
                          "hm", "hello"),
}  # fmt: skip


@pytest.mark.parametrize(("said", "thought", "text"), DELTAS.values(), ids=DELTAS)
def test_text_and_reasoning_have_many_shapes(said: dict[str, Any], thought: str, text: str):
    """The same in a stream and in one piece."""
    for answer in (read(event(said) + END), read(body(said))):
        assert (text_of(answer, "reasoning"), text_of(answer), kind_of(answer)) == (thought, text, None)


def test_empty_role_chunk_is_ignored():
    """A role chunk with empty content, or null as llama.cpp sends it, is not a token."""
    roles = event({"role": "assistant", "content": ""}) + event({"role": "assistant", "content": None})
    answer = read_answer([(0.01, roles), (0.05, says("hello")), (0.06, END)])
    assert answer.chunks == [Chunk(0.05, "content", "hello")]


@pytest.mark.parametrize(
    "delta", [{}, {"content": ""}, {"content": None}, {"content": 5}, {"content": [[[[[["x"]]]]]]}]
)
def test_an_answer_without_text_is_a_fault(delta: dict[str, Any]):
    """Empty, null or non-text content is no answer."""
    assert kind_of(read(event(delta) + END)) == "empty_answer"


def choice(index: int | None, text: str, finish: str | None = None) -> dict[str, Any]:
    return {**({} if index is None else {"index": index}), "delta": {"content": text}, "finish_reason": finish}


@pytest.mark.parametrize("first", [0, 1])
def test_only_one_of_several_choices_is_read(first: int):
    """Two choices, interleaved and together: the first seen is the answer, and the other's end is not its end."""
    other = 1 - first
    events = [[choice(first, "hel"), choice(other, "x")], [choice(other, "y", "stop")], [choice(first, "lo")]]
    cut = b"".join(data({"choices": choices}) for choices in events)
    assert (text_of(read(cut)), kind_of(read(cut))) == ("hello", "cut_off")
    assert kind_of(read(cut + data({"choices": [choice(first, "", "stop")]}))) is None


MESSAGES = {
    "both in one chunk": chunk_of(delta={"content": "hel"}, message={"content": "hel"})
    + chunk_of(delta={"content": "lo"}, message={"content": "hello"}),
    "the whole at the end": HELLO + chunk_of(delta={}, message={"content": "hello"}, finish_reason="stop"),
    "messages in pieces": chunk_of(message={"content": "hel"}) + chunk_of(delta={}, message={"content": "lo"}),
    "legacy text": chunk_of(text="hel") + chunk_of(text="lo", finish_reason=None),
    "the text so far": says("h", "he", "hel", "hell", "hello") + event(usage={"completion_tokens": 5}),
    "text beside a delta": chunk_of(delta={"content": "hel"}, text="hel")
    + chunk_of(delta={"content": "lo"}, text="lo"),
}


@pytest.mark.parametrize("stream", MESSAGES.values(), ids=MESSAGES)
def test_no_text_counts_twice(stream: bytes):
    """A delta wins over a message, and a message after deltas repeats them."""
    assert text_of(read(stream + DONE)) == "hello"


CALL = {"index": 0, "id": "c", "function": {"name": "weather", "arguments": "{}"}}
CALLS = {
    "tool call": (event({"tool_calls": [CALL]}) + event({}, "tool_calls"), "weather"),
    "function call": (event({"function_call": {"name": "weather"}}) + event({}, "function_call"), "weather"),
    "after thinking and a line": (event({"reasoning": "hm", "content": "\n", "tool_calls": [CALL]}) + STOP, "weather"),
    "in one piece": (body({"content": None, "tool_calls": [CALL]}, "tool_calls"), "weather"),
    "without a name": (event({}, "tool_calls"), "a tool"),
}


@pytest.mark.parametrize(("stream", "named"), CALLS.values(), ids=CALLS)
def test_a_tool_call_is_no_answer(stream: bytes, named: str):
    """The fault names the tool."""
    answer = read(stream)
    assert kind_of(answer) == "tool_calls" and named in str(answer.fault)


def test_a_tool_call_beside_text_is_an_answer():
    """What was said can be read."""
    assert kind_of(read(HELLO + event({"tool_calls": [CALL]}, "tool_calls"))) is None


def numbered(*events: tuple[str, bytes]) -> bytes:
    return b"".join(b"id: " + name.encode() + b"\n" + each for name, each in events)


DOUBLES = {
    "all in pairs": (b"".join(2 * (each + b"\n\n") for each in (HELLO + STOP).split(b"\n\n")[:-1]) + DONE, "hello"),
    "the same id": (numbered(("1", says("hel")), ("1", says("hel")), ("2", says("lo")), ("2", says("lo"))), "hello"),
    "sent again from the start": (numbered(*2 * [("1", says("hel")), ("2", says("lo"))]), "hello"),
    "an id that tells nothing apart": (numbered(("x", says("ha")), ("x", says("ha")), ("x", says("!"))), "haha!"),
    "usage counts each once": (says("hel", "hel", "lo") + event(usage={"completion_tokens": 2}), "hello"),
    "usage counts both": (says("ha", "ha", "!") + event(usage={"completion_tokens": 3}), "haha!"),
    "no usage": (says("ha", "ha", "!"), "haha!"),
    "two words and no more": (says("ha", "ha"), "haha"),
    "half a letter each": (b"".join(b'data: {"choices":[{"delta":{"content":"%s"}}]}\n\n' % half
                           for half in (b"\\ud83d", b"\\ude42")), "\U0001f642"),
}  # fmt: skip


@pytest.mark.parametrize(("stream", "text"), DOUBLES.values(), ids=DOUBLES)
def test_an_event_sent_twice_is_one_and_a_word_said_twice_is_two(stream: bytes, text: str):
    """Doubles are told by all events coming in pairs, by their id, or by the count of tokens."""
    assert text_of(read(stream + DONE)) == text


# -- thinking aloud

BLOCKS = {
    "<think>hm</think>\n\n": "yes",
    "\n <thinking>a <b> c</thinking>": "yes",
    "<thought>hm</thought>": "yes",
    "<reasoning>hm </think> hm</reasoning> ": "yes",
    "<seed:think>hm</seed:think>": "yes",
    "[THINK]hm[/THINK]": "yes",
    "<|START_THINKING|>hm<|END_THINKING|>": "yes",
    "◁think▷hm◁/think▷\n": "yes",
    "<think>a</think>\n<think>b</think>\n": "yes",
    "<think></think>": "yes",
    "hm</think>\n": "yes",
    "hm[/THINK]<think>b</think>": "yes",
    "</think>": "yes",
    "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>": "yes",
    "<|channel|>analysis<|message|>hm<|start|>assistant<|channel|>final<|message|>": "yes",
    "<|channel|>final<|message|>": "yes",
    "<think>never closed": "",
    "<|channel|>analysis<|message|>never closed": "",
    "": "Use <think> and </think> as tags.",
    " ": "",
}


@given(st.sampled_from(sorted(BLOCKS.items())), st.sets(st.integers(0, 120)))
def test_thinking_aloud_is_parted_from_the_answer(block: tuple[str, str], cuts: set[int]):
    """However tags are split over chunks, no letter is lost or doubled, and no chunk loses its moment."""
    thought, said = block
    ends = sorted({0, *(cut for cut in cuts if cut < len(thought + said)), len(thought + said)})
    texts = [(thought + said)[start:end] for start, end in itertools.pairwise(ends)]
    chunks = [Chunk(float(place), "content", text) for place, text in enumerate(texts)]
    parted = part_thinking(chunks)
    is_blank = not thought.strip()
    assert "".join(each.text for each in parted if each.kind == "content") == (thought + said if is_blank else said)
    for chunk in chunks:
        assert "".join(each.text for each in parted if each.at_s == chunk.at_s) == chunk.text
    assert [each.at_s for each in parted] == sorted(each.at_s for each in parted)


@given(st.lists(st.text("<>/thinkTHINK[]◁▷ a\n", min_size=1, max_size=12), max_size=12))
def test_parting_never_loses_or_doubles_a_letter(texts: list[str]):
    """Whatever a model writes; and what is parted already is not parted again."""
    parted = part_thinking([Chunk(float(place), "content", text) for place, text in enumerate(texts)])
    assert "".join(each.text for each in parted) == "".join(texts) and all(each.text for each in parted)
    kinds = [each.kind for each in parted]
    assert kinds == sorted(kinds, reverse=True)  # reasoning first


def test_thinking_that_eats_max_tokens_is_an_answer_without_text():
    """The request succeeded; a row says that nothing can be seen."""
    answer = read(says("<thi", "nk>", "well", " then") + event({}, "length"))
    assert (kind_of(answer), text_of(answer), text_of(answer, "reasoning")) == (None, "", "<think>well then")


def test_thinking_in_an_answer_of_one_piece_is_parted_too():
    """Both parts carry the moment of the last byte."""
    assert read(body({"content": "<think>hm</think>yes"})).chunks == [
        Chunk(0.1, "reasoning", "<think>hm</think>"), Chunk(0.1, "content", "yes"),
    ]  # fmt: skip


# -- usage

FULL = {
    **USAGE,
    "prompt_tokens_details": {"cached_tokens": 2},
    "completion_tokens_details": {"reasoning_tokens": 1},
}
COUNTS = {
    "chunk without choices": (event(usage=FULL), (7, 3, 2, 1)),
    "in the finish chunk": (event({}, "stop", usage=FULL), (7, 3, 2, 1)),
    "in a choice": (data({"choices": [{"delta": {}, "usage": USAGE}]}), (7, 3, None, None)),
    "x_groq": (data({"choices": [], "x_groq": {"usage": USAGE}}), (7, 3, None, None)),
    "llama.cpp": (event(usage=USAGE, timings={"cache_n": 5}), (7, 3, 5, None)),
    "DeepSeek": (event(usage={**USAGE, "prompt_cache_hit_tokens": 4}), (7, 3, 4, None)),
    "a running count": (b"".join(event({}, usage={"completion_tokens": n}) for n in (1, 2, 3)), (None, 3, None, None)),
    "zeros behind": (event(usage=FULL) + event(usage={"prompt_tokens": 0, "completion_tokens": 0}), (7, 3, 2, 1)),
    "null behind": (event(usage=FULL) + event({}, usage=None), (7, 3, 2, 1)),
    "zeros": (event(usage=dict.fromkeys(FULL, 0)), (None, None, None, None)),
    "nothing cached": (event(usage={**USAGE, "prompt_tokens_details": {"cached_tokens": 0}}), (7, 3, 0, None)),
    "whole floats": (event(usage={"prompt_tokens": 7.0, "completion_tokens": 3.0}), (7, 3, None, None)),
    "none": (b"", (None, None, None, None)),
    "other names": (event(usage={"input_tokens": 7, "output_tokens": 3}), (7, 3, None, None)),
    "reasoning beside": (event(usage={"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 14,
                               "completion_tokens_details": {"reasoning_tokens": 4}}), (7, 7, None, 4)),
}  # fmt: skip


@pytest.mark.parametrize(("stream", "counts"), COUNTS.values(), ids=COUNTS)
def test_the_last_usage_that_says_something_counts(stream: bytes, counts: tuple[int | None, ...]):
    """Prompt, completion, cached and reasoning tokens, wherever a server puts them."""
    for end in (DONE, b"data: [DONE]"):
        answer = read(HELLO + stream + end)
        found = answer.prompt_tokens, answer.completion_tokens, answer.cached_tokens, answer.reasoning_tokens
        assert (found, kind_of(answer)) == (counts, None)


@pytest.mark.parametrize("bad", [True, -1, 2.5, "3", None, [3], 10**300, float("nan"), float("inf")])
def test_odd_token_counts_are_unknown(bad: Any):
    """Only a whole number that is not negative and that a model can write is a count."""
    assert read(HELLO + event(usage={"completion_tokens": bad}) + DONE).completion_tokens is None


# -- bytes cut anywhere

STREAMS = [
    *(stream for stream, _ in ENDINGS.values() if len(stream) < 10_000), *FRAMINGS.values(), *MESSAGES.values(),
    *(HELLO + error + END for error in ERRORS.values()), *(stream for stream, _ in BROKEN_BODIES.values()),
    says("<th", "ink>hm</", "think>\n", "日本 ä") + event({}, "length", usage=USAGE) + DONE,
]  # fmt: skip


def pieces(stream: bytes, cuts: set[int]) -> list[bytes]:
    ends = sorted({0, *(cut % len(stream) for cut in cuts if stream), len(stream)})
    return [stream[start:end] for start, end in itertools.pairwise(ends)]


@given(st.sampled_from(STREAMS), st.sets(st.integers(0, 10_000), max_size=20))
def test_cutting_the_bytes_anywhere_changes_nothing(stream: bytes, cuts: set[int]):
    """However the network slices the stream, the answer is the same, read at once or as it grows."""
    cut = pieces(stream, cuts)
    whole, sliced = read(stream), read_answer([(float(place), piece) for place, piece in enumerate(cut)])
    growing = AnswerReader()
    for place, piece in enumerate(cut):
        growing.feed([(float(place), piece)])
    assert [(each.kind, each.text) for each in sliced.chunks] == [(each.kind, each.text) for each in whole.chunks]
    assert (sliced.finish_reason, str(sliced.fault), kind_of(sliced)) == (
        whole.finish_reason, str(whole.fault), kind_of(whole),
    )  # fmt: skip
    if whole.streamed:
        assert growing.end().chunks == sliced.chunks


@given(st.sampled_from(STREAMS), st.sets(st.integers(0, 10_000), max_size=20))
def test_the_watch_agrees_with_the_reader(stream: bytes, cuts: set[int]):
    """It may know of a fault later than the reader, and never calls finished or done what the reader does not."""
    watch, so_far = EndWatch(), b""
    for piece in pieces(stream, cuts):
        so_far += piece
        reader = AnswerReader()
        reader.feed([(0.0, so_far)])
        fault = reader.end().fault
        is_fault = fault is not None and fault.kind in {"bad_json", "bad_utf8", "not_json", "server_error"}
        assert (state := watch.feed(piece)) == reader.state or (is_fault and state in {"open", "finished"})
    if so_far.endswith(b"\n\n") and kind_of(read(so_far)) == "server_error":
        assert watch.feed(b"") == "done"


@pytest.mark.parametrize(
    ("pieces", "states"),
    [
        ([HELLO, STOP, event(usage=USAGE), DONE], "open finished finished done"),
        ([HELLO, b"data: [DO", b"NE]", b"\n\n"], "open open done done"),
        ([HELLO, STOP.rstrip(), b"\n", b"\n"], "open finished finished finished"),
        ([HELLO, b"data:[DONE]", b"\n\n" + HELLO], "open done done"),
        ([says("[DONE]"), says("data: [DONE]"), says('"finish_reason": "stop"')], "open open open"),
        ([event({"content": "a"}, "null"), event({}, "content_filter")], "open open"),
        ([event({"content": "a"}, "stop"), says("b"), STOP, DONE], "finished open open done"),
        ([HELLO, data({"error": "no memory"})], "open done"),
        ([HELLO, data({"choices": None, "message": "no memory"})], "open done"),
        ([(HELLO + STOP).replace(b"\n\n", b"\n") + b"da", b"ta: [DONE]\n"], "finished done"),
        ([HELLO, b"event: error\ndata: no me", b"mory\n\n"], "open open done"),
        ([HELLO, STOP, data({"error": "no memory"})], "open finished done"),
        ([data({"choices": [choice(1, "a")]}), data({"choices": [choice(0, "b", "stop")]})], "open open"),
        ([b": ping\n\n", b": ping\n\n"], "open open"),
        ([body({"content": "hello"})[:30], body({"content": "hello"})[30:]], "open finished"),
    ],
)  # fmt: skip
def test_the_watch_tells_when_nothing_more_is_to_come(pieces: list[bytes], states: str):
    """Each read off the network gives a state."""
    watch = EndWatch()
    assert " ".join(watch.feed(piece) for piece in pieces) == states


NAMES = [
    "choices", "index", "delta", "message", "content", "text", "type", "thinking", "reasoning", "refusal", "usage",
    "finish_reason", "completion_tokens", "completion_tokens_details", "reasoning_tokens", "timings", "cache_n",
    "x_groq", "error", "errors", "detail", "object", "code", "loc", "msg", "tool_calls", "function", "name",
]  # fmt: skip
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["", "stop", "x", "error", "text"])
ANY_JSON = st.recursive(
    LEAVES,
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inside, max_size=5),
    max_leaves=25,
)


@given(st.lists(st.dictionaries(st.sampled_from(NAMES), ANY_JSON, max_size=5), min_size=1, max_size=4))
def test_no_json_breaks_the_reader(objects: list[dict[str, Any]]):
    """Whatever stands where something else is expected, there is an answer or a fault."""
    stream = b"".join(map(data, objects))
    EndWatch().feed(stream)
    for answer in (read(stream), read(json.dumps(objects[0]).encode())):
        assert answer.chunks or answer.fault
    assert isinstance(error_message(objects[0]), str)


@pytest.mark.parametrize("line", [b"data: {\n", b'{"a": "{"}\n'])
def test_reading_takes_time_in_proportion_to_the_bytes(line: bytes):
    """100 000 lines of one event, in reads of 64 kB, are read and watched within seconds of the processor."""
    stream = b"data: {\n" + line * 100_000
    cut = [stream[start : start + 65_536] for start in range(0, len(stream), 65_536)]
    watch, started = EndWatch(), time.process_time()
    assert {watch.feed(piece) for piece in cut} == {"open"}
    assert read_answer([(0.1, piece) for piece in cut]).fault
    assert time.process_time() - started < 30
