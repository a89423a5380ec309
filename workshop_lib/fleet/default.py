"""What to know of the machines of a fleet, and which model is the best default for all of them; as tables, too.

Machines are never pooled, and their clocks are never compared: only durations are. A model's latency on one machine is
the median over prompts of a prompt's median; the *worst case* is the slowest machine's, the *typical* one the median
over machines. Among the models that keep the limit the best answers win, and between equal answers the shorter latency
does. How sure that is, is found by drawing machines and prompts anew, both at once, because all machines answered the
same prompts (pigeonhole bootstrap; Owen 2007, Annals of Applied Statistics 1).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
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
from workshop_lib.quality.annotation import model_name
from workshop_lib.quality.aspects import score_aspects
from workshop_lib.quality.show import ranged
from workshop_lib.records import Completion, Key, ModelVariant, Prompt, key
from workshop_lib.show.table import Table
from workshop_lib.show.text import one_line

View = Literal["worst", "typical"]
VIEWS: dict[View, str] = {"worst": "On the slowest machine", "typical": "On a typical machine"}
LIKELY = 0.8
"""From this share of the draws on, a default is called likely, and clear from that of `clear_from`; else undecided."""

FEW_MACHINES = 5
DECISIVE = ("workshop", "foundry-local-sdk", "onnxruntime", "onnxruntime-genai-core")
"""Packages whose other versions are worth a remark: they are what is measured, or measure it."""


# -- the machines


def shares(fleet: Fleet) -> Table:
    """One line per share, and per model that a machine lacks; `starts` above 1: its machine had to begin again."""
    lines: list[tuple[object, ...]] = [
        (each.machine, model_name(each.variant), each.status, each.starts, one_line(each.reason))
        for each in fleet.shares
    ]
    lines += [
        (label, f"{each.variant.alias} · {each.variant.device}", "not offered", 0, one_line(each.error or ""))
        for label, run in fleet.runs.items()
        for each in run.servings
        if each.status == "skipped"
    ]
    return Table.of(lines, "machine", "model", "status", "starts", "reason")


def remarks(fleet: Fleet) -> list[str]:
    """What a reader must know of the machines before comparing them."""
    said = [f"{label} takes no part. {why}" for label, why in fleet.refused.items()]
    said += differences({label: run.machine for label, run in fleet.runs.items()})
    broken, everything = sum(each.status not in ("done", "open") for each in fleet.shares), len(fleet.shares)
    return [*said, f"{broken} of {everything} shares are not complete."] if broken else said


def differences(machines: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """How machines differ in what changes a measurement, by their fingerprints."""
    said, facts = [], {}
    for label, known in machines.items():
        versions = known.get("versions")
        facts[one_line(label, 30)] = {**known, **(versions if isinstance(versions, dict) else {})}
    for name in ("python", "power_source", "thread_variables", "usable_processors", *DECISIVE):
        groups = defaultdict(list)
        for label, known in facts.items():
            groups[one_line(str(known.get(name) or "none"), 60)].append(label)
        if len(groups) > 1:
            listed = "; ".join(f"{text}: {_listed(labels)}" for text, labels in groups.items())
            said.append(f"Machines differ in {name.replace('_', ' ')} ({listed}).")
    return said


def _listed(labels: Iterable[str]) -> str:
    return one_line(", ".join(labels), 100)


# -- the default


@dataclass(frozen=True, slots=True)
class Candidate:
    """One model that every machine measured.

    Attributes:
        variant: which model.
        quality: share of expected aspects mentioned, mean over prompts, all machines' answers alike; 0 to 1.
        slowest: label of the machine that is the worst case.
        latency_s: seconds, on the worst and on the typical machine.
        keeps: whether it keeps the limit there.
        wins: share of the draws in which it is the default there.
    """

    variant: ModelVariant
    quality: Estimate
    slowest: str
    latency_s: Mapping[View, Estimate]
    keeps: Mapping[View, bool]
    wins: Mapping[View, float]


@dataclass(frozen=True, slots=True)
class Choice:
    """The candidates of a fleet, the likeliest for the worst machine first, and the default for each view, if any.

    `incomplete` holds the models that some machine did not measure completely, with these machines: they cannot be the
    default of them all.
    """

    candidates: tuple[Candidate, ...]
    best: Mapping[View, Candidate | None]
    machines: int
    prompts: int
    incomplete: Mapping[Key, list[str]]

    def sure(self, view: View) -> Literal["clear", "likely", "undecided"]:
        """How sure the default is; nothing is clear from one machine alone, or from few prompts."""
        best = self.best[view]
        share = best.wins[view] if best else 0.0
        enough = clear_from(self.prompts) if self.machines > 1 else None
        return "clear" if enough is not None and share >= enough else "likely" if share >= LIKELY else "undecided"


def choose(fleet: Fleet, *, max_latency_s: float | None = None, seed: int = 20) -> Choice:
    """Choose the best default for the fleet, on its worst and on its typical machine.

    `max_latency_s` is the longest median latency that a default may have. Raises `ConfigurationError` where no model
    was measured on every machine.
    """
    prompts, limit_s = fleet.plan.prompts, max_latency_s or np.inf
    labels = [label for label, run in fleet.runs.items() if run.completions]
    known = {key(each): each for models in fleet.models.values() for each in models}
    variants = sorted(known.values(), key=lambda each: (each.alias, key(each)))
    times = _medians(fleet, labels, variants, timing.latency_s)
    lacks = np.isnan(times).any(axis=2)
    places = [place for place in range(len(variants)) if labels and not lacks[:, place].any()]
    if not places:
        what = "No model was measured on every machine of the fleet."
        raise ConfigurationError(what, "Complete the results by running it again with the same folder.")
    draws, machines = _drawn(len(prompts), seed), _drawn(len(labels), seed + 1)
    by_machine = np.median(times[:, places][:, :, draws], axis=-1).transpose(2, 0, 1)
    drawn = np.take_along_axis(by_machine, machines[:, :, None], axis=1)
    waits: dict[View, np.ndarray] = {"worst": drawn.max(axis=1), "typical": np.median(drawn, axis=1)}
    asked = {prompt.id: prompt for prompt in prompts}
    graded = _medians(fleet, labels, variants, lambda each: _grade(each.text, asked[each.prompt_id]))[:, places]
    quality = _mean(_mean(graded, axis=0)[:, draws], axis=-1).T
    first = {view: _firsts(waits[view], quality, limit_s) for view in VIEWS}
    candidates = tuple(
        Candidate(
            variants[place],
            _estimate(quality[:, column], len(prompts)),
            labels[int(by_machine[0, :, column].argmax())],
            {view: _estimate(waits[view][:, column], len(prompts)) for view in VIEWS},
            {view: bool(waits[view][0, column] <= limit_s) for view in VIEWS},
            {view: float(first[view][1:, column].mean()) for view in VIEWS},
        )
        for column, place in enumerate(places)
    )
    without = {key(each): [labels[at] for at in np.flatnonzero(lacks[:, n])] for n, each in enumerate(variants)}
    return Choice(
        tuple(sorted(candidates, key=lambda each: (-each.wins["worst"], each.latency_s["worst"].value or 0.0))),
        {view: candidates[int(now.argmax())] if (now := first[view][0]).any() else None for view in VIEWS},
        machines=len(labels),
        prompts=len(prompts),
        incomplete={which: machines for which, machines in without.items() if machines},
    )


def _medians(
    fleet: Fleet, labels: list[str], variants: list[ModelVariant], measure: Callable[[Completion], float | None]
) -> np.ndarray:
    """The median of each prompt's timed answers by `[machine, model, prompt]`; nan where there is none."""
    found = defaultdict(list)
    for label in labels:
        for each in fleet.runs[label].completions:
            value = measure(each) if each.ok and each.round > 0 else None
            if value is not None:
                found[label, key(each), each.prompt_id].append(value)
    medians = np.full((len(labels), len(variants), len(fleet.plan.prompts)), np.nan)
    for place in np.ndindex(medians.shape):
        machine, model, prompt = place
        if values := found.get((labels[machine], key(variants[model]), fleet.plan.prompts[prompt].id)):
            medians[place] = median(values)
    return medians


