"""Aspects are found in answers as a careful reader would find them."""

from __future__ import annotations

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workshop_lib import data
from workshop_lib.quality import aspects
from workshop_lib.quality.aspects import score_aspects
from workshop_lib.records import Prompt

FOUND = [
    ("PRIVATE by design", "private", "private"),
    ("It respects your privacy", "private|privacy", "privacy"),
    ("retrieval-augmented generation", "retrieval augmented", "retrieval augmented"),
    ("It searches the documents", "search*", "searches"),
    ("The model looked up the passage", "look* up", "looked up"),
    ("due on 22 January.", "22 January|January 22", "22 january"),
    ("It doesn\u2019t leave the device", "doesn't leave", "doesn't leave"),
    ("It is not only private but fast", "private", "private"),
    ("It is not slow and keeps data private", "private", "private"),
    ("Not private at first. Private later.", "private", "private"),
    ("It is not slow since it is local", "local", "local"),
    ("Privacy without compromise", "privacy", "privacy"),
    ("Zo\u00eb owns it", "zo\u00eb", "zo\u00eb"),
    ("\uff30\uff52\uff49\uff56\uff41\uff54\uff45", "private", "private"),
    ("Privacy is not guaranteed", "privacy", "privacy"),  # a known limit: words, not meaning
    ("It is open rather than private", "private", "private"),  # as above
]
NOT_FOUND = [
    ("It is not private.", "private"),
    ("It isn\u2019t private", "private"),
    ("It does not keep your data private", "private"),
    ("a non-private service", "private"),
    ("There is a lack of real privacy", "privacy"),
    ("It fails to keep data private", "private"),
    ("It is neither fast nor private", "private"),
    ("It is neither fast nor private", "fast"),
    ("The privateer sailed", "private"),
    ("Due on 2 April", "22 April"),
    ("the small modelling team", "small model"),
    ("Room 127", "27"),
    ("research", "search*"),
    ("the document. Stores it", "document stores"),
]


@pytest.mark.parametrize(("answer", "aspect", "evidence"), FOUND)
def test_an_aspect_is_found(answer: str, aspect: str, evidence: str) -> None:
    """Whole words count in any case, form of hyphen and apostrophe, unless they are negated before."""
    score = score_aspects(answer, Prompt("p", "?", aspects=(aspect,)))
    assert (score.verdict, score.evidence, score.share) == ("all", (evidence,), 1.0)


@pytest.mark.parametrize(("answer", "aspect"), NOT_FOUND)
def test_a_near_miss_is_not_found(answer: str, aspect: str) -> None:
    """Parts of words, other numbers, other orders and negated phrases do not count."""
    score = score_aspects(answer, Prompt("p", "?", aspects=(aspect,)))
    assert (score.verdict, score.missing, score.share) == ("none", (aspect,), 0.0)


@pytest.mark.parametrize("answer", [None, "", " \n", "...", "\u2014"])
def test_no_answer_is_not_wrong(answer: str | None) -> None:
    """Without a single word there is nothing to judge: no share, not even 0."""
    score = score_aspects(answer, Prompt("p", "?", aspects=("a",), forbidden=("b",)))
    assert (score.verdict, score.share, score.missing) == ("no_answer", None, ("a",))


def test_a_prompt_without_aspects_is_not_scored() -> None:
    """Where nothing in particular is expected, there is no share."""
    score = score_aspects("Anything", Prompt("p", "?"))
    assert (score.verdict, score.share) == ("not_scored", None)


NOT_SENT = [
    ("Your data is sent to the cloud.", "forbidden", 0.0),
    ("Your data is never sent to the cloud.", "none", 0.0),
    ("Nothing is sent to the cloud.", "none", 0.0),
    ("Your data is not sent to the cloud.", "all", 1.0),
]


@pytest.mark.parametrize(("answer", "verdict", "credit"), NOT_SENT)
def test_saying_what_is_forbidden_decides_and_denying_it_is_fine(answer: str, verdict: str, credit: float) -> None:
    """`not sent` is expected here; its `not` still negates the forbidden `sent to the cloud`."""
    score = score_aspects(answer, Prompt("p", "?", aspects=("not sent",), forbidden=("sent to the cloud",)))
    assert (score.verdict, score.credit) == (verdict, credit)
    assert bool(score.forbidden_found) is (verdict == "forbidden")


DENIALS = [
    ("never leave*", "Your data never leaves the device.", "device", True),
    ("without a network", "Works without a network on a laptop", "laptop", True),
    ("not sent", "It is not sent and not private", "private", False),
    ("not sent", "It is not sent", "sent", False),
    ("fast", "It never leaves the device", "device", False),
]


@pytest.mark.parametrize(("phrase", "answer", "other", "is_found"), DENIALS)
def test_a_negation_of_an_expected_phrase_negates_nothing_else(
    phrase: str, answer: str, other: str, *, is_found: bool
) -> None:
    """ "Never leaves the device" says that data stay on the device; inside the phrase, the denial holds."""
    score = score_aspects(answer, Prompt("p", "?", aspects=(phrase, other)))
    assert (other in score.matched) is is_found


def _question(prompt: Prompt) -> str:
    """A prompt without the notes or the transcript, which may stand before the question."""
    parts = prompt.text.split("\n\n")
    return next(part for part in parts if not part.startswith(("Notes:", "Transcript:")))


@pytest.mark.parametrize("set_name", ["course", "meeting-notes", "meetings"])
def test_reference_answers_mention_everything_and_questions_little(set_name: str) -> None:
    """Each shipped reference answer has every aspect; repeating the question earns at most half of them."""
    for prompt in data.read_prompts(set_name=set_name):
        assert score_aspects(prompt.reference, prompt).verdict == "all", prompt.id
        assert (score_aspects(_question(prompt), prompt).share or 0) <= 0.5, prompt.id


@given(st.text(), st.lists(st.text(min_size=1), max_size=4), st.lists(st.text(), max_size=2))
def test_every_aspect_is_either_matched_or_missing(answer: str, expected: list[str], forbidden: list[str]) -> None:
    """Whatever the texts, nothing is lost, and the share lies between 0 and 1."""
    score = score_aspects(answer, Prompt("p", "?", aspects=tuple(expected), forbidden=tuple(forbidden)))
    assert sorted(score.matched + score.missing) == sorted(expected)
    assert len(score.evidence) == len(score.matched)
    assert score.share is None or 0.0 <= score.share <= 1.0


def test_the_example_in_the_documentation_holds() -> None:
    """The doctest of the module runs."""
    assert doctest.testmod(aspects).failed == 0
