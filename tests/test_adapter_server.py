"""Models of one's own: the adapter's interface, and its service as the official openai client sees it."""

from __future__ import annotations

import asyncio
import gc
import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
import openai
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from workshop_lib.registration import adapter_process, generation, registered_models
from workshop_lib.registration.chat_requests import Question, RequestFault, read_question
from workshop_lib.registration.generation import End, Engine, Usage
from workshop_lib.registration.stop_texts import StopTexts

from tests import adapter_helpers, scripted_adapter
from tests.adapter_helpers import client_of, raw, register, scripted, served, weights_in
from tests.foundry_helpers import is_gone, practice, python, wait_until
from workshop_lib import catalog
from workshop_lib.errors import ConfigurationError, ModelServerError, RuntimeUnavailableError
from workshop_lib.models.adapter import (
    Chat,
    CustomModelAdapter,
    Message,
    Piece,
    described,
    in_words,
    load_class,
)

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
    registered = adapter_process.register_adapter(
        "worked", adapter_helpers.SMALL, adapter_helpers.GENAI, licence="MIT", precision="int4", cache_dir=cache
    )
    with adapter_process.serve(registered, registered.variant()) as running:
        yield running


def ask(client: openai.OpenAI, text: str, **options: Any) -> Any:
    """One whole answer."""
    messages: Any = [{"role": "user", "content": text}]
    return client.chat.completions.create(model=MODEL, messages=messages, **options)


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


# What an adapter is


def test_a_prompt_is_text_that_knows_its_messages() -> None:
    """A single question reads as itself; a conversation names who speaks, and asks the assistant to go on."""
    assert Chat("Hello") == "Hello"
    assert Chat("Hello").messages == (Message("user", "Hello"),)
    talk = (Message("system", "Be brief."), Message("user", "Hello"), Message("assistant", "Hi"), Message("user", "Go"))
    assert Chat(talk) == "system: Be brief.\nuser: Hello\nassistant: Hi\nuser: Go\nassistant:"
    assert Chat(Chat(talk)).messages == talk


def test_generate_and_stream_derive_from_each_other(tmp_path: Path) -> None:
    """Whichever of the two is written, both can be called, with plain text as well."""
    whole, pieces = scripted_adapter.Whole(), scripted_adapter.Scripted()
    whole.load(weights_in(tmp_path))
    pieces.load(weights_in(tmp_path))
    assert list(whole.stream("Hello")) == ["You said: Hello"]
    assert pieces.generate("say one |two", max_tokens=5) == "one two"


def test_an_adapter_that_writes_neither_says_so_instead_of_calling_itself() -> None:
    """The two defaults would call each other for ever."""
    with pytest.raises(NotImplementedError, match="Silent writes neither generate nor stream"):
        scripted_adapter.Silent().generate("Hello")
    with pytest.raises(NotImplementedError, match="Silent writes neither"):
        list(scripted_adapter.Silent().stream("Hello"))


def test_a_class_is_found_in_a_file_or_a_module() -> None:
    """Both ways to write a reference lead to the class."""
    assert load_class(scripted("Whole")).__name__ == "Whole"
    assert load_class("tests.scripted_adapter:Whole") is scripted_adapter.Whole


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("missing.py:Some", "There is no adapter file missing.py"),
        ("tests.scripted_adapter:Scrpted", "has no adapter called 'Scrpted'. It has Scripted, Uncounted"),
        ("tests.scripted_adapter:Stranger", "has no adapter called 'Stranger'"),
        ("tests.scripted_adapter:Unfinished", "'Unfinished' in tests.scripted_adapter lacks load"),
        ("tests.scripted_adapter:Silent", "'Silent' in tests.scripted_adapter lacks generate or stream"),
        ("workshop_lib.errors:Some", "It has no class derived from CustomModelAdapter"),
        ("no_such_package.module:Some", "Install the package that brings 'no_such_package' into this Python"),
    ],
)
def test_a_reference_that_leads_to_no_adapter_says_what_is_there(reference: str, words: str) -> None:
    """A slip in file, module or class is one clear error with the way out."""
    with pytest.raises(ConfigurationError, match=words.replace("(", r"\(")):
        load_class(reference)


def test_a_file_that_fails_is_named_with_its_own_words_on_one_line(tmp_path: Path) -> None:
    """Whatever a stranger's file raises, the reader learns what and where."""
    file = tmp_path / "mine.py"
    file.write_text("raise ValueError('first\\nsecond')", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"mine\.py cannot be used \(ValueError: first second\)"):
        load_class(f"{file}:Mine")


def test_what_an_adapter_raises_names_nobodys_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The words end in records and reports: the reader's own folder is `~`, and the line is one."""
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    said = in_words(FileNotFoundError(f"no {tmp_path / 'ada' / 'model.bin'}\nhere"))
    assert said.replace("\\", "/") == "FileNotFoundError: no ~/ada/model.bin here"


