"""Models, rows, answers, comparisons and checks as tables for people: milliseconds, megabytes, words.

What was not measured says so and is never 0; `report` exports the numbers in full.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from workshop_lib import checklist, comparison, summary, timing
from workshop_lib.comparison import Side, results_of
from workshop_lib.records import Completion, ModelVariant, Prompt, Row, Run, variant_key
from workshop_lib.show.table import Table
from workshop_lib.show.text import NOT_MEASURED, UNKNOWN, printable

if TYPE_CHECKING:
    from workshop_lib.checklist import ModelCheck
    from workshop_lib.comparison import Changes, Reference
    from workshop_lib.load import KeepWarmResult, Load
    from workshop_lib.self_check import SelfCheck


WHERE_KNOWN = {
    "GPU memory (MB)": "gpu_memory_mb",
    "energy (mWh per 1000 tok)": "energy_per_1000_tokens_wh",
    "energy known from": "energy_source",
    "energy cost (per million tok)": "energy_cost_per_million_tokens",
}
"""Columns that are shown only where a row has a value for them."""
Line = dict[str, str | float]


def _who(row: Row) -> Line:
    who = {"model": printable(row.alias), "precision": row.precision or UNKNOWN}
    return {**who, "device": row.device, "status": row.status}


def _speed(row: Row) -> Line:
    """Every metric of the table, and the p95 beside the latency."""
    line: Line = {"requests": row.requests_ok}
    for metric in timing.metrics_of("table"):
        value = metric.shown(row.value(metric.row_name))
        line[f"{metric.title} ({metric.shown_unit})"] = rounded(value, 1 if metric.shown_unit == "ms" else 0)
        if metric.name == "latency_s":
            line["p95 (ms)"] = rounded(row.latency_p95, 1, 1000)
    return line


def _cost(row: Row) -> Line:
    return {
        "cold start (ms)": rounded(row.cold_start_s, 1, 1000),
        "load (s)": rounded(row.load_s, 2),
        "peak memory (MB)": rounded(row.peak_resident_mb, 1),
        "size (MB)": rounded(row.size_mb, 2),
        "GPU memory (MB)": rounded(row.gpu_memory_mb, 1),
        "energy (mWh per 1000 tok)": rounded(row.energy_per_1000_tokens_wh, 2, 1000),
        "energy known from": row.energy_source or NOT_MEASURED,
        "energy cost (per million tok)": rounded(row.energy_cost_per_million_tokens, 4),
        "warnings": ", ".join(row.warnings),
    }


def results(rows: Iterable[Row]) -> Table:
    """One line per row, in display units, those that failed last; warnings are codes."""
    return _results(rows, _who, _speed, _cost)


def speed(rows: Iterable[Row]) -> Table:
    """The part of `results` that says how fast each model is."""
    return _results(rows, _who, _speed)


def cost(rows: Iterable[Row]) -> Table:
    """The part of `results` that says what a model needs, and the warnings."""
    return _results(rows, _who, _cost)


def _results(rows: Iterable[Row], *parts: Callable[[Row], Line]) -> Table:
    ordered = sorted(rows, key=lambda row: row.status != "ok")
    known = {name for name, field in WHERE_KNOWN.items() if any(row.value(field) is not None for row in ordered)}
    headings = [name for part in parts for name in part(Row("", "", "", "skipped"))]
    lines = [{name: cell for part in parts for name, cell in part(row).items()} for row in ordered]
    shown = [name for name in headings if name not in WHERE_KNOWN or name in known]
    return Table(lines, columns=shown, dtype=object)


def meanings(rows: Iterable[Row]) -> Table:
    """The warning codes that occur in rows, on how many of them, and what each means."""
    counts = Counter(code for row in rows for code in row.warnings)
    lines = [(code, counts[code], text) for code, text in summary.WARNINGS.items() if counts[code]]
    return Table(lines, columns=["warning", "models", "meaning"])


def sentences(said: Iterable[str]) -> Table:
    """One line per sentence."""
    return Table([printable(sentence) for sentence in said], columns=["what stands out"])


# -- models and prompts


def models(variants: Iterable[ModelVariant]) -> Table:
    """One line per variant that a catalog offers; sizes in MB, context in tokens."""
    lines = [
        {
            "alias": variant.alias,
            "variant": variant.model_id,
            "device": variant.device,
            "provider": variant.execution_provider or UNKNOWN,
            "precision": variant.precision or UNKNOWN,
            "size (MB)": UNKNOWN if variant.size_mb is None else round(variant.size_mb, 2),
            "licence": variant.licence or UNKNOWN,
            "context (tokens)": variant.context_tokens or UNKNOWN,
            "capabilities": ", ".join(variant.capabilities),
            "cached": {True: "yes", False: "no", None: UNKNOWN}[variant.cached],
        }
        for variant in variants
    ]
    return Table(lines)


def room(variants: Iterable[ModelVariant], free_mb: float) -> Table:
    """What the downloads need and what is free, in MB; unknown sizes count as nothing."""
    missing = [variant for variant in variants if variant.cached is False]
    needed = sum(variant.size_mb or 0.0 for variant in missing)
    verdict = "enough" if needed < free_mb else "too little: choose smaller variants or free space"
    line = (len(missing), round(needed, 1), round(free_mb), verdict)
    return Table([line], columns=["to download", "needed (MB)", "free (MB)", "verdict"])


def absent_devices(reasons: Mapping[str, str]) -> Table:
    """One line per device that this machine cannot use, with the reason."""
    return Table(sorted(reasons.items()), columns=["device", "why it is not measured here"])


def left_out(skipped: Iterable[tuple[ModelVariant, str]]) -> Table:
    """What was asked for but cannot be measured, with the reason."""
    lines = [(variant.alias, variant.device, printable(why)) for variant, why in skipped]
    return Table(lines, columns=["model", "device", "why it is left out"])


def prompts(prompts: Iterable[Prompt]) -> Table:
    """The questions that are asked."""
    lines = [(prompt.id, prompt.capability, printable(prompt.text)) for prompt in prompts]
    return Table(lines, columns=["id", "kind of work", "prompt"])


# -- answers


def answers(run: Run, prompt_id: str) -> Table:
    """What each model said to one prompt in the first timed round."""
    precision = {serving.variant.model_id: serving.variant.precision for serving in run.servings}
    lines = [
        (
            completion.alias,
            precision.get(completion.model_id) or UNKNOWN,
            completion.device,
            answer(completion),
            completion.finish_reason or completion.error_kind or UNKNOWN,
        )
        for completion in first_answers(run, prompt_id)
    ]
    return Table(lines, columns=["model", "precision", "device", "answer", "ended"])


def first_answers(run: Run, prompt_id: str) -> list[Completion]:
    """Each model's answer to one prompt in the first timed round, the last attempt only."""
    asked = [c for c in run.completions if c.prompt_id == prompt_id and c.round == 1]
    last = {(completion.model_id, completion.device): completion for completion in asked}
    order = {variant_key(serving.variant): None for serving in run.servings}
    return [last[key] for key in order if key in last]


