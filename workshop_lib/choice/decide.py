"""Which model to take: limits exclude models, weights order the rest, draws of prompts say how sure the order is.

*Evidence* is every criterion of every model of a run, with intervals over prompts. Whose grades are its quality is
decided there, and which models no other one beats on both latency and quality (the Pareto front).

Criteria count in *steps*. Times, rates and sizes have a true zero, so a step is a factor of two. Grades have none (a 4
is not twice as good as a 2), so a step is one grade. A score is the weighted mean of a model's steps, an additive value
function (Keeney and Raiffa 1976, chapter 3): do not weight one thing twice, for latency already contains the decode
speed. Beyond a *floor* nobody notices a difference, so nothing more is gained. Steps depend on no other model, so one
that joins or leaves never reverses the others (Belton and Gear 1983).

Measurements vary: `best_share` counts how often a model comes first in a bootstrap over prompts, with the same draw for
every model and criterion. Weights are opinions: `sweep` changes them, one at a time.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from workshop_lib import comparison, summary, timing
from workshop_lib.comparison import SAME_RUN, Estimate
from workshop_lib.errors import ConfigurationError
from workshop_lib.quality import agreement
from workshop_lib.quality.aspects import score_aspects
from workshop_lib.quality.scores import Answer, AnswerKey, Kind, Score, distinct_answers, kind_of
from workshop_lib.records import variant_key
from workshop_lib.settings import BenchmarkSettings

if TYPE_CHECKING:
    from workshop_lib.records import Row, Run

Outcome = Literal["none", "tie", "only", "unknown", "few", "unsure", "slight", "trained", "clear"]
FEWEST_CLEAR = 6
"""Of two equal models, one is better in all of 5 prompts in 6 % of runs, in all of 6 prompts in 3 %."""
MEASURED_ONCE = "Measured once per model, so without an interval."
DECIMALS = 9
"""Scores that differ by less are equal: sums of floats are not exact."""


@dataclass(frozen=True, slots=True)
class Criterion:
    """A row of `CRITERIA`.

    Attributes:
        unit: as it is shown; what `measure` gives has seconds where this says ms.
        per: what has a value: each prompt (the median of its requests, so that one asked more often does not count for
            more), each request, each model, or each graded answer.
        measure: a completion's value, or for a model its row's.
        quantile: the figure over all values; None = their mean.
        shaken_by: warnings of a row (`summary.WARNINGS`) that cast doubt on it.
        limit: the setting that bounds it, in the unit of `measure`; empty = none.
        step: what one step is, a factor of two or one point.
    """

    name: str
    label: str
    unit: str
    better: Literal["lower", "higher"]
    per: Literal["prompt", "request", "model", "answer"]
    measure: Callable[[Any], float | None]
    quantile: float | None = None
    shaken_by: tuple[str, ...] = ()
    limit: str = ""
    step: Literal["doubling", "point"] = "doubling"

    def steps(self, values: np.ndarray, floor: float = 0.0) -> np.ndarray:
        """Values → steps, more is better; nan where a value is unknown or, not being above 0, has no ratio.

        A value better than the floor counts as the floor; 0 means none.
        """
        known = np.asarray(values, dtype=float)
        if floor:
            known = np.maximum(known, floor) if self.better == "lower" else np.minimum(known, floor)
        if self.step == "doubling":
            known = np.log2(known, out=np.full(known.shape, np.nan), where=known > 0)
        return known if self.better == "higher" else -known

    def number(self, value: float) -> str:
        """A value for a column that names the unit: `15.3`."""
        shown = value * 1000 if self.unit == "ms" else value
        return f"{shown:,.0f}" if abs(shown) >= 1000 else f"{shown:.3g}"

    def say(self, value: float) -> str:
        """A value with its unit: `15.3 ms`."""
        return f"{self.number(value)} {self.unit}".rstrip()


_LATENCY, _FIRST, _DECODE = timing.latency_s, timing.first_token_s, timing.decode_tokens_per_s
_SLOWEST, _CACHED, _BURSTS = ("unstable", "too_few_samples"), ("unstable", "cached_prompt"), ("unstable", "bursts")
_TRAINED = ("trained_on_prompts", "does_not_fit")
_ROWS = (
    Criterion("quality", "quality", "", "higher", "answer", float, None, _TRAINED, "min_quality", "point"),
    Criterion("latency", "latency", "ms", "lower", "prompt", _LATENCY, 0.5, ("unstable", "drift")),
    Criterion("latency_p95", "p95 latency", "ms", "lower", "request", _LATENCY, 0.95, _SLOWEST, "max_latency_s"),
    Criterion("first_token", "first token", "ms", "lower", "prompt", _FIRST, 0.5, _CACHED, "max_first_token_s"),
    Criterion("throughput", "decode speed", "tok/s", "higher", "prompt", _DECODE, 0.5, _BURSTS),
    Criterion("memory", "peak memory", "MB", "lower", "model", attrgetter("peak_resident_mb"), limit="max_memory_mb"),
    Criterion("footprint", "size on disk", "MB", "lower", "model", attrgetter("size_mb"), limit="max_size_mb"),
)
CRITERIA: dict[str, Criterion] = {each.name: each for each in _ROWS}
LIMITS: dict[str, Criterion] = {each.limit: each for each in _ROWS if each.limit}


WEIGHTS = {"quality": 4.0, "latency": 2.0, "memory": 1.0, "footprint": 1.0}
"""What a step of each criterion is worth where nobody says; a step is explained in `Criterion`."""
BOUNDS = {"max_first_token_s": 2.0}
"""The limits where nobody says; one counts only where some model has the figure."""
FLOORS = BenchmarkSettings().goals
"""Good enough where nobody says otherwise, in seconds: a person notices no difference below."""
PREFERRED: tuple[Kind, ...] = ("people", "reference", "aspects")
"""Whose grades are the quality, see `decisive_measure`. A judge never decides: its grades stand beside."""


def check_weights(**weights: float) -> dict[str, float]:
    """What one step in each criterion is worth, checked, without those of 0; only their ratios matter."""
    checked = _checked("weight", weights, CRITERIA)
    if not checked:
        raise ConfigurationError("All weights are 0.", "Give at least one criterion a weight above 0.")
    return checked


def check_limits(**limits: float) -> dict[str, float]:
    """What a model must keep to be chosen at all: names of `LIMITS` with their bounds, checked, without those of 0."""
    return _checked("limit", limits, LIMITS)


def check_floors(**floors: float) -> dict[str, float]:
    """From where on a criterion is good enough, as `decide` takes it: checked, without those of 0."""
    return _checked("floor", floors, CRITERIA)


def _checked(kind: str, given: Mapping[str, float], known: Iterable[str]) -> dict[str, float]:
    for name, value in given.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
            raise ConfigurationError(f"There is no {kind} {name!r}.", f"Did you mean {near[0]}?")
        if not 0 <= value < math.inf:
            raise ConfigurationError(f"The {kind} {name} is {value}.", "Give 0 or more.")
    return {name: given[name] for name in known if given.get(name)}


# -- evidence


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """All that is known of the models of a run, gathered once; deciding again needs nothing else.

    Attributes:
        rows: the models that answered.
        figures: criterion → figure of each model, with its interval over prompts.
        drawn: criterion → its figures by `[draw, model]`, the same prompts in every criterion's draw.
        measure: whose grades are the quality.
        grades: each kind of rater that graded answers of the run → mean grade from 1 to 5 of each model.
    """

    rows: tuple[Row, ...]
    figures: Mapping[str, tuple[Estimate, ...]]
    drawn: Mapping[str, np.ndarray]
    measure: Kind
    remarks: tuple[str, ...] = ()
    grades: Mapping[Kind, tuple[Estimate, ...]] = field(default_factory=dict)

    def values(self, name: str) -> np.ndarray:
        """A criterion's figures by `[model]`; nan where there is none."""
        return np.array([each.value for each in self.figures[name]], dtype=float)


