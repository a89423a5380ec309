"""Prompt lengths: prefill rate and overhead of a known server are found again; what does not fit is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.fault_server import FaultServer
from tests.fault_steps import DONE, OPEN, Behaviour, Exchange, finish, refuse, tokens
from workshop_lib import lengths, report, summary
from workshop_lib.errors import ConfigurationError, RecordFileError
from workshop_lib.lengths import Point, PromptLengths, measure_prompt_lengths
from workshop_lib.records import Chunk, Completion, ModelVariant, Row
from workshop_lib.runtimes.endpoint import EndpointRuntime

TEMPLATE, OVERHEAD_S, RATE = 12, 0.1, 2000.0
VARIANT = ModelVariant("m", "m:1", "cpu", context_tokens=8192)


def reads(rate: float, *, slower_after: float = 1e9) -> Behaviour:
    """Counts words as tokens, waits for the overhead and for its prefill; half as fast beyond so many tokens."""

    def count(exchange: Exchange) -> int:
        return TEMPLATE + len(str(exchange.call.body["messages"][-1]["content"]).split())

    def read(exchange: Exchange) -> None:
        asked = count(exchange)
        exchange.start += OVERHEAD_S + (asked + max(0.0, asked - slower_after)) / rate

    def usage(exchange: Exchange) -> None:
        exchange.say({"choices": [], "usage": {"prompt_tokens": count(exchange), "completion_tokens": exchange.tokens}})

    return Behaviour(first_token_s=0.0, pace_s=0.001, tokens=4, steps=(OPEN, read, tokens, finish, usage, DONE))


def answer(length: int, number: int, first_s: float) -> Completion:
    """Two tokens: the first after so many seconds, the second 10 ms later."""
    chunks = (Chunk(first_s, "content", "a"), Chunk(first_s + 0.01, "content", "b"))
    return Completion(
        f"m/{length}/{number}", "m", "m:1", "cpu", f"length-{length}", number, chunks=chunks, prompt_tokens=length,
        completion_tokens=2, finish_reason="stop", started_at="2026-01-01T00:00:00+00:00",
    )  # fmt: skip


def found_of(firsts: dict[int, list[float]], **changes: object) -> PromptLengths:
    asked = tuple(answer(length, n, first) for length, some in firsts.items() for n, first in enumerate(some, 1))
    return replace(PromptLengths(VARIANT, asked, (), 1.25, 20.0), **changes)  # type: ignore[arg-type]


@pytest.mark.alone
def test_a_known_prefill_rate_and_overhead_are_found_within_3_percent(tmp_path: Path):
    """The server's own count is the length, each prompt is asked once, and the file reads back as it was."""
    with FaultServer({"m": reads(RATE)}) as server, EndpointRuntime(server.base_url) as runtime:
        (variant,) = runtime.find(["m"])
        found = measure_prompt_lengths(runtime, variant, (64, 128, 256, 512, 1024), folder=tmp_path)
        asked = [str(call.body) for call in server.calls if call.method == "POST"]
    assert len(set(asked)) == len(asked) == 2 + 2 + 5 * 3
    assert [point.prompt_tokens for point in found.points] == pytest.approx([64, 128, 256, 512, 1024], abs=2)
    assert (found.tokens_per_word, found.template_tokens) == (1.0, TEMPLATE + 2)
    fit = found.fit
    assert fit and fit.prefill_tokens_per_s == pytest.approx(RATE, rel=0.03)
    assert fit.overhead_s == pytest.approx(OVERHEAD_S, rel=0.03)
    assert fit.prefill_range[0] <= fit.prefill_tokens_per_s <= fit.prefill_range[1]
    assert fit.worst_miss < lengths.POOR_FIT
    (again,) = lengths.read_lengths(tmp_path)
    assert [each.prompt_tokens for each in again.points] == [each.prompt_tokens for each in found.points]
    assert again.fit and again.fit.prefill_tokens_per_s == pytest.approx(fit.prefill_tokens_per_s, rel=1e-4)


def test_a_bend_is_said():
    """Twice as many milliseconds a token beyond 256: no straight line is within 10 %."""
    firsts = {64: [0.064], 128: [0.128], 256: [0.256], 512: [0.768], 1024: [1.792]}
    fit = found_of(firsts).fit
    assert fit and fit.worst_miss > lengths.POOR_FIT
    assert "is off by" in found_of(firsts).sentence()


