"""The corpus: questions with answers, made from the prose in ``corpus/``.

Knows how topics, phrasings and small talk become training questions, and which questions are kept
out of training for the evaluation. Meeting notes and copying exercises live in ``meetings.py``.
Nothing here knows about tokens or tensors.
"""

from __future__ import annotations

import json
import re
import zlib
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import random

Wording = Literal["training", "kept out"]

CORPUS_FOLDER = Path(__file__).parent / "corpus"
NUMBER_WORDS = {1: "one", 2: "two", 3: "three", 4: "four"}
KEPT_OUT_SHARE = 0.08
"""Share of the question wordings (and of the compared pairs) that training never sees."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One question with its answer; ``facts`` are the strings a good answer must contain.

    ``later`` holds further questions and answers of the same conversation.
    """

    kind: str
    question: str
    answer: str
    facts: tuple[str, ...] = ()
    system: str = ""
    later: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class Topic:
    """One subject: its names, three defining sentences, lists of points, reasons and advice."""

    names: list[str]
    sentences: list[str] = field(default_factory=list)
    lists: list[tuple[str, list[str]]] = field(default_factory=list)
    why: list[tuple[str, str]] = field(default_factory=list)
    when: list[tuple[str, str]] = field(default_factory=list)


def parse_topics(text: str) -> list[Topic]:
    r"""Read the topic file: ``# names``, sentences, then ``list:``, ``why:`` and ``when:`` blocks.

    >>> parse_topics("# an NPU | NPUs\nAn NPU is a chip.\nwhen: use {x}\nOften.")[0].when
    [('use {x}', 'Often.')]
    """
    topics: list[Topic] = []
    block, heading = "", ""
    for line in filter(None, (line.strip() for line in text.splitlines())):
        if line.startswith("# "):
            topics.append(Topic(names=[name.strip() for name in line[2:].split("|")]))
            block = ""
        elif match := re.match(r"(list|why|when): (.+)", line):
            block, heading = match.groups()
            if block == "list":
                topics[-1].lists.append((heading, []))
        elif block == "list":
            topics[-1].lists[-1][1].append(line.removeprefix("- "))
        elif block == "why":
            topics[-1].why.append((heading, line))
        elif block == "when":
            topics[-1].when.append((heading, line))
        else:
            topics[-1].sentences.append(line)
    return topics


@cache
def load_topics() -> tuple[Topic, ...]:
    """All topics of ``corpus/topics.txt``."""
    return tuple(parse_topics((CORPUS_FOLDER / "topics.txt").read_text(encoding="utf-8")))


