"""What changed from one set of reference results to the next, apart from speed, in sentences.

At temperature 0 on the same build an answer, a status, a warning or an output without a time is the same in every run,
so each difference is said. Knows two folders of results; `changes` compares the times.
"""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING

from workshop_lib.programs import notebook_files
from workshop_lib.show.text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from workshop_lib.comparison import Reference, Results
    from workshop_lib.records import Row

MADE = ("*.ipynb", "*.jsonl", "benchmark_report.*", "decision*.md", "figures/*")
"""What a run writes. Anything else in a folder of reference results was put there by hand."""
BY_TIME = {"unstable", "outliers", "bursts", "cached_prompt", "cold_start", "coarse_energy"}
"""Warnings that come and go with the times of a run, which `changes` compares."""
BEFORE, AFTER = 20, 60
"""Characters shown before and after the first difference of two outputs."""


def changed_answers(old: Results, new: Results) -> list[str]:
    """Return one sentence per answer that is another now, and per answer that has come or gone."""
    before, after = _answers(old), _answers(new)
    said = []
    for key in dict.fromkeys((*before, *after)):
        name = f"{key[0]} on {key[1]}, {key[2]}"
        if key not in after:
            said.append(f"{name}: no answer any more.")
        elif key not in before:
            said.append(f"{name}: an answer for the first time.")
        elif before[key] != after[key]:
            said.append(f"{name}: the answer changed from {_shown(before[key])} to {_shown(after[key])}.")
    return said


def changed_rows(old: Iterable[Row], new: Iterable[Row]) -> list[str]:
    """Return one sentence per row that has come or gone, and per status, reason or set of warnings that changed.

    Warnings that rest on times are left out.
    """
    before, after = ({(row.model_id, row.device): row for row in rows} for rows in (old, new))
    said = [f"{model} on {device}: no row any more." for model, device in before if (model, device) not in after]
    for key, row in after.items():
        name = f"{key[0]} on {key[1]}"
        if key not in before:
            said.append(f"{name}: a row for the first time, {row.status}.")
            continue
        was = before[key]
        pairs = {
            "status": (was.status, row.status),
            "error": (was.error or "none", row.error or "none"),
            "warnings": (_listed({*was.warnings} - BY_TIME), _listed({*row.warnings} - BY_TIME)),
        }
        said += [f"{name}: {what} changed from {_shown(a)} to {_shown(b)}." for what, (a, b) in pairs.items() if a != b]
    return said


def changed_outputs(old: Path, new: Path) -> list[str]:
    """Return one sentence per cell of the notebooks in both folders whose output should be the same and is not.

    Raises:
        NotebookError: a notebook in one of the folders cannot be read.
    """
    said = []
    for path in sorted(new.glob("*.ipynb")):
        if not (old / path.name).exists():
            continue
        before, after = notebook_files.fixed_outputs(old / path.name), notebook_files.fixed_outputs(path)
        for cell in dict.fromkeys((*before, *after)):
            a, b = before.get(cell), after.get(cell)
            said += [f"{path.stem}, cell {cell}: {_difference(a, b)}."] if a != b else []
    return said


def changed_files(old: Path, new: Path) -> tuple[list[str], list[str]]:
    """Return the files that a run wrote for the first time, and those that it does not write any more, by name."""
    before, after = _made(old), _made(new)
    return sorted(after - before), sorted(before - after)


def lost_gpu(old: Reference, new: Reference) -> bool:
    """Return whether results of a GPU would be replaced by those of a machine without one."""
    return bool(old.gpu_rows) and not new.gpu_rows


def summary(counts: Mapping[str, int]) -> str:
    """Return how many differences of each kind there are, in one sentence.

    >>> summary({"answers": 0, "rows": 2})
    'Changed, apart from speed: 0 answers, 2 rows.'
    """
    return f"Changed, apart from speed: {', '.join(f'{count} {what}' for what, count in counts.items())}."


def _answers(results: Results) -> dict[tuple[str, str, str], str]:
    """Return the answer of the first round, by model, device and prompt."""
    found: dict[tuple[str, str, str], str] = {}
    for sample in results.samples:
        found.setdefault((sample.model_id, sample.device, sample.prompt_id), sample.text)
    return found


def _listed(codes: Iterable[str]) -> str:
    return ", ".join(sorted(codes)) or "none"


def _made(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for pattern in MADE for path in folder.glob(pattern)}


def _difference(before: str | None, after: str | None) -> str:
    if before is None or after is None:
        return "a new cell" if before is None else "the cell is gone, or its output may differ now"
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(before, after, strict=False)))
    first = max(0, same - BEFORE)
    a, b = (_shown(text[first : first + BEFORE + AFTER]) for text in (before, after))
    return f"the output changed from {a} to {b}"


def _shown(text: str) -> str:
    return repr(one_line(text, 120))