def test_one_late_answer_moves_nothing():
    """1 ms a token and 20 ms overhead, by hand: most pairs have the slope of the line, whatever one request does."""
    on_the_line = {length: [0.02 + length / 1000] * 3 for length in (64, 128, 256, 512)}
    late = {**on_the_line, 256: [0.276, 0.276, 5.0]}
    for firsts in (on_the_line, late):
        fit = found_of(firsts).fit
        assert fit and fit.prefill_tokens_per_s == pytest.approx(1000, rel=0.01)
        assert fit.overhead_s == pytest.approx(0.02, abs=0.002)


@pytest.mark.parametrize(
    ("context", "minutes", "fits"), [(8192, 40, True), (8192, 60, False), (4096, 20, True), (4096, 21, False),
                                     (None, 600, None)]
)  # fmt: skip
def test_minutes_become_tokens(context: int | None, minutes: float, fits: bool | None):
    """150 words a minute, 1.25 tokens a word, 20 of the template, 256 for the summary: 20 minutes are 3 770 tokens."""
    found = found_of({}, variant=replace(VARIANT, context_tokens=context))
    assert found.tokens(20) == 3770
    assert found.fits(minutes) is fits


def test_the_standard_shape_by_hand():
    """512 tokens, 32 of them cached, in 0.3, 0.4 and 0.6 s: 480 / 0.4 is 1,200; then 2 tokens, 10 ms apart: 100."""
    found = found_of({64: [0.1], 512: [0.3, 0.4, 0.6]})
    cached = replace(found, completions=tuple(replace(each, cached_tokens=32) for each in found.completions))
    assert cached.shape == Point(512, 0.4, pytest.approx(100), 3, 2, pytest.approx(1200))
    said = cached.sentences()[1]
    assert all(
        figure in said for figure in ("512 prompt + 2 answer", "pp512) 1,200 tok/s", "tg2 at depth 512) 100 tok/s")
    )
    assert (found_of({64: [0.1]}).shape, len(found_of({64: [0.1]}).sentences())) == (None, 1)


def test_the_standard_prompt_has_512_tokens_where_words_differ():
    """Long words are two tokens, and the first words are no sample of all: untimed prompts correct the count."""

    def usage(exchange: Exchange) -> None:
        words = str(exchange.call.body["messages"][-1]["content"]).split()
        count = TEMPLATE + sum(1 + (len(word) > 3) for word in words)
        exchange.say({"choices": [], "usage": {"prompt_tokens": count, "completion_tokens": exchange.tokens}})

    server = Behaviour(first_token_s=0.0, pace_s=0.001, tokens=4, steps=(OPEN, tokens, finish, usage, DONE))
    with FaultServer({"m": server}) as served, EndpointRuntime(served.base_url) as runtime:
        found = measure_prompt_lengths(runtime, runtime.find(["m"])[0], (512,))
        limits = [call.body["max_tokens"] for call in served.calls if call.method == "POST"]
    assert found.shape and found.shape.prompt_tokens == pytest.approx(512, abs=2)
    assert limits == [32, 32, 32, 32, 128, 128, 128]


def test_the_sentence_says_what_fits_and_what_is_beyond_the_measured():
    """At 1 ms a token: 5 minutes are 957.5 tokens, so 0.96 s; 20 minutes lie beyond the 1 024 asked; 60 do not fit."""
    said = found_of({length: [length / 1000] * 3 for length in (256, 512, 1024)}).sentence()
    assert "60 minutes of meeting (about 11,270 tokens) do not fit" in said
    assert "20 minutes (3,770 tokens): 3.8 s, estimated: longer than was measured" in said
    assert "5 minutes (958 tokens): 0.96 s." in said
    slow = found_of({length: [length / 10] * 3 for length in (256, 512, 1024)}).sentence()
    assert "20 minutes (3,770 tokens): 377 s, estimated" in slow and "5 minutes (958 tokens): 96 s." in slow
    assert "three lengths" in found_of({256: [0.1], 512: [0.2]}).sentence()


@pytest.mark.parametrize("firsts_s", [(0.05, 0.0500004, 0.0499998), (0.0056, 0.0042, 0.0042)])
def test_a_first_token_that_does_not_depend_on_the_length_has_no_line(firsts_s: tuple[float, ...]):
    """Some microseconds of noise are no prefill rate of millions; the row says null, and the sentence why."""
    of_length = dict(zip((64, 128, 256), firsts_s, strict=True))
    found = found_of({length: [first, first + 2e-6, first - 2e-6] for length, first in of_length.items()})
    assert (found.fit, len(found.points)) == (None, 3)
    assert "three lengths" not in found.sentence()
    (row,) = lengths.with_fits([Row("m", "m:1", "cpu", "ok")], [found])
    assert row.more == {"prefill_tokens_per_sec_fitted": None, "first_token_overhead_s": None}


