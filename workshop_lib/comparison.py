"""Is B really faster than A? Two models, devices, machines or commits, compared request by request.

    changes = compare_results(read_results(old), read_results(new))
    builds = side_by_side(run, gpu_references())          # CPU beside GPU, another machine's where this one has none

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

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

from workshop_lib import places, timing
from workshop_lib.errors import ConfigurationError, DataFileError, ModelNotFoundError
from workshop_lib.records import Row, Run
from workshop_lib.storage import read_run
from workshop_lib.summary import name_of, row_from, summarise

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


@dataclass(frozen=True, slots=True)
class Ratio:
    """B in units of A: 1.25 means that B's values are 25 % larger; None when nothing can be compared.

    The interval needs at least two rounds of some prompt on both sides. `prompts` counts those that both answered,
    `samples` the values used; a difference below the share `smallest` is not called clear. `p` is the two-sided share
    of draws beyond 1, corrected for the `among` ratios that stand side by side.
    """

    value: float | None
    low: float | None
    high: float | None
    prompts: int
    samples: int
    smallest: float = SAME_RUN
    p: float | None = None
    among: int = 1

    @property
    def doubt(self) -> str:
        """Why the difference is not clear although the interval excludes 1; empty where it is clear or holds 1."""
        if self.value is None or self.low is None or self.high is None or self.low <= 1 <= self.high:
            return ""
        if max(self.value, 1 / self.value) - 1 < self.smallest:
            return f"repeating shifts by up to {self.smallest:.0%}"
        by_chance = self.among > 1 and (self.p is None or self.p >= 1 - CONFIDENCE)
        return f"one of {self.among} comparisons" if by_chance else ""

    @property
    def is_too_wide(self) -> bool:
        """True when the ends of the interval differ by more than the factor `WIDEST`."""
        return self.low is not None and self.high is not None and self.high > WIDEST * self.low

    @property
    def is_clear(self) -> bool:
        """True when the interval, not too wide, excludes 1, and neither repeats nor many comparisons explain it."""
        if self.low is None or self.high is None or self.is_too_wide or self.doubt:
            return False
        return self.low > 1 or self.high < 1


def compare_samples(a: Samples, b: Samples, *, smallest: float = SAME_RUN, seed: int = 20) -> Ratio:
    """Compare two sides on the prompts they share."""
    import numpy as np

    shared = sorted(prompt for prompt in a.keys() & b.keys() if a[prompt] and b[prompt])
    used = sum(len(side[prompt]) for side in (a, b) for prompt in shared)
    if not shared:
        return Ratio(None, None, None, 0, 0, smallest)
    logs = [[np.log(np.asarray(side[prompt], dtype=float)) for prompt in shared] for side in (a, b)]
    log_ratio = np.mean([np.median(late) - np.median(early) for early, late in zip(*logs, strict=True)])
    value = float(np.exp(log_ratio))
    if any(max(map(len, side)) < 2 for side in logs):
        return Ratio(value, None, None, len(shared), used, smallest)
    generator = np.random.default_rng(seed)
    shift = _median_noise(logs[1], generator) - _median_noise(logs[0], generator)
    low, high = np.exp(log_ratio - np.percentile(shift, [100 - TAIL_PERCENT, TAIL_PERCENT]))
    beyond = 1 + min((shift >= log_ratio).sum(), (shift <= log_ratio).sum())
    p = min(1.0, 2 * float(beyond) / (1 + RATIO_RESAMPLES))
    return Ratio(value, float(low), float(high), len(shared), used, smallest, p)


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


def digits(times: float) -> str:
    """A ratio with the digits that mean something: 1.53, 34.7, 268."""
    return f"{times:.{2 if times < 10 else 1 if times < 100 else 0}f}"


def describe(ratio: Ratio, better: Literal["lower", "higher"]) -> str:
    """The comparison in words: `1.80x faster (95 % CI 1.60-2.00)` or `no clear difference (...)`.

    Where the interval is wider than the factor `WIDEST`, its ends are left out: nothing can be said.
    """
    if ratio.value is None:
        return "nothing to compare"
    if ratio.low is None or ratio.high is None:
        return f"{digits(ratio.value)}x, no interval: at least 2 rounds are needed"
    if ratio.is_too_wide:
        return f"nothing can be said ({digits(ratio.value)}x, 95 % CI spans a factor of more than {WIDEST})"
    if not ratio.is_clear:
        why = f"; {ratio.doubt}" if ratio.doubt else ""
        return f"no clear difference ({digits(ratio.value)}x, 95 % CI {digits(ratio.low)}-{digits(ratio.high)}{why})"
    is_gain = (ratio.value > 1) == (better == "higher")
    times = [ratio.value, ratio.low, ratio.high]
    value, low, high = times if ratio.value > 1 else (1 / ratio.value, 1 / ratio.high, 1 / ratio.low)
    return f"{digits(value)}x {'faster' if is_gain else 'slower'} (95 % CI {digits(low)}-{digits(high)})"


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


@dataclass(frozen=True, slots=True)
class Sample:
    """One successful timed request: who answered what, and by name its compared `METRICS`, beside the rest in JSON."""

    alias: str
    model_id: str
    device: str
    prompt_id: str
    prompt_sha256: str | None
    round: int
    text: str
    burst: bool = False
    metrics: Mapping[str, float | None] = field(default_factory=dict, hash=False)

    def value(self, name: str) -> float | None:
        """A metric by its name."""
        return self.metrics.get(name)


@dataclass(frozen=True, slots=True)
class Results:
    """A run as its samples, with the machine and the plan that say what it may be compared with."""

    name: str
    machine: Mapping[str, Any]
    plan: Mapping[str, Any]
    samples: tuple[Sample, ...]


def results_of(run: Run, name: str = "") -> Results:
    """The results of a run: one sample per successful timed request, in the order in which they happened."""
    samples = []
    for each in run.completions:
        if each.ok and each.round > 0:
            own = {part: getattr(each, part) for part in _IDENTITY}
            metrics = {metric.name: metric.measure(each) for metric in timing.metrics_of("comparison")}
            samples.append(Sample(**own, burst=timing.has_burst(each), metrics=metrics))
    return Results(name or run.run_id, run.machine, run.plan, tuple(samples))


_IDENTITY = ("alias", "model_id", "device", "prompt_id", "prompt_sha256", "round", "text")


def _sample(values: Mapping[str, Any]) -> Sample:
    """The sample of a JSON object; what no metric of this version is called is dropped."""
    own = {name: values[name] for name in _IDENTITY}
    metrics = {metric.name: values[metric.name] for metric in timing.METRICS if metric.name in values}
    return Sample(**own, burst=values.get("burst", False), metrics=metrics)


def sample_objects(run: Run) -> list[dict[str, Any]]:
    """The samples as JSON objects fit for version control, times rounded to microseconds and rates to a tenth."""
    found = []
    for sample in results_of(run).samples:
        values = asdict(sample)
        values |= values.pop("metrics")
        found.append({name: _rounded(value) for name, value in values.items()})
    return found


def _rounded(value: object) -> object:
    if not isinstance(value, float):
        return value
    return round(value, 6) if abs(value) < 100 else round(value, 1)


def read_results(path: Path) -> Results:
    """Read a `benchmark_report.json` or a `records.jsonl`. Raises `DataFileError`, `RecordFileError`."""
    return results_of(read_run(path), path.parent.name) if path.suffix == ".jsonl" else read_report(path).results


@dataclass(frozen=True, slots=True)
class Reference:
    """A report as it was written: its samples, machine and plan, and its rows. Some ship with the workshop."""

    results: Results
    rows: tuple[Row, ...]

    @property
    def gpu_rows(self) -> tuple[Row, ...]:
        """What really ran on a GPU there: answered, and a GPU provider was registered."""
        return tuple(row for row in self.rows if row.status == "ok" and _is_gpu(row))

    @property
    def label(self) -> str:
        """The machine by its graphics card, if its name was recorded, else by its processor; and the date."""
        machine = self.results.machine
        hardware = machine.get("gpu") or machine.get("cpu") or "machine unknown"
        return f"{hardware}, {str(machine.get('started_at') or '')[:10] or 'date unknown'}"


def read_report(path: Path) -> Reference:
    """Read one `benchmark_report.json`. Raises `DataFileError`."""
    fix = "Give a benchmark_report.json or a records.jsonl that this workshop wrote."
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        samples = tuple(map(_sample, report["samples"]))
        results = Results(path.parent.name or path.name, report["machine"], report["plan"], samples)
        return Reference(results, tuple(map(row_from, report["rows"])))
    except OSError as error:
        raise DataFileError(f"{path} cannot be read: {error.strerror}.", fix) from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise DataFileError(f"{path} is no benchmark report with samples and rows ({error}).", fix) from error


def read_references(folder: Path | None = None) -> tuple[Reference, ...]:
    """Every shipped report under `folder` (None = `data/reference/`), by name; none is fine. Raises `DataFileError`."""
    return tuple(read_report(path) for path in sorted((folder or REFERENCES).glob(f"*/{REPORT}")))


def gpu_references(folder: Path | None = None) -> tuple[Reference, ...]:
    """The shipped reports that hold results of a GPU; empty where none was made. Raises as `read_references`."""
    return tuple(reference for reference in read_references(folder) if reference.gpu_rows)


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two things compared: the samples of some model in some results."""

    results: Results
    model_id: str
    device: str

    @property
    def samples(self) -> tuple[Sample, ...]:
        """Its samples."""
        wanted = self.model_id, self.device
        return tuple(sample for sample in self.results.samples if (sample.model_id, sample.device) == wanted)