# Stop texts, counts and limits, without any server


def cut(pieces: list[str], stops: list[str]) -> str:
    """What is shown of an answer that comes in those pieces."""
    cutter, shown = StopTexts(stops), ""
    for piece in pieces:
        shown += cutter.feed(piece)
        if cutter.found:
            return shown
    return shown + cutter.rest()


def cut_by_hand(text: str, stops: list[str]) -> str:
    """The same, looked at character by character: the first stop text to be complete counts, the longest of equals."""
    for end in range(len(text) + 1):
        done = [stop for stop in stops if text[:end].endswith(stop)]
        if done:
            return text[: end - max(map(len, done))]
    return text


LETTERS = st.text("ab", min_size=1, max_size=4)


@given(st.lists(LETTERS, max_size=8), st.lists(LETTERS, max_size=4))
def test_stop_texts_do_not_care_how_an_answer_is_cut_into_pieces(pieces: list[str], stops: list[str]) -> None:
    """However the pieces fall, what is shown is the text before the stop text that was complete first."""
    assert cut(pieces, stops) == cut_by_hand("".join(pieces), stops)


@given(st.lists(LETTERS, max_size=8), st.lists(LETTERS, max_size=4))
def test_nothing_shown_is_ever_taken_back(pieces: list[str], stops: list[str]) -> None:
    """What may be the beginning of a stop text is held back until it is known."""
    cutter, shown = StopTexts(stops), ""
    for piece in pieces:
        shown += cutter.feed(piece)
        assert cut_by_hand("".join(pieces), stops).startswith(shown)
        if cutter.found:
            break


class Told(CustomModelAdapter):
    """Answers what it was told, and counts words if it may."""

    def __init__(self, pieces: Any, *, counts: bool = True) -> None:
        self.answer = pieces
        self.counts = counts
        self.asked_for = 0

    def load(self, weights_path: Path) -> None:
        """Nothing to load."""

    def stream(self, prompt: str, **params: Any) -> Iterator[str]:
        self.asked_for = params["max_tokens"]
        return self.answer

    def count_tokens(self, text: str) -> int | None:
        return len(text.split()) if self.counts else None


def answered(adapter: Told, *, context: int | None = None, **asked: Any) -> tuple[str, End]:
    """The text and the end of an answer to a prompt of four words."""
    *pieces, end = generation.answer(adapter, Question(prompt=Chat("one two three four"), **asked), context)
    assert isinstance(end, End)
    return "".join(map(str, pieces)), end


def test_tokens_that_pieces_report_come_before_tokens_counted_afterwards() -> None:
    """Two pieces of three tokens together are 3, though their text is two words."""
    told = Told([Piece("good ", 1), Piece("day", 2)])
    assert answered(told) == ("good day", End("stop", Usage(4, 3)))


def test_tokens_of_plain_pieces_are_counted_in_the_whole_answer() -> None:
    """Pieces that say nothing are joined and counted: three words."""
    assert answered(Told(["good ", "day ", "to you"])) == ("good day to you", End("stop", Usage(4, 4)))


@pytest.mark.parametrize("pieces", [["a"], [Piece("a")]])
def test_an_adapter_that_counts_nothing_gets_no_usage(pieces: list[str]) -> None:
    """Not even where the pieces are counted: half a usage would be half invented."""
    assert answered(Told(pieces, counts=False)) == ("a", End("stop", None))


def test_an_adapter_that_ignores_the_limit_is_stopped_where_its_tokens_are_known() -> None:
    """Of five pieces of one token each, three are shown, and the end says why."""
    assert answered(Told([Piece(text) for text in "abcde"]), max_tokens=3) == ("abc", End("length", Usage(4, 3)))


def test_the_tokens_of_a_stopped_answer_are_those_that_were_made() -> None:
    """The stop text cost tokens too; what comes after it is not made at all."""
    told = Told(iter([Piece("a"), Piece("b"), Piece("STOP"), Piece("c")]))
    assert answered(told, stop=("STOP",)) == ("ab", End("stop", Usage(4, 3)))
    assert list(told.answer) == ["c"]


def test_a_context_that_is_too_small_is_refused_before_the_model_works() -> None:
    """4 tokens of prompt and 7 of answer do not fit 10; 6 do, and an open length takes what is left."""
    told = Told(["a"])
    with pytest.raises(RequestFault, match="The context has 10 tokens; the 4 of the prompt and the 7 of the answer"):
        answered(told, context=10, max_tokens=7)
    assert told.asked_for == 0
    for asked, given_to_the_adapter in ((6, 6), (None, 6)):
        answered(told, context=10, max_tokens=asked)
        assert told.asked_for == given_to_the_adapter
    answered(told)
    assert told.asked_for == generation.DEFAULT_MAX_TOKENS


