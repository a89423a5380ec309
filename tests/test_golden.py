"""The shipped records are the frozen truth: what is derived from them stays as it was when they were measured."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from workshop_lib import places, storage
from workshop_lib.choice import decide, show
from workshop_lib.quality import scores
from workshop_lib.report import write_report

PRACTICE = places.DATA / "reference" / "practice"


@pytest.mark.parametrize("shipped", [PRACTICE, places.DATA / "reference" / "course"], ids=lambda folder: folder.name)
def test_rows_report_and_its_decision_follow_from_the_records(shipped: Path, tmp_path: Path) -> None:
    """Byte for byte in every form that is shipped."""
    shutil.copy(shipped / "prompt_lengths.jsonl", tmp_path)
    written = write_report(storage.read_run(shipped / "records.jsonl"), tmp_path, [])
    kept = [path for path in (written.json, written.csv, written.markdown) if (shipped / path.name).exists()]
    assert written.json in kept
    for path in kept:
        assert path.read_text("utf-8") == (shipped / path.name).read_text("utf-8"), path.name


def test_the_choice_of_page_05_follows_from_records_and_grades(tmp_path: Path) -> None:
    """Same order, figures and remarks, from the same weights, limits and floors; only its time is another."""
    kept = json.loads((PRACTICE / "decision.json").read_text("utf-8"))
    run = storage.read_run(PRACTICE / "records.jsonl")
    chosen = {name: kept[name] for name in ("weights", "limits", "floors", "licences")}
    show.write(decide.decide(run, scores=scores.read_reference().as_scores(), **chosen), run, tmp_path)
    made = json.loads((tmp_path / "decision.json").read_text("utf-8"))
    assert made == kept | {"decided_at": made["decided_at"]}
