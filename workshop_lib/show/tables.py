"""Models, rows, answers, comparisons and checks as tables for people: milliseconds, megabytes, words.

What was not measured says so and is never 0; `report` exports the numbers in full.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from workshop_lib import checklist, comparison, goals, summary, timing
from workshop_lib.precision import percent, repeated
from workshop_lib.quality import facts
from workshop_lib.records import Completion, ModelVariant, Prompt, Row, Run, key
from workshop_lib.show.table import Table
from workshop_lib.show.text import NOT_MEASURED, TRAINED, UNKNOWN, asked, number, printable

if TYPE_CHECKING:
    from workshop_lib.checklist import ModelCheck
    from workshop_lib.comparison import Changes, Results
    from workshop_lib.fit import Fit
    from workshop_lib.lengths import PromptLengths
    from workshop_lib.load import KeepWarmResult, Load
    from workshop_lib.models.registry import RegisteredModel
    from workshop_lib.precision import Precisions
    from workshop_lib.self_check import SelfCheck

Columns = Mapping[str, tuple[str, int, float]]
"""Heading → the figure of a row, its decimals, and what it is multiplied by."""
WHO: Columns = {
    "model": ("alias", 0, 1), "precision": ("precision", 0, 1), "device": ("device", 0, 1), "status": ("status", 0, 1),
    "trained on it": ("trained_on_prompts", 0, 1),
}  # fmt: skip
COSTS: Columns = {
    "cold start (ms)": ("cold_start_s", 1, 1000),
    "load (s)": ("load_s", 2, 1),
    "peak memory (MB)": ("peak_resident_mb", 1, 1),
    "size (MB)": ("size_mb", 2, 1),
    "GPU memory (MB)": ("gpu_memory_mb", 1, 1),
    "energy (mWh per 1000 tok)": ("energy_per_1000_tokens_wh", 2, 1000),
    "energy known from": ("energy_source", 0, 1),
    "energy cost (per million tok)": ("energy_cost_per_million_tokens", 4, 1),
    "warnings": ("warnings", 0, 1),
}


def rounded(value: float | None, decimals: int, factor: float = 1.0) -> str | float:
    """A number for people, or the words `not measured`."""
    return NOT_MEASURED if value is None else round(value * factor, decimals or None)


def milliseconds(*seconds: float | None) -> tuple[str | float, ...]:
    """Times in milliseconds with one decimal, or the words `not measured`."""
    return tuple(rounded(each, 1, 1000) for each in seconds)


# -- rows


def results(rows: Iterable[Row]) -> Table:
    """One line per row, in display units, those that failed last; warnings are codes.

    A figure that no row knows has no column.
    """
    return _results(rows, {**WHO, **_speeds(), **COSTS})


def speed(rows: Iterable[Row]) -> Table:
    """The part of `results` that says how fast each model is, of those that were asked."""
    return _results(asked(rows), {**WHO, **_speeds()})


def cost(rows: Iterable[Row]) -> Table:
    """The part of `results` that says what a model needs, and the warnings, of those that were asked."""
    return _results(asked(rows), {**WHO, **COSTS})


def _speeds() -> Columns:
    """The requests, every metric of the table, and the p95 beside the latency."""
    columns = {"requests": ("requests_ok", 0, 1.0)}
    for metric in timing.metrics_of("table"):
        decimals, factor = (1, 1000.0) if metric.shown_unit == "ms" else (0, 1.0)
        columns[f"{metric.title} ({metric.shown_unit})"] = metric.row_name, decimals, factor
        if metric.name == "latency_s":
            columns["p95 (ms)"] = "latency_p95", 1, 1000
    return columns


def _results(rows: Iterable[Row], columns: Columns) -> Table:
    ordered = sorted(rows, key=lambda row: row.status != "ok")
    known = {title for title, (field, *_) in columns.items() if any(row.value(field) is not None for row in ordered)}
    shown = {title: how for title, how in columns.items() if title in known}
    return Table.of(([_cell(row, *how) for how in shown.values()] for row in ordered), *shown)


def _cell(row: Row, field: str, decimals: int, factor: float) -> str | float:
    """A figure of a row for people; codes with commas, text and yes and no as words."""
    value: Any = row.value(field)
    if field in {"trained_on_prompts", "precision"} and value is None:
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str | tuple):
        return value if isinstance(value, str) else ", ".join(value)
    return rounded(value, decimals, factor)


def meanings(rows: Iterable[Row]) -> Table:
    """The warning codes that occur in rows, on how many of them, and what each means."""
    counts = Counter(code for row in rows for code in row.warnings)
    lines = [(code, counts[code], text) for code, text in summary.WARNINGS.items() if counts[code]]
    return Table.of(lines, "warning", "models", "meaning")


def sentences(said: Iterable[str]) -> Table:
    """One line per sentence."""
    return Table.of(([sentence] for sentence in said), "in words")


# -- models and prompts


def models(variants: Iterable[ModelVariant]) -> Table:
    """One line per variant that a catalog offers; sizes in MB, context in tokens."""
    cached, lines = {True: "yes", False: "no", None: UNKNOWN}, []
    for each in variants:
        size = None if each.size_mb is None else round(each.size_mb, 2)
        built = (each.alias, each.model_id, each.device, each.execution_provider, each.precision, size, each.licence)
        line = (*built, each.context_tokens, ", ".join(each.capabilities), cached[each.cached])
        lines.append([UNKNOWN if cell is None else cell for cell in line])
    headings = ("size (MB)", "licence", "context (tokens)", "capabilities", "cached")
    return Table.of(lines, "alias", "variant", "device", "provider", "precision", *headings)


def registered(models: Iterable[RegisteredModel], faults: Iterable[str]) -> Table:
    """One line per model of one's own; a fault says why one cannot be used, empty where it can."""
    lines = []
    for each, fault in zip(models, faults, strict=True):
        built = (each.alias, each.kind, each.device, each.precision or UNKNOWN, each.size_mb, each.licence or UNKNOWN)
        lines.append((*built, "unusable" if fault else "ready"))
    return Table.of(lines, "alias", "kind", "device", "precision", "size (MB)", "licence", "state")