@dataclass(frozen=True, slots=True)
class Change:
    """One line: B against A in one metric, as a ratio and as a sentence."""

    a: Side
    b: Side
    metric: timing.Metric
    ratio: Ratio

    @property
    def measure(self) -> str:
        """The metric's name in headings."""
        return self.metric.title

    @property
    def verdict(self) -> str:
        """The ratio in words."""
        return describe(self.ratio, self.metric.better)


@dataclass(frozen=True, slots=True)
class Changes:
    """All lines, what is unlike between the runs, and how many answers stayed the same per model."""

    lines: tuple[Change, ...]
    remarks: tuple[str, ...]
    texts: tuple[str, ...]


def compare(a: Run | Path | str, b: Run | Path | str) -> Changes:
    """What changed from run `a` to run `b`, prompt by prompt; a ratio is b's in units of a's.

    Each is a run, its `records.jsonl`, or a `benchmark_report.json`. Raises `ConfigurationError` where they did
    different work or share no model, `RecordFileError` and `DataFileError` for files that cannot be used.
    """
    results = [results_of(each, each.run_id) if isinstance(each, Run) else read_results(Path(each)) for each in (a, b)]
    return compare_results(*results)


def compare_results(a: Results, b: Results) -> Changes:
    """Compare every model and device that both results have. Raises `ConfigurationError`."""
    remarks = _unlike(a, b)
    shared = [key for key in _variants(a) if key in _variants(b)]
    if not shared:
        names = [", ".join(model_id for model_id, _ in _variants(side)) or "none" for side in (a, b)]
        what = f"The runs share no model: {' against '.join(names)}."
        raise ConfigurationError(what, "Compare runs that measured the same models.")
    pairs = [(Side(a, *key), Side(b, *key)) for key in shared]
    lines = corrected([change for pair in pairs for change in compare_sides(*pair)])
    return Changes(lines, remarks, tuple(_texts(*pair) for pair in pairs))


