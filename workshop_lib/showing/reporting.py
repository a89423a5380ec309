"""Rows to files: Markdown, CSV, JSON and one HTML page that needs no network.

Everything written by a model or a server is escaped for the place it goes to (`untrusted`; HTML by
jinja2). Files appear whole or not at all. Knows neither statistics nor what figures contain.
"""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from workshop_lib import compare, files, summary
from workshop_lib.records import Row, Run
from workshop_lib.showing import charting, comparison_charts, comparison_tables, findings, tables
from workshop_lib.showing.appearance import number
from workshop_lib.summary import row_object
from workshop_lib.untrusted import csv_cell, markdown, one_line, printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from workshop_lib.compare import Reference
    from workshop_lib.display import Table
    from workshop_lib.showing.appearance import Theme

SCHEMA = 1
NAME = "benchmark_report"


@dataclass(frozen=True, slots=True)
class ReportFiles:
    """Where a report was written: one path per format, and the figures as PNG."""

    markdown: Path
    csv: Path
    json: Path
    html: Path
    figures: tuple[Path, ...]


def table(rows: Iterable[Row]) -> Table:
    """Return rows for people: ms, tok/s and MB, warnings as codes, `not measured` where None."""
    return tables.results(rows)


def highlights(rows: Sequence[Row]) -> list[str]:
    """Return what the rows say, in plain sentences: winners, ties, doubts and failures."""
    return findings.highlights(rows, charting.names(rows))


def write_report(run: Run, folder: Path, gpu_references: Sequence[Reference] | None = None) -> ReportFiles:
    """Write the report of `run` into `folder`, replacing an older one.

    Args:
        run: what was measured.
        folder: where the files go.
        gpu_references: what stands in for a GPU that this machine lacks; None = the shipped ones.

    Raises:
        ConfigurationError: when a file cannot be written there.
    """
    shipped = compare.gpu_references() if gpu_references is None else gpu_references
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
    figures = {folder / "figures" / f"{name}.png": draw for name, draw in _figures(run, shipped).items()}
    for path, draw in figures.items():
        files.write_atomically(path, charting.png(draw(run, "light")))
    return ReportFiles(paths["md"], paths["csv"], paths["json"], paths["html"], tuple(figures))


def report_json(run: Run, rows: Sequence[Row]) -> str:
    """Return the report for programs: machine, plan, one object per row and one per request."""
    report = {
        "schema": SCHEMA,
        "run_id": run.run_id,
        "profile": run.profile,
        "machine": dict(run.machine),
        "plan": dict(run.plan),
        "rows": [row_object(row) for row in rows],
        "samples": compare.sample_objects(run),
    }
    return json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def report_csv(rows: Sequence[Row]) -> str:
    """Return the rows for spreadsheets: names and units as in the JSON, empty when not measured."""
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(list(row_object(rows[0] if rows else Row("", "", "", "skipped"))))
    for row in rows:
        writer.writerow([_csv_value(value) for value in row_object(row).values()])
    return target.getvalue()


def report_markdown(run: Run, rows: Sequence[Row], gpu_references: Sequence[Reference] = ()) -> str:
    """Return the report for people: highlights, table, what the warnings mean, machine and plan."""
    lines = ["# Benchmark report", "", markdown(_about(run, rows)), "", "## Highlights", ""]
    lines += [f"- {markdown(one_line(sentence, 500))}" for sentence in highlights(rows)]
    lines += ["", "## Results", "", *_markdown_table(rows)]
    if compared := _devices(run, gpu_references):
        lines += ["", "## CPU against GPU", "", *_pipe_table(*compared), ""]
        lines += [f"- {markdown(one_line(sentence, 500))}" for sentence in compare.device_notes(run, gpu_references)]
    if codes := _codes(rows):
        lines += ["", "## What the warnings mean", ""]
        lines += [f"- `{code}`: {markdown(sentence)}" for code, sentence in codes.items()]
    if notes := _notes(run):
        lines += ["", "## How stable it is", ""]
        lines += [f"- {markdown(one_line(sentence, 500))}" for sentence in notes]
    lines += ["", "## Machine and plan", ""]
    lines += [f"- {markdown(name)}: {markdown(value)}" for name, value in _facts(run)]
    return "\n".join(lines) + "\n"


