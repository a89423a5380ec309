"""A room without a cluster: everyone puts a folder into one shared folder, and this reads, compares and draws them.

    room/ada/benchmark_report.json   what ada measured; a `records.jsonl` will do
    room/ada/me.jsonl                her grades of page 04
    room/ada/prediction.txt          the model that she would have shipped before measuring
    room/ada/decision.json           the model that she chose on page 05

Whoever can write there can write anything: sizes are bounded, links are not followed out of the folder, and a file that
cannot be used is one sentence, beside which the rest is shown. A fleet's folder is read like any room.
"""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from workshop_lib import benchmark, comparison, files, places, storage
from workshop_lib.comparison import Ratio, Results, digits
from workshop_lib.errors import ConfigurationError, DataFileError, WorkshopError
from workshop_lib.fleet.default import differences
from workshop_lib.fleet.plan import RECORDS_FILE
from workshop_lib.quality import annotation, scores
from workshop_lib.quality.agreement import Agreement, krippendorff_alpha, ratings
from workshop_lib.quality.scores import Score
from workshop_lib.records import Key, Row, Run, key
from workshop_lib.show import style
from workshop_lib.show.table import Table
from workshop_lib.show.text import machine_facts, names, number, one_line, without_places

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EXAMPLE = places.DATA / "reference" / "room"
PREDICTION = "prediction.txt"
LARGEST_BYTES, LARGEST, MOST_DESKS, MOST_MODELS, NAME = 8_000_000, 1e9, 60, 8, 30
BROKEN = (WorkshopError, OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError)
"""What reading another one's file may raise; the errors of pydantic and of JSON are `ValueError`s."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What one person handed in, by the name of the folder; `predicted` and `chose` are aliases, empty if not said.

    `waits_s` are seconds for a whole answer of each model: the median over prompts of each prompt's median.
    """

    name: str
    results: Results | None = None
    rows: tuple[Row, ...] = ()
    waits_s: dict[Key, float] = field(default_factory=dict)
    grades: tuple[Score, ...] = ()
    predicted: str = ""
    chose: str = ""


@dataclass(frozen=True, slots=True)
class Room:
    """The desks of a folder in the order of their names, and a sentence for each file that could not be used."""

    desks: tuple[Desk, ...]
    faults: tuple[str, ...] = ()

    @property
    def results(self) -> dict[str, Results]:
        """What each desk with a report measured."""
        return {desk.name: desk.results for desk in self.desks if desk.results}

    def models(self) -> dict[Key, Row]:
        """A row of each model that answered anywhere, by alias; of very many those of the most desks."""
        rows = {key(row): row for desk in self.desks for row in desk.rows}
        counts = Counter(which for desk in self.desks for which in desk.waits_s if which in rows)
        kept = [which for which, _ in counts.most_common(MOST_MODELS)]
        return {which: rows[which] for which in sorted(kept, key=lambda which: (rows[which].alias, which))}


# -- handing in and reading


def hand_in(folder: str, name: str, predicted: str = "", records: str = "") -> str:
    """Copy a run's report and choice, and the grades that people gave here, into `folder/name`; say what was done.

    Without a folder or a name nothing is done. Raises `ConfigurationError` for a name that no file can have.
    """
    if not (folder and name):
        return "Nothing is handed in: for that, set both `room` and `name`."
    own, path = files.typed_path(folder) / scores.rater_name(name), benchmark.find_records(records)
    report = path.with_name(comparison.REPORT)
    choices = sorted(path.parent.glob("decision*.json"), key=lambda each: each.stem)
    people = [each for each in sorted(annotation.folder().glob("*.jsonl")) if "%" not in each.name]  # no judge's
    said = {each.name: each.read_bytes() for each in (report if report.is_file() else path, *choices[-1:], *people)}
    said |= {PREDICTION: predicted.encode()} if predicted else {}
    for file, content in said.items():
        files.write_atomically(own / file, content)
    return f"Handed in as {own.name}: {', '.join(said)}."


