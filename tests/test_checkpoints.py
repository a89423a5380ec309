"""Exercises and their checkpoints: solutions pass, each typical wrong answer gets its own diagnosis, nothing raises."""

from __future__ import annotations

import inspect
import math
import runpy
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import notebook_rules
from tests.measurement_helpers import completion, run_of
from workshop_lib import places
from workshop_lib.archive import storage
from workshop_lib.decision import evidence
from workshop_lib.decision.evidence import Evidence
from workshop_lib.errors import ConfigurationError
from workshop_lib.measuring import runs
from workshop_lib.metrics import timing
from workshop_lib.metrics.resampling import Estimate
from workshop_lib.programs import notebooks
from workshop_lib.quality import scores
from workshop_lib.records import ModelVariant, Prompt, Run, Serving
from workshop_lib.teaching import checkpoints, diagnosis, exercises
from workshop_lib.teaching.checkpoints import check
from workshop_lib.teaching.diagnosis import Nothing, Number, Word, judge

SOLUTIONS = notebooks.FOLDER / "solutions"
RECORDS = places.DATA / "reference" / "practice" / "records.jsonl"


@pytest.fixture(scope="module")
def run() -> Run:
    """The shipped records of the practice models: a real run."""
    return storage.read_run(RECORDS)


@pytest.fixture(scope="module")
def page_names(run: Run) -> dict[str, Any]:
    """What the cells above the exercises of any page have made."""
    variants = runs.answered(run)
    return {
        "run": run,
        "variants": variants,
        "offered": variants,
        "asked_last": run.completions[-1],
        "shown": run.prompts[0],
        "known": evidence.gather(run),
        "runs": runs,
        "timing": timing,
        "checkpoints": checkpoints,
    }


def cells_of(exercise: str) -> tuple[str, str]:
    """The learner's cell of an exercise, and its checkpoint."""
    for path in sorted(notebooks.FOLDER.glob(f"{exercise[:2]}_*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        for place, cell in enumerate(cells):
            if notebook_rules.exercise_in(cell) == exercise:
                return cells[place - 1].source, cell.source
    raise AssertionError(f"no page asks {exercise}")


def solution_of(exercise: str) -> Callable[..., Any]:
    """The solution that is called like the exercise without its number."""
    (path,) = SOLUTIONS.glob(f"{exercise[:2]}_*.py")
    found: Callable[..., Any] = runpy.run_path(str(path))[exercise[3:].replace("-", "_")]
    return found


@pytest.mark.parametrize("exercise", exercises.EXERCISES)
def test_the_page_accepts_its_solution(exercise: str, page_names: dict[str, Any]) -> None:
    """On a real run the learner's cell with the solution in place of the dots satisfies the page's own checkpoint."""
    asked, checkpoint = cells_of(exercise)
    names = dict(page_names)
    exec(asked, names)
    solution = solution_of(exercise)
    names["answer"] = solution(**{each: names[each] for each in inspect.signature(solution).parameters})
    shown = eval(checkpoint, names)
    assert shown.verdict == "right", shown


@pytest.mark.parametrize("exercise", exercises.EXERCISES)
def test_the_page_waits_for_an_answer(exercise: str, page_names: dict[str, Any]) -> None:
    """As shipped, the cells run and say the same on every machine: not answered yet."""
    asked, checkpoint = cells_of(exercise)
    names = dict(page_names)
    exec(asked, names)
    shown = eval(checkpoint, names)
    assert (shown.verdict, shown.said) == ("not answered yet", checkpoints.NOT_ANSWERED)


@pytest.mark.parametrize("exercise", exercises.EXERCISES)
def test_a_solution_says_why(exercise: str) -> None:
    """A solution begins with the name of its exercise and gives the reason in further sentences."""
    said = inspect.getdoc(solution_of(exercise)) or ""
    assert said.startswith(f"{exercise}: ")
    assert len(said.split("\n\n")[1].split()) > 15


# -- typical wrong answers, on runs whose numbers are worked by hand


def sized(model_id: str, size_mb: float | None, alias: str = "small") -> ModelVariant:
    return ModelVariant(alias, model_id, "cpu", precision=model_id, size_mb=size_mb)


OFFERED = [sized("int4:1", 2.0), sized("fp32:1", 8.0), sized("big:1", 9.0, "large"), sized("unknown:1", None)]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("fp32:1", "fp32:1 takes 8.00 MB, and there is a smaller one"),
        ("small", "an alias that stands for 3 variants of different size"),
        ("large", "an alias: it stands for several variants"),
        ("int4", "Did you mean 'int4:1'?"),
        (2.0, "Write a text in quotes"),
    ],
)
def test_variants_are_told_from_aliases(answer: Any, said: str) -> None:
    """A larger one, an alias, an id cut short, a size: each answer has its own sentence."""
    shown = check("01-smallest-variant", answer, OFFERED)
    assert shown.verdict == "not yet"
    assert said in shown.said


