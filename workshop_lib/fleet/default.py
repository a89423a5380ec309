"""What to know of the machines of a fleet, and which model is the best default for all of them.

Machines are never pooled, and their clocks are never compared: only durations are. A model's latency on one machine is
the median over prompts of a prompt's median; the *worst case* is the slowest machine's, the *typical* one the median
over machines. Among the models that keep the limits the best answers win, and between equal answers the shorter latency
does. How sure that is, is found by drawing machines and prompts anew, both at once, because all machines answered the
same prompts (pigeonhole bootstrap; Owen 2007, Annals of Applied Statistics 1). Knows no files and no figures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import median
from typing import Any, Literal

import numpy as np

from workshop_lib import comparison, timing
from workshop_lib.choice.decide import FEWEST_CLEAR, clear_from, percent
from workshop_lib.comparison import Estimate
from workshop_lib.errors import ConfigurationError
from workshop_lib.fleet.plan import Fleet
from workshop_lib.fleet.worker import DECISIVE
from workshop_lib.quality.annotation import model_name
from workshop_lib.quality.aspects import score_aspects
from workshop_lib.records import Completion, ModelVariant, Prompt, Run, variant_key
from workshop_lib.show.text import one_line

Key = tuple[str, str]
"""Model id and device."""

Samples = dict[Key, dict[str, list[float]]]
"""What was measured for each model and prompt."""

View = Literal["worst", "typical"]
VIEWS: dict[View, str] = {"worst": "On the slowest machine", "typical": "On a typical machine"}
Sure = Literal["clear", "likely", "undecided", "only one"]
LIKELY = 0.8
"""From this share of the draws on, a default is called likely, and clear from that of `clear_from`; else undecided."""

FEW_MACHINES = 5


def variants_of(fleet: Fleet) -> dict[Key, ModelVariant]:
    """Every model that any machine was asked to measure, in the order of their names."""
    found = {variant_key(share.variant): share.variant for share in fleet.shares}
    return dict(sorted(found.items(), key=lambda item: (item[1].alias, item[0])))


def remarks(fleet: Fleet) -> list[str]:
    """What a reader must know of the machines before comparing them."""
    said = [f"{each.label} takes no part. {each.refused}" for each in fleet.machines if each.refused]
    said += differences({each.label: each.fingerprint for each in fleet.measured})
    computers = _groups({each.label: each.host for each in fleet.measured}).values()
    alike = "are one computer: what differs between them is what repeating makes."
    said += [f"{' and '.join(labels)} {alike}" for labels in computers if len(labels) > 1]
    broken = sum(share.status not in ("done", "open") for share in fleet.shares)
    return [*said, f"{broken} of {len(fleet.shares)} shares are not complete."] if broken else said


def differences(machines: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """How machines differ in what changes a measurement, by their fingerprints."""
    said, facts = [], {}
    for label, known in machines.items():
        versions = known.get("versions")
        facts[one_line(label, 30)] = {**known, **(versions if isinstance(versions, dict) else {})}
    for name in ("python", "power_source", "thread_variables", "usable_processors", *DECISIVE):
        groups = _groups({label: one_line(str(known.get(name) or "none"), 60) for label, known in facts.items()})
        if len(groups) > 1:
            listed = "; ".join(f"{text}: {few(labels)}" for text, labels in groups.items())
            said.append(f"Different {name.replace('_', ' ')} ({listed}).")
    return said


def _groups(values: Mapping[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for label, value in values.items():
        found.setdefault(value, []).append(label)
    return found


def few(labels: Sequence[str], most: int = 4) -> str:
    """Labels in a sentence; a long list is cut.

    >>> few(["a", "b", "c", "d", "e"]), few(["a", "b"])
    ('a, b, c and 2 more', 'a, b')
    """
    more = len(labels) - most + 1
    return ", ".join(labels) if more < 2 else f"{', '.join(labels[: most - 1])} and {more} more"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a default must keep: longest latency in seconds, and least share of expected aspects mentioned."""

    max_latency_s: float | None = None
    min_quality: float = 0.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """One model that every machine measured.

    Attributes:
        variant: which model.
        latency_s: seconds, on the worst and on the typical machine.
        slowest: label of the machine that is the worst case.
        quality: share of expected aspects mentioned, mean over prompts, all machines' answers alike; 0 to 1.
        breaks: which limit it breaks, for each view; None where it keeps them.
        wins: share of the draws in which it is the default, for each view.
    """

    variant: ModelVariant
    latency_s: Mapping[View, Estimate]
    slowest: str
    quality: Estimate
    breaks: Mapping[View, str | None]
    wins: Mapping[View, float]


