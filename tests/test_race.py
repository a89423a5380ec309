"""Races: states worked by hand, lanes of known timing and known faults, and the shipped models."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.collections import PathCollection

from tests.fault_server import fault_server
from tests.foundry_helpers import practice
from tests.measurement_helpers import completion, request
from tests.report_helpers import HOSTILE
from workshop_lib import catalog
from workshop_lib.errors import ConfigurationError, ModelServerError
from workshop_lib.instrument.client import ChatClient
from workshop_lib.measuring import race, racing
from workshop_lib.measuring.race import LaneState, Pick, RaceResult, RaceState, Turns
from workshop_lib.measuring.racing import Lane, LiveAnswer, lanes_of, run_race
from workshop_lib.metrics.streams import read_answer
from workshop_lib.records import Chunk, Completion, ModelVariant, Prompt
from workshop_lib.runtimes.endpoint import EndpointRuntime
from workshop_lib.showing import charting, race_charts, race_view, race_widget

PROMPT = Prompt("p", "Say it.")


def variant(name: str, **changes: object) -> ModelVariant:
    return ModelVariant(**{"alias": name, "model_id": f"{name}:1", "device": "cpu", "precision": "int4", **changes})


def result_of(*completions: Completion, turns: Turns = "in turns") -> RaceResult:
    return RaceResult(PROMPT, turns, tuple(variant(name) for name in "abcd"[: len(completions)]), completions)


SWIFT = completion([0.010, 0.012, 0.014], ["one ", "two ", "three"])
SLOW = completion([0.020, 0.040], ["eins ", "zwei"])


# -- states


def test_while_a_lane_writes_pieces_are_counted():
    """First piece at 50 ms, two more by 80 ms: 2 pieces in 30 ms are 66.7 a second, and no token count is claimed."""
    chunks = [Chunk(0.05, "content", "a"), Chunk(0.06, "content", "b"), Chunk(0.08, "content", "c")]
    lane = race.so_far("x", chunks)
    assert (lane.status, lane.text, lane.first_token_s, lane.tokens, lane.tokens_source) == (
        "writing", "abc", 0.05, 3, "chunks",
    )  # fmt: skip
    assert lane.tokens_per_s == pytest.approx(66.67, abs=0.01)
    assert (lane.latency_s, lane.place) == (None, None)


def test_before_the_first_word_a_lane_was_asked_or_thinks():
    """No piece: asked. Reasoning alone: thinking, with a first token and no text."""
    assert race.so_far("x", []) == LaneState("x", "asked")
    lane = race.so_far("x", [Chunk(0.05, "reasoning", "hm")])
    assert (lane.status, lane.text, lane.first_token_s, lane.tokens_per_s) == ("thinking", "", 0.05, None)


def test_at_the_end_the_figures_are_those_of_the_benchmark():
    """Tokens are the server's, and the pace is theirs: 2 tokens after the first in 4 ms are 500 a second."""
    lane = race.finished("x", SWIFT)
    assert (lane.tokens, lane.tokens_source, lane.first_token_s, lane.latency_s) == (3, "usage", 0.010, 0.014)
    assert lane.tokens_per_s == pytest.approx(500)
    unknown = race.finished("x", replace(SWIFT, completion_tokens=None))
    assert (unknown.tokens, unknown.tokens_source, unknown.tokens_per_s) == (3, "chunks", None)


def test_a_failed_lane_keeps_what_had_arrived():
    """Text and first token stay, a pace or a latency of half an answer is not claimed."""
    lane = race.finished("x", replace(SWIFT, error="It broke.", error_kind="reset"))
    assert (lane.status, lane.text, lane.error) == ("failed", "one two three", "It broke.")
    assert (lane.first_token_s, lane.tokens_per_s, lane.latency_s) == (0.010, None, None)


def test_places_are_those_of_the_last_token():
    """40 ms come after 14 ms; equal times share a place; a failed lane has none."""
    broken = replace(SLOW, error="It broke.", error_kind="reset")
    assert [lane.place for lane in result_of(SLOW, SWIFT, broken, SWIFT).state.lanes] == [3, 1, None, 1]


