"""Judging answers one at a time and blind: the session behind the widget and the spreadsheet, and the widget.

A session shows the distinct answers of a run to one rater. The order is drawn by chance, but is the same again for the
same seed and name. Every score is on disk before the session knows it, so a new session goes on where the last one
stopped.

The widget's page sends commands and draws what it is sent. That holds nothing that would end the blindness before the
reveal: no model, and no hash. Text of models is made visible-only here and inserted as text there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from itertools import groupby, pairwise
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import anywidget
import traitlets

from workshop_lib import places
from workshop_lib.errors import ConfigurationError, WorkshopError
from workshop_lib.quality import scores
from workshop_lib.quality.facts import check_answer
from workshop_lib.quality.scores import Answer, Score, ScoreFile, Value, key_of
from workshop_lib.records import ModelVariant, Run
from workshop_lib.show.text import one_line, printable

LONGEST_COMMENT = 2000
STATIC = Path(__file__).resolve().parents[1] / "static"
SHORT = 90
"""Characters of a question or an answer in the reveal."""

Item = tuple[Answer, ...]
"""What is judged at once: one answer, or two of which the first is called A."""


class Step(NamedTuple):
    """One value of a scale: how scores hold it, its key, its name and what it means."""

    value: int | str
    key: str
    name: str
    meaning: str


PAIR_SCALE = (
    Step("a", "A", "A is better", ""),
    Step("b", "B", "B is better", ""),
    Step("tie", "T", "Tie", "equally good"),
    Step("both_bad", "X", "Both bad", "neither is usable"),
)


def draw_items(answers: Sequence[Answer], mode: str, *, rater: str, seed: int) -> tuple[Item, ...]:
    """A rater's items: those of one prompt together, prompts and items in drawn order.

    Pairs form a circle through the answers to a prompt, which ranks all of them without asking for every pair. They are
    the same for all raters; their order, and which answer is called A, are the rater's own. The sides do not depend on
    the seed, so that a pair that is asked again is known again.
    """
    items: list[Item] = [(answer,) for answer in answers]
    if mode == "pairwise":
        circles = [
            sorted(each, key=lambda one: _draw(seed, one.key)) for _, each in groupby(answers, lambda a: a.prompt)
        ]
        pairs = [pair for circle in circles for pair in pairwise(circle + circle[: len(circle) > 2])]
        hashed = [(sorted(answer.key for answer in pair), pair) for pair in pairs]
        items = [tuple(sorted(pair, key=lambda one: _draw(rater, both, one.key))) for both, pair in hashed]

    def place(item: Item) -> tuple[bytes, bytes]:
        return _draw(seed, rater, item[0].prompt.id), _draw(seed, rater, sorted(key_of(item, "")))

    return tuple(sorted(items, key=place))


def _draw(*what: object) -> bytes:
    """A number as if drawn by chance, but the same on every system; so new answers do not move the others."""
    return sha256(repr(what).encode("utf-8", "backslashreplace")).digest()


def folder(output: str = "") -> Path:
    """The folder of the raters' files: in the folder `output`, or one that all runs share."""
    return (Path(output).resolve() if output else places.runs_folder()) / "annotations"


def clean_comment(typed: str) -> str:
    """A comment as it is kept: visible characters only, no space around, cut after 2,000."""
    return printable(typed).strip()[:LONGEST_COMMENT].rstrip()