def gather_evidence(run: Run, scores: Iterable[Score] = ()) -> Evidence:
    """Read every criterion of every model that answered, and draw the prompts again.

    Args:
        run: with its prompts and answers.
        scores: grades of people, references and judges; the aspects are checked here, as grade 1 + 4 x share.

    Whose grades are the quality, `decisive_measure` chooses. Raises `ConfigurationError` where no model answered.
    """
    rows = tuple(row for row in summary.summarise(run) if row.status == "ok")
    if not rows:
        raise ConfigurationError(f"No model answered in run {run.run_id}.", "Choose a run in which one did.")
    tables, remarks = grade_tables(run, rows, tuple(scores))
    chosen = decisive_measure(tables)
    picked = comparison.draws(len(run.prompts), seed=20)
    figures, drawn = {}, {}
    graded = {kind: _figures(None, table[:, None, :], picked) for kind, table in tables.items()}
    for name, which in CRITERIA.items():
        if which.per == "model":
            values = np.array([which.measure(row) for row in rows], dtype=float)
            figures[name] = tuple(map(_measured_once, values))
            drawn[name] = np.broadcast_to(values, (len(picked), len(values)))
        elif which.per == "answer":
            nothing = (Estimate(None, reason="Not graded."),) * len(rows), np.full((len(picked), len(rows)), np.nan)
            figures[name], drawn[name] = graded.get(chosen, nothing)
        else:
            figures[name], drawn[name] = _figures(which.quantile, _requests(which, run, rows), picked)
    remarks += [
        f"Grades by {kind} do not cover every model on {comparison.FEWEST_PROMPTS} prompts yet: they are not used."
        for kind in PREFERRED[: PREFERRED.index(chosen)]
        if kind in tables
    ]
    for name, verb in (("quality", "graded"), ("latency", "timed")):
        counts = sorted({each.n for each in figures[name]})
        if len(counts) > 1:
            prompts = f"{counts[0]} to {counts[-1]} prompts"
            remarks.append(f"Models were {verb} on {prompts}: their figures rest on different questions.")
    return Evidence(rows, figures, drawn, chosen, tuple(remarks), {kind: each for kind, (each, _) in graded.items()})


