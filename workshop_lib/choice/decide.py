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
from dataclasses import dataclass, field, replace
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
from workshop_lib.quality.scores import AnswerKey, Kind, Score, distinct_answers, kind_of
from workshop_lib.records import key
from workshop_lib.settings import BenchmarkSettings

if TYPE_CHECKING:
    from workshop_lib.records import Row, Run

Outcome = Literal["none", "tie", "only", "once", "few", "unsure", "slight", "trained", "clear"]
FEWEST_CLEAR = 6
"""Of two equal models, one is better in all of 5 prompts in 6 % of runs, in all of 6 prompts in 3 %."""
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
        shaken_by: warnings of a row (`summary.WARNINGS`) that cast doubt on it.
        limit: the setting that bounds it, in the unit of `measure`; empty = none.
    """

    name: str
    label: str
    unit: str
    better: Literal["lower", "higher"]
    per: Literal["prompt", "request", "model", "answer"]
    measure: Callable[[Any], float | None]
    shaken_by: tuple[str, ...] = ()
    limit: str = ""

    @property
    def quantile(self) -> float | None:
        """The figure over all values: the median, of requests the 95th percentile; None = the mean of grades."""
        return {"request": 0.95, "answer": None}.get(self.per, 0.5)

    def steps(self, values: np.ndarray, floor: float = 0.0) -> np.ndarray:
        """Values → steps, more is better; nan where a value is unknown or, not being above 0, has no ratio.

        A value better than the floor counts as the floor; 0 means none.
        """
        known = np.asarray(values, dtype=float)
        if floor:
            known = np.maximum(known, floor) if self.better == "lower" else np.minimum(known, floor)
        if self.per != "answer":
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
    Criterion("quality", "quality", "", "higher", "answer", float, _TRAINED, "min_quality"),
    Criterion("latency", "latency", "ms", "lower", "prompt", _LATENCY, ("unstable", "drift")),
    Criterion("latency_p95", "p95 latency", "ms", "lower", "request", _LATENCY, _SLOWEST, "max_latency_s"),
    Criterion("first_token", "first token", "ms", "lower", "prompt", _FIRST, _CACHED, "max_first_token_s"),
    Criterion("throughput", "decode speed", "tok/s", "higher", "prompt", _DECODE, _BURSTS),
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
        figures: criterion → figure of each model, with its interval over prompts; none where it is measured once.
        drawn: criterion → its figures by `[draw, model]`, nan where there is none, the same prompts in every
            criterion's draw; draw 0 is the prompts as they are.
        measure: whose grades are the quality.
        grades: each kind of rater that graded answers of the run → mean grade from 1 to 5 of each model.
    """

    rows: tuple[Row, ...]
    figures: Mapping[str, Sequence[Estimate]]
    drawn: Mapping[str, np.ndarray]
    measure: Kind
    remarks: tuple[str, ...] = ()
    grades: Mapping[Kind, Sequence[Estimate]] = field(default_factory=dict)

    def values(self, name: str) -> np.ndarray:
        """A criterion's figures by `[model]`; nan where there is none."""
        return np.asarray(self.drawn[name][0])


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
    graded, remarks = _graded(run, rows, tuple(scores))
    measure = decisive_measure(graded)
    count, figures, drawn = len(run.prompts), {}, {}
    nothing, picked = np.full((count, len(rows)), np.nan), np.vstack([range(count), comparison.draws(count, 20)])
    for name, which in CRITERIA.items():
        table = graded.get(measure, nothing)[:, None] if which.per == "answer" else _measured(which, run, rows)
        figures[name], drawn[name] = _figures(which.quantile, table, picked)
        if which.per == "model":
            figures[name] = [replace(each, low=None, high=None) for each in figures[name]]
    remarks += [
        f"Grades by {kind} do not cover every model on {comparison.FEWEST_PROMPTS} prompts yet: they are not used."
        for kind in PREFERRED[: PREFERRED.index(measure)]
        if kind in graded
    ]
    for name, verb in (("quality", "graded"), ("latency", "timed")):
        counts = sorted({each.n for each in figures[name]})
        if len(counts) > 1:
            prompts = f"{counts[0]} to {counts[-1]} prompts"
            remarks.append(f"Models were {verb} on {prompts}: their figures rest on different questions.")
    grades = {kind: _figures(None, table[:, None], picked)[0] for kind, table in graded.items()}
    return Evidence(rows, figures, drawn, measure, tuple(remarks), grades)