def answer(completion: Completion) -> str:
    """The text of an answer, or why there is none."""
    if completion.error is not None:
        return f"failed: {printable(completion.error)}"
    return printable(completion.text) or "(no text)"


def arrivals(completion: Completion) -> Table:
    """When each chunk of one answer arrived (ms after the request) and what it held."""
    lines = [(round(chunk.at_s * 1000, 2), chunk.kind, printable(chunk.text)) for chunk in completion.chunks]
    return Table(lines, columns=["arrived (ms)", "kind", "text"])


def metrics(completion: Completion) -> Table:
    """Every metric of one request, times in milliseconds."""
    shown = [(each, each.shown(each.measure(completion))) for each in timing.METRICS]
    lines = [(each.label, rounded(value, 2), each.shown_unit) for each, value in shown]
    return Table(lines, columns=["metric", "value", "unit"])


# -- comparisons


def steadiness(run: Run) -> Table:
    """Per model, on how many prompts every timed round gave the very same answer."""
    lines = []
    for variant in _served(run):
        texts: dict[str, set[str]] = {}
        for each in run.completions:
            if each.ok and each.round and (each.model_id, each.device) == variant_key(variant):
                texts.setdefault(each.prompt_id, set()).add(each.text)
        same = sum(len(each) == 1 for each in texts.values())
        lines.append((variant.alias, _build(variant), len(texts), same))
    return Table(lines, columns=["model", "build", "prompts", "same answer every round"])


def differences(run: Run) -> Table:
    """Compare each build of a model with its first one, paired by prompt, with 95 % intervals."""
    results, lines = results_of(run), []
    first_of: dict[str, ModelVariant] = {}
    for variant in _served(run):
        first = first_of.setdefault(variant.alias, variant)
        if variant is not first:
            sides = (Side(results, *variant_key(each)) for each in (first, variant))
            verdicts = [change.verdict for change in comparison.compare_sides(*sides)]
            lines.append((variant.alias, _build(variant), _build(first), *verdicts))
    titles = [metric.title for metric in timing.metrics_of("comparison")]
    return Table(lines, columns=["model", "this", "against", *titles])


