"""Quality as tables for people, and the figure that chooses: speed against quality. What is undefined says why."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from workshop_lib.comparison import Estimate
from workshop_lib.quality import annotation, scores
from workshop_lib.quality.agreement import Agreement, Reliability, Trust
from workshop_lib.quality.annotation import JudgingError, Session
from workshop_lib.quality.aspects import score_aspects
from workshop_lib.quality.facts import check_answer
from workshop_lib.quality.pareto import ModelQuality, SpeedAgainstQuality
from workshop_lib.quality.ranking import OrderBias, Ranking
from workshop_lib.quality.scores import Kind
from workshop_lib.records import Run
from workshop_lib.show import style, text
from workshop_lib.show.style import PALETTES, Theme, marker
from workshop_lib.show.table import Table
from workshop_lib.show.text import number, printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NO_NOTES = "The prompt holds no notes to compare the answer with."
LONGEST = 300
"""Characters of an answer in a table; the widget shows all of it."""

LABELS: dict[Kind, tuple[str, str]] = {
    "people": ("people (1-5)", "Mean grade by people (1-5)"),
    "reference": ("reference (1-5)", "Mean reference grade (1-5)"),
    "aspects": ("aspects (%)", "Expected aspects mentioned (%)"),
    "judge": ("judge (1-5)", "Mean grade by a judge model (1-5)"),
}
"""A measure of quality as a column's heading and as an axis."""
TRUST: dict[Trust, str] = {
    "reliable": "It can stand in for them on answers like these.",
    "tentative": "Take its grades as a hint and check the models that decide.",
    "unreliable": "Do not choose a model by its grades; a stronger judge can be named by its endpoint.",
    "unknown": "Too little is known of its grades: let people grade more of the same answers.",
}


# -- annotation


def rubric(session: Session) -> Table:
    """What each grade means."""
    lines = [(line.grade, line.name, line.meaning) for line in session.rubric.grades]
    return Table(lines, columns=["grade", "name", "meaning"])


def aspects(run: Run, prompt_id: str) -> Table:
    """For each different answer to one prompt, which expected aspects it mentions and which not."""
    lines = []
    for answer in scores.distinct_answers(run):
        if answer.prompt.id == prompt_id:
            found, said = score_aspects(answer.text, answer.prompt), printable(answer.text)
            missing = [aspect.split("|")[0] for aspect in found.missing]
            words = [", ".join(part) or "—" for part in (found.evidence, missing, found.forbidden_found)]
            lines.append((said if len(said) <= LONGEST else f"{said[:LONGEST]}…", found.verdict, *words))
    return Table(lines, columns=["answer", "mentions", "words found", "missing, e.g.", "must not say"])


def facts(run: Run, prompt_id: str) -> Table:
    """For each different answer to a prompt with notes, the facts it invents (underlined) and leaves out."""
    lines, places = [], {}
    for answer in scores.distinct_answers(run):
        said = printable(answer.text)
        if answer.prompt.id == prompt_id and (found := check_answer(answer.prompt.text, said, answer.prompt.aspects)):
            places[said] = found.places
            lines.append((said, *(", ".join(words) or "—" for words in (found.unsupported, found.missing))))
    return Table(lines or [(NO_NOTES, "—", "—")], columns=["answer", "not in the notes", "left out"]).underline(places)


def inventions(run: Run) -> Table:
    """Which model invents: one line per model over all its answers to prompts with notes."""
    lines = []
    for model, checks in scores.score_facts(run).items():
        invented = [len(check.unsupported) for check in checks]
        lines.append(
            {
                "model": printable(model.alias),
                "precision": model.precision or "unknown",
                "device": model.device,
                "answers with an invented fact": f"{sum(map(bool, invented))} of {len(checks)}",
                "invented facts per answer": f"{sum(invented) / len(checks):.2f}",
                "expected facts left out": sum(len(check.missing) for check in checks),
            }
        )
    return Table(lines or [{"which model invents": NO_NOTES}])