def report_html(run: Run, rows: Sequence[Row], gpu_references: Sequence[Reference] = ()) -> str:
    """Return the report as one page: pictures inside, light and dark, no script and no network."""
    columns = tables.columns_for(rows)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("workshop_lib"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_seen,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("report.html").render(
        about=_about(run, rows),
        highlights=highlights(rows),
        headings=[(column.heading, column.kind) for column in columns],
        rows=[_html_cells(row, columns) for row in rows],
        figures=[_html_figure(run, draw) for draw in _figures(run, gpu_references).values()],
        devices=_devices(run, gpu_references),
        device_notes=compare.device_notes(run, gpu_references),
        warnings=_codes(rows),
        notes=_notes(run),
        questions=_html_answers(run, rows),
        facts=_facts(run),
    )


def _notes(run: Run) -> list[str]:
    """Return what a reader should know about the run itself: interruptions, scatter, outliers, load times."""
    return [*run.notes, *summary.stability_notes(run)]


def _about(run: Run, rows: Sequence[Row]) -> str:
    rounds = run.plan.get("rounds", "an unknown number of")
    answered = sum(row.status == "ok" for row in rows)
    return (
        f"Run {run.run_id}, profile {run.profile}: {answered} of {len(rows)} models answered "
        f"(prompts: {len(run.prompts)}, timed rounds: {rounds})."
    )


def _codes(rows: Iterable[Row]) -> dict[str, str]:
    """Return the warning codes that occur, each with its sentence."""
    seen = {code for row in rows for code in row.warnings}
    known = {code: sentence for code, sentence in summary.WARNINGS.items() if code in seen}
    return known | dict.fromkeys(sorted(seen - known.keys()), "No explanation is known.")


def _cell(value: str | float) -> str:
    return one_line(value) if isinstance(value, str) else number(value)


def _markdown_table(rows: Sequence[Row]) -> list[str]:
    columns = tables.columns_for(rows)
    rules = [":---" if column.kind == "text" else "---:" for column in columns]
    lines = [[column.heading for column in columns], rules]
    lines += [[markdown(_cell(column.cell(row))) for column in columns] for row in rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def _html_cells(row: Row, columns: Iterable[tables.Column]) -> list[tuple[str, str]]:
    """Return (text, style class) of each cell of a row."""
    cells: list[tuple[str, str]] = []
    for column in columns:
        value = column.cell(row)
        absent = value == tables.NOT_MEASURED
        cells.append((_cell(value), "absent" if absent else column.kind))
    return cells


def _figures(run: Run, gpu_references: Sequence[Reference]) -> dict[str, Callable[[Run, Theme], Figure]]:
    return charting.FIGURES | comparison_charts.figures(run, gpu_references)


def _devices(run: Run, gpu_references: Sequence[Reference]) -> tuple[list[str], list[list[str]]] | None:
    """Return the headings and cells of CPU against GPU; None where there is no GPU to compare with."""
    if not compare.has_gpu_build(compare.side_by_side(run, gpu_references)):
        return None
    table = comparison_tables.devices(run, gpu_references)
    return list(table.columns), [list(map(_cell, line)) for line in table.itertuples(index=False, name=None)]


def _pipe_table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    cells = [list(headings), [":---"] * len(headings), *([markdown(cell) for cell in line] for line in lines)]
    return [f"| {' | '.join(line)} |" for line in cells]


def _html_figure(run: Run, draw: Callable[[Run, Theme], Figure]) -> dict[str, Any]:
    light, dark = (draw(run, theme) for theme in ("light", "dark"))
    return {
        "alt": charting.alt_text(light),
        "width": round(light.get_figwidth() * 96),
        "height": round(light.get_figheight() * 96),
        "light": _data_uri(charting.png(light, dpi=144)),
        "dark": _data_uri(charting.png(dark, dpi=144)),
    }


def _html_answers(run: Run, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return each prompt with what every model answered to it in the first timed round."""
    names = charting.names(rows)
    return [
        {
            "text": prompt.text,
            "answers": [
                {
                    "name": names.get(charting.key(completion), completion.model_id),
                    "text": tables.answer(completion),
                    "cut": completion.finish_reason == "length",
                }
                for completion in tables.first_answers(run, prompt.id)
            ],
        }
        for prompt in run.prompts
    ]


def _facts(run: Run) -> list[tuple[str, str]]:
    """Return machine and plan as (name, value) pairs of text."""
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


def _csv_value(value: Any) -> Any:
    if isinstance(value, tuple):
        return csv_cell(" ".join(value))
    return csv_cell(value) if isinstance(value, str) else value


def _seen(value: Any) -> Any:
    """Show hidden characters in whatever the template prints."""
    return printable(value) if isinstance(value, str) else value


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
