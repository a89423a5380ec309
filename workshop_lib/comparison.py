"""Is B really faster than A? Two models, devices, machines or commits, compared request by request.

    changes = compare(old, new)                    # runs, their records, or reports
    builds = side_by_side(run, gpu_references())   # CPU beside GPU, another machine's where this one has none

The ratio is the geometric mean, over the prompts both sides answered, of median B / median A. Its interval comes from
resampling the scatter: the logarithms of all samples around their own prompt's mean are pooled per side (three
rounds of one prompt are too few to resample alone), widened by sqrt(n / (n - 1)) for the mean that was taken out, and
drawn again 4 000 times with a fixed seed (residual bootstrap; Efron and Tibshirani 1993, chapter 9). It measures
noise, not the bias of the client and not what differs between two starts of a server or two hours of a machine. So a
difference that repeating alone can make is never called clear: see `SAME_RUN`, `BETWEEN_RUNS` and `WITH_BURSTS`. Nor is
one that only the number of comparisons explains: where several stand side by side, `corrected` applies Holm's method
(1979) to the shares of draws beyond 1; 4 000 draws can call up to 100 of them clear.

How a figure moves with other prompts like these is a bootstrap over prompts, `draws` and `estimate`: a prompt is drawn
with everything that is known about it, because verdicts on answers to one prompt are not independent (cluster
bootstrap; Davison and Hinkley 1997, section 3.8; percentile method of Efron and Tibshirani, chapter 13).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from workshop_lib import data, places, timing
from workshop_lib.errors import ConfigurationError, DataFileError, ModelNotFoundError
from workshop_lib.records import Key, Row, Run, key
from workshop_lib.storage import read_run
from workshop_lib.summary import NO_PROVIDER, WARNINGS, summarise

if TYPE_CHECKING:
    import numpy as np

CONFIDENCE = 0.95
TAIL_PERCENT = 100 * (1 - CONFIDENCE) / 2
RATIO_RESAMPLES = 4_000
RESAMPLES = 2_000
FEWEST_PROMPTS = 3
"""With fewer prompts, drawing them again says next to nothing about other prompts."""
FEWEST_DEFINED = 0.5
"""Share of the draws in which a figure must exist before an interval is given."""

SAME_RUN = 0.02
"""Smallest share that counts as a difference where both sides were measured in turn, in one run."""

BETWEEN_RUNS = 0.08
"""The same where the sides were measured apart.

Six runs of the practice models on one idle machine, all pairs: 98 % of latencies and all first tokens within 8 %.
"""

WITH_BURSTS = 0.5
"""The same for decode rates of answers that arrived in bursts, where little is left to take a pace from."""

WIDEST = 20
"""An interval whose ends differ by a larger factor says nothing: its ends are not worth printing."""

SAME_WORK = ("max_tokens", "temperature", "stream", "unique_prefix")
"""Settings that must be equal: with others, the two sides did different work."""

SAME_MACHINE = ("cpu", "physical_cores", "os", "python", "power_source", "versions")
"""Parts of the machine's fingerprint that make two runs comparable without a remark."""

REFERENCES = places.DATA / "reference"
REPORT = "benchmark_report.json"
NO_GPU = "No GPU reference results ship with this version: no GPU machine was available when they were made."
HERE = "this machine"
ELSEWHERE = "reference, another machine"

Samples = Mapping[str, Sequence[float]]
"""Prompt id → the values measured for it, one per round, all positive."""


# -- ratios