def compare_named(a: Results, b: Results, first: str, second: str) -> Changes:
    """Compare one model of `a` with one of `b`. Raises `ConfigurationError`, `ModelNotFoundError`."""
    sides = find_side(a, first), find_side(b, second)
    return Changes(corrected(compare_sides(*sides)), _unlike(a, b), ())


def compare_sides(a: Side, b: Side) -> tuple[Change, ...]:
    """Compare two models, devices or runs in every metric; where a side lacks one, its verdict says so."""
    return tuple(_change(a, b, metric) for metric in timing.metrics_of("comparison"))


def _change(a: Side, b: Side, metric: timing.Metric) -> Change:
    smallest = SAME_RUN if a.results is b.results else BETWEEN_RUNS
    if metric.name == "decode_tokens_per_s" and any(each.burst for each in (*a.samples, *b.samples)):
        smallest = WITH_BURSTS
    sides = (_by_prompt(side, metric.name) for side in (a, b))
    return Change(a, b, metric, compare_samples(*sides, smallest=smallest))


def corrected(changes: Sequence[Change]) -> tuple[Change, ...]:
    """Correct what counts as clear for the number of changes that stand side by side (Holm)."""
    order = sorted((each.ratio.p, place) for place, each in enumerate(changes) if each.ratio.p is not None)
    adjusted, floor = dict[int, float](), 0.0
    for rank, (p, place) in enumerate(order):
        adjusted[place] = floor = max(floor, min(1.0, p * (len(order) - rank)))
    ratios = [replace(each.ratio, p=adjusted.get(place), among=len(order)) for place, each in enumerate(changes)]
    return tuple(replace(change, ratio=ratio) for change, ratio in zip(changes, ratios, strict=True))