@lru_cache(maxsize=4096)
def _grade(answer: str, prompt: Prompt) -> float | None:
    """What an answer mentions; at temperature 0 machines and rounds say the same, and reading it takes 6 ms."""
    found = score_aspects(answer, prompt)
    return 0.0 if found.forbidden_found else found.share


def _drawn(count: int, seed: int) -> np.ndarray:
    """All positions as they are in row 0, then draws of them."""
    return np.vstack([np.arange(count), comparison.draws(count, seed)])


def _mean(values: np.ndarray, axis: int) -> np.ndarray:
    """The mean of what is known; nan where nothing is."""
    means: np.ndarray = np.ma.masked_invalid(values).mean(axis=axis).filled(np.nan)
    return means


def _firsts(waits: np.ndarray, quality: np.ndarray, limit_s: float) -> np.ndarray:
    """By `[draw, model]`, 1 for the default; equal ones share it, and nobody has it where none keeps the limit."""
    kept = waits <= limit_s
    grade = np.where(kept, np.round(np.nan_to_num(quality), 9), -1.0)
    best_s = np.where(kept & (grade == grade.max(axis=1, keepdims=True)), waits, np.inf)
    first = np.isfinite(best_s) & (best_s == best_s.min(axis=1, keepdims=True))
    shares: np.ndarray = first / np.maximum(first.sum(axis=1, keepdims=True), 1)
    return shares


