"""Exercises: solutions pass on the pages, each typical wrong answer gets its own diagnosis, nothing raises."""

from __future__ import annotations

import inspect
import math
import runpy
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from typing import Any

import nbformat
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import workshop_lib as ws
from tests import notebook_rules
from tests.measurement_helpers import completion, run_of
from workshop_lib import benchmark, places, storage
from workshop_lib.choice.decide import Evidence, gather_evidence
from workshop_lib.exercises import EXERCISES, NOT_ANSWERED, Expected, check
from workshop_lib.programs import notebooks
from workshop_lib.records import Completion, ModelVariant, Prompt, Run, Serving


@cache
def page_names() -> dict[str, Any]:
    """What the cells above the exercises of any page have made, from the shipped records."""
    run = storage.read_run(places.DATA / "reference" / "practice" / "records.jsonl")
    offered = benchmark.answered(run)
    made = {
        "run": run,
        "variants": offered,
        "offered": offered,
        "asked_last": run.completions[-1],
        "shown": run.prompts[0],
    }
    return made | {"known": gather_evidence(run), "ws": ws}


@pytest.mark.parametrize("exercise", EXERCISES)
def test_the_page_waits_for_an_answer_and_accepts_its_solution(exercise: str) -> None:
    """As shipped, the cells say the same on every machine; with the solution in place of the dots, they say right."""
    (page,) = notebooks.FOLDER.glob(f"{exercise[:2]}_*.ipynb")
    cells, names = nbformat.read(page, as_version=4).cells, dict(page_names())
    place = next(at for at, cell in enumerate(cells) if notebook_rules.exercise_in(cell) == exercise)
    checkpoint = cells[place].source
    exec(cells[place - 1].source, names)
    shown = eval(checkpoint, names)
    assert (shown.verdict, shown.said) == ("not answered yet", NOT_ANSWERED)
    (path,) = (notebooks.FOLDER / "solutions").glob(f"{exercise[:2]}_*.py")
    solution = runpy.run_path(str(path))[exercise[3:].replace("-", "_")]
    names["answer"] = solution(**{each: names[each] for each in inspect.signature(solution).parameters})
    assert eval(checkpoint, names).verdict == "right"
    assert (inspect.getdoc(solution) or "").startswith(f"{exercise}: ")


# -- typical wrong answers, on runs whose numbers are worked by hand

FIRST, SECOND = (ModelVariant("tiny", f"tiny-{bits}:1", "cpu", precision=bits) for bits in ("int4", "fp32"))
SERVINGS = (Serving(FIRST), Serving(SECOND))


def sized(model_id: str, size_mb: float | None, alias: str = "small") -> ModelVariant:
    return ModelVariant(alias, model_id, "cpu", precision=model_id, size_mb=size_mb)


def sizes(*sizes_mb: float | None) -> Evidence:
    return Evidence((), {}, {"footprint": np.array([sizes_mb], dtype=float)}, "people")


def asked(variant: ModelVariant, latencies_s: Sequence[float], part: float = 0.25) -> list[Completion]:
    """Requests from round 0, the warm-up, whose first token comes after a part of the latency."""
    pairs = enumerate(latencies_s)
    return [completion([part * each, each], model_id=variant.model_id, round=number) for number, each in pairs]


def waited(first_ms: float, second_ms: float, jitter: float) -> Run:
    """Two builds whose first tokens take so long, in four rounds that differ by up to `jitter`."""
    made = []
    for variant, wait_ms in ((FIRST, first_ms), (SECOND, second_ms)):
        for number in range(1, 5):
            first_s = wait_ms / 1000 * (1 + jitter * (number - 2.5))
            times = [first_s + 0.01 * place for place in range(20)]
            made.append(completion(times, model_id=variant.model_id, round=number))
    return run_of(made, servings=SERVINGS)


def aspects(answer: str) -> Run:
    prompt = Prompt("p", "Say it.", aspects=("red", "green", "blue", "white", "black"), forbidden=("violet",))
    return run_of([completion([0.1], [answer])], prompts=(prompt,))