def grade_tables(run: Run, rows: Sequence[Row], scores: Sequence[Score]) -> tuple[dict[Kind, np.ndarray], list[str]]:
    """Grades by `[prompt, model]` for each kind of rater that graded an answer of this run, and what was left out.

    Grades of other rubrics than the latest one's mean other things. The aspects count as 1 + 4 x share, unrounded.
    """
    grades = [score for score in scores if score.is_grade]
    version = max(grades, key=lambda score: score.scored_at).rubric_version if grades else ""
    used, answers, tables = [score for score in grades if score.rubric_version == version], distinct_answers(run), {}
    column = {(row.model_id, row.device): place for place, row in enumerate(rows)}
    line = {prompt.id: place for place, prompt in enumerate(run.prompts)}
    for kind, values in _given(answers, used).items():
        table = np.full((len(line), len(rows)), np.nan)
        for answer in answers:
            mine = [column[author] for author in map(variant_key, answer.authors) if author in column]
            if answer.key in values:
                table[line[answer.prompt.id], mine] = fmean(values[answer.key])
        if np.isfinite(table).any():
            tables[kind] = table
    left = len(grades) - len(used)
    return tables, [f"{left} scores under another rubric than {version} are left out."] if left else []


def _given(answers: Iterable[Answer], scores: Sequence[Score]) -> dict[Kind, dict[AnswerKey, list[float]]]:
    """What each kind of rater gave each answer."""
    found = {answer.key: score_aspects(answer.text, answer.prompt).credit for answer in answers}
    given: dict[Kind, dict[AnswerKey, list[float]]] = {
        "aspects": {answer: [1 + 4 * credit] for answer, credit in found.items() if credit is not None}
    }
    for rater, grades in agreement.ratings(scores).items():
        if (kind := kind_of(rater)) != "aspects":
            for (_, prompt_id, hashed), grade in grades.items():
                given.setdefault(kind, {}).setdefault((prompt_id, hashed), []).append(grade)
    return given


