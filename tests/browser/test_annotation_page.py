"""Judging in a real JupyterLab in a real Chromium: by keyboard alone, through crashes, with hostile answers.

What counts is what is on the disk; the page is asked only what it showed.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable
from hashlib import sha256

import nbformat
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.annotation_helpers import forty, run_with
from tests.browser.desk import ANSWER_MS, Desk
from tests.browser.lab import Lab, contrasts

pytestmark = pytest.mark.slow
SitDown = Callable[..., Desk]
MODELS = re.compile("alder|birch|cedar|dogwood|elm")
KILLS = 2


def test_forty_answers_by_keyboard_alone(sit_down: SitDown):
    """Tab leads in, forty grades and R are pressed, every grade is in the file, and only R names models."""
    desk = sit_down()
    desk.focus_by_tab()
    expect(desk.widget).to_have_css("outline-style", "solid")
    chosen = random.Random(4)
    graded = {}
    for number in range(40):
        assert desk.count == f"{number} of 40"
        grade = chosen.randint(1, 5)
        graded[desk.answer] = grade
        desk.press(str(grade))
    assert not MODELS.search(desk.widget.inner_text())
    texts = {each.text: each for each in (c for c in forty().completions)}
    assert set(graded) == set(texts)
    hashes = {_hash(text): grade for text, grade in graded.items()}
    assert {each.answers[0]: each.value for each in desk.verdicts()} == hashes
    expect(desk.part("done")).to_have_text("All answers are judged. Thank you.")
    desk.press("r")
    rows = desk.part("revealed").locator("table").first.locator("tbody tr").all_inner_texts()
    means = {row.split("\t")[0].split(" ")[0]: row.split("\t")[1:] for row in rows}
    expected = {
        model: [f"{sum(grades) / 8:.2f}", "8"]
        for model in ("alder", "birch", "cedar", "dogwood", "elm")
        for grades in [[graded[text] for text, each in texts.items() if each.alias == model]]
    }
    assert means == expected


def test_the_page_has_names_that_a_screen_reader_says(sit_down: SitDown):
    """Progress, answer, verdicts and state have roles and names; what was saved is announced once."""
    desk = sit_down()
    page = desk.page
    expect(page.get_by_role("group", name="Judging answers")).to_be_visible()
    bar = page.get_by_role("progressbar", name="Judged")
    expect(bar).to_have_attribute("aria-valuetext", "0 of 40")
    expect(page.get_by_role("region", name="Answer")).to_have_text(desk.answer)
    expect(desk.part("rater")).to_have_text("ada")
    expect(page.get_by_role("textbox", name="Comment")).to_be_visible()
    four = page.get_by_role("button", name=re.compile("^good"))
    expect(four).to_have_attribute("aria-keyshortcuts", "4")
    four.click()
    expect(desk.widget.get_by_role("status")).to_have_text("Saved: good")
    expect(bar).to_have_attribute("value", "1")
    desk.press("ArrowLeft")
    expect(four).to_have_attribute("aria-pressed", "true")


def test_keys_of_jupyterlab_do_nothing_in_the_widget(sit_down: SitDown):
    """Letters and digits that change, cut or run cells elsewhere leave the notebook as it is; saving works."""
    desk = sit_down()
    before = desk.cells()
    keys = [*"mxdd6yzabvkj00", "Shift+M", "Shift+L", "Enter", "Escape"]
    for focus in (desk.widget, desk.part("text"), desk.widget.get_by_role("button", name="Skip")):
        for key in keys if focus is desk.widget else keys[:-2]:
            focus.focus()
            desk.page.keyboard.press(key)
            assert desk.cells() == before, key
    desk.widget.get_by_role("textbox", name="Comment").focus()
    desk.page.keyboard.type("mxddyab 123456")
    desk.page.keyboard.press("Escape")
    for grade in "12345":
        desk.press(grade)
    assert desk.cells() == before
    assert [each.value for each in desk.verdicts()] == [1, 2, 3, 4, 5]
    assert {each.comment for each in desk.verdicts()} == {""}
    desk.page.keyboard.press("Control+s")
    desk.page.wait_for_function("() => !window.jupyterapp.shell.currentWidget.context.model.dirty")
    assert "outputs" in nbformat.read(desk.lab.folder / desk.name, as_version=4).cells[0]


def test_undo_comments_and_skips(sit_down: SitDown):
    """C writes, Enter saves, S passes over, U takes back; the file tells the same story line by line."""
    desk = sit_down()
    desk.widget.focus()
    first = desk.answer
    desk.page.keyboard.press("c")
    desk.page.keyboard.type("so so, m x 5")
    expect(desk.part("draft")).to_have_text("Enter saves it")
    desk.press("Enter")
    expect(desk.part("draft")).to_have_text("saved")
    desk.press("3")
    desk.press("s")
    desk.page.keyboard.press("c")
    desk.page.keyboard.type("typed, not entered")
    desk.widget.get_by_role("button", name=re.compile("^poor")).click()
    expect(desk.part("count")).to_have_text("2 of 40, 1 skipped")
    desk.press("u")
    desk.press("u")
    desk.press("u")
    assert (desk.answer, desk.count) == (first, "0 of 40, 1 skipped")
    kinds = [(line["kind"], line.get("grade"), line.get("comment"), line.get("line")) for line in desk.lines()[1:]]
    assert kinds == [
        ("score", None, "so so, m x 5", None),
        ("score", 3, "so so, m x 5", None),
        ("score", None, "", None),
        ("score", 2, "typed, not entered", None),
        ("undo", None, None, 5),
        ("undo", None, None, 4),
        ("undo", None, None, 3),
    ]


def test_pairs_by_keyboard(sit_down: SitDown):
    """A, B, T and X are the verdicts; what was shown as A is the first hash in the file."""
    desk = sit_down(mode="pairwise")
    desk.focus_by_tab()
    shown = []
    for key in "abtx":
        shown.append(desk.part("text").evaluate_all("all => all.map(each => each.textContent)"))
        desk.press(key)
    verdicts = desk.verdicts()
    assert [each.value for each in verdicts] == ["a", "b", "tie", "both_bad"]
    assert [list(each.answers) for each in verdicts] == [list(map(_hash, pair)) for pair in shown]


def test_a_dead_kernel_is_said_and_the_session_goes_on(sit_down: SitDown):
    """Without Python nothing is called saved; after a new start the fifth answer follows the fourth."""
    desk = sit_down()
    desk.widget.focus()
    for grade in "2345":
        desk.press(grade)
    ahead = desk.answer
    desk.lab.kill_kernels()
    desk.page.keyboard.press("1")
    expect(desk.widget.get_by_role("alert")).to_contain_text("Not saved: Python does not answer", timeout=ANSWER_MS)
    expect(desk.part("count")).to_have_text("4 of 40")
    desk.start_again()
    assert (desk.answer, desk.count) == (ahead, "4 of 40")
    desk.widget.focus()
    desk.press("1")
    assert [each.value for each in desk.verdicts()] == [2, 3, 4, 5, 1]


def test_kills_at_any_moment_lose_nothing_that_was_shown_as_saved(sit_down: SitDown, browser: Browser):
    """Kernel and window are killed in turns, at random moments between key and disk; all that was shown is there."""
    desk = sit_down(run_with({f"q{n}": {"x": f"answer {n}"} for n in range(400)}))
    chance = random.Random(20)
    for kill in range(KILLS):
        desk.widget.focus()
        before = judged(desk)
        desk.press("3")
        shown = judged(desk)
        end = time.monotonic() + chance.uniform(0.2, 0.8)
        killer = threading.Timer(end - time.monotonic(), desk.lab.kill_kernels)
        if kill % 2:
            killer.start()
        while time.monotonic() < end:
            desk.page.keyboard.press(chance.choice("12345"))
            shown = judged(desk)
        if kill % 2:
            killer.join()
            desk.page.wait_for_timeout(200)
            shown = judged(desk)
        else:
            desk.page.close()
            desk.page = browser.new_page()
        assert shown > before
        saved = len(desk.verdicts())
        assert saved >= shown, f"kill {kill} lost {shown - saved} of {shown} verdicts"
        desk.start_again()
        assert judged(desk) == len(desk.verdicts()) >= saved
    desk.page.context.close()


def judged(desk: Desk) -> int:
    """How many verdicts the page shows as saved."""
    return int(desk.count.split(" ")[0])


MARKDOWN = "# Title\n\n**bold** [link](javascript:document.pwned=1) ![](x:y) | a | b |\n\n    indented   spaces"
HOSTILE = {
    "script": '<script>document.pwned=1</script><img src=x onerror="document.pwned=1"><svg onload="document.pwned=1">',
    "markdown": MARKDOWN,
    "ansi": "\x1b[31mred\x1b[0m \x1b]8;;http://evil.example\x07link\x1b]8;;\x07 \x07bell \x00nul",
    "right to left": "שלום world \u202etxt.exe\u202c",
    "closing": "</div></div></script><style>*{display:none}</style>{{constructor}} ${1}",
    "long": "<b>wörd</b> " * 9_000,
}


def test_hostile_answers_are_only_text(sit_down: SitDown):
    """Markup, escapes, other directions and 100 kB stay text, in the widget, its reveal and the tables."""
    run = run_with(
        {name: {f"<img src=x onerror='document.pwned=1'>{n}": text} for n, (name, text) in enumerate(HOSTILE.items())}
    )
    desk = sit_down(run)
    desk.widget.focus()
    seen = {}
    for _ in HOSTILE:
        name = re.search("What is (.*)[?]", desk.part("prompt").inner_text())[1]
        seen[name] = desk.answer
        box = desk.part("text")
        assert box.evaluate("each => each.childElementCount") == 0
        assert box.evaluate("each => getComputedStyle(each).unicodeBidi") == "isolate"
        assert box.bounding_box()["height"] < 400 and box.bounding_box()["width"] < 1000
        if name == "right to left":
            assert box.evaluate("each => getComputedStyle(each).direction") == "rtl"
        if name == "long":
            assert box.evaluate("each => each.scrollHeight > each.clientHeight")
            box.focus()
            desk.page.keyboard.press("PageDown")
            desk.page.wait_for_function("() => document.querySelector('.ws-text').scrollTop > 100")
        desk.press("1")
    assert (
        seen["script"] == HOSTILE["script"] and seen["markdown"] == MARKDOWN and seen["closing"] == HOSTILE["closing"]
    )
    assert seen["ansi"] == "�[31mred�[0m �]8;;http://evil.example�link�]8;;� �bell �nul"
    assert seen["right to left"] == "שלום world �txt.exe�"
    assert seen["long"] == HOSTILE["long"] and len(seen["long"].encode()) > 100_000
    desk.press("r")
    table = "show.aspects(session.run, 'script')"
    desk.page.evaluate(
        "code => window.jupyterapp.shell.currentWidget.content.model.sharedModel.cells[1].setSource(code)", table
    )
    desk.page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
    expect(desk.page.locator(".jp-OutputArea-output table td").first).to_be_visible(timeout=ANSWER_MS)
    assert desk.page.evaluate("document.pwned") is None
    assert desk.page.locator(".jp-OutputArea-output").locator("script, img, svg").count() == 0


def test_it_fits_and_can_be_read_at_every_zoom(sit_down: SitDown, lab: Lab, page: Page):
    """At 100, 150 and 200 % nothing sticks out, and text has a contrast of at least 4.5 to 1 in both themes."""
    desk = sit_down()
    for theme in ("Dark", "Light"):
        page.evaluate(
            "name => window.jupyterapp.commands.execute('apputils:change-theme', {theme: `JupyterLab ${name}`})", theme
        )
        expect(page.locator(f"body[data-jp-theme-light={str(theme == 'Light').lower()}]")).to_have_count(1)
        assert contrasts(desk.widget)
        assert min(contrasts(desk.widget).values()) >= 4.5, contrasts(desk.widget)
    for width in (1280, 853, 640):
        page.set_viewport_size({"width": width, "height": 800})
        assert desk.widget.evaluate("root => root.scrollWidth <= root.clientWidth")


def _hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()
