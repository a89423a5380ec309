"""What the command line shows, as tables in a terminal: rows, changes, users, the checklist, seconds per page.

Knows how each is laid out where it must fit a terminal, and writes to any console. Computes nothing and decides no exit
code.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, Any, TextIO

from workshop_lib.show.text import one_line

if TYPE_CHECKING:
    from rich.table import Table

    from workshop_lib.checklist import ModelCheck
    from workshop_lib.comparison import Changes
    from workshop_lib.load import Load
    from workshop_lib.models.registry import RegisteredModel
    from workshop_lib.records import Row

WIDTH = 120
"""Columns of a table that goes into a file or a pipe; a terminal knows its own."""
ROW_COLUMNS = (
    "model", "precision", "device", "status", "first token (ms)", "decode (tok/s)", "p95 (ms)",
    "peak memory (MB)", "size (MB)",
)  # fmt: skip
"""What fits a terminal; the report has every column."""

LONGEST_LINE = 4000
_READER_LEFT = (errno.EPIPE, errno.EINVAL)
"""As after `| head -1`; the second on Windows."""


class _Output(io.FileIO):
    """Where standard output or error goes: what cannot be written is dropped, and the first reason kept."""

    fault: OSError | None = None

    def write(self, data: Any) -> int:
        if self.fault is None:
            try:
                return super().write(data)
            except OSError as error:
                self.fault = error
        return memoryview(data).nbytes


@contextmanager
def any_console() -> Iterator[list[OSError]]:
    """Let standard output and error take any text in any encoding, also when they are closed or nobody reads them.

    Characters that an encoding lacks become escapes. Afterwards the list holds why standard output could not be
    written, unless its reader just left.
    """
    unwritten: list[OSError] = []
    with ExitStack() as stack:
        stack.enter_context(redirect_stderr(_lenient(sys.stderr, sys.__stderr__)))
        out = stack.enter_context(redirect_stdout(_lenient(sys.stdout, sys.__stdout__)))
        try:
            yield unwritten
        finally:
            sys.stderr.flush()
            out.flush()
            raw = getattr(getattr(out, "buffer", None), "raw", None)
            if isinstance(raw, _Output) and raw.fault and raw.fault.errno not in _READER_LEFT:
                unwritten.append(raw.fault)


def _lenient(stream: TextIO | None, original: TextIO | None) -> TextIO:
    """The stream, made so that writing to it does not raise; one that was put in its place is another's."""
    if stream is None:  # closed, as by `>&-`: the next file to be opened must not take its number
        return io.TextIOWrapper(io.BufferedWriter(_Output(os.devnull, "wb")), encoding="utf-8")
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    if stream is original and not stream.isatty():
        stream.flush()
        raw = _Output(stream.fileno(), "wb", closefd=False)
        return io.TextIOWrapper(
            io.BufferedWriter(raw), stream.encoding, "backslashreplace", line_buffering=stream.line_buffering
        )
    stream.reconfigure(errors="backslashreplace")
    return stream


def notice(text: str) -> None:
    """Show a line on standard error, which is not for programs."""
    print(one_line(text, LONGEST_LINE), file=sys.stderr)


def show_rows(rows: Sequence[Row]) -> None:
    """Show the measured rows as a table, and the reason of each other row below it."""
    from rich.table import Table

    from workshop_lib.show import tables
    from workshop_lib.show.table import short

    found = tables.results(row for row in rows if row.status == "ok")[list(ROW_COLUMNS)]
    shown = Table(title="Benchmark")
    for heading in found.columns:
        shown.add_column(heading, justify="right" if heading.endswith(")") else "left")
    for line in found.itertuples(index=False):
        shown.add_row(*map(short, line))
    _show(shown, sys.stdout)
    for row in (row for row in rows if row.status != "ok"):
        print(one_line(f"{row.alias} on {row.device}: {row.status}. {row.error}", LONGEST_LINE))


def show_changes(changes: Changes) -> None:
    """Show each measure of the second result against the first, then what is unlike and which answers changed."""
    from rich.table import Table

    shown = Table("model", "device", "measure", "second against first", title="What changed")
    for line in changes.lines:
        names = (line.a.model_id, line.b.model_id), (line.a.device, line.b.device)
        shown.add_row(*(one_line(" / ".join(dict.fromkeys(pair))) for pair in names), line.measure, line.verdict)
    _show(shown, sys.stdout, width=140)
    for sentence in (*changes.remarks, *changes.texts):
        print(one_line(sentence, LONGEST_LINE))


def show_loads(title: str, loads: Sequence[Load]) -> None:
    """Show what each number of simultaneous users measured, on standard error."""
    from rich.table import Table

    from workshop_lib.show import tables

    found = tables.loads(loads)
    shown = Table(title=one_line(title))
    for heading in found.columns:
        shown.add_column(heading, justify="right")
    for line in found.itertuples(index=False):
        shown.add_row(*map(str, line))
    _show(shown, sys.stderr)


def show_checks(checks: Sequence[ModelCheck]) -> None:
    """Show the checklist, then one line per failure with what to do, then how many checks have which status."""
    from rich.table import Table

    from workshop_lib import checklist
    from workshop_lib.show import tables

    found = tables.statuses(checks)
    shown = Table(*found.columns, title="Checklist")
    for line in found.itertuples(index=False):
        shown.add_row(*map(one_line, map(str, line)))
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

    Console(file=stream, width=None if stream.isatty() else width, markup=False, emoji=False).print(table)
