"""What is sent, and how it follows what a server refuses."""

from __future__ import annotations

import doctest
import json
from dataclasses import replace
from email.utils import formatdate
from typing import Any

import pytest

from tests.measurement_helpers import request
from workshop_lib import request_bodies
from workshop_lib.records import RequestOptions
from workshop_lib.request_bodies import Adaptation, Refusal

OPENAI = {
    "error": {
        "message": "Unsupported parameter: 'max_tokens' is not supported with this model. "
        "Use 'max_completion_tokens' instead.",
        "type": "invalid_request_error",
        "param": "max_tokens",
        "code": "unsupported_parameter",
    }
}
OPENAI_TEMPERATURE = {
    "error": {
        "message": "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is "
        "supported.",
        "param": "temperature",
    }
}
FASTAPI = {
    "detail": [{"type": "extra_forbidden", "loc": ["body", "stream_options"], "msg": "Extra inputs are not permitted"}]
}
TOO_LONG = {
    "object": "error",
    "message": "This model's maximum context length is 4096 tokens. However, you requested 4200 tokens (4080 in the "
    "messages, 120 in the completion). Please reduce the length of the messages or max_tokens.",
}  # fmt: skip


def refusal(body: object, status: int = 400, **headers: str) -> Refusal:
    return Refusal(status, headers, body if isinstance(body, str) else json.dumps(body))


FORBIDDEN = {"type": "extra_forbidden", "msg": "Extra inputs are not permitted"}
RENAMED = ("max_tokens sent as max_completion_tokens", "max_tokens", "max_completion_tokens")
NO_TEMPERATURE = ("temperature dropped", "temperature", "max_tokens")
NO_OPTIONS = ("stream_options dropped", "stream_options", "stream")
NO_SEED = ("seed dropped", "seed", "stream")


def said(message: str, param: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": None}}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (OPENAI, RENAMED),
        (said("Missing required parameter", "max_completion_tokens"), RENAMED),
        (OPENAI_TEMPERATURE, NO_TEMPERATURE),
        ("`temperature` must be strictly positive", NO_TEMPERATURE),
        (FASTAPI, NO_OPTIONS),
        (said("Unrecognized request argument supplied: stream_options"), NO_OPTIONS),
        (said("Unknown.", "stream_options.include_usage"), NO_OPTIONS),
        (
            {"object": "error", "message": str([{**FORBIDDEN, "loc": ["body", "stream_options"]}]), "code": 400},
            NO_OPTIONS,
        ),
        ({"detail": [{**FORBIDDEN, "loc": ["body", "stream_options", "include_usage"]}]}, NO_OPTIONS),
        ({"object": "error", "message": {"detail": [{**FORBIDDEN, "loc": ["body", "seed"]}]}, "code": 422}, NO_SEED),
        ({"code": "invalid argument", "error": "Argument not supported on this model: ['seed']"}, NO_SEED),
        (said("litellm.UnsupportedParamsError: azure does not support parameters: ['seed'], for model=x."), NO_SEED),
    ],
)
@pytest.mark.parametrize("status", [400, 422])
def test_an_optional_parameter_that_is_named_is_changed_once(body: object, expected: tuple[str, ...], status: int):
    """In the words of those who refuse it: renamed or dropped, said in a note, and not changed a second time."""
    note, gone, present = expected
    adaptation, asked = Adaptation(RequestOptions()), replace(request(), seed=20)
    sent = adaptation.body(asked)
    assert adaptation.adapt(refusal(body, status), sent)
    changed = adaptation.body(asked)
    assert (gone in changed, present in changed, adaptation.notes) == (False, True, (note,))
    assert not adaptation.adapt(refusal(body, status), changed)


@pytest.mark.parametrize(
    "said",
    [
        refusal(TOO_LONG), refusal(OPENAI, 500), refusal("max_tokens is too large: 9000"), refusal("model not found"),
        refusal({"error": {"message": "temperature is fine, messages is empty", "param": "messages"}}),
    ],
)  # fmt: skip
def test_other_refusals_change_nothing(said: Refusal):
    """A prompt that does not fit, another status or another parameter is the failure that it is."""
    adaptation = Adaptation(RequestOptions())
    assert not adaptation.adapt(said, adaptation.body(request()))
    assert adaptation.notes == ()