def _estimate(values: np.ndarray, prompts: int) -> Estimate:
    """A figure with its interval; the first value is what was measured, the others are drawn; nan is unknown."""
    first = float(values[0]) if np.isfinite(values[0]) else None
    return comparison.estimate(first, prompts, values[1:], "No prompt names expected aspects.")


def table(choice: Choice) -> Table:
    """One line per model that every machine measured, the likeliest default for the worst machine first."""
    lines = [
        {
            "model": model_name(each.variant),
            "aspects (%)": ranged(each.quality, 0, factor=100),
            "slowest machine (ms)": ranged(each.latency_s["worst"], 0, factor=1000),
            "which is": each.slowest,
            "default on the slowest in": f"{percent(each.wins['worst'])} of draws",
            "typical machine (ms)": ranged(each.latency_s["typical"], 0, factor=1000),
            "default on the typical in": f"{percent(each.wins['typical'])} of draws",
            "breaks a limit": "no" if each.keeps["worst"] else "yes",
        }
        for each in choice.candidates
    ]
    return Table(lines)


def describe(choice: Choice) -> list[str]:
    """The default for the fleet in sentences that say how sure it is."""
    said = [_sentence(choice, view) for view in VIEWS]
    if choice.machines < FEW_MACHINES:
        count = "One machine is" if choice.machines == 1 else f"{choice.machines} machines are"
        said.append(f"{count} too few: random draws say little about machines that are not in the fleet.")
    if clear_from(choice.prompts) is None:
        said.append(f"{choice.prompts} prompts are few: it takes {FEWEST_CLEAR} to call a default clear.")
    for which, labels in choice.incomplete.items():
        said.append(f"{which[0]} cannot be the default of all: it was not measured on {_listed(labels)}.")
    return said


def _sentence(choice: Choice, view: View) -> str:
    best = choice.best[view]
    if best is None:
        return f"{VIEWS[view]} no model keeps the limit: loosen it, or offer other models."
    where = f"{VIEWS[view]} ({best.slowest})" if view == "worst" else VIEWS[view]
    latency = best.latency_s[view]
    said = f"{where} the best default is {model_name(best.variant)}: a median answer takes"
    said += f" {1000 * (latency.value or 0.0):.0f} ms"
    if latency.low is not None and latency.high is not None:
        said += f" (95 % CI {1000 * latency.low:.0f}-{1000 * latency.high:.0f})"
    said += "."
    if len(choice.candidates) == 1:
        return f"{said} It is the only model that every machine measured, so nothing was compared."
    others = sorted((each for each in choice.candidates if each is not best), key=lambda each: -each.wins[view])
    share = others[0].wins[view]
    rival = f", {model_name(others[0].variant)} in {percent(share)}" if share else ""
    draws = f"{percent(best.wins[view])} of {comparison.RESAMPLES:,} draws of machines and prompts"
    return f"{said} This is {choice.sure(view)}: it came first in {draws}{rival}."
