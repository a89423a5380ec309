"""Judging answers one at a time and blind: the session behind the widget and the spreadsheet, and the widget.

A session shows the distinct answers of a run to one rater. The order is drawn by chance, but is the same again for the
same seed and name. Every score is on disk before the session knows it, so a new session goes on where the last one
stopped.

The widget's page sends commands and draws what it is sent. That holds nothing that would end the blindness before the
reveal: no model, and no hash. Text of models is made visible-only here and inserted as text there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import anywidget
import traitlets

from workshop_lib import places
from workshop_lib.errors import ConfigurationError, WorkshopError
from workshop_lib.quality import scores
from workshop_lib.quality.facts import check_answer
from workshop_lib.quality.scores import CHOICES, GRADES, Answer, Score, ScoreFile, Value, key_of
from workshop_lib.records import ModelVariant, Run
from workshop_lib.show.text import one_line, printable

VALUES: dict[str, tuple[int | str, ...]] = {"rubric": GRADES, "pairwise": CHOICES}
"""Mode → what can be said of an item."""
LONGEST_COMMENT = 2000
OUTCOMES = ("Won", "Tied", "Lost", "Both bad")
STATIC = Path(__file__).resolve().parents[1] / "static"
SHORT = 90
"""Characters of a question or an answer in the reveal."""

Item = tuple[Answer, ...]
"""What is judged at once: one answer, or two of which the first is called A."""


class JudgingError(WorkshopError):
    """A command that is not possible now, e.g. a grade after the end."""


class Step(NamedTuple):
    """One value of a scale: how it is written, its key, its name and what it means."""

    value: str
    key: str
    name: str
    meaning: str


PAIR_SCALE = (
    Step("a", "A", "A is better", "A"),
    Step("b", "B", "B is better", "B"),
    Step("tie", "T", "Tie", "equally good"),
    Step("both_bad", "X", "Both bad", "neither is usable"),
)


def draw_items(answers: Iterable[Answer], mode: str, *, rater: str, seed: int) -> tuple[Item, ...]:
    """A rater's items: those of one prompt together, prompts and items in drawn order.

    Pairs form a circle through the answers to a prompt, which ranks all of them without asking for every pair. They are
    the same for all raters; their order, and which answer is called A, are the rater's own. The sides do not depend on
    the seed, so that a pair that is asked again is known again.
    """
    by_prompt: dict[str, list[Answer]] = {}
    for answer in answers:
        by_prompt.setdefault(answer.prompt.id, []).append(answer)
    items: list[Item] = []
    for mine in by_prompt.values():
        if mode == "rubric":
            items += [(answer,) for answer in mine]
        else:
            circle = sorted(mine, key=lambda answer: _draw(seed, answer.key))
            closed = [*circle, circle[0]] if len(circle) > 2 else circle
            items += [_sides(pair, rater) for pair in pairwise(closed)]

    def place(item: Item) -> tuple[bytes, bytes]:
        return _draw(seed, rater, item[0].prompt.id), _draw(seed, rater, sorted(key_of(item, "")))

    return tuple(sorted(items, key=place))


def _sides(pair: Item, rater: str) -> Item:
    """The pair with the answer first that this rater sees as A."""
    both = sorted(answer.key for answer in pair)
    return tuple(sorted(pair, key=lambda answer: _draw(rater, both, answer.key)))


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
        items: what is judged, in this rater's order.
        given: the current score on each item that has one, by `Score.key`, the latest last.
        position: the index of the current item; `len(items)` at the end.
        revealed: True once the models' names were shown; no score is taken after that.

    Raises:
        ConfigurationError: an unusable name or mode.
        RecordFileError: the rater's file cannot be read.
    """

    def __init__(self, run: Run, folder: Path, *, rater: str = "me", mode: str = "rubric", seed: int = 20) -> None:
        if mode not in VALUES:
            raise ConfigurationError(f"There is no mode {mode!r}.", f"Use {' or '.join(VALUES)}.")
        self.run, self.folder, self.mode, self.seed = run, folder, mode, seed
        self.rubric = scores.read_rubric()
        self.version = scores.version_for(run.prompts, self.rubric)
        self.answers = scores.distinct_answers(run)
        self.switch(rater)

    def switch(self, rater: str) -> None:
        """Go on as another rater, where that one stopped; after an error the rater stays as before. Raises as above."""
        file = ScoreFile(self.folder, rater)
        file.lines()
        self.file = file
        self.items = draw_items(self.answers, self.mode, rater=self.rater, seed=self.seed)
        self.revealed = False
        self.refresh()
        self.position = self._first_open(0)

    def refresh(self) -> None:
        """Read the rater's file: another window may have written to it."""
        keys = {key_of(item, self.version) for item in self.items}
        self._lines = {line: score for line, score in self.file.lines().items() if score.key in keys}
        self.given = scores.current(self._lines.values())

    # -- what there is to see

    @property
    def rater(self) -> str:
        """Whose session it is."""
        return self.file.rater

    @property
    def scale(self) -> tuple[Step, ...]:
        """What can be said of an item."""
        if self.mode == "pairwise":
            return PAIR_SCALE
        return tuple(Step(str(line.grade), str(line.grade), line.name, line.meaning) for line in self.rubric.grades)

    @property
    def item(self) -> Item | None:
        """The current item; None at the end."""
        return self.items[self.position] if self.position < self.total else None

    @property
    def total(self) -> int:
        """How many items there are."""
        return len(self.items)

    @property
    def judged(self) -> int:
        """How many items have a grade or choice."""
        return sum(score.value is not None for score in self.given.values())

    @property
    def skipped(self) -> int:
        """How many items were passed over."""
        return len(self.given) - self.judged

    @property
    def finished(self) -> bool:
        """True when every item was judged or skipped; never for a run without answers."""
        return len(self.given) == self.total > 0

    def score(self, item: Item | None) -> Score | None:
        """The current score on an item."""
        return self.given.get(key_of(item, self.version)) if item else None

    # -- commands; each raises `JudgingError` if it is not possible now, and as `ScoreFile.add` if it could not be saved

    def judge(self, value: Value, comment: str | None = None) -> None:
        """Score the current item and go on: 1 to 5, or `a`, `b`, `tie`, `both_bad` for a pair; None skips it.

        A comment given earlier stays unless there is a new one.
        """
        allowed = VALUES[self.mode]
        if value is not None and value not in allowed:
            fix = f"Give one of {', '.join(map(str, allowed))} in the {self.mode} mode."
            raise JudgingError(f"{value!r} is no verdict here.", fix)
        self._save(value, comment)
        self.position = self._first_open(self.position + 1)

    def comment(self, text: str) -> None:
        """Keep a comment on the current item beside its score, and stay there."""
        score = self.score(self.item)
        self._save(score.value if score else None, text)

    def undo(self) -> None:
        """Take back the score given last, by whichever window, and go to its item."""
        self._check_blind()
        self.refresh()
        if not self._lines:
            raise JudgingError("There is nothing to undo.", "Judge an answer first.")
        line, score = max(self._lines.items(), key=lambda each: each[0])
        self.file.undo(line)
        self.refresh()
        self.position = [key_of(item, self.version) for item in self.items].index(score.key)

    def move(self, by: int) -> None:
        """Go so many items on, judged or not, or back; after the last one comes the end."""
        self.position = min(max(self.position + by, 0), self.total)

    def to_skipped(self) -> None:
        """Go to the first item that was passed over; stay where there is none."""
        found = [self.score(item) for item in self.items]
        skipped = (place for place, score in enumerate(found) if score and score.value is None)
        self.position = next(skipped, self.position)

    def reveal(self) -> None:
        """End the blindness: no score is taken after this. Only when everything was judged or skipped."""
        self.refresh()
        if not self.finished:
            left = self.total - len(self.given)
            raise JudgingError(f"{left} of {self.total} are still to be judged.", "Judge or skip them first.")
        self.revealed = True
        self.position = self.total

    def _save(self, value: Value, comment: str | None) -> None:
        self._check_blind()
        if self.item is None:
            raise JudgingError("This is the end: there is no answer to judge here.", "Go back to one.")
        before = self.score(self.item)
        text = clean_comment(comment) if comment is not None else before.comment if before else ""
        self.file.add(scores.score_now(self.item, self.rater, value, self.version, text))
        self.refresh()

    def _check_blind(self) -> None:
        if self.revealed:
            raise JudgingError("The models are revealed, so judging is over.", "Run the cell again to look back.")

    def _first_open(self, start: int) -> int:
        """The first item from `start` on, then from the beginning, that has no score."""
        order = [*range(start, self.total), *range(start)]
        return next((place for place in order if self.score(self.items[place]) is None), self.total)


