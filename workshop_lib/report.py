"""The report of a run: Markdown, CSV, JSON and one HTML page that needs no network; the decision in one sentence.

Text of models and servers is escaped for the place it goes to. Sentences claim no more than intervals carry: what lies
within the noise is called a tie.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import jinja2

from workshop_lib import comparison, files, lengths, summary
from workshop_lib.choice import show as choosing
from workshop_lib.choice.decide import Decision, decide
from workshop_lib.comparison import Change, Results
from workshop_lib.errors import WorkshopError
from workshop_lib.quality import annotation, scores
from workshop_lib.records import Key, Row, Run, key
from workshop_lib.show import charts, style, tables
from workshop_lib.show.table import Table
from workshop_lib.show.text import machine_line, markdown, names, one_line, printable
from workshop_lib.summary import row_object

SCHEMA = 1
NAME = "benchmark_report"
Block = Table | Mapping[str, str] | Sequence[str]
"""What stands below a heading: a table, what names mean, or sentences."""
DOUBTS = {
    "trained_on_prompts": "were trained on these prompts (†): new prompts may show another order.",
    "too_few_samples": "answered fewer than 20 requests: small differences may be chance.",
    "unstable": "varied by 10 % or more on the same prompt: run more rounds on a quiet machine before relying on small "
    "differences.",
}


@dataclass(frozen=True, slots=True)
class ReportFiles:
    """Where a report was written: one path per format, and the figures as PNG; and its decision in one sentence."""

    markdown: Path
    csv: Path
    json: Path
    html: Path
    figures: tuple[Path, ...]
    decision: str


def write_report(run: Run, folder: Path, gpu_references: Sequence[Results] | None = None) -> ReportFiles:
    """Write the report of `run` into `folder`, replacing an older one.

    Args:
        run: what was measured.
        folder: where the files go.
        gpu_references: what stands in for a GPU that this machine lacks; None = the shipped ones.

    Raises:
        ConfigurationError: when a file cannot be written there.
    """
    shipped = comparison.gpu_references() if gpu_references is None else gpu_references
    concluded = replace(conclude(run, folder), prompt_lengths=lengths.read_lengths(folder))
    rows = lengths.with_fits(summary.summarise(run), concluded.prompt_lengths)
    rows.sort(key=lambda row: row.status != "ok")
    parts = _parts(run, rows, shipped, concluded)
    drawn = {name: style.picture(each, dpi=144) for name, each in charts.report_figures(run, shipped).items()}
    texts = {
        "md": _markdown(concluded.sentence, _about(run, rows), parts),
        "csv": report_csv(rows),
        "json": report_json(run, rows, concluded),
        "html": _html(run, decision=concluded.sentence, about=_about(run, rows), parts=parts, figures=drawn.values()),
    }
    paths = {kind: folder / f"{NAME}.{kind}" for kind in texts}
    pictures = {folder / "figures" / f"{name}.png": picture.png for name, picture in drawn.items()}
    for kind, text in texts.items():
        files.write_atomically(paths[kind], text)
    for path, png in pictures.items():
        files.write_atomically(path, png)
    return ReportFiles(
        paths["md"], paths["csv"], paths["json"], paths["html"], tuple(pictures), decision=concluded.sentence
    )


def report_json(run: Run, rows: Sequence[Row], concluded: Conclusion | None = None) -> str:
    """The report for programs: the decision, machine, plan, one object per row and one per request."""
    concluded = concluded or conclude(run)
    report = {
        "schema": SCHEMA,
        "run_id": run.run_id,
        "profile": run.profile,
        "decision": concluded.decision,
        "decision_reason": None if concluded.decision else concluded.sentence,
        "machine": dict(run.machine),
        "threads": {each.variant.model_id: each.threads for each in run.servings if each.status == "ok"},
        "plan": dict(run.plan),
        "rows": [row_object(row) for row in rows],
        "prompt_lengths": lengths.point_objects(concluded.prompt_lengths),
        "samples": comparison.sample_objects(run),
    }
    return json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def report_csv(rows: Sequence[Row]) -> str:
    """The rows for spreadsheets: names and units as in the JSON, empty when not measured."""
    objects = [row_object(row) for row in rows]
    names = dict.fromkeys(name for each in objects or [row_object(Row("", "", "", "skipped"))] for name in each)
    lines = [[each.get(name) for name in names] for each in objects]
    return Table(lines, columns=list(names), dtype=object).csv()


def _about(run: Run, rows: Sequence[Row]) -> str:
    """The run in one sentence, and its machine in another; the highlights name what was skipped, with the reason."""
    answered, left = (sum(row.status == status for row in rows) for status in ("ok", "skipped"))
    return (
        f"Run {run.run_id}, profile {run.profile}: {answered} of {len(rows) - left} models answered (prompts: "
        f"{len(run.prompts)}, timed rounds: {run.plan.get('rounds', 'an unknown number of')}). "
        f"Machine: {machine_line(run)}."
    )


def _parts(
    run: Run, rows: Sequence[Row], gpu_references: Sequence[Results], concluded: Conclusion
) -> Mapping[str, Block]:
    """What both pages for people say, by heading: tables, sentences, and what names mean."""
    compared = comparison.side_by_side(run, gpu_references)
    codes = {code for row in rows for code in row.warnings}
    facts = {**run.machine, **{f"plan · {name}": value for name, value in run.plan.items()}}
    if notes := dict.fromkeys(serving.energy_note for serving in run.servings if serving.energy_note):
        facts["energy"] = " ".join(notes)
    parts: dict[str, Block] = {
        "Highlights": [*highlights(run), *(said for each in concluded.prompt_lengths for said in each.sentences())],
        "Results": tables.speed(rows),
        "What each needs": tables.cost(rows),
        "CPU against GPU": tables.devices(run, gpu_references) if compared else (),
        "Where the GPU figures come from": comparison.device_notes(run, gpu_references) if compared else (),
        "What the warnings mean": {f"`{code}`": text for code, text in summary.WARNINGS.items() if code in codes},
        "How stable it is": [*run.notes, *summary.stability_notes(run)],
        "Machine and plan": {name.replace("_", " "): _fact(value) for name, value in facts.items()},
    }
    return {title: block for title, block in parts.items() if len(block)}


def _markdown(decision: str, about: str, parts: Mapping[str, Block]) -> str:
    """The report for people: the decision, highlights, tables, what the warnings mean, machine and plan."""
    said = ["# Benchmark report", f"**{markdown(decision)}**", markdown(about)]
    for title, block in parts.items():
        if isinstance(block, Table):
            text = block.markdown()
        elif isinstance(block, Mapping):
            text = "\n".join(f"- {name if '`' in name else markdown(name)}: {markdown(block[name])}" for name in block)
        else:
            text = "\n".join(f"- {markdown(one_line(sentence, 500))}" for sentence in block)
        said.append(f"## {title}\n\n{text}")
    return "\n\n".join(said) + "\n"


def _html(run: Run, **content: Any) -> str:
    """The report as one page: pictures inside, no script and no network."""
    called = names([each.variant for each in run.servings])
    questions: dict[str, list[tuple[str, str, str | None]]] = {}
    for prompt in run.prompts:
        for each in tables.first_answers(run, prompt.id):
            answer = called[key(each)], tables.answer(each), each.finish_reason
            questions.setdefault(prompt.text, []).append(answer)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("workshop_lib"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: printable(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("report.html").render(**content, questions=questions)


def _fact(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_fact(part)}" for name, part in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(_fact, value)) or "none"
    return "unknown" if value is None else str(value)


# -- the decision


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What a run decides: as the JSON has it, None where no model comes first; in a sentence; what lies beside it."""

    decision: Mapping[str, Any] | None
    sentence: str
    prompt_lengths: tuple[lengths.PromptLengths, ...] = ()


