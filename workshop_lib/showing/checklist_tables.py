"""The validation checklist as tables for people: one status per check, and what to do about each failure.

Knows checks; asks nothing and judges nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workshop_lib import checklist
from workshop_lib.display import Table
from workshop_lib.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from workshop_lib.checklist import ModelCheck

COLUMNS = ["model", "device", *checklist.NAMES]


def statuses(checks: Iterable[ModelCheck]) -> Table:
    """Return one line per model and device with the status of each check."""
    lines = [(printable(each.model), each.device, *(step.status for step in each.steps)) for each in checks]
    return Table(lines, columns=COLUMNS)


def reasons(checks: Iterable[ModelCheck], name: str) -> Table:
    """Return why one of the checks has its status, e.g. `served`: what the status rests on."""
    lines = [
        (printable(each.model), step.status, printable(step.reason))
        for each in checks
        for step in each.steps
        if step.name == name
    ]
    return Table(lines, columns=["model", name, "reason"])


def failures(checks: Iterable[ModelCheck]) -> Table:
    """Return one line per failed check with what to do; empty where none failed."""
    lines = [
        (printable(each.model), each.device, each.failure.name, printable(each.failure.reason))
        for each in checks
        if each.failure
    ]
    return Table(lines, columns=["model", "device", "failed check", "what to do"])