@dataclass(frozen=True, slots=True)
class Choice:
    """The candidates of a fleet and the default for each view; None where no model keeps the limits.

    `computers` counts two workers on one computer once, however often they are drawn. `incomplete` holds the models
    that some machine did not measure completely: they cannot be the default of them all.
    """

    candidates: tuple[Candidate, ...]
    best: Mapping[View, Candidate | None]
    computers: int
    prompts: int
    incomplete: Mapping[Key, list[str]]

    def sure(self, view: View) -> Sure:
        """How sure the default is; nothing is clear from one computer alone, or from few prompts."""
        best = self.best[view]
        if len(self.candidates) == 1:
            return "only one"
        share = best.wins[view] if best else 0.0
        enough = clear_from(self.prompts) if self.computers > 1 else None
        return "clear" if enough is not None and share >= enough else "likely" if share >= LIKELY else "undecided"


def choose(fleet: Fleet, limits: Limits | None = None, *, seed: int = 20) -> Choice:
    """Choose the best default for the fleet, on its worst and on its typical machine.

    Raises `ConfigurationError` where no model was measured on every machine.
    """
    limits, variants, runs = limits or Limits(), variants_of(fleet), [*fleet.runs.values()]
    times = {label: _by_prompt(run, timing.latency_s) for label, run in fleet.runs.items()}
    prompts = fleet.plan.prompts
    lacking = {key: [label for label in times if len(times[label].get(key, ())) < len(prompts)] for key in variants}
    keys = [key for key in variants if not lacking[key]]
    if not keys or not runs:
        what = "No model was measured on every machine of the fleet."
        raise ConfigurationError(what, "Complete the results by running it again with the same folder.")
    draws, machines = _drawn(len(prompts), seed), _drawn(len(runs), seed + 1)
    by_machine = np.stack([np.median(_table(each, prompts, keys)[draws], axis=1) for each in times.values()], axis=1)
    drawn = np.take_along_axis(by_machine, machines[:, :, None], axis=1)
    latency: dict[View, np.ndarray] = {"worst": drawn.max(axis=1), "typical": np.median(drawn, axis=1)}
    asked = {prompt.id: prompt for prompt in prompts}
    grades = [_by_prompt(run, lambda each: _grade(each.text, asked[each.prompt_id])) for run in runs]
    graded = np.stack([_table(each, prompts, keys) for each in grades])
    quality = _mean(_mean(graded, axis=0)[draws], axis=1)
    first = {view: _firsts(latency[view], quality, limits) for view in VIEWS}
    candidates = []
    for place, key in enumerate(keys):
        good = _estimate(quality[:, place], len(prompts))
        waits = {view: _estimate(latency[view][:, place], len(prompts)) for view in VIEWS}
        slowest = [*times][int(by_machine[0, :, place].argmax())]
        breaks = {view: _broken(waits[view], good, limits) for view in VIEWS}
        wins = {view: float(first[view][1:, place].mean()) for view in VIEWS}
        candidates.append(Candidate(variants[key], waits, slowest, good, breaks, wins))
    return Choice(
        tuple(candidates),
        {view: candidates[int(now.argmax())] if (now := first[view][0]).any() else None for view in VIEWS},
        computers=len({machine.host for machine in fleet.measured}),
        prompts=len(prompts),
        incomplete={key: labels for key, labels in lacking.items() if labels},
    )


def _by_prompt(run: Run, measure: Callable[[Completion], float | None]) -> Samples:
    """What a measure gave: one value per answered timed request."""
    found: Samples = {}
    for each in run.completions:
        value = measure(each) if each.ok and each.round > 0 else None
        if value is not None:
            found.setdefault((each.model_id, each.device), {}).setdefault(each.prompt_id, []).append(value)
    return found


@lru_cache(maxsize=4096)
def _grade(answer: str, prompt: Prompt) -> float | None:
    """What an answer mentions; at temperature 0 machines and rounds say the same, and reading it takes 6 ms."""
    found = score_aspects(answer, prompt)
    return 0.0 if found.forbidden_found else found.share


