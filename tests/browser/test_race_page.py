"""A race in a real JupyterLab in a real Chromium: text as it arrives, slow motion, hostile answers, no complaints."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.behaviours import BEHAVIOURS
from tests.browser.lab import Lab, cells_of, contrasts
from tests.browser.track import RACE_MS, SCHEDULES, Track
from tests.fault_server import FaultServer, fault_server
from tests.fault_steps import Behaviour

pytestmark = pytest.mark.slow
GoTo = Callable[..., Track]

QUICK_ONE_ENDED = """() => {
    const frames = window.seen.filter(each => each[1] && each[2] > 0);
    return frames.filter(each => each[3] === frames.at(-1)[3]).length > 12;
}"""
"""Its text, which grew with every frame, has stayed as it is for a dozen of them."""
RECORD = """() => {
    window.seen = [];
    const look = () => {
        const race = document.querySelector('.ws-race');
        const lengths = [...document.querySelectorAll('.wr-text')].map(each => each.textContent.length);
        if (lengths.length) window.seen.push([race.dataset.stage, race.dataset.playing, ...lengths]);
        requestAnimationFrame(look);
    };
    look();
}"""
"""Notes on every drawn frame how much text each lane shows."""

HOSTILE = (
    "<script>document.pwned=1</script>",
    "<img src=x onerror='document.pwned=1'>",
    "**bold** [link](javascript:document.pwned=1)",
    "\x1b[31mred\x07",
    "\u202etxt.exe",
    "</div><style>*{display:none}</style>",
    "x" * 200,
    "\U0001f600 wörd",
)


@pytest.fixture
def go_to(lab: Lab, page: Page, request: pytest.FixtureRequest) -> Iterator[GoTo]:
    """Open a notebook with a race; its folder is named after the test."""
    folder = lab.folder / re.sub(r"\W+", "_", request.node.name)
    folder.mkdir()

    def open_track(url: str, models: tuple[str, ...], *, at: Page = page, **options: object) -> Track:
        return Track(lab, at, folder, SCHEDULES.format(url=url, models=models, options=options))

    yield open_track
    lab.set("apputils-extension", "themes", {})
    lab.shut_down_kernels()


def test_text_appears_in_both_lanes_while_it_arrives(go_to: GoTo, lab: Lab):
    """Two answers of over a second grow together, in many steps, while the cell runs; the figures come at the end."""
    lab.set("apputils-extension", "themes", {"theme": "JupyterLab Dark"})
    behaviours = {"early": Behaviour(0.1, 0.03), "late": Behaviour(0.4, 0.03)}
    with FaultServer(behaviours) as server:
        track = go_to(server.base_url, tuple(behaviours), turns="together")
        track.page.evaluate(RECORD)
        track.start()
        track.is_over()
    frames = [frame for frame in track.page.evaluate("window.seen") if frame[0] == "running"]
    both = [(first, second) for _, _, first, second in frames if first and second]
    whole = [len(text) for text in track.texts()]
    for lane, end in enumerate(whole):
        lengths = [pair[lane] for pair in both if pair[lane] < end]
        assert len(set(lengths)) >= 4 and lengths == sorted(lengths)  # text that came at once would be one step
    expect(track.part("state")).to_have_text(["first", "second"])
    early, late = track.first_token_ms()
    assert 100 <= early < late and late >= 400
    assert [each["Written"] for each in track.figures()] == ["40 tokens", "40 tokens"]
    expect(track.widget.get_by_role("status")).to_contain_text("these are no benchmark numbers")
    assert min(contrasts(track.widget).values()) >= 4.5, contrasts(track.widget)
    assert track.complaints == []


@pytest.mark.alone
def test_a_race_in_turns_is_replayed_in_slow_motion(go_to: GoTo, browser: Browser, lab: Lab):
    """440 ms are shown ten times slower and say so; a button ends and repeats that, others run another race."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="no-preference")
    with fault_server() as url:
        track = go_to(url, ("steady", "fast"), at=context.new_page())
        track.page.evaluate(RECORD)
        track.start()
        replaying = track.page.locator(".ws-race[data-playing=true]")
        expect(replaying).to_have_count(1, timeout=RACE_MS)
        expect(track.widget).to_contain_text("Slow motion, 10 times slower than it happened")
        track.page.wait_for_function(QUICK_ONE_ENDED, timeout=RACE_MS)
        frames = [frame[2:] for frame in track.page.evaluate("window.seen") if frame[1]]
        assert [0, 0] in frames  # nothing is told before the first token
        expect(track.widget.get_by_role("status")).to_have_text("")
        before = [text for _, text in cells_of(track.page)]
        track.widget.get_by_role("button", name="To the end").focus()
        track.page.keyboard.press("Enter")
        track.is_over()
        expect(track.part("state")).to_have_text(["second", "first"])
        longest, whole = map(len, track.texts())
        assert any(fast == whole and steady < longest for steady, fast in frames)  # after 43 ms of 440
        steady, fast = track.first_token_ms()
        assert steady >= 50 and steady > fast
        expect(track.widget.get_by_role("status")).to_contain_text("fast · cpu finished first")
        track.widget.get_by_role("button", name="Replay").click()
        expect(replaying).to_have_count(1)
        track.widget.get_by_role("button", name="To the end").click()
        track.widget.get_by_role("button", name="At the same time").click()
        expect(replaying).to_have_count(1, timeout=RACE_MS)
        track.widget.get_by_role("button", name="To the end").click()
        track.is_over()
        expect(track.widget.get_by_role("status")).to_contain_text("shared this machine")
        assert [text for _, text in cells_of(track.page)] == before
    assert min(contrasts(track.widget).values()) >= 4.5, contrasts(track.widget)
    assert track.complaints == []
    context.close()


