"""What the command line shows, as tables in a terminal: rows, changes, users, the checklist, seconds per page.

Knows how each is laid out where it must fit a terminal. Computes nothing and decides no exit code.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TextIO

from workshop_lib.untrusted import one_line

if TYPE_CHECKING:
    from rich.table import Table

    from workshop_lib.archive.changes import Changes
    from workshop_lib.measuring.checklist import ModelCheck
    from workshop_lib.measuring.concurrency import Load
    from workshop_lib.models.registry import RegisteredModel
    from workshop_lib.records import Row

WIDTH = 120
"""Columns of a table that goes into a file or a pipe; a terminal knows its own."""
ROW_COLUMNS = (
    "model", "precision", "device", "status", "first token (ms)", "decode (tok/s)", "p95 (ms)",
    "peak memory (MB)", "size (MB)",
)  # fmt: skip
"""What fits a terminal; the report has every column."""


def show_rows(rows: Sequence[Row]) -> None:
    """Show the measured rows as a table, and the reason of each other row below it."""
    from rich.table import Table

    from workshop_lib.showing import appearance, tables

    columns = [column for column in tables.COLUMNS if column.heading in ROW_COLUMNS]
    shown = Table(title="Benchmark")
    for column in columns:
        shown.add_column(column.heading, justify="left" if column.kind == "text" else "right")
    for row in (row for row in rows if row.status == "ok"):
        cells = (column.cell(row) for column in columns)
        shown.add_row(*(cell if isinstance(cell, str) else appearance.number(cell) for cell in cells))
    _show(shown, sys.stdout)
    for row in (row for row in rows if row.status != "ok"):
        print(f"{row.alias} on {row.device}: {row.status}. {row.error}")


def show_changes(changes: Changes) -> None:
    """Show each measure of the second result against the first, then what is unlike and which answers changed."""
    from rich.table import Table

    shown = Table("model", "device", "measure", "second against first", title="What changed")
    for line in changes.lines:
        names = (line.a.model_id, line.b.model_id), (line.a.device, line.b.device)
        shown.add_row(*(" / ".join(dict.fromkeys(pair)) for pair in names), line.measure, line.verdict)
    _show(shown, sys.stdout, width=140)
    for sentence in (*changes.remarks, *changes.texts):
        print(sentence)


def show_loads(title: str, loads: Sequence[Load]) -> None:
    """Show what each number of simultaneous users measured, on standard error."""
    from rich.table import Table

    from workshop_lib.showing import comparison_tables

    found = comparison_tables.loads(loads)
    shown = Table(title=title)
    for heading in found.columns:
        shown.add_column(heading, justify="right")
    for line in found.itertuples(index=False):
        shown.add_row(*map(str, line))
    _show(shown, sys.stderr)


def show_checks(checks: Sequence[ModelCheck]) -> None:
    """Show the checklist, then one line per failure with what to do, then how many checks have which status."""
    from rich.table import Table

    from workshop_lib.measuring import checklist
    from workshop_lib.showing import checklist_tables

    found = checklist_tables.statuses(checks)
    shown = Table(*found.columns, title="Checklist")
    for line in found.itertuples(index=False):
        shown.add_row(*line)
    _show(shown, sys.stdout)
    for each in checks:
        if each.failure:
            print(one_line(f"{each.model} ({each.device}), {each.failure.name}: {each.failure.reason}", 1000))
    print(checklist.counted(checks))


def show_seconds(pages: Mapping[str, float]) -> None:
    """Show how long each page took, and all together."""
    from rich.table import Table

    shown = Table("page", title="Execution time")
    shown.add_column("seconds", justify="right")
    for name, seconds in pages.items():
        shown.add_row(name, f"{seconds:.1f}")
    shown.add_section()
    shown.add_row("all", f"{sum(pages.values()):.1f}")
    _show(shown, sys.stdout)


def show_registered(models: Sequence[tuple[RegisteredModel, str | None]]) -> None:
    """Show models of one's own, each with why it cannot be used (None = it can), and the reasons in full below."""
    from rich.table import Table

    shown = Table("alias", "kind", "device", "precision", title="Registered models")
    shown.add_column("size (MB)", justify="right")
    shown.add_column("licence")
    shown.add_column("state")
    for model, fault in models:
        words = (model.alias, model.kind, model.device, model.precision or "?", f"{model.size_mb:.1f}")
        shown.add_row(*words, one_line(model.licence or "?", 40), "unusable" if fault else "ready")
    _show(shown, sys.stdout)
    for _, fault in models:
        if fault:
            print(one_line(fault, 1000))


def show_sentences(title: str, sentences: Iterable[str]) -> None:
    """Show sentences under a title; nothing where there are none."""
    said = list(sentences)
    if said:
        print(title)
    for sentence in said:
        print(f"- {sentence}")


def _show(table: Table, stream: TextIO, *, width: int = WIDTH) -> None:
    from rich.console import Console

    Console(file=stream, width=None if stream.isatty() else width, markup=False).print(table)
