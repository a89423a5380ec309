"""The exercises of the pages, and what a checkpoint says of an answer: right, or which mistake gives just this value.

Every right answer is computed from the learner's own models or records, never written down. A new exercise is one
function, one row in `EXERCISES`, one solution in `notebooks/solutions/`, and its typical wrong answers in the tests.
"""

from __future__ import annotations

import difflib
import html
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from statistics import fmean, median
from typing import TYPE_CHECKING, Any, Literal

from workshop_lib import timing
from workshop_lib.benchmark import answered
from workshop_lib.comparison import between_builds
from workshop_lib.quality.aspects import score_aspects
from workshop_lib.quality.scores import distinct_answers
from workshop_lib.records import Completion, ModelVariant, Run, key
from workshop_lib.show.text import one_line

if TYPE_CHECKING:
    from workshop_lib.choice.decide import Evidence

Verdict = Literal["right", "not yet", "not answered yet", "nothing to ask"]
NOT_ANSWERED = "Put your answer in place of the three dots in the cell above, run it, then run this one again."
WARM_UP = "That counts the warm-up, round 0, among the requests. It is slower by nature: leave it out."
FASTER, SLOWER, UNCLEAR = "faster", "slower", "no clear difference"


@dataclass(frozen=True, slots=True)
class Expected:
    """What an exercise expects: a number in a unit, or one of some words.

    Attributes:
        mistakes: a sentence that diagnoses → the answer that this mistake gives; None or infinite = it gives none.
        look_at: where to look when the answer fits no known mistake.
        tolerance: share by which a number may be off and still be right.
    """

    right: float | str
    mistakes: Mapping[str, float | str | None]
    look_at: str
    unit: str = ""
    tolerance: float = 0.01

    def judge(self, answer: object) -> tuple[Verdict, str]:
        """The verdict on an answer, and the sentence that explains it."""
        if isinstance(self.right, str):
            return self._judge_word(self.right, answer)
        if isinstance(answer, bool) or not isinstance(answer, Real):
            fix = f"One number is asked for, in {self.unit}, without quotes."
            return "not yet", f"Your answer is {_shown(answer)} ({type(answer).__name__}). {fix}"
        value, right = float(answer), self.right
        if not math.isfinite(value):
            return "not yet", f"Your answer is {value}, which is no finite number: was there a division by zero?"
        if self._is_near(value, right) or value == float(f"{right:.3g}"):  # or as a table rounds it
            return "right", f"This run gives {right:,.4g} {self.unit}."
        size = "large" if value > right else "small"
        wrong = {said: float(each) for said, each in self.mistakes.items() if each is not None}
        for times in (1000, 100):
            unit = f"{times} times too {size}: check the unit. The answer is asked for in {self.unit}."
            wrong[unit] = right * times if size == "large" else right / times
        fitting = [said for said, each in wrong.items() if math.isfinite(each) and self._is_near(value, each)]
        return "not yet", min(
            fitting, key=lambda said: abs(value - wrong[said]), default=f"{value:,.4g} is too {size}. {self.look_at}"
        )

    def _judge_word(self, right: str, answer: object) -> tuple[Verdict, str]:
        if not isinstance(answer, str):
            return "not yet", f"Your answer is {_shown(answer)}. Write a text in quotes."
        if answer.strip().casefold() == right.casefold():
            return "right", f"The answer is {right!r}."
        known = {str(word).casefold(): said for said, word in self.mistakes.items()}
        words = [right, *map(str, self.mistakes.values())]
        near = [word for word in words if word.startswith(answer)] or difflib.get_close_matches(answer, words, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        said = f"{_shown(answer)} is none of the possible answers.{hint} {self.look_at}"
        return "not yet", known.get(answer.strip().casefold(), said)

    def _is_near(self, answer: float, value: float) -> bool:
        return math.isclose(answer, value, rel_tol=self.tolerance, abs_tol=1e-9)


def _shown(answer: object) -> str:
    """The answer as Python writes it, short."""
    return one_line(repr(answer), 60)


@dataclass(frozen=True, slots=True, repr=False)
class Checkpoint:
    """What a checkpoint cell shows: a verdict, and a sentence that says why."""

    verdict: Verdict
    said: str

    def __repr__(self) -> str:
        return f"{self.verdict.capitalize()}. {self.said}"

    def _repr_html_(self) -> str:
        return f"<p><strong>{html.escape(self.verdict.capitalize())}.</strong> {html.escape(self.said)}</p>"


def check(exercise: str, answer: object, evidence: Any) -> Checkpoint:
    """Compare an answer with what the evidence gives; no value of a wrong type raises.

    Args:
        exercise: a name of `EXERCISES`, e.g. `02-median-latency`.
        answer: what the learner's cell left behind; `...`, None and empty text mean that it is not filled yet.
        evidence: what the exercise is about: models on offer, a run, or one request.
    """
    if answer is ... or answer is None or (isinstance(answer, str) and not answer.strip()):
        return Checkpoint("not answered yet", NOT_ANSWERED)
    expected = EXERCISES[exercise](evidence)
    return Checkpoint("nothing to ask", expected) if isinstance(expected, str) else Checkpoint(*expected.judge(answer))


# -- the exercises: each returns what is expected, or the reason why there is nothing to ask about


def smallest_variant(offered: Sequence[ModelVariant]) -> Expected | str:
    """01: the exact id of the variant with the smallest download. An alias is not a variant, so it is no answer."""
    sized = {each.model_id: each.size_mb for each in offered if each.size_mb is not None}
    if len(sized) < 2:
        return "Fewer than two sizes are known here."
    right = min(sized, key=sized.__getitem__)
    mistakes: dict[str, float | str | None] = {
        f"{alias} is an alias: it stands for several variants. Give the exact id from the column *variant*.": alias
        for alias in {each.alias for each in offered}
    }
    mistakes |= {
        f"{model_id} takes {size_mb:.2f} MB, and there is a smaller one.": model_id
        for model_id, size_mb in sized.items()
        if size_mb > sized[right]
    }
    return Expected(right, mistakes, "Read down the column *size (MB)*, then copy the id in *variant*.")


def median_latency(run: Run) -> Expected | str:
    """02: the median latency of the first model in milliseconds, without its warm-up."""
    latencies = next(iter(_measured(run, timing.latency_s)), [])
    if not latencies:
        return "No model answered in this run."
    right, everything = 1000 * median(latencies), _measured(run, timing.latency_s, first_round=0)[0]
    starts = next(iter(_measured(run, timing.first_token_s)), [math.nan])
    mistakes = {
        "That is the mean. One slow request pulls a mean up; the median is the middle one.": 1000 * fmean(latencies),
        WARM_UP: 1000 * median(everything),
        "That is the first token. Latency lasts until the last one: timing.latency_s.": 1000 * median(starts),
        "That is the slowest request. Half of them are quicker than the median.": 1000 * max(latencies),
    }
    look_at = "Take timing.latency_s of each request whose round is 1 or more, then their median, then milliseconds."
    return Expected(right, mistakes, look_at, "ms", tolerance=0.003)


def tokens_per_second(completion: Completion) -> Expected | str:
    """02: completion tokens of one request, per second of its whole latency."""
    latency_s, right = timing.latency_s(completion), timing.tokens_per_s(completion)
    if latency_s is None or right is None:
        return "The server gives no token count for this request."
    prompt = math.nan if completion.prompt_tokens is None else completion.prompt_tokens / latency_s
    mistakes = {
        "That counts the prompt's tokens too. The model only read those; count what it wrote.": prompt + right,
        "That counts only the prompt's tokens, which the model read and did not write.": prompt,
        "That is seconds per token, upside down. Divide tokens by seconds.": 1 / right,
        "That is the decode rate, which leaves out the wait for the first token. Here the whole wait counts.": (
            timing.decode_tokens_per_s(completion)
        ),
        "That counts chunks. A chunk may hold several tokens.": len(completion.chunks) / latency_s,
        "That counts characters of the text. Tokens are longer.": len(completion.text) / latency_s,
    }
    return Expected(right, mistakes, "Divide completion_tokens by timing.latency_s(asked_last).", "tok/s")


def overlap(run: Run) -> Expected | str:
    """03: what share of the second build's requests was quicker than the first build's median, in per cent."""
    measured = _measured(run, timing.latency_s)
    if len(measured) < 2:
        return "This run has answers of one build only."
    first, second, *_ = measured
    middle, share = median(first), _share_below(second, median(first))
    mistakes = {
        "That is a number of requests. Divide by how many there are.": share / 100 * len(second),
        "That is the share that was slower. Count those below the median.": 100 - share,
        "That compares with the mean. The question asks for the median.": _share_below(second, fmean(first)),
        WARM_UP: _share_below(_measured(run, timing.latency_s, first_round=0)[1], middle),
        "That has the two builds the wrong way round.": _share_below(first, median(second)),
    }
    look_at = "Count the second build's timed requests whose latency is below the first build's median; share in %."
    return Expected(share, mistakes, look_at, "%")


def first_token_verdict(run: Run) -> Expected | str:
    """03: the first line of the table of differences: is that build's first token sooner? The interval decides."""
    ratio = next((each.ratio for each in between_builds(run) if each.metric.name == "first_token_s"), None)
    if ratio is None or ratio.low is None or ratio.high is None or ratio.value is None:
        return "This run has no two builds of one model with first tokens of at least two rounds."
    direction, opposite = (FASTER, SLOWER) if ratio.value < 1 else (SLOWER, FASTER)
    interval = f"The interval goes from {ratio.low:.2f} to {ratio.high:.2f}"
    look_at = f"Answer {FASTER!r}, {SLOWER!r} or {UNCLEAR!r}."
    if ratio.is_clear:
        mistakes = {
            "The wrong way round: it is a wait, so less of it is faster.": opposite,
            f"{interval} and leaves 1 out: this difference is shown.": UNCLEAR,
        }
        return Expected(direction, mistakes, look_at)
    mistakes = {
        f"The ratio alone, {ratio.value:.2f}, looks so, but the table says: {ratio.doubt}.": direction,
        f"Not even the ratio, {ratio.value:.2f}, says so, and the table says: {ratio.doubt}.": opposite,
    }
    return Expected(UNCLEAR, mistakes, look_at)


def aspect_grade(run: Run) -> Expected | str:
    """04: the grade that the check gives the last answer in the table of the first prompt: 1 + 4 x share, rounded."""
    shown = [each for each in distinct_answers(run) if each.prompt == run.prompts[0]][-1:]
    score = score_aspects(shown[0].text if shown else None, run.prompts[0])
    if score.grade is None:
        return "The first prompt of this run has no answer with aspects to look for."
    share, formula = score.share or 0.0, "A grade goes from 1 to 5: 1 + 4 x share, rounded."
    mistakes = {
        "That is right before rounding. A grade is a whole number.": 1 + 4 * share,
        f"That is the share of aspects. {formula}": share,
        f"That is how many aspects were found. Divide by how many were expected. {formula}": len(score.matched),
        f"That is 4 x share, without the 1 at which the scale begins. {formula}": 4 * share,
        f"That is 1 + 5 x share, which would reach 6. {formula}": 1 + 5 * share,
        f"That takes the missing aspects for the found ones. {formula}": 5 - 4 * share,
    }
    if score.forbidden_found:
        mistakes = {"It says what it must not, so the check gives the lowest grade.": 1 + 4 * share}
    look_at = "Count *words found* and *missing* in the table's last line; found / (found + missing) is the share."
    return Expected(score.grade, mistakes, look_at, "as a grade")


def steps_apart(known: Evidence) -> Expected | str:
    """05: how many steps, factors of two, lie between the largest and the smallest model on disk."""
    sizes_mb = [float(each) for each in known.values("footprint") if each > 0]
    if len(set(sizes_mb)) < 2:
        return "Fewer than two different sizes are known here."
    ratio, base_two = max(sizes_mb) / min(sizes_mb), "A step is a factor of two: the logarithm to base 2 counts them."
    mistakes = {
        f"That is the ratio. {base_two}": ratio,
        f"That is the natural logarithm. {base_two}": math.log(ratio),
        f"That is the logarithm to base 10. {base_two}": math.log10(ratio),
        f"That is a difference in MB. {base_two}": max(sizes_mb) - min(sizes_mb),
        "That is upside down: the largest divided by the smallest.": -math.log2(ratio),
    }
    return Expected(math.log2(ratio), mistakes, "Divide the largest size by the smallest, then math.log2.", "steps")


def extra_wait(run: Run) -> Expected | str:
    """06: by how many milliseconds the median latency of the second model is longer than that of the first."""
    measured = _measured(run, timing.latency_s)
    if len(measured) < 2:
        return "This run has answers of one model only."
    first, second, *_ = measured
    right, ratio = 1000 * (median(second) - median(first)), median(second) / median(first)
    warm_ups = [1000 * median(each) for each in _measured(run, timing.latency_s, first_round=0)]
    mistakes = {
        "That is the ratio. What Python adds does not grow with the model, so ask how much it is: a difference.": ratio,
        "That is the other way round: the adapter's median minus the runtime's.": -right,
        "That is the difference of the means. One slow request moves a mean.": 1000 * (fmean(second) - fmean(first)),
        "That is the adapter's median itself. Take the runtime's from it.": 1000 * median(second),
        WARM_UP: warm_ups[1] - warm_ups[0],
    }
    return Expected(right, mistakes, "Take the median of each model's latencies, subtract, times 1000.", "ms")


EXERCISES: dict[str, Callable[[Any], Expected | str]] = {
    "01-smallest-variant": smallest_variant,
    "02-median-latency": median_latency,
    "02-tokens-per-second": tokens_per_second,
    "03-overlap": overlap,
    "03-first-token-verdict": first_token_verdict,
    "04-aspect-grade": aspect_grade,
    "05-steps-apart": steps_apart,
    "06-extra-wait": extra_wait,
}


def _measured(run: Run, measure: Callable[[Completion], float | None], first_round: int = 1) -> list[list[float]]:
    """What was measured of each model that answered, in the order of the table; from round 0 with the warm-up."""
    found: dict[tuple[str, str], list[float]] = {key(each): [] for each in answered(run)}
    for each in run.completions:
        value = measure(each)
        if each.ok and each.round >= first_round and value is not None and key(each) in found:
            found[key(each)].append(value)
    return [values for values in found.values() if values]


def _share_below(values: Sequence[float], limit: float) -> float:
    """The share of values below a limit, in per cent."""
    return 100 * fmean(each < limit for each in values)
