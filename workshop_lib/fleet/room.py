"""A room without a cluster: everyone drops files into one shared folder, and this reads, compares and draws them.

    room/ada/benchmark_report.json   what ada measured; `room/ada.json` or a `records.jsonl` will do
    room/ada/me.jsonl                her grades of page 04
    room/ada/prediction.txt          the model that she would have shipped before measuring
    room/ada/decision.json           the model that she chose on page 05

Whoever can write there can write anything: sizes are bounded, links are not followed out of the folder, and a file that
cannot be used is one sentence, beside which the rest is shown. A fleet's folder is read like any room.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import islice, pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from matplotlib import colormaps
from matplotlib.colors import LogNorm
from matplotlib.patches import Rectangle

from workshop_lib import benchmark, comparison, files, places, storage
from workshop_lib.comparison import Ratio, Results, digits
from workshop_lib.errors import ConfigurationError, DataFileError, WorkshopError
from workshop_lib.fleet.default import differences
from workshop_lib.fleet.plan import FLEET_FILE, RECORDS_FILE
from workshop_lib.quality import annotation, scores
from workshop_lib.quality.agreement import Agreement, krippendorff_alpha, ratings
from workshop_lib.quality.scores import Score
from workshop_lib.records import Row, Run
from workshop_lib.show import style
from workshop_lib.show.table import Table
from workshop_lib.show.text import MACHINE_FACTS, Key, key, names, number, one_line, without_places

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EXAMPLE = places.DATA / "reference" / "room"
PREDICTION = "prediction.txt"
LARGEST_BYTES, LARGEST = 8_000_000, 1e9
MOST_DESKS, MOST_FILES, MOST_MODELS, MOST_FAULTS = 60, 60, 8, 12
NAME = 30
SMALL, FRAMES = " Small: times the first desk's, 95 % interval.", " Frame: chosen. Dots: predicted."
FACTS = {**MACHINE_FACTS, "load_average": "load {}"}
BROKEN = (WorkshopError, OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError)
"""What reading another one's file may raise; the errors of pydantic and of JSON are `ValueError`s."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What one person handed in, by the name of the folder; `predicted` and `chose` are aliases, empty if not said."""

    name: str
    results: Results | None = None
    rows: tuple[Row, ...] = ()
    grades: tuple[Score, ...] = ()
    predicted: str = ""
    chose: str = ""
    chosen_id: str = ""

    def latencies(self) -> dict[Key, float]:
        """Seconds for a whole answer of each model: the median over prompts of each prompt's median."""
        found: dict[Key, dict[str, list[float]]] = {}
        for each in self.results.samples if self.results else ():
            if value := each.metrics.get("latency_s"):
                found.setdefault((each.model_id, each.device), {}).setdefault(each.prompt_id, []).append(value)
        return {which: median(map(median, prompts.values())) for which, prompts in found.items()}


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
        counts = Counter(which for desk in self.desks for which in desk.latencies() if which in rows)
        kept = [which for which, _ in counts.most_common(MOST_MODELS)]
        return {which: rows[which] for which in sorted(kept, key=lambda which: (rows[which].alias, which))}


# -- handing in and reading


def hand_in(folder: str, name: str, predicted: str = "", records: str = "") -> str:
    """Copy a run's report and choice, and the grades that people gave here, into `folder/name`; say what was done.

    Without a folder or a name nothing is done. Raises `ConfigurationError` for a name that no file can have.
    """
    if not (folder and name):
        return "Nothing is handed in: that takes both a room and a name."
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
    root, found, faults = files.typed_path(folder) if str(folder).strip() else EXAMPLE, dict[str, Desk](), list[str]()
    try:
        listed = list(_files(root))
    except OSError as error:
        raise ConfigurationError(f"{root}: {error.strerror}.", "Correct `room`, or make that folder.") from None
    for name, path in listed:
        try:
            if not path.resolve().is_relative_to(root.resolve()):
                raise DataFileError("It is a link that leads out of the folder.", "Copy the file itself.")
            if path.is_dir():
                raise DataFileError("It cannot be opened.", "Let everyone read this folder.")
            if path.stat().st_size > LARGEST_BYTES:
                raise DataFileError(f"It is larger than {LARGEST_BYTES:,} bytes.", "Hand in the report alone.")
            found[name] = _with(found.get(name, Desk(name)), path)
        except BROKEN as error:
            why = f"It has no {error}." if isinstance(error, KeyError) else without_places(str(error), {root: "room"})
            said = f"{path.relative_to(root).as_posix()} is left out. {why or type(error).__name__}"
            faults.append(one_line(said, 300))
    known = [_voted(desk) for _, desk in sorted(found.items()) if desk != Desk(desk.name)]
    if len(known) > MOST_DESKS:
        faults.append(f"Only the first {MOST_DESKS} of {len(known)} desks are shown.")
    return Room(tuple(known[:MOST_DESKS]), tuple(faults))


