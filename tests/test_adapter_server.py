"""The service of an adapter as the official openai client sees it, its limits and counts, and its process."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import openai
import pytest

from tests import adapter_helpers
from tests.adapter_helpers import client_of, raw, register, served, weights_in
from tests.foundry_helpers import is_gone, practice, wait_until
from workshop_lib import data
from workshop_lib.errors import RuntimeUnavailableError
from workshop_lib.models import registry

if TYPE_CHECKING:
    from workshop_lib.runtimes.child_process import ServedChild

MODEL = "scripted-adapter-cpu:1"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedChild]:
    """The scripted adapter, for every test that leaves it as it was."""
    with served(tmp_path_factory.mktemp("scripted")) as running:
        yield running


@pytest.fixture(scope="module")
def client(model: ServedChild) -> Iterator[openai.OpenAI]:
    with client_of(model) as opened:
        yield opened


@pytest.fixture(scope="module")
def worked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedChild]:
    """The worked adapter on the weights of a practice model."""
    cache = tmp_path_factory.mktemp("worked")
    registered = registry.register("worked", adapter_helpers.SMALL, adapter=adapter_helpers.GENAI, cache_dir=cache)
    with registry.serve_adapter(registered) as running:
        yield running


def ask(client: openai.OpenAI, text: str, model: str = MODEL, **options: Any) -> Any:
    """One whole answer."""
    messages: Any = [{"role": "user", "content": text}]
    return client.chat.completions.create(model=model, messages=messages, **options)


def stream(client: openai.OpenAI, text: str, **options: Any) -> list[Any]:
    """Every chunk of a streamed answer."""
    return list(ask(client, text, stream=True, **options))


def texts(chunks: list[Any]) -> list[str]:
    """The pieces that are not empty."""
    return [each.choices[0].delta.content for each in chunks if each.choices and each.choices[0].delta.content]


def log_of(client: openai.OpenAI) -> list[str]:
    """What the scripted adapter did since it was loaded."""
    said: list[str] = json.loads(ask(client, "log").choices[0].message.content)
    return said


# Answers


def test_a_whole_answer_has_text_reason_and_usage(client: openai.OpenAI) -> None:
    """Four words of prompt, three tokens of answer: as counted, and their sum."""
    answer = ask(client, "say one |two |three")
    assert answer.choices[0].message.content == "one two three"
    assert (answer.choices[0].finish_reason, answer.object, answer.model) == ("stop", "chat.completion", MODEL)
    usage = answer.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (4, 3, 7)


def test_a_streamed_answer_comes_piece_by_piece(client: openai.OpenAI) -> None:
    """The role first, each piece as it came, the reason, and the usage last, for those who ask for it."""
    chunks = stream(client, "say one |two |three", stream_options={"include_usage": True})
    assert chunks[0].choices[0].delta.role == "assistant"
    assert texts(chunks) == ["one ", "two ", "three"]
    assert [each.choices[0].finish_reason for each in chunks if each.choices][-1] == "stop"
    assert (chunks[-1].choices, chunks[-1].usage.total_tokens) == ([], 7)
    assert len({each.id for each in chunks}) == 1
    assert all(each.choices and each.usage is None for each in stream(client, "say one"))


@pytest.mark.parametrize(
    ("kind", "text", "pieces", "usage"),
    [
        ("Uncounted", "say one |two", ["one ", "two"], None),
        ("Whole", "Good day", ["You said: Good day"], (2, 4)),
        ("Numpy", "say one |two", ["one ", "two"], (3, 10)),
    ],
)
def test_usage_is_what_the_adapter_counts_and_nothing_else(
    tmp_path: Path, kind: str, text: str, pieces: list[str], usage: tuple[int, int] | None
) -> None:
    """None where it counts nothing; numbers of other libraries become plain ones; `generate` alone is one piece."""
    with served(tmp_path, kind) as running, client_of(running) as client:
        options: Any = {"model": running.variant.model_id, "stream_options": {"include_usage": True}}
        chunks = stream(client, text, **options)
        assert texts(chunks) == pieces
        last = chunks[-1].usage
        assert (last and (last.prompt_tokens, last.completion_tokens)) == usage


def test_an_answer_at_its_limit_says_so(client: openai.OpenAI) -> None:
    """Two tokens of five, and the reason is `length`; the newer name of the limit is understood."""
    for name in ("max_tokens", "max_completion_tokens"):
        answer = ask(client, "say a|b|c|d|e", **{name: 2})
        assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("ab", "length")
        assert answer.usage.completion_tokens == 2


@pytest.mark.parametrize(
    "text", ["Zoë", "日本語", "\U0001f469\u200d\U0001f467", "a\u0301", "\u202etxt", "line\nline", "</script>\\", "\x00"]
)
def test_any_text_comes_through_unchanged(client: openai.OpenAI, text: str) -> None:
    """Every character, joined ones cut in the middle too, in both directions."""
    assert ask(client, f"say {text}").choices[0].message.content == text
    assert texts(stream(client, f"say {'|'.join(text)}")) == list(text)


def test_the_messages_and_parameters_reach_the_adapter(client: openai.OpenAI) -> None:
    """The roles stay apart, and every parameter is always given."""
    messages: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "echo"}]
    said = client.chat.completions.create(model=MODEL, messages=messages).choices[0].message.content
    assert said == "system: Be brief.\nuser: echo\nassistant:"
    given = json.loads(ask(client, "params", temperature=0, top_p=0.5, seed=7, max_tokens=9).choices[0].message.content)
    assert given == {"max_tokens": 9, "temperature": 0, "top_p": 0.5, "seed": 7}
    left_open = json.loads(ask(client, "params").choices[0].message.content)
    assert left_open == {"max_tokens": 59, "temperature": 1.0, "top_p": 1.0, "seed": None}


# Refusals


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": 2.5}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"stream": "yes"}, "stream"),
        ({"stop": "x"}, "stop"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"model": None}, "model"),
    ],
)
def test_a_bad_question_is_an_error_object_that_names_the_field(
    model: ServedChild, change: dict[str, Any], param: str
) -> None:
    """HTTP 400 and one line; nothing that was asked for is ignored."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": "say x"}], **change}
    status, _, answer = raw(model, "POST", "/v1/chat/completions", json.dumps(body).encode())
    assert (status, answer["error"]["type"], answer["error"]["param"]) == (400, "invalid_request_error", param)
    assert f"'{param}'" in answer["error"]["message"]
    assert "\n" not in answer["error"]["message"]


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_question_is_one_clear_fault(model: ServedChild, body: bytes) -> None:
    """No JSON, another JSON, a piece of one: 400 and a line."""
    status, _, answer = raw(model, "POST", "/v1/chat/completions", body)
    assert status == 400
    assert len(answer["error"]["message"]) < 250