def test_questions_are_answered_in_the_order_they_came() -> None:
    """Nobody overtakes: five that come at once are begun and ended one by one; one that nobody wants is left out."""
    order: list[str] = []

    class Watching(Told):
        def stream(self, prompt: str, **params: Any) -> Iterator[str]:
            order.append(f"{prompt} begins")
            yield from ["x"] * 50
            order.append(f"{prompt} ends")

    engine = Engine(Watching([]))
    worker = threading.Thread(target=engine.answer_all)

    async def ask_five() -> list[str]:
        asked = [engine.begin(Question(prompt=Chat(f"question {number}"))) for number in range(5)]
        asked[2].cancel()
        worker.start()
        return ["".join([piece async for piece in each]) for each in asked if each is not asked[2]]

    try:
        assert asyncio.run(ask_five()) == ["x" * 50] * 4
    finally:
        engine.close()
        worker.join()
    assert order == [f"question {number} {what}" for number in (0, 1, 3, 4) for what in ("begins", "ends")]


BODY = {"model": "m:1", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"messages": []}, "'messages' is []. Give at least one message"),
        ({"messages": "Hi"}, "'messages' is 'Hi'"),
        ({"messages": [{"role": "user"}]}, "'messages[0].content' is missing"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "'messages[0].role' is 'tool'"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "'messages[0].content"),
        ({"max_tokens": 0}, "'max_tokens' is 0. Give 1 or more"),
        ({"max_tokens": "many"}, "'max_tokens' is 'many'"),
        ({"max_tokens": True}, "'max_tokens' is True"),
        ({"max_tokens": 1.5}, "'max_tokens' is 1.5"),
        ({"temperature": 2.5}, "'temperature' is 2.5. Give 0 to 2"),
        ({"temperature": -1}, "'temperature' is -1"),
        ({"top_p": 0}, "'top_p' is 0"),
        ({"stop": [""]}, "'stop' is ('',). Give up to 4 texts, none empty"),
        ({"stop": ["a"] * 5}, "Give up to 4 texts"),
        ({"stop": 5}, "'stop' is 5"),
        ({"stream": "yes"}, "'stream' is 'yes'"),
        ({"n": 2}, "'n' is 2. One answer is given at a time"),
        ({"logprobs": True}, "'logprobs' is True"),
        ({"presence_penalty": 0.5}, "'presence_penalty' is 0.5"),
        ({"tools": [{"type": "function"}]}, "Tools are not called here"),
        ({"response_format": {"type": "json_object"}}, "Answers are plain text"),
        ({"model": None}, "'model' is None"),
    ],
)
def test_a_bad_question_names_the_field_and_the_value(change: dict[str, Any], words: str) -> None:
    """HTTP 400, one line, and `param` for programs."""
    with pytest.raises(RequestFault) as fault:
        read_question(json.dumps({**BODY, **change}).encode(), "m:1")
    assert fault.value.status == 400
    assert words in fault.value.message
    assert "\n" not in fault.value.message
    assert fault.value.param in words.replace("'", " ").split() or fault.value.param in change


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"text"', b"\xff", b'{"model": "m:1"}', b"[" * 100_000])
def test_a_body_that_is_no_question_is_one_clear_fault(body: bytes) -> None:
    """No JSON, another JSON, a piece of one: 400 and a line, never an exception of another kind."""
    with pytest.raises(RequestFault) as fault:
        read_question(body, "m:1")
    assert fault.value.status == 400
    assert len(fault.value.message) < 200


def test_what_a_question_may_say_besides() -> None:
    """Parts of text are joined, a developer is the system, the newer name of the limit wins, the rest is ignored."""
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    messages = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": parts}]
    body = {
        "model": "m:1",
        "messages": messages,
        "max_tokens": 5,
        "max_completion_tokens": 7,
        "user": "ada",
        "stop": "x",
    }
    question = read_question(json.dumps(body).encode(), "m:1")
    assert question.prompt.messages == (Message("system", "Be brief."), Message("user", "Hello"))
    assert (question.max_tokens, question.stop, question.temperature, question.seed) == (7, ("x",), 1.0, None)


# What an adapter says of itself


class Saying(CustomModelAdapter):
    """Counts and describes itself as it is told."""

    def __init__(self, *, count: Any = None, piece: Any = None, **said: Any) -> None:
        self.count, self.piece = count, piece
        for name, value in said.items():
            setattr(self, name, value)

    def load(self, weights_path: Path) -> None:
        """Nothing."""

    def stream(self, prompt: str, **params: Any) -> Iterator[str]:
        yield "said" if self.piece is None else Piece("said", self.piece)

    def count_tokens(self, text: str) -> int | None:
        return self.count  # type: ignore[no-any-return]


