"""Facts that a summary invents or leaves out are found, and two ways of writing one fact are one fact."""

from __future__ import annotations

import doctest
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.annotation_helpers import run_with
from tests.measurement_helpers import completion
from workshop_lib import data, race
from workshop_lib.quality import annotation, facts
from workshop_lib.quality import show as grading
from workshop_lib.quality.annotation import Session
from workshop_lib.quality.facts import check_facts
from workshop_lib.race import RaceResult
from workshop_lib.records import ModelVariant, Prompt
from workshop_lib.show import tables

SAME = [
    ("14 March", "March 14"),
    ("14 March", "2026-03-14"),
    ("March 2026", "2026-03"),
    ("14 March 2026", "14/03/2026"),
    ("14 March 2026", "Mar. 14, 2026"),
    ("10\u201315 March", "10 March to 15 March"),
    ("the third of May", "3 May"),
    ("Friday", "Fri"),
    ("14:30", "2:30 pm"),
    ("9:00", "9 am"),
    ("2-4 pm", "from 14:00 to 16:00"),
    ("noon", "12:00"),
    ("six percent", "6 %"),
    ("5-7 %", "5 to 7 percent"),
    ("Q3", "third quarter"),
    ("H1", "the first half of the year"),
    ("NOK 12 million", "12 million kroner"),
    ("€12,500", "12,500 euros"),
    ("12.5k euros", "12,500 EUR"),
    ("$1.2 million", "1,200,000 dollars"),
    ("two weeks", "14 days"),
    ("a two-week trial", "two weeks"),
    ("90 minutes", "1.5 hours"),
    ("twelve customers", "12 customers"),
    ("one hundred and twenty phones", "120 phones"),
    ("twenty-five", "25"),
    ("8 GB", "8000 MB"),
    ("Ms Yamada", "Yamada-san"),
    ("We met Dr. Kenji Yamada", "We met Yamada"),
    ("We met José Núñez", "We met Nunez"),
    ("We asked Anne-Marie's team", "We asked Anne-Marie"),
    ("ask GPT-4", "ask GPT4"),
]
"""Two ways of writing one fact."""