def test_an_unknown_model_route_or_method_is_an_error_object(client: openai.OpenAI, model: ServedChild) -> None:
    """The client raises the classes that programs catch."""
    with pytest.raises(openai.NotFoundError) as unknown:
        ask(client, "x", model="scripted")
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model=MODEL, input="x")
    status, _, body = raw(model, "GET", "/v1/chat/completions")
    assert (status, set(body["error"])) == (405, {"message", "type", "param", "code"})


def test_what_does_not_fit_the_context_is_refused(client: openai.OpenAI) -> None:
    """The server says it where tokens are counted: HTTP 400."""
    for script, options in (("say x", {"max_tokens": 59}), ("say" + " x" * 60, {})):
        for streamed in (False, True):
            with pytest.raises(openai.BadRequestError) as error:
                ask(client, script, stream=streamed, **options)
            assert error.value.code == "context_length_exceeded"
    assert ask(client, "say x", max_tokens=58).choices[0].message.content == "x"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("raise", "KeyError: 'no\\nsuch key'."),
        ("exit", "SystemExit: enough."),
        ("bytes", "TypeError: a piece of the answer is bytes, not text."),
    ],
)
def test_what_an_adapter_raises_is_told_in_one_line(client: openai.OpenAI, script: str, said: str) -> None:
    """HTTP 500 with class and words, no traceback, and the next question is answered."""
    for streamed in (False, True):
        with pytest.raises(openai.InternalServerError) as error:
            ask(client, script, stream=streamed)
        body: Any = error.value.body
        wanted = {"message": f"The adapter raised {said}", "type": "server_error", "param": None}
        assert body == {**wanted, "code": "adapter_failed"}
    assert ask(client, "say well").choices[0].message.content == "well"


