"""Text of others is harmless wherever it goes; numbers and names are for people."""

from __future__ import annotations

import doctest

import pytest

from tests.report_helpers import row
from workshop_lib import race
from workshop_lib.show import table, text
from workshop_lib.show.text import csv_cell, markdown, names, number, one_line, printable


@pytest.mark.parametrize(
    ("given", "escaped"),
    [
        ("- item", "\\- item"),
        ("1. item", "1\\. item"),
        ("6.1", "6.1"),
        ("# head", "\\# head"),
        ("a\n===", "a\n\\==="),
        ("www.evil.example", "&#119;ww.evil.example"),
        ("&lt;", "\\&lt;"),
    ],
)
def test_markdown_shows_text_as_it_is(given: str, escaped: str):
    """Whatever starts a list, a heading, a link or an entity is escaped; plain numbers are not."""
    assert markdown(given) == escaped


@pytest.mark.parametrize("start", ["=cmd()", "+1", "-1", "@SUM(A1)", "\tx", " =1", "\uff1dcmd()"])
def test_formulas_are_defused(start: str):
    """A cell that a spreadsheet would run begins with an apostrophe."""
    assert csv_cell(start).startswith("'")


def test_hidden_characters_are_shown():
    """Terminal codes, reversed direction and half characters become visible; line ends stay."""
    assert printable("a\x1b\u202e\ud800\tb\r\nc") == "a���\tb\nc"
    assert one_line("a\n\n b\x00", 10) == "a b�"


def test_same_names_are_told_apart_by_model_id():
    """Two builds that differ in nothing a short name shows are called by their ids; names are one line."""
    rows = [row(), row(model_id="small-int4-openvino-cpu:1")]
    assert set(names(rows).values()) == {"small-int4-cpu:1 · cpu", "small-int4-openvino-cpu:1 · cpu"}
    (name,) = names([row("y\n\x1b" + "z" * 60)]).values()
    assert name.startswith("y �zzz") and len(name) + len(text.TRAINED) == text.NAME_LETTERS


def test_no_number_is_not_measured():
    """NaN is words."""
    assert number(float("nan")) == "not measured"


def test_the_examples_of_the_docs_run():
    """The doctests of the modules hold."""
    for module in (text, table, race):
        found = doctest.testmod(module)
        assert found.attempted > 0
        assert found.failed == 0
