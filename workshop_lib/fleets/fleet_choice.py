"""Which model is the best default for a whole room, and how sure is that?

A model's latency on one machine is the median over prompts of a prompt's median. From there on a machine is one number:
the *worst case* is the slowest machine's, the *typical* one is the median over machines. Among the models that keep the
limits the best answers win, and between equal answers the shorter latency does. How sure that is, is found by drawing
machines and prompts anew, both at once, because all machines answered the same prompts (pigeonhole bootstrap; Owen
2007, Annals of Applied Statistics 1). Knows no files and no figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import median
from typing import TYPE_CHECKING, Literal

from workshop_lib.choice.decide import FEWEST_CLEAR, clear_from, percent
from workshop_lib.errors import ConfigurationError
from workshop_lib.fleets.fleet_room import Room
from workshop_lib.fleets.fleet_summaries import Key, Measure, by_prompt, few, lacking, variants_of
from workshop_lib.metrics import resampling, timing
from workshop_lib.metrics.resampling import Estimate
from workshop_lib.records import ModelVariant, Prompt, Run
from workshop_lib.verdicts.scoring import score_aspects

if TYPE_CHECKING:
    import numpy as np

View = Literal["worst", "typical"]
VIEWS: tuple[View, ...] = ("worst", "typical")
LIKELY = 0.8
"""From this share of the draws on, a default is called likely, and clear from that of `clear_from`; else undecided."""

FEW_MACHINES = 5


@dataclass(frozen=True, slots=True)
class Limits:
    """What a default must keep: longest latency in seconds, and least share of expected aspects mentioned."""

    max_latency_s: float | None = None
    min_quality: float = 0.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """One model that every machine measured.

    Attributes:
        key, variant: who it is.
        latency_s: seconds, on the worst and on the typical machine.
        slowest: label of the machine that is the worst case.
        quality: share of expected aspects mentioned, mean over prompts, all machines' answers alike; 0 to 1.
        out: which limit it breaks, for each view; None where it keeps them.
        wins: share of the draws in which it is the default, for each view.
    """

    key: Key
    variant: ModelVariant
    latency_s: Mapping[View, Estimate]
    slowest: str
    quality: Estimate
    out: Mapping[View, str | None]
    wins: Mapping[View, float]


@dataclass(frozen=True, slots=True)
class Choice:
    """The candidates of a room and the default for each view; None where no model keeps the limits.

    `machines` counts computers: two workers on one of them are one, however often they are drawn.
    `incomplete` holds the models that some machine did not measure: they cannot be the default of them all.
    """

    candidates: tuple[Candidate, ...]
    best: Mapping[View, Candidate | None]
    limits: Limits
    machines: int
    prompts: int
    incomplete: Mapping[Key, tuple[str, ...]]


def choose(room: Room, limits: Limits | None = None, *, seed: int = 20) -> Choice:
    """Choose the best default for the room, on its worst and on its typical machine.

    Raises:
        ConfigurationError: no model was measured on every machine.
    """
    limits, known = limits or Limits(), variants_of(room)
    missing = lacking(room)
    keys = [key for key in known if not missing[key]]
    if not keys or not room.measured:
        what = "No model was measured on every machine of the room."
        raise ConfigurationError(what, "Complete the room by running it again with the same folder.")
    figures = _Figures.of((room.runs[machine.label] for machine in room.measured), keys, seed)
    firsts = {view: figures.firsts(view, limits) for view in VIEWS}
    candidates = tuple(
        Candidate(
            key=key,
            variant=known[key],
            latency_s={view: figures.latency(view, place) for view in VIEWS},
            slowest=room.measured[int(figures.here[:, place].argmax())].label,
            quality=figures.quality(place),
            out={view: _broken(figures.latency(view, place), figures.quality(place), limits) for view in VIEWS},
            wins={view: float(firsts[view][1:, place].mean()) for view in VIEWS},
        )
        for place, key in enumerate(keys)
    )
    return Choice(
        candidates,
        {view: candidates[int(now.argmax())] if (now := firsts[view][0]).any() else None for view in VIEWS},
        limits,
        machines=len({machine.host_id or machine.machine_id for machine in room.measured}),
        prompts=figures.prompts,
        incomplete={key: labels for key, labels in missing.items() if labels},
    )


def describe(choice: Choice) -> list[str]:
    """The default for the room in sentences that say how sure it is."""
    said = [_sentence(choice, "worst", "On the slowest machine"), _sentence(choice, "typical", "On a typical machine")]
    if choice.machines < FEW_MACHINES:
        count = "One machine is" if choice.machines == 1 else f"{choice.machines} machines are"
        said.append(f"{count} few: drawing them again says little about machines that are not in the room.")
    if clear_from(choice.prompts) is None:
        said.append(f"{choice.prompts} prompts are few: it takes {FEWEST_CLEAR} to call a default clear.")
    for key, labels in choice.incomplete.items():
        said.append(f"{key[0]} cannot be the default of all: it was not measured on {few(labels)}.")
    return said


@dataclass(frozen=True, slots=True)
class _Figures:
    """Latencies as measured, `here[machine, model]`, and drawn anew; row 0 of what is drawn is what was measured."""

    here: np.ndarray
    latencies: Mapping[View, np.ndarray]
    grades: np.ndarray
    prompts: int

    @classmethod
    def of(cls, runs: Iterable[Run], keys: Sequence[Key], seed: int) -> _Figures:
        import numpy as np

        tables, answers = zip(
            *((_table(run, keys, timing.latency_s), _quality(run, keys)) for run in runs), strict=True
        )
        quality = _mean(np.stack(answers), axis=0)
        prompts, count = len(quality), len(tables)
        drawn = np.vstack([np.arange(prompts), resampling.draws(prompts, seed)])
        chosen = np.vstack([np.arange(count), resampling.draws(count, seed + 1)])
        by_machine = np.stack([np.median(table[drawn], axis=1) for table in tables], axis=1)
        latency = np.take_along_axis(by_machine, chosen[:, :, None], axis=1)
        views: dict[View, np.ndarray] = {"worst": latency.max(axis=1), "typical": np.median(latency, axis=1)}
        return cls(by_machine[0], views, _mean(quality[drawn], axis=1), prompts)

    def latency(self, view: View, place: int) -> Estimate:
        """A model's latency with its interval."""
        values = self.latencies[view][:, place]
        return resampling.estimate(float(values[0]), self.prompts, values[1:])

    def quality(self, place: int) -> Estimate:
        """A model's quality with its interval; its value is None where no prompt expects anything in particular."""
        import numpy as np

        values = self.grades[:, place]
        value = float(values[0]) if np.isfinite(values[0]) else None
        return resampling.estimate(value, self.prompts, values[1:], "No prompt names expected aspects.")

    def firsts(self, view: View, limits: Limits) -> np.ndarray:
        """By `[draw, model]`, 1 for the default; equal ones share it, and nobody has it where none keeps the limits."""
        import numpy as np

        latency, grade = self.latencies[view], np.nan_to_num(self.grades)
        kept = grade >= limits.min_quality
        if limits.max_latency_s is not None:
            kept &= latency <= limits.max_latency_s
        grade = np.where(kept, np.round(grade, 9), -1.0)
        waits = np.where(kept & (grade == grade.max(axis=1, keepdims=True)), latency, np.inf)
        first = np.isfinite(waits) & (waits == waits.min(axis=1, keepdims=True))
        shares: np.ndarray = first / np.maximum(first.sum(axis=1, keepdims=True), 1)
        return shares