def room(variants: Iterable[ModelVariant], free_mb: float) -> Table:
    """What the downloads need and what is free, in MB; unknown sizes count as nothing."""
    missing = [variant.size_mb or 0.0 for variant in variants if variant.cached is False]
    verdict = "enough" if sum(missing) < free_mb else "too little: choose smaller variants or free space"
    line = (len(missing), round(sum(missing), 1), round(free_mb), verdict)
    return Table.of([line], "to download", "needed (MB)", "free (MB)", "verdict")


def absent_devices(reasons: Mapping[str, str]) -> Table:
    """One line per device that this machine cannot use, with the reason."""
    return Table.of(sorted(reasons.items()), "device", "why it is not measured here")


def left_out(skipped: Iterable[tuple[ModelVariant, str]]) -> Table:
    """What was asked for but cannot be measured: one line per device and reason."""
    models: dict[tuple[str, str], list[str]] = {}
    for variant, why in skipped:
        models.setdefault((variant.device, why), []).append(variant.alias)
    lines = ((", ".join(aliases), device, why) for (device, why), aliases in models.items())
    return Table.of(lines, "models", "device", "why they are left out")


def prompts(prompts: Iterable[Prompt]) -> Table:
    """The questions that are asked."""
    return Table.of(((each.id, each.capability, each.text) for each in prompts), "id", "kind of work", "prompt")


# -- answers


def answers(run: Run, prompt_id: str) -> Table:
    """What each model said to one prompt in the first timed round; where it holds notes, what they do not say."""
    precision = {key(serving.variant): serving.variant.precision or UNKNOWN for serving in run.servings}
    question = "".join(prompt.text for prompt in run.prompts if prompt.id == prompt_id)
    lines, found = [], {}
    for each in first_answers(run, prompt_id):
        said, ended = answer(each), each.finish_reason or each.error_kind or UNKNOWN
        lines.append((each.alias, precision[key(each)], each.device, said, ended))
        if each.ok and (check := facts.check_answer(question, said)):
            found[said] = check
    table = Table.of(lines, "model", "precision", "device", "answer", "ended")
    if found:
        words = {said: ", ".join(check.unsupported) for said, check in found.items()}
        table["not in the notes"] = [words.get(said) or "—" for said in table["answer"]]
    return table.underline({said: check.places for said, check in found.items()})


def first_answers(run: Run, prompt_id: str) -> list[Completion]:
    """Each model's answer to one prompt in the first timed round, the last attempt only."""
    last = {key(each): each for each in run.completions if each.prompt_id == prompt_id and each.round == 1}
    order = dict.fromkeys(key(serving.variant) for serving in run.servings)
    return [last[which] for which in order if which in last]


def answer(completion: Completion) -> str:
    """The text of an answer, or why there is none."""
    if completion.error is not None:
        return f"failed: {printable(completion.error)}"
    return printable(completion.text) or "(no text)"


def arrivals(completion: Completion) -> Table:
    """When each chunk of one answer arrived (ms after the request) and what it held."""
    lines = ((round(chunk.at_s * 1000, 2), chunk.kind, chunk.text) for chunk in completion.chunks)
    return Table.of(lines, "arrived (ms)", "kind", "text")