class Session:
    """One rater's way through the answers of a run.

    Args:
        mode: `rubric` for grades, `pairwise` for preferences.
        seed: fixes which pairs are made and, with the rater's name, the order.

    Attributes:
        scale: what can be said of an item.
        items: what is judged, in this rater's order.
        given: the current score on each item that has one, by `Score.key`, the latest last.
        judged, skipped: how many items have a grade or choice, and how many were passed over.
        finished: every item was judged or skipped; never True for a run without answers.
        position: the index of the current item; `total` at the end.
        revealed: True once the models' names were shown; no score is taken after that.

    Raises:
        ConfigurationError: an unusable name or mode.
        RecordFileError: the rater's file cannot be read.
    """

    def __init__(self, run: Run, folder: Path, *, rater: str = "me", mode: str = "rubric", seed: int = 20) -> None:
        if mode not in ("rubric", "pairwise"):
            raise ConfigurationError(f"There is no mode {mode!r}.", "Use rubric or pairwise.")
        self.run, self.folder, self.mode = run, folder, mode
        self.rubric = scores.read_rubric()
        grades = (Step(line.grade, str(line.grade), line.name, line.meaning) for line in self.rubric.grades)
        self.scale = tuple(grades) if mode == "rubric" else PAIR_SCALE
        self.version = scores.version_for(run.prompts)
        self.answers = scores.distinct_answers(run)
        self.file = ScoreFile(folder, rater)
        self.rater, self.revealed = self.file.rater, False
        self.items = draw_items(self.answers, mode, rater=self.rater, seed=seed)
        self.total = len(self.items)
        self.refresh()
        self.position = self._first(None, 0)

    def refresh(self) -> None:
        """Read the rater's file: another window may have written to it."""
        keys = {key_of(item, self.version) for item in self.items}
        self._lines = {line: score for line, score in self.file.lines().items() if score.key in keys}
        self.given = scores.current(self._lines.values())
        self.judged = sum(score.value is not None for score in self.given.values())
        self.skipped = len(self.given) - self.judged
        self.finished = len(self.given) == self.total > 0

    @property
    def item(self) -> Item | None:
        """The current item; None at the end."""
        return self.items[self.position] if self.position < self.total else None

    def score(self, item: Item | None) -> Score | None:
        """The current score on an item."""
        return self.given.get(key_of(item, self.version)) if item else None

    def said(self, item: Item | None) -> str | None:
        """The name of what was said of an item, `skipped`, or None where nothing was."""
        score, names = self.score(item), {step.value: step.name for step in self.scale}
        return names.get(score.value or "", "skipped") if score else None

    # -- commands; each raises `ConfigurationError` if it is not possible now, and as `ScoreFile.add`

    def judge(self, value: Value, comment: str | None = None) -> None:
        """Score the current item and go on: 1 to 5, or `a`, `b`, `tie`, `both_bad` for a pair; None skips it.

        A comment given earlier stays unless there is a new one.
        """
        allowed = [step.value for step in self.scale]
        if value is not None and value not in allowed:
            fix = f"Give one of {', '.join(map(str, allowed))} in the {self.mode} mode."
            raise ConfigurationError(f"{value!r} is no verdict here.", fix)
        self._save(value, comment)
        self.position = self._first(None, self.position + 1)

    def comment(self, text: str) -> None:
        """Keep a comment on the current item beside its score, and stay there."""
        score = self.score(self.item)
        self._save(score.value if score else None, text)

    def undo(self) -> None:
        """Take back the score given last, by whichever window, and go to its item."""
        self._check_blind()
        self.refresh()
        if not self._lines:
            raise ConfigurationError("There is nothing to undo.", "Judge an answer first.")
        line = max(self._lines)
        key = self._lines[line].key
        self.file.undo(line)
        self.refresh()
        self.position = [key_of(item, self.version) for item in self.items].index(key)

    def move(self, by: int) -> None:
        """Go so many items on, judged or not, or back; after the last one comes the end."""
        self.position = min(max(self.position + by, 0), self.total)

    def to_skipped(self) -> None:
        """Go to an item that was passed over, the first of all when at the end."""
        self.position = self._first("skipped", self.position)

    def reveal(self) -> None:
        """End the blindness: no score is taken after this. Only when everything was judged or skipped."""
        self.refresh()
        if not self.finished:
            left = self.total - len(self.given)
            raise ConfigurationError(f"{left} of {self.total} are still to be judged.", "Judge or skip them first.")
        self.revealed, self.position = True, self.total

    def _save(self, value: Value, comment: str | None) -> None:
        self._check_blind()
        if self.item is None:
            raise ConfigurationError("This is the end: there is no answer to judge here.", "Go back to one.")
        before = self.score(self.item)
        text = clean_comment(comment) if comment is not None else before.comment if before else ""
        self.file.add(scores.score_now(self.item, self.rater, value, self.version, text))
        self.refresh()

    def _check_blind(self) -> None:
        if self.revealed:
            raise ConfigurationError("The models are revealed, so judging is over.", "Run the cell again to look back.")

    def _first(self, said: str | None, start: int) -> int:
        """The first item from `start` on, then from the beginning, of which this was said; else the end."""
        order = [*range(start, self.total), *range(start)]
        return next((place for place in order if self.said(self.items[place]) == said), self.total)


# -- the reveal


def model_name(variant: ModelVariant) -> str:
    """A model's name for people: alias, precision and device."""
    return printable(f"{variant.alias} · {variant.precision or 'unknown'} · {variant.device}")