OFFERED = [sized("int4:1", 2.0), sized("fp32:1", 8.0), sized("big:1", 9.0, "large"), sized("unknown:1", None)]
TIMED = run_of(asked(FIRST, [0.9, 0.1, 0.2, 0.2, 0.3, 0.9], 0.5), servings=SERVINGS)
# 20 tokens in 10 chunks: the first after 1 s, the last after 2 s; 40 tokens of prompt, and 50 letters of text
ASKED = completion([1.0, *np.linspace(1.1, 2.0, 9)], ["abcd "] * 10, completion_tokens=20, prompt_tokens=40)
# The first build's median is 5 and its mean 6; of the second's ten, three lie below 5 and four below 6. With its
# warm-up of 4.5 it is four of eleven. Of the first's nine, six lie below the second's median of 6.75.
BUILDS = run_of(
    asked(FIRST, [4.5, 3, 3, 4, 4, 5, 6, 7, 9, 13]) + asked(SECOND, [4.5, 3.5, 4, 4.5, 5.5, 6.5, 7, 8, 9, 10, 11]),
    servings=SERVINGS,
)
# Medians of 4 s and 6 s, means of 5 s and 8 s; with the warm-ups of 9 s and 18 s the medians are 6 s and 9.5 s
WAYS = run_of(asked(FIRST, [9.0, 3, 4, 8]) + asked(SECOND, [18.0, 5, 6, 13]), servings=SERVINGS)
EVIDENCE: dict[str, tuple[str, Any]] = {
    "sizes": ("01-smallest-variant", OFFERED),
    "median": ("02-median-latency", TIMED),
    "rate": ("02-tokens-per-second", ASKED),
    "decode": ("02-tokens-per-second", completion([1.0 + step / 10 for step in range(11)], prompt_tokens=70)),
    "overlap": ("03-overlap", BUILDS),
    "faster": ("03-first-token-verdict", waited(200, 100, 0.01)),
    "slower": ("03-first-token-verdict", waited(100, 200, 0.01)),
    "unclear": ("03-first-token-verdict", waited(100, 96, 0.20)),
    "wide": ("03-first-token-verdict", waited(100, 96, 0.65)),
    "noise": ("03-first-token-verdict", waited(100, 99, 0.0)),
    "grade": ("04-aspect-grade", aspects("red and green")),  # 1 + 4 x 0.4 = 2.6, rounded 3
    "four": ("04-aspect-grade", aspects("red, green, blue, white")),
    "forbidden": ("04-aspect-grade", aspects("red, green and violet")),
    "steps": ("05-steps-apart", sizes(4.0, 32.0, None, 2.0)),  # from 2 MB to 32 MB are four doublings
    "wait": ("06-extra-wait", WAYS),
}
ANSWERS: list[tuple[str, Any, str]] = [
    ("sizes", " INT4:1 ", "The answer is 'int4:1'"),
    ("sizes", "fp32:1", "fp32:1 takes 8.00 MB, and there is a smaller one"),
    ("sizes", "small", "an alias: it stands for several variants"),
    ("sizes", "int4", "Did you mean 'int4:1'?"),
    ("sizes", 2.0, "Write a text in quotes"),
    ("median", np.float64(200.4), "This run gives 200 ms"),
    ("median", 0.2, "1000 times too small: check the unit"),
    ("median", 340.0, "the mean"),  # (100 + 200 + 200 + 300 + 900) / 5
    ("median", 100.0, "the first token"),
    ("median", 900.0, "the slowest request"),
    ("median", "200", "without quotes"),
    ("median", 200_000.0, "1000 times too large: check the unit"),
    ("median", True, "One number is asked for, in ms"),
    ("median", [200], "(list). One number is asked for"),
    ("median", math.nan, "no finite number"),
    ("median", Fraction(200), "This run gives 200 ms"),
    ("median", 250, "counts the warm-up"),  # of 100, 200, 200, 300, 900 and 900
    ("rate", 10, "This run gives 10 tok/s"),
    ("rate", 30.0, "counts the prompt's tokens too"),  # (40 + 20) / 2
    ("rate", 20.0, "only the prompt's tokens"),  # 40 / 2
    ("rate", 0.1, "seconds per token, upside down"),
    ("rate", 5.0, "counts chunks"),
    ("rate", 25.0, "counts characters"),
    ("decode", 10.0, "That is the decode rate"),
    ("overlap", 30, "This run gives 30 %"),
    ("overlap", 0.3, "100 times too small"),
    ("overlap", 3, "a number of requests"),
    ("overlap", 70, "the share that was slower"),
    ("overlap", 40, "compares with the mean"),
    ("overlap", 400 / 11, "counts the warm-up"),
    ("overlap", 600 / 9, "the wrong way round"),
    ("faster", "FASTER", "The answer is 'faster'"),
    ("faster", "slower", "it is a wait, so less of it is faster"),
    ("faster", "no clear difference", "leaves 1 out: this difference is shown"),
    ("faster", "quicker", "is none of the possible answers"),
    ("unclear", "faster", "The ratio alone, 0.96, looks so"),
    ("unclear", "slower", "Not even the ratio, 0.96, says so"),
    ("wide", "faster", "spans a factor of more than 20"),
    ("noise", "faster", "repeats differ by up to 2%"),
    ("grade", 3, "This run gives 3 as a grade"),
    ("grade", 2.6, "right before rounding"),
    ("grade", 0.4, "the share of aspects"),
    ("grade", 2, "how many aspects were found"),
    ("grade", 1.6, "4 x share, without the 1"),
    ("grade", 3.4, "takes the missing aspects for the found ones"),  # 1 + 4 x 0.6
    ("four", 5, "which would reach 6"),
    ("forbidden", 1, "This run gives 1 as a grade"),
    ("forbidden", 2.6, "says what it must not"),
    ("steps", 4, "This run gives 4 steps"),
    ("steps", 16, "That is the ratio"),
    ("steps", math.log(16), "the natural logarithm"),
    ("steps", math.log10(16), "the logarithm to base 10"),
    ("steps", 30, "a difference in MB"),
    ("steps", -4, "upside down"),
    ("wait", 2000, "This run gives 2,000 ms"),
    ("wait", 1.5, "That is the ratio"),
    ("wait", -2000, "the other way round"),
    ("wait", 3000, "the difference of the means"),
    ("wait", 6000, "the adapter's median itself"),
    ("wait", 3500, "counts the warm-up"),
]