def test_a_race_can_be_looked_at_at_any_moment():
    """After 12 ms the first has two words and the second none; after 25 ms the first is done."""
    result = result_of(SWIFT, SLOW)
    first, second = result.at(0.012).lanes
    assert (first.text, first.tokens, first.status, second.status) == ("one two ", 2, "writing", "asked")
    first, second = result.at(0.025).lanes
    assert (first.status, first.place, second.text, second.place) == ("done", 1, "eins ", None)
    assert result.at(0.040) == result.state and result.state.over and not result.at(0.025).over
    assert result.longest_s == 0.040


@given(
    st.lists(st.tuples(st.floats(0, 1), st.text(max_size=5)), max_size=20),
    st.lists(st.floats(0, 1.1), min_size=2, max_size=6),
)
def test_text_only_grows(pieces: list[tuple[float, str]], moments: list[float]):
    """At a later moment a lane shows what it showed before and perhaps more, and never more than its answer."""
    times = sorted(at_s for at_s, _ in pieces)
    result = result_of(completion(times, [text or "." for _, text in pieces]))
    texts = [result.at(at_s).lanes[0].text for at_s in sorted(moments)]
    assert all(after.startswith(before) for before, after in itertools.pairwise(texts))
    assert result.state.lanes[0].text.startswith(texts[-1])


def test_lanes_have_names_of_their_own():
    """Where alias, precision and device are the same, the model id tells two lanes apart; names are one line."""
    twins = [variant("x"), variant("x", model_id="x:2"), variant("y\n\x1b")]
    assert race.names(twins) == ("x:1 · cpu", "x:2 · cpu", "y � · int4 · cpu")


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


def test_without_a_gpu_the_smallest_races_the_largest():
    """1 MB against 20 MB in fp32 are further apart than 1 MB against 5 MB in int4; the absent GPU is named."""
    builds = [
        variant(name, precision=precision, size_mb=size)
        for name, precision, size in (("a", "int4", 1), ("b", "int4", 5), ("c", "fp32", 1), ("d", "fp32", 20))
    ]
    picked = race.pick(builds, {"gpu": "No GPU provider is registered. Install one."})
    assert [each.alias for each in picked.variants] == ["c", "d"]
    assert picked.why == "No GPU provider is registered, so the smallest and the largest model race."


def test_fewer_than_two_are_no_error():
    """One model runs alone, none is said, and unknown sizes are taken in the order given."""
    assert race.pick([variant("x")]) == Pick((variant("x"),), "Only one model is here, so it runs alone.")
    assert race.pick([]).variants == ()
    unknown = [variant(name, device="unknown", precision=None) for name in "xyz"]
    assert [each.alias for each in race.pick(unknown).variants] == ["x", "z"]


# -- what is said


def test_sentences_claim_no_more_than_one_request_carries():
    """14 ms against 40 ms are 2.9 times; who wrote fewer tokens is said, and how they ran."""
    said = race_view.sentences(result_of(SLOW, SWIFT, turns="together"))
    assert said == [
        "b finished first, after 14 ms; a took 2.9 times as long, 40 ms.",
        "b also had the first token first: 10 ms and 20 ms.",
        "They wrote 3 and 2 tokens, in this order: who writes less finishes sooner.",
        "They ran at the same time and shared this machine, so these are no benchmark numbers.",
        "One question is an anecdote; only a benchmark can say how sure this is.",
    ]
    early = completion([0.005, 0.050], ["a", "b"])
    assert race_view.sentences(result_of(SWIFT, early))[1].startswith("b had the first token first: 5.0")


def test_equal_times_have_no_winner():
    """Who ends at the same moment finished together; nobody is first."""
    assert race_view.sentences(result_of(SWIFT, SWIFT))[0] == "a and b finished together, after 14 ms."


def test_sentences_name_what_tells_lanes_apart():
    """Aliases; the device where the alias is the same; everything where that is the same, too."""
    twins = (variant("x"), variant("x", device="gpu"), variant("x", model_id="x:2"))
    assert race_view.short_names(result_of(SWIFT, SLOW)) == ("a", "b")
    both = replace(result_of(SWIFT, SLOW), variants=twins[:2])
    assert race_view.short_names(both) == ("x on cpu", "x on gpu")
    three = replace(result_of(SWIFT, SLOW, SWIFT), variants=twins)
    assert race_view.short_names(three) == ("x:1 · cpu", "x · int4 · gpu", "x:2 · cpu")