def progress(session: Session) -> Table:
    """One line per rater with scores on this session's answers."""
    prompts = {prompt.id for prompt in session.run.prompts}
    counts: dict[str, list[int]] = {}
    for score in scores.read_all(session.folder):
        about = (score.is_grade, score.rubric_version) == (session.mode == "rubric", session.version)
        if about and score.prompt_id in prompts:
            counts.setdefault(printable(score.rater), [0, 0])[score.value is None] += 1
    lines = [(rater, *both) for rater, both in sorted(counts.items())] or [("Nothing is annotated yet", 0, 0)]
    return Table(lines, columns=["rater", "judged", "without a verdict"])


def revealed_models(session: Session) -> Table:
    """Reveal which model got what from this rater, or say how much is still to be judged."""
    return _revealed(session, lambda: annotation.reveal_models(session))


def revealed_answers(session: Session) -> Table:
    """Reveal which model gave which answer, with this rater's verdicts, or say how much is still to be judged."""
    headings = ("question", "answer", "model", "verdict")
    return _revealed(session, lambda: (headings, annotation.reveal_answers(session, LONGEST)))


def _revealed(session: Session, content: Callable[[], tuple[tuple[str, ...], Any]]) -> Table:
    try:
        session.reveal()
    except JudgingError as error:
        return Table([(error.what, error.fix)], columns=["the models stay hidden", "what to do"])
    headings, rows = content()
    return Table(rows, columns=list(headings))


# -- agreement and ranking


def agreements(found: Iterable[Agreement]) -> Table:
    """One line per coefficient: who was compared, its value and interval, or why it is undefined."""
    lines = [
        (
            printable(" and ".join(alpha.raters)) or "none",
            "Krippendorff's alpha",
            "undefined" if alpha.value is None else f"{alpha.value:.2f}",
            _between(alpha),
            alpha.n,
            alpha.reason or "",
        )
        for alpha in found
    ]
    return Table(lines, columns=["raters", "coefficient", "value", "95 % CI", "answers", "why undefined"])


def trust(found: Reliability, bias: OrderBias) -> list[str]:
    """How far a rater can be trusted, in sentences: what could be read, its agreement, and its bias to an order."""
    alpha = found.alpha
    said = [f"{found.rater} gave a grade that could be read to {found.graded} of {found.asked} answers."]
    if alpha.value is None:
        said.append(f"Its agreement is undefined. {alpha.reason}")
    else:
        between = f" (95 % CI {_between(alpha)})" if alpha.low is not None else ", no interval"
        said.append(f"Its agreement is alpha {alpha.value:.2f}{between} on {alpha.n} answers; 1 is full, 0 is chance.")
    said += [TRUST[found.trust], f"{bias.n} pairs were read in both orders, {bias.unread} were not."]
    if bias.flip_rate is not None:
        said.append(f"The verdict changed with the order in {bias.flip_rate:.0%} of them; those count as ties.")
    if bias.first_rate is not None:
        said.append(f"{bias.first_rate:.0%} of the wins went to the answer shown first; 50 % is even.")
    return said


def strengths(ranking: Ranking) -> Table:
    """One line per model, strongest first; empty when the ranking is undefined, see its `reason`."""
    lines = [
        (
            printable(strength.model),
            f"{strength.value.value:.2f}",
            _between(strength.value),
            _share(strength.best_share),
            strength.wins,
            strength.comparisons,
        )
        for strength in ranking.strengths
    ]
    return Table(lines, columns=["model", "strength", "95 % CI", "is the best", "wins", "comparisons"])


def _between(figure: Estimate | Agreement) -> str:
    return "none" if figure.low is None else f"{figure.low:.2f} to {figure.high:.2f}"


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.0%} of draws"


# -- speed against quality


def speed_and_quality(found: SpeedAgainstQuality) -> Table:
    """One line per model, the fastest first: latency and every measure of quality with intervals, and the front."""
    lines = []
    for model in sorted(found.models, key=lambda model: model.latency_s.value or float("inf")):
        known = _value(model, found.measure) is not None
        grades = {LABELS[kind][0]: _grade(figure, kind) for kind in LABELS if (figure := model.quality.get(kind))}
        lines.append(
            {
                "model": printable(model.row.alias),
                "precision": model.row.precision or "unknown",
                "device": model.row.device,
                "latency (ms)": ranged(model.latency_s, 1, factor=1000),
                **grades,
                "beaten on both": "unknown" if not known else "no" if model.on_front else "yes",
                "not beaten in": _share(model.front_share),
            }
        )
    return Table(lines)