def conclude(run: Run, folder: Path | None = None) -> Conclusion:
    """Decide with the weights and limits of `choice.decide`, and with what was graded.

    The shipped grades count, and those of people beside the run where its `folder` is given.
    """
    try:
        graded = [] if folder is None else scores.read_all(annotation.folder(str(folder)))
        decided = decide(run, scores=[*graded, *scores.read_reference().as_scores()])
    except WorkshopError as error:
        return Conclusion(None, str(error))
    first, said = decided.first, choosing.verdict(decided).rstrip(".")
    if first is None:
        return Conclusion(None, f"{said}.")
    own = f"these {len(run.prompts)} prompts" if len(run.prompts) > 1 else "this prompt"
    asked = f"the {run.prompt_set} prompts" if run.prompt_set else own
    doubts = "; ".join(_to_doubt(run, decided))
    sentence = f"For {asked}, {said}{f'; reasons for doubt: {doubts}' if doubts else ''}."
    return Conclusion({**choosing.decision_object(decided, run), "sentence": sentence}, sentence)


def _to_doubt(run: Run, decided: Decision) -> Iterator[str]:
    """What stands behind a decision on weak feet, the weakest first."""
    rows, measured = decided.evidence.rows, decided.weights
    if trained := sum(bool(row.trained_on_prompts) for row in rows):
        yield f"{trained} of {len(rows)} models were trained on these prompts (†)"
    if "quality" not in measured:
        yield "no answer was graded"
    elif decided.evidence.measure == "aspects":
        yield "the answers were searched for expected words, and read by nobody"
    if shaky := sum("unstable" in row.warnings for row in rows):
        yield f"times of {shaky} of {len(rows)} models vary by 10 % or more"
    if failed := sum(row.status == "failed" for row in summary.summarise(run)):
        yield f"{failed} models failed and took no part"


