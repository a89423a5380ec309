"""Against a real server that nobody here wrote: llama.cpp's, with a real model. Needs `xllamacpp`, once a network."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from tests.llama_cpp_server import LlamaServer, llama_cpp_server, server_times, side_by_side
from tests.real_model import leave_out
from tests.scripts import run
from workshop_lib import machine, places, storage, timing
from workshop_lib.client import ChatClient
from workshop_lib.lengths import measure_prompt_lengths
from workshop_lib.models.smollm2 import FILE_NAME as MODEL
from workshop_lib.programs import notebooks
from workshop_lib.quality import judge, scores
from workshop_lib.records import Completion, ModelVariant, Request
from workshop_lib.runtimes.endpoint import EndpointRuntime
from workshop_lib.streams import Arrival

FULL = places.PROJECT / "samples" / "session03" / "benchmark_oss_models.py"
TWO_RUNTIMES = places.PROJECT / "samples" / "07-two-runtimes" / "compare_runtimes.py"
TINY = places.DATA / "practice_models" / "practice-small.gguf"
SMALL = {"n_ctx": 512}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(request: pytest.FixtureRequest) -> None:
    """A loud skip where the server has no wheel: in CI only on a platform that has none."""
    if importlib.util.find_spec("xllamacpp") is None:
        leave_out(request, "xllamacpp is not installed, see requirements-test.txt", excused=not _is_pinned_here())


@pytest.fixture(scope="module")
def model(wheel: None, request: pytest.FixtureRequest) -> Path:
    """The model's file."""
    return request.getfixturevalue("real_model")


def _is_pinned_here() -> bool:
    lines = (places.PROJECT / "requirements-test.txt").read_text("utf-8").splitlines()
    wanted = [Requirement(line) for line in lines if line.startswith("xllamacpp")]
    return any(each.marker is None or each.marker.evaluate() for each in wanted)


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[LlamaServer]:
    with llama_cpp_server(model) as running:
        yield running


@pytest.fixture
def ask(server: LlamaServer) -> Callable[..., Completion]:
    """Put one question to the server that all tests share."""

    def put(text: str, *, to: LlamaServer = server, **options: Any) -> Completion:
        client = {name: options.pop(name) for name in ("api_key", "timeout_s") if name in options}
        received = options.pop("arrivals", None)
        asked = {"max_tokens": 12, **options}
        with ChatClient(to.base_url, **client) as one:
            return one.ask(Request("r", ModelVariant(MODEL, to.model_id, "unknown"), "p", text, 1, **asked),
                           arrivals=received)  # fmt: skip

    return put


def no_sdk(folder: Path) -> str:
    """A search path on which importing the runtime's SDK ends the process."""
    (folder / "foundry_local_sdk.py").write_text("raise SystemExit('the SDK was imported')\n", encoding="utf-8")
    return os.pathsep.join([str(folder), str(places.PROJECT), os.environ.get("PYTHONPATH", "")])


@dataclass(frozen=True)
class Measured:
    """What the full script made of the server."""

    row: dict[str, Any]
    stderr: str
    folder: Path


def benchmark(server: LlamaServer, folder: Path, *flags: str) -> Measured:
    environment = {**os.environ, "PYTHONPATH": no_sdk(folder), "FOUNDRY_LOCAL_ENDPOINT": server.base_url}
    command = [sys.executable, str(FULL), "--max-tokens", "16", "--output", str(folder / "out"), *flags]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)
    return Measured(row, done.stderr, folder / "out")


