"""One table, written as HTML, Markdown and CSV: whole, escaped, numbers on the right."""

from __future__ import annotations

import csv
import io

from tests.report_helpers import HOSTILE
from workshop_lib.show.table import Table

SHOWN = Table([("<b>long " * 50, 3.25, "not measured"), ("b", 12, 7.0)], columns=["a", "n", "m"], dtype=object)


def test_a_notebook_shows_it_whole_and_escaped():
    """Long text is not cut, tags are text, numbers stand on the right."""
    page = SHOWN._repr_html_()
    assert "&lt;b&gt;long " * 50 in page
    assert 'text-align: right; vertical-align: top; white-space: pre-wrap">3.25<' in page
    assert 'text-align: left; vertical-align: top; white-space: pre-wrap">b<' in page


def test_the_report_has_classes_and_short_cells():
    """Classes for its style sheet, one line of at most 200 letters, numbers with two or three figures."""
    page = SHOWN.report_html()
    assert '<th scope="col" class="number">n</th>' in page
    assert '<td class="number">3.2</td><td class="absent">not measured</td>' in page
    assert '<td class="number">12</td><td class="number">7.0</td>' in page
    assert "…</td>" in page


def test_markdown_tables_cannot_be_broken():
    """Bars, line ends, tags, links and code stay text in their cell; numbers are aligned right."""
    lines = Table([(HOSTILE + "\n| new | row |", 1.5)], columns=["a", "n"], dtype=object).markdown().splitlines()
    assert lines[:2] == ["| a | n |", "| :--- | ---: |"]
    assert len(lines) == 3
    assert lines[2].replace("\\|", "").count("|") == 3
    assert "<script" not in lines[2].replace("\\<", "") and "http://" not in lines[2]


def test_csv_formulas_are_defused():
    """A cell that a spreadsheet would run begins with an apostrophe; gaps are empty and lists one cell."""
    written = Table([("=cmd()", None, 0.1, ("a", "b"))], columns=list("abcd"), dtype=object).csv()
    assert list(csv.reader(io.StringIO(written))) == [list("abcd"), ["'=cmd()", "", "0.1", "a b"]]


def test_a_table_without_lines_has_headings():
    """Nothing measured is an empty table, not an error; a page shows a sentence in its place."""
    empty = Table([], columns=["a", "b"])
    assert empty.markdown() == "| a | b |\n| :--- | :--- |"
    assert empty.csv() == "a,b\n"
    assert "<th " not in empty._repr_html_()