def _graded(run: Run, rows: Sequence[Row], scores: Sequence[Score]) -> tuple[dict[Kind, np.ndarray], list[str]]:
    """Grades by `[prompt, model]` for each kind of rater that graded an answer of this run, and what was left out.

    Grades of other rubrics than the latest one's mean other things. The aspects count as 1 + 4 x share, unrounded.
    """
    grades = [score for score in scores if score.is_grade]
    version = max(grades, key=lambda score: score.scored_at).rubric_version if grades else ""
    used, given = [score for score in grades if score.rubric_version == version], dict[Kind, dict[AnswerKey, Any]]()
    for rater, mine in agreement.ratings(used).items():
        for (_, prompt_id, hashed), grade in mine.items():
            given.setdefault(kind_of(rater), {}).setdefault((prompt_id, hashed), []).append(grade)
    answers = distinct_answers(run)
    shares = {answer.key: score_aspects(answer.text, answer.prompt).credit for answer in answers}
    given["aspects"] = {answer: [1 + 4 * share] for answer, share in shares.items() if share is not None}
    column = {key(row): place for place, row in enumerate(rows)}
    line = {prompt.id: place for place, prompt in enumerate(run.prompts)}
    tables: dict[Kind, np.ndarray] = {}
    for kind, values in given.items():
        table = np.full((len(line), len(rows)), np.nan)
        for answer in (each for each in answers if each.key in values):
            authors = [column[author] for author in map(key, answer.authors) if author in column]
            table[line[answer.prompt.id], authors] = fmean(values[answer.key])
        if np.isfinite(table).any():
            tables[kind] = table
    left = len(grades) - len(used)
    return tables, [f"{left} scores under another rubric than {version} are left out."] if left else []


def decisive_measure(graded: Mapping[Kind, np.ndarray]) -> Kind:
    """Whose grades decide: the first of `PREFERRED` that graded every model well enough.

    Well enough is on `comparison.FEWEST_PROMPTS` prompts, or all where a run has fewer: a person who has graded two
    answers does not exclude models that others have graded. Where nobody covers every model, the first that graded
    anything decides.
    """
    anyone = [kind for kind in PREFERRED if kind in graded]
    counts = {kind: np.isfinite(graded[kind]).sum(axis=0).min() for kind in anyone}
    enough = [kind for kind in anyone if counts[kind] >= min(comparison.FEWEST_PROMPTS, len(graded[kind]))]
    return [*enough, *anyone, PREFERRED[-1]][0]


def _measured(which: Criterion, run: Run, rows: Sequence[Row]) -> np.ndarray:
    """A criterion's values by `[prompt, request, model]`; nan where one is unknown."""
    if which.per == "model":
        return np.tile(np.array([which.measure(row) for row in rows], dtype=float), (len(run.prompts), 1, 1))
    prompts = {prompt.id: place for place, prompt in enumerate(run.prompts)}
    models = {key(row): place for place, row in enumerate(rows)}
    table = np.full((len(prompts), max(each.round for each in run.completions), len(models)), np.nan)
    for each in run.completions:
        model, value = models.get(key(each)), which.measure(each)
        if each.round and model is not None and value is not None:
            table[prompts[each.prompt_id], each.round - 1, model] = value
    return _middle(table, 0.5)[:, None] if which.per == "prompt" else table


def _figures(quantile: float | None, table: np.ndarray, picked: np.ndarray) -> tuple[list[Estimate], np.ndarray]:
    """Each model's figure over a table by `[prompt, request, model]`, and those of every draw by `[draw, model]`."""
    parts = (table[part] for part in np.array_split(picked, 20))  # parts that fit into memory
    drawn = np.concatenate([_middle(part.reshape(len(part), -1, part.shape[-1]), quantile) for part in parts])
    counts = np.isfinite(table).any(axis=1).sum(axis=0).tolist()
    found = zip(counts, drawn[0].tolist(), drawn[1:].T, strict=True)
    return [comparison.estimate(value if n else None, n, draws) for n, value, draws in found], drawn


def _middle(table: np.ndarray, quantile: float | None) -> np.ndarray:
    """A quantile, or the mean, over the second axis of what is known; nan where nothing is known."""
    if quantile is None:
        return np.asarray(np.ma.masked_invalid(table).mean(axis=1).filled(np.nan))
    from scipy import stats  # half a second, where there is something to draw

    return np.asarray(stats.quantile(table, quantile, axis=1, nan_policy="omit"))