def metrics(completion: Completion) -> Table:
    """Every metric of one request, times in milliseconds."""
    lines = ((each.label, rounded(each.shown(each.measure(completion)), 2), each.shown_unit) for each in timing.METRICS)
    return Table.of(lines, "metric", "value", "unit")


# -- comparisons


def steadiness(run: Run) -> Table:
    """Per model, on how many prompts every timed round gave the very same answer."""
    said: dict[tuple[str, str], dict[str, set[str]]] = {}
    for each in run.completions:
        if each.ok and each.round:
            said.setdefault(key(each), {}).setdefault(each.prompt_id, set()).add(each.text)
    served = {key(each.variant): each.variant for each in run.servings if each.status == "ok"}
    lines = []
    for which, variant in served.items():
        texts = said.get(which, {}).values()
        lines.append((variant.alias, _build(variant), len(texts), sum(len(each) == 1 for each in texts)))
    return Table.of(lines, "model", "build", "prompts", "same answer every round")


def differences(run: Run) -> Table:
    """Compare each build of a model with its first one, paired by prompt, with 95 % intervals."""
    built, lines = {key(each.variant): each.variant for each in run.servings}, dict[Any, list[str]]()
    found = comparison.between_builds(run)
    for change in found:
        this, first = built[change.b], built[change.a]
        lines.setdefault(key(this), [this.alias, _build(this), _build(first)]).append(change.verdict)
    titles = (each.title for each in timing.metrics_of("comparison"))
    compared = sum(change.ratio.low is not None for change in found)
    return Table.of(lines.values(), "model", "this", f"against ({compared} comparisons)", *titles)


def precisions(found: Precisions) -> Table | None:
    """One line per precision of a model: what it needs, how fast it is, and how far it answers as the first one."""
    if not found.builds:
        return None
    fields = ("size_mb", "peak_resident_mb", "first_token_latency_avg", "decode_tokens_per_sec")
    columns = {how[0]: (title, how) for title, how in {**COSTS, **_speeds()}.items()}
    lines = []
    for build in found.builds:
        against = (build.verdict, percent(build.words), f"{build.same} of {build.shared}")
        compared = against if build is not found.builds[0] else ("reference", "", "")
        lines.append((build.precision, *(_cell(build.row, *columns[field][1]) for field in fields), *compared))
    headings = (f"latency against {found.builds[0].precision}", "words kept", "answers all the same")
    return Table.of(lines, "precision", *(columns[field][0] for field in fields), *headings)


def precision_answers(found: Precisions, prompt_id: str) -> Table | None:
    """The builds' answers to one prompt, cut where they begin to differ from the first build's."""
    lines = []
    for build in found.builds:
        reference, text = found.builds[0].answers.get(prompt_id), build.answers.get(prompt_id)
        if reference is not None and text is not None:
            same = repeated(reference, text)
            lines.append((build.precision, same, text.removeprefix(same).strip()))
    return Table.of(lines, "precision", f"as {found.builds[0].precision}", "and then") if lines else None


def changes(found: Changes) -> Table:
    """One line per model and measure: what the second side is in units of the first."""
    lines = []
    for line in found.lines:
        sides = (" / ".join(dict.fromkeys(pair)) for pair in zip(line.a, line.b, strict=True))
        lines.append((*sides, line.metric.title, line.verdict))
    compared = sum(line.ratio.low is not None for line in found.lines)
    return Table.of(lines, "model", "device", "measure", f"second against first ({compared} comparisons)")


def devices(run: Run, references: Sequence[Results] = ()) -> Table:
    """The CPU builds of each model and its GPU builds, here or of another machine, with ratios to that one's CPU.

    Where there is no GPU to compare with, the table holds the sentences that say why.
    """
    builds, lines = comparison.side_by_side(run, references), []
    if not builds:
        return sentences(comparison.device_notes(run, references))
    for build in builds:
        row, where = build.row, f"{comparison.ELSEWHERE}: {build.where}" if build.is_reference else build.where
        figures = (*milliseconds(row.first_token_latency_avg), rounded(row.decode_tokens_per_sec, 0))
        name = f"{row.precision or UNKNOWN} · {row.device}"
        alias = row.alias + TRAINED * bool(row.trained_on_prompts)
        lines.append((alias, name, where, *figures, build.against, build.first_token, build.decode))
    headings = ("first token (ms)", "decode (tok/s)", "against", "first token", "decode")
    return Table.of(lines, "model", "build", "measured on", *headings)


