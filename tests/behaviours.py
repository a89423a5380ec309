"""What the fake models and servers of the tests do: tables that a reader extends by a line.

`BEHAVIOURS` holds what a *model* does, by its id: an answer of known timing, a trap, a fault. `SITES` holds what a
whole *server* does, by path: model lists, redirects, gateways, sign-in pages.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

from tests.fault_steps import (
    ANSWER,
    CHUNKED,
    DONE,
    ENDED,
    EVER,
    HALF,
    OPEN,
    Behaviour,
    Refusal,
    Step,
    chunk,
    counted,
    cut,
    endless,
    finish,
    hold,
    in_lines,
    in_message,
    in_parts,
    later_date,
    listed,
    opened,
    page,
    pings,
    plain,
    redirect,
    refuse,
    reply,
    reset,
    say,
    sse,
    tokens,
    twice,
    usage,
    whole,
    with_another_choice,
)

TOO_LONG = "the request exceeds the available context size"
STEADY = Behaviour()
QUICK = replace(STEADY, first_token_s=0.03, pace_s=0.005, tokens=16)


def quick(*steps: Step, **changes: Any) -> Behaviour:
    """105 ms: 16 tokens, the first after 30 ms, one every 5 ms."""
    return replace(QUICK, steps=steps or ANSWER, **changes)


def speaks(*words: str, **changes: Any) -> Behaviour:
    """Says these tokens once."""
    return quick(words=words, tokens=len(words), **changes)


def fails(*steps: Step) -> Behaviour:
    return Behaviour(steps=steps)


def busy(times: int, step: Step) -> Behaviour:
    """Busy at the first so many requests."""
    return quick(fault=step, faulty=range(times))


def picky(*refusals: Refusal) -> Behaviour:
    return quick(refusals=refusals)


def openai_error(message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


def extra_forbidden(names: list[str]) -> list[dict[str, Any]]:
    """As pydantic words it, which vLLM, Mistral and every FastAPI server pass on."""
    message = "Extra inputs are not permitted"
    return [{"type": "extra_forbidden", "loc": ["body", name], "msg": message, "input": 1} for name in names]


def unsupported(names: list[str]) -> object:
    hint = " Use 'max_completion_tokens' instead." if names == ["max_tokens"] else ""
    message = f"Unsupported parameter: '{names[0]}' is not supported with this model.{hint}"
    return openai_error(message, names[0], "unsupported_parameter")


def object_error(message: object, code: int) -> dict[str, Any]:
    """As vLLM and Mistral frame it."""
    return {"object": "error", "message": message, "type": "BadRequestError", "param": None, "code": code}


# -- the tables

ERRORS: dict[str, bytes] = {
    "in-200": sse(b'{"error": {"message": "out of memory while decoding"}}'),
    "field": b'error: {"code": 400, "message": "%s"}\n\n' % TOO_LONG.encode(),
    "event": b'event: error\ndata: {"message": "%s"}\n\n' % TOO_LONG.encode(),
    "event-text": b"event: error\ndata: %s\n\n" % TOO_LONG.encode(),
    "unframed": b'{"error": {"message": "%s"}}\n' % TOO_LONG.encode(),
    "text": sse(b'{"error": "%s"}' % TOO_LONG.encode()),
    "object": sse(json.dumps(object_error(TOO_LONG, 400)).encode()),
    "type": sse(b'{"type": "error", "error": {"type": "overloaded_error", "message": "%s"}}' % TOO_LONG.encode()),
    "detail": sse(b'{"detail": "%s"}' % TOO_LONG.encode()),
    "code": sse(b'{"code": 500, "message": "%s"}' % TOO_LONG.encode()),
    "list": sse(b'{"errors": [{"message": "%s"}]}' % TOO_LONG.encode()),
    "choice": sse(json.dumps(chunk({}, "error", error={"message": TOO_LONG, "code": 502})).encode()),
}
"""An error inside HTTP 200, in every form: the behaviour `error-NAME` sends it in the middle of an answer."""

THOUGHTS: dict[str, tuple[str, ...]] = {
    "think": ("<think>", " hm", "</think>", "\n\n", "Yes", "."),
    "split": ("<th", "ink>", " hm", " </", "thi", "nk>\n", "Yes", "."),
    "in-one": ("<think> hm</think>Yes", "."),
    "capital": ("<THINK>", " hm", "</THINK>", "Yes", "."),
    "thinking": ("<thinking>", " hm", "</thinking>", "Yes", "."),
    "thought": ("<thought>", " hm", "</thought>", "Yes", "."),
    "reasoning": ("<reasoning>", " hm", "</reasoning>", "Yes", "."),
    "seed": ("<seed:think>", " hm", "</seed:think>", "Yes", "."),
    "bracket": ("[THINK]", " hm", "[/THINK]", "Yes", "."),
    "kimi": ("◁think▷", " hm", "◁/think▷", "Yes", "."),
    "harmony": ("<|channel|>", "analysis<|message|>", " hm", "<|end|><|start|>assistant", "<|channel|>final<|message|>",
                "Yes", "."),
    "closing-only": (" hm", " so", "</think>", "Yes", "."),
    "empty": ("<think>", "\n\n", "</think>", "\n\n", "Yes", "."),
    "twice": ("<think>", " hm", "</think>", "<think>", " well", "</think>", "Yes", "."),
}  # fmt: skip
"""Thinking inside the content, in every form; the answer is always `Yes.`. The behaviour is `tag-NAME`."""

REFUSALS: dict[str, tuple[Refusal, ...]] = {
    "max-tokens-openai": (Refusal(("max_tokens",), 400, unsupported),),
    "temperature-openai": (Refusal(("temperature",), 400, lambda _: openai_error(
        "Unsupported value: 'temperature' does not support 0.0 with this model. Only the default (1) value is "
        "supported.", "temperature", "unsupported_value"), (1,)),),
    "stream-options-azure": (Refusal(("stream_options",), 400, lambda names: openai_error(
        f"Unrecognized request argument supplied: {names[0]}")),),
    "stream-options-groq": (Refusal(("stream_options",), 400, lambda names: openai_error(
        f"property '{names[0]}' is unsupported")),),
    "stream-options-vllm": (Refusal(("stream_options",), 400, lambda names: object_error(
        str(extra_forbidden(names)), 400)),),
    "seed-mistral": (Refusal(("seed",), 422, lambda names: object_error({"detail": extra_forbidden(names)}, 422)),),
    "seed-xai": (Refusal(("seed",), 400, lambda names: {
        "code": "Client specified an invalid argument", "error": f"Argument not supported on this model: {names}"}),),
    "seed-litellm": (Refusal(("seed",), 400, lambda names: openai_error(
        f"litellm.UnsupportedParamsError: azure does not support parameters: {names}, for model=x. To drop these, set "
        "`litellm.drop_params=True`")),),
    "two-fastapi": (Refusal(("stream_options", "seed"), 422, lambda names: {"detail": extra_forbidden(names)}),),
    "two-openai": (Refusal(("max_tokens",), 400, unsupported), Refusal(("temperature",), 400, unsupported)),
    "every-text": (Refusal(("stream_options", "temperature", "seed"), 400, lambda names: f"Unknown field {names[0]}"),),
    "model": (Refusal(("model",), 400, unsupported),),
}  # fmt: skip
"""Servers that will not have a parameter, in the words of those who say it; the behaviour is `refuses-NAME`."""

BEHAVIOURS: dict[str, Behaviour] = {
    # known timing and its traps
    "steady": STEADY,
    "slower": replace(STEADY, first_token_s=0.055, pace_s=0.011),
    "fast": replace(STEADY, first_token_s=0.004, pace_s=0.001),
    "early-role": replace(STEADY, steps=(OPEN, say(chunk({"role": "assistant", "content": ""})), *ANSWER[1:])),
    "coalesced": replace(STEADY, per_chunk=4),
    "coalesced-no-usage": replace(STEADY, per_chunk=4, steps=(OPEN, tokens, finish, DONE)),
    "no-usage": replace(STEADY, steps=(OPEN, tokens, finish, DONE)),
    "reasoning": replace(STEADY, reasoning=10),
    "hidden": replace(STEADY, hidden=30),
    "partly-hidden": replace(STEADY, hidden=10),
    "cold": replace(STEADY, slow_requests={0: 0.5}),
    "idle-cold": replace(STEADY, idle_limit_s=0.5, reload_s=0.5),
    "spike": replace(STEADY, slow_requests={7: 0.5}),
    "cached": replace(STEADY, first_token_s=0.2, cached_after_first=True),
    "cached-reported": replace(STEADY, first_token_s=0.2, cached_after_first=True, reports_cached=True),
    "reuse-stall": replace(STEADY, reuse_stall_s=0.04, steps=(CHUNKED, *ANSWER[1:])),
    "letters": quick(tokens=120, pieces=4, words=(" one", " two", " six", " ten")),
    "slow-steady": replace(STEADY, first_token_s=0.15, pace_s=0.15, tokens=45),
    # faults
    "flaky": replace(STEADY, fault=refuse(500), faulty=range(1, 2)),
    "breaks-later": replace(STEADY, fault=(HALF, reset), faulty=range(4, EVER)),
    "http-400": fails(refuse(400)),
    "http-429": fails(refuse(429)),
    "http-500": fails(refuse(500)),
    "context-too-long": fails(refuse(400, "This model's maximum context length is 4096 tokens. However, you requested "
                                          "4200 tokens. Please reduce the length of the messages or max_tokens.")),
    "proxy-page": fails(page()),
    "page-502": fails(page(502)),
    "stall-before": fails(hold),
    "stall-middle": fails(HALF, hold),
    "reset": fails(HALF, reset),
    "closed-before": fails(cut),
    "bad-json": fails(HALF, b'data: {"choices": [{"delta"\n\n', ENDED),
    "bad-utf8": fails(HALF, b'data: {"choices": [{"delta": {"content": "\xff\xfe"}}]}\n\n', ENDED),
    "long-line": fails(HALF, *[b"x" * 1_000_000] * 30, b"\n\n", ENDED),
    "error-body": fails(reply({"error": {"message": TOO_LONG}})),
    **{f"error-{name}": fails(HALF, sent, DONE) for name, sent in ERRORS.items()},
    "error-after-answer": quick(OPEN, tokens, ERRORS["text"], finish, DONE),
    "error-before-done": quick(OPEN, tokens, finish, ERRORS["text"], DONE),
    "empty": fails(OPEN, say(chunk({"role": "x"}), chunk({"content": ""})), ENDED),
    "null": fails(OPEN, say(chunk({"role": "x"}), chunk({"content": None})), ENDED),
    "never-done": fails(HALF, pings(0.05)),
    "endless": fails(HALF, endless),
    "cut-off": fails(HALF),
    # how a stream ends
    "reason-empty-cut": quick(OPEN, tokens, shape=lambda kind, text, _: [chunk({kind: text}, "")]),
    "reason-null-text-cut": quick(OPEN, tokens, shape=lambda kind, text, _: [chunk({kind: text}, "null")]),
    "reason-empty": quick(shape=lambda kind, text, _: [chunk({kind: text}, "")]),
    "reason-capital": quick(finish="STOP"),
    "reason-eos": quick(finish="eos_token"),
    "reason-model-length": quick(finish="model_length"),
    "reason-content-filter": quick(finish="content_filter"),
    "reason-abort": quick(finish="abort"),
    "no-done-open": quick(OPEN, tokens, finish, usage, hold),
    "no-done-pings": quick(OPEN, tokens, finish, usage, pings(0.05)),
    "no-done-late-usage": quick(OPEN, tokens, finish, 0.1, usage, hold),
    "no-done": quick(OPEN, tokens, finish, usage),
    "done-open": quick(*ANSWER, hold),
    "done-pings": quick(*ANSWER, pings(0.05)),
    "done-in-two": quick(OPEN, tokens, finish, usage, b"data: [DO", 0.05, b"NE]\n\n", hold),
    "done-no-space": quick(OPEN, tokens, finish, usage, b"data:[DONE]\r\n\r\n", hold),
    "done-no-line-end": quick(OPEN, tokens, finish, usage, b"data: [DONE]", hold),
    "done-then-more": quick(*ANSWER, say(chunk({"content": " more"})), ERRORS["text"]),
    "done-then-reset": quick(*ANSWER, reset),
    "no-reason-done": quick(OPEN, tokens, usage, DONE),
    "no-reason": quick(OPEN, tokens, usage),
    "chunked": quick(CHUNKED, *ANSWER[1:]),
    "chunked-cut": quick(CHUNKED, tokens, cut),
    "chunked-cut-after-reason": quick(CHUNKED, tokens, finish, usage, cut),
    # framing
    "byte-order-mark": quick(OPEN, b"\xef\xbb\xbf", *ANSWER[1:]),
    "crlf": quick(frame=lambda event: b"data: %s\r\n\r\n" % event),
    "cr-only": quick(OPEN, tokens, finish, usage, b"data: [DONE]\r\r", frame=lambda event: b"data: %s\r\r" % event),
    "no-space": quick(frame=lambda event: b"data:%s\n\n" % event),
    "no-blank-lines": quick(frame=lambda event: b"data: %s\n" % event),
    "data-lines": quick(frame=in_lines),
    "other-fields": quick(frame=lambda event: b"event: chunk\nid: %d\n: hi\n" % time.perf_counter_ns() + sse(event)),
    "bytes-apart": quick(packet=7, words=(" für", " モデル", " 🙂", " ½")),
    "pings-first": quick(OPEN, pings(0.1, 0.9), *ANSWER[1:], first_token_s=1.0),
    "pings-every-second": quick(OPEN, pings(1.0, 4.0), *ANSWER[1:], first_token_s=4.2),
    "no-type": quick(opened(None), *ANSWER[1:]),
    "plain-type": quick(opened("text/plain"), *ANSWER[1:]),
    "json-type": quick(opened("application/json"), *ANSWER[1:]),
    "odd-type": quick(opened("Text/Event-STREAM;Charset=UTF-8"), *ANSWER[1:]),
    "body-for-stream": quick(whole),
    "json-lines": quick(opened("application/x-ndjson"), tokens, finish, usage, frame=lambda event: event + b"\n"),
    # what an event holds
    "parts": quick(shape=in_parts),
    "thinking-parts": quick(shape=in_parts, reasoning=8),
    "thinking-then-text": quick(reasoning=8, shape=lambda kind, text, so_far: (
        plain if kind == "content" else in_parts)(kind, text, so_far)),
    "reasoning-key": quick(reasoning=8, thought_key="reasoning"),
    "thinking-key": quick(reasoning=8, thought_key="thinking"),
    **{f"tag-{name}": speaks(*words) for name, words in THOUGHTS.items()},
    "tag-in-text": speaks(" Write", " <think>", " like", " so", "."),
    "tag-unclosed": quick(words=("<think>", " hm"), tokens=EVER),
    "all-reasoning": quick(reasoning=EVER, tokens=EVER),
    "two-choices": quick(frame=with_another_choice),
    "tool-call": quick(OPEN, say(chunk({"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {
        "name": "look_up", "arguments": "{}"}}]}), chunk({}, "tool_calls")), usage, DONE, count=lambda _: 9),
    "delta-and-message": quick(shape=in_message),
    "message-for-delta": quick(shape=lambda kind, text, _: [{"choices": [{"index": 0, "message": {kind: text}}]}]),
    "text-for-delta": quick(shape=lambda kind, text, _: [{"choices": [{"index": 0, "text": text}]}]),
    "doubled": quick(frame=twice),
    "ha-ha": speaks(" ha", " ha", " ha", " ha", "!"),
    "null-first": quick(OPEN, say({"choices": []}, chunk({"role": "assistant", "content": None})), *ANSWER[1:]),
    # usage
    "usage-running": quick(shape=lambda kind, text, so_far: [{**chunk({kind: text}), "usage": counted(so_far)}]),
    "usage-first": quick(OPEN, tokens, finish, DONE, shape=lambda kind, text, so_far: [
        {**chunk({kind: text}), **({"usage": counted(1)} if so_far == 1 else {})}]),
    "usage-then-null": quick(OPEN, tokens, finish, usage, say({"choices": [], "usage": None}), DONE),
    "usage-then-zeros": quick(OPEN, tokens, finish, usage, say({"choices": [], "usage": counted(0)}), DONE),
    "usage-zeros": quick(count=lambda _: 0),
    "usage-null": quick(count=lambda _: None),
    "usage-float": quick(count=float),
    "usage-too-many": quick(count=lambda tokens: 5 * tokens),
    "usage-too-few": quick(count=lambda _: 2),
    # requests
    **{f"refuses-{name}": picky(*refusals) for name, refusals in REFUSALS.items()},
    "busy-429": busy(2, refuse(429, "Rate limit reached", retry_after="1")),
    "busy-ms": busy(2, refuse(429, "Rate limit reached", retry_after_ms="200")),
    "busy-date": busy(1, later_date(1.0)),
    "busy-loading": busy(3, reply({"error": {"code": 503, "message": "Loading model", "type": "x"}}, 503)),
    "busy-always": fails(refuse(429, "Come back later", retry_after="100")),
    "busy-for-a-day": fails(refuse(429, "Daily quota used up", retry_after="86400")),
    "echo-in-error": fails(lambda ex: ex.run(refuse(401, f"Incorrect API key provided: {ex.call.key}."))),
    "echo-in-stream": fails(HALF, lambda ex: ex.say({"error": {"message": f"no quota for {ex.call.key}"}})),
    "echo-in-answer": fails(OPEN, lambda ex: ex.say(chunk({"content": f"Your key is {ex.call.key}"})), ENDED),
    "echo-in-headers": fails(lambda ex: ex.run(refuse(400, x_key=ex.call.key, www_authenticate=ex.call.key))),
}  # fmt: skip

SITES: dict[str, dict[str, Step]] = {
    "list-bare": {"/v1/models": reply([{"id": "fast"}, {"id": "steady"}])},
    "list-texts": {"/v1/models": reply({"data": ["fast", "steady"]})},
    "list-empty": {"/v1/models": listed()},
    "list-null": {"/v1/models": reply({"data": None})},
    "list-404": {"/v1/models": refuse(404, "Not Found")},
    "list-page": {"/v1/models": page()},
    "list-embedding": {"/v1/models": listed("fast", "text-embedding-3-small", "nomic-embed-text:latest", "bge-m3")},
    "list-paths": {"/v1/models": listed("/home/ada/models/phi-4-mini-Q4.gguf", r"C:\models\qwen2.5.gguf")},
    "list-echo": {"/v1/models": lambda ex: ex.run(listed("fast", f"key-{ex.call.key}"))},
    "no-v1": {"/v1/*": refuse(404, "Not Found")},
    "prefix": {"/gateway/v1/*": (), "/v1/*": refuse(404, "Not Found")},
    "deployment": {"/openai/deployments/fast/chat/completions[?]api-version=*": lambda ex: ex.run(ex.behaviour.steps),
                   "*": reply({"error": {"code": "404", "message": "Resource not found"}}, 404)},
    "moved-301": {"/old/*": redirect(301, "")},
    "moved-302": {"/old/*": redirect(302, "")},
    "moved-307": {"/old/*": redirect(307, "")},
    "moved-308": {"/old/*": redirect(308, "")},
    "moved-in-circles": {"/old/*": redirect(307, "/old")},
    "proxy-403": {"*": page(403)},
    "proxy-407": {"*": page(407, proxy_authenticate='Basic realm="company"')},
    "sign-in": {"*": page()},
    "silent": {"*": hold},
}  # fmt: skip
"""What a whole server does, by path, or by path and query; a pattern's `*` stands for anything, `()` for the usual."""
