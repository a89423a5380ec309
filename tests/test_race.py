"""Races: states worked by hand, lanes of known timing and known faults, the widget, the figure, the shipped models."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.collections import PathCollection

from tests.fault_server import fault_server
from tests.measurement_helpers import completion, request
from workshop_lib import race
from workshop_lib.client import ChatClient
from workshop_lib.errors import ModelServerError
from workshop_lib.race import LaneState, LiveAnswer, Pick, RaceResult, Turns, run_race
from workshop_lib.records import Chunk, Completion, ModelVariant, Prompt
from workshop_lib.runtimes.endpoint import EndpointRuntime
from workshop_lib.runtimes.profiles import ServedModel
from workshop_lib.show import charts, style
from workshop_lib.streams import read_answer
from workshop_lib.summary import WARNINGS

PROMPT = Prompt("p", "Say it.")


def variant(name: str, **changes: object) -> ModelVariant:
    return ModelVariant(**{"alias": name, "model_id": f"{name}:1", "device": "cpu", "precision": "int4", **changes})


def variants(*names: str) -> list[ModelVariant]:
    return [variant(name, model_id=name) for name in names]


def result_of(*completions: Completion, turns: Turns = "in turns") -> RaceResult:
    return RaceResult(PROMPT, turns, tuple(variant(name) for name in "abcd"[: len(completions)]), completions)


SWIFT = completion([0.010, 0.012, 0.014], ["one ", "two ", "three"])
SLOW = completion([0.020, 0.040], ["eins ", "zwei"])
BROKEN = replace(SWIFT, error="It\nbroke.", error_kind="reset")


# -- states


def test_while_a_lane_writes_pieces_are_counted():
    """First piece at 50 ms, two more by 80 ms: 2 pieces in 30 ms are 66.7 a second, and no token count is claimed."""
    chunks = [Chunk(0.05, "content", "a"), Chunk(0.06, "content", "b"), Chunk(0.08, "content", "c")]
    lane = race.so_far("x", chunks)
    assert (lane.status, lane.text, lane.place) == (race.WRITES, "abc", None)
    assert list(race.figures(lane).values()) == ["50 ms", "67 pieces/s", "3 pieces of text", "…"]
    assert race.so_far("x", []) == LaneState("x", race.ASKED)
    thinking = race.so_far("x", [Chunk(0.05, "reasoning", "hm")])
    assert (thinking.status, thinking.text, race.figures(thinking)["First token"]) == (race.THINKS, "", "50 ms")


def test_at_the_end_the_figures_are_those_of_the_benchmark():
    """2 tokens after the first in 4 ms are 500 a second; a failed lane keeps its text and claims no pace."""
    uncounted, broken = race.finished("x", replace(SWIFT, completion_tokens=None)), race.finished("x", BROKEN)
    assert [list(race.figures(lane).values()) for lane in (race.finished("x", SWIFT), uncounted, broken)] == [
        ["10 ms", "500 tokens/s", "3 tokens", "14 ms"],
        ["10 ms", "not known", "3 pieces of text", "14 ms"],
        ["10 ms", "not known", "3 pieces of text", "not known"],
    ]
    assert (broken.status, broken.text, broken.error) == ("failed", "one two three", "It\nbroke.")


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
    assert race.sentences(result_of(SLOW, SWIFT, turns="together")) == [
        "b · int4 · cpu finished first, after 14 ms; a · int4 · cpu took 2.9 times as long, 40 ms.",
        "b · int4 · cpu began first: first tokens after 10 ms and 20 ms.",
        "In order of finishing they wrote 3 and 2 tokens: who writes less finishes sooner.",
        "They ran at the same time and shared this machine, so these are no benchmark numbers.",
        "One question is an anecdote; only a benchmark can say how sure this is.",
    ]
    burst = completion([0.1] * 20 + [0.11 + 0.01 * n for n in range(3)], cached_tokens=9)
    said = race.sentences(result_of(burst, BROKEN))
    doubts = [f"a · int4 · cpu: {WARNINGS[code]}" for code in ("cached_prompt", "bursts")]
    assert said[:3] == ["b · int4 · cpu did not finish: It broke.", *doubts]


def test_a_race_is_played_slowly_enough_to_be_seen():
    """40 ms last 4 s; nothing is told before it happened, and the end has the server's count and what is doubtful."""
    shown = race.played(result_of(SWIFT, replace(SLOW, chunks=(*SLOW.chunks, Chunk(0.040, "content", "<b>")))))
    assert (shown["play_s"], len(shown["frames"]), shown["by_itself"]) == (pytest.approx(4.0), race.FRAMES, True)
    begins, middle, ends = shown["frames"][0], shown["frames"][40], shown["lanes"]
    assert begins.count("no token yet") == 2 and ">one" not in begins and "100 times slower" in begins
    assert ">one two three<" in middle and ">first<" in middle and "500 tokens/s" in middle and "no token yet" in middle
    assert ">second<" in ends and "eins zwei&lt;b&gt;" in ends and shown["said"].count("<p>") == 5
    long = race.played(result_of(completion([0.01 * n for n in range(1, 2001)]), turns="together"))
    assert long["play_s"] == pytest.approx(20.0) and not long["by_itself"]
    assert long["lanes"].count("V10") <= race.STROKES