def test_a_fault_in_the_middle_of_a_stream_reaches_the_client(client: openai.OpenAI) -> None:
    """The status was sent long ago: the error is an event, and the client raises it after the pieces."""
    pieces: list[str] = []
    chunks = ask(client, "raise one |two ", stream=True)
    with pytest.raises(openai.APIError, match="The adapter raised KeyError"):
        pieces.extend(text for chunk in chunks for text in texts([chunk]))
    assert pieces == ["one ", "two "]
    assert ask(client, "say well").choices[0].message.content == "well"


# Several clients


def test_a_client_that_leaves_stops_the_answer(client: openai.OpenAI) -> None:
    """The adapter's generator is closed, and the next question is answered at once."""
    before = log_of(client).count("endless ends")
    running = ask(client, "endless", stream=True)
    seen = [next(running) for _ in range(3)]
    assert texts(seen)[0].strip() == "more"
    running.close()
    assert ask(client, "say next").choices[0].message.content == "next"
    assert log_of(client).count("endless ends") == before + 1


def test_a_client_that_gives_up_waiting_stops_the_answer(client: openai.OpenAI) -> None:
    """Also where nothing was sent yet, and where the question had to wait for its turn."""
    before = log_of(client)
    running = ask(client, "endless", stream=True)
    next(running)
    with pytest.raises(openai.APITimeoutError):
        ask(client.with_options(timeout=1), "say late")
    client.models.list()  # a later question has its answer: by now the server knows of the one that was given up
    running.close()
    with pytest.raises(openai.APITimeoutError):
        ask(client.with_options(timeout=1), "endless")
    assert ask(client, "say next").choices[0].message.content == "next"
    new = log_of(client)[len(before) :]
    assert [line for line in new if line.startswith("endless")] == ["endless begins", "endless ends"] * 2
    assert new.count("say begins") == 1, "the question that was given up was answered all the same"


def test_questions_at_the_same_time_keep_apart(client: openai.OpenAI) -> None:
    """Eight at once: every answer is whole, and the adapter never sees two together."""
    before = len(log_of(client))

    def streamed(number: int) -> str:
        return "".join(texts(stream(client, f"say {number}|" + "|".join(f"-{number}" for _ in range(20)))))

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(streamed, range(8)))
    assert answers == [f"{number}" + f"-{number}" * 20 for number in range(8)]
    new = log_of(client)[before + 1 : -1]
    assert new == ["say begins", "say ends"] * 8


def test_what_an_adapter_prints_does_no_harm(client: openai.OpenAI, model: ServedChild) -> None:
    """Neither the answer nor the pipe to the parent is touched by output, native output included."""
    assert ask(client, "print").choices[0].message.content == "printed"
    assert model.failure() is None
    assert ask(client, "say well").choices[0].message.content == "well"


# Who may ask


@pytest.mark.parametrize("host", ["attacker.example", "attacker.example:80", "127.0.0.1.attacker.example", "[::2]"])
def test_only_this_machines_own_names_are_answered(model: ServedChild, host: str) -> None:
    """A web page that points its name at this machine (DNS rebinding) learns nothing."""
    address = urlsplit(model.base_url)
    with socket.create_connection((address.hostname, address.port)) as connection:
        connection.sendall(f"GET /v1/models HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 400")
    assert MODEL.encode() not in answer


def test_no_page_in_a_browser_may_ask(model: ServedChild) -> None:
    """No answer to the question whether other origins may ask, and no body of a form's kind is read."""
    origin = {"Origin": "https://attacker.example"}
    for method, kind, expected in (("OPTIONS", "application/json", 405), ("POST", "text/plain", 415)):
        status, headers, _ = raw(model, method, "/v1/chat/completions", b"{}", **{"Content-Type": kind, **origin})
        assert status == expected
        assert not [name for name in headers if name.startswith("access-control")]


# The process


def test_the_process_is_measured_like_any_other(model: ServedChild, tmp_path: Path) -> None:
    """Load time and resident memory are the adapter's own: 100 MB of weights are seen, within 15."""
    assert 0 <= model.load_s < 30
    assert model.registered_providers == ("CPUExecutionProvider",)
    heavy = register(tmp_path, "heavy")
    weights_in(tmp_path / "heavy", "100000000")
    with registry.serve_adapter(heavy) as running:
        assert running.resident_mb is not None and model.resident_mb is not None
        assert running.resident_mb - model.resident_mb == pytest.approx(100, abs=15)
        assert (running.peak_resident_mb() or 0) >= running.resident_mb


