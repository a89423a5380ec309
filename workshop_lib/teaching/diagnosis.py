"""An answer beside the right one: is it right, and if not, which mistake gives just this value? Pure.

An answer may be anything that fits into a cell; nothing here raises because of one. Knows no runs and no pages.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Literal

from workshop_lib.show.text import one_line

Verdict = Literal["right", "not yet", "not answered yet", "nothing to ask"]

KILO = 1000.0
SHOWN_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class Number:
    """A right answer that is a number.

    Attributes:
        right: in `unit`.
        unit: for people, e.g. `ms`.
        mistakes: a sentence that diagnoses → the value that this mistake gives.
        look_at: where to look when the answer fits no known mistake.
        tolerance: share by which an answer may be off and still be right.
    """

    right: float
    unit: str
    mistakes: Mapping[str, float | None]
    look_at: str
    tolerance: float = 0.01


@dataclass(frozen=True, slots=True)
class Word:
    """A right answer that is one of some words; `mistakes` are the others, each with its diagnosis."""

    right: str
    mistakes: Mapping[str, str]
    look_at: str


@dataclass(frozen=True, slots=True)
class Nothing:
    """This run gives the exercise nothing to ask about: why."""

    reason: str


Expected = Number | Word | Nothing


def judge(answer: object, expected: Expected) -> tuple[Verdict, str]:
    """Return the verdict on an answer that was given, and the sentence that explains it."""
    if isinstance(expected, Nothing):
        return "nothing to ask", expected.reason
    fault = _wrong_kind(answer, expected)
    if fault:
        return "not yet", fault
    if isinstance(expected, Word):
        return _judge_word(str(answer).strip(), expected)
    return _judge_number(float(answer), expected)  # type: ignore[arg-type]  # a real number, says _wrong_kind


def _wrong_kind(answer: object, expected: Number | Word) -> str | None:
    """Say what is wrong with the answer's type, before its value is looked at."""
    shown = _shown(answer)
    if isinstance(expected, Word):
        return None if isinstance(answer, str) else f"Your answer is {shown}. Write a text in quotes."
    if isinstance(answer, str):
        return f"Your answer is text: {shown}. Write the number without quotes."
    if isinstance(answer, bool) or not isinstance(answer, Real):
        return f"Your answer is {shown} ({type(answer).__name__}). One number is asked for, in {expected.unit}."
    try:
        finite = math.isfinite(answer)
    except OverflowError:  # a whole number of more than 300 digits
        finite = False
    return None if finite else f"Your answer is {shown}, which is no finite number. Look for a division by zero."


def _judge_word(answer: str, expected: Word) -> tuple[Verdict, str]:
    if answer.casefold() == expected.right.casefold():
        return "right", f"{expected.right}: yes."
    for word, said in expected.mistakes.items():
        if answer.casefold() == word.casefold():
            return "not yet", said
    near = difflib.get_close_matches(answer, [expected.right, *expected.mistakes], n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return "not yet", f"{_shown(answer)} is none of the possible answers.{hint} {expected.look_at}"


def _judge_number(answer: float, expected: Number) -> tuple[Verdict, str]:
    if _close(answer, expected.right, expected.tolerance) or _is_rounded(answer, expected.right):
        return "right", f"This run gives {expected.right:,.4g} {expected.unit}."
    known = {said: value for said, value in expected.mistakes.items() if value is not None and math.isfinite(value)}
    fitting = [said for said, value in known.items() if _close(answer, value, expected.tolerance)]
    if fitting:
        return "not yet", min(fitting, key=lambda said: abs(answer - known[said]))
    for factor, said in ((KILO, "1000 times too large"), (1 / KILO, "1000 times too small")):
        if _close(answer, expected.right * factor, expected.tolerance):
            return "not yet", f"{said.capitalize()}: check the unit. The answer is asked for in {expected.unit}."
    side = "large" if answer > expected.right else "small"
    return "not yet", f"{answer:,.4g} is too {side}. {expected.look_at}"


def _close(answer: float, value: float, tolerance: float) -> bool:
    return math.isclose(answer, value, rel_tol=tolerance, abs_tol=1e-9)


def _is_rounded(answer: float, value: float) -> bool:
    """True when the answer is the value with three digits, as a table shows it."""
    return answer == float(f"{value:.3g}")


def _shown(answer: object) -> str:
    """The answer as Python writes it, short; a whole number of thousands of digits is not even written."""
    try:
        return one_line(repr(answer), SHOWN_CHARACTERS)
    except ValueError:
        return "a number of thousands of digits"