@pytest.mark.parametrize(
    ("options", "body"),
    [
        (RequestOptions(tokens_field="max_tokens"), OPENAI),
        (RequestOptions(extra_body={"max_tokens": 5}), OPENAI),
        (RequestOptions(extra_body={"temperature": 0.5}), OPENAI_TEMPERATURE),
    ],
)
def test_what_the_user_set_is_never_changed(options: RequestOptions, body: Any):
    """An explicit setting wins over what the server wants."""
    adaptation = Adaptation(options)
    sent = adaptation.body(request())
    assert not adaptation.adapt(refusal(body), sent)
    assert adaptation.body(request()) == sent


def test_the_extra_body_has_the_last_word():
    """It adds, replaces, and with null removes."""
    body = Adaptation(
        RequestOptions("max_completion_tokens", {"top_p": 0.9, "temperature": 0.7, "stream_options": None})
    )
    sent = body.body(request(max_tokens=7))
    assert (sent["max_completion_tokens"], sent["top_p"], sent["temperature"]) == (7, 0.9, 0.7)
    assert not {"max_tokens", "stream_options"} & sent.keys()


NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("said", "wait_s"),
    [
        (refusal("", 503, **{"retry-after": "3"}), 3.0),
        (refusal("", 429, **{"retry-after": "0.5"}), 0.5),
        (refusal("", 429, **{"retry-after-ms": "250", "retry-after": "1"}), 0.25),
        (refusal("", 503, **{"retry-after": formatdate(NOW + 7, usegmt=True)}), 7.0),
        (refusal("", 503, **{"retry-after": formatdate(NOW - 7, usegmt=True)}), 0.0),
        (refusal({"error": {"message": "Loading model", "code": 503}}, 503), 1.0),
        (refusal("", 503), None),
        (refusal("", 429, **{"retry-after": "soon"}), None),
        (refusal("", 500, **{"retry-after": "3"}), None),
    ],
)
def test_a_server_that_asks_to_wait_says_for_how_long(said: Refusal, wait_s: float | None):
    """Seconds, milliseconds or a date; a model that loads is asked again after a second."""
    assert said.wait_s(NOW) == wait_s


FOUNDRY = "search_options.cc:108 int fl::ValidateGeneratorRequestBudget(int64_t, int, int) request"
WHICH = "which exceeds the model's maximum context length"
OPENAI_LIMIT = "This model's maximum context length"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (f"{FOUNDRY} requires 2634 total tokens (2514 input + 120 output), {WHICH} of 1024 tokens", "2 634 of 1 024"),
        (f"{OPENAI_LIMIT} is 4097 tokens. However, your messages resulted in 6164 tokens.", "6 164 of 4 097"),
        (f"{OPENAI_LIMIT} is 512 tokens. However, you requested 700 tokens (580 in the messages).", "700 of 512"),
        ("request (9138 tokens) exceeds the available context size (8192 tokens), try increasing it", "9 138 of 8 192"),
        ("input_ids size (3216) + current sequence length (0) exceeds max length (2048)", "3 216 of 2 048"),
        ("input sequence_length (1300) is >= max_length (1024)", "1 300 of 1 024"),
        ("max_length (2347) cannot be greater than model context_length (2176)", "2 347 of 2 176"),
        ('{"error": {"code": "context_length_exceeded", "message": "No."}}', "more tokens than the model's context"),
        ("the request exceeds the available context size, try increasing it", "more tokens than the model's context"),
        ("max_tokens is too large: 9000", None),
        ("The context is cancelled.", None),
    ],
)
def test_a_prompt_longer_than_the_context_is_recognised_by_the_servers_words(words: str, said: str | None) -> None:
    """Each server's own sentence gives the tokens needed and those that there are, as far as it names them."""
    found = request_bodies.does_not_fit(words)
    assert found is None if said is None else said in (found or "")


def test_the_example_in_the_documentation_holds() -> None:
    """The doctest of the module runs."""
    assert doctest.testmod(request_bodies).failed == 0