@dataclass(frozen=True, slots=True)
class Ratio:
    """B in units of A: 1.25 means that B's values are 25 % larger; None when nothing can be compared.

    The interval needs at least two rounds of some prompt on both sides. A difference below the share `smallest` is not
    called clear. `p` is the two-sided share of draws beyond 1, corrected for the `among` ratios side by side.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    smallest: float = SAME_RUN
    p: float | None = None
    among: int = 1

    @property
    def doubt(self) -> str:
        """Why no difference is claimed, as a sentence; empty where the difference is clear."""
        if self.value is None:
            return "nothing to compare"
        if self.low is None or self.high is None:
            return f"{digits(self.value)}x, no interval: at least 2 rounds are needed"
        if self.high > WIDEST * self.low:
            return f"nothing can be said ({digits(self.value)}x, 95 % CI spans a factor of more than {WIDEST})"
        if self.low <= 1 <= self.high:
            why = ""
        elif max(self.value, 1 / self.value) - 1 < self.smallest:
            why = f"; repeats differ by up to {self.smallest:.0%}"
        elif self.among > 1 and (self.p is None or self.p >= 1 - CONFIDENCE):
            why = f"; could be chance among {self.among} comparisons"
        else:
            return ""
        interval = f"95 % CI {digits(self.low)}-{digits(self.high)}"
        return f"no clear difference ({digits(self.value)}x, {interval}{why})"

    @property
    def is_clear(self) -> bool:
        """True when the interval, not too wide, excludes 1, and neither repeats nor many comparisons explain it."""
        return not self.doubt


def describe(ratio: Ratio, better: Literal["lower", "higher"]) -> str:
    """The comparison in words: `1.80x faster (95 % CI 1.60-2.00)` or `no clear difference (...)`."""
    ends = ratio.value or 1.0, ratio.low or 1.0, ratio.high or 1.0
    is_gain = (ends[0] > 1) == (better == "higher")
    value, low, high = ends if ends[0] > 1 else (1 / ends[0], 1 / ends[2], 1 / ends[1])
    said = f"{digits(value)}x {'faster' if is_gain else 'slower'} (95 % CI {digits(low)}-{digits(high)})"
    return ratio.doubt or said


def digits(times: float) -> str:
    """A ratio with the digits that mean something: 1.53, 34.7, 268."""
    return f"{times:.{2 if times < 10 else 1 if times < 100 else 0}f}"


def compare_samples(a: Samples, b: Samples, *, smallest: float = SAME_RUN, seed: int = 20) -> Ratio:
    """Compare two sides on the prompts they share."""
    import numpy as np

    shared = sorted(prompt for prompt in a.keys() & b.keys() if a[prompt] and b[prompt])
    if not shared:
        return Ratio(None, smallest=smallest)
    logs = [[np.log(np.asarray(side[prompt], dtype=float)) for prompt in shared] for side in (a, b)]
    log_ratio = np.mean([np.median(late) - np.median(early) for early, late in zip(*logs, strict=True)])
    value = float(np.exp(log_ratio))
    if any(max(map(len, side)) < 2 for side in logs):
        return Ratio(value, smallest=smallest)
    generator = np.random.default_rng(seed)
    shift = _median_noise(logs[1], generator) - _median_noise(logs[0], generator)
    low, high = np.exp(log_ratio - np.percentile(shift, [100 - TAIL_PERCENT, TAIL_PERCENT]))
    beyond = 1 + min((shift >= log_ratio).sum(), (shift <= log_ratio).sum())
    return Ratio(value, float(low), float(high), smallest, min(1.0, 2 * float(beyond) / (1 + RATIO_RESAMPLES)))


def _median_noise(prompts: list[np.ndarray], generator: np.random.Generator) -> np.ndarray:
    """Draws of the mean over prompts of (median of a resampled prompt - its true centre), one per resample."""
    import numpy as np
    from scipy import special

    residuals = np.concatenate(
        [(values - values.mean()) * np.sqrt(len(values) / (len(values) - 1)) for values in prompts if len(values) > 1]
    )
    drawn = np.zeros(RATIO_RESAMPLES)
    for values in prompts:
        drawn += np.median(generator.choice(residuals, size=(RATIO_RESAMPLES, len(values))), axis=1)
    freedom = sum(len(values) - 1 for values in prompts)
    wider = special.stdtrit(freedom, 0.5 + CONFIDENCE / 2) / special.ndtri(0.5 + CONFIDENCE / 2)
    noise: np.ndarray = wider * (drawn - drawn.mean()) / len(prompts)
    return noise


# -- figures over prompts


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its interval over `n` prompts; `reason` says why the value, or else the interval, is None."""

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    reason: str | None = None


def draws(prompts: int, seed: int, resamples: int = RESAMPLES) -> np.ndarray:
    """Positions of prompts drawn with replacement: one row per draw, `prompts` columns."""
    import numpy as np

    generator = np.random.default_rng(seed)
    drawn: np.ndarray = generator.integers(0, max(prompts, 1), size=(resamples, prompts))
    return drawn