@cache
def load_json(name: str) -> dict[str, Any]:
    """One of the JSON files in ``corpus/`` (``phrasings``, ``small_talk`` or ``meetings``)."""
    return json.loads((CORPUS_FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def is_kept_out(key: str) -> bool:
    """Whether training must not see this wording; a fixed hash decides, so no list is needed."""
    return zlib.crc32(key.encode()) % 1000 < KEPT_OUT_SHARE * 1000


def numbered(points: list[str]) -> str:
    r"""Points as a numbered list.

    >>> numbered(["Fast.", "Private."])
    '1. Fast.\n2. Private.'
    """
    return "\n".join(f"{number}. {point}" for number, point in enumerate(points, 1))


def lower_first(sentence: str, topic: Topic) -> str:
    """The sentence as it reads after ``By contrast,``: proper names and acronyms keep capitals."""
    first_word = sentence.split(" ", 1)[0]
    proper = any(name.split(" ", 1)[0] == first_word for name in topic.names)
    acronym = first_word.isupper() and len(first_word) > 1
    return sentence if proper or acronym else sentence[0].lower() + sentence[1:]


def compare_answer(first: Topic, second: Topic) -> str:
    """Two definitions, set against each other."""
    return f"{first.sentences[0]} By contrast, {lower_first(second.sentences[0], second)}"


def fact_tasks(topic: Topic) -> list[tuple[str, str, str, str]]:
    """Every task on a topic as (task, phrasing group, text to fill in, answer)."""
    tasks = []
    for count in (1, 2, 3):
        answer = " ".join(topic.sentences[:count])
        tasks.append((f"define{count}", str(count), "{x}", answer))
    for noun, points in topic.lists:
        tasks += [(f"list{n}", "list", noun, numbered(points[:n])) for n in (2, 3, 4)]
        tasks.append(("list3", "list_default", noun, numbered(points[:3])))
    tasks += [("why", "why", clause, answer) for clause, answer in topic.why]
    tasks += [("when", "when", verb, answer) for verb, answer in topic.when]
    return tasks


def fill(pattern: str, text: str, name: str, number: str) -> str:
    """Put topic, number and clause into a phrasing."""
    text = text.replace("{x}", name)
    question = pattern.replace("{noun}", text).replace("{clause}", text).replace("{verb}", text)
    return question.replace("{x}", text).replace("{n}", number)


def patterns_for(group: str) -> list[str]:
    """The phrasings that training may use for a group."""
    phrasings = load_json("phrasings")
    return phrasings["define"][group] if group.isdigit() else phrasings[group]


def fact_question(rng: random.Random, topic: Topic, wording: Wording = "training") -> Sample:
    """A question on one topic, in a wording that training sees or in one that is kept out."""
    course_prompts = load_json("phrasings")["course_prompts"]
    tasks = fact_tasks(topic)
    while True:
        task, group, text, answer = rng.choice(tasks)
        pattern = rng.choice(patterns_for(group))
        name = rng.choice(topic.names if group in "123list" else topic.names[:2])
        count = int(task[-1]) if task[-1].isdigit() else 3
        number = rng.choice([str(count), NUMBER_WORDS[count]])
        question = fill(pattern, text, name, number)
        reserved = is_kept_out(f"{topic.names[0]}|{group}|{pattern}")
        if reserved == (wording == "kept out") and question not in course_prompts:
            return Sample("kept_out" if reserved else "fact", question, answer)


def unseen_pattern_question(rng: random.Random, topic: Topic) -> Sample:
    """A question in a phrasing that no topic has in training."""
    task, group, text, answer = rng.choice([t for t in fact_tasks(topic) if t[1] != "list_default"])
    count = int(task[-1]) if task[-1].isdigit() else 3
    pattern = rng.choice(load_json("phrasings")["unseen"][group])
    question = fill(pattern, text, topic.names[0], NUMBER_WORDS[count])
    return Sample("unseen_pattern", question, answer)


def compare_question(rng: random.Random, wording: Wording = "training") -> Sample:
    """A comparison of two topics; kept-out pairs are never compared in training."""
    kept_out = wording == "kept out"
    while True:
        first, second = rng.sample(load_topics(), 2)
        pair = "|".join(sorted((first.names[0], second.names[0])))
        if is_kept_out(pair) == kept_out:
            break
    pattern = rng.choice(load_json("phrasings")["compare"])
    names = [topic.names[0] if kept_out else rng.choice(topic.names) for topic in (first, second)]
    question = pattern.replace("{a}", names[0]).replace("{b}", names[1])
    return Sample("unseen_pair" if kept_out else "compare", question, compare_answer(first, second))


def small_talk(rng: random.Random) -> Sample:
    """Greetings, thanks, and questions that the model must admit not to know."""
    talk = load_json("small_talk")
    part = rng.choices(["about_me", "thanks", "outside"], [3, 1, 4])[0]
    question = rng.choice(talk[part]["questions"])
    question = question.replace("{thing}", rng.choice(talk["outside"]["things"]))
    return Sample("small_talk", question, talk[part]["answer"])


def vary(rng: random.Random, sample: Sample) -> Sample:
    """Small changes a hand makes: another word, other case, a lost stop, a slip of the finger."""
    if sample.kind not in {"fact", "compare", "small_talk"}:
        return sample
    question = type_carelessly(rng, swap_synonyms(rng, sample.question))
    if question in load_json("phrasings")["course_prompts"]:
        return sample
    return replace(sample, question=question)


def swap_synonyms(rng: random.Random, question: str) -> str:
    """Now and then put another word of the same meaning."""
    for word, others in load_json("phrasings")["synonyms"].items():
        if word in question and rng.random() < 0.25:
            question = question.replace(word, rng.choice(others), 1)
    return question


def type_carelessly(rng: random.Random, question: str) -> str:
    """Now and then lose the capitals, the last stop or a letter, or start with a courtesy."""
    if rng.random() < 0.06:
        question = question.lower()
    if rng.random() < 0.06:
        question = question.rstrip(".?!")
    if rng.random() < 0.04 and len(question) > 12:
        spot = rng.randrange(4, len(question) - 4)
        question = question[:spot] + question[spot + 1 :]
    if rng.random() < 0.05:
        question = rng.choice(["Please answer: ", "Question: ", "Hi! ", "Quick question. "]) + question
    return question


def course_prompt_answers() -> list[Sample]:
    """The eight prompts of the course with the answers that the corpus holds for them."""
    rag, local, _, choice, _, size = load_topics()[:6]
    answers = [
        " ".join(rag.sentences[:2]),
        numbered(local.lists[1][1][:3]),
        size.why[0][1],
        numbered(choice.lists[0][1][:2]),
        " ".join(rag.sentences[:2]),
        choice.when[0][1],
        numbered(local.lists[0][1][:3]),
        " ".join(rag.sentences[:3]),
    ]
    prompts = load_json("phrasings")["course_prompts"]
    return [Sample("course", question, answer) for question, answer in zip(prompts, answers, strict=True)]