def between_builds(run: Run) -> tuple[Change, ...]:
    """Each build of a model that answered against its first one, in every metric."""
    found, first_of = list[Change](), dict[str, Side]()
    for alias, side in _answered(run):
        first = first_of.setdefault(alias, side)
        found += compare_sides(first, side) if first is not side else ()
    return corrected(found)


def against_the_best(run: Run) -> tuple[Change, ...]:
    """Every model that answered against the one with the best median, metric by metric."""
    found, sides = list[Change](), [side for _, side in _answered(run)]
    for metric in timing.metrics_of("comparison"):
        middles: list[tuple[float, int]] = []
        for place, side in enumerate(sides):
            if values := [value for each in side.samples if (value := each.value(metric.name)) is not None]:
                middles.append((median(values) if metric.better == "lower" else -median(values), place))
        ordered = [sides[place] for _, place in sorted(middles)]
        found += [_change(ordered[0], other, metric) for other in ordered[1:]]
    return corrected(found)


def _answered(run: Run) -> list[tuple[str, Side]]:
    """Alias and side of each model that answered, in the order of the rows."""
    results = results_of(run)
    return [(row.alias, Side(results, row.model_id, row.device)) for row in summarise(run) if row.status == "ok"]


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
        there = ", ".join("@".join(key) for key in _variants(results) if key in meant or not meant)
        raise ModelNotFoundError(f"{what} in {results.name} is meant by {name!r}.", f"There are: {there}.")
    return Side(results, *meant.pop())


def _unlike(a: Results, b: Results) -> tuple[str, ...]:
    """What differs between the machines, as remarks; different work is refused."""
    for name in SAME_WORK:
        if a.plan.get(name) != b.plan.get(name):
            values = f"{a.plan.get(name)!r} in {a.name}, {b.plan.get(name)!r} in {b.name}"
            what = f"The runs did different work: {name} is {values}."
            raise ConfigurationError(what, f"Measure both with the same {name}.")
    prompts_a, prompts_b = ({_prompt_key(side, sample) for sample in side.samples} for side in (a, b))
    both = prompts_a & prompts_b
    if not both:
        raise ConfigurationError("The runs share no prompt.", "Measure both with the same prompts.")
    said = [f"Only the {len(both)} prompts that both runs sent are compared."] if prompts_a != prompts_b else []
    for name in SAME_MACHINE:
        here, there = a.machine.get(name), b.machine.get(name)
        if here != there:
            said.append(f"Different {name.replace('_', ' ')}: {here} in {a.name}, {there} in {b.name}.")
    return tuple(said)


def _by_prompt(side: Side, metric: str) -> dict[str, list[float]]:
    grouped: dict[str, list[float]] = {}
    for sample in side.samples:
        value = sample.value(metric)
        if value is not None and value > 0:
            grouped.setdefault(_prompt_key(side.results, sample), []).append(value)
    return grouped


def _prompt_key(results: Results, sample: Sample) -> str:
    """The prompt's id and the hash of its text, so that a reworded prompt is another prompt.

    With a unique prefix every round sends another text; then the id alone tells the prompt.
    """
    return sample.prompt_id if results.plan.get("unique_prefix") else f"{sample.prompt_id} {sample.prompt_sha256}"


def _texts(a: Side, b: Side) -> str:
    """How many prompts got the same answer in both runs; at temperature 0 a difference is a change of the model."""
    firsts: list[dict[tuple[str, str | None], str]] = [{}, {}]
    for side, first in zip((a, b), firsts, strict=True):
        for sample in side.samples:
            first.setdefault((sample.prompt_id, sample.prompt_sha256), sample.text)
    before, after = firsts
    shared = [key for key in before if key in after]
    changed = [key[0] for key in shared if before[key] != after[key]]
    same = f"{a.model_id} on {a.device}: {len(shared) - len(changed)} of {len(shared)} answers are the same"
    return f"{same}; changed: {', '.join(changed)}." if changed else f"{same}."


def _variants(results: Results) -> list[tuple[str, str]]:
    return list(dict.fromkeys((sample.model_id, sample.device) for sample in results.samples))