def test_what_makes_a_number_doubtful_is_said():
    """A cached question, a burst and a failure each have their sentence."""
    burst = completion([0.1] * 20 + [0.11 + 0.01 * n for n in range(3)], cached_tokens=9)
    said = " ".join(race_view.sentences(result_of(burst, replace(SWIFT, error="It\nbroke.", error_kind="reset"))))
    assert "The server of a had the question in its cache" in said
    assert "Most of what a wrote arrived at one moment, so no pace is claimed." in said
    assert "b did not finish: It broke." in said and "finished first" not in said


def test_frames_play_the_race_without_arithmetic():
    """Each lane has a frame at 0 and one per arrival; the last is the end, with the server's count."""
    shown = race_view.finished_view(result_of(SWIFT, SLOW))
    assert shown["replay"]["factor"] == 100 and shown["length_s"] == 0.040
    swift, slow = shown["replay"]["frames"]
    assert [(frame["at_s"], frame["letters"], frame["status"]) for frame in swift] == [
        (0.0, 0, "no token yet"), (0.010, 4, "writes"), (0.012, 8, "writes"), (0.014, 13, "first"),
    ]  # fmt: skip
    assert dict(swift[2]["figures"])["Pace"] == "500 pieces/s" and dict(swift[3]["figures"])["Pace"] == "500 tokens/s"
    assert dict(slow[-1]["figures"])["Written"] == "2 tokens" and slow[-1]["ended"]
    json.dumps(shown)


def test_a_long_answer_is_shown_in_few_frames():
    """2 000 tokens make at most 402 frames, and the last of them is the end."""
    shown = race_view.finished_view(result_of(completion([0.01 * n for n in range(1, 2001)])))
    frames = shown["replay"]["frames"][0]
    assert len(frames) <= race_view.MOST_FRAMES + 2
    assert (frames[-1]["at_s"], frames[-1]["status"]) == (20.0, "first") and shown["replay"]["factor"] == 1


# -- the live answer

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


def lanes(url: str, *names: str) -> tuple[Lane, ...]:
    return lanes_of(EndpointRuntime(url), [variant(name, model_id=name) for name in names])


def test_the_faster_one_wins_while_both_write(base_url: str):
    """4 ms and 1 ms a token beat 50 ms and 10 ms; text grows live, and no figure is the watcher's own."""
    states: list[RaceState] = []
    result = run_race(lanes(base_url, "steady", "fast"), PROMPT, turns="together", on_change=states.append)
    steady, fast = result.state.lanes
    assert (steady.place, fast.place) == (2, 1)
    assert steady.first_token_s / fast.first_token_s > 3 and 50e-3 <= steady.first_token_s < 0.1
    assert steady.tokens_per_s == pytest.approx(100, rel=0.05)  # 10 ms a token
    live = [state.lanes[0].text for state in states if state.lanes[0].status == "writing"]
    assert 4 <= len(set(live)) <= racing.UPDATES_PER_S and live == sorted(live, key=len)
    assert states[-1] == result.state
    assert result.completions[0].text.startswith(live[-1])


def test_in_turns_one_waits_for_the_other(base_url: str):
    """The second lane waits until the first is done, and every moment of both can be seen afterwards."""
    states: list[RaceState] = []
    result = run_race(lanes(base_url, "steady", "fast"), PROMPT, max_tokens=20, on_change=states.append)
    assert {state.lanes[1].status for state in states if state.lanes[0].status == "writing"} == {"waiting"}
    assert {state.lanes[0].status for state in states if state.lanes[1].status in {"loading", "asked"}} == {"done"}
    steady, fast = result.state.lanes
    assert steady.first_token_s / fast.first_token_s > 3
    steady, fast = result.at(0.045).lanes  # the first token of one is due after 50 ms; the other's 20 after 23 ms
    assert steady.status == "asked" and fast.tokens is not None and fast.tokens > 5


def test_watching_adds_nothing_to_the_record(base_url: str):
    """The chunks of the record are those of the very bytes and moments that were looked at."""
    arrivals: list[tuple[float, bytes]] = []
    with ChatClient(base_url) as client:
        answer = client.ask(request("fast"), arrivals=arrivals)
    assert answer.chunks == tuple(read_answer(arrivals).chunks) and len(answer.chunks) == 40