def decisive_measure(scored: Mapping[Kind, np.ndarray]) -> Kind:
    """Whose grades decide: the first of `PREFERRED` that graded every model well enough.

    Well enough is on `comparison.FEWEST_PROMPTS` prompts, or all where a run has fewer: a person who has graded two
    answers does not exclude models that others have graded. Where nobody covers every model, the first that graded
    anything decides.
    """
    anyone = [kind for kind in PREFERRED if kind in scored]
    counts = {kind: np.isfinite(scored[kind]).sum(axis=0).min() for kind in anyone}
    enough = [kind for kind in anyone if counts[kind] >= min(comparison.FEWEST_PROMPTS, len(scored[kind]))]
    return [*enough, *anyone, PREFERRED[-1]][0]


def front(known: Evidence) -> tuple[tuple[bool, float | None], ...]:
    """Of each model: is no other at least as fast and as good, and better in one of both; and in what share of draws.

    The share is None where fewer than `comparison.FEWEST_PROMPTS` prompts were graded; nothing unknown is on the front.
    """
    both = (np.vstack([known.values(name), known.drawn[name]]) for name in ("latency", "quality"))
    on_front, graded = unbeaten(*both), np.isfinite(known.drawn["quality"]).sum(axis=0)
    return tuple(
        (bool(on_front[0, place]), float(on_front[1:, place].sum() / graded[place]) if enough else None)
        for place, enough in enumerate(each.n >= comparison.FEWEST_PROMPTS for each in known.figures["quality"])
    )


def unbeaten(latency: np.ndarray, quality: np.ndarray) -> np.ndarray:
    """Whether each model (last axis) is on the front of each draw (first axis); nan is never on it."""
    fast, slow = latency[:, :, None], latency[:, None, :]
    good, poor = quality[:, :, None], quality[:, None, :]
    beats = (fast <= slow) & (good >= poor) & ((fast < slow) | (good > poor))
    return np.asarray(~beats.any(axis=1) & np.isfinite(latency) & np.isfinite(quality))


def _measured_once(value: float) -> Estimate:
    return Estimate(None, reason="Not measured.") if np.isnan(value) else Estimate(float(value), reason=MEASURED_ONCE)


def _requests(which: Criterion, run: Run, rows: Sequence[Row]) -> np.ndarray:
    """A criterion's values by `[prompt, request, model]`; nan where one is unknown."""
    prompts = {prompt.id: place for place, prompt in enumerate(run.prompts)}
    models = {(row.model_id, row.device): place for place, row in enumerate(rows)}
    table = np.full((len(prompts), max(each.round for each in run.completions), len(models)), np.nan)
    for each in run.completions:
        model, value = models.get((each.model_id, each.device)), which.measure(each)
        if each.round and model is not None and value is not None:
            table[prompts[each.prompt_id], each.round - 1, model] = value
    return quantiles(table, 0.5)[:, None, :] if which.per == "prompt" else table


def _figures(share: float | None, table: np.ndarray, picked: np.ndarray) -> tuple[tuple[Estimate, ...], np.ndarray]:
    """Each model's figure over a table by `[prompt, request, model]`, and those of every draw by `[draw, model]`."""

    def figure(part: np.ndarray) -> np.ndarray:
        pooled = part.reshape(len(part), -1, part.shape[-1])
        if share is not None:
            return quantiles(pooled, share)
        counts, sums = np.isfinite(pooled).sum(axis=1), np.nansum(pooled, axis=1)
        return np.asarray(np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0))

    values, counts = figure(table[None])[0], np.isfinite(table).any(axis=1).sum(axis=0)
    drawn = np.concatenate([figure(table[part]) for part in np.array_split(picked, 20)])  # parts that fit into memory
    return tuple(
        comparison.estimate(float(value) if n else None, int(n), drawn[:, place])
        for place, (value, n) in enumerate(zip(values, counts, strict=True))
    ), drawn