# -- what stands out


def highlights(run: Run) -> list[str]:
    """What separates the models, what does not, what is uncertain and what failed, in plain sentences."""
    rows = summary.summarise(run)
    called, good = names(rows), [row for row in rows if row.status == "ok"]
    if not rows:
        return ["Nothing was measured."]
    said = [f"{called[key(good[0])]} is the only model that answered: nothing to compare."] if len(good) == 1 else []
    said += _separated(comparison.against_the_best(run), called)
    for code, doubt in DOUBTS.items():
        if count := sum(code in row.warnings for row in good):
            said.append(f"{count} of {len(good)} models {doubt}")
    return said + stopped(rows)


def stopped(rows: Sequence[Row]) -> list[str]:
    """Which models failed or were skipped: one sentence per reason."""
    called, reasons = names(rows), dict[tuple[str, str], list[str]]()
    for row in rows:
        if row.status != "ok":
            reasons.setdefault((row.status, row.error or "no reason given"), []).append(called[key(row)])
    said = []
    for (status, why), who in reasons.items():
        verb = "failed" if status == "failed" else "was skipped" if len(who) == 1 else "were skipped"
        said.append(f"{_and(who)} {verb}: {why}")
    return said


def _separated(changes: Sequence[Change], called: Mapping[Key, str]) -> Iterator[str]:
    """First what is clearly worse than the best, metric by metric, then in one sentence what cannot be told from it."""
    ties, number = [], len([each for each in changes if each.ratio.low is not None])
    for metric, group in groupby(changes, key=lambda each: each.metric):
        found = list(group)
        best = called[found[0].a]
        clear = sorted((each for each in found if each.ratio.is_clear), key=_times)
        close = [called[each.b] for each in found if each not in clear and each.ratio.low]
        if close:
            who = f"all {len(close)} others" if len(close) == len(found) > 2 else _and(close)
            ties.append(f"{metric.title} of {who} and of {best}")
        if clear:
            all_of = "all" if len(clear) == len(found) else f"{len(clear)} of the"
            count = f"; {all_of} {len(found)} others differ clearly from it" if len(found) > 1 else ""
            yield f"{metric.label}: {called[clear[-1].b]} is {clear[-1].verdict} than {best}{count}."
    if ties:
        yield f"This run cannot tell apart: {'; '.join(ties)}."
    if number > 1:
        yield f'"Clear" allows for chance hits among {number} comparisons made at once (Holm\'s correction).'
    if changes and not number:
        yield "Nothing is compared: an interval needs at least 2 rounds."


def _times(change: Change) -> float:
    value = change.ratio.value or 1.0
    return max(value, 1 / value)


def _and(parts: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))
