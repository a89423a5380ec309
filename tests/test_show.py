"""Quality as tables; what is undefined or unknown says why."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.annotation_helpers import forty, run_with
from workshop_lib.quality import show
from workshop_lib.quality.agreement import Agreement
from workshop_lib.quality.annotation import Session
from workshop_lib.records import Prompt


def test_annotation_is_shown_without_models(tmp_path: Path) -> None:
    """Grades and their meaning; aspects found and missing, and what must not be said only where something was."""
    session = Session(forty(), tmp_path, rater="ada")
    assert list(show.rubric(session)["grade"]) == [1, 2, 3, 4, 5]
    found = show.aspects(session.run, "topic-1")
    assert list(found["mentions"]) == ["all"] * 5 and list(found["words found"]) == ["sentence"] * 5
    assert "must not say" not in found
    bad = run_with({"p": {"x": "In the cloud."}}, [Prompt("p", "?", aspects=("local",), forbidden=("cloud",))])
    assert show.aspects(bad, "p").to_numpy().tolist() == [["In the cloud.", "forbidden", "—", "local", "cloud"]]


def test_agreement_is_shown_pair_by_pair() -> None:
    """A line per pair with answers in common; no alpha of one answer; an end near a threshold has three decimals."""
    alpha = Agreement(("ada", "aspects"), 9, 0.5, 0.25, 0.75)
    apart = Agreement(("ada", "judge:m"), 0, reason="They share no answer.")
    equal = replace(apart, raters=("ben", "ada"), n=3, reason="All ratings are equal (4).")
    nearly, one = replace(alpha, value=0.9, low=0.797, high=0.95), Agreement(("ben", "judge:m"), 1, 0.0)
    found = show.agreements([alpha, nearly, one, apart, equal, replace(apart, raters=("aspects", "judge:m"))])
    assert found.to_numpy().tolist() == [
        ["ada and aspects", 9, "0.50", "0.25 to 0.75", alpha.follows],
        ["ada and aspects", 9, "0.90", "0.797 to 0.95", nearly.follows],
        ["ben and judge:m", 1, "none", "none", one.follows],
        ["ben and ada", 3, "undefined", "none", "All ratings are equal (4)."],
        ["ada and judge:m; aspects and judge:m", 0, "none", "none", "They share no answer."],
    ]