@pytest.mark.parametrize("said", [{"count": np.int64(3)}, {"count": 3, "piece": np.int32(3)}])
def test_counts_of_other_libraries_become_plain_numbers(said: dict[str, Any]) -> None:
    """Tokenizers give numbers of numpy, which JSON does not know: the usage reaches the client all the same."""
    *_, end = generation.answer(Saying(**said), Question(prompt=Chat("one")), np.int64(10))  # type: ignore[arg-type]
    assert json.dumps(asdict(end)["usage"]) == '{"prompt_tokens": 3, "completion_tokens": 3}'  # type: ignore[call-overload]


@pytest.mark.parametrize("said", [{"count": 1.5}, {"count": -1}, {"count": "3"}, {"count": 3, "piece": -3}])
def test_a_count_that_is_none_is_never_passed_on(said: dict[str, Any]) -> None:
    """Half a token and minus one token would become somebody's tokens per second."""
    with pytest.raises(TypeError, match=r"says .* tokens, no whole number from 0"):
        list(generation.answer(Saying(**said), Question(prompt=Chat("one")), None))


def test_what_an_adapter_says_of_itself_is_read_as_plain_values() -> None:
    """The context may be a number of any library."""
    told = described(Saying(device="gpu", execution_provider="CUDAExecutionProvider", context_tokens=np.int64(64)))
    assert (told.device, told.execution_provider) == ("gpu", "CUDAExecutionProvider")
    assert type(told.context_tokens) is int
    assert described(Saying()).context_tokens is None


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"device": "cuda"}, "runs on 'cuda'. Set its `device` to cpu, gpu, npu"),
        ({"device": ["gpu"]}, "runs on ['gpu']"),
        ({"execution_provider": None}, "names the execution provider None"),
        ({"context_tokens": 0}, "has context_tokens 0"),
        ({"context_tokens": "4096"}, "has context_tokens '4096'"),
    ],
)
def test_what_an_adapter_cannot_be_is_refused_with_the_value(said: dict[str, Any], words: str) -> None:
    """Before it is registered: the file of registered models would refuse it, and all others with it."""
    with pytest.raises(ModelServerError, match=re.escape(words)):
        described(Saying(**said))


def test_an_adapter_that_runs_elsewhere_than_registered_is_not_served(tmp_path: Path) -> None:
    """One that finds no GPU today would be measured on the CPU under the name of the GPU; nothing is left running."""
    model = replace(register(tmp_path), device="gpu", execution_provider="CUDAExecutionProvider")
    before = {child.pid for child in psutil.Process().children()}
    with pytest.raises(
        ModelServerError,
        match=r"registered on gpu \(CUDAExecutionProvider\), and now runs on cpu \(CPUEx.*unregister mine",
    ):
        adapter_process.serve(model, model.variant())
    assert {child.pid for child in psutil.Process().children()} == before


# The service, asked by the official client


def test_the_service_lists_its_one_model(client: openai.OpenAI) -> None:
    """`/v1/models` names the exact id; another name is unknown."""
    assert [each.id for each in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).id == MODEL
    with pytest.raises(openai.NotFoundError, match="not served here"):
        client.models.retrieve("other")


def test_a_whole_answer_has_text_reason_and_usage(client: openai.OpenAI) -> None:
    """Four words of prompt, three tokens of answer: as counted, and their sum."""
    answer = ask(client, "say one |two |three")
    assert answer.choices[0].message.content == "one two three"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.object == "chat.completion"
    assert answer.model == MODEL
    usage = answer.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (4, 3, 7)