def in_time(run: Run, promised: goals.Goals) -> Table:
    """One line per model that was asked: how many of its requests kept each service goal, and all of them."""
    apart = [{name: promised[name]} for name in goals.MEASURES if name in promised]
    both = goals.by_model(run, promised)
    counted, lines = [goals.by_model(run, each) for each in apart], []
    for row in summary.summarise(run):
        if kept := both.get(key(row)):
            requests = f"{kept.requests}{f', and {kept.left_out} that do not fit' * bool(kept.left_out)}"
            each = (rounded(found[key(row)].kept, 0) for found in counted)
            lines.append((summary.name_of(row), requests, *each, str(kept), comparison.HERE))
    return Table.of(lines, "model", "requests", *map(goals.describe, apart), "all in time", "measured on")


def loads(found: Iterable[Load], promised: goals.Goals) -> Table:
    """One line per number of simultaneous users: what all get together, and what each of them sees."""
    lines = []
    for load in found:
        rates = (rounded(load.total_tokens_per_s, 0), rounded(load.tokens_per_s, 0))
        times = milliseconds(load.first_token_s, load.latency_s)
        in_time = str(goals.count(load.completions, promised))
        lines.append((load.users, f"{len(load.answered)} of {len(load.completions)}", *rates, *times, in_time))
    headings = ("all users (tok/s)", "each user (tok/s)", "first token (ms)", "latency (ms)", "in time")
    return Table.of(lines, "users", "answered", *headings)


def prompt_lengths(found: PromptLengths) -> Table:
    """One line per prompt length: the wait for the first token as measured and by the line, and the pace after it."""
    fit, lines = found.fit, []
    for point in found.points:
        by_line = None if fit is None else fit.first_token_s(point.prompt_tokens)
        figures = (*milliseconds(point.first_token_s, by_line), rounded(point.decode_tokens_per_sec, 0))
        lines.append((f"{point.prompt_tokens:,.0f}", point.requests, *figures))
    lines += [(f"{length:,}", 0, "does not fit", "", "") for length in found.left_out]
    headings = ("first token, median (ms)", "by the line (ms)", "decode, median (tok/s)")
    return Table.of(lines, "prompt tokens", "requests", *headings)


def fit(found: Fit) -> Table:
    """What each model needs, as estimated; in brackets what is known, and how far the estimate is off that."""
    lines = []
    for each in found.estimates:
        figures = []
        for mine, known, error in zip(each.need, each.known, each.errors(), strict=True):
            off = "" if error is None else f": {error:+.0f} %"
            figures.append(UNKNOWN if mine is None else number(mine))
            figures[-1] += "" if known is None else f" ({number(known)}{off})"
        lines.append((each.alias, each.precision or UNKNOWN, *figures, each.fits(found.free_mb)))
    return Table.of(lines, "model", "precision", "size (MB)", "peak memory (MB)", "decode (tok/s)", "fits")


def instrument(check: SelfCheck) -> Table:
    """How wrong each client is about a server of known timing, in milliseconds and percent."""
    lines = []
    for errors in (check.workshop, check.bare):
        late = (errors.first_token_ms, min(errors.first_token_errors_ms), max(errors.first_token_errors_ms))
        pace = rounded(errors.pace_percent, 2)
        lines.append((errors.client, len(errors.times), *(round(each, 2) for each in late), pace))
    late_titles = (f"first token too late, {which} (ms)" for which in ("median", "least", "most"))
    return Table.of(lines, "client", "requests", *late_titles, "pace error (%)")


def kept_warm(found: KeepWarmResult) -> Table:
    """A user's first request right after loading and after one light prompt, in milliseconds, with ratios."""
    lines = []
    for each in found.lines():
        against = comparison.describe(each.ratio, "lower")
        lines.append((f"{each.name} (ms)", *milliseconds(each.cold_s, each.kept_s), against))
    return Table.of(lines, "first request", "right after loading", "after one light prompt", "against")


def _build(variant: ModelVariant) -> str:
    return f"{variant.precision or UNKNOWN} · {variant.device}"


# -- the checklist


def statuses(checks: Iterable[ModelCheck]) -> Table:
    """One line per model and device with the status of each check."""
    lines = ((each.model, each.device, *(step.status for step in each.steps)) for each in checks)
    return Table.of(lines, "model", "device", *checklist.NAMES)


def reasons(checks: Iterable[ModelCheck], name: str) -> Table:
    """Why one of the checks has its status, e.g. `served`: what the status rests on."""
    found = ((each, step) for each in checks for step in each.steps if step.name == name)
    return Table.of(((each.model, step.status, step.reason) for each, step in found), "model", name, "reason")


def failures(checks: Iterable[ModelCheck]) -> Table:
    """One line per failed check with what to do; empty where none failed."""
    found = ((each, each.failure) for each in checks if each.failure)
    lines = ((each.model, each.device, step.name, step.reason) for each, step in found)
    return Table.of(lines, "model", "device", "failed check", "what to do")
