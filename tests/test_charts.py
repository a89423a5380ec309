"""Figures: every sample drawn, nothing hidden, nothing said by colour alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_rgba

from tests.benchmarks.drift_rates import simulated
from tests.comparison_helpers import WHY, cpu_run, gpu_run, mislabelled_run, reference
from tests.figure_helpers import assert_words_are_clear, draw, legend, marks
from tests.measurement_helpers import run_of
from tests.report_helpers import HOSTILE, row, run_of_models
from tests.test_lengths import found_of
from workshop_lib.comparison import Results
from workshop_lib.records import Run
from workshop_lib.show import charts, style

NONE = run_of_models(0, failed=0)
CASES: dict[str, tuple[Run, tuple[Results, ...]]] = {
    "6 models": (run_of_models(6), ()),
    "12 models, a GPU here": (gpu_run(), ()),
    "a reference": (cpu_run(), (reference(0.02),)),
    "a label only": (mislabelled_run(), ()),
    "nothing": (NONE, ()),
}


@pytest.mark.parametrize("case", list(CASES))
def test_figures_of_the_report_can_be_read(case: str):
    """Words keep clear, the title asks, axis labels end in a unit, the alt text names a model or says that none is."""
    run, references = CASES[case]
    for figure in charts.report_figures(run, references).values():
        assert_words_are_clear(figure)
        labels = [axes.get_xlabel() for axes in figure.axes]
        assert all(any(unit in label for unit in ("(ms)", "(MB)", "(tok/s)")) for label in labels)
        assert figure.texts[0].get_text().endswith("?")
        known = "nothing was measured" if case == "nothing" else "practice-small · int4 · cpu"
        assert known in style.alt_text(figure)


def test_every_request_is_drawn():
    """As many marks as answered requests, warm-ups included; a failed model keeps its line with the reason."""
    run = run_of_models(12)
    figure = charts.latency(run)
    assert marks(figure) == len(run.completions)
    assert any(text.get_text().startswith("failed: The process ended") for text in figure.axes[0].texts)
    assert legend(figure) == ["cpu", "gpu", "int4", "fp16", "fp32", "median", "warm-up, not counted"]


def test_a_model_that_was_trained_on_its_prompts_is_marked_and_the_mark_explained():
    """Its name ends with the mark in every figure of the report, whose legend says what it means."""
    run = run_of_models(2, failed=0)
    one, other = run.servings
    known = replace(one, variant=replace(one.variant, trained_on=("course",)))
    prompts = tuple(replace(prompt, set_name="course") for prompt in run.prompts)
    run = replace(run, servings=(known, other), prompts=prompts)
    for name, figure in charts.report_figures(run).items():
        assert "† trained on these prompts" in legend(figure), name
        assert style.alt_text(figure).count(" †") == 1
    assert "†" not in "".join(legend(charts.latency(run_of_models(2, failed=0))))


def test_outliers_are_ringed_and_explained():
    """Ten even requests and one of five times the latency: one ring, named in the legend."""
    run = run_of_models(1, failed=0, rounds=6)
    slow = run.completions[-1]
    later = tuple(replace(chunk, at_s=chunk.at_s * 5) for chunk in slow.chunks)
    figure = charts.latency(replace(run, completions=(*run.completions[:-1], replace(slow, chunks=later))))
    ink = to_rgba(style.INK)
    (strip,) = [each for each in figure.axes[0].collections if len(each.get_offsets()) == 12]
    assert [tuple(edge) == ink for edge in strip.get_edgecolors()].count(True) == 1
    assert "outlier for its prompt" in legend(figure)


@pytest.mark.parametrize(
    ("times", "rounds", "said"), [(1.5, 2, "1 of 1"), (1.0, 2, "No model drifted"), (1.5, 1, "Too few")]
)
def test_latency_over_the_time_of_a_run(times: float, rounds: int, said: str):
    """One mark per request, one sentence; a model that slows down has a line with its name, and a report the figure."""
    run = run_of(simulated(np.random.default_rng(2), 12, rounds, "2 %", times))
    figure = charts.drift(run)
    assert_words_are_clear(figure)
    assert marks(figure) == len(run.completions) == 12 * rounds
    assert said in figure.texts[1].get_text() and said in style.alt_text(figure)
    names = [text.get_text() for text in figure.axes[0].texts]
    assert len(names) == ("drift" in charts.report_figures(run)) == (said == "1 of 1")
    assert all(name.endswith("x tiny · int4 · cpu") for name in names)


def test_the_wait_is_drawn_over_the_length_of_the_prompt():
    """One mark per request, a straight line on straight axes however far apart the lengths are, minutes beside it."""
    figure = charts.prompt_lengths(found_of({length: [0.02 + length / 1000] * 3 for length in (64, 512, 4096)}))
    assert_words_are_clear(figure)
    (axes,) = figure.axes
    assert (marks(figure), axes.get_xscale(), axes.get_yscale()) == (9, "linear", "linear")
    assert [text.get_text().strip() for text in axes.texts] == ["1 min", "2 min", "5 min", "10 min", "20 min"]
    assert "0.084 s for 64 tokens" in style.alt_text(figure)
    assert "nothing was measured" in style.alt_text(draw(charts.prompt_lengths(found_of({}))))


def test_a_better_metric_is_on_top():
    """Of decode rates the highest comes first, of latencies the lowest; a metric that is not known says so."""
    run = run_of_models(6, failed=0)
    for metric in (charts.DECODE, charts.LATENCY):
        names = [text.get_text() for text in charts.requests(run, metric).axes[0].get_yticklabels()]
        assert names[0].startswith("practice-small") and names[-1].startswith("practice-large")
    silent = replace(run, completions=tuple(replace(each, completion_tokens=None) for each in run.completions))
    assert "not measured" in style.alt_text(charts.requests(silent, charts.DECODE))


def test_hostile_and_endless_names_are_drawn_as_text():
    """Mathematical markup, control characters and long names neither fail nor displace a chart."""
    rows = [row(alias=r"$\frac{1}{$ 模型" + HOSTILE), row(alias="long-" * 60, model_id="b")]
    assert draw(charts.resources(rows)).axes[0].get_position().width > 0.1


def test_an_absent_bar_says_why():
    """Not measured and failed are words, never a bar of length 0; a GPU's own memory is said to be missing."""
    gone = row("gone", status="failed", decode_tokens_per_sec=None)
    figure = charts.resources([row(size_mb=None, device="gpu"), gone])
    words = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert (words.count("not measured"), words.count("failed")) == (2, 2)
    assert "a GPU's own memory is not in it" in figure.texts[1].get_text()