def read(folder: str | Path = "") -> Room:
    """Read a shared folder; without one, the example that ships. Raises `ConfigurationError` where there is none."""
    root, found, faults = files.typed_path(folder) if str(folder).strip() else EXAMPLE, list[Desk](), list[str]()
    try:
        listed = sorted(entry for entry in root.iterdir() if entry.is_dir() or entry.is_symlink())
    except OSError as error:
        raise ConfigurationError(f"{root}: {error.strerror}.", "Correct `room`, or make that folder.") from None
    for entry in listed[:MOST_DESKS]:
        desk = Desk(entry.name)
        for path in _files(entry):
            try:
                _check(path, root)
                desk = replace(desk, **_said_by(path, desk))
            except BROKEN as error:
                why = (
                    f"It has no {error}." if isinstance(error, KeyError) else without_places(str(error), {root: "room"})
                )
                said = f"{path.relative_to(root).as_posix()} is left out. {why or type(error).__name__}"
                faults.append(one_line(said, 300))
        if desk != Desk(entry.name):
            found.append(_voted(desk))
    if len(listed) > MOST_DESKS:
        faults.append(f"Only the first {MOST_DESKS} of {len(listed)} folders are read.")
    return Room(tuple(found), tuple(faults))


def _files(entry: Path) -> list[Path]:
    """The files that may say something of a desk, a run's records last, which only stand in; or what cannot be read."""
    if entry.is_symlink() or not os.access(entry, os.R_OK | os.X_OK):
        return [entry]
    there = (each for kind in ("*", "annotations/*.jsonl") for each in entry.glob(kind) if each.is_file())
    return sorted(there, key=lambda each: (each.name == RECORDS_FILE, each.stem))


def _check(path: Path, root: Path) -> None:
    if not path.resolve().is_relative_to(root.resolve()):
        raise DataFileError("It is a link that leads out of the folder.", "Copy the file itself.")
    if path.is_dir():
        raise DataFileError("It cannot be opened.", "Let everyone read this folder.")
    if path.stat().st_size > LARGEST_BYTES:
        raise DataFileError(f"It is larger than {LARGEST_BYTES:,} bytes.", "Hand in the report alone.")


def _said_by(path: Path, desk: Desk) -> dict[str, Any]:
    """What one file of a desk says of it."""
    if path.name == PREDICTION:
        return {"predicted": files.decoded(path.read_bytes()).strip()}
    if path.name.startswith("decision") and path.suffix == ".json":
        return {"chose": str(json.loads(path.read_bytes())["model_id"] or "")}  # the latest file comes last
    if path.name == comparison.REPORT:
        return _measured(comparison.results_of(path, desk.name))
    if path.name == RECORDS_FILE and not desk.rows:
        return _measured(comparison.results_of(_checked(Run, storage.read_run(path)), desk.name))
    if path.suffix == ".jsonl" and b'"scores"' in path.read_bytes()[:40]:  # an editor may have added a space
        file = scores.ScoreFile(path.parent, path.stem)
        if file.path.name != path.name:
            raise DataFileError("It holds another one's grades.", f"Name it {file.path.name}.")
        reader = desk.name if path.stem in ("me", desk.name) else f"{desk.name} ({path.stem})"
        given = scores.current(_checked(Score, each) for each in file.lines().values()).values()
        return {"grades": (*desk.grades, *(replace(each, rater=one_line(reader, 2 * NAME)) for each in given))}
    return {}


