"""Many completions of one model on one device become one `Row`; traps become warning codes with a sentence each.

Averages and percentiles are over successful timed requests only: the warm-up (round 0) is reported as the cold start.
Which average and percentiles a metric has in a row, and under which names, is said in `METRICS`. A percentile is
numpy's default (linear interpolation), so it never exceeds the largest sample. Energy is in watt-hours (3 600 J), its
cost in the currency of the price.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from statistics import fmean, median
from typing import Any, NamedTuple

from workshop_lib import machine, timing
from workshop_lib.records import Completion, Key, Row, Run, Serving, Status, TokensSource, key
from workshop_lib.show.text import TRAINED

ENOUGH_SAMPLES = timing.PERCENTILES[95]
"""Below this many requests a 95th percentile is little more than the maximum."""
ENOUGH_FOR_FENCES, SMALLEST_OUTLIER, SHOWN_OUTLIERS = 8, 0.05, 3
UNSTABLE_SPREAD = 0.10
ENOUGH_UPDATES = 10
"""Of an energy meter's counter during a typical request; with fewer, neighbours' energy is counted too."""
FIRST_OVER_LATER, ENOUGH_LATER_ANSWERS = 2.0, 4
"""A first time that takes more than twice as long as later ones is no ordinary noise."""
SLOWER, FASTER = 1.20, 1 / 1.5
ENOUGH_REPEATS, DRIFT_CONFIDENCE = 10, 0.999
FAR, STEPS, LEAST_TIME = 8.0, 10, 0.05
"""What counts as a drift, see `drift`. First requests may meet cold caches: getting a little faster does not."""
CONFIDENCE, WANTED_HALF_WIDTH, MOST_ROUNDS = 0.95, 0.05, 100

SURE: tuple[TokensSource, ...] = ("unknown", "chunks", "usage")
"""A row is only as sure of its tokens as its least sure request."""
OF_THE_VARIANT = ("alias", "model_id", "device", "precision", "execution_provider", "licence", "size_mb")
OF_THE_SERVING = ("load_s", "resident_mb", "peak_resident_mb", "gpu_memory_mb", "request_notes")
"""Fields of a row that are copied."""

NO_PROVIDER = "gpu_not_registered"
WARNINGS: dict[str, str] = {
    "too_few_samples": f"Fewer than {ENOUGH_SAMPLES} requests: the p95 is little more than the slowest one.",
    "unstable": "The spread is 10 % of the mean or more: differences of that size may be noise.",
    "drift": "Answers took 20 % longer or more at the end of the run than at its beginning, or a third less, beyond "
    "noise: plug the machine in, let it cool, close other programs, or set pauses between requests (BENCH_PAUSE=5).",
    "outliers": "Some requests lie far from the rest (1.5 interquartile ranges): look at the chart, not at the mean.",
    "does_not_fit": "Some prompts are longer than the model's context: they have no answer and are in no figure.",
    "some_failed": "Some requests failed; the figures describe only those that succeeded.",
    "truncated": "Some answers were cut, by max_tokens or a full context: they end sooner, so the model looks faster.",
    "no_usage": "The server reports no token counts: chunks were counted and no rate in tokens is given.",
    "usage_mismatch": "The server counts fewer tokens than its answers hold: no rate in tokens is given.",
    "empty_answers": "Some answers hold no visible text: thinking used up max_tokens.",
    "coalesced_chunks": "Several tokens arrive in one chunk: the decode rate is corrected for the first chunk.",
    "bursts": "Many tokens arrived at one moment: the decode rate counts only those that came later, or is not given.",
    "hidden_tokens": "Tokens were counted that never arrived: the decode rate is withheld.",
    "cached_prompt": "Prompts asked before start sooner (a prompt cache): first tokens of new prompts take longer.",
    "cold_start": "The first request took more than twice as long as the others: it is shown apart.",
    "not_streamed": "Answers came in one piece: there is no first-token time.",
    NO_PROVIDER: "Built for a GPU, but no GPU provider was registered where it ran: it may have run on a CPU.",
    "trained_on_prompts": "Trained on these prompts or close copies: this says little about other prompts.",
    "coarse_energy": "Requests are short for the energy meter: each also got energy of its neighbours'.",
}


def summarise(run: Run) -> tuple[Row, ...]:
    """One row per model and device, in the order in which they were served."""
    asked = by_variant(run)
    last_serving = {key(serving.variant): serving for serving in run.servings}
    return tuple(_row(run, serving, asked.get(which, [])) for which, serving in last_serving.items())


def by_variant(run: Run) -> dict[Key, list[Completion]]:
    """The requests of each model id and device that was asked."""
    found: dict[Key, list[Completion]] = {}
    for completion in run.completions:
        found.setdefault(key(completion), []).append(completion)
    return found


def name_of(row: Row) -> str:
    """`tiny · int4 · cpu`; what is unknown is left out, and `†` means trained on its prompts."""
    name = " · ".join(part for part in (row.alias, row.precision, row.device) if part and part != "unknown")
    return name + TRAINED * bool(row.trained_on_prompts)


def row_object(row: Row) -> dict[str, Any]:
    """A row as its JSON object: contract names, seconds, null for what was not measured or is no number."""
    values = asdict(row)
    more = dict.fromkeys(timing.row_names()) | values.pop("more")
    values |= {name: value for name, value in more.items() if name not in values}
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()
    }


def _row(run: Run, serving: Serving, completions: Sequence[Completion]) -> Row:
    """The row of one variant from its serving and all its requests, warm-ups and failures included."""
    variant, prompt_set = serving.variant, run.prompt_set
    trained = None if variant.trained_on is None or prompt_set is None else prompt_set in variant.trained_on
    timed, answered = [each for each in completions if each.round > 0], _timed(completions)
    status, error = _outcome(serving, completions, answered)
    cold_start = next((each for each in completions if each.round == 0 and each.fits), None)
    measured = _columns(answered)
    energy_wh, energy_source = _energy(answered, measured)
    price = run.plan.get("price_per_kwh")
    figures: dict[str, Any] = {}
    for metric in timing.METRICS:
        figures |= _figures(metric, measured.get(metric.name, ()))
    more = {name: figures.pop(name) for name in list(figures) if name not in Row.__dataclass_fields__}
    cut = [each.finish_reason for each in answered].count("length")
    update_s = machine.UPDATE_S.get(energy_source or "", 0.0)  # how often the meter's counter moves
    warnings = _warnings(timed, answered, measured, cold_start)
    warnings |= {
        "coarse_energy": answered and fmean(measured["latency_s"]) < ENOUGH_UPDATES * update_s,
        NO_PROVIDER: status == "ok" and variant.device == "gpu" and not machine.has_gpu(serving.registered_providers),
        "trained_on_prompts": trained and answered,
    }
    return Row(
        **{name: getattr(variant, name) for name in OF_THE_VARIANT},
        **{name: getattr(serving, name) for name in OF_THE_SERVING},
        status=status,
        error=error,
        rounds=int(run.plan.get("rounds", 0)),
        requests_ok=len(answered),
        prompts=len({each.prompt_id for each in timed}),
        prompts_not_fitting=len({each.prompt_id for each in timed if not each.fits}),
        tokens_source=min(measured["tokens_source"], key=SURE.index, default="unknown"),
        prompt_tokens_avg=_mean([each.prompt_tokens for each in answered]),
        completion_tokens_avg=_mean(measured["tokens"]),
        warnings=tuple(code for code, is_so in warnings.items() if is_so),
        cold_start_s=timing.latency_s(cold_start) if cold_start else None,
        truncated_share=cut / len(answered) if answered else None,
        energy_per_1000_tokens_wh=energy_wh,
        energy_source=energy_source,
        energy_cost_per_million_tokens=None if price is None or energy_wh is None else price * energy_wh,  # kWh
        prompt_set=prompt_set,
        trained_on_prompts=trained,
        more=more,
        **figures,  # of the metrics that have a field of their own
    )


def _timed(completions: Iterable[Completion]) -> list[Completion]:
    return [each for each in completions if each.ok and each.round > 0]


def _outcome(
    serving: Serving, completions: Sequence[Completion], answered: Sequence[Completion]
) -> tuple[Status, str | None]:
    last_failure = next((each.error for each in reversed(completions) if each.error), None)
    if serving.status != "ok":
        return serving.status, serving.error or last_failure
    return ("ok", None) if answered else ("failed", last_failure or "No request was sent.")


def _columns(answered: Sequence[Completion]) -> dict[str, list[Any]]:
    """Every metric and the other `timing.Measures` of every completion, a list each: lists of numbers are small."""
    measures = zip(*map(timing.measure, answered), strict=True) if answered else ((),) * len(timing.Measures._fields)
    columns = dict(zip(timing.Measures._fields, map(list, measures), strict=True))
    paces = columns["time_per_output_token_s"]
    columns["decode_tokens_per_s"] = [None if pace is None else 1 / pace for pace in paces]
    for metric in timing.METRICS:
        if metric.name not in columns and (metric.percentiles or "rows" in metric.places):
            columns[metric.name] = list(map(metric.measure, answered))
    return columns


def _figures(metric: timing.Metric, values: Sequence[float | None]) -> dict[str, float | None]:
    """The average and the percentiles of a metric by their names in a row; None where there are too few samples.

    `latency_p95` alone is given for any number: the course's contract has it so, with the warning `too_few_samples`.
    """
    import numpy as np

    known, found = [value for value in values if value is not None], dict[str, float | None]()
    if "rows" in metric.places:
        found[metric.row_name] = (median(known) if metric.average == "median" else fmean(known)) if known else None
    for name, percent in metric.percentile_names.items():
        fewest = 1 if name == "latency_p95" else timing.PERCENTILES[percent]
        found[name] = float(np.percentile(known, percent)) if len(known) >= fewest else None
    return found


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


# -- warnings


def _warnings(
    timed: Sequence[Completion],
    answered: Sequence[Completion],
    measured: Mapping[str, Sequence[Any]],
    cold_start: Completion | None,
) -> dict[str, object]:
    """Which codes concern these requests; what is true counts."""
    if not answered:
        return {}
    cold_s = timing.latency_s(cold_start) if cold_start else None
    usual = _by_prompt(answered).get(cold_start.prompt_id) if cold_start else None
    counted = set(measured["tokens_source"]) == {"usage"} or all(each.completion_tokens for each in answered)
    cached = any(map(timing.is_prompt_cached, answered)) or looks_cached(answered)
    trend = drift(answered)
    return {
        "too_few_samples": len(answered) < ENOUGH_SAMPLES,
        "unstable": spread(answered) >= UNSTABLE_SPREAD,
        "drift": trend.is_clear and not (cached and trend.times < 1),
        "outliers": outliers(answered),
        "does_not_fit": not all(each.fits for each in timed),
        "some_failed": len(answered) < sum(each.fits for each in timed),
        "no_usage": not counted,
        "usage_mismatch": any(measured["has_usage_mismatch"]),
        "empty_answers": any(each.is_empty for each in answered),
        "truncated": any(each.finish_reason == "length" for each in answered),
        "hidden_tokens": any(measured["has_hidden_tokens"]),
        "coalesced_chunks": any(measured["has_coalesced_chunks"]),
        "bursts": any(measured["has_burst"]),
        "cached_prompt": cached,
        "not_streamed": not all(each.streamed for each in answered),
        "cold_start": cold_s and usual and cold_s > 2 * median(usual),
    }


def looks_cached(answered: Iterable[Completion]) -> bool:
    """True when repeated prompts were answered from a cache, judged by time, for servers that do not say so.

    For each prompt the time to first token of round 1 is divided by the median of its later rounds, and likewise the
    time from there to the end. The prompt was cached where the median over prompts of the first ratio is above
    `FIRST_OVER_LATER` times that of the second (not below 1): a machine that was busy in the first round slows the
    whole answer down, a cache only quickens its beginning. Without `ENOUGH_LATER_ANSWERS` later answers nothing is
    said. The warm-up is another text (see `Plan`) and takes no part; nor do repeated attempts.
    """
    first: dict[str, list[tuple[float, float]]] = {}
    later: dict[str, list[tuple[float, float]]] = {}
    for each in answered:
        start_s = timing.first_token_s(each)
        if each.attempt == 1 and start_s is not None:
            times = start_s, (timing.latency_s(each) or 0.0) - start_s
            (first if each.round == 1 else later).setdefault(each.prompt_id, []).append(times)
    both = first.keys() & later.keys()
    if sum(len(later[prompt]) for prompt in both) < ENOUGH_LATER_ANSWERS:
        return False

    def over(part: int) -> float:
        usual_s = {prompt: median(times[part] for times in later[prompt]) for prompt in both}
        return median(first[prompt][0][part] / usual_s[prompt] if usual_s[prompt] > 0 else 1.0 for prompt in both)

    return over(0) > FIRST_OVER_LATER * max(1.0, over(1))


def _energy(answered: Sequence[Completion], measured: Mapping[str, Sequence[Any]]) -> tuple[float | None, str | None]:
    """Watt-hours per 1 000 completion tokens of these requests, and what the energy is known from.

    Only requests count whose energy and tokens (by the server's `usage`) are both known. For assumed power the joules
    are watts x seconds. Measured and assumed energy never mix into a measured figure: it is then called assumed.
    """
    rows = zip(answered, measured["tokens"], measured["tokens_source"], strict=True)
    known = [(each, tokens) for each, tokens, source in rows if each.energy_j is not None and source == "usage"]
    joules, tokens = sum(each.energy_j or 0.0 for each, _ in known), sum(count for _, count in known)
    if not joules or not tokens:
        return None, None
    sources = {each.energy_source for each, _ in known}
    return joules / 3600 / tokens * 1000, sources.pop() if len(sources) == 1 else machine.ASSUMED


def spread(answered: Sequence[Completion]) -> float:
    """Standard deviation over mean of the latencies of one prompt, median over prompts; 0 when nothing was repeated."""
    import numpy as np

    groups = [latencies for latencies in _by_prompt(answered).values() if len(latencies) > 1]
    return median(float(np.std(group, ddof=1) / np.mean(group)) for group in groups) if groups else 0.0


def outliers(answered: Sequence[Completion]) -> list[tuple[Completion, float]]:
    """Requests whose latency, relative to the median of their prompt, lies beyond 1.5 interquartile ranges; and that.

    Prompts differ in length, so each latency is divided by its prompt's median first. Needs eight requests; deviations
    under 5 % are never outliers, however even the rest is.
    """
    import numpy as np

    if len(answered) < ENOUGH_FOR_FENCES:
        return []
    typical = {prompt: median(latencies) for prompt, latencies in _by_prompt(answered).items()}
    relative = [(timing.latency_s(each) or 0.0) / typical[each.prompt_id] for each in answered]
    low, high = np.percentile(relative, [25, 75])
    reach = max(1.5 * (high - low), SMALLEST_OUTLIER)
    pairs = zip(answered, relative, strict=True)
    return [(each, times) for each, times in pairs if not low - reach <= times <= high + reach]


def _by_prompt(answered: Iterable[Completion]) -> dict[str, list[float]]:
    grouped: dict[str, list[float]] = {}
    for each in answered:
        grouped.setdefault(each.prompt_id, []).append(timing.latency_s(each) or 0.0)
    return grouped


class Drift(NamedTuple):
    """What an answer takes at the end of a run over what it takes at its beginning, and the ends of a 99.9 % interval.

    `points`: when each request started, in seconds, and its latency over its prompt's in the middle of the run.
    """

    times: float
    low: float
    high: float
    points: list[tuple[float, float]]

    @property
    def is_clear(self) -> bool:
        """True where the end took 20 % longer or more, or a third less, and noise does not explain it."""
        return (self.times >= SLOWER and self.low > 1) or (self.times <= FASTER and self.high < 1)

    @property
    def sentence(self) -> str:
        """What a reader is told."""
        interval = f"99.9 % CI {self.low:.2f}-{self.high:.2f}"
        return f"an answer took {self.times:.2f}x as long at the end of the run as at its beginning ({interval})"


def drift(answered: Sequence[Completion]) -> Drift:
    """How latency changed over the wall time of a run; for too few requests 1, with an interval from 0 on.

    The logarithm of latency is a level per prompt plus a line over time, fitted with Tukey's biweight: requests beyond
    8 standard deviations from the line have no weight. The interval is Student's, of 10 degrees of freedom or more.

    Of 10 000 simulated steady runs (`tests/benchmarks/drift_rates.py`) none is a clear drift with 2 to 5 % of noise,
    outliers or not; 0.08 % with 5 % of autocorrelated noise, 0.2 % with 30 %. Of runs that slow down by 30 %, in 5 %
    of noise, 96 % are for 12 prompts in 2 rounds, 99 % for 3; with one outlier in 25 requests 74 and 98 %.
    """
    import numpy as np

    started = np.array([datetime.fromisoformat(each.started_at).timestamp() for each in answered])
    prompt = np.unique([each.prompt_id for each in answered], return_inverse=True)[1]
    latency = np.log([timing.latency_s(each) or 1e-9 for each in answered])
    requests = np.bincount(prompt)
    freedom = len(answered) - len(requests) - 1
    when = (started - started.min()) / (np.ptp(started) or 1.0) - 0.5

    def within(values: np.ndarray) -> np.ndarray:
        return np.asarray(values - (np.bincount(prompt, values) / requests)[prompt])

    time, clean, slope, reach = within(when), latency, 0.0, math.inf
    if len(answered) >= ENOUGH_SAMPLES and freedom >= ENOUGH_REPEATS and np.std(time) > LEAST_TIME:
        from scipy import special  # a sixth of a second, for enough requests alone

        for _ in range(STEPS):
            slope = float(time @ clean / (time @ time))
            fitted = clean - within(clean - slope * when)
            rest = latency - fitted
            deviation = 1.4826 * float(np.median(np.abs(rest))) * math.sqrt(len(rest) / freedom)
            far = np.minimum(1.0, (rest / max(FAR * deviation, 1e-9)) ** 2)
            clean = fitted + rest * (1 - far) ** 2
        error = float(np.linalg.norm(clean - fitted) / np.linalg.norm(time)) / math.sqrt(freedom)
        kept = max(0.3, float(np.mean((1 - far) * (1 - 5 * far))))
        reach = float(special.stdtrit(freedom, 0.5 + DRIFT_CONFIDENCE / 2)) * error / kept
    flat = latency - slope * when  # plain medians would hide half of a trend: of two rounds, one is before its median
    levels = np.array([np.median(flat[prompt == number]) for number in range(len(requests))])
    points = list(zip(started.tolist(), np.exp(latency - levels[prompt]).tolist(), strict=True))
    times, low, high = np.exp(np.minimum([slope, slope - reach, slope + reach], 700.0)).tolist()  # no overflow
    return Drift(times, low, high, points)


# -- what to know before relying on the figures


def stability_notes(run: Run) -> tuple[str, ...]:
    """What a reader should know before relying on the figures; empty when there is nothing.

    For each model that was measured: its spread when that is 10 % of the mean or more, how many more rounds would do,
    and its worst outliers and cold start. Last, how long each model took to load.
    """
    rows, asked = [row for row in summarise(run) if row.status == "ok"], by_variant(run)
    timed = [(row, _timed(asked[row.model_id, row.device])) for row in rows]
    notes = [f"{name_of(row)}: {note}." for row, answered in timed for note in _notes(row, answered)]
    notes += [f"{name_of(row)}: {drift(answered).sentence}." for row, answered in timed if "drift" in row.warnings]
    loads = [f"{name_of(row)} {row.load_s:.2f} s" for row in rows if row.load_s is not None]
    return (*notes, *([f"Load times, in no other figure: {', '.join(loads)}."] if loads else []))


def _notes(row: Row, answered: Sequence[Completion]) -> Iterator[str]:
    prompts, scatter = len({each.prompt_id for each in answered}), spread(answered)
    rounds = max(1, len(answered) // prompts)
    needed = rounds_needed(scatter, prompts=prompts, rounds=rounds)
    more = f"about {needed - rounds} more round{'s' * (needed - rounds > 1)} would do"
    if needed >= MOST_ROUNDS:
        more = f"{MOST_ROUNDS} rounds would not do, so measure on a quieter machine"
    elif needed <= rounds:
        more = "the mean is known to 5 % all the same"
    if row.prompts_not_fitting:
        yield f"{row.prompts_not_fitting} of {row.prompts} prompts do not fit its context and are in no figure"
    if scatter >= UNSTABLE_SPREAD:
        yield f"requests with the same prompt scatter by {100 * scatter:.0f} % of their mean; {more}"
    elif needed > rounds:
        yield f"{len(answered)} requests are few; {more}"
    if far := sorted(outliers(answered), key=lambda found: -found[1]):
        said = [f"prompt {each.prompt_id}, round {each.round} took {times:.1f}x its median" for each, times in far]
        others = [f"{len(far) - SHOWN_OUTLIERS} more outliers"] if len(far) > SHOWN_OUTLIERS else []
        yield "; ".join([*said[:SHOWN_OUTLIERS], *others])
    if row.cold_start_s is not None and "cold_start" in row.warnings:
        yield f"the first request took {row.cold_start_s:.2f} s; it is in no average"


def rounds_needed(relative_spread: float, *, prompts: int, rounds: int) -> int:
    """Rounds after which the mean is known to 5 %, and 20 requests are there for a 95th percentile.

    The half-width of the 95 % interval of a mean over n requests is t(0.975, df) s / sqrt(n), where s is the spread
    within prompts, relative to the mean, and df its degrees of freedom, prompts x (rounds - 1). Setting it to 0.05
    gives n = (t s / 0.05)^2 (NIST/SEMATECH e-Handbook of Statistical Methods, section 7.2.2.2). At most `MOST_ROUNDS`.
    """
    from scipy import special

    quantile = float(special.stdtrit(max(1, prompts * (rounds - 1)), 0.5 + CONFIDENCE / 2))
    requests = max((quantile * relative_spread / WANTED_HALF_WIDTH) ** 2, ENOUGH_SAMPLES)
    return min(MOST_ROUNDS, math.ceil(requests / prompts))