@pytest.mark.parametrize(("evidence", "answer", "said"), ANSWERS, ids=range(len(ANSWERS)))
def test_each_typical_answer_has_its_own_diagnosis(evidence: str, answer: Any, said: str) -> None:
    """The right answer is right in any kind of number and any case; the numbers are worked by hand above."""
    shown = check(EVIDENCE[evidence][0], answer, EVIDENCE[evidence][1])
    assert said in shown.said
    assert (shown.verdict == "right") == said.startswith(("This run gives", "The answer is"))


def test_a_number_as_the_table_rounds_it_is_right_and_the_nearest_mistake_is_named() -> None:
    """15.1 is 15.0528 with three digits, although the mean, 15.1438, is nearer to it."""
    expected = Expected(15.0528, {"That is the mean.": 15.1438, "Unknown.": None}, "Look.", "ms", tolerance=0.003)
    assert expected.judge(15.1)[0] == "right"
    assert expected.judge(15.14) == ("not yet", "That is the mean.")
    assert Expected(1.0, {"First.": 2.0, "Second.": 2.01}, "Look.", "ms").judge(2.008) == ("not yet", "Second.")


# -- whatever the run, whatever the answer

EMPTY = run_of([], servings=())
NOTHING: dict[str, Any] = {
    "01-smallest-variant": [sized("one:1", None)],
    "02-tokens-per-second": completion([0.1], completion_tokens=None),
    "05-steps-apart": sizes(2.0, None),
}


@pytest.mark.parametrize("exercise", EXERCISES)
def test_without_evidence_there_is_nothing_to_ask(exercise: str) -> None:
    """Sizes, answers or counts may be missing; then no answer is wrong, and an empty one is none."""
    assert check(exercise, "text", NOTHING.get(exercise, EMPTY)).verdict == "nothing to ask"
    assert {check(exercise, empty, EMPTY).verdict for empty in (..., None, "", "  \n")} == {"not answered yet"}


ANYTHING = st.one_of(
    st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.complex_numbers(),
    st.decimals(), st.fractions(), st.lists(st.floats()),
)  # fmt: skip


@given(answer=ANYTHING, right=st.floats(1e-6, 1e6))
def test_no_answer_raises_and_right_means_near(answer: Any, right: float) -> None:
    """Whatever a cell leaves behind has a sentence of one line; no number far off is called right."""
    for expected in (Expected(right, {"Twice.": 2 * right}, "Look.", "ms"), Expected("a", {"No.": "b"}, "Look.")):
        verdict, said = expected.judge(answer)
        assert said and "\n" not in said
        if verdict == "right" and expected.unit:
            assert abs(answer - right) <= 0.01 * max(abs(answer), right) + 1e-9


def test_a_checkpoint_is_shown_as_text_and_as_escaped_html() -> None:
    """The verdict stands first, in words; what a learner typed cannot become markup."""
    shown = check("01-smallest-variant", "<b>x</b>", OFFERED)
    assert repr(shown).startswith("Not yet. '<b>x</b>' is none")
    assert shown._repr_html_().startswith("<p><strong>Not yet.</strong> &#x27;&lt;b&gt;x")
