"""Models, rows, answers and arrivals as pandas tables for people: milliseconds, megabytes, words.

What was not measured says so and is never 0. Knows no files; `reporting` exports the numbers.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from workshop_lib import compare, summary
from workshop_lib.compare import Side, results_of
from workshop_lib.display import Table
from workshop_lib.metrics import timing
from workshop_lib.records import variant_key
from workshop_lib.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from workshop_lib.records import Completion, ModelVariant, Prompt, Row, Run

NOT_MEASURED = "not measured"
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table of results: its heading, and a row's value in the heading's unit."""

    heading: str
    value: Callable[[Row], str | float | None]
    decimals: int | None = None  # None for text

    @property
    def kind(self) -> Literal["text", "number"]:
        """What the column holds, and so how it is aligned."""
        return "text" if self.decimals is None else "number"

    def cell(self, row: Row) -> str | float:
        """Return a row's value, rounded for people, or the words `not measured`."""
        value = self.value(row)
        if value is None:
            return NOT_MEASURED
        return printable(value) if isinstance(value, str) else round(value, self.decimals or None)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000


def _milli(value: float | None) -> float | None:
    return None if value is None else value * 1000


COLUMNS: tuple[Column, ...] = (
    Column("model", lambda row: row.alias),
    Column("precision", lambda row: row.precision or UNKNOWN),
    Column("device", lambda row: row.device),
    Column("status", lambda row: row.status),
    Column("requests", lambda row: row.requests_ok, 0),
    Column("first token (ms)", lambda row: _ms(row.first_token_latency_avg), 1),
    Column("decode (tok/s)", lambda row: row.decode_tokens_per_sec, 0),
    Column("latency (ms)", lambda row: _ms(row.latency_avg), 1),
    Column("p95 (ms)", lambda row: _ms(row.latency_p95), 1),
    Column("end to end (tok/s)", lambda row: row.tokens_per_sec_avg, 0),
    Column("cold start (ms)", lambda row: _ms(row.cold_start_s), 1),
    Column("load (s)", lambda row: row.load_s, 2),
    Column("peak memory (MB)", lambda row: row.peak_resident_mb, 1),
    Column("size (MB)", lambda row: row.size_mb, 2),
    Column("warnings", lambda row: ", ".join(row.warnings)),
)
WHERE_KNOWN: tuple[Column, ...] = (
    Column("GPU memory (MB)", lambda row: row.gpu_memory_mb, 1),
    Column("energy (mWh per 1000 tok)", lambda row: _milli(row.energy_per_1000_tokens_wh), 2),
    Column("energy known from", lambda row: row.energy_source),
    Column("energy cost (per million tok)", lambda row: row.energy_cost_per_million_tokens, 4),
)
"""Columns that are shown only where a row has a value for them."""

WHO = ["model", "precision", "device", "status"]
COST = ["load (s)", "cold start (ms)", "peak memory (MB)", "size (MB)", "warnings"]


def columns_for(rows: Iterable[Row]) -> tuple[Column, ...]:
    """Return the columns that say something of these rows; the warnings stay last."""
    rows = list(rows)
    known = tuple(column for column in WHERE_KNOWN if any(column.value(row) is not None for row in rows))
    return (*COLUMNS[:-1], *known, COLUMNS[-1])


def speed(rows: Iterable[Row]) -> Table:
    """Return the part of `results` that says how fast each model is."""
    not_speed = {*COST, *(column.heading for column in WHERE_KNOWN)}
    shown = results(rows)
    return Table(shown[[heading for heading in shown.columns if heading not in not_speed]])


def cost(rows: Iterable[Row]) -> Table:
    """Return the part of `results` that says what a model needs, and the warnings."""
    shown = results(rows)
    needs = {*WHO, *COST, *(column.heading for column in WHERE_KNOWN)}
    return Table(shown[[heading for heading in shown.columns if heading in needs]])


def results(rows: Iterable[Row]) -> Table:
    """Return one line per row, in display units, those that failed last; warnings are codes."""
    ordered = sorted(rows, key=lambda row: row.status != "ok")
    columns = columns_for(ordered)
    lines = [{column.heading: column.cell(row) for column in columns} for row in ordered]
    return Table(lines, columns=[column.heading for column in columns])


def models(variants: Iterable[ModelVariant]) -> Table:
    """Return one line per variant that a catalog offers; sizes in MB, context in tokens."""
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
    """Return what the downloads need and what is free, in MB; unknown sizes count as nothing."""
    missing = [variant for variant in variants if variant.cached is False]
    needed = sum(variant.size_mb or 0.0 for variant in missing)
    verdict = "enough" if needed < free_mb else "too little: choose smaller variants or free space"
    line = (len(missing), round(needed, 1), round(free_mb), verdict)
    return Table([line], columns=["to download", "needed (MB)", "free (MB)", "verdict"])


def absent_devices(reasons: Mapping[str, str]) -> Table:
    """Return one line per device that this machine cannot use, with the reason."""
    return Table(sorted(reasons.items()), columns=["device", "why it is not measured here"])