def changes(found: Changes) -> Table:
    """One line per model and measure: what the second side is in units of the first."""
    lines = [
        (_both(line.a.model_id, line.b.model_id), _both(line.a.device, line.b.device), line.measure, line.verdict)
        for line in found.lines
    ]
    return Table(lines, columns=["model", "device", "measure", "second against first"])


def devices(run: Run, references: Sequence[Reference] = ()) -> Table:
    """The CPU builds of each model and its GPU builds, here or of another machine, with ratios to the CPU."""
    lines = []
    for build in comparison.side_by_side(run, references):
        row, where = build.row, f"{comparison.ELSEWHERE}: {build.where}" if build.is_reference else build.where
        verdict = ("", "", "") if row.device == "cpu" else ("", "not compared", "not compared")
        if build.verdict is not None:
            verdict = (build.verdict.against, build.verdict.first_token, build.verdict.decode)
        times = (rounded(row.first_token_latency_avg, 1, 1000), rounded(row.decode_tokens_per_sec, 0))
        name = f"{row.precision or UNKNOWN} · {row.device if build.is_confirmed else 'labelled gpu'}"
        lines.append((printable(row.alias), name, printable(where), *times, *verdict))
    headings = ["first token (ms)", "decode (tok/s)", "against", "first token", "decode"]
    return Table(lines, columns=["model", "build", "measured on", *headings])


def loads(found: Iterable[Load]) -> Table:
    """One line per number of simultaneous users: what all get together, and what each of them sees."""
    lines = [
        {
            "users": load.users,
            "answered": f"{len(load.answered)} of {len(load.completions)}",
            "all users (tok/s)": rounded(load.total_tokens_per_s, 0),
            "each user (tok/s)": rounded(load.tokens_per_s, 0),
            "first token (ms)": rounded(load.first_token_s, 1, 1000),
            "latency (ms)": rounded(load.latency_s, 1, 1000),
        }
        for load in found
    ]
    return Table(lines)


def instrument(check: SelfCheck) -> Table:
    """How wrong each client is about a server of known timing, in milliseconds and percent."""
    lines = [
        {
            "client": errors.client,
            "requests": len(errors.times),
            "first token too late, median (ms)": round(errors.first_token_ms, 2),
            "first token too late, least (ms)": round(min(errors.first_token_errors_ms), 2),
            "first token too late, most (ms)": round(max(errors.first_token_errors_ms), 2),
            "pace error (%)": rounded(errors.pace_percent, 2),
        }
        for errors in (check.workshop, check.bare)
    ]
    return Table(lines)


def kept_warm(found: KeepWarmResult) -> Table:
    """A user's first request right after loading and after one light prompt, in milliseconds, with ratios."""
    lines = [
        (
            f"{each.name} (ms)",
            *(rounded(seconds, 1, 1000) for seconds in (each.cold_s, each.kept_s)),
            comparison.describe(each.ratio, "lower"),
        )
        for each in found.lines()
    ]
    return Table(lines, columns=["first request", "right after loading", "after one light prompt", "against"])


# -- the checklist


def statuses(checks: Iterable[ModelCheck]) -> Table:
    """One line per model and device with the status of each check."""
    lines = [(printable(each.model), each.device, *(step.status for step in each.steps)) for each in checks]
    return Table(lines, columns=["model", "device", *checklist.NAMES])


def reasons(checks: Iterable[ModelCheck], name: str) -> Table:
    """Why one of the checks has its status, e.g. `served`: what the status rests on."""
    lines = [
        (printable(each.model), step.status, printable(step.reason))
        for each in checks
        for step in each.steps
        if step.name == name
    ]
    return Table(lines, columns=["model", name, "reason"])


def failures(checks: Iterable[ModelCheck]) -> Table:
    """One line per failed check with what to do; empty where none failed."""
    lines = [
        (printable(each.model), each.device, each.failure.name, printable(each.failure.reason))
        for each in checks
        if each.failure
    ]
    return Table(lines, columns=["model", "device", "failed check", "what to do"])


def rounded(value: float | None, decimals: int, factor: float = 1.0) -> str | float:
    """A number for people, or the words `not measured`."""
    return NOT_MEASURED if value is None else round(value * factor, decimals or None)


def _build(variant: ModelVariant) -> str:
    return f"{variant.precision or UNKNOWN} · {variant.device}"


def _served(run: Run) -> list[ModelVariant]:
    """The variants that were served, each once."""
    good = [serving.variant for serving in run.servings if serving.status == "ok"]
    return list({variant_key(variant): variant for variant in good}.values())


def _both(first: str, second: str) -> str:
    return printable(" / ".join(dict.fromkeys((first, second))))
