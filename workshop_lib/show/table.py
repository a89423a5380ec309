"""The one table of the workshop: a data frame that writes itself as HTML, Markdown and CSV."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from workshop_lib.show.text import NOT_MEASURED, csv_cell, markdown, number, one_line, printable

NOTEBOOK = {
    kind: f'style="text-align: {side}; vertical-align: top; white-space: pre-wrap"'
    for kind, side in (("text", "left"), ("number", "right"))
}
"""Attributes of a cell by what its column holds: notebooks have no style sheet of ours."""
REPORT = {"text": 'class="text"', "number": 'class="number"'}


class Table(pd.DataFrame):  # type: ignore[misc]  # pandas ships no types
    """A data frame that is shown whole: words left, numbers right, nothing cut, all text escaped."""

    @property
    def _constructor(self) -> type[Table]:
        return Table

    @classmethod
    def of(cls, lines: Iterable[Iterable[Any]], *columns: str) -> Table:
        """A table from lines of cells, whose text is made visible."""
        cells = [[printable(cell) if isinstance(cell, str) else cell for cell in line] for line in lines]
        return cls(cells, columns=list(columns), dtype=None if cells else object)

    def underline(self, places: Mapping[str, Sequence[tuple[int, int]]]) -> Table:
        """Underline places (start, end) of cells, by the cell's text, where this table is shown as HTML."""
        self.attrs["underlined"] = dict(places)
        return self

    def _repr_html_(self) -> str:
        return "<p>Nothing to show here.</p>" if self.empty else self.html(NOTEBOOK, str)

    def html(self, attributes: Mapping[str, str], written: Callable[[Any], str]) -> str:
        """This table as HTML, with the attributes of a cell by its column's kind, and how a cell is written."""
        kinds, underlined = self._kinds(), self.attrs.get("underlined", {})
        lines = [[written(value) for value in line] for line in self.itertuples(index=False, name=None)]
        shown = [[escaped(value, underlined.get(value, ())) for value in line] for line in lines]
        body = "".join(f"<tr>{_cells('td', line, kinds, attributes)}</tr>\n" for line in shown)
        head = _cells("th", map(html.escape, map(str, self.columns)), kinds, attributes)
        return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>"

    def report_html(self) -> str:
        """This table as HTML for the report, whose style sheet knows the classes `text`, `number` and `absent`."""
        number, absent = REPORT["number"], f">{NOT_MEASURED}</td>"
        page = self.html(REPORT, short).replace("<th ", '<th scope="col" ')
        return page.replace(f"{number}{absent}", f'class="absent"{absent}')

    def markdown(self) -> str:
        """This table as Markdown, all text escaped."""
        lines = [[markdown(short(value)) for value in line] for line in self.itertuples(index=False, name=None)]
        rules = [":---" if kind == "text" else "---:" for kind in self._kinds()]
        return "\n".join(f"| {' | '.join(line)} |" for line in (list(self.columns), rules, *lines))

    def csv(self) -> str:
        """This table for spreadsheets: numbers in full, lists joined by spaces, gaps empty, no formula benchmark."""
        target = io.StringIO()
        writer = csv.writer(target, lineterminator="\n")
        writer.writerow(self.columns)
        for line in self.itertuples(index=False, name=None):
            joined = (" ".join(value) if isinstance(value, tuple) else value for value in line)
            writer.writerow(csv_cell(value) if isinstance(value, str) else value for value in joined)
        return target.getvalue()

    def _kinds(self) -> list[str]:
        columns = (self.iloc[:, place] for place in range(self.shape[1]))
        return ["number" if any(isinstance(v, int | float) for v in column) else "text" for column in columns]


def short(value: str | float) -> str:
    """A cell for people: one line of text, or a number with two or three figures."""
    return one_line(value) if isinstance(value, str) else number(value)


def escaped(text: str, underlined: Iterable[tuple[int, int]] = ()) -> str:
    """Text as HTML that is only text, some places of it underlined.

    >>> escaped("<b>15 March", [(3, 11)])
    '&lt;b&gt;<u>15 March</u>'
    """
    pieces, done = [], 0
    for start, end in underlined:
        pieces += [html.escape(text[done:start]), f"<u>{html.escape(text[start:end])}</u>"]
        done = end
    return "".join([*pieces, html.escape(text[done:])])


def _cells(tag: str, values: Any, kinds: list[str], attributes: Mapping[str, str]) -> str:
    pairs = zip(values, kinds, strict=True)
    return "".join(f"<{tag} {attributes[kind]}>{value}</{tag}>" for value, kind in pairs)
