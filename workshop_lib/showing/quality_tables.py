"""Quality, agreement and rankings as tables for people. What is undefined says why. Knows no files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workshop_lib.display import Table
from workshop_lib.untrusted import printable
from workshop_lib.verdicts.reliability import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from workshop_lib.metrics.resampling import Estimate
    from workshop_lib.verdicts.agreement import Agreement
    from workshop_lib.verdicts.quality import ModelQuality, Standing
    from workshop_lib.verdicts.ranking import Ranking

HEADINGS: dict[Kind, str] = {
    "people": "people (1-5)",
    "reference": "reference (1-5)",
    "aspects": "aspects (%)",
    "judge": "judge (1-5)",
    "own": "judge of its own (1-5)",
}


def speed_and_quality(standing: Standing) -> Table:
    """One line per model, the fastest first: latency and every measure of quality with intervals, and the front."""
    kinds = [kind for kind in HEADINGS if any(kind in each.quality for each in standing.models)]
    ordered = sorted(standing.models, key=lambda each: each.latency_s.value or float("inf"))
    return Table([_line(each, kinds, standing.measure) for each in ordered])


def _line(model: ModelQuality, kinds: Iterable[Kind], measure: Kind) -> dict[str, str]:
    share, decisive = model.front_share, model.quality.get(measure)
    known = decisive is not None and decisive.value is not None
    beaten = "unknown" if not known else "no" if model.on_front else "yes"
    return {
        "model": printable(model.row.alias),
        "precision": model.row.precision or "unknown",
        "device": model.row.device,
        "latency (ms)": ranged(model.latency_s, 1, factor=1000),
        **{HEADINGS[kind]: _quality(model, kind) for kind in kinds},
        "beaten on both": beaten,
        "not beaten in": "unknown" if share is None else f"{share:.0%} of draws",
    }


def _quality(model: ModelQuality, kind: Kind) -> str:
    figure = model.quality.get(kind)
    if figure is None or figure.value is None:
        return "not scored"
    return ranged(figure, 0, factor=100) if kind == "aspects" else ranged(figure, 1)


def ranged(figure: Estimate, decimals: int, *, factor: float = 1.0) -> str:
    """A figure with its interval: `3.4 (2.9 to 4.0)`; without one, the figure alone."""
    if figure.value is None:
        return "not measured"
    if figure.low is None or figure.high is None:
        return f"{figure.value * factor:.{decimals}f} (no interval)"
    low, high = (f"{bound * factor:.{decimals}f}" for bound in (figure.low, figure.high))
    return f"{figure.value * factor:.{decimals}f} ({low} to {high})"


def agreements(found: Iterable[Agreement]) -> Table:
    """One line per coefficient: who was compared, its value and interval, or why it is undefined."""
    lines = [
        {
            "raters": printable(" and ".join(each.raters)) or "none",
            "coefficient": "Krippendorff's alpha",
            "value": "undefined" if each.value is None else f"{each.value:.2f}",
            "95 % CI": "none" if each.low is None else f"{each.low:.2f} to {each.high:.2f}",
            "answers": each.n,
            "why undefined": each.reason or "",
        }
        for each in found
    ]
    return Table(lines, columns=["raters", "coefficient", "value", "95 % CI", "answers", "why undefined"])


def strengths(ranking: Ranking) -> Table:
    """One line per model, strongest first; empty when the ranking is undefined, see its `reason`."""
    lines = [
        {
            "model": printable(each.model),
            "strength": f"{each.value:.2f}",
            "95 % CI": "none" if each.low is None else f"{each.low:.2f} to {each.high:.2f}",
            "is the best": "unknown" if each.best_share is None else f"{each.best_share:.0%} of draws",
            "wins": each.wins,
            "comparisons": each.comparisons,
        }
        for each in ranking.strengths
    ]
    return Table(lines, columns=["model", "strength", "95 % CI", "is the best", "wins", "comparisons"])