def front(known: Evidence) -> list[tuple[bool, float | None]]:
    """Of each model: is no other at least as fast and as good, and better in one of both; and in what share of draws.

    The share is None where fewer than `comparison.FEWEST_PROMPTS` prompts were graded; nothing unknown is on the front.
    """
    latency, quality = known.drawn["latency"], known.drawn["quality"]
    fast, slow, good, poor = latency[:, :, None], latency[:, None], quality[:, :, None], quality[:, None]
    beaten = ((fast <= slow) & (good >= poor) & ((fast < slow) | (good > poor))).any(axis=1)
    kept = ~beaten & np.isfinite(latency) & np.isfinite(quality)
    shares = kept[1:].sum(axis=0) / np.maximum(np.isfinite(quality[1:]).sum(axis=0), 1)
    enough = [each.n >= comparison.FEWEST_PROMPTS for each in known.figures["quality"]]
    return [(bool(kept[0, at]), float(shares[at]) if known_ else None) for at, known_ in enumerate(enough)]


# -- deciding


@dataclass(frozen=True, slots=True)
class Ranked:
    """One model in the order, at `place` of `evidence.rows`: 1 is the first rank, and equal scores share one.

    It is weighted steps `behind` the first. `best_share` says in what share of the draws of prompts it comes first;
    None where there are too few to say.
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
        steps: of the criteria that count, by `[model, criterion]`.
        excluded: position in `evidence.rows` → broken limit, or criterion that was not measured → reason in words.
        prompts: how many prompts the draws rest on: the fewest of any figure that counts and varies; else 0.
    """

    evidence: Evidence
    weights: Mapping[str, float]
    limits: Mapping[str, float]
    floors: Mapping[str, float]
    licences: str
    steps: np.ndarray
    ranked: tuple[Ranked, ...]
    excluded: Mapping[int, Mapping[str, str]]
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
            return "few" if self.prompts else "once"
        if first.best_share < enough:
            return "unsure"
        timed = sum(self.share(name) for name in self.weights if CRITERIA[name].per in ("prompt", "request"))
        if self.ranked[1].behind < timed * math.log2(1 + SAME_RUN):
            return "slight"
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
    known = evidence if isinstance(evidence, Evidence) else gather_evidence(evidence, scores)
    if limits is None:
        limits = {name: BOUNDS[name] for name in BOUNDS if np.isfinite(known.values(LIMITS[name].name)).any()}
    asked, bounds = check_weights(**(weights or WEIGHTS)), check_limits(**limits)
    lowest = check_floors(**(FLOORS if floors is None else floors))
    steps = np.stack([CRITERIA[name].steps(known.drawn[name], lowest.get(name, 0.0)) for name in asked], axis=-1)
    has = np.isfinite(steps[0])
    counted = {name: asked[name] for name, some in zip(asked, has.any(axis=0), strict=True) if some}
    steps, has = steps[..., has.any(axis=0)], has[:, has.any(axis=0)]
    missing = [CRITERIA[name].label for name in asked if name not in counted]
    if not counted:
        what = f"Nothing that has a weight was measured: {', '.join(missing)}."
        raise ConfigurationError(what, "Give a weight to something that was measured.")
    excluded: dict[int, dict[str, str]] = {}
    for place, measured in enumerate(has):
        unknown = (name for name, is_known in zip(counted, measured, strict=True) if not is_known)
        broken = {name: f"{CRITERIA[name].label} was not measured" for name in unknown}
        if broken := _broken(known, bounds, licences, place) | broken:
            excluded[place] = broken
    keep = [place for place in range(len(known.rows)) if place not in excluded]
    remarks = [
        *known.remarks,
        *(f"Not counted, because no model has a figure: {label}." for label in missing),
        *_doubts(known.rows, {*counted, *(LIMITS[name].name for name in bounds)}),
        *_good_enough(known, counted, lowest, keep),
    ]
    varying = [known.figures[name][place].n for name in counted for place in keep if CRITERIA[name].per != "model"]
    prompts = min(varying, default=0)
    ranked = _rank(known.rows, steps[:, keep] @ _shares(counted), keep, sure=prompts >= FEWEST_CLEAR)
    return Decision(known, counted, bounds, lowest, licences, steps[0], ranked, excluded, prompts, tuple(remarks))


