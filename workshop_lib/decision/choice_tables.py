"""Criteria, limits, the order of the models and where tasks go, as tables for people. Knows no files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workshop_lib.decision import choice_words
from workshop_lib.decision.abilities import TESTS
from workshop_lib.decision.choice_words import percent
from workshop_lib.decision.criteria import CRITERIA, Criterion, criterion
from workshop_lib.show.table import Table
from workshop_lib.show.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from workshop_lib.catalog import ModelCard
    from workshop_lib.decision.abilities import MeasuredModel
    from workshop_lib.decision.capability_router import Routed
    from workshop_lib.decision.choice import Decision
    from workshop_lib.decision.evidence import Evidence
    from workshop_lib.decision.weights import Weights
    from workshop_lib.metrics.resampling import Estimate
    from workshop_lib.records import Row

UNKNOWN = "unknown"


def evidence(found: Evidence) -> Table:
    """One line per model that answered: every criterion with its 95 % interval over prompts, and the licence."""
    lines = [
        {
            **_who(row),
            **{_heading(each): figure(each, found.figures[each.name][place]) for each in CRITERIA},
            "licence": printable(row.licence or UNKNOWN),
        }
        for place, row in enumerate(found.rows)
    ]
    return Table(lines)


def weights(given: Weights) -> Table:
    """One line per criterion: what a step of it is, what one is worth, and its share of all weights."""
    lines = [(each.label, step(each), f"{given.of(each.name):g}", f"{given.share(each.name):.0%}") for each in CRITERIA]
    return Table(lines, columns=["criterion", "one step", "weight", "share"])


def limits(decision: Decision) -> Table:
    """One line per model: in or out, and why."""
    why = {(each.row.model_id, each.row.device): "; ".join(each.reasons) for each in decision.out}
    lines = []
    for row in decision.evidence.rows:
        reason = why.get((row.model_id, row.device))
        lines.append({**_who(row), "verdict": "out" if reason else "in", "why": printable(reason or "")})
    return Table(lines)


def ranking(decision: Decision) -> Table:
    """One line per model that is left, the first first, with what weighs, and how sure its place is."""
    lines = [
        {
            "rank": each.rank,
            **_who(each.row),
            **{
                _heading(which): _brief(which, decision.evidence.figures[which.name][each.place])
                for which in _used(decision)
            },
            "steps behind": f"{each.behind:.2f}",
            "first in draws": UNKNOWN if each.best_share is None else percent(each.best_share),
            "first with weights near": percent(each.near_share),
            "first over all weights": percent(each.weight_share),
        }
        for each in decision.ranked
    ]
    return Table(lines, columns=list(lines[0]) if lines else ["rank", "model", "precision", "device"])


def routes(routed: Iterable[Routed]) -> Table:
    """One line per task: what was asked, the kind of work, which model was chosen and why, and what it answered."""
    lines = [
        {
            "task": printable(each.prompt.text),
            "capability": printable(each.prompt.capability),
            "model": printable(each.route.variant.model_id) if each.route else "none",
            "why": printable(each.route.why if each.route else each.problem or ""),
            "answer": _answer(each),
        }
        for each in routed
    ]
    return Table(lines, columns=["task", "capability", "model", "why", "answer"])


def tags(cards: Mapping[str, ModelCard], measured: Mapping[str, MeasuredModel]) -> Table:
    """One line per capability: what each practice model's weakest build got right in the test for it, and the tag."""
    lines = [
        {
            "capability": tag,
            "test": test,
            **{printable(alias): _earned(model, cards, tag) for alias, model in measured.items()},
        }
        for tag, test in TESTS.items()
    ]
    return Table(lines)


def _earned(model: MeasuredModel, cards: Mapping[str, ModelCard], tag: str) -> str:
    share, card = model.share(tag), cards.get(model.alias)
    right = "not measured" if share is None else f"{share:.0%} right"
    return f"{right}, {'tagged' if card and tag in card.capabilities else 'no tag'}"


def figure(which: Criterion, estimate: Estimate) -> str:
    """A figure with its interval: `15 (14.2 to 15.5)`, in the heading's unit."""
    if estimate.value is None:
        return "not measured"
    if estimate.low is None or estimate.high is None:
        return _number(which, estimate.value)
    low, high = (_number(which, bound) for bound in (estimate.low, estimate.high))
    return f"{_number(which, estimate.value)} ({low} to {high})"


def _brief(which: Criterion, estimate: Estimate) -> str:
    return "not measured" if estimate.value is None else _number(which, estimate.value)


def _number(which: Criterion, value: float) -> str:
    said, unit = which.say(value), which.shown_unit or which.unit
    return said.removesuffix(unit).strip()


def _heading(which: Criterion) -> str:
    unit = which.shown_unit or which.unit or "1-5"
    return f"{which.label} ({unit})"


def step(which: Criterion) -> str:
    """What one step of a criterion is, in words."""
    if which.step == "point":
        return "one grade"
    return f"half the {which.label}" if which.better == "lower" else f"twice the {which.label}"


def _used(decision: Decision) -> list[Criterion]:
    return [criterion(each) for each in decision.used]


def _who(row: Row) -> dict[str, str]:
    return {
        "model": printable(row.alias),
        "precision": printable(row.precision or UNKNOWN),
        "device": printable(row.device),
    }


def _answer(routed: Routed) -> str:
    if routed.problem:
        return f"failed: {printable(routed.problem)}" if routed.route else ""
    if routed.completion is None:
        return ""
    return printable(routed.completion.text) or "(no text)"


def sentences(decision: Decision) -> Table:
    """What the decision says, one line per sentence."""
    return Table([printable(each) for each in choice_words.sentences(decision)], columns=["what it says"])
