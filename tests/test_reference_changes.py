"""What changed between two sets of reference results: each difference is said, and nothing else is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.comparison_helpers import cpu_run, gpu_run
from tests.report_helpers import run_of_models
from tests.test_notebook_files import cell, text, write
from workshop_lib.comparison import Reference, Results, results_of
from workshop_lib.programs import reference_changes
from workshop_lib.records import Row
from workshop_lib.summary import summarise

RUN = run_of_models(2, failed=1, rounds=2)
RESULTS = results_of(RUN)
ROWS = summarise(RUN)


def with_answer(number: int, answer: str) -> Results:
    """The results with another text in one sample."""
    samples = list(RESULTS.samples)
    samples[number] = replace(samples[number], text=answer)
    return replace(RESULTS, samples=tuple(samples))


def named(sample_number: int) -> str:
    sample = RESULTS.samples[sample_number]
    return f"{sample.model_id} on {sample.device}, {sample.prompt_id}"


def test_equal_results_have_nothing_to_say():
    """The same answers and rows are no change, whatever their times."""
    slower = tuple(replace(each, latency_s=(each.latency_s or 0) * 9) for each in RESULTS.samples)
    assert reference_changes.changed_answers(RESULTS, replace(RESULTS, samples=slower)) == []
    assert reference_changes.changed_rows(ROWS, ROWS) == []


def test_another_answer_is_shown_beside_the_old_one():
    """Both texts stand in the sentence, on one line, with hidden characters shown."""
    (sentence,) = reference_changes.changed_answers(with_answer(0, "yes\nno"), with_answer(0, "no\x1b[31m"))
    assert sentence.startswith(f"{named(0)}: the answer changed from 'yes no' to 'no")
    assert "\x1b" not in sentence


def test_an_answer_that_comes_or_goes_is_said():
    """A prompt or model on one side only is a change too."""
    key = RESULTS.samples[0].prompt_id, RESULTS.samples[0].model_id
    fewer = tuple(each for each in RESULTS.samples if (each.prompt_id, each.model_id) != key)
    less = replace(RESULTS, samples=fewer)
    assert reference_changes.changed_answers(RESULTS, less) == [f"{named(0)}: no answer any more."]
    assert reference_changes.changed_answers(less, RESULTS) == [f"{named(0)}: an answer for the first time."]


def test_status_reason_and_warnings_are_compared_row_by_row():
    """Each of the three has a sentence with the old and the new value; times, and warnings about times, have none."""
    old = Row("a", "a:1", "cpu", "ok", rounds=3, warnings=("truncated", "outliers", "no_usage"), latency_avg=1.0)
    new = replace(old, status="failed", error="broke\n", warnings=("truncated", "bursts"), latency_avg=2.0)
    assert reference_changes.changed_rows([old], [new]) == [
        "a:1 on cpu: status changed from 'ok' to 'failed'.",
        "a:1 on cpu: error changed from 'none' to 'broke'.",
        "a:1 on cpu: warnings changed from 'no_usage, truncated' to 'truncated'.",
    ]


def test_rows_that_come_or_go_are_said():
    """A model on another device is another row."""
    old = Row("a", "a:1", "cpu", "ok", rounds=3)
    new = replace(old, device="gpu")
    assert reference_changes.changed_rows([old], [new]) == [
        "a:1 on cpu: no row any more.",
        "a:1 on gpu: a row for the first time, ok.",
    ]


def test_outputs_that_should_be_the_same_are_compared_cell_by_cell(tmp_path: Path):
    """The sentence shows where the two begin to differ; tagged cells and new pages have none."""
    timed = cell("timed", text("1"), tags=("nbval-ignore-output",))
    long = "x" * 200
    write(tmp_path / "old" / "a.ipynb", cell("same", text("1")), cell("other", text(f"{long}A")), timed, cell("gone"))
    again = cell("timed", text("2"), tags=("nbval-ignore-output",))
    write(tmp_path / "new" / "a.ipynb", cell("same", text("1")), cell("other", text(f"{long}B")), again, cell("new"))
    write(tmp_path / "new" / "b.ipynb", cell("one", text("1")))
    other, gone, new = reference_changes.changed_outputs(tmp_path / "old", tmp_path / "new")
    assert other.startswith("a, cell other: the output changed from '")
    assert "xxA" in other and "xxB" in other and len(other) < 300
    assert gone == "a, cell gone: the cell is gone, or its output may differ now."
    assert new == "a, cell new: a new cell."


def test_only_files_that_a_run_makes_come_or_go(tmp_path: Path):
    """A file that was put there by hand is not missed."""
    for name in ("old/scores.json", "old/figures/a.png", "old/a.ipynb", "new/a.ipynb", "new/benchmark_report.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    appeared, went = reference_changes.changed_files(tmp_path / "old", tmp_path / "new")
    assert (appeared, went) == (["benchmark_report.md"], ["figures/a.png"])


def test_results_of_a_gpu_are_not_given_up_for_none():
    """Only going from a GPU to none is a loss."""
    with_gpu, without = (Reference(results_of(run), summarise(run)) for run in (gpu_run(), cpu_run()))
    assert reference_changes.lost_gpu(with_gpu, without)
    assert not reference_changes.lost_gpu(without, with_gpu)
    assert not reference_changes.lost_gpu(with_gpu, with_gpu)


def test_the_summary_counts_every_kind():
    """A reader sees at once that nothing changed, or what did."""
    said = reference_changes.summary({"answers": 0, "rows": 2})
    assert said == "Changed, apart from speed: 0 answers, 2 rows."