def test_hostile_answers_and_names_are_only_text(go_to: GoTo, lab: Lab):
    """Markup, escapes and other directions stay text, long words wrap, a failed lane says why, nothing moves.

    The saved page says in words how the race went when it is opened without Python.
    """
    evil = "<img src=x onerror='document.pwned=1'>"
    behaviours = {
        evil: Behaviour(0.01, 0.001, tokens=80, words=tuple(f" {word}" for word in HOSTILE)),
        "refuses": BEHAVIOURS["http-500"],
    }
    with FaultServer(behaviours) as server:
        track = go_to(server.base_url, (evil, "refuses"))
        track.page.evaluate(RECORD)
        track.start()
        track.is_over()
    answer, nothing = track.texts()
    said = "".join(f" {HOSTILE[token % len(HOSTILE)]}" for token in range(80))
    assert answer == said.replace("\x1b", "�").replace("\x07", "�").replace("\u202e", "�") and nothing == ""
    assert track.part("head").locator("b").first.inner_text().startswith(evil)
    expect(track.part("error").last).to_have_text("The server answered HTTP 500: refused with 500")
    box = track.part("text").first
    assert box.evaluate("each => each.childElementCount") == 0
    assert box.evaluate("each => getComputedStyle(each).unicodeBidi") == "isolate"
    assert box.evaluate("each => each.scrollHeight > each.clientHeight && each.scrollWidth <= each.clientWidth")
    assert {frame[1] for frame in track.page.evaluate("window.seen")} == {""}  # reduced motion: no replay by itself
    for width in (1280, 640):
        track.page.set_viewport_size({"width": width, "height": 800})
        assert track.widget.evaluate("root => root.scrollWidth <= root.clientWidth")
    assert track.page.evaluate("document.pwned") is None
    assert track.widget.locator("script, img, style, a").count() == 0
    assert track.complaints == []
    expect(track.in_words).to_be_hidden()
    lab.save(track.page)
    track.page.wait_for_function("() => !window.jupyterapp.shell.currentWidget.context.model.dirty")
    lab.shut_down_kernels()
    lab.open(track.page, track.name)
    expect(track.in_words).to_be_visible()
    expect(track.in_words).to_contain_text(
        "refuses · cpu did not finish: The server answered HTTP 500: refused with 500"
    )
    assert track.page.evaluate("document.pwned") is None