def interval(figures: Sequence[float] | np.ndarray) -> tuple[float, float] | None:
    """The middle 95 % of the figures that are numbers; None when most draws gave none."""
    import numpy as np

    values = np.asarray(figures, dtype=float)
    known = values[np.isfinite(values)]
    if not len(values) or len(known) < FEWEST_DEFINED * len(values):
        return None
    low, high = np.percentile(known, [TAIL_PERCENT, 100 - TAIL_PERCENT])
    return float(low), float(high)


def estimate(value: float | None, n: int, figures: Sequence[float] | np.ndarray, reason: str | None = None) -> Estimate:
    """Put a figure and its draws together; says why where something is missing."""
    if value is None:
        return Estimate(None, n=n, reason=reason or "Nothing was scored.")
    between = interval(figures) if n >= FEWEST_PROMPTS else None
    if between is None:
        why = f"{n} prompts are too few for an interval." if n < FEWEST_PROMPTS else "Most draws leave it undefined."
        return Estimate(value, n=n, reason=why)
    return Estimate(value, *between, n=n)


# -- what was measured, as a report keeps it


@dataclass(frozen=True, slots=True)
class Sample:
    """One successful timed request; its compared `METRICS` by name stand beside the rest in JSON."""

    alias: str
    model_id: str
    device: str
    prompt_id: str
    prompt_sha256: str | None
    round: int
    text: str
    burst: bool = False
    metrics: Mapping[str, float | None] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Results:
    """A run as rows and samples, with the machine and the plan that say what it may be compared with."""

    name: str
    machine: Mapping[str, Any]
    plan: Mapping[str, Any]
    rows: tuple[Row, ...]
    samples: tuple[Sample, ...]

    @cached_property
    def models(self) -> dict[Key, list[Sample]]:
        """The samples of each model id and device."""
        found: dict[Key, list[Sample]] = {}
        for each in self.samples:
            found.setdefault(key(each), []).append(each)
        return found

    @property
    def answered(self) -> list[Row]:
        """The rows of the models that answered."""
        return [row for row in self.rows if row.status == "ok"]

    @property
    def cpu_rows(self) -> list[Row]:
        """Those of builds for the CPU."""
        return [row for row in self.answered if row.device == "cpu"]

    @property
    def gpu_rows(self) -> list[Row]:
        """Those that really ran on a GPU: a GPU provider was registered."""
        return [row for row in self.answered if row.device == "gpu" and NO_PROVIDER not in row.warnings]

    @property
    def label(self) -> str:
        """The machine by its graphics card, if its name was recorded, else by its processor; and the date."""
        hardware = self.machine.get("gpu") or self.machine.get("cpu") or "machine unknown"
        return f"{hardware}, {str(self.machine.get('started_at') or '')[:10] or 'date unknown'}"

    def by_prompt(self, which: Key, metric: str) -> dict[str, list[float]]:
        """A model's positive values of a metric, by prompt.

        A prompt is its id and the hash of its text: a reworded one is another. With a unique prefix every round sends
        another text; then the id alone tells the prompt.
        """
        grouped: dict[str, list[float]] = {}
        for each in self.models.get(which, ()):
            if (value := each.metrics.get(metric)) and value > 0:
                grouped.setdefault(self.prompt(each), []).append(value)
        return grouped

    def prompt(self, sample: Sample) -> str:
        """What tells the prompt of a sample from others."""
        same_text = not self.plan.get("unique_prefix")
        return f"{sample.prompt_id} {sample.prompt_sha256}" if same_text else sample.prompt_id


def results_of(source: Run | Path | str, name: str = "") -> Results:
    """What a run, its `records.jsonl` or a `benchmark_report.json` holds: a sample per successful timed request.

    Raises `DataFileError`, `RecordFileError`.
    """
    if not isinstance(source, Run):
        path = Path(source)
        name = name or path.parent.name or path.name
        return results_of(read_run(path), name) if path.suffix == ".jsonl" else _read_report(path, name)
    samples = []
    for each in (completion for completion in source.completions if completion.ok and completion.round > 0):
        who = (each.alias, each.model_id, each.device, each.prompt_id, each.prompt_sha256, each.round, each.text)
        metrics = {metric.name: metric.measure(each) for metric in timing.metrics_of("comparison")}
        samples.append(Sample(*who, timing.has_burst(each), metrics))
    return Results(name or source.run_id, source.machine, source.plan, summarise(source), tuple(samples))


