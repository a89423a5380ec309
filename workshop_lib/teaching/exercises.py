"""What the exercises of the pages ask: the right answer for this run, and what typical wrong answers come from.

Every right answer is computed from the learner's own models or records, never written down. A new exercise is one
function here or in `timing_exercises`, one row in `EXERCISES`, one solution in `notebooks/solutions/` and its
cases in the tests.
Knows records and metrics; knows nothing of what was answered.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from workshop_lib.archive.changes import Side, compare_sides
from workshop_lib.archive.results import results_of
from workshop_lib.metrics.comparison import WIDEST
from workshop_lib.quality.aspects import score_aspects
from workshop_lib.quality.scores import aspect_scores, distinct_answers
from workshop_lib.records import ModelVariant, Run, variant_key
from workshop_lib.teaching import timing_exercises
from workshop_lib.teaching.diagnosis import Expected, Nothing, Number, Word

if TYPE_CHECKING:
    from workshop_lib.decision.evidence import Evidence

FASTER, SLOWER, UNCLEAR = "faster", "slower", "no clear difference"


def smallest_variant(offered: Sequence[ModelVariant]) -> Expected:
    """01: the exact id of the variant with the smallest download. An alias is not a variant, so it is no answer."""
    sized = [variant for variant in offered if variant.size_mb is not None]
    if len(sized) < 2:
        return Nothing("Fewer than two sizes are known here.")
    by_size = sorted(sized, key=lambda variant: variant.size_mb or 0.0)
    right = by_size[0]
    mistakes = {
        variant.model_id: f"{variant.model_id} takes {variant.size_mb:.2f} MB, and there is a smaller one."
        for variant in by_size[1:]
        if (variant.size_mb or 0.0) > (right.size_mb or 0.0)
    }
    same = [variant for variant in offered if variant.alias == right.alias]
    mistakes |= {
        variant.alias: f"{variant.alias} is an alias: it stands for several variants. Give one line's *variant*."
        for variant in offered
        if variant.alias not in {each.model_id for each in offered}
    }
    if len(same) > 1:
        mistakes[right.alias] = (
            f"Right model, but {right.alias} is an alias that stands for {len(same)} variants of different size. Give "
            "the exact id from the column *variant*."
        )
    return Word(right.model_id, mistakes, "Read down the column *size (MB)*, then copy the id in *variant*.")


def first_token_verdict(run: Run) -> Expected:
    """03: the first line of the table of differences: is that build's first token sooner? The interval decides."""
    pair = _first_two_of_an_alias(run)
    results = results_of(run)
    sides = [Side(results, *variant_key(variant)) for variant in pair or ()]
    change = next((each for each in compare_sides(*sides) if each.measure == "first token"), None) if pair else None
    if change is None or change.ratio.low is None or change.ratio.value is None:
        return Nothing("This run has no two builds of one model with first tokens of at least two rounds.")
    ratio = change.ratio
    low, high, value = ratio.low or 0.0, ratio.high or 0.0, ratio.value or 0.0
    direction, opposite = (FASTER, SLOWER) if value < 1 else (SLOWER, FASTER)
    interval = f"The interval goes from {low:.2f} to {high:.2f}"
    if ratio.is_too_wide:
        interval = f"The interval spans a factor of more than {WIDEST}, so nothing can be said"
    if ratio.is_clear:
        mistakes = {
            opposite: "The wrong way round: it is a wait, so less of it is faster.",
            UNCLEAR: f"{interval} and leaves 1 out: this difference is shown.",
        }
        return Word(direction, mistakes, f"Answer {FASTER!r}, {SLOWER!r} or {UNCLEAR!r}.")
    within = interval
    if not ratio.is_too_wide:
        within += ", within what repeating can make" if ratio.is_beyond_noise else " and holds 1"
    mistakes = {
        direction: f"The ratio alone, {value:.2f}, looks so. {within}: the data do not show a difference.",
        opposite: f"Not even the ratio, {value:.2f}, says so. {within}: the data do not show a difference.",
    }
    return Word(UNCLEAR, mistakes, f"Answer {FASTER!r}, {SLOWER!r} or {UNCLEAR!r}.")


