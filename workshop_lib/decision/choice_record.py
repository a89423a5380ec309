"""A decision as a short Markdown document with its evidence: what a reader needs to follow it, doubt it, or repeat it.

Names of models, errors and words of people are escaped; files are named without their folders. The last line holds the
hash of the text above it, so that a record which a person has edited is recognised and never overwritten. Knows what a
decision holds. Computes nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from workshop_lib.decision import choice_tables, choice_words, limits
from workshop_lib.decision.criteria import criterion
from workshop_lib.errors import ConfigurationError
from workshop_lib.files import write_atomically
from workshop_lib.metrics import summaries
from workshop_lib.show.text import markdown, one_line, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from workshop_lib.decision.choice import Decision
    from workshop_lib.records import Run
    from workshop_lib.show.table import Table

NAME = "decision"
MOST_RECORDS = 1000
LONGEST_CELL = 200
LONGEST_NOTE = 4000
MACHINE_FACTS = {
    "cpu": "{}",
    "physical_cores": "{} cores",
    "memory_mb": "{} MB of memory",
    "gpu": "GPU {}",
    "os": "{}",
    "power_source": "power source {}",
}
"""Facts of the fingerprint that a reader of a decision asks for; none of them names a person or a place."""

_SEAL = re.compile(r"<!-- as written, sha256 of the text above: ([0-9a-f]{64}) -->\s*\Z")


@dataclass(frozen=True, slots=True, repr=False)
class Record:
    """A decision record: Markdown that a notebook renders and a terminal prints."""

    text: str

    def __repr__(self) -> str:
        return self.text

    def _repr_markdown_(self) -> str:
        return self.text


def record(decision: Decision, run: Run, *, records: Path | str, note: str = "", decided_at: str = "") -> Record:
    """Put a decision and its evidence into words.

    Args:
        decision: what `choice.decide` found.
        run: what it rests on.
        records: the file of that run; only its name is written.
        note: a person's own reason, quoted.
        decided_at: wall clock, ISO 8601; empty = now.
    """
    date = decided_at or datetime.now(UTC).isoformat(timespec="minutes")
    first = decision.first
    chosen = choice_words.name(decision.evidence, first.row) if first else "none"
    lines = [f"# Decision: {_text(chosen)}", "", _text(choice_words.verdict(decision)), ""]
    lines += _bullets([f"**{name}:** {_text(value)}" for name, value in _facts(decision, run, Path(records), date)])
    if note.strip():
        lines += [
            "## Reason given",
            "",
            *(f"> {markdown(line)}" for line in printable(note)[:LONGEST_NOTE].splitlines()),
            "",
        ]
    lines += ["## Candidates", "", *_table(choice_tables.evidence(decision.evidence)), ""]
    lines += ["Intervals hold 95 % over prompts; memory and size were measured once.", ""]
    lines += ["## Limits", "", *_bullets(map(_text, limits.in_words(decision.limits) or ["none"]))]
    lines += ["## Out, and why", "", *_bullets(_outs(decision))]
    lines += ["## Weights", "", *_bullets(_weights(decision))]
    lines += ["## Order", "", *_table(choice_tables.ranking(decision)), ""] if decision.ranked else []
    lines += ["## How sure, and what would change it", "", *_bullets(_doubts(decision))]
    lines += ["## What to know of the figures", "", *_bullets(_warnings(decision))]
    text = "\n".join(lines).rstrip() + "\n"
    return Record(f"{text}\n<!-- as written, sha256 of the text above: {_seal(text)} -->\n")


def write(written: Record, folder: Path) -> Path:
    """Write a record as `decision.md`, or as `decision-2.md` and so on where a person has edited the one before.

    An earlier record that nobody has touched is replaced, as a whole.

    Raises:
        ConfigurationError: it cannot be written there.
    """
    for number in range(1, MOST_RECORDS + 1):
        path = folder / (f"{NAME}.md" if number == 1 else f"{NAME}-{number}.md")
        if (not path.exists() and not path.is_symlink()) or is_untouched(path):
            write_atomically(path, written.text)
            return path
    raise ConfigurationError(f"{folder.name} holds {MOST_RECORDS} edited records.", "Move some of them away.")


def is_untouched(path: Path) -> bool:
    """Whether a file is a record as it was written; an editor's other line ends do not count as an edit."""
    if path.is_symlink() or not path.is_file():
        return False
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False
    seal = _SEAL.search(text)
    return seal is not None and _seal(text[: seal.start()].removesuffix("\n")) == seal.group(1)


def _seal(text: str) -> str:
    return sha256(text.replace("\r\n", "\n").encode("utf-8", "backslashreplace")).hexdigest()


def _text(value: object) -> str:
    """Untrusted text on one line of Markdown."""
    return markdown(one_line(str(value), choice_words.SENTENCE))


def _bullets(sentences: Iterable[str]) -> list[str]:
    return [*(f"- {sentence}" for sentence in sentences), ""]


def _table(shown: Table) -> list[str]:
    headings = [markdown(str(each)) for each in shown.columns]
    lines = [[markdown(one_line(str(cell), LONGEST_CELL)) for cell in line] for line in shown.to_numpy().tolist()]
    return [f"| {' | '.join(line)} |" for line in (headings, [":---"] * len(headings), *lines)]


def _facts(decision: Decision, run: Run, records: Path, date: str) -> list[tuple[str, object]]:
    machine = [said.format(run.machine[name]) for name, said in MACHINE_FACTS.items() if run.machine.get(name)]
    licence = decision.first.row.licence if decision.first else None
    facts: list[tuple[str, object]] = [
        ("Decided", date),
        ("Rests on", f"run {run.run_id}, profile {run.profile}, file {records.name}"),
        ("Machine", ", ".join(machine) or "unknown"),
        ("Quality", choice_words.graded_by(decision.evidence)),
    ]
    if decision.first:
        facts.append(("Licence", licence or "unknown: look it up before you ship the model"))
    return facts


def _outs(decision: Decision) -> list[str]:
    return [
        f"{_text(choice_words.name(decision.evidence, each.row))}: {_text('; '.join(each.reasons))}"
        for each in decision.out
    ] or ["none"]


def _weights(decision: Decision) -> list[str]:
    return [
        f"{_text(each.label)} {decision.weights.of(each.name):g} ({decision.weights.share(each.name):.0%}), "
        f"a step is {choice_tables.step(each)}"
        for each in map(criterion, decision.weights.used)
    ]


def _doubts(decision: Decision) -> list[str]:
    said = [*choice_words.doubts(decision), *choice_words.changes(decision)]
    if decision.reason and decision.ranked:
        said.insert(0, f"How often a model comes first cannot be said: {decision.reason}")
    return [_text(each) for each in said] or ["Nothing was weighed."]


def _warnings(decision: Decision) -> list[str]:
    """The remarks, and every warning of a row with the models that carry it."""
    carried: dict[str, list[str]] = {}
    for row in decision.evidence.rows:
        for code in row.warnings:
            carried.setdefault(code, []).append(choice_words.name(decision.evidence, row))
    said = [_text(each) for each in choice_words.remarks(decision)]
    every = len(decision.evidence.rows)
    said += [f"`{_code(code)}` ({_text(_names(who, every))}): {_text(_meaning(code))}" for code, who in carried.items()]
    return said or ["no warnings"]


def _code(code: str) -> str:
    return re.sub(r"[^a-z0-9_]", "", code)


def _meaning(code: str) -> str:
    return summaries.WARNINGS.get(code, "No explanation is known.")


def _names(who: Sequence[str], every: int) -> str:
    return f"all {every} models" if len(who) == every > 2 else ", ".join(who)