def _measured(found: Results) -> dict[str, Any]:
    if not all(0 <= (value or 0) < LARGEST for each in found.samples for value in each.metrics.values()):
        raise DataFileError("It holds a figure that nothing can have.", "Measure again.")
    waits: dict[Key, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for each in found.samples:
        if value := each.metrics.get("latency_s"):
            waits[each.model_id, each.device][each.prompt_id].append(value)
    medians = {which: median(map(median, prompts.values())) for which, prompts in waits.items()}
    return {"results": found, "rows": found.rows, "waits_s": medians}


def _checked(kind: type[Any], value: Any) -> Any:
    """The value with the types that its class promises: files of others hold anything. Raises `ValueError`."""
    from pydantic import TypeAdapter

    return TypeAdapter(kind).validate_python(asdict(value))


def _voted(desk: Desk) -> Desk:
    """The desk with its votes as aliases: a prediction and the choice of one build can then be compared."""
    aliases = {name.casefold(): row.alias for row in desk.rows for name in (row.alias, row.model_id)}
    votes = [one_line(aliases.get(said.casefold(), said), NAME) for said in (desk.predicted, desk.chose)]
    return replace(desk, predicted=votes[0], chose=votes[1])


# -- what was measured


def sentences(room: Room) -> list[str]:
    """What lies in the room, what could not be used, and how the machines differ."""
    said = ["Nothing that can be used lies in this folder yet."]
    if room.desks:
        graded = sum(bool(desk.grades) for desk in room.desks)
        many = f"{len(room.desks)} desk{'s' * (len(room.desks) != 1)}"
        said = [f"{many}: {len(room.results)} with a report, {graded} with grades."]
    return [*said, *room.faults, *differences({name: found.machine for name, found in room.results.items()})]


def desks(room: Room) -> Table:
    """One line per desk: its machine, how many models it measured and answers it graded, and both votes."""
    lines = []
    for desk in room.desks:
        machine = desk.results.machine if desk.results else {}
        facts = machine_facts(machine) + (f", load {load}" if (load := machine.get("load_average")) else "")
        counts = len(desk.waits_s), len(desk.grades)
        lines.append((_name(desk), one_line(facts or "-", 120), *counts, desk.predicted or "-", desk.chose or "-"))
    return Table.of(lines, "desk", "machine", "models", "graded answers", "predicted", "chose")


def ratios(room: Room) -> dict[tuple[str, Key], Ratio]:
    """Latencies in units of the first desk's; measured apart, so what repeating alone makes is never called clear."""
    found, results = dict[tuple[str, Key], Ratio](), list(room.results.values())
    for other in results[1:]:
        with suppress(ConfigurationError):  # they share no model or no prompt, or did different work
            for line in comparison.compare(results[0], other).lines:
                if line.metric.name == "latency_s":
                    found[other.name, line.b] = line.ratio
    return found


def speed(room: Room) -> Table:
    """One line per model and desk: the median latency, and how it compares with the first desk's."""
    compared, lines, first = ratios(room), [], next(iter(room.results), "")
    for which, name in names(list(room.models().values())).items():
        for desk in room.desks:
            if which in desk.waits_s:
                ratio = compared.get((desk.name, which))
                alone = "-" if desk.name == first else "other prompts or settings"
                said = comparison.describe(ratio, "lower") if ratio else alone
                lines.append((name, _name(desk), number(1000 * desk.waits_s[which]), said))
    return Table.of(lines, "model", "desk", "latency (ms)", "against the first desk")


def picture(room: Room) -> Figure | None:
    """Draw the median latency (ms) of every model at every desk, and below it its ratio to the first desk's.

    The colour says the same as the number, from dark (short) to light (long), on a scale that grey printers and
    colour-blind readers keep. None where nobody measured anything.
    """
    import numpy as np
    from matplotlib.colors import LogNorm

    called, rows = names(list(room.models().values())), [desk for desk in room.desks if desk.results]
    waits = np.array([[1000 * desk.waits_s.get(which, np.nan) for which in called] for desk in rows], ndmin=2)
    if not np.isfinite(waits).any():
        return None
    compared = ratios(room)
    below = " Below it: times the first desk's, 95 % interval." if compared else ""
    title, subtitle = "How long does each model take at each desk?", f"Median latency (ms).{below}"
    figure, (axes,) = style.sheet([_name(desk) for desk in rows], title, subtitle)
    axes.grid(visible=False)
    axes.patch.set(hatch="////", edgecolor=style.QUIET)  # seen where nothing was measured
    labels = [name.replace(" · ", "\n") for name in called.values()]
    width_in = axes.get_position().width * style.WIDTH_IN / len(labels)
    fit = width_in / style.LETTER_IN / max(len(line) for label in labels for line in label.split("\n"))
    axes.set_xticks(range(len(labels)), labels, parse_math=False, fontsize=min(9.0, 10 * fit))
    scale = LogNorm(0.9 * np.nanmin(waits), 1.1 * np.nanmax(waits))
    edges = (np.arange(count + 1) - 0.5 for count in reversed(waits.shape))
    fields = np.ma.masked_invalid(waits)
    axes.pcolormesh(*edges, fields, cmap="cividis", norm=scale, edgecolors=style.PAPER, linewidth=3)
    axes.set(xlim=(-0.5, len(labels) - 0.5), ylim=(len(rows) - 0.5, -0.5))
    for line, desk in enumerate(rows):
        for column, which in enumerate(called):
            if np.isfinite(wait := waits[line, column]):
                look: Any = {"color": "#ffffff" if scale(wait) < 0.45 else "#000000", "ha": "center", "va": "center"}
                times = _times(compared.get((desk.name, which)), width_in)
                axes.text(column, line - 0.15 * bool(times), number(float(wait)), fontsize=9, **look)
                axes.text(column, line + 0.22, times, fontsize=6.5, **look)
    said = []
    for name, column in zip(called.values(), waits.T, strict=True):
        mine = sorted((wait, one_line(desk.name, NAME)) for wait, desk in zip(column, rows, strict=True) if wait > 0)
        ends = [f"{number(float(wait))} ms at {desk}" for wait, desk in (mine[0], *mine[1:][-1:])]
        said.append(f"{name}: {' to '.join(ends)}")
    figure.set_label(f"Median latency of every model, from the quickest desk to the slowest. {'; '.join(said)}.")
    return figure


def _times(ratio: Ratio | None, width_in: float) -> str:
    if ratio is None or ratio.value is None:
        return ""
    if ratio.low is None or ratio.high is None or width_in < 0.9:
        return f"{digits(ratio.value)}x"
    return f"{digits(ratio.value)}x ({digits(ratio.low)}-{digits(ratio.high)})"


def _name(desk: Desk) -> str:
    return one_line(desk.name, NAME)


# -- people: do they agree, and what did measuring change?


def agreement(room: Room) -> list[Agreement]:
    """Alpha of each two neighbours, in the order of names, on the answers that both graded; then of all together."""
    table = ratings(score for desk in room.desks for score in desk.grades)
    pairs = [krippendorff_alpha({one: table[one], other: table[other]}) for one, other in pairwise(sorted(table))]
    if len(pairs) < 2:
        return pairs or [krippendorff_alpha(table)]
    return [*pairs, replace(krippendorff_alpha(table), raters=(f"all {len(table)} readers",))]


def votes_said(room: Room) -> str:
    """What measuring changed: how many chose another model than they had predicted, and which has the most votes."""
    both = [desk for desk in room.desks if desk.predicted and desk.chose]
    if not both:
        return "Nobody handed in both a prediction and a choice."
    counts = Counter(desk.chose for desk in both)
    first = [name for name, count in sorted(counts.items()) if count == max(counts.values())]
    changed, most = sum(desk.predicted != desk.chose for desk in both), max(counts.values())
    winners = one_line(" or ".join(first), 2 * NAME)
    return f"{changed} of {len(both)} chose another model than predicted; most chose {winners} ({most})."


def votes(room: Room) -> Figure | None:
    """Draw how many desks predicted each model, and how many chose it; None where nobody voted."""
    before = Counter(desk.predicted for desk in room.desks if desk.predicted)
    after = Counter(desk.chose for desk in room.desks if desk.chose)
    models = sorted(before | after, key=lambda name: (-after[name], -before[name], name))
    if not models:
        return None
    figure, panels = style.sheet(models, "What did measuring change?", votes_said(room), columns=2)
    for axes, counts, label in zip(panels, (before, after), ("Predicted", "Chosen"), strict=True):
        values = [counts[each] for each in models]
        style.bars(axes, values, list(map(str, values)), [("", "int4")] * len(models))
        axes.set(xlabel=f"{label} (desks)", xlim=(0, 1.2 * len(room.desks)), xticks=(0, len(room.desks)))
    listed = "; ".join(f"{name} {before[name]} before, {after[name]} after" for name in models)
    figure.set_label(f"Votes for each model: {listed}. {votes_said(room)}")
    return figure