def _drawn(count: int, seed: int) -> np.ndarray:
    """All positions as they are in row 0, then draws of them."""
    return np.vstack([np.arange(count), comparison.draws(count, seed)])


def _table(found: Samples, prompts: Sequence[Prompt], keys: Sequence[Key]) -> np.ndarray:
    """The median of each prompt's rounds by `[prompt, model]`; nan where there is none."""
    nothing = [float("nan")]
    return np.array([[median(found.get(key, {}).get(each.id, nothing)) for key in keys] for each in prompts])


def _mean(values: np.ndarray, axis: int) -> np.ndarray:
    """The mean of what is known; nan where nothing is."""
    means: np.ndarray = np.ma.masked_invalid(values).mean(axis=axis).filled(np.nan)
    return means


def _firsts(latency: np.ndarray, quality: np.ndarray, limits: Limits) -> np.ndarray:
    """By `[draw, model]`, 1 for the default; equal ones share it, and nobody has it where none keeps the limits."""
    grade = np.round(np.nan_to_num(quality), 9)
    kept = (grade >= limits.min_quality) & (latency <= (limits.max_latency_s or np.inf))
    grade = np.where(kept, grade, -1.0)
    waits = np.where(kept & (grade == grade.max(axis=1, keepdims=True)), latency, np.inf)
    first = np.isfinite(waits) & (waits == waits.min(axis=1, keepdims=True))
    shares: np.ndarray = first / np.maximum(first.sum(axis=1, keepdims=True), 1)
    return shares


def _estimate(values: np.ndarray, prompts: int) -> Estimate:
    """A figure with its interval; the first value is what was measured, the others are drawn; nan is unknown."""
    first = float(values[0]) if np.isfinite(values[0]) else None
    return comparison.estimate(first, prompts, values[1:], "No prompt names expected aspects.")


def _broken(latency: Estimate, quality: Estimate, limits: Limits) -> str | None:
    waits_s, grade = latency.value or 0.0, quality.value or 0.0
    if limits.max_latency_s is not None and waits_s > limits.max_latency_s:
        return f"{1000 * waits_s:.0f} ms are more than {1000 * limits.max_latency_s:.0f} ms"
    return f"quality {grade:.2f} is less than {limits.min_quality:.2f}" if grade < limits.min_quality else None


def describe(choice: Choice) -> list[str]:
    """The default for the fleet in sentences that say how sure it is."""
    said = [_sentence(choice, view) for view in VIEWS]
    if choice.computers < FEW_MACHINES:
        count = "One machine is" if choice.computers == 1 else f"{choice.computers} machines are"
        said.append(f"{count} few: drawing them again says little about machines that are not in the fleet.")
    if clear_from(choice.prompts) is None:
        said.append(f"{choice.prompts} prompts are few: it takes {FEWEST_CLEAR} to call a default clear.")
    for key, labels in choice.incomplete.items():
        said.append(f"{key[0]} cannot be the default of all: it was not measured on {few(labels)}.")
    return said


def _sentence(choice: Choice, view: View) -> str:
    best, sure = choice.best[view], choice.sure(view)
    if best is None:
        return f"{VIEWS[view]} no model keeps the limits: loosen one, or offer other models."
    where = f"{VIEWS[view]} ({best.slowest})" if view == "worst" else VIEWS[view]
    latency = best.latency_s[view]
    waits = f"{1000 * (latency.value or 0.0):.0f} ms"
    if latency.low is not None and latency.high is not None:
        waits += f" (95 % CI {1000 * latency.low:.0f}-{1000 * latency.high:.0f})"
    others = sorted((each for each in choice.candidates if each is not best), key=lambda each: -each.wins[view])
    rival = (
        f", {model_name(others[0].variant)} in {percent(others[0].wins[view])}"
        if others and others[0].wins[view]
        else ""
    )
    draws = f"{percent(best.wins[view])} of {comparison.RESAMPLES:,} draws of machines and prompts"
    how = f"This is {sure}: it came first in {draws}{rival}."
    if sure == "only one":
        how = "This is the only model that every machine measured, so nothing was compared."
    return f"{where} the best default is {model_name(best.variant)}: a median answer takes {waits}. {how}"