def sample_objects(run: Run) -> list[dict[str, Any]]:
    """The samples as JSON objects fit for version control, times rounded to microseconds and rates to a tenth."""
    found = []
    for sample in results_of(run).samples:
        values = asdict(sample)
        for name, value in values.pop("metrics").items():
            values[name] = value if value is None else round(value, 6 if abs(value) < 100 else 1)
        found.append(values)
    return found


def _read_report(path: Path, name: str) -> Results:
    report: Any = data.read_untyped(path)
    try:
        rows = [_nested(Row, "more", timing.row_names(), each) for each in report["rows"]]
        samples = [_nested(Sample, "metrics", [one.name for one in timing.METRICS], each) for each in report["samples"]]
        whole = {"name": name, "machine": report["machine"], "plan": report["plan"], "rows": rows, "samples": samples}
    except (LookupError, TypeError, AttributeError) as error:
        what = f"{path} is no benchmark report with samples and rows ({error})."
        raise DataFileError(what, "Give a benchmark_report.json or a records.jsonl that this workshop wrote.") from None
    return data.checked_as(Results, whole, path)


def _nested(kind: type[Row | Sample], inner: str, metrics: Iterable[str], entry: Mapping[str, Any]) -> dict[str, Any]:
    """An object of a report, with its metrics in the field `inner` of their own; what is unknown is dropped."""
    own = {name: value for name, value in entry.items() if name in kind.__dataclass_fields__}
    return own | {inner: {name: entry[name] for name in metrics if name in entry and name not in own}}


def gpu_references(folder: Path | None = None) -> tuple[Results, ...]:
    """The shipped reports (in `data/reference/`) that hold results of a GPU. Raises `DataFileError`."""
    return tuple(found for found in read_references(folder) if found.gpu_rows)


def read_references(folder: Path | None = None) -> tuple[Results, ...]:
    """Every shipped report, by name; none is fine. Raises `DataFileError`."""
    return tuple(map(results_of, sorted((folder or REFERENCES).glob(f"*/{REPORT}"))))


# -- comparing


class Change(NamedTuple):
    """One line: model and device `b` against `a` in one metric."""

    a: Key
    b: Key
    metric: timing.Metric
    ratio: Ratio

    @property
    def verdict(self) -> str:
        """The ratio in words."""
        return describe(self.ratio, self.metric.better)


class Changes(NamedTuple):
    """All lines, what is unlike between the runs, and how many answers stayed the same per model."""

    lines: tuple[Change, ...] = ()
    remarks: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()


Source = Results | Run | Path | str


def compare(a: Source, b: Source, first: str = "", second: str = "") -> Changes:
    """What changed from `a` to `b`, prompt by prompt: a ratio is b's in units of a's.

    Each is a run, its `records.jsonl`, or a `benchmark_report.json`. Compared is every model and device that both have;
    with `first`, that model of `a` with `second` (empty = the same) of `b`.

    Raises:
        ConfigurationError: they did different work or share no model.
        ModelNotFoundError: none is meant by such a name, or several are; it names what there is.
        RecordFileError, DataFileError: a file cannot be used.
    """
    left = a if isinstance(a, Results) else results_of(a)
    right = left if a == b else b if isinstance(b, Results) else results_of(b)
    if first:
        pair = find(left, first), find(right, second or first)
        return Changes(changes_of(left, right, [pair]), _unlike(left, right))
    remarks = _unlike(left, right)
    shared = [which for which in left.models if which in right.models]
    if not shared:
        names = [", ".join(model_id for model_id, _ in side.models) or "none" for side in (left, right)]
        what = f"The runs share no model: {' against '.join(names)}."
        raise ConfigurationError(what, "Compare runs that measured the same models.")
    lines = changes_of(left, right, [(which, which) for which in shared])
    return Changes(lines, remarks, tuple(_texts(left, right, which) for which in shared))