def model_name(variant: ModelVariant) -> str:
    """A model's name for people: alias, precision and device."""
    return printable(f"{variant.alias} · {variant.precision or 'unknown'} · {variant.device}")


def reveal_models(session: Session) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Headings, and one row per model, best first. An answer of several models counts for each of them."""
    got: dict[str, list[Any]] = {model_name(author): [] for each in session.answers for author in each.authors}
    for item in session.items:
        if (score := session.score(item)) and score.value is not None:
            for side, answer in zip("ab", item, strict=False):
                outcome = {side: "Won", "tie": "Tied", "both_bad": "Both bad"}.get(str(score.value), "Lost")
                for author in answer.authors:
                    got[model_name(author)].append(score.value if score.is_grade else outcome)
    if session.mode == "rubric":
        means = {model: fmean(mine) if mine else 0.0 for model, mine in got.items()}
        order = sorted(got, key=lambda model: (-means[model], model))
        shown = {model: f"{mean:.2f}" if mean else "no grade" for model, mean in means.items()}
        return ("Model", "Mean grade", "n"), [(model, shown[model], str(len(got[model]))) for model in order]
    order = sorted(got, key=lambda model: (-got[model].count("Won") / (len(got[model]) or 1), model))
    counts = {model: [str(mine.count(outcome)) for outcome in OUTCOMES] for model, mine in got.items()}
    return ("Model", *OUTCOMES), [(model, *counts[model]) for model in order]


def reveal_answers(session: Session) -> list[tuple[str, str, str, str]]:
    """Question, answer, model and verdict of each item, the first two cut."""
    names = {"None": "skipped"} | {step.value: step.name for step in PAIR_SCALE}
    rows = []
    for item in session.items:
        score = session.score(item)
        value = str(score.value if score else None)
        answers = "\n".join(one_line(answer.text, SHORT) for answer in item)
        models = "\n".join(", ".join(map(model_name, answer.authors)) for answer in item)
        rows.append((one_line(item[0].prompt.text, SHORT), answers, models, names.get(value, value)))
    return rows


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
        what = "answers" if session.mode == "rubric" else "pairs of answers"
        return (
            f"{session.judged} of {session.total} {what} judged as {session.rater}. Judging here needs a running "
            "notebook: run this cell in JupyterLab, or fill in the CSV template."
        )

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        bundle = super()._repr_mimebundle_(**options)
        if bundle is not None:
            bundle[0]["text/plain"] = repr(self)
        return bundle

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

    Raises `JudgingError` where that is not possible now, other `WorkshopError` where it could not be saved.
    """
    text, comment = str(message.get("value")), message.get("comment")
    value = int(text) if text.isdecimal() else text
    name = f"grade {text}" if session.mode == "rubric" else {step.value: step.name for step in PAIR_SCALE}.get(text)
    commands: dict[str, tuple[Callable[[], None], str]] = {
        "judge": (lambda: session.judge(value, comment), f"Saved: {name}"),
        "skip": (lambda: session.judge(None, comment), "Saved: skipped"),
        "comment": (lambda: session.comment(text), "Saved: comment"),
        "undo": (session.undo, "Saved: taken back"),
        "rater": (lambda: session.switch(text), "Judging as {rater}"),
        "next": (lambda: session.move(1), ""),
        "previous": (lambda: session.move(-1), ""),
        "skipped": (session.to_skipped, ""),
        "reveal": (session.reveal, "The models are revealed"),
    }
    act, said = commands[message["command"]]
    act()
    return said.format(rater=session.rater)


def view(session: Session) -> dict[str, Any]:
    """Everything that is shown now."""
    item, score = session.item, session.score(session.item)
    stage = "empty" if not session.total else "revealed" if session.revealed else "item" if item else "end"
    revealed = None
    if session.revealed:
        headings, models = reveal_models(session)
        revealed = {"headings": headings, "models": models, "answers": reveal_answers(session)}
    plain = ("rater", "mode", "position", "total", "judged", "skipped", "finished")
    return {
        **{name: getattr(session, name) for name in plain},
        "stage": stage,
        "prompt": printable(item[0].prompt.text) if item else "",
        "answers": [printable(answer.text) for answer in item or ()],
        "invented": [_invented(answer) for answer in item or ()],
        "verdict": None if score is None else "skip" if score.value is None else str(score.value),
        "comment": score.comment if score else "",
        "scale": [step._asdict() for step in session.scale],
        "revealed": revealed,
    }


def _invented(answer: Answer) -> list[list[int]]:
    """Where the answer states what the notes of its prompt do not hold, as characters of what is shown."""
    found = check_answer(answer.prompt.text, printable(answer.text))
    return [list(place) for place in found.places] if found else []
