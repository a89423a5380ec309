"""What "good" means: the held-out tests and how an answer is scored.

Pure functions of the corpus and a seed; nothing here knows which model or runtime answers.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from corpus import (
    Sample,
    compare_question,
    course_prompt_answers,
    fact_question,
    load_topics,
    unseen_pattern_question,
)
from meetings import meeting_question
from names import known_vocabulary, unseen_vocabulary

if TYPE_CHECKING:
    from collections.abc import Sequence

TESTS = {
    "course_prompts": "the eight prompts of the course, word for word",
    "kept_out_phrasing": "a known question in a phrasing kept out of training for that topic",
    "unseen_pattern": "a phrasing pattern that no topic had in training",
    "unseen_pair": "a comparison of two topics never compared in training",
    "notes_known_names": "meeting notes: new combination of names and things seen in training",
    "notes_unseen_names": "meeting notes: names, things and places never seen in training",
    "question_known_names": "a question about meeting notes with known names",
    "question_unseen_names": "a question about meeting notes with names never seen",
}


def held_out_tests(seed: int = 2026, size: int = 100) -> dict[str, list[Sample]]:
    """The samples of every test; apart from the course prompts, ``size`` different ones each."""
    rng = random.Random(seed)  # noqa: S311 - draws questions, guards no secret
    known, unseen = known_vocabulary(invented=0.0), unseen_vocabulary()
    makers = {
        "kept_out_phrasing": lambda: fact_question(rng, rng.choice(load_topics()), "kept out"),
        "unseen_pattern": lambda: unseen_pattern_question(rng, rng.choice(load_topics())),
        "unseen_pair": lambda: compare_question(rng, "kept out"),
        "notes_known_names": lambda: meeting_question(rng, known, "summary"),
        "notes_unseen_names": lambda: meeting_question(rng, unseen, "summary"),
        "question_known_names": lambda: meeting_question(rng, known, "question"),
        "question_unseen_names": lambda: meeting_question(rng, unseen, "question"),
    }
    tests = {"course_prompts": course_prompt_answers()}
    for name, make in makers.items():
        different: dict[str, Sample] = {}
        while len(different) < size:
            sample = make()
            different.setdefault(sample.question, sample)
        tests[name] = list(different.values())
    return tests


def score_answer(sample: Sample, answer: str) -> float:
    """Between 0 and 1: the share of facts copied right or, without facts, an exact match.

    >>> score_answer(Sample("meeting", "Who?", "Ada will by May.", ("Ada", "May")), "Ada did.")
    0.5
    """
    if sample.facts:
        return sum(fact in answer for fact in sample.facts) / len(sample.facts)
    return float(answer.strip() == sample.answer)


def mean_score(samples: Sequence[Sample], answers: Sequence[str]) -> float:
    """The mean score of a test."""
    scores = [score_answer(*pair) for pair in zip(samples, answers, strict=True)]
    return sum(scores) / len(scores)