def test_lengths_beyond_the_context_are_not_asked():
    """A model of 512 tokens with 128 for the answer is asked 64 and 256; 512 and 2 048 are named."""
    with FaultServer({"m": reads(1e6)}) as server, EndpointRuntime(server.base_url) as runtime:
        variant = replace(runtime.find(["m"])[0], context_tokens=512)
        found = measure_prompt_lengths(runtime, variant, (2048, 64, 256, 512), repeats=1)
    assert (len(found.points), found.left_out) == (2, (512, 2048))


def test_a_length_that_the_server_refuses_is_named_as_one_that_does_not_fit():
    """An endpoint tells no context: 64 is answered, 512 is refused for its length and not passed over in silence."""

    def short_only(exchange: Exchange) -> None:
        is_long = len(str(exchange.call.body["messages"][-1]["content"]).split()) > 200
        exchange.run(refuse(400, "the request exceeds the available context size") if is_long else reads(1e6).steps)

    with (
        FaultServer({"m": Behaviour(pace_s=0.001, tokens=4, steps=(short_only,))}) as server,
        EndpointRuntime(server.base_url) as runtime,
    ):
        found = measure_prompt_lengths(runtime, runtime.find(["m"])[0], (64, 512), repeats=1)
    assert (len(found.points), found.left_out) == (1, (512,))


@pytest.mark.parametrize("wrong", [(31,), (64, -5)])
def test_a_length_that_cannot_be_used_is_refused(wrong: tuple[int, ...]):
    """Below 32 tokens no answer can be told from the template; nothing is asked before that is said."""
    with FaultServer({"m": reads(1e6)}) as server, EndpointRuntime(server.base_url) as runtime:
        with pytest.raises(ConfigurationError):
            measure_prompt_lengths(runtime, VARIANT, wrong)
        assert measure_prompt_lengths(runtime, VARIANT, ()).points == []
        assert not server.calls


def test_a_server_that_does_not_count_tokens_is_one_sentence():
    """Without usage there are no lengths to speak of."""
    silent = Behaviour(first_token_s=0.0, pace_s=0.001, tokens=4, steps=(OPEN, tokens, finish, DONE))
    with FaultServer({"m": silent}) as server, EndpointRuntime(server.base_url) as runtime:
        found = measure_prompt_lengths(runtime, runtime.find(["m"])[0])
    assert (found.points, found.fit) == ([], None)
    assert "m counts 0 and 0 prompt tokens" in found.sentence()


def test_rows_and_report_get_the_fit(tmp_path: Path):
    """By name, for the model measured; the points are the report's; of a model measured twice the last counts."""
    found = found_of({length: [0.02 + length / 1000] * 3 for length in (64, 128, 512)})
    lengths.save_lengths(tmp_path, found_of({64: [9.0], 128: [9.0], 256: [9.0]}))
    lengths.save_lengths(tmp_path, found)
    (read,) = lengths.read_lengths(tmp_path)
    measured, other = lengths.with_fits([Row("m", "m:1", "cpu", "ok"), Row("n", "n:1", "cpu", "ok")], [read])
    fitted = summary.row_object(measured)
    assert {name: fitted[name] for name in measured.more} == pytest.approx({
        "prefill_tokens_per_sec_fitted": 1000, "first_token_overhead_s": 0.02,
        "pp512_tokens_per_sec": 512 / 0.532, "tg128_d512_tokens_per_sec": 100,
    })  # fmt: skip
    assert "first_token_overhead_s" in report.report_csv([other, measured]).splitlines()[0]
    assert not other.more
    assert lengths.point_objects([read])[0] == {
        "model_id": "m:1", "prompt_tokens": 64, "first_token_s": pytest.approx(0.084),
        "decode_tokens_per_sec": pytest.approx(100), "requests": 3,
    }  # fmt: skip
    (tmp_path / lengths.LENGTHS_FILE).write_text('{"schema": 1}\n')
    with pytest.raises(RecordFileError):
        lengths.read_lengths(tmp_path)