def test_a_withheld_decode_rate_is_not_drawn():
    """Models without a decode rate are counted under the title."""
    run = run_of_models(3, failed=0)
    hidden = tuple(replace(each, completion_tokens=400) for each in run.completions)
    figure = charts.first_token_against_decode(replace(run, completions=hidden))
    assert marks(figure) == 0
    assert figure.texts[1].get_text().endswith("Without a decode rate: 3.")


def test_reference_marks_are_hollow_and_all_requests_are_drawn():
    """6 requests of 12 builds; those of another machine have no filled mark, legend and words say whose they are."""
    figure = charts.devices(cpu_run(), (reference(),))
    assert figure is not None and marks(figure) == 12 * 6
    hollow = [each for each in figure.axes[0].collections if len(each.get_offsets()) and not len(each.get_facecolors())]
    assert {tuple(each.get_edgecolors()[0]) for each in hollow} == {to_rgba(style.DEVICES["gpu"])} and len(hollow) == 6
    assert "reference, another machine" in legend(figure)
    assert "Made-up GPU, 2026-10-01" in figure.texts[1].get_text()
    said = style.alt_text(figure)
    assert "practice-small · int4 · gpu, reference 2.1 ms, 2,000 tok/s" in said and WHY in said
    assert charts.devices(cpu_run()) is None and "devices" not in charts.report_figures(cpu_run())