@dataclass(frozen=True, slots=True)
class Build:
    """One build of a model on one device: its row and samples, where it ran, and what it is worth.

    `first_token` and `decode` compare it with the CPU build `against`, of the machine that it ran on, e.g. `1.80x
    faster (95 % CI 1.60-2.00)`; all three are empty for a CPU build.
    """

    row: Row
    samples: tuple[Sample, ...]
    where: str = HERE
    against: str = ""
    first_token: str = ""
    decode: str = ""

    @property
    def is_reference(self) -> bool:
        """True when another machine measured it."""
        return self.where != HERE

    @property
    def is_confirmed(self) -> bool:
        """False for a build labelled gpu that no GPU provider was registered for: its device is not known."""
        return "gpu_not_registered" not in self.row.warnings


def side_by_side(run: Run, references: Sequence[Reference] = ()) -> tuple[Build, ...]:
    """The CPU builds of each model, then its GPU builds: those of this machine or, where it has none, the references'.

    What a process registered decides what counts as a GPU, never a variant's label: a build labelled gpu without a
    registered GPU provider is listed and compared with nothing.
    """
    here, rows = results_of(run), [row for row in summarise(run) if row.status == "ok"]
    found: list[Build] = []
    for alias in dict.fromkeys(row.alias for row in rows):
        own = [row for row in rows if row.alias == alias]
        gpus = [row for row in own if row.device == "gpu"]
        found += [_build(here, row, own) for row in own if row.device == "cpu"]
        found += [_build(here, row, own) for row in gpus]
        if not any(map(_is_gpu, gpus)):
            for there in references:
                theirs = [row for row in there.rows if (row.alias, row.status) == (alias, "ok")]
                found += [_build(there.results, row, theirs, there.label) for row in there.gpu_rows if row in theirs]
    return tuple(found)


def _build(results: Results, row: Row, rows: Sequence[Row], where: str = HERE) -> Build:
    """Compare a GPU build with the CPU build of the same precision, else with the first, of the same machine."""
    side = Side(results, row.model_id, row.device)
    if row.device == "cpu":
        return Build(row, side.samples, where)
    if not _is_gpu(row):
        return Build(row, side.samples, where, "", "not compared", "not compared")
    cpus = [each for each in rows if each.device == "cpu"]
    if not cpus:
        return Build(row, side.samples, where, "no CPU build", "nothing to compare", "nothing to compare")
    cpu = next((each for each in cpus if each.precision == row.precision), cpus[0])
    changes = corrected(compare_sides(Side(results, cpu.model_id, cpu.device), side))
    said = {line.measure: line.verdict for line in changes}
    against = f"{cpu.precision or 'precision unknown'} · {cpu.device}"
    return Build(row, side.samples, where, against, said["first token"], said["decode"])


def has_gpu_build(builds: Sequence[Build]) -> bool:
    """True when there is a GPU to draw: this machine's or a reference's."""
    return any(_is_gpu(build.row) for build in builds)


def absent_gpus(run: Run) -> dict[str, str]:
    """Each model without a GPU build that answered here → the reason that was recorded."""
    rows = [row for row in summarise(run) if row.device == "gpu"]
    measured = {row.alias for row in rows if row.status == "ok"}
    return {row.alias: row.error or "no reason was recorded." for row in rows if row.alias not in measured}


def device_notes(run: Run, references: Sequence[Reference] = ()) -> tuple[str, ...]:
    """What a reader of the comparison must know: why a GPU is absent, what stands in for it, what cannot be trusted."""
    builds = side_by_side(run, references)
    said = [f"There are no GPU figures of this machine. {why}" for why in dict.fromkeys(absent_gpus(run).values())]
    if not said and not any(row.device == "gpu" for row in summarise(run)):
        said.append("This run has no GPU model: none was asked for, or the server does not say what it runs on.")
    if doubtful := [name_of(build.row) for build in builds if not build.is_confirmed]:
        what = "labelled gpu, but no GPU provider was registered where it ran, so it counts as no GPU"
        said.append(f"{', '.join(doubtful)}: {what}.")
    if not has_gpu_build(builds):
        said.append("The shipped GPU reference results hold none of these models." if references else NO_GPU)
    if labels := ", ".join(dict.fromkeys(build.where for build in builds if build.is_reference)):
        said.append(f"GPU figures are those of another machine, against its own CPU: {labels}.")
    return tuple(said)


def _is_gpu(row: Row) -> bool:
    return row.device == "gpu" and "gpu_not_registered" not in row.warnings
