"""Aspects are found in answers as a careful reader would find them."""

from __future__ import annotations

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workshop_lib import data
from workshop_lib.records import Prompt
from workshop_lib.verdicts import scoring
from workshop_lib.verdicts.scoring import score_aspects

FOUND = [
    ("It keeps data private.", "private", "private"),
    ("PRIVATE by design", "private", "private"),
    ("It respects your privacy", "private|privacy", "privacy"),
    ("retrieval-augmented generation", "retrieval augmented", "retrieval augmented"),
    ("retrieval augmented generation", "retrieval-augmented", "retrieval augmented"),
    ("It searches the documents", "search*", "searches"),
    ("The model looked up the passage", "look* up", "looked up"),
    ("due on 22 January.", "22 January|January 22", "22 january"),
    ("latency of 2.5 seconds", "2.5", "2.5"),
    ("It doesn\u2019t leave the device", "doesn't leave", "doesn't leave"),
    ("Works without a network", "without a network", "without a network"),
    ("It is not only private but fast", "private", "private"),
    ("No account, no fee: private", "private", "private"),
    ("It is not slow and keeps data private", "private", "private"),
    ("Not private at first. Private later.", "private", "private"),
    ("It is not just private but fast", "private", "private"),
    ("It is no doubt private", "private", "private"),
    ("It does not fail when offline", "offline", "offline"),
    ("It is not slow since it is local", "local", "local"),
    ("Not slow, not costly: private", "private", "private"),
    ("Privacy without compromise", "privacy", "privacy"),
    ("Why not? It is private", "private", "private"),
    ("It doesn\u02bct leave the device", "doesn't leave", "doesn't leave"),
    ("The data never leaves", "never leave*", "never leaves"),
    ("Zo\u00eb owns it", "zo\u00eb", "zo\u00eb"),
    ("\uff30\uff52\uff49\uff56\uff41\uff54\uff45", "private", "private"),
]

NOT_FOUND = [
    ("It is not private.", "private"),
    ("It isn't private", "private"),
    ("It is never really private", "private"),
    ("It does not keep your data private", "private"),
    ("a non-private service", "private"),
    ("It isn\u2019t private", "private"),
    ("It isnt private", "private"),
    ("It cannot be called private", "private"),
    ("There is a lack of real privacy", "privacy"),
    ("It fails to keep data private", "private"),
    ("Nothing here is private", "private"),
    ("None of it is private", "private"),
    ("It is neither fast nor private", "private"),
    ("It is neither fast nor private", "fast"),
    ("It is hardly private", "private"),
    ("The privateer sailed", "private"),
    ("a deviceless service", "device"),
    ("It costs 2.50", "2.5"),
    ("Due on 2 April", "22 April"),
    ("May 60", "May 6"),
    ("the small modelling team", "small model"),
    ("Joanna will do it", "Joan"),
    ("Room 127", "27"),
    ("2.5 seconds", "5"),
    ("on 22 February", "22 January"),
    ("the device is on", "on the device"),
    ("research", "search*"),
    ("the document. Stores it", "document stores"),
]


@pytest.mark.parametrize(("answer", "aspect", "evidence"), FOUND)
def test_an_aspect_is_found(answer: str, aspect: str, evidence: str) -> None:
    """Whole words count in any case, form of hyphen and apostrophe, unless they are negated."""
    score = score_aspects(answer, Prompt("p", "?", aspects=(aspect,)))
    assert (score.verdict, score.evidence, score.share) == ("all", (evidence,), 1.0)


@pytest.mark.parametrize(("answer", "aspect"), NOT_FOUND)
def test_a_near_miss_is_not_found(answer: str, aspect: str) -> None:
    """Parts of words, other numbers, other orders and negated phrases do not count."""
    score = score_aspects(answer, Prompt("p", "?", aspects=(aspect,)))
    assert (score.verdict, score.missing, score.share) == ("none", (aspect,), 0.0)


def test_share_counts_the_aspects_mentioned() -> None:
    """One of two aspects is a share of one half, and the other one is named as missing."""
    score = score_aspects("It is fast.", Prompt("p", "?", aspects=("offline", "fast|quick")))
    assert score.verdict == "some"
    assert score.matched == ("fast|quick",)
    assert score.missing == ("offline",)
    assert score.share == 0.5


@pytest.mark.parametrize("answer", [None, "", " \n", "...", "\u2014"])
def test_no_answer_is_not_wrong(answer: str | None) -> None:
    """Without a single word there is nothing to judge: no share, not even 0."""
    score = score_aspects(answer, Prompt("p", "?", aspects=("a",), forbidden=("b",)))
    assert (score.verdict, score.share, score.missing) == ("no_answer", None, ("a",))