@pytest.fixture(scope="module")
def measured(server: LlamaServer, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """The course's eight prompts, twice each."""
    return benchmark(server, tmp_path_factory.mktemp("llama"), "--rounds", "2")


def test_people_see_the_models_name_and_not_its_folder(measured: Measured, model: Path):
    """Its id is a path: people see the last part, and requests carry it exactly."""
    assert (measured.row["alias"], measured.row["model_id"]) == (MODEL, MODEL)
    run = storage.read_run(measured.folder / "records.jsonl")
    assert {each.variant.served_as for each in run.servings} == {str(model)}
    reports = [(measured.folder / name).read_text("utf-8") for name in ("benchmark_report.md", "benchmark_report.html")]
    for text in (measured.stderr, *(report.replace("\\_", "_") for report in reports)):
        assert MODEL in text
        assert str(model.parent) not in text


def test_the_row_is_complete(measured: Measured):
    """Sixteen answers of the server's own count; the rate lies among the answers' own: tokens over time."""
    row = measured.row
    assert (row["status"], row["requests_ok"], row["tokens_source"]) == ("ok", 16, "usage")
    assert 0 < row["first_token_latency_avg"] < row["latency_avg"] <= row["latency_p95"] * 1.001
    timed = [each for each in storage.read_run(measured.folder / "records.jsonl").completions if each.round]
    rates = [(len(each.chunks) - 1) / (each.chunks[-1].at_s - each.chunks[0].at_s) for each in timed]
    assert min(rates) <= row["decode_tokens_per_sec"] <= max(rates)


def test_what_is_flagged_is_so(measured: Measured):
    """Answers stop at max_tokens and the second round is read from the cache; every token arrived and was counted."""
    run = storage.read_run(measured.folder / "records.jsonl")
    timed = [each for each in run.completions if each.round]
    assert all(each.completion_tokens == len(each.chunks) == 16 for each in timed if each.finish_reason == "length")
    assert {each.finish_reason for each in timed} <= {"length", "stop"}
    flagged = set(measured.row["warnings"])
    assert {"truncated", "cached_prompt"} <= flagged
    assert flagged.isdisjoint({"no_usage", "hidden_tokens", "coalesced_chunks", "not_streamed", "some_failed"})


@pytest.mark.parametrize("text", ["Tell a story.", "Write 3 emoji and a German word with umlauts."])
def test_no_text_is_lost(ask, text: str):
    """The first event has `content: null` and comes with the second; chunks are the texts of the server's events."""
    received: list[Arrival] = []
    answer = ask(text, arrivals=received, max_tokens=24)
    events = b"".join(piece for _, piece in received).decode().split("\n\n")
    choices = [json.loads(each.removeprefix("data: "))["choices"] for each in events if each.startswith("data: {")]
    texts = [choice["delta"].get("content") for (choice,) in filter(None, choices)]
    assert texts[0] is None
    assert [chunk.text for chunk in answer.chunks] == list(filter(None, texts))
    assert (answer.ok, answer.streamed, answer.prompt_tokens is not None) == (True, True, True)


@pytest.mark.alone
@pytest.mark.parametrize("question", ["Name one colour.", "What is 2+2?"])
def test_an_end_token_that_is_counted_but_never_sent_makes_no_model_faster(ask, question: str):
    """An answer of n texts that ends by itself counts n + 1 tokens; its pace is the time between the texts."""
    answer = ask(question, max_tokens=60)
    assert (answer.finish_reason, answer.completion_tokens) == ("stop", len(answer.chunks) + 1)
    between_s = (answer.chunks[-1].at_s - answer.chunks[0].at_s) / (len(answer.chunks) - 1)
    assert timing.time_per_output_token_s(answer) == pytest.approx(between_s, rel=0.02)


def test_an_answer_in_one_piece_is_read_too(ask):
    """Without streaming: the same words and counts, no first token."""
    pieces, whole = ask("Tell a story."), ask("Tell a story.", stream=False)
    assert (whole.ok, whole.streamed, whole.finish_reason, whole.completion_tokens) == (True, False, "length", 12)
    assert whole.text == pieces.text
    assert timing.first_token_s(whole) is None


@pytest.mark.parametrize("stream", [True, False])
def test_a_prompt_that_is_too_long_is_the_servers_own_reason(ask, stream: bool):
    """HTTP 400 with the size of the context: the record says by how much it does not fit."""
    answer = ask("word " * 3000, stream=stream)
    assert (answer.ok, answer.error_kind, answer.chunks) == (False, "does_not_fit", ())
    assert answer.error.startswith("Does not fit: ") and answer.error.endswith(" of 2 048 tokens.")


@pytest.mark.parametrize(("key", "kind"), [(None, "http_401"), ("wrong", "http_401"), ("right", None)])
def test_a_key_is_asked_for(ask, locked: LlamaServer, key: str | None, kind: str | None):
    """Without the key nothing is answered, with it everything is."""
    assert ask("Tell a story.", to=locked, api_key=key).error_kind == kind


@pytest.fixture(scope="module")
def locked(model: Path) -> Iterator[LlamaServer]:
    with llama_cpp_server(model, **SMALL, api_keys=["right"]) as running:
        yield running


def test_a_server_that_ends_in_mid_answer_is_a_failed_answer(ask, model: Path):
    """Killed while it streams: no traceback, no answer that counts, and the words that came are kept."""
    received: list[Arrival] = []
    with llama_cpp_server(model, **SMALL) as mortal:

        class Watched(list[Arrival]):
            def append(self, arrival: Arrival) -> None:
                super().append(arrival)
                if len(self) == 5:
                    mortal.process.kill()

        received = Watched()
        answer = ask("Tell a long story.", to=mortal, max_tokens=400, arrivals=received)
    assert answer.error_kind in {"cut_off", "reset"}
    assert len(answer.chunks) >= 4


def test_pings_while_a_long_prompt_is_read_are_signs_of_life(ask, model: Path):
    """Comments come every two seconds for longer than the time-out; the first token is the first text."""
    received: list[Arrival] = []
    with llama_cpp_server(model, sse_ping_interval=1) as slow:
        text = "The meeting went on and nobody could say why it did. " * 45
        answer = ask(text, to=slow, timeout_s=3, max_tokens=4, arrivals=received)
    assert answer.ok, answer.error
    pings = [at_s for at_s, piece in received if piece.lstrip().startswith(b":")]
    first_s = answer.chunks[0].at_s
    assert first_s < 3 or (pings and pings[-1] < first_s)


def test_a_server_that_still_loads_its_model_is_waited_for(model: Path):
    """HTTP 503 "Loading model", without Retry-After: the list of models and the first answer come once it has it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with llama_cpp_server(model, wait=False, port=port, **SMALL) as starting:
        _until_it_listens(port)
        with EndpointRuntime(starting.base_url) as runtime:
            (variant,) = runtime.find(["auto"])
        assert variant.alias == MODEL


def _until_it_listens(port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.01)
        else:
            return
    raise TimeoutError


@pytest.mark.alone
def test_our_client_sees_what_a_bare_socket_sees(model: Path):
    """Against the server's own times of the same answers: a used connection costs 30 ms, a wrong count 3 %."""
    with llama_cpp_server(model, cache_ram_mib=0, **SMALL) as server:
        where = (server.base_url, server.model_id)
        ours, bare = side_by_side(*where, 26 * ["Tell a long story of a fox."], 4)
        assert abs(ours.added_ms - bare.added_ms) < 15.0
        texts = [f"{number} is the number of this question. Tell a long story of a fox." for number in range(14)]
        ours, bare = side_by_side(*where, texts, 32)
        assert abs(ours.slower_percent - bare.slower_percent) < 2.0


def test_the_standard_shape_is_what_the_server_measures(model: Path, monkeypatch: pytest.MonkeyPatch):
    """512 + 128 tokens against llama.cpp's own times of the same answers: exact counts, both rates within 5 %.

    Ours is never the faster prefill: the first token comes after the prompt. Both count 127 tokens after the first.
    """
    arrivals: list[list[Arrival]] = []
    asked = ChatClient.ask

    def ask(client: ChatClient, request: Request) -> Completion:
        arrivals.append([])
        return asked(client, request, arrivals=arrivals[-1])

    monkeypatch.setattr(ChatClient, "ask", ask)
    with llama_cpp_server(model, n_ctx=1024) as server, EndpointRuntime(server.base_url) as runtime:
        found = measure_prompt_lengths(runtime, runtime.find(["auto"])[0], (512,), repeats=1)
    shape, served = found.shape, server_times(b"".join(piece for _, piece in arrivals[-1]))
    assert shape and shape.prompt_tokens == served["cache_n"] + served["prompt_n"] == pytest.approx(512, abs=3)
    assert shape.answer_tokens == served["predicted_n"] == 128
    assert 0.95 <= shape.prefill_tokens_per_sec / served["prompt_per_second"] <= 1
    assert shape.decode_tokens_per_sec == pytest.approx(served["predicted_per_second"], rel=0.05)


@pytest.mark.usefixtures("wheel")
def test_two_runtimes_serve_one_file(tmp_path: Path):
    """The sample on a small model of the same family: both read the same prompts, and give the same answers."""
    done = run(
        TWO_RUNTIMES, str(TINY), "--prompts", "2", "--rounds", "2", "--max-tokens", "8", "--folder", str(tmp_path)
    )
    assert done.returncode == 0, done.stderr
    assert "2 of 2 answers are equal letter for letter" in done.stdout
    measured = storage.read_run(tmp_path / "records.jsonl")
    assert {each.variant.model_id: each.threads for each in measured.servings} == {
        "same-model-exact4-cpu:1": machine.cores(), "llama.cpp": machine.cores(),
    }  # fmt: skip
    read = {(each.model_id, each.prompt_id): each.prompt_tokens for each in measured.completions if each.round}
    assert len(read) == 4
    assert len(set(read.values())) <= 2, "one count of tokens for each of the two prompts"
    assert not any(each.cached_tokens for each in measured.completions)


def test_two_runtimes_say_what_is_missing(tmp_path: Path):
    """Without the file, or without the server: one line that says what to do, and nothing is measured."""
    absent = run(TWO_RUNTIMES, str(tmp_path / "no.gguf"), "--folder", str(tmp_path / "run"))
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['xllamacpp'] = None\n", encoding="utf-8")
    bare = run(TWO_RUNTIMES, str(TINY), "--folder", str(tmp_path / "run"), PYTHONPATH=str(tmp_path))
    for done, said in ((absent, "no.gguf"), (bare, "pip install xllamacpp")):
        assert (done.returncode > 0, done.stdout, len(done.stderr.strip().splitlines())) == (True, "", 1)
        assert said in done.stderr
    assert not (tmp_path / "run").exists()


def test_the_pages_run_on_it(server: LlamaServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The pages that ask models, in order, as `workshop.py run --profile endpoint` runs them, without the SDK."""
    monkeypatch.setenv("PYTHONPATH", no_sdk(tmp_path))
    monkeypatch.setenv("FOUNDRY_LOCAL_ENDPOINT", server.base_url)
    monkeypatch.setattr(notebooks, "PAGES", notebooks.PAGES[:5])
    short = {"rounds": 1, "max_tokens": 8, "users": "", "prompt_lengths": "", "judge_seconds": 1.0}
    pages = notebooks.run_workshop(tmp_path / "run", {"profile": "endpoint", **short})
    assert [page[:2] for page in pages] == ["01", "02", "03", "04", "05"]
    run = storage.read_run(tmp_path / "run" / "records.jsonl")
    assert {each.alias for each in run.completions} == {MODEL}
    assert all(each.ok for each in run.completions)


def test_it_can_be_asked_as_a_judge(
    server: LlamaServer, measured: Measured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Every answer gets a verdict with a reason, kept under the judge's name; what cannot be read has no grade."""
    run = storage.read_run(measured.folder / "records.jsonl")
    found = [replace(each, authors=()) for each in scores.distinct_answers(run)[:3]]  # not known as its own
    with EndpointRuntime(server.base_url) as runtime:
        (variant,) = runtime.find([judge.choose_judge(run)[0]])
        monkeypatch.setattr(judge, "MAX_TOKENS", 40)
        with runtime.serve(variant) as served:
            given = judge.judge_all(served, [[each] for each in found], tmp_path, scores.version_for(run.prompts))
    assert len(given) == 3
    for score in given:
        assert score.value in {None, 1, 2, 3, 4, 5}
        assert score.comment
        assert not score.comment.startswith(judge.FAILED)
    assert {each.answers[0] for each in scores.read_all(tmp_path)} == {each.sha256 for each in found}
    assert [path.name for path in tmp_path.iterdir() if MODEL.lower() in path.name.lower()], (
        "one file, the model's name"
    )