def _shares(weights: Mapping[str, float]) -> np.ndarray:
    return np.array(list(weights.values())) / sum(weights.values())


def _good_enough(
    known: Evidence, names: Iterable[str], floors: Mapping[str, float], keep: Sequence[int]
) -> Iterator[str]:
    """For each criterion that counts and has a floor, how many models are beyond it."""
    for which in (CRITERIA[name] for name in names if name in floors):
        values, floor = known.values(which.name)[list(keep)], floors[which.name]
        if reached := int(((values <= floor) if which.better == "lower" else (values >= floor)).sum()):
            said = f"{which.label.capitalize()} of {reached} of {len(keep)} models is {which.say(floor)} or better"
            yield f"{said}: that is good enough, and an even better value gains nothing."


def _doubts(rows: Sequence[Row], concerned: Iterable[str]) -> list[str]:
    """The warnings that cast doubt on a criterion with a weight or a limit."""
    return [
        f"{which.label.capitalize()} of {shaken} of {len(rows)} models, warning {code}: {summary.WARNINGS[code]}"
        for which in _ROWS
        for code in which.shaken_by
        if which.name in concerned and (shaken := sum(code in row.warnings for row in rows))
    ]


def _broken(known: Evidence, limits: Mapping[str, float], licences: str, place: int) -> dict[str, str]:
    """The limits that a model breaks, each with the value seen."""
    broken = {}
    for name, bound in limits.items():
        which, value = LIMITS[name], known.figures[LIMITS[name].name][place].value
        if value is None or (value < bound if which.better == "higher" else value > bound):
            seen = "was not measured" if value is None else which.say(value)
            broken[name] = f"{which.label} {seen}, the limit is {which.say(bound)}"
    licence, allowed = known.rows[place].licence, [name.strip().casefold() for name in licences.split(",")]
    if any(allowed) and (licence or "").casefold() not in filter(None, allowed):
        broken["licences"] = f"licence {licence or 'unknown'}, allowed: {licences}"
    return broken


def _rank(rows: Sequence[Row], scores: np.ndarray, keep: Sequence[int], *, sure: bool) -> tuple[Ranked, ...]:
    """The models at `keep` in the order of their scores by `[draw, model]`, draw 0 as it was measured.

    Without `sure` it is not said in how many draws each comes first.
    """
    scores = np.round(scores, DECIMALS)
    own, drawn = scores[0], scores[1:][np.isfinite(scores[1:]).all(axis=1)]
    best = drawn == drawn.max(axis=1, keepdims=True, initial=-np.inf)
    shares = (best / best.sum(axis=1, keepdims=True)).sum(axis=0) / max(len(drawn), 1)  # who is equal shares a draw
    ranked = []
    for at, place in enumerate(keep):
        rank, behind = 1 + int((own > own[at]).sum()), float(own.max() - own[at])
        ranked.append(Ranked(place, rows[place], rank, behind, float(shares[at]) if sure else None))
    return tuple(sorted(ranked, key=lambda each: each.rank))


def sweep(decision: Decision) -> dict[str, list[tuple[int, int, int]]]:
    """Weight sensitivity: which model leads as one criterion's share of all weights goes from 0 to 100 %.

    The others keep their proportions; where models are equal, the first in the order leads.

    Returns:
        Criterion → (from per cent, to per cent, position in `evidence.rows`) in order, from 101 points.
    """
    keep, own, found = [each.place for each in decision.ranked], _shares(decision.weights), {}
    if not keep:
        return {name: [] for name in decision.weights}
    table, share = decision.steps[keep], np.linspace(0, 1, 101)[:, None]
    for at, name in enumerate(decision.weights):
        others = np.delete(own, at)
        rest = np.delete(table, at, axis=1) @ (others / (others.sum() or 1.0))
        leaders = np.round((1 - share) * rest + share * table[:, at], DECIMALS).argmax(axis=1)
        parts = [(keep[leader], list(part)) for leader, part in groupby(range(101), key=leaders.__getitem__)]
        found[name] = [(part[0], part[-1], place) for place, part in parts]
    return found


def percent(share: float) -> str:
    """A share of draws; never 0 % or 100 % where it is not."""
    if 0 < share < 0.005:
        return "under 1 %"
    return "over 99 %" if 0.995 <= share < 1 else f"{100 * share:.0f} %"