def quantiles(table: np.ndarray, share: float) -> np.ndarray:
    """Quantiles over the second axis of what is known, interpolated as numpy does; nan where nothing is known."""
    ordered = np.sort(table, axis=1)  # nan comes last
    last = np.maximum(np.isfinite(table).sum(axis=1) - 1, 0)[:, None, :]
    place = share * last
    below = np.floor(place).astype(int)
    low, high = (np.take_along_axis(ordered, at, axis=1) for at in (below, np.minimum(below + 1, last)))
    return np.asarray((low + (place - below) * (high - low))[:, 0, :])


# -- deciding


@dataclass(frozen=True, slots=True)
class Ranked:
    """One model in the order.

    Attributes:
        place: its position in `evidence.rows`; `row` is that row.
        rank: 1 = first; equal scores share a rank.
        behind: weighted steps behind the first.
        best_share: in what share of the draws of prompts it comes first; None where there are too few to say.
    """

    place: int
    row: Row
    rank: int
    behind: float
    best_share: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Decision:
    """The order, what is excluded, and how sure all of it is.

    Attributes:
        weights: those of the criteria that count, all above 0.
        floors: from where on a criterion is good enough.
        ranked: the models in order, the first first; empty where every model is excluded.
        excluded: position in `evidence.rows` → broken limit, or criterion that was not measured → reason in words.
        reason: why `best_share` is missing; None where it is there.
        prompts: how many prompts the draws rest on: the fewest of any figure that counts and varies.
    """

    evidence: Evidence
    weights: Mapping[str, float]
    limits: Mapping[str, float]
    floors: Mapping[str, float]
    licences: str
    ranked: tuple[Ranked, ...]
    excluded: Mapping[int, Mapping[str, str]]
    reason: str | None
    prompts: int
    remarks: tuple[str, ...]

    @property
    def first(self) -> Ranked | None:
        """The model that comes first; None where none is left, or several share the first place."""
        leaders = [each for each in self.ranked if each.rank == 1]
        return leaders[0] if len(leaders) == 1 else None

    @property
    def outcome(self) -> Outcome:
        """How sure the first place is: clear in enough of the draws, and by more than measuring times again changes."""
        first, enough = self.first, clear_from(self.prompts)
        if first is None:
            return "tie" if self.ranked else "none"
        if len(self.ranked) == 1:
            return "only"
        if first.best_share is None or enough is None:
            return "unknown" if self.reason else "few"
        timed = sum(self.share(name) for name in self.weights if CRITERIA[name].per in ("prompt", "request"))
        is_slight = self.ranked[1].behind < timed * math.log2(1 + SAME_RUN)
        if first.best_share < enough or is_slight:
            return "unsure" if first.best_share < enough else "slight"
        return "trained" if first.row.trained_on_prompts else "clear"

    def share(self, name: str) -> float:
        """A criterion's share of all weights, 0 to 1."""
        return self.weights[name] / sum(self.weights.values())


def clear_from(prompts: int) -> float | None:
    """The share of the draws of so many prompts that makes a first place clear; None where no share does.

    It is where a t interval at `comparison.CONFIDENCE` would begin, because draws understate the scatter of few prompts
    (by sqrt(n / (n - 1))): of two equal models, one comes first in 95 % of the draws in every fourth run of 3 prompts.

    >>> clear_from(5), clear_from(6), clear_from(12)
    (None, 0.998, 0.99)
    """
    if prompts < FEWEST_CLEAR:
        return None
    from scipy import special

    bound = special.stdtrit(prompts - 1, 0.5 + comparison.CONFIDENCE / 2) * math.sqrt(prompts / (prompts - 1))
    return math.ceil(1000 * float(special.ndtr(bound))) / 1000