def test_a_streamed_answer_comes_piece_by_piece(client: openai.OpenAI) -> None:
    """The role first, each piece as it came, the reason, and the usage last in a chunk without choices."""
    chunks = stream(client, "say one |two |three", stream_options={"include_usage": True})
    assert chunks[0].choices[0].delta.role == "assistant"
    assert texts(chunks) == ["one ", "two ", "three"]
    assert [each.choices[0].finish_reason for each in chunks if each.choices][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens == 7
    assert len({each.id for each in chunks}) == 1


def test_usage_is_streamed_only_to_those_who_ask(client: openai.OpenAI) -> None:
    """Without `include_usage` every chunk has a choice."""
    assert all(each.choices and each.usage is None for each in stream(client, "say one"))


def test_no_usage_is_better_than_an_invented_one(tmp_path: Path) -> None:
    """An adapter that counts no tokens gives none, neither whole nor streamed."""
    with served(tmp_path, "Uncounted") as quiet, client_of(quiet) as client:
        messages: Any = [{"role": "user", "content": "say one |two"}]
        name = quiet.variant.model_id
        assert client.chat.completions.create(model=name, messages=messages).usage is None
        streamed = client.chat.completions.create(
            model=name, messages=messages, stream=True, stream_options={"include_usage": True}
        )
        assert [each.usage for each in streamed] == [None] * 4  # role, two pieces, end


def test_an_adapter_without_a_stream_can_be_streamed(tmp_path: Path) -> None:
    """The least that a learner can write: the answer is one piece, and its words are counted."""
    with served(tmp_path, "Whole") as whole, client_of(whole) as client:
        messages: Any = [{"role": "user", "content": "Good day"}]
        name = whole.variant.model_id
        chunks = list(client.chat.completions.create(model=name, messages=messages, stream=True))
        assert texts(chunks) == ["You said: Good day"]
        usage = client.chat.completions.create(model=name, messages=messages).usage
        assert usage is not None
        assert (usage.prompt_tokens, usage.completion_tokens) == (2, 4)


@pytest.mark.parametrize(
    ("script", "stop", "shown"),
    [
        ("say one |END| two", "END", "one "),
        ("say one E|N|D two", "END", "one "),
        ("say one |EN|O", "END", "one ENO"),
        ("say a|b|c|d", ["cd", "b"], "a"),
        ("say END|x", "END", ""),
        ("say caf|é |\N{SMILE}\N{VARIATION SELECTOR-16}| x", "\N{SMILE}\N{VARIATION SELECTOR-16}", "café "),
    ],
)
def test_a_stop_text_ends_the_answer_wherever_it_is_cut(
    client: openai.OpenAI, script: str, stop: str | list[str], shown: str
) -> None:
    """Whole or in pieces, the answer ends before the stop text, and the reason is `stop`."""
    whole = ask(client, script, stop=stop)
    assert whole.choices[0].message.content == shown
    assert whole.choices[0].finish_reason == "stop"
    assert "".join(texts(stream(client, script, stop=stop))) == shown


def test_an_answer_at_its_limit_says_so(client: openai.OpenAI) -> None:
    """Two tokens of five, and the reason is `length`."""
    answer = ask(client, "say a|b|c|d|e", max_tokens=2)
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("ab", "length")
    assert answer.usage.completion_tokens == 2


@pytest.mark.parametrize(
    "text", ["Zoë", "日本語", "👩‍👩‍👧", "a\u0301", "\u202etxt", "line\nline", "</script>\\", "\x00"]
)
def test_any_text_comes_through_unchanged(client: openai.OpenAI, text: str) -> None:
    """Every character, joined ones cut in the middle too, in both directions."""
    assert ask(client, f"say {text}").choices[0].message.content == text
    pieces = "|".join(text)
    assert texts(stream(client, f"say {pieces}")) == list(text)


def test_half_a_character_is_shown_as_unreadable(client: openai.OpenAI) -> None:
    """Half of a surrogate pair would break whoever prints it."""
    assert ask(client, "half").choices[0].message.content == "a�"


def test_the_messages_and_parameters_reach_the_adapter(client: openai.OpenAI) -> None:
    """A conversation arrives as one text with its messages, and every parameter is always given."""
    messages: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "echo"}]
    said = client.chat.completions.create(model=MODEL, messages=messages).choices[0].message.content
    assert said == "system: Be brief.\nuser: echo\nassistant:"
    given = json.loads(ask(client, "params", temperature=0, top_p=0.5, seed=7, stop=["é"], max_tokens=9)
                       .choices[0].message.content)  # fmt: skip
    assert given == {"max_tokens": 9, "temperature": 0, "top_p": 0.5, "seed": 7, "stop": ["é"]}
    left_open = json.loads(ask(client, "params").choices[0].message.content)
    assert left_open == {"max_tokens": 59, "temperature": 1.0, "top_p": 1.0, "seed": None, "stop": []}


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("raise", "The adapter raised KeyError: 'no\\nsuch key'."),
        ("exit", "The adapter raised SystemExit: enough."),
        ("bytes", "The adapter raised TypeError: a piece of the answer is bytes, not text."),
    ],
)
def test_what_an_adapter_raises_is_told_in_one_line(client: openai.OpenAI, script: str, said: str) -> None:
    """HTTP 500 with class and words, no traceback, and the next question is answered."""
    for options in ({}, {"stream": True}):
        with pytest.raises(openai.InternalServerError) as error:
            ask(client, script, **options)
        body: Any = error.value.body
        assert body == {"message": said, "type": "server_error", "param": None, "code": "adapter_failed"}
    assert ask(client, "say well").choices[0].message.content == "well"


def test_a_fault_in_the_middle_of_a_stream_reaches_the_client(client: openai.OpenAI) -> None:
    """The status was sent long ago: the error is an event, and the client raises it after the pieces."""
    pieces: list[str] = []
    chunks = ask(client, "raise one |two ", stream=True)
    with pytest.raises(openai.APIError, match="The adapter raised KeyError"):
        pieces.extend(text for chunk in chunks for text in texts([chunk]))
    assert pieces == ["one ", "two "]
    assert ask(client, "say well").choices[0].message.content == "well"


