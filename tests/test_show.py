"""Quality as tables and as the figure that chooses; what is undefined or unknown says why."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.annotation_helpers import SMALL, forty, run_with
from tests.report_helpers import HOSTILE, run_of_models
from tests.test_pareto import WHEN, grade, made_run
from workshop_lib.quality import agreement, pareto, ranking, show
from workshop_lib.quality.agreement import Agreement, Reliability
from workshop_lib.quality.annotation import Session
from workshop_lib.quality.ranking import OrderBias
from workshop_lib.quality.scores import Score
from workshop_lib.records import Serving
from workshop_lib.show import style


def test_annotation_is_shown_without_models(tmp_path: Path) -> None:
    """Grades and their meaning; aspects found and missing; raters and counts, of this mode alone."""
    session = Session(forty(), tmp_path, rater="ada")
    assert list(show.rubric(session)["grade"]) == [1, 2, 3, 4, 5]
    found = show.aspects(session.run, "topic-1")
    assert list(found["mentions"]) == ["all"] * 5 and list(found["words found"]) == ["sentence"] * 5
    assert show.progress(session)["rater"][0] == "Nothing is annotated yet"
    session.judge(3)
    session.judge(None)
    assert show.progress(session).to_numpy().tolist() == [["ada", 1, 1]]
    pairs = Session(forty(), tmp_path, rater="ada", mode="pairwise")
    assert show.progress(pairs).to_numpy().tolist() == [["Nothing is annotated yet", 0, 0]]


@pytest.mark.parametrize("mode", ["rubric", "pairwise"])
def test_reveal_tables_come_after_the_last_verdict(tmp_path: Path, mode: str) -> None:
    """Tables name the models once everything is judged or skipped, and say so before."""
    session = Session(run_with(SMALL), tmp_path, mode=mode)
    for table in (show.revealed_answers, show.revealed_models):
        assert "the models stay hidden" in table(session)
    while session.item:
        session.judge(None)
    assert "x · int4 · cpu" in show.revealed_models(session).to_csv()
    assert set(show.revealed_answers(session)["verdict"]) == {"skipped"}


def test_tables_of_agreement_and_strength_say_why_something_is_missing() -> None:
    """An undefined coefficient has its reason in the table; without verdicts there is no line."""
    one = agreement.krippendorff_alpha({"ada": {("1", "p", "a"): 3}})
    assert list(show.agreements([one]).loc[0]) == [
        "ada", "Krippendorff's alpha", "undefined", "none", 0, "Only one rater (ada): nobody to agree with.",
    ]  # fmt: skip
    found = ranking.rank([Score("ada", "p", ("x", "y"), "a", "1", WHEN)], {("p", name): [name] for name in "xy"})
    assert list(show.strengths(found)["model"]) == ["x", "y"]
    assert list(show.strengths(found)["is the best"]) == ["unknown"] * 2
    assert show.strengths(ranking.rank([], {})).empty


def test_trust_is_said_in_sentences() -> None:
    """How much could be read, the agreement, what follows, and how much the order of two answers mattered."""
    alpha = Agreement(("ada", "judge:m"), 9, 0.5, 0.25, 0.75)
    assert show.trust(Reliability("judge:m", 10, 9, alpha, "unreliable"), OrderBias(0.25, 0.75, 4, 1)) == [
        "judge:m gave a grade that could be read to 9 of 10 answers.",
        "Its agreement is alpha 0.50 (95 % CI 0.25 to 0.75) on 9 answers; 1 is full, 0 is chance.",
        show.TRUST["unreliable"],
        "4 pairs were read in both orders, 1 were not.",
        "The verdict changed with the order in 25% of them; those count as ties.",
        "75% of the wins went to the answer shown first; 50 % is even.",
    ]
    none = Reliability("judge:m", 2, 0, Agreement(("ada",), 0, reason="Only one."), "unreliable")
    said = show.trust(none, OrderBias(None, None, 0, 0))
    assert said[1::2] == [
        "Its agreement is undefined. Only one.", "0 pairs were read in both orders, 0 were not.",
    ]  # fmt: skip


def test_the_table_gives_every_figure_with_its_interval() -> None:
    """Fastest first; milliseconds, per cent, grades; words where something is missing."""
    run = made_run()
    table = show.speed_and_quality(pareto.speed_against_quality(run, grade(run, "slow", [5, 4]), measure="people"))
    assert list(table["model"]) == ["fast", "middle", "slow"]
    assert table["latency (ms)"][0] == "12.0 (10.0 to 14.0)"
    assert table["aspects (%)"][0] == "50 (50 to 50)"
    assert list(table["people (1-5)"]) == ["not scored", "not scored", "4.5 (no interval)"]
    assert list(table["not beaten in"]) == ["unknown"] * 3
    assert list(table["beaten on both"]) == ["unknown", "unknown", "no"]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("measure", ["aspects", "people"])
def test_the_figure_says_in_words_what_it_shows(theme: str, measure: str) -> None:
    """Alt text names models on and behind the front with both figures; the picture is a PNG."""
    run = made_run()
    grades = [*grade(run, "fast", [2] * 5), *grade(run, "slow", [4] * 5), *grade(run, "middle", [2] * 5)]
    figure = show.speed_against_quality(pareto.speed_against_quality(run, grades, measure=measure), theme=theme)
    alt = style.alt_text(figure)
    assert "Beaten by none on both: fast · int4 · cpu 12 ms" in alt
    assert "Beaten on both: middle · int4 · cpu 22 ms" in alt
    assert style.png(figure).startswith(b"\x89PNG")


def test_without_scores_table_and_figure_still_come() -> None:
    """Nothing scored is unknown, and nothing is drawn."""
    found = pareto.speed_against_quality(run_of_models(3, failed=1))
    assert list(show.speed_and_quality(found)["beaten on both"]) == ["unknown"] * 2
    assert "Beaten by none on both: none" in style.alt_text(show.speed_against_quality(found))


def test_hostile_names_are_harmless_in_table_and_figure() -> None:
    """Control and direction characters of a model's name are not passed on, and markup is text."""
    run = made_run()
    served = tuple(Serving(replace(serving.variant, alias=HOSTILE)) for serving in run.servings)
    found = pareto.speed_against_quality(replace(run, servings=served))
    shown = show.speed_and_quality(found)
    alt = style.alt_text(show.speed_against_quality(found))
    assert not set("\x1b\u202e\ud800") & set(shown["model"][0] + alt)
    assert "<script>" not in shown._repr_html_()