def aspect_grade(run: Run) -> Expected:
    """04: the grade that the check gives the last answer in the table of the first prompt: 1 + 4 x share, rounded."""
    shown = [each for each in distinct_answers(run) if each.prompt == run.prompts[0]][-1:]
    grades = aspect_scores(shown, rubric_version="", scored_at="")
    if not shown or grades[0].grade is None:
        return Nothing("The first prompt of this run has no answer with aspects to look for.")
    found = shown[0]
    score = score_aspects(found.text, found.prompt)
    matched, missing, share = len(score.matched), len(score.missing), score.share or 0.0
    formula = "A grade goes from 1 to 5: 1 + 4 x share, rounded."
    mistakes: dict[str, float | None] = {
        "That is right before rounding. A grade is a whole number.": 1 + 4 * share,
        f"That is the share of aspects, from 0 to 1. {formula}": share,
        f"That is the share in per cent. {formula}": 100 * share,
        f"That is how many aspects were found. Divide by how many were expected. {formula}": matched,
        f"That is 5 x share. The scale begins at 1, not at 0. {formula}": 5 * share,
        f"That is 4 x share, without the 1 at which the scale begins. {formula}": 4 * share,
        f"That is 1 + 5 x share, which would reach 6. {formula}": 1 + 5 * share,
        f"That takes the missing aspects for the found ones. {formula}": 1 + 4 * missing / (matched + missing),
    }
    if score.forbidden_found:
        mistakes = {"It says what it must not, so the check gives the lowest grade.": 1 + 4 * share}
    look_at = "Count *words found* and *missing* in the table's last line; found / (found + missing) is the share."
    return Number(grades[0].grade, "as a grade", mistakes, look_at)


def steps_apart(known: Evidence) -> Expected:
    """05: how many steps, factors of two, lie between the largest and the smallest model on disk."""
    sizes_mb = [float(each) for each in known.values("footprint") if each > 0]
    largest, smallest = max(sizes_mb, default=0.0), min(sizes_mb, default=0.0)
    if smallest == largest:
        return Nothing("Fewer than two different sizes are known here.")
    ratio = largest / smallest
    factor_of_two = "A step is a factor of two: the logarithm to base 2 counts them."
    mistakes: dict[str, float | None] = {
        f"That is the ratio. {factor_of_two}": ratio,
        f"That is the natural logarithm. {factor_of_two}": math.log(ratio),
        f"That is the logarithm to base 10. {factor_of_two}": math.log10(ratio),
        f"That is half the ratio. {factor_of_two}": ratio / 2,
        f"That is a difference in MB. {factor_of_two}": largest - smallest,
        "That is upside down: the largest divided by the smallest.": -math.log2(ratio),
    }
    return Number(math.log2(ratio), "steps", mistakes, "Divide the largest size by the smallest, then math.log2.")


EXERCISES: dict[str, Callable[[Any], Expected]] = {
    "01-smallest-variant": smallest_variant,
    "02-median-latency": timing_exercises.median_latency,
    "02-tokens-per-second": timing_exercises.tokens_per_second,
    "03-overlap": timing_exercises.overlap,
    "03-first-token-verdict": first_token_verdict,
    "04-aspect-grade": aspect_grade,
    "05-steps-apart": steps_apart,
    "06-extra-wait": timing_exercises.extra_wait,
}


def _first_two_of_an_alias(run: Run) -> tuple[ModelVariant, ModelVariant] | None:
    """What the first line of `tables.differences` compares."""
    first_of: dict[str, ModelVariant] = {}
    for variant in timing_exercises.served_in(run):
        first = first_of.setdefault(variant.alias, variant)
        if first is not variant:
            return first, variant
    return None