def _table(run: Run, keys: Sequence[Key], measure: Measure) -> np.ndarray:
    """The median of each prompt's rounds by `[prompt, model]`; nan where there is none."""
    import numpy as np

    found = by_prompt(run, measure)
    values = [
        [median(found[key][prompt.id]) if prompt.id in found.get(key, {}) else np.nan for key in keys]
        for prompt in run.prompts
    ]
    return np.asarray(values, dtype=float)


def _quality(run: Run, keys: Sequence[Key]) -> np.ndarray:
    prompts = {prompt.id: prompt for prompt in run.prompts}
    return _table(run, keys, lambda completion: _share(completion.text, prompts[completion.prompt_id]))


@lru_cache(maxsize=4096)
def _share(answer: str, prompt: Prompt) -> float | None:
    """What an answer mentions; at temperature 0 machines and rounds say the same, and reading it takes 6 ms."""
    found = score_aspects(answer, prompt)
    return 0.0 if found.forbidden_found else found.share


def _mean(values: np.ndarray, axis: int) -> np.ndarray:
    """The mean of what is known; nan where nothing is."""
    import numpy as np

    known = np.isfinite(values)
    counts = known.sum(axis=axis)
    sums = np.where(known, values, 0.0).sum(axis=axis)
    means: np.ndarray = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    return means


def _broken(latency: Estimate, quality: Estimate, limits: Limits) -> str | None:
    if limits.max_latency_s is not None and latency.value is not None and latency.value > limits.max_latency_s:
        return f"{1000 * latency.value:.0f} ms are more than {1000 * limits.max_latency_s:.0f} ms"
    if (quality.value or 0.0) < limits.min_quality:
        return f"quality {quality.value or 0.0:.2f} is less than {limits.min_quality:.2f}"
    return None


def _sentence(choice: Choice, view: View, where: str) -> str:
    best = choice.best[view]
    if best is None:
        return f"{where} no model keeps the limits: loosen one, or offer other models."
    latency, share = best.latency_s[view], best.wins[view]
    on = f" ({best.slowest})" if view == "worst" else ""
    if len(choice.candidates) == 1:
        sure = "is the only model that every machine measured, so nothing was compared"
    else:
        first = f"{percent(share)} of {resampling.RESAMPLES:,} draws of machines and prompts"
        sure = f"is {_how_sure(choice, share)}: it came first in {first}{_rival(choice, view, best)}"
    waits = f"{1000 * (latency.value or 0.0):.0f} ms"
    if latency.low is not None and latency.high is not None:
        waits += f" (95 % CI {1000 * latency.low:.0f}-{1000 * latency.high:.0f})"
    name = f"{best.variant.alias}, {best.variant.precision or 'precision unknown'}, {best.variant.device}"
    return f"{where}{on} the best default is {name}: a median answer takes {waits}. This {sure}."


def _how_sure(choice: Choice, share: float) -> str:
    """One word; nothing is clear from one machine alone, or from few prompts."""
    enough = clear_from(choice.prompts) if choice.machines > 1 else None
    if enough is not None and share >= enough:
        return "clear"
    return "likely" if share >= LIKELY else "undecided"


def _rival(choice: Choice, view: View, best: Candidate) -> str:
    others = [each for each in choice.candidates if each is not best and each.wins[view] > 0]
    if not others:
        return ""
    rival = max(others, key=lambda each: each.wins[view])
    return f", {rival.variant.alias} ({rival.variant.precision or 'precision unknown'}) in {percent(rival.wins[view])}"