def test_a_prompt_without_aspects_is_not_scored() -> None:
    """Where nothing in particular is expected, there is no share."""
    score = score_aspects("Anything", Prompt("p", "?"))
    assert (score.verdict, score.share) == ("not_scored", None)


def test_a_forbidden_aspect_decides_the_verdict() -> None:
    """Saying what must not be said is reported whatever else was mentioned; denying it is fine."""
    prompt = Prompt("p", "?", aspects=("fast",), forbidden=("sent to the cloud",))
    said = score_aspects("Fast, and data is sent to the cloud", prompt)
    assert (said.verdict, said.forbidden_found) == ("forbidden", ("sent to the cloud",))
    assert said.share == 1.0
    assert score_aspects("Fast; nothing is not sent to the cloud", prompt).verdict == "all"


@pytest.mark.parametrize("set_name", ["course", "meeting-notes"])
def test_reference_answers_mention_everything(set_name: str) -> None:
    """Each shipped reference answer has every aspect and nothing forbidden."""
    for prompt in data.read_prompts(set_name=set_name):
        assert score_aspects(prompt.reference, prompt).verdict == "all", prompt.id


@pytest.mark.parametrize("set_name", ["course", "meeting-notes"])
def test_repeating_the_question_earns_little(set_name: str) -> None:
    """The words of the course's questions do not already hold what a good answer mentions."""
    for prompt in data.read_prompts(set_name=set_name):
        question = prompt.text.split("Notes:")[0]
        share = score_aspects(question, prompt).share
        assert share is not None
        assert share <= 0.5, prompt.id


@given(st.text(), st.lists(st.text(min_size=1), max_size=4), st.lists(st.text(), max_size=2))
def test_every_aspect_is_either_matched_or_missing(answer: str, aspects: list[str], forbidden: list[str]) -> None:
    """Whatever the texts, nothing is lost, and the share lies between 0 and 1."""
    prompt = Prompt("p", "?", aspects=tuple(aspects), forbidden=tuple(forbidden))
    score = score_aspects(answer, prompt)
    assert sorted(score.matched + score.missing) == sorted(aspects)
    assert len(score.evidence) == len(score.matched)
    assert score.share is None or 0.0 <= score.share <= 1.0


@given(st.lists(st.sampled_from(["fast", "private", "offline"]), min_size=1, unique=True))
def test_adding_a_sentence_never_lowers_the_share(words: list[str]) -> None:
    """More sentences can only mention more."""
    prompt = Prompt("p", "?", aspects=("fast", "private", "offline"))
    shares = [score_aspects(". ".join(words[: count + 1]), prompt).share or 0.0 for count in range(len(words))]
    assert shares == sorted(shares)


def test_the_example_in_the_documentation_holds() -> None:
    """The doctest of the module runs."""
    assert doctest.testmod(scoring).failed == 0


DENIALS = [
    ("never leave*", "Your data never leaves the device.", "device", True),
    ("nothing leaves|nobody", "Nothing leaves your computer", "computer", True),
    ("without a network", "Works without a network on a laptop", "laptop", True),
    ("not sent", "It is not sent to any cloud", "cloud", True),
    ("not sent", "It is not sent and not private", "private", False),
    ("not sent", "It is not sent", "sent", False),
    ("fast", "It never leaves the device", "device", False),
]


@pytest.mark.parametrize(("phrase", "answer", "other", "is_found"), DENIALS)
def test_a_negation_that_belongs_to_an_expected_phrase_denies_nothing_else(
    phrase: str, answer: str, other: str, is_found: bool
) -> None:
    """ "Never leaves the device" says that data stay on the device; inside the phrase, the denial holds."""
    score = score_aspects(answer, Prompt("p", "?", aspects=(phrase, other)))
    assert (other in score.matched) is is_found


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("Your data is sent to the cloud.", "forbidden"),
        ("Your data is never sent to the cloud.", "none"),
        ("Nothing is sent to the cloud.", "none"),
        ("Your data is not sent to the cloud.", "all"),
    ],
)
def test_denying_what_is_forbidden_is_fine_even_in_an_expected_phrase(answer: str, verdict: str) -> None:
    """`not sent` is expected here; its `not` still denies the forbidden `sent to the cloud`."""
    prompt = Prompt("p", "?", aspects=("not sent",), forbidden=("sent to the cloud",))
    assert score_aspects(answer, prompt).verdict == verdict


KNOWN_LIMITS = [("Privacy is not guaranteed", "privacy"), ("It is open rather than private", "private")]


@pytest.mark.parametrize(("answer", "aspect"), KNOWN_LIMITS)
def test_what_is_denied_afterwards_counts_as_mentioned(answer: str, aspect: str) -> None:
    """The check sees words, not meaning; the module says so, and this keeps what it says true."""
    assert score_aspects(answer, Prompt("p", "?", aspects=(aspect,))).verdict == "all"
