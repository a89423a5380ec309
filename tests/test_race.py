"""A race: who runs, what is counted and said, what the page plays, a race on servers of known timing, the figure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from matplotlib.collections import PathCollection

from tests.fault_server import fault_server
from tests.measurement_helpers import completion
from workshop_lib import race
from workshop_lib.errors import ModelServerError
from workshop_lib.race import LaneState, Pick, RaceResult, run_race
from workshop_lib.records import Chunk, Completion, ModelVariant, Prompt
from workshop_lib.runtimes.endpoint import EndpointRuntime
from workshop_lib.runtimes.profiles import ServedModel
from workshop_lib.show import charts, style
from workshop_lib.summary import WARNINGS

PROMPT = Prompt("p", "Say it.")


def variant(name: str, **changes: object) -> ModelVariant:
    return ModelVariant(**{"alias": name, "model_id": f"{name}:1", "device": "cpu", "precision": "int4", **changes})


def variants(*names: str) -> list[ModelVariant]:
    return [variant(name, model_id=name) for name in names]


def result_of(*completions: Completion) -> RaceResult:
    return RaceResult(PROMPT, tuple(variant(name) for name in "abcd"[: len(completions)]), completions)


SWIFT = completion([0.010, 0.012, 0.014], ["one ", "two ", "three"])
SLOW = completion([0.020, 0.040], ["eins ", "zwei"])
BROKEN = replace(SWIFT, error="It\nbroke.", error_kind="reset")


# -- states


def test_while_a_lane_writes_pieces_are_counted():
    """No token count and no pace is claimed before the end; thinking is no visible token."""
    lane = LaneState("x", (Chunk(0.05, "content", "a"), Chunk(0.08, "content", "b")))
    assert (lane.status, lane.text, list(race.figures(lane).values())) == (
        "writes",
        "ab",
        ["50 ms", "…", "2 pieces of text", "…"],
    )
    assert set(race.figures(LaneState("x")).values()) == {"…"} and LaneState("x").status == "no token yet"
    thinking = LaneState("x", (Chunk(0.05, "reasoning", "hm"),))
    assert (thinking.status, thinking.text) == ("thinks, no visible token yet", "")


def test_at_the_end_the_figures_are_those_of_the_benchmark():
    """2 tokens after the first in 4 ms are 500 a second; a failed lane keeps its text and claims no pace."""
    lanes = result_of(SWIFT, replace(SWIFT, completion_tokens=None), BROKEN).lanes
    assert [list(race.figures(lane).values()) for lane in lanes] == [
        ["10 ms", "500 tokens/s", "3 tokens", "14 ms"],
        ["10 ms", "not known", "3 pieces of text", "14 ms"],
        ["10 ms", "not known", "3 pieces of text", "not known"],
    ]
    assert (lanes[2].status, lanes[2].text, lanes[2].error) == ("failed", "one two three", "It\nbroke.")


def test_places_are_those_of_the_last_token():
    """40 ms come after 14 ms; equal times share a place; a failed lane has none."""
    assert [lane.place for lane in result_of(SLOW, SWIFT, BROKEN, SWIFT).lanes] == [3, 1, None, 1]


# -- who races


def test_a_model_on_both_devices_races_itself():
    """Of two such models the larger is taken, in one precision."""
    builds = [
        variant(name, model_id=f"{name}-{precision}-{device}", precision=precision, device=device, size_mb=size)
        for name, size in (("small", 1.0), ("large", 9.0))
        for precision, device in (("fp32", "cpu"), ("int4", "cpu"), ("int4", "gpu"))
    ]
    picked = race.pick(builds)
    assert [each.model_id for each in picked.variants] == ["large-int4-cpu", "large-int4-gpu"]
    assert "its CPU build against its GPU build" in picked.why


def test_without_a_gpu_the_smallest_races_the_largest_of_its_precision():
    """1 MB races 5 MB in int4, not 20 MB in fp32, unless that is all there is; fewer than two are no error."""
    builds = [
        variant(name, precision=precision, size_mb=size)
        for name, precision, size in (("a", "int4", 1), ("b", "int4", 5), ("d", "fp32", 20))
    ]
    picked = race.pick(builds, {"gpu": "No GPU provider is registered. Install one."})
    assert [each.alias for each in picked.variants] == ["a", "b"]
    assert picked.why == "No GPU provider is registered, so the smallest and the largest model race."
    assert [each.alias for each in race.pick(builds[1:]).variants] == ["b", "d"]
    unknown = [variant(name, device="unknown", precision=None) for name in "xyz"]
    assert [each.alias for each in race.pick(unknown).variants] == ["x", "z"]
    assert race.pick([variant("x")]) == Pick((variant("x"),), "Only one model is here, so it runs alone.")
    assert race.pick([]).variants == ()


# -- what is said and what the page gets


def test_sentences_claim_no_more_than_one_request_carries():
    """14 ms against 40 ms are 2.9 times; who wrote fewer tokens is said, how they ran, and what is doubtful."""
    assert race.sentences(result_of(SLOW, SWIFT)) == [
        "b · int4 · cpu finished first, after 14 ms; a · int4 · cpu took 2.9 times as long, 40 ms.",
        "b · int4 · cpu had the first token first: 10 ms and 20 ms.",
        "They wrote 3 and 2 tokens, in this order: who writes less finishes sooner.",
        "Each ran alone, after a short question that does not count.",
        "One question is an anecdote; only a benchmark can say how sure this is.",
    ]
    burst = completion([0.1] * 20 + [0.11 + 0.01 * n for n in range(3)], cached_tokens=9)
    said = race.sentences(result_of(burst, BROKEN))
    doubts = [f"a · int4 · cpu: {WARNINGS[code]}" for code in ("cached_prompt", "bursts")]
    assert said[:3] == ["b · int4 · cpu did not finish: It broke.", *doubts]


def test_a_race_is_played_slowly_enough_to_be_seen():
    """40 ms last 4 s; nothing is told before it happened, and the end has the server's count and what is doubtful."""
    shown = race.played(result_of(SWIFT, replace(SLOW, chunks=(*SLOW.chunks, Chunk(0.040, "content", "<b>")))))
    assert (shown["play_s"], len(shown["frames"])) == (pytest.approx(4.0), race.FRAMES)
    begins, middle, ends = shown["frames"][0], shown["frames"][40], shown["lanes"]
    assert begins.count("no token yet") == 2 and ">one" not in begins and "100 times slower" in begins
    assert ">one two three<" in middle and ">first<" in middle and "500 tokens/s" in middle and "no token yet" in middle
    assert ">second<" in ends and "eins zwei&lt;b&gt;" in ends and shown["said"].count("<p>") == 5
    long = race.played(result_of(completion([0.01 * n for n in range(1, 2001)])))
    assert long["play_s"] == pytest.approx(20.0) and long["lanes"].count("V10") <= race.STROKES