def test_the_smallest_variant_is_right_in_any_case() -> None:
    """Ids are compared as the runtime does not: upper case and spaces around are no mistake worth a lesson."""
    assert check("01-smallest-variant", " INT4:1 ", OFFERED).is_right


def timed_run(latencies_s: Sequence[float], *, warm_up_s: float = 0.9) -> Run:
    """One model whose first tokens come after half of the latency; the warm-up is round 0."""
    asked = [completion([warm_up_s / 2, warm_up_s], round=0)]
    asked += [completion([each / 2, each], round=number) for number, each in enumerate(latencies_s, 1)]
    return run_of(asked)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (0.2, "the median in seconds"),
        (340.0, "the mean"),  # (100 + 200 + 200 + 300 + 900) / 5
        (100.0, "the first token"),
        (900.0, "the slowest request"),
        ("200", "Write the number without quotes"),
        (200_000.0, "1000 times too large: check the unit"),
        (60.0, "too small. Take timing.latency_s"),
        (777.0, "too large. Take timing.latency_s"),
        (True, "One number is asked for, in ms"),
        ([200], "(list). One number is asked for"),
        (math.nan, "no finite number"),
        (math.inf, "no finite number"),
        (10**400, "no finite number"),
    ],
)
def test_a_wrong_median_is_diagnosed(answer: Any, said: str) -> None:
    """Seconds, mean, warm-up, first token, maximum, text, lists: each answer has its own sentence."""
    shown = check("02-median-latency", answer, timed_run([0.1, 0.2, 0.2, 0.3, 0.9]))
    assert shown.verdict == "not yet"
    assert said in shown.said


def test_a_warm_up_among_the_requests_is_diagnosed() -> None:
    """The middle of 100, 200 and 400 is 200; with the warm-up of 900 it is 300."""
    run = timed_run([0.1, 0.2, 0.4], warm_up_s=0.9)
    assert check("02-median-latency", 200, run).is_right
    assert "includes the warm-up" in check("02-median-latency", 300, run).said


@pytest.mark.parametrize("answer", [200, 200.0, 200.4, Fraction(200), np.float64(200), np.int64(200)])
def test_the_median_is_right_in_any_kind_of_number(answer: Any) -> None:
    """Whole numbers, floats, fractions and numpy's numbers count, within 0.3 %."""
    assert check("02-median-latency", answer, timed_run([0.1, 0.2, 0.2, 0.3, 0.9])).is_right


def test_a_number_as_the_table_rounds_it_is_right() -> None:
    """15.1 is 15.0528 with three digits, although the mean, 15.1438, is nearer to it."""
    expected = Number(15.0528, "ms", {"That is the mean.": 15.1438}, "Look.", tolerance=0.003)
    assert judge(15.1, expected)[0] == "right"
    assert judge(15.14, expected) == ("not yet", "That is the mean.")


# 20 tokens in 10 chunks: the first after 1 s, the last after 2 s; 40 tokens of prompt, and 50 letters of text
ASKED = completion(
    [1.0, *np.linspace(1.1, 2.0, 9)], ["abcd "] * 10, completion_tokens=20, prompt_tokens=40, finish_reason="stop"
)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (30.0, "counts the prompt's tokens too"),  # (40 + 20) / 2
        (20.0, "only the prompt's tokens"),  # 40 / 2
        (40.0, "the line about the prompt"),  # 40 / 1
        (0.01, "tokens per millisecond"),
        (0.1, "seconds per token, upside down"),
        (5.0, "counts chunks"),
        (25.0, "counts characters or words"),
        (10_000.0, "1000 times too large"),
        (11.0, "too large. Divide completion_tokens"),
    ],
)
def test_a_wrong_rate_is_diagnosed(answer: float, said: str) -> None:
    """20 completion tokens in 2 seconds are 10 a second; every other reading has its own sentence."""
    assert check("02-tokens-per-second", 10, ASKED).is_right
    shown = check("02-tokens-per-second", answer, ASKED)
    assert shown.verdict == "not yet"
    assert said in shown.said