@pytest.mark.parametrize("busy", [False, True])
def test_a_stopped_adapter_may_close_itself(tmp_path: Path, *, busy: bool) -> None:
    """`close` is called before the process ends by itself, also in the middle of an answer that never ends."""
    mine = register(tmp_path, "scripted")
    with client_of(running := registry.serve_adapter(mine)) as client:
        answer = ask(client, "endless" if busy else "say x", stream=True)
        next(answer)
        (mine.place.parent / "closed.txt").unlink(missing_ok=True)
        running.stop()
        answer.close()
    assert is_gone(running.pid)
    assert (mine.place.parent / "closed.txt").read_text(encoding="utf-8") == "closed"
    assert running._process._child.returncode == 0, "it was killed instead of ending by itself"


def test_a_crash_is_the_adapters_alone(tmp_path: Path, client: openai.OpenAI) -> None:
    """The client sees a broken connection, the reason names the exit code, and the other adapter goes on."""
    mine = register(tmp_path, "scripted")
    with registry.serve_adapter(mine) as doomed, client_of(doomed) as other:
        with pytest.raises(openai.APIConnectionError):
            ask(other, "crash")
        wait_until(lambda: doomed.failure() is not None, within_s=30)
        why = doomed.failure() or ""
    assert f"The adapter's process ended with exit code 3 while serving {MODEL}" in why
    assert ask(client, "say well").choices[0].message.content == "well"


# The worked adapter


def test_the_worked_adapter_answers_as_the_runtime_does_letter_by_letter(worked: ServedChild, tmp_path: Path) -> None:
    """Same weights, two ways of serving: at temperature 0 texts, tokens and reasons are equal for all prompts."""
    prompts = data.read_prompts()
    assert len(prompts) >= 8
    with practice(tmp_path) as runtime:
        (variant,) = runtime.find(["practice-small-int4-generic-cpu:1"])
        with runtime.serve(variant) as own, client_of(own) as one, client_of(worked) as other:
            for prompt in prompts:
                options: Any = {"max_tokens": 40, "temperature": 0}
                theirs = ask(one, prompt.text, variant.model_id, **options)
                ours = ask(other, prompt.text, worked.variant.model_id, **options)
                assert ours.choices[0].message.content == theirs.choices[0].message.content
                assert ours.choices[0].finish_reason == theirs.choices[0].finish_reason
                for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
                    assert getattr(ours.usage, name) == getattr(theirs.usage, name)


def test_the_worked_adapter_streams_and_samples(worked: ServedChild) -> None:
    """Pieces joined are the whole answer, one character each whole; a seed repeats."""
    name, text = worked.variant.model_id, "Repeat after me: Zoë, Łódź, 日本"
    with client_of(worked) as client:
        whole = ask(client, text, name, max_tokens=60, temperature=0)
        pieces = texts(stream(client, text, model=name, max_tokens=60, temperature=0))
        assert "".join(pieces) == whole.choices[0].message.content
        assert 0 < len(pieces) <= whole.usage.completion_tokens
        assert not [piece for piece in pieces if "�" in piece]
        options: Any = {"model": name, "max_tokens": 30, "temperature": 1.5}
        said = [ask(client, text, seed=seed, **options).choices[0].message.content for seed in (1, 1, *range(2, 10))]
        assert said[0] == said[1]
        assert len(set(said)) > 1


def test_the_worked_adapter_without_its_library_says_what_to_install(tmp_path: Path, monkeypatch: Any) -> None:
    """Where the bindings are missing, the error names the package and where it exists."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "onnxruntime_genai.py").write_text("raise ImportError('no wheel for this platform')", encoding="utf-8")
    with pytest.raises(RuntimeUnavailableError, match=r"no wheel.*pip install onnxruntime-genai==0\.18\.0"):
        registry.register("mine", adapter_helpers.SMALL, adapter=adapter_helpers.GENAI, cache_dir=tmp_path / "cache")
