"""Tables for people: their units, words where nothing was measured, and every metric in its place."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.comparison_helpers import cpu_run, mislabelled_run, reference
from tests.report_helpers import row, run_of_models
from workshop_lib import comparison
from workshop_lib.records import Completion, ModelVariant, Row, Run
from workshop_lib.show import tables


@pytest.fixture
def run() -> Run:
    return run_of_models(6)


def test_results_are_in_units_for_people():
    """0.0062 s are 6.2 ms; rates stay tokens per second, sizes megabytes, warnings codes."""
    shown = row(first_token_latency_avg=0.0062, size_mb=1.26, warnings=("outliers", "unstable"))
    line = tables.results([shown]).iloc[0]
    assert (line["first token (ms)"], line["decode (tok/s)"], line["size (MB)"]) == (6.2, 1000.0, 1.26)
    assert line["warnings"] == "outliers, unstable"


def test_what_was_not_measured_says_so_and_is_never_zero():
    """A failed model has words where another has numbers; what none has, such as energy without a meter, no column."""
    failed = tables.results([row(), Row("small", "small:1", "cpu", "failed", error="gone")])
    assert {failed.iloc[1][name] for name in ("latency (ms)", "decode (tok/s)", "size (MB)")} == {"not measured"}
    assert not [name for name in failed.columns if "energy" in name or "GPU" in name]
    figures = {"energy_per_1000_tokens_wh": 0.0125, "energy_source": "measured:rapl", "gpu_memory_mb": 1234.56}
    shown = tables.cost([row(**figures, energy_cost_per_million_tokens=0.08333), row("large")])
    assert list(shown["energy (mWh per 1000 tok)"]) == [12.5, "not measured"]
    assert list(shown["energy known from"]) == ["measured:rapl", "not measured"]
    assert list(shown["GPU memory (MB)"]) == [1234.6, "not measured"]
    assert list(shown["energy cost (per million tok)"]) == [0.0833, "not measured"]


def test_meanings_count_the_models_they_concern():
    """Only codes that occur are explained."""
    told = tables.meanings([row(warnings=("outliers",)), row(warnings=("outliers", "unstable"))])
    assert dict(zip(told["warning"], told["models"], strict=True)) == {"unstable": 1, "outliers": 2}


def test_models_are_listed_with_what_is_unknown_named():
    """A catalog line says unknown rather than nan; cached is a word."""
    line = tables.models([ModelVariant("a", "a:1", "cpu"), ModelVariant("b", "b:1", "gpu", cached=True)])
    assert line.iloc[0]["size (MB)"] == "unknown"
    assert list(line["cached"]) == ["unknown", "yes"]


@pytest.mark.parametrize(("free_mb", "verdict"), [(100.0, "enough"), (2.0, "too little")])
def test_room_counts_only_what_is_missing(free_mb: float, verdict: str):
    """3 MB are to be downloaded, 9 MB are here."""
    variants = [ModelVariant("a", "a:1", "cpu", size_mb=3.0, cached=False),
                ModelVariant("b", "b:1", "cpu", size_mb=9.0, cached=True)]  # fmt: skip
    line = tables.room(variants, free_mb).iloc[0]
    assert line["needed (MB)"] == 3.0 and line["verdict"].startswith(verdict)


def test_what_is_missing_has_its_reason():
    """Two models without a GPU share a line, another device has its own; text is visible."""
    missing = (("a", "gpu"), ("b", "gpu"), ("a", "npu"))
    skipped = [(ModelVariant(name, f"{name}:1", device), "No\x1b GPU.") for name, device in missing]
    assert tables.left_out(skipped).values.tolist() == [["a, b", "gpu", "No� GPU."], ["a", "npu", "No� GPU."]]
    assert list(tables.absent_devices({"gpu": "No provider."}).iloc[0]) == ["gpu", "No provider."]


def test_answers_are_those_of_the_first_round_and_last_attempt(run: Run):
    """One line per model; a repeated request counts with its last attempt; a failure is said."""
    first = next(each for each in run.completions if each.round == 1)
    again = replace(first, attempt=2, chunks=(), error="stalled")
    told = tables.answers(replace(run, completions=(*run.completions, again)), first.prompt_id)
    assert len(told) == 5
    assert told.iloc[0]["answer"] == "failed: stalled"
    assert told.iloc[1]["answer"].startswith(" word word")


def test_one_request_can_be_looked_at(run: Run):
    """Arrivals are milliseconds after the request; metrics that are unknown say so."""
    completion = next(each for each in run.completions if each.round == 1)
    assert tables.arrivals(completion).iloc[0]["arrived (ms)"] == pytest.approx(4.2)
    assert list(tables.metrics(completion).iloc[1]) == ["Time to first token", 4.2, "ms"]
    failed = Completion("r", "a", "a:1", "cpu", "p", 1, "2026", error="gone")
    assert set(tables.metrics(failed)["value"]) == {"not measured"}


def test_steadiness_counts_prompts_with_one_answer(run: Run):
    """A second text for one prompt leaves one steady prompt of two."""
    assert list(tables.steadiness(run)["same answer every round"]) == [2] * 5
    last = run.completions[-1]
    other = replace(last, chunks=last.chunks[1:], round=9)
    changed = tables.steadiness(replace(run, completions=(*run.completions, other)))
    assert sorted(changed["same answer every round"]) == [1, 2, 2, 2, 2]


def test_builds_of_a_model_are_compared_with_an_interval(run: Run):
    """fp32 against int4 of the same model, in every compared metric; a failed build is not compared."""
    told = tables.differences(run)
    assert list(told.columns) == ["model", "this", "against (6 comparisons)", "latency", "first token", "decode"]
    assert set(told["this"]) == {"fp32 · cpu"} and len(told) == 2
    assert set(told["decode"].str.startswith("no clear difference (1.00x")) == {True}


def test_without_a_gpu_the_table_of_devices_says_why():
    """No blank columns: the sentences that a reader of the comparison must know, here the absent provider's first."""
    assert list(tables.devices(cpu_run())["in words"]) == list(comparison.device_notes(cpu_run()))


def test_the_table_of_devices_says_where_each_build_was_measured():
    """Another machine's figure never passes for this one's; a label without provider is no GPU."""
    shown = tables.devices(cpu_run(), (reference(),))
    here, elsewhere = "this machine", "reference, another machine: Made-up GPU, 2026-10-01"
    assert list(shown["measured on"]) == [here, here, elsewhere, elsewhere] * 3
    assert list(shown["build"])[:4] == ["int4 · cpu", "fp32 · cpu", "fp16 · gpu", "int4 · gpu"]
    assert list(shown["first token (ms)"])[:4] == [4.2, 4.2, 2.1, 2.1]
    labelled = tables.devices(mislabelled_run(), (reference(),))
    assert list(labelled["measured on"]) == list(shown["measured on"])


def test_a_table_of_speeds_leaves_out_what_was_never_asked():
    """A device that is absent has no line beside a model that answered, and keeps it where there is no other."""
    absent = Row("small", "small:1", "gpu", "skipped", error="No GPU.")
    assert list(tables.speed([row(), absent])["device"]) == ["cpu"]
    assert list(tables.speed([absent])["device"]) == ["gpu"]