def decide(
    evidence: Evidence | Run,
    weights: Mapping[str, float] | None = None,
    limits: Mapping[str, float] | None = None,
    licences: str = "",
    *,
    floors: Mapping[str, float] | None = None,
    scores: Iterable[Score] = (),
) -> Decision:
    """Exclude what breaks a limit, order the rest, and say how sure that is.

    `evidence` is what `gather_evidence` made, or a run, whose evidence is gathered with `scores`. Without `weights`
    those of `WEIGHTS` count, without `limits` those of `BOUNDS`. `floors` say from where on a criterion is good
    enough; without them those of `FLOORS` do, `{}` is none.

    What was not measured keeps no limit. A model that lacks a figure which others have, in a criterion with a weight,
    cannot be ordered and is excluded. A criterion that was measured for no model does not count, and a remark says so.

    `licences` are those that may be shipped, separated by commas; empty = any. Raises `ConfigurationError` where
    `check_weights` and `check_limits` do, and where none of the criteria with a weight was measured.
    """
    if not isinstance(evidence, Evidence):
        evidence = gather_evidence(evidence, scores)
    if limits is None:
        limits = {name: BOUNDS[name] for name in BOUNDS if np.isfinite(evidence.values(LIMITS[name].name)).any()}
    given, bounds = check_weights(**(weights or WEIGHTS)), check_limits(**limits)
    lowest = check_floors(**(FLOORS if floors is None else floors))
    known = {name: np.isfinite(CRITERIA[name].steps(evidence.values(name))) for name in given}
    counted = {name: weight for name, weight in given.items() if known[name].any()}
    missing = [CRITERIA[name].label for name in given if name not in counted]
    if not counted:
        what = f"Nothing that has a weight was measured: {', '.join(missing)}."
        raise ConfigurationError(what, "Give a weight to something that was measured.")
    remarks = [*evidence.remarks, *(f"Not counted, because no model has a figure: {label}." for label in missing)]
    remarks += _doubts(evidence.rows, {*counted, *(LIMITS[name].name for name in bounds)})
    excluded: dict[int, dict[str, str]] = {}
    for place in range(len(evidence.rows)):
        broken = _broken(evidence, bounds, licences, place)
        broken |= {name: f"{CRITERIA[name].label} was not measured" for name in counted if not known[name][place]}
        excluded |= {place: broken} if broken else {}
    keep = [place for place in range(len(evidence.rows)) if place not in excluded]
    remarks += _good_enough(evidence, counted, lowest, keep)
    ranked, prompts, reason = _rank(evidence, counted, lowest, keep) if keep else ((), 0, "No model is left.")
    return Decision(evidence, counted, bounds, lowest, licences, ranked, excluded, reason, prompts, tuple(remarks))


def _good_enough(
    evidence: Evidence, names: Iterable[str], floors: Mapping[str, float], keep: Sequence[int]
) -> Iterator[str]:
    """For each criterion that counts and has a floor, how many models are beyond it."""
    for which in (CRITERIA[name] for name in names if name in floors):
        values, floor = evidence.values(which.name)[list(keep)], floors[which.name]
        if reached := int(((values <= floor) if which.better == "lower" else (values >= floor)).sum()):
            said = f"{which.label.capitalize()} of {reached} of {len(keep)} models is {which.say(floor)} or better"
            yield f"{said}: that is good enough, and being better still gains nothing."


def _doubts(rows: Sequence[Row], concerned: Iterable[str]) -> list[str]:
    """The warnings that cast doubt on a criterion with a weight or a limit."""
    return [
        f"{which.label.capitalize()} of {shaken} of {len(rows)} models, warning {code}: {summary.WARNINGS[code]}"
        for which in _ROWS
        for code in which.shaken_by
        if which.name in concerned and (shaken := sum(code in row.warnings for row in rows))
    ]