def left_out(skipped: Iterable[tuple[ModelVariant, str]]) -> Table:
    """Return what was asked for but cannot be measured, with the reason."""
    lines = [(variant.alias, variant.device, printable(why)) for variant, why in skipped]
    return Table(lines, columns=["model", "device", "why it is left out"])


def prompts(prompts: Iterable[Prompt]) -> Table:
    """Return the questions that are asked."""
    lines = [(prompt.id, prompt.capability, printable(prompt.text)) for prompt in prompts]
    return Table(lines, columns=["id", "kind of work", "prompt"])


def sentences(said: Iterable[str]) -> Table:
    """Return one line per sentence."""
    return Table([printable(sentence) for sentence in said], columns=["what stands out"])


def meanings(rows: Iterable[Row]) -> Table:
    """Return the warning codes that occur in rows, on how many of them, and what each means."""
    counts = Counter(code for row in rows for code in row.warnings)
    lines = [(code, counts[code], text) for code, text in summary.WARNINGS.items() if counts[code]]
    return Table(lines, columns=["warning", "models", "meaning"])


def answers(run: Run, prompt_id: str) -> Table:
    """Return what each model said to one prompt in the first timed round."""
    precision = {s.variant.model_id: s.variant.precision for s in run.servings}
    lines = [
        {
            "model": completion.alias,
            "precision": precision.get(completion.model_id) or UNKNOWN,
            "device": completion.device,
            "answer": answer(completion),
            "ended": completion.finish_reason or completion.error_kind or UNKNOWN,
        }
        for completion in first_answers(run, prompt_id)
    ]
    return Table(lines, columns=["model", "precision", "device", "answer", "ended"])


def first_answers(run: Run, prompt_id: str) -> list[Completion]:
    """Return each model's answer to one prompt in the first timed round, the last attempt only."""
    asked = [c for c in run.completions if c.prompt_id == prompt_id and c.round == 1]
    last = {(completion.model_id, completion.device): completion for completion in asked}
    order = {variant_key(serving.variant): None for serving in run.servings}
    return [last[key] for key in order if key in last]


def answer(completion: Completion) -> str:
    """Return the text of an answer, or why there is none."""
    if completion.error is not None:
        return f"failed: {printable(completion.error)}"
    return printable(completion.text) or "(no text)"


def arrivals(completion: Completion) -> Table:
    """Return when each chunk of one answer arrived (ms after the request) and what it held."""
    lines = [(round(chunk.at_s * 1000, 2), chunk.kind, printable(chunk.text)) for chunk in completion.chunks]
    return Table(lines, columns=["arrived (ms)", "kind", "text"])


def metrics(completion: Completion) -> Table:
    """Return every metric of one request, times in milliseconds."""
    lines = []
    for metric in timing.METRICS:
        value = metric.measure(completion)
        unit, factor = ("ms", 1000) if metric.unit == "s" else (metric.unit, 1)
        shown = NOT_MEASURED if value is None else round(value * factor, 2)
        lines.append((metric.label, shown, unit))
    return Table(lines, columns=["metric", "value", "unit"])


def steadiness(run: Run) -> Table:
    """Return, per model, on how many prompts every timed round gave the very same answer."""
    lines = []
    for variant in _served(run):
        texts: dict[str, set[str]] = {}
        for completion in _timed(run, variant):
            texts.setdefault(completion.prompt_id, set()).add(completion.text)
        same = sum(len(each) == 1 for each in texts.values())
        lines.append((variant.alias, _build(variant), len(texts), same))
    return Table(lines, columns=["model", "build", "prompts", "same answer every round"])


def differences(run: Run) -> Table:
    """Compare each build of a model with its first one, paired by prompt, with 95 % intervals."""
    results = results_of(run)
    first_of: dict[str, ModelVariant] = {}
    lines = []
    for variant in _served(run):
        first = first_of.setdefault(variant.alias, variant)
        if variant is not first:
            changed = compare.compare_sides(Side(results, *variant_key(first)), Side(results, *variant_key(variant)))
            verdicts = [change.verdict for change in changed if change.measure in COMPARED]
            lines.append((variant.alias, _build(variant), _build(first), *verdicts))
    return Table(lines, columns=["model", "this", "against", "first token", "decode"])


COMPARED = ("first token", "decode")


def _build(variant: ModelVariant) -> str:
    return f"{variant.precision or UNKNOWN} · {variant.device}"


def _served(run: Run) -> list[ModelVariant]:
    """Return the variants that were served, each once."""
    good = [serving.variant for serving in run.servings if serving.status == "ok"]
    return list({variant_key(variant): variant for variant in good}.values())


def _timed(run: Run, variant: ModelVariant) -> list[Completion]:
    """Return a variant's answers of the timed rounds."""
    key = variant_key(variant)
    answered = [each for each in run.completions if each.ok and each.round]
    return [each for each in answered if (each.model_id, each.device) == key]