@pytest.mark.parametrize(
    ("behaviour", "kind", "text"),
    [("http-500", "http_500", ""), ("stall-middle", "stalled", " half"), ("reset", "reset", " half")],
)
def test_a_fault_stays_in_its_lane(base_url: str, behaviour: str, kind: str, text: str):
    """One lane breaks, the other is first; what had arrived is kept and the reason is a sentence."""
    result = run_race(lanes(base_url, behaviour, "fast"), PROMPT, turns="together", timeout_s=0.3)
    broken, fast = result.state.lanes
    assert (broken.status, result.completions[0].error_kind, broken.text) == ("failed", kind, text)
    assert (fast.status, fast.place) == ("done", 1)
    assert broken.error in race_view.sentences(result)[0]


@pytest.mark.parametrize("turns", ["together", "in turns"])
def test_a_lane_that_cannot_be_served_has_failed(base_url: str, turns: Turns):
    """A model that does not load is no end of the race, and neither is a server that is not there."""

    def refuse() -> racing.ServedModel:
        raise ModelServerError("It does not load.", "Choose a smaller one.")

    gone = lanes("http://127.0.0.1:9/v1", "gone")
    result = run_race((Lane(variant("x"), refuse), *gone, *lanes(base_url, "fast")), PROMPT, turns=turns, timeout_s=1)
    assert [lane.status for lane in result.state.lanes] == ["failed", "failed", "done"]
    assert result.state.lanes[0].error == "It does not load. Choose a smaller one."
    assert "No server listens" in (result.state.lanes[1].error or "")


def test_turns_that_do_not_exist_are_refused():
    """The error names both ways."""
    with pytest.raises(ConfigurationError, match="together or in turns"):
        run_race((), PROMPT, turns="backwards")  # type: ignore[arg-type]


def test_an_interrupt_before_the_start_leaves_nobody_at_the_line(base_url: str, monkeypatch: pytest.MonkeyPatch):
    """The second lane never comes to the start; the first does not wait for it for ever."""

    class Interrupted(ThreadPoolExecutor):
        def submit(self, *arguments: Any, **options: Any) -> Future[Any]:
            if self._threads:
                raise KeyboardInterrupt
            return super().submit(*arguments, **options)

    def go() -> None:
        with pytest.raises(KeyboardInterrupt):
            run_race(lanes(base_url, "steady", "fast"), PROMPT, turns="together")

    monkeypatch.setattr(racing, "ThreadPoolExecutor", Interrupted)
    racer = threading.Thread(target=go, daemon=True)
    racer.start()
    racer.join(10)
    assert not racer.is_alive()


# -- the widget in Python


@pytest.fixture
def widget(base_url: str) -> Iterator[race_widget.RaceWidget]:
    who = Pick((variant("fast", model_id="fast"), variant("steady", model_id="steady")), "Two schedules.")
    made = race_widget.RaceWidget(EndpointRuntime(base_url), who, PROMPT, max_tokens=10)
    yield made
    made.close()


def test_the_widget_tells_the_race_and_its_text_stands_alone(widget: race_widget.RaceWidget):
    """Before, while and after: ready, running, over; where no widget is shown, sentences are."""
    stages: list[str] = []
    widget.observe(lambda change: stages.append(change["new"]["stage"]), "view")
    assert widget.view["stage"] == "ready" and "run this cell in JupyterLab" in repr(widget)
    result = widget.race()
    assert stages[-1] == "over" and set(stages[:-1]) == {"running"}
    assert widget.view["said"] == race_view.sentences(result) and widget.result is result
    bundle = widget._repr_mimebundle_()
    assert bundle is not None and bundle[0]["text/plain"].startswith("fast finished first")


def test_a_command_is_obeyed_once(widget: race_widget.RaceWidget):
    """A second press in the same turn, an unknown command and an unknown way to race change nothing."""
    widget._receive(widget, {"command": "race", "turn": 0, "turns": "together"}, None)
    first = widget.result
    assert (widget.view["turn"], first.turns) == (1, "together")
    for message in ({"command": "race", "turn": 0}, {"command": "rm", "turn": 1}, {}):
        widget._receive(widget, message, None)
    assert widget.result is first
    widget._receive(widget, {"command": "race", "turn": 1, "turns": ["x"]}, None)
    assert widget.result is not first and widget.result.turns == "together"


