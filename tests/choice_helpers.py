"""Runs and evidence worked by hand for the tests of choosing: answers, figures, and draws of prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from statistics import fmean

import numpy as np

from workshop_lib import comparison
from workshop_lib.choice import decide as deciding
from workshop_lib.choice.decide import CRITERIA, Decision, Evidence
from workshop_lib.comparison import Estimate
from workshop_lib.quality import scores
from workshop_lib.quality.scores import Score, score_now
from workshop_lib.records import Chunk, Completion, ModelVariant, Prompt, Row, Run, Serving

Values = Mapping[str, float | Sequence[float]]
TWO: dict[str, Values] = {
    "careful": {"quality": 4, "latency": 1.0, "footprint": 4.0},
    "quick": {"quality": 3, "latency": 0.25, "footprint": 2.0},
}
"""The quick one is one grade worse and four times as fast, which is two steps; and it is half as large."""
EVEN = {"quality": 1.0, "latency": 1.0}
decide = partial(deciding.decide, floors={})
"""`decide` without floors, where a test is about something else."""

MODELS = {"fast": 0.010, "middle": 0.020, "slow": 0.040}
PROMPTS = tuple(Prompt(f"p{place}", f"Question {place}?", aspects=("local", "private")) for place in range(5))
SAID = {"fast": "It is local", "middle": "It is something else", "slow": "It is local and private"}
WHEN = "2026-11-20T12:00:00+00:00"


def made_run(said: dict[str, str] = SAID, prompts: tuple[Prompt, ...] = PROMPTS, rounds: int = 2) -> Run:
    """Three models; a prompt's latency is the model's own, plus 1 ms per place of the prompt; every text differs."""
    variants = {name: ModelVariant(name, f"{name}:1", "cpu", precision="int4") for name in said}
    completions = [
        Completion(
            request_id=f"{name}/{prompt.id}/{turn}",
            alias=name,
            model_id=f"{name}:1",
            device="cpu",
            prompt_id=prompt.id,
            round=turn,
            started_at=WHEN,
            chunks=(Chunk(MODELS[name] + 0.001 * place, "content", f"{text}, {prompt.id}."),),
            finish_reason="stop",
        )
        for turn in range(rounds + 1)
        for place, prompt in enumerate(prompts)
        for name, text in said.items()
    ]
    served = tuple(Serving(variant) for variant in variants.values())
    return Run("r", WHEN, "practice", {}, {"rounds": rounds}, prompts, served, tuple(completions))


def grade(run: Run, model: str, grades: list[int | None], rater: str = "ada", version: str = "1") -> list[Score]:
    """One grade per prompt for a model's answers."""
    mine = [each for each in scores.distinct_answers(run) if any(author.alias == model for author in each.authors)]
    return [score_now((each,), rater, given_, version, "") for each, given_ in zip(mine, grades, strict=False)]


def evidence_of(models: Mapping[str, Values], *, prompts: int = 4) -> Evidence:
    """What is known of models: per criterion a value per prompt, or one for all prompts; absent = not measured."""
    rows = tuple(
        Row(alias=name, model_id=f"{name}:1", device="cpu", status="ok", precision="int4", licence="MIT")
        for name in models
    )
    drawn = comparison.draws(prompts, seed=1, resamples=200)
    figures, draws = {}, {}
    for name in CRITERIA:
        table = np.array(
            [np.broadcast_to(values.get(name, np.nan), prompts) for values in models.values()], dtype=float
        )
        figures[name] = tuple(_estimate(column.tolist(), name) for column in table)
        draws[name] = np.vstack([table.mean(axis=1), table.T[drawn].mean(axis=1)])
    return Evidence(rows, figures, draws, "people")


def decided(weights: Mapping[str, float] = EVEN, models: Mapping[str, Values] = TWO, **limits: float) -> Decision:
    """A decision on eight prompts."""
    return decide(evidence_of(models, prompts=8), weights, limits)


def _estimate(column: Sequence[float], name: str) -> Estimate:
    mean = fmean(column)
    if np.isnan(mean):
        return Estimate(None, reason="Not measured.")
    if name in {"memory", "footprint"}:
        return Estimate(mean, n=len(column))
    return Estimate(mean, min(column), max(column), n=len(column))


def unsure() -> Evidence:
    """Two models that are each better on half of the prompts, the second a little more."""
    return evidence_of({"a": {"quality": [5, 5, 1, 1] * 2}, "b": {"quality": [1, 1, 5, 5.5] * 2}}, prompts=8)


def trained() -> Evidence:
    """The one that comes first was trained on the prompts."""
    found = evidence_of(TWO, prompts=6)
    return replace(found, rows=(found.rows[0], replace(found.rows[1], trained_on_prompts=True)))


NEARLY = {"a": {"latency": 1.0}, "b": {"latency": 1.01}, "c": {"latency": 1.03}}
OUTCOMES = {
    "clear": (evidence_of(TWO, prompts=6), EVEN),
    "once": (evidence_of({"a": {"footprint": 4.0}, "b": {"footprint": 2.0}}, prompts=8), {"footprint": 1}),
    "few": (evidence_of(TWO, prompts=5), EVEN),
    "unsure": (unsure(), {"quality": 1}),
    "slight": (evidence_of(NEARLY, prompts=8), {"latency": 1}),  # 1 % is no difference, as on the page that compares
    "tie": (evidence_of(TWO, prompts=8), {"quality": 2, "latency": 1}),
    "none": (evidence_of({"a": {"quality": 4}, "b": {"latency": 1.0}}), EVEN),
    "only": (evidence_of({"a": TWO["quick"]}, prompts=8), EVEN),
    "trained": (trained(), EVEN),
}