def test_the_decode_rate_is_told_from_the_whole_wait() -> None:
    """11 tokens, the first after 1 s and the last after 2 s: 5.5 a second in all, 10 a second after the first."""
    asked = completion([1.0 + step / 10 for step in range(11)], prompt_tokens=70)
    assert check("02-tokens-per-second", 5.5, asked).is_right
    assert "That is the decode rate" in check("02-tokens-per-second", 10.0, asked).said


FIRST, SECOND = (ModelVariant("tiny", f"tiny-{bits}:1", "cpu", precision=bits) for bits in ("int4", "fp32"))


def two_builds(first_s: Sequence[float], second_s: Sequence[float], *, warm_up_s: float = 9.0) -> Run:
    """Two builds of one model; a request's first token comes after a quarter of its latency."""
    asked = []
    for variant, latencies in ((FIRST, first_s), (SECOND, second_s)):
        for number, each in enumerate([warm_up_s, *latencies]):
            asked.append(completion([each / 4, each], model_id=variant.model_id, round=number))
    return run_of(asked, servings=(Serving(FIRST), Serving(SECOND)))


# The first build's median is 5 and its mean 6; of the second's ten, three lie below 5 and four below 6. With its
# warm-up of 4.5 it is four of eleven. Of the first's nine, six lie below the second's median of 6.75.
BUILDS = two_builds([3, 3, 4, 4, 5, 6, 7, 9, 13], [3.5, 4, 4.5, 5.5, 6.5, 7, 8, 9, 10, 11], warm_up_s=4.5)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (0.3, "a share between 0 and 1"),
        (3, "a number of requests"),
        (70, "the share that was slower"),
        (40, "compares with the mean"),
        (400 / 11, "counts the warm-up"),
        (600 / 9, "the wrong way round"),
        (33.0, "too large. Count the second build's"),
        ("30 %", "Write the number without quotes"),
    ],
)
def test_a_wrong_share_is_diagnosed(answer: Any, said: str) -> None:
    """Share, count, complement, mean, warm-up, direction: each answer has its own sentence."""
    assert check("03-overlap", 30, BUILDS).is_right
    shown = check("03-overlap", answer, BUILDS)
    assert shown.verdict == "not yet"
    assert said in shown.said


def waited(first_ms: float, second_ms: float, *, jitter: float) -> Run:
    """Two builds whose first tokens take so long, in four rounds that differ by up to `jitter`."""
    asked = []
    for variant, wait_ms in ((FIRST, first_ms), (SECOND, second_ms)):
        for number in range(1, 5):
            first_s = wait_ms / 1000 * (1 + jitter * (number - 2.5))
            times = [first_s + 0.01 * place for place in range(20)]
            asked.append(completion(times, model_id=variant.model_id, round=number))
    return run_of(asked, servings=(Serving(FIRST), Serving(SECOND)))


@pytest.mark.parametrize(
    ("waits", "jitter", "right", "answer", "said"),
    [
        ((200, 100), 0.01, "faster", "slower", "it is a wait, so less of it is faster"),
        ((200, 100), 0.01, "faster", "no clear difference", "leaves 1 out: this difference is shown"),
        ((100, 200), 0.01, "slower", "faster", "The wrong way round"),
        ((100, 96), 0.20, "no clear difference", "faster", "The ratio alone, 0.96, looks so"),
        ((100, 96), 0.20, "no clear difference", "slower", "Not even the ratio, 0.96, says so"),
        ((100, 96), 0.65, "no clear difference", "faster", "spans a factor of more than 20, so nothing can be said"),
        ((100, 99), 0.00, "no clear difference", "faster", "within what repeating can make"),
        ((200, 100), 0.01, "faster", "quicker", "is none of the possible answers"),
        ((200, 100), 0.01, "faster", 2.0, "Write a text in quotes"),
    ],
)
def test_a_wrong_verdict_is_diagnosed(
    waits: tuple[float, float], jitter: float, right: str, answer: Any, said: str
) -> None:
    """The interval decides: a ratio taken for a result, a direction turned round, a shown difference denied."""
    run = waited(*waits, jitter=jitter)
    assert check("03-first-token-verdict", right.upper(), run).is_right
    shown = check("03-first-token-verdict", answer, run)
    assert shown.verdict == "not yet"
    assert said in shown.said