def reveal(session: Session) -> list[dict[str, Any]]:
    """Two tables: models, best first, where an answer of several models counts for each of them; and all items."""
    got: dict[str, list[float]] = {model_name(author): [] for each in session.answers for author in each.authors}
    rows = []
    for item in session.items:
        value = score.value if (score := session.score(item)) else None
        for side, answer in zip("ab", item, strict=False) if value is not None else ():
            points = float(value) if isinstance(value, int) else {side: 1.0, "tie": 0.5}.get(value or "", 0.0)
            for author in answer.authors:
                got[model_name(author)].append(points)
        texts = "\n".join(one_line(answer.text, SHORT) for answer in item)
        models = "\n".join(", ".join(map(model_name, answer.authors)) for answer in item)
        rows.append([one_line(item[0].prompt.text, SHORT), texts, models, session.said(item)])
    best_first = sorted(got, key=lambda model: -fmean(got[model] or [0.0]))
    means = [
        [model, f"{fmean(got[model]):.2f}" if got[model] else "none", str(len(got[model]))] for model in best_first
    ]
    mean = "Mean grade" if session.mode == "rubric" else "Share won, a tie as half"
    return [
        {"caption": "Models", "headings": ["Model", mean, "n"], "rows": means},
        {"caption": "Answers", "headings": ["Question", "Answer", "Model", "Verdict"], "rows": rows},
    ]


# -- the widget


class AnnotationWidget(anywidget.AnyWidget):
    """One rater's session as a widget; where none can be shown, a sentence says how far it is.

    `view` is all that the page knows: what the function `view` returns, what was saved or went wrong, and a turn that
    rises with every answer to the page. A command of an older turn was meant for another item and is not carried out.
    """

    _esm = STATIC / "annotation.js"
    _css = STATIC / "annotation.css"
    view = traitlets.Dict().tag(sync=True)

    def __init__(self, session: Session) -> None:
        self._session = session
        self._turn = 0
        super().__init__(view=self._shown())
        self.on_msg(self._receive)

    def __repr__(self) -> str:
        session = self._session
        done = f"{session.judged} of {session.total} judged as {session.rater}."
        return f"{done} To judge, run this cell in JupyterLab, or fill in the CSV template."

    def _receive(self, _: object, message: Mapping[str, Any], __: object) -> None:
        said = problem = ""
        if message["turn"] == self._turn:
            try:
                said = obey(self._session, message)
            except WorkshopError as error:
                problem = str(error)
        self._turn += 1
        self.view = self._shown(said, problem)

    def _shown(self, said: str = "", problem: str = "") -> dict[str, Any]:
        return {**view(self._session), "turn": self._turn, "said": said, "problem": printable(problem)}


def obey(session: Session, message: Mapping[str, Any]) -> str:
    """Do what a message of the page asks; return the sentence to show once it is done.

    Raises `ConfigurationError` where that is not possible now, other `WorkshopError` where it could not be saved.
    """
    text, item = message.get("value") or "", session.item
    match message["command"]:
        case "judge":
            value = {str(step.value): step.value for step in session.scale}.get(text, text) or None
            session.judge(value, message.get("comment"))
            return f"Saved: {session.said(item)}"
        case "comment":
            session.comment(text)
            return "Saved: comment"
        case "undo":
            session.undo()
            return "Saved: taken back"
        case "move":
            session.move(int(text))
        case "skipped":
            session.to_skipped()
        case "reveal":
            session.reveal()
    return ""


def view(session: Session) -> dict[str, Any]:
    """Everything that is shown now."""
    item, score, said = session.item, session.score(session.item), session.said(session.item)
    stage = "empty" if not session.total else "revealed" if session.revealed else "item" if item else "end"
    still_open = session.total - len(session.given)
    end = f"This is the end; {still_open} of {session.total} are still open."
    if not still_open:
        end = "All answers are judged. Thank you." if session.total else "This run holds no answers to judge."
    what = "Answer" if session.mode == "rubric" else "Pair"
    texts = [printable(answer.text) for answer in item or ()]
    checks = [check_answer(item[0].prompt.text, text) for text in texts] if item else []
    plain = ("rater", "mode", "position", "total", "judged", "skipped", "finished")
    return {
        **{name: getattr(session, name) for name in plain},
        "stage": stage,
        "heading": f"{what} {session.position + 1} of {session.total}{f' · {said}' if said else ''}",
        "count": f"{session.judged} of {session.total}" + (f", {session.skipped} skipped" if session.skipped else ""),
        "done": end,
        "prompt": printable(item[0].prompt.text) if item else "",
        "answers": texts,
        "invented": [list(found.places) if found else [] for found in checks],
        "verdict": str(score.value) if score else "",
        "comment": score.comment if score else "",
        "scale": [step._asdict() for step in session.scale],
        "revealed": reveal(session) if session.revealed else [],
    }
