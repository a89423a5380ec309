"""The report of a run: Markdown, CSV, JSON and one HTML page that needs no network; what stands out in sentences.

Text of models and servers is escaped for the place it goes to. Sentences claim no more than averages carry: close
values are called a tie.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jinja2

from workshop_lib import comparison, files, summary
from workshop_lib.comparison import Reference
from workshop_lib.records import Row, Run
from workshop_lib.show import charts, style, tables
from workshop_lib.show.table import Table
from workshop_lib.show.text import Key, key, machine_line, markdown, names, number, one_line, printable
from workshop_lib.summary import row_object

SCHEMA = 1
NAME = "benchmark_report"
CLOSE, CLOSE_WHEN_UNSTABLE = 0.05, 0.10
"""Values nearer than this share are called a tie; `unstable` stands for a spread of 10 %."""


class Question(NamedTuple):
    """One thing to be best at: the name of a row's figure, and the warnings that cast doubt on it."""

    winner: str
    quantity: str
    name: str
    unit: str
    factor: float
    better: Literal["lower", "higher"]
    doubts: tuple[str, ...] = ()


QUESTIONS = (
    Question("Fastest first token", "first-token time", "first_token_latency_avg", "ms", 1000, "lower", ("unstable",)),
    Question("Fastest decode", "decode speed", "decode_tokens_per_sec", "tok/s", 1, "higher", ("unstable", "bursts")),
    Question("Smallest on disk", "size", "size_mb", "MB", 1, "lower"),
)
BEST = {
    "none": "{winner}: not measured.",
    "only": "{first} is the only model with a {quantity}: nothing to compare.",
    "bursts": "{quantities} cannot be ranked here: many tokens arrived at one moment (warning `bursts`).",
    "ahead": "{winner}: {first}, ahead of {second}.",
    "tie": "{winner}: too close to call between {tied}.",
}
DOUBTS = {
    "too_few_samples": "answered fewer than 20 requests: small differences may be chance.",
    "unstable": "varied by 10 % or more on the same prompt: run more rounds on a quiet machine before relying on small "
    "differences.",
}


@dataclass(frozen=True, slots=True)
class ReportFiles:
    """Where a report was written: one path per format, and the figures as PNG."""

    markdown: Path
    csv: Path
    json: Path
    html: Path
    figures: tuple[Path, ...]


def write_report(run: Run, folder: Path, gpu_references: Sequence[Reference] | None = None) -> ReportFiles:
    """Write the report of `run` into `folder`, replacing an older one.

    Args:
        run: what was measured.
        folder: where the files go.
        gpu_references: what stands in for a GPU that this machine lacks; None = the shipped ones.

    Raises:
        ConfigurationError: when a file cannot be written there.
    """
    shipped = comparison.gpu_references() if gpu_references is None else gpu_references
    rows = sorted(summary.summarise(run), key=lambda row: row.status != "ok")
    texts = {
        "md": report_markdown(run, rows, shipped),
        "csv": report_csv(rows),
        "json": report_json(run, rows),
        "html": report_html(run, rows, shipped),
    }
    paths = {kind: folder / f"{NAME}.{kind}" for kind in texts}
    for kind, text in texts.items():
        files.write_atomically(paths[kind], text)
    pictures = []
    for name, draw in charts.report_figures(run, shipped).items():
        if figure := draw("light"):
            pictures.append(folder / "figures" / f"{name}.png")
            files.write_atomically(pictures[-1], style.png(figure))
    return ReportFiles(paths["md"], paths["csv"], paths["json"], paths["html"], tuple(pictures))


def report_json(run: Run, rows: Sequence[Row]) -> str:
    """The report for programs: machine, plan, one object per row and one per request."""
    report = {
        "schema": SCHEMA,
        "run_id": run.run_id,
        "profile": run.profile,
        "machine": dict(run.machine),
        "threads": {each.variant.model_id: each.threads for each in run.servings if each.status == "ok"},
        "plan": dict(run.plan),
        "rows": [row_object(row) for row in rows],
        "samples": comparison.sample_objects(run),
    }
    return json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def report_csv(rows: Sequence[Row]) -> str:
    """The rows for spreadsheets: names and units as in the JSON, empty when not measured."""
    columns = list(row_object(rows[0] if rows else Row("", "", "", "skipped")))
    return Table([row_object(row) for row in rows], columns=columns, dtype=object).csv()


def report_markdown(run: Run, rows: Sequence[Row], gpu_references: Sequence[Reference] = ()) -> str:
    """The report for people: highlights, table, what the warnings mean, machine and plan."""
    content = _content(run, rows, gpu_references)
    parts = {"Highlights": _bullets(content["highlights"]), "Results": content["results"].markdown()}
    if content["devices"] is not None:
        parts["CPU against GPU"] = f"{content['devices'].markdown()}\n\n{_bullets(content['device_notes'])}"
    parts["What the warnings mean"] = "\n".join(f"- `{c}`: {markdown(text)}" for c, text in content["warnings"].items())
    parts["How stable it is"] = _bullets(content["notes"])
    parts["Machine and plan"] = "\n".join(f"- {markdown(name)}: {markdown(value)}" for name, value in content["facts"])
    said = [f"## {title}\n\n{text}" for title, text in parts.items() if text]
    return "\n\n".join(["# Benchmark report", markdown(content["about"]), *said]) + "\n"