# of five aspects the answer mentions two: 1 + 4 x 0.4 = 2.6, rounded 3
PROMPT = Prompt("p", "Say it.", aspects=("red", "green", "blue", "white", "black"), forbidden=("violet",))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (2.6, "right before rounding"),
        (0.4, "the share of aspects, from 0 to 1"),
        (40, "the share in per cent"),
        (2, "how many aspects were found"),
        (1.6, "4 x share, without the 1"),
        (3.4, "takes the missing aspects for the found ones"),  # 1 + 4 x 0.6
        (4, "too large. Count *words found*"),
        ("some", "Write the number without quotes"),
    ],
)
def test_a_wrong_grade_is_diagnosed(answer: Any, said: str) -> None:
    """Share, per cent, count, a scale from 0: each answer has its own sentence."""
    run = run_of([completion([0.1], ["red and green"])], prompts=(PROMPT,))
    assert check("04-aspect-grade", 3, run).is_right
    shown = check("04-aspect-grade", answer, run)
    assert shown.verdict == "not yet"
    assert said in shown.said


def test_five_steps_are_one_too_many() -> None:
    """Four of five aspects are grade 4 (1 + 3.2); 5 x share is 4 as well, and 1 + 5 x share would be 5."""
    run = run_of([completion([0.1], ["red, green, blue, white"])], prompts=(PROMPT,))
    assert check("04-aspect-grade", 4, run).is_right
    assert "which would reach 6" in check("04-aspect-grade", 5, run).said


def test_a_scale_that_begins_at_nought_is_diagnosed() -> None:
    """One of five aspects is grade 2 (1 + 0.8); 5 x share is 1."""
    run = run_of([completion([0.1], ["red"])], prompts=(PROMPT,))
    assert check("04-aspect-grade", 2, run).is_right
    assert "how many aspects" in check("04-aspect-grade", 1, run).said


def test_a_forbidden_word_is_the_lowest_grade() -> None:
    """Two of five aspects and a forbidden one: grade 1, and who counted 2.6 is told why."""
    run = run_of([completion([0.1], ["red, green and violet"])], prompts=(PROMPT,))
    assert check("04-aspect-grade", 1, run).is_right
    assert "says what it must not" in check("04-aspect-grade", 2.6, run).said


def sizes(*sizes_mb: float | None) -> Evidence:
    """What is known of models of these sizes on disk, and nothing else."""
    return Evidence((), {"footprint": tuple(Estimate(each, None, None) for each in sizes_mb)}, {}, "people", 0)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (16, "That is the ratio"),  # 32 / 2
        (math.log(16), "the natural logarithm"),
        (math.log10(16), "the logarithm to base 10"),
        (8, "half the ratio"),
        (30, "a difference in MB"),
        (-4, "upside down"),
        (5, "too large. Divide the largest size"),
    ],
)
def test_a_wrong_number_of_steps_is_diagnosed(answer: float, said: str) -> None:
    """From 2 MB to 32 MB are four doublings; ratio, other logarithms and differences have their own sentences."""
    known = sizes(4.0, 32.0, None, 2.0)
    assert check("05-steps-apart", 4, known).is_right
    shown = check("05-steps-apart", answer, known)
    assert shown.verdict == "not yet"
    assert said in shown.said


# Medians of 4 s and 6 s, means of 5 s and 8 s; with the warm-ups of 9 s and 18 s the medians are 6 s and 9.5 s
WAYS = run_of(
    [
        *(completion([each], model_id=FIRST.model_id, round=number) for number, each in enumerate([9.0, 3, 4, 8])),
        *(completion([each], model_id=SECOND.model_id, round=number) for number, each in enumerate([18.0, 5, 6, 13])),
    ],
    servings=(Serving(FIRST), Serving(SECOND)),
)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (1.5, "That is the ratio"),
        (50, "the difference in per cent"),
        (2.0, "the difference in seconds"),
        (-2000, "the other way round"),
        (3000, "the difference of the means"),
        (6000, "the adapter's median itself"),
        (3500, "counts the warm-up"),
        (9999, "too large. Take the median of each"),
    ],
)
def test_a_wrong_extra_wait_is_diagnosed(answer: float, said: str) -> None:
    """Ratio, per cent, seconds, sign, means, warm-up: each answer has its own sentence."""
    assert check("06-extra-wait", 2000, WAYS).is_right
    shown = check("06-extra-wait", answer, WAYS)
    assert shown.verdict == "not yet"
    assert said in shown.said


# -- whatever the run, whatever the answer

