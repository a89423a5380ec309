"""What the command line shows: tables and lines, on any console, also one that is closed, full or without a reader."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, Any, TextIO

from workshop_lib.show.text import one_line

if TYPE_CHECKING:
    from workshop_lib.show.table import Table

LONGEST_LINE = 4000


def show(table: Table, title: str, *, stream: TextIO | None = None) -> None:
    """Show a table under a title, on standard output unless another stream is given."""
    import rich.table
    from rich.console import Console

    from workshop_lib.show.table import short

    shown = rich.table.Table(title=one_line(title))
    for heading in table.columns:
        shown.add_column(heading, justify="right" if heading.endswith(")") else "left")
    for line in table.itertuples(index=False):
        shown.add_row(*map(short, line))
    out = stream or sys.stdout
    Console(file=out, width=None if out.isatty() else 140, markup=False, emoji=False).print(shown)


def say(sentences: Iterable[str]) -> None:
    """Print each sentence as a line."""
    for sentence in sentences:
        print(one_line(sentence, LONGEST_LINE))


def notice(text: str) -> None:
    """Show a line on standard error, which is not for programs."""
    print(one_line(text, LONGEST_LINE), file=sys.stderr, flush=True)


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
    written, unless its reader just left, as `| head -1` does.
    """
    unwritten: list[OSError] = []
    out, err = _lenient(sys.stdout), _lenient(sys.stderr)
    with redirect_stdout(out), redirect_stderr(err):
        try:
            yield unwritten
        finally:
            err.flush()
            out.flush()
            raw = getattr(getattr(out, "buffer", None), "raw", None)
            if isinstance(raw, _Output) and raw.fault and raw.fault.errno not in (errno.EPIPE, errno.EINVAL):
                unwritten.append(raw.fault)  # a reader that left is EINVAL on Windows


def _lenient(stream: TextIO | None) -> TextIO:
    """The stream, made so that writing to it does not raise; one that a program put in its place is that program's."""
    if stream is None:  # closed, as by `>&-`: the next file to be opened must not take its number
        return io.TextIOWrapper(io.BufferedWriter(_Output(os.devnull, "wb")), encoding="utf-8")
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    if stream not in (sys.__stdout__, sys.__stderr__) or stream.isatty():
        stream.reconfigure(errors="backslashreplace")
        return stream
    stream.flush()
    raw = io.BufferedWriter(_Output(stream.fileno(), "wb", closefd=False))
    return io.TextIOWrapper(raw, stream.encoding, "backslashreplace", line_buffering=stream.line_buffering)
