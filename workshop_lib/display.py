"""How a notebook shows a table: a data frame that is shown whole and as text. Knows no models."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Table(pd.DataFrame):  # type: ignore[misc]  # pandas ships no types
    """A data frame that a notebook shows whole: words left, nothing cut, all text escaped."""

    @property
    def _constructor(self) -> type[Table]:
        return Table

    def _repr_html_(self) -> str:
        lines = list(self.itertuples(index=False, name=None))
        numeric = [any(isinstance(value, int | float) for value in column) for column in zip(*lines, strict=True)]
        sides = ["right" if number else "left" for number in numeric] or ["left"] * self.shape[1]
        head = _cells("th", self.columns, sides)
        body = "".join(f"<tr>{_cells('td', line, sides)}</tr>\n" for line in lines)
        return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>"


def _holds_numbers(column: Iterable[object]) -> bool:
    return any(isinstance(value, int | float) for value in column)


def _cells(tag: str, values: Iterable[object], sides: Sequence[str]) -> str:
    style = "text-align: {}; vertical-align: top; white-space: pre-wrap"
    pairs = zip(values, sides, strict=True)
    return "".join(f'<{tag} style="{style.format(side)}">{html.escape(str(value))}</{tag}>' for value, side in pairs)