WORDS = [{"choices": [{"delta": {"content": word}}]} for word in ("ä", "b\n", "c")]
EVENTS = [json.dumps(event).encode() for event in (*WORDS, {"choices": [{"delta": {}, "finish_reason": "stop"}]})]
STREAM = b"".join(b"data: " + event + b"\r\n\r\n" for event in (*EVENTS, b"[DONE]"))


@given(st.sets(st.integers(1, len(STREAM) - 1), max_size=12), st.sets(st.integers(0, 12)))
def test_a_growing_answer_is_read_like_a_whole_one(cuts: set[int], looks: set[int]):
    """However the network cuts the bytes and whenever one looks, the chunks and their moments are the same."""
    ends = [0, *sorted(cuts), len(STREAM)]
    pieces = [(0.1 * n, STREAM[a:b]) for n, (a, b) in enumerate(itertools.pairwise(ends))]
    growing: list[tuple[float, bytes]] = []
    live, seen = LiveAnswer(growing), 0
    for n, piece in enumerate(pieces):
        growing.append(piece)
        if n in looks:
            assert len(live.look()) >= seen
            seen = len(live.look())
    assert live.look() == read_answer(pieces).chunks and len(live.look()) == 3


# -- races on a server of known timing


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    with fault_server() as url:
        yield url


def test_the_faster_one_wins_while_both_write(base_url: str):
    """4 ms and 1 ms a token beat 50 ms and 10 ms; text grows live, and no figure is the watcher's own."""
    states: list[tuple[LaneState, ...]] = []
    runtime, who = EndpointRuntime(base_url), variants("steady", "fast")
    result = run_race(runtime, who, PROMPT, turns="together", on_change=states.append)
    steady, fast = result.lanes
    assert (steady.place, fast.place) == (2, 1)
    assert fast.measures.first_token_s < steady.measures.first_token_s >= 50e-3
    assert steady.measures.time_per_output_token_s > 9e-3
    live = [state[0].text for state in states if state[0].status == race.WRITES]
    most = race.UPDATES_PER_S * max(1.0, steady.measures.latency_s)
    assert 4 <= len(set(live)) <= most and live == sorted(live, key=len)
    assert states[-1] == result.lanes and result.completions[0].text.startswith(live[-1])


def test_in_turns_one_waits_for_the_other(base_url: str):
    """The second lane waits until the first is done."""
    states: list[tuple[LaneState, ...]] = []
    runtime, who = EndpointRuntime(base_url), variants("steady", "fast")
    run_race(runtime, who, PROMPT, max_tokens=20, on_change=states.append)
    assert {state[1].status for state in states if state[0].status == race.WRITES} == {race.WAITS}
    assert {state[0].status for state in states if state[1].status in {race.LOADS, race.ASKED}} == {"done"}