def test_what_does_not_fit_the_context_is_refused(client: openai.OpenAI) -> None:
    """The server says it where tokens are counted, the adapter itself may say it too: both are HTTP 400."""
    for script, options in (("say x", {"max_tokens": 59}), ("say" + " x" * 60, {}), ("too-long", {})):
        for streamed in (False, True):
            with pytest.raises(openai.BadRequestError) as error:
                ask(client, script, stream=streamed, **options)
            assert error.value.code == "context_length_exceeded"


def test_bad_requests_and_unknown_models_have_their_status(client: openai.OpenAI) -> None:
    """The client raises the classes that programs catch, with the field that is to blame."""
    with pytest.raises(openai.BadRequestError, match="Give 0 to 2") as bad:
        ask(client, "say x", temperature=3)
    assert bad.value.param == "temperature"
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="scripted", messages=[{"role": "user", "content": "x"}])
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model=MODEL, input="x")


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
        ask(client.with_options(timeout=0.2), "say late")
    running.close()
    with pytest.raises(openai.APITimeoutError):
        ask(client.with_options(timeout=0.2), "endless")
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


@pytest.mark.parametrize("host", ["attacker.example", "attacker.example:80", "127.0.0.1.attacker.example", "", "[::2]"])
def test_only_this_machines_own_names_are_answered(model: ServedChild, host: str) -> None:
    """A web page that points its name at this machine (DNS rebinding) learns nothing."""
    status, headers, body = raw(model, "GET", "/v1/models", Host=host)
    assert status in {400, 403}
    assert "data" not in body
    assert not [name for name in headers if name.startswith("access-control")]


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:8080"])
def test_this_machine_has_several_names(model: ServedChild, host: str) -> None:
    """All of them lead to the service."""
    assert raw(model, "GET", "/v1/models", Host=host)[0] == 200


def test_no_page_in_a_browser_may_ask(model: ServedChild) -> None:
    """No answer to the question whether other origins may ask, and no body of a form's kind is read."""
    origin = {"Origin": "https://attacker.example"}
    status, headers, _ = raw(model, "OPTIONS", "/v1/chat/completions", **origin)
    assert status == 405
    assert not [name for name in headers if name.startswith("access-control")]
    status, headers, body = raw(
        model, "POST", "/v1/chat/completions", b"{}", **{"Content-Type": "text/plain", **origin}
    )
    assert (status, body["error"]["message"]) == (415, "The content type is 'text/plain'. Send application/json.")
    assert not [name for name in headers if name.startswith("access-control")]


def test_a_body_that_is_too_large_is_not_read(model: ServedChild) -> None:
    """More than 4 MB is no prompt: 413, and the service goes on."""
    status, _, body = raw(model, "POST", "/v1/chat/completions", b" " * 4_100_000)
    assert (status, body["error"]["type"]) == (413, "invalid_request_error")
    assert raw(model, "GET", "/v1/models")[0] == 200


def test_half_a_question_leaves_nothing_behind(model: ServedChild) -> None:
    """A client that goes away while it asks is no fault of the adapter: its log stays as it was."""
    address = urlsplit(model.base_url)
    with socket.create_connection((address.hostname, address.port)) as half:
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        half.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())
    assert raw(model, "GET", "/v1/models")[0] == 200
    assert "Traceback" not in model._process._tail()
    assert "Error" not in model._process._tail()


def test_every_wrong_turn_is_an_error_object(model: ServedChild) -> None:
    """Unknown routes and methods answer as OpenAI does, in JSON."""
    for method, path, expected in (("GET", "/nowhere", 404), ("GET", "/v1/chat/completions", 405)):
        status, _, body = raw(model, method, path)
        assert status == expected
        assert set(body["error"]) == {"message", "type", "param", "code"}


# The process


def test_the_process_is_measured_like_any_other(model: ServedChild, tmp_path: Path) -> None:
    """Load time and resident memory are the adapter's own: 100 MB of weights are seen, within 15."""
    assert 0 <= model.load_s < 5
    assert model.registered_providers == ("CPUExecutionProvider",)
    heavy = register(tmp_path, "heavy")
    weights_in(tmp_path / "heavy", "100000000")
    with adapter_process.serve(heavy, heavy.variant()) as running:
        assert running.resident_mb is not None and model.resident_mb is not None
        assert running.resident_mb - model.resident_mb == pytest.approx(100, abs=15)
        assert (running.peak_resident_mb() or 0) >= running.resident_mb


def test_a_stopped_adapter_may_close_itself(tmp_path: Path) -> None:
    """`close` is called before the process ends, and the process ends by itself."""
    mine = register(tmp_path)
    closed = mine.place.parent / "closed.txt"
    closed.unlink(missing_ok=True)
    running = adapter_process.serve(mine, mine.variant())
    running.stop()
    assert closed.read_text(encoding="utf-8") == "closed"
    assert is_gone(running.pid)
    assert running._process._child.returncode == 0, "it was killed instead of ending by itself"