def report_html(run: Run, rows: Sequence[Row], gpu_references: Sequence[Reference] = ()) -> str:
    """The report as one page: pictures inside, light and dark, no script and no network."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("workshop_lib"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: printable(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    content = _content(run, rows, gpu_references)
    for name, found in content.items():
        if isinstance(found, Table):
            content[name] = found.report_html()
    pictures = filter(None, map(_picture, charts.report_figures(run, gpu_references).values()))
    template = environment.get_template("report.html")
    return template.render(**content, figures=list(pictures), questions=_questions(run, rows))


def _content(run: Run, rows: Sequence[Row], gpu_references: Sequence[Reference]) -> dict[str, Any]:
    """What both pages for people say; `devices` is None where there is no GPU to compare with."""
    compared = comparison.has_gpu_build(comparison.side_by_side(run, gpu_references))
    rounds = run.plan.get("rounds", "an unknown number of")
    answered = sum(row.status == "ok" for row in rows)
    codes = {code for row in rows for code in row.warnings}
    known = {code: text for code, text in summary.WARNINGS.items() if code in codes}
    return {
        "about": f"Run {run.run_id}, profile {run.profile}: {answered} of {len(rows)} models answered "
        f"(prompts: {len(run.prompts)}, timed rounds: {rounds}). Machine: {machine_line(run)}.",
        "highlights": highlights(rows),
        "results": tables.results(rows),
        "devices": tables.devices(run, gpu_references) if compared else None,
        "device_notes": comparison.device_notes(run, gpu_references) if compared else (),
        "warnings": known | dict.fromkeys(sorted(codes - known.keys()), "No explanation is known."),
        "notes": [*run.notes, *summary.stability_notes(run)],
        "facts": _facts(run),
    }


def _bullets(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {markdown(one_line(sentence, 500))}" for sentence in sentences)


def _picture(draw: Callable[[style.Theme], Any]) -> dict[str, Any] | None:
    light, dark = draw("light"), draw("dark")
    if light is None or dark is None:
        return None
    width, height = (round(inches * 96) for inches in light.get_size_inches())
    addresses = {"light": style.data_uri(light, dpi=144), "dark": style.data_uri(dark, dpi=144)}
    return {"alt": style.alt_text(light), "width": width, "height": height, **addresses}


def _questions(run: Run, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Each prompt with what every model answered to it in the first timed round."""
    called = names(rows)
    return [
        {
            "text": prompt.text,
            "answers": [
                {
                    "name": called.get(key(completion), completion.model_id),
                    "text": tables.answer(completion),
                    "cut": completion.finish_reason == "length",
                }
                for completion in tables.first_answers(run, prompt.id)
            ],
        }
        for prompt in run.prompts
    ]


def _facts(run: Run) -> list[tuple[str, str]]:
    """Machine and plan as (name, value) pairs of text."""
    facts = {**run.machine, **{f"plan · {name}": value for name, value in run.plan.items()}}
    notes = dict.fromkeys(serving.energy_note for serving in run.servings if serving.energy_note)
    if notes:
        facts["energy"] = " ".join(notes)
    return [(name.replace("_", " "), _fact(value)) for name, value in facts.items()]


def _fact(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_fact(part)}" for name, part in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(_fact, value)) or "none"
    return "unknown" if value is None else str(value)


# -- what stands out


def highlights(rows: Sequence[Row]) -> list[str]:
    """What stands out, what is too close to call, what is uncertain and what failed, in plain sentences."""
    if not rows:
        return ["Nothing was measured."]
    called, good = names(rows), [row for row in rows if row.status == "ok"]
    said = [_best(question, good, called) for question in QUESTIONS] if good else []
    for code, doubt in DOUBTS.items():
        if count := sum(code in row.warnings for row in good):
            said.append(f"{count} of {len(good)} models {doubt}")
    stopped: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row.status != "ok":
            stopped.setdefault((row.status, row.error or "no reason given"), []).append(called[key(row)])
    for (status, why), who in stopped.items():
        verb = "failed" if status == "failed" else "was skipped" if len(who) == 1 else "were skipped"
        said.append(f"{_and(who)} {verb}: {why}")
    return said


def _best(question: Question, rows: Sequence[Row], called: Mapping[Key, str]) -> str:
    figures = [(row.value(question.name), row) for row in rows]
    known = [(value, row) for value, row in figures if value is not None]
    known.sort(key=lambda pair: pair[0], reverse=question.better == "higher")
    said = [f"{called[key(row)]} ({number(value * question.factor)} {question.unit})" for value, row in known]
    tied = _tied(known, shaky="unstable" in question.doubts) if known else 0
    if len(known) < 2:
        code = "only" if known else "none"
    elif "bursts" in question.doubts and any("bursts" in row.warnings for _, row in known):
        code = "bursts"
    else:
        code = "ahead" if tied == 1 else "tie"
    first, second = (*said, "", "")[:2]
    return BEST[code].format(
        **question._asdict(),
        quantities=f"{question.quantity}s".capitalize(),
        first=first,
        second=second,
        tied=_and(said[:tied]),
    )


def _tied(known: Sequence[tuple[float, Row]], *, shaky: bool) -> int:
    """How many of the sorted values cannot be told from the first by averages alone."""
    best, leader = known[0]
    for place, (value, row) in enumerate(known[1:], 1):
        unstable = shaky and "unstable" in (*leader.warnings, *row.warnings)
        if abs(value - best) > (CLOSE_WHEN_UNSTABLE if unstable else CLOSE) * max(value, best):
            return place
    return len(known)


def _and(parts: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))
