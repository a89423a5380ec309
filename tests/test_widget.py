"""What the annotation page is sent, and what its commands do. The page itself: `browser/test_annotation_page.py`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.annotation_helpers import forty, run_with
from workshop_lib.quality.annotation import JudgingError, Session
from workshop_lib.quality.widget import AnnotationWidget, obey, view


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(forty(), tmp_path, rater="ada")


COMMANDS = [
    ({"command": "grade", "value": "4"}, "Saved: grade 4"),
    ({"command": "skip"}, "Saved: skipped"),
    ({"command": "comment", "value": "hm"}, "Saved: comment"),
    ({"command": "next"}, ""),
    ({"command": "previous"}, ""),
    ({"command": "skipped"}, ""),
    ({"command": "rater", "value": "bob"}, "Judging as bob"),
]


@pytest.mark.parametrize(("message", "said"), COMMANDS)
def test_commands_do_what_they_say(session: Session, message: dict[str, str], said: str) -> None:
    """Each command of the page is one call of the session."""
    assert obey(session, message) == said


SENSELESS = [
    {"command": "drop"}, {"command": "grade"}, {"command": "grade", "value": "x"}, {"command": "undo"},
    {"command": "choose", "value": "a"}, {"command": "reveal"},
]  # fmt: skip


@pytest.mark.parametrize("message", SENSELESS)
def test_commands_that_make_no_sense_are_refused(session: Session, message: dict[str, object]) -> None:
    """Whatever a page sends, the answer is a sentence and nothing is saved."""
    with pytest.raises(JudgingError):
        obey(session, message)
    assert not session.file.path.exists()


def test_a_draft_is_saved_with_the_verdict(session: Session) -> None:
    """A comment that was typed but not entered is not lost by grading, and is shown with the verdict."""
    obey(session, {"command": "grade", "value": "2", "comment": "typed"})
    session.move(-1)
    seen = view(session)
    assert (seen["verdict"], seen["comment"], seen["stage"]) == ("2", "typed", "item")


def test_pairs_have_a_scale_of_their_own(tmp_path: Path) -> None:
    """Four choices with their keys; a choice is said by its name; the reveal counts choices."""
    session = Session(run_with({"q": {"x": "a", "y": "b"}}), tmp_path, mode="pairwise")
    assert [line["key"] for line in view(session)["scale"]] == ["A", "B", "T", "X"]
    assert obey(session, {"command": "choose", "value": "tie"}) == "Saved: Tie"
    assert obey(session, {"command": "reveal"}) == "The models are revealed"
    assert view(session)["revealed"]["headings"] == ["Model", "Won", "Tied", "Lost", "Both bad"]


def test_a_command_of_an_older_turn_is_not_carried_out(session: Session) -> None:
    """A key pressed twice before the page was redrawn must not grade an answer that nobody saw."""
    widget = AnnotationWidget(session)
    press = {"turn": 0, "command": "grade", "value": "5"}
    widget._receive(widget, press, [])
    assert (widget.view["judged"], widget.view["said"], widget.view["turn"]) == (1, "Saved: grade 5", 1)
    widget._receive(widget, press, [])
    assert (widget.view["judged"], widget.view["said"], widget.view["turn"]) == (1, "", 2)
    widget._receive(widget, {"turn": 2, "command": "rater", "value": "a/b"}, [])
    assert "cannot be a rater's name" in widget.view["problem"]


def test_without_a_widget_there_are_words(session: Session) -> None:
    """Where no widget can be shown, the state and the next step are text."""
    data, _ = AnnotationWidget(session)._repr_mimebundle_()
    assert data["text/plain"].startswith("0 of 40 answers judged as ada. ")
    assert "CSV" in data["text/plain"]