def ranged(figure: Estimate, decimals: int, *, factor: float = 1.0) -> str:
    """A figure with its interval: `3.4 (2.9 to 4.0)`; without one, the figure alone."""
    if figure.value is None:
        return "not measured"
    if figure.low is None or figure.high is None:
        return f"{figure.value * factor:.{decimals}f} (no interval)"
    low, high = (f"{bound * factor:.{decimals}f}" for bound in (figure.low, figure.high))
    return f"{figure.value * factor:.{decimals}f} ({low} to {high})"


def _grade(figure: Estimate, kind: Kind) -> str:
    if figure.value is None:
        return "not scored"
    return ranged(figure, 0, factor=100) if kind == "aspects" else ranged(figure, 1)


def _value(model: ModelQuality, measure: Kind) -> float | None:
    return model.quality[measure].value if measure in model.quality else None


def speed_against_quality(found: SpeedAgainstQuality, *, theme: Theme = "light") -> Figure:
    """Draw median latency (ms) against quality: bars are 95 % intervals over prompts, filled marks are the front."""
    drawn = [model for model in found.models if _value(model, found.measure) is not None]
    rows, colours, is_share = [model.row for model in drawn], PALETTES[theme], found.measure == "aspects"
    missing, label = len(found.models) - len(drawn), LABELS[found.measure][1]
    names = list(text.names(rows).values())
    figure, axes = style.plane(
        names,
        "Which model is fast and good?",
        "Better is up and to the left. Bars: 95 % intervals over prompts. Dashed: the best that can be had."
        + (f" Not scored: {missing}." if missing else ""),
        theme,
    )
    waits = [_span(model.latency_s, 1000) for model in drawn]
    grades = [_span(model.quality[found.measure], 100 if is_share else 1) for model in drawn]
    points = [(wait[1], grade[1]) for wait, grade in zip(waits, grades, strict=True)]
    bounds = [bound for low, _, high in waits for bound in (low, high)]
    style.scale(axes, "x", bounds, "Latency (ms), median and interval")
    style.scale(axes, "y", [100.0 if is_share else 5.0], label)
    axes.set(ylim=(-4, 104)) if is_share else axes.set(ylim=(0.8, 5.2), yticks=range(1, 6))
    best = sorted(point for model, point in zip(drawn, points, strict=True) if model.on_front)
    if best:
        across = [x for x, _ in best] + [max(axes.get_xlim()[1], best[-1][0])]
        up = [y for _, y in best] + [best[-1][1]]
        axes.plot(across, up, drawstyle="steps-post", color=colours.quiet, lw=1.2, ls=(0, (4, 3)), zorder=1)
    said: dict[bool, list[tuple[float, str]]] = {True: [], False: []}
    for model, name, (left, x, right), (low, y, high) in zip(drawn, names, waits, grades, strict=True):
        colour = colours.device(model.row.device)
        axes.plot([left, right], [y, y], color=colour, lw=1.4, alpha=0.55, zorder=2)
        axes.plot([x, x], [low, high], color=colour, lw=1.4, alpha=0.55, zorder=2)
        face, edge = (colour, colours.paper) if model.on_front else (colours.paper, colour)
        shape = marker(model.row.precision)
        axes.scatter(x, y, s=80, marker=shape, facecolors=face, edgecolors=edge, linewidths=1.4, zorder=4)
        said[model.on_front].append((x, f"{name} {number(x)} ms, {number(y)}{' %' if is_share else ''}"))
    style.name_points(axes, dict(zip(names, points, strict=True)), colours)
    entries = style.legend_entries(rows, colours)
    style.legend(figure, [*entries, style.mark("o", colours.quiet, "beaten on both", filled=False)], colours)
    first, rest = ("; ".join(words for _, words in sorted(said[front])) or "none" for front in (True, False))
    figure.set_label(f"Latency against quality ({label}). Beaten by none on both: {first}. Beaten on both: {rest}.")
    return figure


def _span(figure: Estimate, factor: float) -> tuple[float, float, float]:
    """Low, value, high; the value itself where there is no interval."""
    value = figure.value or 0.0
    low, high = (value if bound is None else bound for bound in (figure.low, figure.high))
    return low * factor, value * factor, high * factor