def changes_of(a: Results, b: Results, pairs: Iterable[tuple[Key, Key]]) -> tuple[Change, ...]:
    """Compare each pair in every metric; where a side lacks one, its verdict says so."""
    return corrected([_change(a, b, *pair, metric) for pair in pairs for metric in timing.metrics_of("comparison")])


def _change(a: Results, b: Results, first: Key, second: Key, metric: timing.Metric) -> Change:
    smallest = SAME_RUN if a is b else BETWEEN_RUNS
    asked = [*a.models.get(first, ()), *b.models.get(second, ())]
    if metric.name == "decode_tokens_per_s" and any(each.burst for each in asked):
        smallest = WITH_BURSTS
    sides = a.by_prompt(first, metric.name), b.by_prompt(second, metric.name)
    return Change(first, second, metric, compare_samples(*sides, smallest=smallest))


def corrected(changes: Sequence[Change]) -> tuple[Change, ...]:
    """Correct what counts as clear for the number of changes that stand side by side (Holm)."""
    order = sorted((each.ratio.p, place) for place, each in enumerate(changes) if each.ratio.p is not None)
    adjusted, floor = dict[int, float](), 0.0
    for rank, (p, place) in enumerate(order):
        adjusted[place] = floor = max(floor, min(1.0, p * (len(order) - rank)))
    ratios = (replace(each.ratio, p=adjusted.get(place), among=len(order)) for place, each in enumerate(changes))
    return tuple(change._replace(ratio=ratio) for change, ratio in zip(changes, ratios, strict=True))


def between_builds(run: Run) -> tuple[Change, ...]:
    """Each build of a model that answered against its first one, in every metric."""
    results, first_of = results_of(run), dict[str, Key]()
    pairs = [(first_of.setdefault(row.alias, key(row)), key(row)) for row in results.answered]
    return changes_of(results, results, [(first, other) for first, other in pairs if first != other])


def against_the_best(run: Run) -> tuple[Change, ...]:
    """Every model that answered against the one with the best median, metric by metric."""
    results, found = results_of(run), list[Change]()
    for metric in timing.metrics_of("comparison"):
        middles: list[tuple[float, int, Key]] = []
        for place, row in enumerate(results.answered):
            measured = (each.metrics.get(metric.name) for each in results.models.get(key(row), ()))
            if values := [value for value in measured if value is not None]:
                middles.append((median(values) if metric.better == "lower" else -median(values), place, key(row)))
        best, *others = [which for *_, which in sorted(middles)] or [("", "")]
        found += [_change(results, results, best, other, metric) for other in others]
    return corrected(found)


def find(results: Results, name: str) -> Key:
    """The model and device that a name means: an exact id, or an alias with one variant, optionally with `@device`.

    Raises `ModelNotFoundError`, which names what there is, or the several that are meant.
    """
    wanted, _, device = name.partition("@")
    meant = [
        which
        for which, samples in results.models.items()
        if wanted in (which[0], *(each.alias for each in samples)) and device in ("", which[1])
    ]
    if len(meant) != 1:
        what = "No model" if not meant else "More than one model"
        there = ", ".join(map("@".join, meant or results.models))
        raise ModelNotFoundError(f"{what} in {results.name} is meant by {name!r}.", f"There are: {there}.")
    return meant[0]


def _unlike(a: Results, b: Results) -> tuple[str, ...]:
    """What differs between the machines, as remarks; different work is refused."""
    for name in SAME_WORK:
        if a.plan.get(name) != b.plan.get(name):
            values = f"{a.plan.get(name)!r} in {a.name}, {b.plan.get(name)!r} in {b.name}"
            what = f"The runs did different work: {name} is {values}."
            raise ConfigurationError(what, f"Measure both with the same {name}.")
    prompts_a, prompts_b = ({side.prompt(each) for each in side.samples} for side in (a, b))
    both = prompts_a & prompts_b
    if not both:
        raise ConfigurationError("The runs share no prompt.", "Measure both with the same prompts.")
    said = [f"Only the {len(both)} prompts that both runs sent are compared."] if prompts_a != prompts_b else []
    for name in SAME_MACHINE:
        here, there = a.machine.get(name), b.machine.get(name)
        if here != there:
            said.append(f"Different {name.replace('_', ' ')}: {here} in {a.name}, {there} in {b.name}.")
    return tuple(said)


