"""Judging answers: blind, in a fixed order, resumable, revealed only at the end; and what the page is sent.

The page itself: `browser/test_annotation_page.py`.
"""

from __future__ import annotations

import itertools
import json
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.annotation_helpers import SMALL, forty, run_with
from workshop_lib.errors import ConfigurationError
from workshop_lib.quality import annotation
from workshop_lib.quality.annotation import AnnotationWidget, Session, obey, view
from workshop_lib.quality.scores import key_of


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(forty(), tmp_path, rater="ada")


def order(session: Session) -> list[tuple[str, ...]]:
    return [key_of(item, "") for item in session.items]


def text(session: Session) -> str:
    assert session.item
    return session.item[0].text


def test_the_order_is_fixed_by_seed_and_rater(tmp_path: Path) -> None:
    """The same way again for the same rater, another for another rater or seed; answers to a prompt together."""
    run = forty()
    ada, again, bob = (Session(run, tmp_path, rater=name) for name in ("ada", "Ada", "bob"))
    other = Session(run, tmp_path, rater="ada", seed=21)
    assert order(ada) == order(again)
    assert order(ada) != order(bob) and order(ada) != order(other)
    assert sorted(order(ada)) == sorted(order(bob)) == sorted(order(other))
    assert len(list(itertools.groupby(order(ada), key=lambda key: key[1]))) == 8


def test_a_run_with_more_answers_keeps_the_order_of_the_others(tmp_path: Path) -> None:
    """New answers come in between; nobody's place in the rest changes, and one text of two models is judged once."""
    few = Session(run_with(SMALL), tmp_path)
    more = Session(run_with({**SMALL, "three": {"x": "fourth"}}), tmp_path)
    assert (few.total, more.total) == (3, 4)
    assert [key for key in order(more) if key in order(few)] == order(few)


def test_a_verdict_is_on_disk_with_hash_and_version(session: Session) -> None:
    """The file knows prompt, hash of the text, grade and version, and neither text nor model."""
    answer = session.items[0][0]
    session.judge(5, "clear")
    (entry,) = [json.loads(line) for line in session.file.path.read_text("utf-8").splitlines()[1:]]
    assert (entry["prompt_id"], entry["answer_sha256"], entry["grade"]) == (*answer.key, 5)
    assert (entry["comment"], entry["rubric_version"]) == ("clear", session.version)
    assert not re.search(r"Sentence|alder|birch|cedar|dogwood|elm", session.file.path.read_text("utf-8"))


def test_a_comment_stays_with_its_verdict(session: Session) -> None:
    """A comment alone is no verdict; a grade keeps it; a new comment keeps the grade; a pasted book is cut."""
    session.comment("unclear")
    assert (session.position, session.judged, session.skipped) == (0, 0, 1)
    session.judge(2)
    assert session.score(session.items[0]).comment == "unclear"
    session.move(-1)
    session.comment(" \x1b[1mclear\u202e now ")
    score = session.score(session.items[0])
    assert (score.value, score.comment) == (2, "�[1mclear� now")
    assert len(annotation.clean_comment("x" * 5000)) == 2000


def test_moving_stays_between_the_first_item_and_the_end(session: Session) -> None:
    """After the last item comes the end, where nothing can be judged; it leads back to what was skipped."""
    session.move(-1)
    assert session.position == 0
    for number in range(40):
        session.judge(None if number == 7 else 3)
    session.move(1)
    assert (session.position, session.item, session.finished) == (40, None, True)
    with pytest.raises(ConfigurationError, match="the end"):
        session.judge(3)
    session.to_skipped()
    assert session.position == 7
    session.judge(1)
    session.to_skipped()
    assert (session.judged, session.skipped, session.position) == (40, 0, 40)


def test_pairs_connect_all_answers_and_are_the_same_for_everybody(tmp_path: Path) -> None:
    """Five answers make a circle of five pairs, two make one; raters differ in order and in which side is A."""
    ada, bob = (Session(forty(), tmp_path, rater=name, mode="pairwise") for name in ("ada", "bob"))
    pairs = [{frozenset(key[2:]) for key in order(session)} for session in (ada, bob)]
    assert (ada.total, pairs[0]) == (40, pairs[1])
    assert set(order(ada)) != set(order(bob))
    assert {sum(side in pair for pair in pairs[0]) for pair in pairs[0] for side in pair} == {2}
    assert Session(run_with(SMALL), tmp_path, mode="pairwise").total == 1
    with pytest.raises(ConfigurationError, match="no mode 'both'"):
        Session(run_with(SMALL), tmp_path, mode="both")


def test_sides_are_even_and_do_not_depend_on_the_seed(tmp_path: Path) -> None:
    """Of 400 draws, 150 to 250 begin with x (p > 0.999 999); with another seed a verdict is found again."""
    run = run_with({f"q{n}": {"x": f"a{n}", "y": f"b{n}"} for n in range(400)})
    session = Session(run, tmp_path, mode="pairwise")
    assert 150 < sum(item[0].text.startswith("a") for item in session.items) < 250
    shown = tuple(answer.sha256 for answer in session.items[0])
    session.judge("b", "shorter")
    (score,) = Session(run, tmp_path, mode="pairwise", seed=99).given.values()
    assert (score.answers, score.value, score.comment) == (shown, "b", "shorter")


