"""What changed between two results: two commits, two machines, two devices or two models.

Refuses runs that did different work; labels runs that differ in where they ran. Knows results and ratios; no files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from workshop_lib.archive.results import Results, Sample
from workshop_lib.errors import ConfigurationError, ModelNotFoundError
from workshop_lib.metrics import timing
from workshop_lib.metrics.comparison import BETWEEN_RUNS, SAME_RUN, WITH_BURSTS, Ratio, compare_samples, describe

SAME_WORK = ("max_tokens", "temperature", "stream", "unique_prefix")
"""Settings that must be equal: with others, the two sides did different work."""

SAME_MACHINE = ("cpu", "physical_cores", "os", "python", "power_source", "versions")
"""Parts of the machine's fingerprint that make two runs comparable without a remark."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two things compared: the samples of some model in some results."""

    results: Results
    model_id: str
    device: str

    @property
    def samples(self) -> list[Sample]:
        """Its samples."""
        return [
            sample
            for sample in self.results.samples
            if (sample.model_id, sample.device) == (self.model_id, self.device)
        ]


@dataclass(frozen=True, slots=True)
class Change:
    """One line: B against A in one measure, as a ratio and as a sentence."""

    a: Side
    b: Side
    measure: str
    ratio: Ratio
    verdict: str


@dataclass(frozen=True, slots=True)
class Changes:
    """All lines, what is unlike between the runs, and how many answers stayed the same per model."""

    lines: tuple[Change, ...]
    remarks: tuple[str, ...]
    texts: tuple[str, ...]


def compare_results(a: Results, b: Results) -> Changes:
    """Compare every model and device that both results have.

    Raises:
        ConfigurationError: the runs did different work, or share no model.
    """
    remarks = _unlike(a, b)
    shared = [key for key in _variants(a) if key in set(_variants(b))]
    if not shared:
        raise ConfigurationError(
            f"The runs share no model: {_names(a)} against {_names(b)}.", "Compare runs that measured the same models."
        )
    pairs = [(Side(a, *key), Side(b, *key)) for key in shared]
    return Changes(
        lines=tuple(change for pair in pairs for change in compare_sides(*pair)),
        remarks=tuple(remarks),
        texts=tuple(_texts(*pair) for pair in pairs),
    )


def compare_sides(a: Side, b: Side) -> tuple[Change, ...]:
    """Compare two models, devices or runs in every measure; where a side lacks one, its verdict says so."""
    changes = []
    for metric in timing.metrics_of("comparison"):
        name = metric.name
        ratio = compare_samples(_by_prompt(a, name), _by_prompt(b, name), smallest=_smallest(a, b, name))
        changes.append(Change(a, b, metric.title, ratio, describe(ratio, metric.better)))
    return tuple(changes)


def find_side(results: Results, name: str) -> Side:
    """The side that a name means: an exact id, or an alias with one variant, optionally with `@device`.

    Raises:
        ModelNotFoundError: none is meant, and names what there is; or several are, and names those.
    """
    wanted, _, device = name.partition("@")
    meant = {
        (sample.model_id, sample.device)
        for sample in results.samples
        if wanted in (sample.model_id, sample.alias) and device in ("", sample.device)
    }
    if len(meant) != 1:
        what = "No model" if not meant else "More than one model"
        possible = [key for key in _variants(results) if key in meant or not meant]
        there = ", ".join(f"{model_id}@{device}" for model_id, device in possible)
        raise ModelNotFoundError(f"{what} in {results.name} is meant by {name!r}.", f"There are: {there}.")
    return Side(results, *meant.pop())


def compare_named(a: Results, b: Results, first: str, second: str) -> Changes:
    """Compare one model of `a` with another, or with the same on another device, of `b`.

    Raises:
        ConfigurationError: the runs did different work.
        ModelNotFoundError: a name means no model, or several.
    """
    sides = find_side(a, first), find_side(b, second)
    return Changes(compare_sides(*sides), tuple(_unlike(a, b)), ())


def _unlike(a: Results, b: Results) -> list[str]:
    """What differs between the machines, as remarks; different work is refused."""
    for name in SAME_WORK:
        if a.plan.get(name) != b.plan.get(name):
            raise ConfigurationError(
                f"The runs did different work: {name} is {a.plan.get(name)!r} in {a.name}, {b.plan.get(name)!r} in "
                f"{b.name}.",
                f"Measure both with the same {name}.",
            )
    prompts_a, prompts_b = ({_prompt_key(side, sample) for sample in side.samples} for side in (a, b))
    if not prompts_a & prompts_b:
        raise ConfigurationError("The runs share no prompt.", "Measure both with the same prompts.")
    remarks = []
    if prompts_a != prompts_b:
        remarks.append(f"Only the {len(prompts_a & prompts_b)} prompts that both runs sent are compared.")
    remarks += [
        f"Different {name.replace('_', ' ')}: {a.machine.get(name)} in {a.name}, {b.machine.get(name)} in {b.name}."
        for name in SAME_MACHINE
        if a.machine.get(name) != b.machine.get(name)
    ]
    return remarks


def _by_prompt(side: Side, measure: str) -> dict[str, list[float]]:
    grouped: dict[str, list[float]] = {}
    for sample in side.samples:
        value = sample.value(measure)
        if value is not None and value > 0:
            grouped.setdefault(_prompt_key(side.results, sample), []).append(value)
    return grouped


def _smallest(a: Side, b: Side, measure: str) -> float:
    """What repeating alone can make of a measure, as a share."""
    if measure == "decode_tokens_per_s" and any(sample.burst for side in (a, b) for sample in side.samples):
        return WITH_BURSTS
    return SAME_RUN if a.results is b.results else BETWEEN_RUNS


def _prompt_key(results: Results, sample: Sample) -> str:
    """The prompt's id and the hash of its text, so that a reworded prompt is another prompt.

    With a unique prefix every round sends another text; then the id alone tells the prompt.
    """
    if results.plan.get("unique_prefix"):
        return sample.prompt_id
    return f"{sample.prompt_id} {sample.prompt_sha256}"


def _texts(a: Side, b: Side) -> str:
    """How many prompts got the same answer in both runs; at temperature 0 a difference is a change of the model."""
    first_a, first_b = (_first_texts(side.samples) for side in (a, b))
    shared = [key for key in first_a if key in first_b]
    changed = [prompt for prompt, sha in shared if first_a[prompt, sha] != first_b[prompt, sha]]
    same = f"{a.model_id} on {a.device}: {len(shared) - len(changed)} of {len(shared)} answers are the same"
    return f"{same}; changed: {', '.join(changed)}." if changed else f"{same}."


def _first_texts(samples: Sequence[Sample]) -> dict[tuple[str, str | None], str]:
    texts: dict[tuple[str, str | None], str] = {}
    for sample in samples:
        texts.setdefault((sample.prompt_id, sample.prompt_sha256), sample.text)
    return texts


def _variants(results: Results) -> list[tuple[str, str]]:
    return list(dict.fromkeys((sample.model_id, sample.device) for sample in results.samples))


def _names(results: Results) -> str:
    return ", ".join(model_id for model_id, _ in _variants(results)) or "none"