def _files(root: Path) -> Iterator[tuple[str, Path]]:
    """Name of the desk, and a file that may say something of it; a run's records last, which only stand in."""
    for entry in sorted(islice(root.iterdir(), 4 * MOST_DESKS)):
        if entry.is_dir() and not entry.is_symlink():
            there = (each for kind in ("*.*", "annotations/*.jsonl") for each in entry.glob(kind))
            order = sorted(islice(there, MOST_FILES), key=lambda each: (each.name == RECORDS_FILE, each.stem))
            is_open = os.access(entry, os.R_OK | os.X_OK)
            yield from ((entry.name, each) for each in order if each.is_file()) if is_open else [(entry.name, entry)]
        elif entry.is_symlink() or (entry.is_file() and entry.suffix in (".json", ".jsonl")):
            yield entry.stem, entry


def _with(desk: Desk, path: Path) -> Desk:
    """What is known of a desk together with what one of its files says."""
    new: dict[str, Any] = {}
    if path.name == PREDICTION:
        new["predicted"] = files.decoded(path.read_bytes()).strip()
    elif path.name.startswith("decision") and path.suffix == ".json":
        new["chosen_id"] = str(json.loads(path.read_bytes())["model_id"] or "")  # the latest file comes last
    elif path.name in (comparison.REPORT, f"{desk.name}.json") and path.name != FLEET_FILE:
        new = _measured(comparison.results_of(path, desk.name))
    elif path.name == RECORDS_FILE and not desk.rows:
        new = _measured(comparison.results_of(_checked(Run, storage.read_run(path)), desk.name))
    elif path.suffix == ".jsonl" and b'"scores"' in path.read_bytes()[:40]:  # an editor may have added a space
        file = scores.ScoreFile(path.parent, path.stem)
        if file.path.name != path.name:
            raise DataFileError("It holds another one's grades.", f"Name it {file.path.name}.")
        reader = desk.name if path.stem in ("me", desk.name) else f"{desk.name} ({path.stem})"
        given = scores.current(_checked(Score, each) for each in file.lines().values()).values()
        new["grades"] = (*desk.grades, *(replace(each, rater=one_line(reader, 2 * NAME)) for each in given))
    return replace(desk, **new)


def _measured(found: Results) -> dict[str, Any]:
    if not all(0 <= (value or 0) < LARGEST for each in found.samples for value in each.metrics.values()):
        raise DataFileError("It holds a figure that nothing can have.", "Measure again.")
    return {"results": found, "rows": found.rows}


def _checked(kind: type[Any], value: Any) -> Any:
    """The value with the types that its class promises: files of others hold anything. Raises `ValueError`."""
    from pydantic import TypeAdapter

    return TypeAdapter(kind).validate_python(asdict(value))


def _voted(desk: Desk) -> Desk:
    """The desk with its votes as aliases: a prediction and the choice of one build can then be compared."""
    aliases = {name.casefold(): row.alias for row in desk.rows for name in (row.alias, row.model_id)}
    votes = [one_line(aliases.get(said.casefold(), said), NAME) for said in (desk.predicted, desk.chosen_id)]
    return replace(desk, predicted=votes[0], chose=votes[1])


# -- what was measured


def sentences(room: Room) -> list[str]:
    """What lies in the room, what could not be used, and how the machines differ."""
    said = ["Nothing that can be used lies in this folder yet."]
    if room.desks:
        graded = sum(bool(desk.grades) for desk in room.desks)
        said = [f"{len(room.desks)} desks: {len(room.results)} with a report, {graded} with grades."]
    machines = {name: found.machine for name, found in room.results.items()}
    return [*said, *room.faults[:MOST_FAULTS], *differences(machines)]