def test_models_are_hidden_until_everything_is_judged(tmp_path: Path) -> None:
    """Before the end no view holds a model's name, and none is revealed; after the reveal no verdict is taken."""
    session = Session(run_with(SMALL), tmp_path)
    seen = ""
    while not session.finished:
        with pytest.raises(ConfigurationError, match="still to be judged"):
            session.reveal()
        seen += json.dumps(view(session))
        session.judge(4)
    seen += json.dumps(view(session))
    assert not re.search(r"int4|cpu|\bx:1\b", seen)
    session.reveal()
    assert "x · int4 · cpu" in json.dumps(view(session), ensure_ascii=False)
    before = session.file.path.read_bytes()
    session.move(-1)
    for act in (session.undo, lambda: session.judge(1), lambda: session.comment("x")):
        with pytest.raises(ConfigurationError, match="judging is over"):
            act()
    assert session.file.path.read_bytes() == before


def test_means_are_per_model_and_shared_answers_count_for_both(tmp_path: Path) -> None:
    """Worked by hand: x has 2 and 5, y has the shared 5 alone, because the answer of its own was skipped."""
    session = Session(run_with(SMALL), tmp_path)
    while session.item:
        session.judge({"first": 2, "second": None, "third": 5}[text(session)])
    assert annotation.reveal(session)[0]["rows"] == [
        ["y · int4 · cpu", "5.00", "1"],
        ["x · int4 · cpu", "3.50", "2"],
    ]
    assert ["What is one?", "second", "y · int4 · cpu", "skipped"] in annotation.reveal(session)[1]["rows"]


def test_choices_are_counted_per_model(tmp_path: Path) -> None:
    """x wins two of four pairs, ties one, and both are bad in one: 2.5 of 4 against 0.5; a skipped pair counts not."""
    session = Session(run_with({str(n): {"x": f"a{n}", "y": f"b{n}"} for n in range(5)}), tmp_path, mode="pairwise")
    for choice in ("x", "x", "tie", "both_bad", None):
        sides = [answer.authors[0].alias for answer in session.item]
        session.judge("ab"[sides.index(choice)] if choice == "x" else choice)
    assert annotation.reveal(session)[0]["rows"] == [
        ["x · int4 · cpu", "0.62", "4"],
        ["y · int4 · cpu", "0.12", "4"],
    ]
    assert {row[3] for row in annotation.reveal(session)[1]["rows"]} >= {"Tie", "Both bad", "skipped"}


SENSELESS = [{"command": "judge", "value": "x"}, {"command": "undo"}, {"command": "reveal"}]


@pytest.mark.parametrize("message", SENSELESS)
def test_commands_that_make_no_sense_are_refused(session: Session, message: dict[str, object]) -> None:
    """Whatever a page sends, the answer is a sentence and nothing is saved."""
    with pytest.raises(ConfigurationError):
        obey(session, message)
    assert not session.file.path.exists()


def test_a_command_of_an_older_turn_is_not_carried_out(session: Session) -> None:
    """A key pressed twice before the page was redrawn must not grade an answer that nobody saw."""
    widget = AnnotationWidget(session)
    press = {"turn": 0, "command": "judge", "value": "5"}
    widget._receive(widget, press, [])
    assert (widget.view["judged"], widget.view["said"], widget.view["turn"]) == (1, "Saved: excellent", 1)
    widget._receive(widget, press, [])
    assert (widget.view["judged"], widget.view["said"], widget.view["turn"]) == (1, "", 2)
    widget._receive(widget, {"turn": 2, "command": "reveal"}, [])
    assert "39 of 40 are still to be judged" in widget.view["problem"]


def test_without_a_widget_there_are_words(session: Session) -> None:
    """Where no widget can be shown, the state and the next step are text."""
    data, _ = AnnotationWidget(session)._repr_mimebundle_()
    assert data["text/plain"].startswith("0 of 40 judged as ada. ")
    assert "CSV" in data["text/plain"]


class Judging(RuleBasedStateMachine):
    """Any sequence of commands, with a new start at any moment, against a list of what was acknowledged."""

    @initialize()
    def start(self) -> None:
        self.keep = tempfile.TemporaryDirectory()
        self.run_ = run_with({"one": {"x": "1", "y": "2"}, "two": {"x": "3", "y": "4"}})
        self.session = Session(self.run_, Path(self.keep.name), rater="ada")
        self.done: list[tuple[tuple[str, ...], int | None]] = []

    def teardown(self) -> None:
        if hasattr(self, "keep"):
            self.keep.cleanup()

    @rule(grade=st.sampled_from([1, 2, 3, 4, 5, None]))
    def judge(self, grade: int | None) -> None:
        if item := self.session.item:
            self.session.judge(grade)
            self.done.append((key_of(item, self.session.version), grade))

    @rule()
    def undo(self) -> None:
        if self.done:
            self.session.undo()
            assert key_of(self.session.item, self.session.version) == self.done.pop()[0]

    @rule(by=st.sampled_from([1, -1, 0]))
    def move(self, by: int) -> None:
        self.session.move(by) if by else self.session.to_skipped()

    @rule(torn=st.binary(max_size=20).filter(lambda torn: b"\n" not in torn))
    def crash_and_start_again(self, torn: bytes) -> None:
        if self.session.file.path.exists():
            with self.session.file.path.open("ab") as file:
                file.write(torn)
        self.session = Session(self.run_, Path(self.keep.name), rater="ada")

    @invariant()
    def nothing_is_lost(self) -> None:
        if hasattr(self, "session"):
            assert {key: score.value for key, score in self.session.given.items()} == dict(self.done)


TestJudging = Judging.TestCase
TestJudging.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