def test_an_interrupted_race_can_be_started_again(widget: race_widget.RaceWidget, monkeypatch: pytest.MonkeyPatch):
    """Who stops a race while it runs gets a page that is ready for another one, and no thread is left."""
    threads = threading.active_count()

    def interrupt(state: RaceState) -> None:
        if state.lanes[1].status == "writing":
            raise KeyboardInterrupt

    monkeypatch.setattr(widget, "_show", interrupt)
    with pytest.raises(KeyboardInterrupt):
        widget.race()
    assert (widget.view["stage"], widget.view["lanes"], threading.active_count()) == ("ready", [], threads)
    monkeypatch.undo()
    widget._receive(widget, {"command": "race", "turn": 1}, None)
    assert widget.view["stage"] == "over"


def test_nobody_to_race_is_shown_and_drawn():
    """Without a model there is a sentence, an empty figure, and no error."""
    widget = race_widget.RaceWidget(EndpointRuntime("http://127.0.0.1:9/v1"), race.pick([]), PROMPT)
    result = widget.race()
    assert (widget.view["why"], widget.view["replay"]) == ("No model is here, so nobody races.", None)
    assert charting.alt_text(race_charts.race(result)) == "A race over time."
    widget.close()


# -- the figure


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_figure_shows_every_arrival(theme: str):
    """A step per piece of text, first tokens ringed, lanes apart without colour, and all of it said in the alt text."""
    figure = race_charts.race(result_of(SWIFT, SLOW), theme=theme)  # type: ignore[arg-type]
    swift, slow = figure.axes[0].lines
    assert list(swift.get_xdata()) == pytest.approx([10, 12, 14]) and list(swift.get_ydata()) == [1, 2, 3]
    assert (swift.get_linestyle(), swift.get_marker()) != (slow.get_linestyle(), slow.get_marker())
    rings = [each.get_offsets()[0] for each in figure.axes[0].collections if isinstance(each, PathCollection)]
    assert [tuple(ring) for ring in rings] == [pytest.approx((10, 1)), pytest.approx((20, 1))]
    said = charting.alt_text(figure)
    assert "a · int4 · cpu: first token after 10 ms, 500 tokens/s, 3 tokens in 14 ms." in said
    assert charting.png(figure, dpi=60).startswith(b"\x89PNG")


def test_hostile_text_is_harmless_in_view_and_figure():
    """Names, answers and errors of others are visible-only, a failed lane is named, and mathtext is not parsed."""
    bad = replace(completion([0.01, 0.02], [HOSTILE, "$x^$"]), error=HOSTILE, error_kind="reset")
    result = RaceResult(PROMPT, "in turns", (variant(f"$\\frac{HOSTILE}"), variant("b")), (bad, SLOW))
    shown = json.dumps(race_view.finished_view(result), ensure_ascii=False)
    assert "\\u001b" not in shown and "\u202e" not in shown
    json.dumps(shown).encode("utf-8")
    figure = race_charts.race(result)
    assert charting.png(figure, dpi=60).startswith(b"\x89PNG")
    assert "did not finish" in charting.alt_text(figure)


# -- real models


@pytest.mark.slow
def test_the_shipped_models_race(tmp_path: Path):
    """On the real runtime the small model is done before the large one, in turns; together both answer the same."""
    with practice(tmp_path) as runtime:
        picked = race.pick(runtime.find(["auto"], devices=["cpu"]), {"gpu": "There is none."})
        assert [each.alias for each in picked.variants] == ["practice-small", "practice-large"]
        prompt = catalog.read_prompts()[1]
        alone = [run_race(lanes_of(runtime, picked.variants), prompt).state.lanes for _ in range(2)]
        beside = run_race(lanes_of(runtime, picked.variants), prompt, turns="together").state.lanes
    small, large = (min(each[lane].latency_s for each in alone) for lane in range(2))
    assert small < large
    assert [lane.tokens_source for lane in beside] == ["usage", "usage"]
    assert [lane.text for lane in beside] == [lane.text for lane in alone[0]]