# -- races on a server of known timing


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    with fault_server() as url:
        yield url


def test_the_faster_one_wins(base_url: str):
    """4 ms and 1 ms a token beat 50 ms and 10 ms; the warm-up is in no figure."""
    steady, fast = run_race(EndpointRuntime(base_url), variants("steady", "fast"), PROMPT, max_tokens=20).lanes
    assert (steady.place, fast.place, fast.measures.tokens) == (2, 1, 20)
    assert fast.measures.first_token_s < steady.measures.first_token_s >= 50e-3
    assert steady.measures.time_per_output_token_s > 9e-3


def test_a_fault_stays_in_its_lane(base_url: str):
    """A model that does not load, a server that is not there and an answer that breaks off are no end of the race."""

    class Partly(EndpointRuntime):
        def serve(self, variant: ModelVariant) -> ServedModel:
            if variant.alias == "gone":
                return EndpointRuntime("http://127.0.0.1:9/v1").serve(variant)
            if variant.alias == "x":
                raise ModelServerError("It does not load.", "Choose a smaller one.")
            return super().serve(variant)

    result = run_race(Partly(base_url), variants("x", "gone", "reset", "fast"), PROMPT)
    assert [lane.status for lane in result.lanes] == ["failed", "failed", "failed", "first"]
    assert result.lanes[0].error == "It does not load. Choose a smaller one." in race.sentences(result)[0]
    assert "No server listens" in (result.lanes[1].error or "") and result.lanes[2].text


# -- the widget in Python


def test_the_widget_races_again_and_sentences_stand_alone(base_url: str, capsys: pytest.CaptureFixture[str]):
    """What a saved page shows without Python is said in words; the button runs another race, nothing else does."""
    who = Pick(tuple(variants("fast", "steady")), "Two schedules.")
    widget = race.watch(EndpointRuntime(base_url), who, PROMPT, max_tokens=4)
    assert "fast · int4 · cpu finished first" in capsys.readouterr().out and "first" in widget.view["lanes"]
    first = widget.result
    for message in ({"command": "rm"}, {}):
        widget._receive(widget, message, None)
    assert widget.result is first
    widget._receive(widget, {"command": "race"}, None)
    assert widget.result is not first
    widget.close()


# -- the figure


def test_the_figure_shows_every_arrival():
    """A step per piece of text, first tokens ringed, lanes apart without colour, and all of it said in the alt text."""
    figure = charts.race(result_of(SWIFT, SLOW))
    swift, slow = figure.axes[0].lines
    assert list(swift.get_xdata()) == pytest.approx([10, 12, 14]) and list(swift.get_ydata()) == [1, 2, 3]
    assert (swift.get_linestyle(), swift.get_marker()) != (slow.get_linestyle(), slow.get_marker())
    rings = [each.get_offsets()[0] for each in figure.axes[0].collections if isinstance(each, PathCollection)]
    assert [tuple(ring) for ring in rings] == [pytest.approx((10, 1)), pytest.approx((20, 1))]
    said = style.alt_text(figure)
    assert "a · int4 · cpu: first token 10 ms, pace 500 tokens/s, written 3 tokens, whole answer 14 ms." in said


# -- real models