EMPTY = run_of([], servings=())
NOTHING: dict[str, Any] = {
    "01-smallest-variant": [sized("one:1", None)],
    "02-tokens-per-second": completion([0.1], completion_tokens=None),
    "05-steps-apart": sizes(2.0, None),
}


@pytest.mark.parametrize("exercise", exercises.EXERCISES)
def test_a_run_without_the_evidence_has_nothing_to_ask(exercise: str) -> None:
    """Sizes, answers or counts may be missing; then the checkpoint says so, and no answer is wrong."""
    shown = check(exercise, 1.0, NOTHING.get(exercise, EMPTY))
    assert shown.verdict == "nothing to ask"
    assert shown.said.endswith(".")


@pytest.mark.parametrize("answer", [..., None, "", "  \n"])
@pytest.mark.parametrize("exercise", exercises.EXERCISES)
def test_an_empty_answer_is_no_wrong_one(exercise: str, answer: Any) -> None:
    """Nothing is computed before something is answered, so the evidence cannot matter."""
    assert check(exercise, answer, EMPTY).verdict == "not answered yet"


ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.complex_numbers(),
    st.decimals(), st.fractions(), st.lists(st.floats()), st.integers(400, 6000).map(lambda digits: 10**digits),
)  # fmt: skip


@given(answer=ANYTHING)
def test_no_answer_raises(answer: Any) -> None:
    """Whatever a cell leaves behind, the checkpoint has a sentence for it that can be shown."""
    for expected in (Number(2.0, "ms", {"Twice.": 4.0, "Unknown.": None}, "Look."), Word("a", {"b": "No."}, "Look.")):
        verdict, said = judge(answer, expected)
        assert verdict in {"right", "not yet"}
        assert said and "\n" not in said


@given(answer=st.floats(allow_nan=False, allow_infinity=False), right=st.floats(1e-6, 1e6))
def test_right_means_near(answer: float, right: float) -> None:
    """No number that is off by more than the tolerance and a table's rounding is called right."""
    verdict, _ = judge(answer, Number(right, "ms", {}, "Look."))
    near = abs(answer - right) <= 0.01 * max(abs(answer), right) + 1e-9
    assert (verdict == "right") <= near


def test_a_number_too_long_to_write_is_not_written() -> None:
    """Python refuses to write whole numbers of more than 4 300 digits; the checkpoint does not try again."""
    verdict, said = judge(10**5000, Number(2.0, "ms", {}, "Look."))
    assert (verdict, "thousands of digits" in said) == ("not yet", True)


def test_the_nearest_mistake_is_named() -> None:
    """Of two mistakes that fit, the nearer one."""
    expected = Number(1.0, "ms", {"First.": 2.0, "Second.": 2.01}, "Look.")
    assert judge(2.008, expected) == ("not yet", "Second.")


def test_nothing_to_ask_is_said_before_the_answer_is_looked_at() -> None:
    """A text where a number would be asked is no fault when there is nothing to ask."""
    assert judge("text", Nothing("No model answered.")) == ("nothing to ask", "No model answered.")


def test_a_checkpoint_is_shown_as_text_and_as_escaped_html() -> None:
    """The verdict stands first, in words; what a learner typed cannot become markup."""
    shown = check("01-smallest-variant", "<b>x</b>", OFFERED)
    assert repr(shown).startswith("Not yet. '<b>x</b>' is none")
    assert shown._repr_html_().startswith("<p><strong>Not yet.</strong> &#x27;&lt;b&gt;x")


def test_an_unknown_exercise_is_named_with_the_nearest() -> None:
    """A page that asks for an exercise which does not exist ends with one line."""
    with pytest.raises(ConfigurationError, match=r"no exercise '02-median'.*'02-median-latency'"):
        check("02-median", 1, EMPTY)


def test_the_grade_is_that_of_the_last_line_of_the_table(run: Run) -> None:
    """The exercise and the table on page 04 show the answers in the same order."""
    last = [each for each in scores.distinct_answers(run) if each.prompt == run.prompts[0]][-1]
    expected = exercises.aspect_grade(run)
    assert isinstance(expected, diagnosis.Number)
    assert "answer*" in last.prompt.aspects[-1]
    assert expected.right == 4


def test_solutions_lie_beside_their_page() -> None:
    """Each file of solutions is called like a page."""
    for path in SOLUTIONS.glob("*.py"):
        assert (notebooks.FOLDER / f"{path.stem}.ipynb").exists()
    assert Path(SOLUTIONS).is_dir()