def test_watching_adds_nothing_to_the_record(base_url: str):
    """The chunks of the record are those of the very bytes and moments that were looked at."""
    arrivals: list[tuple[float, bytes]] = []
    with ChatClient(base_url) as client:
        answer = client.ask(request("fast"), arrivals=arrivals)
    assert answer.chunks == tuple(read_answer(arrivals).chunks) and len(answer.chunks) == 40


def test_a_fault_stays_in_its_lane(base_url: str):
    """One lane breaks, the other is first; what had arrived is kept and the reason is a sentence."""
    who = variants("stall-middle", "fast")
    result = run_race(EndpointRuntime(base_url), who, PROMPT, turns="together", timeout_s=1.0)
    broken, fast = result.lanes
    assert (broken.status, result.completions[0].error_kind, broken.text) == ("failed", "stalled", " half")
    assert (fast.status, fast.place) == ("done", 1)
    assert broken.error in race.sentences(result)[0]


@pytest.mark.parametrize("turns", ["together", "in turns"])
def test_a_lane_that_cannot_be_served_has_failed(base_url: str, turns: Turns):
    """A model that does not load is no end of the race, and neither is a server that is not there."""

    class Partly(EndpointRuntime):
        def serve(self, variant: ModelVariant) -> ServedModel:
            if variant.alias == "gone":
                return EndpointRuntime("http://127.0.0.1:9/v1").serve(variant)
            if variant.alias == "x":
                raise ModelServerError("It does not load.", "Choose a smaller one.")
            return super().serve(variant)

    lanes = run_race(Partly(base_url), variants("x", "gone", "fast"), PROMPT, turns=turns).lanes
    assert [lane.status for lane in lanes] == ["failed", "failed", "done"]
    assert lanes[0].error == "It does not load. Choose a smaller one."
    assert "No server listens" in (lanes[1].error or "")


# -- the widget in Python


@pytest.fixture
def widget(base_url: str) -> Iterator[race.RaceWidget]:
    who = Pick(tuple(variants("fast", "steady")), "Two schedules.")
    made = race.RaceWidget(EndpointRuntime(base_url), who, PROMPT, max_tokens=10)
    yield made
    made.close()


def test_the_widget_tells_the_race_and_obeys_its_buttons(widget: race.RaceWidget):
    """Ready, running, over; an unknown way to race changes nothing, a known one is another race."""
    stages: list[str] = []
    widget.observe(lambda change: stages.append(change["new"]["stage"]), "view")
    assert widget.view["stage"] == "ready"
    result = widget.race()
    assert stages[-1] == "over" and set(stages[:-1]) == {"running"} and widget.result is result
    for message in ({"turns": "x"}, {"command": "rm"}, {}):
        widget._receive(widget, message, None)
    assert widget.result is result
    widget._receive(widget, {"turns": "together"}, None)
    assert widget.result is not result and widget.result.turns == "together"


def test_where_no_widget_lives_sentences_say_how_it_went(widget: race.RaceWidget, capsys: pytest.CaptureFixture[str]):
    """What a saved page shows without Python, and a terminal."""
    runtime, variants, prompt = widget._race
    race.watch(runtime, Pick(variants, "Two."), prompt, max_tokens=4)
    assert "fast · int4 · cpu finished first" in capsys.readouterr().out


def test_an_interrupted_race_can_be_started_again(widget: race.RaceWidget, monkeypatch: pytest.MonkeyPatch):
    """Who stops a race while it runs gets a page that is ready for another one, and no thread is left."""
    threads = threading.active_count()

    def interrupt(lanes: tuple[LaneState, ...]) -> None:
        if lanes[1].status == race.WRITES:
            raise KeyboardInterrupt

    monkeypatch.setattr(widget, "_show", interrupt)
    with pytest.raises(KeyboardInterrupt):
        widget.race()
    assert (widget.view["stage"], "lanes" in widget.view, threading.active_count()) == ("ready", False, threads)
    monkeypatch.undo()
    widget._receive(widget, {"turns": "in turns"}, None)
    assert widget.view["stage"] == "over"


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