FOUND = [
    # notes, summary, what is unsupported, what is missing
    ("Mia pays $12,500.", "Mia pays $12,600.", ["$12,600"], ["$12,500"]),
    ("Mia will call on 14 March.", "Mia will call on 15 March.", ["15 March"], ["14 March"]),
    ("Mia will call on 15 March.", "Mia will call in March.", [], ["15 March"]),
    ("Due 14 March 2026.", "Due 14 March 2027.", ["14 March 2027"], ["14 March 2026"]),
    ("The call is at 14:30.", "The call is at 2:30 am.", ["2:30 am"], ["14:30"]),
    ("They meet on Friday.", "They meet on Monday.", ["Monday"], ["Friday"]),
    (
        "Six percent more sales in Q2.",
        "8% more sales in the third quarter.",
        ["8%", "third quarter"],
        ["Six percent", "Q2"],
    ),
    ("It takes ten seconds.", "It takes 10.", [], ["ten seconds"]),
    ("It costs 500 euros.", "It costs 500 dollars.", ["500 dollars"], ["500 euros"]),
    ("14 phones are missing.", "It is due on 14 May.", ["14 May"], ["14"]),
    ("It is due on 14 May.", "14 phones are missing.", ["14"], ["14 May"]),
    ("Present: Amara, Jonas.", "Ponas reported. Jonas agreed with Ponas.", ["Ponas"], ["Amara"]),
    ("Action: Amara to call Acme Corp.", "Amara will call Globex Inc.", ["Globex Inc"], ["Acme Corp"]),
    ("- Kim Lee: budget\n- Tom Ash: hiring", "Kim Lee does the budget, Ann Poe the hiring.", ["Ann Poe"], ["Tom Ash"]),
    ("Kenji Yamada spoke. Yamada left.", "Someone spoke.", [], ["Kenji Yamada"]),
    ("Customers liked it.", "Users liked it. Nobody objected. Recordings stay.", [], []),
    ("We will fix it.", "1. Fix it.\n2. Test it.\n3) Ship it.", [], []),
    ("Both agreed.", "One of both agreed, the first one.", [], []),
    ("It may rain.", "May it rain? March on!", [], []),
    ("The CEO agreed.", "On Monday, the team and the CEO agreed.", ["Monday"], []),
    ("Priya asked.", "Additionally, Priya asked. However, Priya left.", [], []),
    ("**Decisions**\n- Hire Ann", "Ann is hired.", [], []),
    ("", "", [], []),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_two_ways_of_writing_are_one_fact(one: str, other: str) -> None:
    """Each way supports the other, and neither is missing where the other stands."""
    for notes, summary in ((one, other), (other, one)):
        found = check_facts(notes, summary)
        assert (found.unsupported, found.missing) == ((), ())


@pytest.mark.parametrize(("notes", "summary", "unsupported", "missing"), FOUND)
def test_inventions_and_gaps(notes: str, summary: str, unsupported: list[str], missing: list[str]) -> None:
    """Both are named in the words of their text, each once, in its order."""
    found = check_facts(notes, summary)
    assert (list(found.unsupported), list(found.missing)) == (unsupported, missing)


def test_cases_of_another_author_are_found() -> None:
    """On cases by somebody who had not seen the code, precision and recall are 0.9 at least, on both sides."""
    cases = json.loads((Path(__file__).parent / "facts_cases.json").read_text(encoding="utf-8"))
    assert len(cases) >= 60
    for side in ("unsupported", "missing"):
        pairs = [
            (Counter(case[side]), Counter(getattr(check_facts(case["notes"], case["summary"]), side))) for case in cases
        ]
        right = sum((expected & found).total() for expected, found in pairs)
        precision = right / sum(found.total() for _, found in pairs)
        recall = right / sum(expected.total() for expected, _ in pairs)
        assert min(precision, recall) >= 0.9, f"{side}: precision {precision:.3f}, recall {recall:.3f}"


def test_shipped_references_invent_nothing() -> None:
    """The example of a good answer to each shipped prompt with notes states their facts, and all that are expected."""
    prompts = [prompt for prompt in data.read_prompts("meeting-notes") if prompt.reference]
    assert len(prompts) >= 5
    for prompt in prompts:
        assert facts.check_answer(prompt.text, prompt.reference or "", prompt.aspects) == facts.FactCheck((), (), ())


def test_only_expected_facts_can_be_missing() -> None:
    """Expected phrases have `|` between alternatives; without any, every fact of the notes is expected."""
    notes, summary = "Amara calls Jonas on 2 April. Priya left at noon.", "Amara calls on 3 April."
    assert check_facts(notes, summary).missing == ("Jonas", "2 April", "Priya", "noon")
    assert check_facts(notes, summary, ["April 2|2 April", "Jonas", "the call"]).missing == ("Jonas", "2 April")
    assert check_facts(notes, summary, ["the call"]).missing == ()


def test_places_are_those_of_the_summary() -> None:
    """Each repetition has its place, though the fact is named once."""
    summary = "😀 Yamada will pay. Yamada left."
    found = check_facts("Nobody paid.", summary)
    assert found.unsupported == ("Yamada",)
    assert [summary[start:end] for start, end in found.places] == ["Yamada", "Yamada"]


PIECES = "Amara 2026-13 31/31/2026 14 March the 14th Q3 two hundred and 2:30 pm - to $5 % a week One 1. Dr. x,".split()  # noqa: SIM905 - as a text
TEXTS = st.text(max_size=40) | st.lists(st.sampled_from(PIECES), max_size=12).map(" ".join)


@settings(max_examples=50)
@given(TEXTS, TEXTS)
def test_any_text_can_be_read(notes: str, more: str) -> None:
    """A text states nothing beyond itself, and notes with more in them support no less."""
    assert check_facts(notes, notes) == facts.FactCheck((), (), ())
    for start, end in check_facts(more, notes).places:
        assert 0 <= start < end <= len(notes)


def test_the_examples_in_the_code_hold() -> None:
    """What the docstrings show is what happens."""
    assert doctest.testmod(facts).failed == 0


# -- where it is shown

NOTES = Prompt("one", "Summarise.\n\nNotes: Priya will pay by 14 March.", aspects=("Priya", "14 March|March 14"))
WRONG, RIGHT = "<b>Yamada</b> will pay by 15 March.", "Priya will pay by March 14."
RUN = run_with({"one": {"x": WRONG, "y": RIGHT}}, [NOTES])


def test_inventions_are_underlined_in_the_table_of_answers() -> None:
    """Only they are markup, whatever the answer holds; a prompt without notes has no such column."""
    table = tables.answers(RUN, "one")
    assert list(table["not in the notes"]) == ["Yamada, 15 March", "—"]
    page = table._repr_html_()
    assert "&lt;b&gt;<u>Yamada</u>&lt;/b&gt; will pay by <u>15 March</u>." in page
    assert (page.count("<u>"), "<b>" in page) == (2, False)
    plain = tables.answers(run_with({"one": {"x": WRONG}}), "one")
    assert "not in the notes" not in plain and "<u>" not in plain._repr_html_()


def test_each_model_has_its_inventions_and_gaps() -> None:
    """x invents two facts and leaves both expected ones out, though served twice; without notes nothing is counted."""
    x, y = grading.inventions(replace(RUN, servings=RUN.servings * 2)).to_numpy()
    assert (list(x), list(y[3:])) == (["x", "int4", "cpu", "1 of 1", "2.00", 2], ["0 of 1", "0.00", 0])
    assert list(grading.facts(RUN, "one").iloc[0]) == [WRONG, "Yamada, 15 March", "Priya, 14 March"]
    bare = run_with({"one": {"x": WRONG}})
    assert (grading.inventions(bare).shape, len(grading.facts(bare, "one"))) == ((1, 1), 1)


def test_the_annotation_page_gets_the_places_of_inventions(tmp_path: Path) -> None:
    """They count the characters of the text that is shown."""
    run = run_with({"one": {"x": "\r\n😀 Yamada will pay."}}, [NOTES])
    seen = annotation.view(Session(run, tmp_path))
    assert [seen["answers"][0][start:end] for start, end in seen["invented"][0]] == ["Yamada"]


def test_the_first_of_a_race_can_be_wrong() -> None:
    """The badge says so, and a sentence says why."""
    ends = (completion([0.1], [WRONG]), completion([0.1, 0.2], [RIGHT, "."]))
    result = RaceResult(NOTES, "in turns", (ModelVariant("x", "x:1", "cpu"), ModelVariant("y", "y:1", "cpu")), ends)
    assert ">first, and wrong<" in race.played(result)["lanes"]
    assert any("Yamada, 15 March" in sentence for sentence in race.sentences(result))