def desks(room: Room) -> Table:
    """One line per desk: its machine, how many models it measured and answers it graded, and both votes."""
    lines = []
    for desk in room.desks:
        machine = desk.results.machine if desk.results else {}
        facts = ", ".join(said.format(machine[fact]) for fact, said in FACTS.items() if machine.get(fact))
        counts = len(desk.latencies()), len(desk.grades)
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
    models, compared, lines = room.models(), ratios(room), []
    for which, name in names(list(models.values())).items():
        for desk in room.desks:
            if (wait := desk.latencies().get(which)) is not None:
                ratio = compared.get((desk.name, which))
                alone = "-" if desk.name in list(room.results)[:1] else "other prompts or settings"
                said = comparison.describe(ratio, "lower") if ratio else alone
                lines.append((name, _name(desk), number(1000 * wait), said))
    return Table.of(lines, "model", "desk", "latency (ms)", "against the first desk")


def picture(room: Room) -> Figure | None:
    """Draw the median latency (ms) of every model at every desk, its ratio to the first desk's, and both votes.

    The colour says the same as the number, from dark (short) to light (long), on a scale that grey printers and
    colour-blind readers keep. None where nobody measured anything.
    """
    models, rows = room.models(), [desk for desk in room.desks if desk.results]
    waits = {(desk.name, which): wait for desk in rows for which, wait in desk.latencies().items() if which in models}
    if not waits:
        return None
    title = "How long does each model take at each desk?"
    compared, voted = ratios(room), any(desk.chose or desk.predicted for desk in rows)
    subtitle = f"Median latency (ms).{SMALL * bool(compared)}{FRAMES * voted}"
    figure, (axes,) = style.sheet([_name(desk) for desk in rows], title, subtitle)
    axes.grid(visible=False)
    axes.patch.set(hatch="////", edgecolor=style.QUIET)
    called = names(list(models.values()))
    labels = [name.replace(" · ", "\n") for name in called.values()]
    width_in = axes.get_position().width * style.WIDTH_IN / len(models)
    fit = width_in / style.LETTER_IN / max(len(line) for label in labels for line in label.split("\n"))
    axes.set_xticks(range(len(labels)), labels, parse_math=False, fontsize=min(9.0, 10 * fit))
    axes.set_xlim(-0.5, len(labels) - 0.5)
    scale = LogNorm(0.9 * min(waits.values()), 1.1 * max(waits.values()))
    for line, desk in enumerate(rows):
        for column, (which, row) in enumerate(models.items()):
            if (desk.name, which) in waits:
                shade = float(scale(waits[desk.name, which]))
                fill: Any = {"facecolor": colormaps["cividis"](shade), "edgecolor": style.PAPER, "lw": 3}
                axes.add_patch(Rectangle((column - 0.5, line - 0.5), 1, 1, **fill))
                words = [number(1000 * waits[desk.name, which]), _times(compared.get((desk.name, which)), width_in)]
                votes = (row.model_id == desk.chosen_id, row.alias == desk.predicted)
                _write(axes, (column, line), words, votes, "#ffffff" if shade < 0.45 else "#000000")
    said = []
    for which, name in called.items():
        mine = sorted((wait, desk) for (desk, each), wait in waits.items() if each == which)
        ends = [f"{number(1000 * wait)} ms at {one_line(desk, NAME)}" for wait, desk in (mine[0], *mine[1:][-1:])]
        said.append(f"{name}: {' to '.join(ends)}")
    figure.set_label(f"Median latency of every model, from the quickest desk to the slowest. {'; '.join(said)}.")
    return figure


def _write(axes: Axes, place: tuple[int, int], words: list[str], votes: tuple[bool, bool], ink: str) -> None:
    """Write a field's number with its ratio below it, and frame it by the votes that it got: chosen, predicted."""
    (column, line), (wait, times) = place, words
    look: dict[str, Any] = {"color": ink, "ha": "center", "va": "center"}
    axes.text(column, line - (0.15 if times else 0.0), wait, fontsize=9, **look)
    axes.text(column, line + 0.22, times, fontsize=6.5, **look)
    for voted, aside, down, dashes in zip(votes, (0.445, 0.415), (0.41, 0.365), ("-", ":"), strict=True):
        if voted:
            frame = (column - aside, line - down), 2 * aside, 2 * down
            axes.add_patch(Rectangle(*frame, fill=False, edgecolor=ink, lw=1.6, ls=dashes))


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