def _texts(a: Results, b: Results, which: Key) -> str:
    """How many prompts got the same answer in both runs; at temperature 0 a difference is a change of the model."""
    before, after = (
        {(each.prompt_id, each.prompt_sha256): each.text for each in reversed(side.models[which])} for side in (a, b)
    )  # of several rounds the first
    shared = [prompt for prompt in reversed(before) if prompt in after]
    changed = [prompt[0] for prompt in shared if before[prompt] != after[prompt]]
    same = f"{' on '.join(which)}: {len(shared) - len(changed)} of {len(shared)} answers are the same"
    return f"{same}; changed: {', '.join(changed)}." if changed else f"{same}."


# -- CPU beside GPU


class Build(NamedTuple):
    """One build of a model on one device: its row and samples, and where it ran.

    `first_token` and `decode` compare it with the CPU build `against`, of the machine that it ran on, e.g. `1.80x
    faster (95 % CI 1.60-2.00)`; all three are empty for a CPU build, and where there is none.
    """

    row: Row
    samples: Sequence[Sample]
    where: str
    against: str = ""
    first_token: str = ""
    decode: str = ""

    @property
    def is_reference(self) -> bool:
        """True when another machine measured it."""
        return self.where != HERE


def side_by_side(run: Run, references: Sequence[Results] = ()) -> tuple[Build, ...]:
    """The CPU builds of each model, then its GPU builds: those of this machine or, where it has none, the references'.

    What a process registered decides what counts as a GPU, never a variant's label. Nothing where there is no GPU.
    """
    here, found = results_of(run), list[Build]()
    for alias in dict.fromkeys(row.alias for row in here.answered):
        cpus, gpus = ([row for row in rows if row.alias == alias] for rows in (here.cpu_rows, here.gpu_rows))
        found += [_build(here, row, HERE) for row in (*cpus, *gpus)]
        theirs = [(there, row) for there in references for row in there.gpu_rows if row.alias == alias and not gpus]
        found += [_build(there, row, there.label) for there, row in theirs]
    return tuple(found) if any(build.row.device == "gpu" for build in found) else ()


def _build(results: Results, row: Row, where: str) -> Build:
    """Compare a GPU build with the CPU build of the same precision, else with the first, of the same machine."""
    build = Build(row, results.models.get(key(row), ()), where)
    cpus = sorted(
        (each for each in results.cpu_rows if each.alias == row.alias), key=lambda each: each.precision != row.precision
    )
    if row.device == "cpu" or not cpus:
        return build
    said = {line.metric.title: line.verdict for line in changes_of(results, results, [(key(cpus[0]), key(row))])}
    against = f"{cpus[0].precision or 'precision unknown'} · cpu"
    return build._replace(against=against, first_token=said["first token"], decode=said["decode"])


def absent_gpus(run: Run) -> dict[str, str]:
    """Each model without a GPU build that answered here → the reason that was recorded."""
    here = results_of(run)
    asked, measured = [row for row in here.rows if row.device == "gpu"], {row.alias for row in here.gpu_rows}
    why = {row.alias: row.error or WARNINGS[NO_PROVIDER] for row in asked}
    return {alias: reason for alias, reason in why.items() if alias not in measured}


def device_notes(run: Run, references: Sequence[Results] = ()) -> tuple[str, ...]:
    """What a reader of the comparison must know: why a GPU is absent, and what stands in for it."""
    builds = side_by_side(run, references)
    said = [f"There are no GPU figures of this machine. {why}" for why in dict.fromkeys(absent_gpus(run).values())]
    if not said and not any(row.device == "gpu" for row in summarise(run)):
        said.append("This run has no GPU model: none was asked for, or the server does not say what it runs on.")
    if not builds:
        said.append("The shipped GPU reference results hold none of these models." if references else NO_GPU)
    if labels := ", ".join(dict.fromkeys(build.where for build in builds if build.is_reference)):
        said.append(f"GPU figures are those of another machine, against its own CPU: {labels}.")
    return tuple(said)