def test_an_answer_that_never_ends_does_not_keep_the_process(tmp_path: Path) -> None:
    """Stopping cuts the answer off and still closes the adapter."""
    mine = register(tmp_path, "scripted")
    with client_of(running := adapter_process.serve(mine, mine.variant())) as client:
        answer = ask(client, "endless", stream=True)
        next(answer)
        (mine.place.parent / "closed.txt").unlink(missing_ok=True)
        running.stop()
        answer.close()
    assert is_gone(running.pid)
    assert (mine.place.parent / "closed.txt").exists()


def test_a_crash_is_the_adapters_alone(tmp_path: Path, client: openai.OpenAI) -> None:
    """The client sees a broken connection, the reason names the exit code, and the other adapter goes on."""
    mine = register(tmp_path, "scripted")
    with adapter_process.serve(mine, mine.variant()) as doomed, client_of(doomed) as other:
        with pytest.raises(openai.APIConnectionError):
            ask(other, "crash")
        wait_until(lambda: doomed.failure() is not None, within_s=5)
        why = doomed.failure() or ""
    assert f"The adapter's process ended with exit code 3 while serving {MODEL}" in why
    assert ask(client, "say well").choices[0].message.content == "well"


def test_an_adapter_ends_with_its_parent(tmp_path: Path) -> None:
    """However the parent ends, the process does not stay."""
    mine = register(tmp_path)
    code = (
        "from pathlib import Path\nfrom workshop_lib.registration import adapter_process, registered_models\n"
        f"model, = registered_models.read(Path({str(tmp_path)!r}))\n"
        "running = adapter_process.serve(model, model.variant())\nprint(running.pid, flush=True)\ninput()\n"
    )
    parent = python(code)
    assert mine.alias == "mine"
    pid = int(parent.stdout.readline() if parent.stdout else 0)
    parent.kill()
    parent.communicate()
    wait_until(lambda: is_gone(pid), within_s=5)


def test_an_adapter_that_nobody_holds_is_stopped(tmp_path: Path) -> None:
    """A cell that is run again replaces its model, and the old one does not stay in memory."""
    mine = register(tmp_path)
    running = adapter_process.serve(mine, mine.variant())
    pid = running.pid
    del running
    gc.collect()
    assert is_gone(pid)


# Registering an adapter


def test_registering_tries_the_adapter_and_asks_it_for_its_context(tmp_path: Path) -> None:
    """What the adapter says of itself is kept, what the owner says comes first, and nothing goes on running."""
    mine = register(tmp_path, licence="MIT", capabilities=("explain",))
    assert registered_models.read(tmp_path) == (mine,)
    assert (mine.kind, mine.device, mine.context_tokens, mine.size_mb) == ("adapter", "cpu", 60, 1e-6)
    assert mine.model_id == "mine-adapter-cpu:1"
    other = register(tmp_path, "other", context_tokens=40)
    assert other.context_tokens == 40
    messages: Any = [{"role": "user", "content": "say x"}]
    with (
        adapter_process.serve(other, other.variant()) as running,
        client_of(running) as client,
        pytest.raises(openai.BadRequestError, match="The context has 40 tokens"),
    ):
        client.chat.completions.create(model=other.model_id, messages=messages, max_tokens=39)


def test_an_adapter_that_cannot_load_is_not_registered(tmp_path: Path) -> None:
    """The reason is its own, on one line, without the reader's folders."""
    file = weights_in(tmp_path / "x", "broken")
    with pytest.raises(
        ModelServerError, match=r"Scripted could not load .*\(ValueError: these are no weights\)"
    ) as error:
        adapter_process.register_adapter("mine", file, scripted(), cache_dir=tmp_path)
    assert str(tmp_path) not in str(error.value)
    assert "<cache>" in str(error.value)
    assert registered_models.read(tmp_path) == ()


def test_weights_that_are_not_there_are_named_before_anything_runs(tmp_path: Path) -> None:
    """Neither a missing path nor an empty folder can be loaded."""
    for place in (tmp_path / "missing", tmp_path):
        with pytest.raises(ConfigurationError, match="There are no weights at"):
            adapter_process.register_adapter("mine", place, scripted(), cache_dir=tmp_path)


def test_an_adapter_whose_file_is_gone_says_how_to_go_on(tmp_path: Path) -> None:
    """Serving names what is missing and how to take the model off the list."""
    file = tmp_path / "mine.py"
    file.write_text(Path(scripted_adapter.__file__).read_text(encoding="utf-8"), encoding="utf-8")
    model = adapter_process.register_adapter("mine", weights_in(tmp_path / "w"), f"{file}:Scripted", cache_dir=tmp_path)
    file.unlink()
    with pytest.raises(ModelServerError, match=r"The adapter of 'mine' cannot be found any more .*unregister mine"):
        adapter_process.serve(model, model.variant())