def _broken(evidence: Evidence, limits: Mapping[str, float], licences: str, place: int) -> dict[str, str]:
    """The limits that a model breaks, each with the value seen."""
    broken = {}
    for name, bound in limits.items():
        which, value = LIMITS[name], evidence.figures[LIMITS[name].name][place].value
        if value is None or (value < bound if which.better == "higher" else value > bound):
            seen = "was not measured" if value is None else which.say(value)
            broken[name] = f"{which.label} {seen}, the limit is {which.say(bound)}"
    licence, allowed = evidence.rows[place].licence, [name.strip().casefold() for name in licences.split(",")]
    if any(allowed) and (licence or "").casefold() not in filter(None, allowed):
        broken["licences"] = f"licence {licence or 'unknown'}, allowed: {licences}"
    return broken


def _steps(names: Iterable[str], values: Callable[[str], np.ndarray], floors: Mapping[str, float]) -> np.ndarray:
    """Steps by `[..., model, criterion]`, from each criterion's values by `[..., model]`."""
    return np.stack([CRITERIA[name].steps(values(name), floors.get(name, 0.0)) for name in names], axis=-1)


def _rank(
    evidence: Evidence, weights: Mapping[str, float], floors: Mapping[str, float], keep: Sequence[int]
) -> tuple[tuple[Ranked, ...], int, str | None]:
    """The models at `keep` in order, on how many prompts the draws rest, and why `best_share` is missing."""
    own = np.array(list(weights.values())) / sum(weights.values())
    scores = np.round(_steps(weights, evidence.values, floors)[list(keep)] @ own, DECIMALS)
    drawn = np.round(_steps(weights, evidence.drawn.__getitem__, floors)[:, list(keep)] @ own, DECIMALS)
    known = drawn[np.isfinite(drawn).all(axis=1)]
    varying = [evidence.figures[name][place] for name in weights for place in keep]
    prompts = min((each.n for each in varying if each.reason != MEASURED_ONCE), default=None)
    reason = None
    if prompts is None:
        reason = "Only figures count that were measured once per model: there is nothing to draw."
    elif prompts < comparison.FEWEST_PROMPTS:
        reason = f"It takes at least {comparison.FEWEST_PROMPTS} prompts, and there are {prompts}."
    elif len(known) < comparison.FEWEST_DEFINED * len(drawn):
        reason = "In most draws of prompts a model has no figure."
    best = known == known.max(axis=1, keepdims=True, initial=-np.inf)
    shares = (best / best.sum(axis=1, keepdims=True)).sum(axis=0) / max(len(known), 1)  # who is equal shares a draw
    ranked = []
    for at, place in enumerate(keep):
        rank, behind = 1 + int((scores > scores[at]).sum()), float(scores.max() - scores[at])
        ranked.append(Ranked(place, evidence.rows[place], rank, behind, None if reason else float(shares[at])))
    return tuple(sorted(ranked, key=lambda each: each.rank)), prompts or 0, reason


def sweep(decision: Decision) -> dict[str, list[tuple[int, int, int]]]:
    """Weight sensitivity: which model leads as one criterion's share of all weights goes from 0 to 100 %.

    The others keep their proportions; where models are equal, the first in the order leads.

    Returns:
        Criterion → (from per cent, to per cent, position in `evidence.rows`) in order, from 101 points.
    """
    keep, own = [each.place for each in decision.ranked], np.array(list(decision.weights.values()))
    if not keep:
        return {name: [] for name in decision.weights}
    table, shares = (
        _steps(decision.weights, decision.evidence.values, decision.floors)[keep],
        np.linspace(0, 1, 101)[:, None],
    )
    found = {}
    for at, name in enumerate(decision.weights):
        others = np.delete(own, at)
        rest = np.delete(table, at, axis=1) @ (others / (others.sum() or 1.0))
        leaders = np.round((1 - shares) * rest + shares * table[:, at], DECIMALS).argmax(axis=1)
        parts = [(keep[leader], list(part)) for leader, part in groupby(range(101), key=leaders.__getitem__)]
        found[name] = [(part[0], part[-1], place) for place, part in parts]
    return found


def percent(share: float) -> str:
    """A share of draws; never 0 % or 100 % where it is not."""
    if 0 < share < 0.005:
        return "under 1 %"
    return "over 99 %" if 0.995 <= share < 1 else f"{100 * share:.0f} %"