# The worked adapter


def worked_answers(model: ServedChild, text: str, **options: Any) -> Any:
    messages: Any = [{"role": "user", "content": text}]
    with client_of(model) as client:
        answer = client.chat.completions.create(model=model.variant.model_id, messages=messages, **options)
        return list(answer) if options.get("stream") else answer


def test_the_worked_adapter_answers_as_the_runtime_does_letter_by_letter(worked: ServedChild, tmp_path: Path) -> None:
    """Same weights, two ways of serving: at temperature 0 texts, tokens and reasons are equal for all prompts."""
    prompts = catalog.read_prompts()
    assert len(prompts) >= 8
    with practice(tmp_path) as runtime:
        (variant,) = runtime.find(["practice-small-int4-generic-cpu:1"])
        with runtime.serve(variant) as own, client_of(own) as client:
            for prompt in prompts:
                messages: Any = [{"role": "user", "content": prompt.text}]
                for max_tokens in (120, 10):
                    theirs = client.chat.completions.create(
                        model=variant.model_id, messages=messages, max_tokens=max_tokens, temperature=0
                    )
                    ours = worked_answers(worked, prompt.text, max_tokens=max_tokens, temperature=0)
                    assert ours.choices[0].message.content == theirs.choices[0].message.content
                    assert ours.choices[0].finish_reason == theirs.choices[0].finish_reason
                    assert theirs.usage is not None
                    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
                        assert getattr(ours.usage, name) == getattr(theirs.usage, name)


def test_the_worked_adapter_streams_what_it_answers(worked: ServedChild) -> None:
    """Pieces joined are the whole answer, and there are no more of them than tokens."""
    text = catalog.read_prompts()[0].text
    whole = worked_answers(worked, text, max_tokens=60, temperature=0)
    pieces = texts(worked_answers(worked, text, max_tokens=60, temperature=0, stream=True))
    assert "".join(pieces) == whole.choices[0].message.content
    assert 20 < len(pieces) <= whole.usage.completion_tokens


def test_the_worked_adapter_stops_at_a_text(worked: ServedChild) -> None:
    """The answer ends before the stop text, whose letters come in several tokens."""
    text = catalog.read_prompts()[0].text
    whole = worked_answers(worked, text, max_tokens=60, temperature=0).choices[0].message.content
    middle = whole[20:27]
    stopped = worked_answers(worked, text, max_tokens=60, temperature=0, stop=[middle])
    assert stopped.choices[0].message.content == whole[: whole.index(middle)]
    assert stopped.choices[0].finish_reason == "stop"


def test_the_worked_adapter_samples_repeatably(worked: ServedChild) -> None:
    """The same seed gives the same answer, and ten seeds do not all give one."""

    def with_seed(seed: int) -> str:
        answer = worked_answers(worked, "What is edge AI?", max_tokens=30, temperature=1.5, seed=seed)
        return str(answer.choices[0].message.content)

    assert with_seed(1) == with_seed(1)
    assert len({with_seed(seed) for seed in range(10)}) > 1


def test_the_worked_adapter_keeps_to_its_context(worked: ServedChild) -> None:
    """1024 tokens are all there is: the folder says so, and more is refused."""
    with pytest.raises(openai.BadRequestError, match="The context has 1024 tokens") as error:
        worked_answers(worked, "What is edge AI?", max_tokens=1020)
    assert error.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError):
        worked_answers(worked, "word " * 3000)


def test_the_worked_adapter_copies_text_beyond_ascii(worked: ServedChild) -> None:
    """A character of several tokens is one piece; nothing is shown as unreadable."""
    answer = worked_answers(worked, "Repeat after me: Zoë, Łódź, 日本", max_tokens=40, temperature=0, stream=True)
    pieces = texts(answer)
    assert not [piece for piece in pieces if "�" in piece]


def test_the_worked_adapter_without_its_library_says_what_to_install(tmp_path: Path, monkeypatch: Any) -> None:
    """Where the bindings are missing, the error names the package and where it exists."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "onnxruntime_genai.py").write_text("raise ImportError('no wheel for this platform')", encoding="utf-8")
    with pytest.raises(RuntimeUnavailableError, match=r"no wheel.*pip install onnxruntime-genai==0\.18\.0"):
        adapter_process.register_adapter(
            "mine", adapter_helpers.SMALL, adapter_helpers.GENAI, cache_dir=tmp_path / "cache"
        )


def test_both_runtimes_of_onnx_genai_live_in_one_process() -> None:
    """The bindings and the library below the Foundry Local SDK can be imported side by side."""
    code = "import onnxruntime_genai, foundry_local_sdk; print('both')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "both\n", done.stderr
