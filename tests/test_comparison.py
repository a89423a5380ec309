"""Ratios and their intervals, runs compared with runs, and CPU beside GPU."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.comparison_helpers import ALIASES, WHY, cpu_run, gpu_run, mislabelled_run, reference
from tests.measurement_helpers import completion, run_of
from tests.report_helpers import run_of_models
from workshop_lib import comparison, report, timing
from workshop_lib.comparison import (
    NO_GPU,
    Change,
    Ratio,
    compare,
    compare_samples,
    corrected,
    describe,
    find,
    results_of,
    sample_objects,
)
from workshop_lib.errors import ConfigurationError, DataFileError, ModelNotFoundError
from workshop_lib.programs import commands
from workshop_lib.records import Completion, Run
from workshop_lib.storage import RunWriter
from workshop_lib.summary import summarise

EVEN = {"a": [1.0, 1.01, 0.99], "b": [2.0, 2.02, 1.98]}


def scaled(samples: dict[str, list[float]], factor: float) -> dict[str, list[float]]:
    """Every value times the factor."""
    return {prompt: [factor * value for value in values] for prompt, values in samples.items()}


def test_the_ratio_is_the_geometric_mean_of_ratios_of_medians():
    """Prompt a doubles (1 to 2), prompt b is eight times slower (1 to 8): together 4 times."""
    ratio = compare_samples({"a": [1.0], "b": [1.0]}, {"a": [2.0], "b": [8.0]})
    assert ratio.value == pytest.approx(4.0)
    assert (ratio.low, ratio.high) == (None, None)


def test_only_shared_prompts_are_compared():
    """A prompt that one side did not answer takes no part; without a common one there is no ratio and no claim."""
    assert compare_samples({"a": [1.0], "b": [5.0]}, {"a": [2.0], "b": []}).value == pytest.approx(2.0)
    nothing = compare_samples({"a": [1.0]}, {"b": [1.0]})
    assert (nothing.value, nothing.is_clear, describe(nothing, "lower")) == (None, False, "nothing to compare")


@pytest.mark.parametrize("factor", [0.2, 1.0, 5.0])
def test_the_interval_holds_the_ratio_and_scales_with_it(factor: float):
    """Multiplying one side multiplies ratio and interval."""
    ratio, base = compare_samples(EVEN, scaled(EVEN, factor)), compare_samples(EVEN, EVEN)
    assert ratio.value == pytest.approx(factor)
    assert ratio.low is not None and ratio.high is not None and base.low is not None and base.high is not None
    assert ratio.low <= ratio.value <= ratio.high
    assert (ratio.low, ratio.high) == pytest.approx((base.low * factor, base.high * factor))


def test_equal_models_are_told_apart_in_at_most_7_of_100_repeats_and_ten_percent_is_found():
    """8 prompts x 3 rounds that scatter by 3 %: at most 7 of 100 repeats differ, 10 % slower is found in all."""
    generator = np.random.default_rng(7)
    typical = generator.uniform(0.1, 0.6, 8)

    def measured(factor: float = 1.0) -> dict[str, list[float]]:
        noise = np.exp(generator.normal(0, 0.03, (8, 3)))
        return {str(prompt): list(factor * typical[prompt] * noise[prompt]) for prompt in range(8)}

    same = sum(compare_samples(measured(), measured()).is_clear for _ in range(100))
    slower = sum(compare_samples(measured(), measured(1.1)).is_clear for _ in range(40))
    assert same <= 7
    assert slower == 40


@pytest.mark.parametrize(
    ("ratio", "better", "sentence"),
    [
        (Ratio(0.5, 0.4, 0.625), "lower", "2.00x faster (95 % CI 1.60-2.50)"),
        (Ratio(2.0, 1.6, 2.5), "lower", "2.00x slower (95 % CI 1.60-2.50)"),
        (Ratio(2.0, 1.6, 2.5), "higher", "2.00x faster (95 % CI 1.60-2.50)"),
        (Ratio(0.5, 0.4, 0.625), "higher", "2.00x slower (95 % CI 1.60-2.50)"),
        (Ratio(1.02, 0.97, 1.08), "lower", "no clear difference (1.02x, 95 % CI 0.97-1.08)"),
        (
            Ratio(1.05, 1.02, 1.08, smallest=0.08),
            "lower",
            "no clear difference (1.05x, 95 % CI 1.02-1.08; repeats differ by up to 8%)",
        ),
        (
            Ratio(1.05, 1.02, 1.08, p=0.06, among=18),
            "lower",
            "no clear difference (1.05x, 95 % CI 1.02-1.08; could be chance among 18 comparisons)",
        ),
        (Ratio(1.37, 0.1, 2.0), "higher", "no clear difference (1.37x, 95 % CI 0.10-2.00)"),
        (
            Ratio(1.37, 0.0, 1245186.75, smallest=0.5),
            "higher",
            "nothing can be said (1.37x, 95 % CI spans a factor of more than 20)",
        ),
        (Ratio(34.652, 9.994, 120.4), "lower", "34.7x slower (95 % CI 9.99-120)"),
        (Ratio(1.5, None, None), "lower", "1.50x, no interval: at least 2 rounds are needed"),
    ],
)
def test_verdicts_read_as_sentences(ratio: Ratio, better, sentence: str):
    """Faster and slower follow the metric's direction; an unclear difference says so with its interval."""
    assert describe(ratio, better) == sentence


def change(p: float | None) -> Change:
    """A ratio of 1.5 (1.2 to 1.9) with this share of draws beyond 1."""
    return Change(("tiny:1", "cpu"), ("tiny:1", "cpu"), timing.METRICS[0], Ratio(1.5, 1.2, 1.9, p=p))


def test_many_comparisons_are_corrected_with_holms_method():
    """By hand: 0.01 x 3, 0.02 x 2, then 0.03 x 1, which may not fall below 0.04; no interval is not counted."""
    found = corrected([change(p) for p in (0.03, None, 0.01, 0.02)])
    assert [each.ratio.p for each in found] == pytest.approx([0.04, None, 0.03, 0.04])
    assert [(each.ratio.among, each.ratio.is_clear) for each in found] == [(3, True), (3, False), (3, True), (3, True)]
    assert [each.ratio.is_clear for each in corrected([change(0.03), change(0.03)])] == [False, False]
    assert corrected([]) == () and corrected([change(0.04)])[0].ratio.is_clear


def test_of_equal_models_side_by_side_hardly_any_pair_is_called_clear():
    """Twelve comparisons without a difference, 40 times over: at most 4 times any is clear, against 10 uncorrected."""
    generator = np.random.default_rng(3)

    def measured() -> dict[str, list[float]]:
        return {str(prompt): list(np.exp(generator.normal(0, 0.03, 3))) for prompt in range(8)}

    found = [
        [change(None)._replace(ratio=compare_samples(measured(), measured())) for _ in range(12)] for _ in range(40)
    ]
    alone, together = (
        [any(each.ratio.is_clear for each in some) for some in part] for part in (found, map(corrected, found))
    )
    assert sum(alone) >= 10 and sum(together) <= 4


# -- runs

PLAN = {"rounds": 3, "unique_prefix": False, "max_tokens": 120, "temperature": 0.0, "stream": True}
MACHINE = {"cpu": "one", "os": "Linux 6", "versions": {"openai": "3"}}


def answers(factor: float = 1.0, model: str = "tiny:1", text: str = " word") -> list[Completion]:
    """Three rounds of two prompts; latencies 1 s and 2 s times the factor, with 1 % scatter."""
    return [
        completion(
            [factor * seconds * scatter * share for share in (0.5, 0.75, 1.0)], [text] * 3,
            model_id=model, alias=model.removesuffix(":1"), prompt_id=prompt, prompt_sha256=prompt * 8, round=round_,
        )
        for prompt, seconds in (("a", 1.0), ("b", 2.0))
        for round_, scatter in enumerate((1.0, 1.01, 0.99), 1)
    ]  # fmt: skip


def run(*completions: Completion, **changes: object) -> Run:
    """A run of them with a full plan and machine."""
    return run_of(list(completions), **{"plan": PLAN, "machine": MACHINE, **changes})


def write_report(measured: Run, path: Path) -> Path:
    """A report with what is read back of it."""
    report = {"machine": MACHINE, "plan": PLAN, "samples": sample_objects(measured), "rows": []}
    path.write_text(json.dumps(report), encoding="utf-8")
    return path


def test_a_run_against_itself_has_no_clear_difference_and_the_same_answers():
    """Every measure says no clear difference; all answers are the same; nothing to remark."""
    changes = compare(run(*answers()), run(*answers()))
    assert [line.metric.title for line in changes.lines] == ["latency", "first token", "decode"]
    assert all(line.verdict.startswith("no clear difference (1.00x") for line in changes.lines)
    assert changes.remarks == ()
    assert changes.texts == ("tiny:1 on cpu: 2 of 2 answers are the same.",)


def test_changed_answers_are_named():
    """Deterministic mode compares the texts prompt by prompt."""
    changes = compare(run(*answers()), run(*answers(text=" other")))
    assert changes.texts == ("tiny:1 on cpu: 0 of 2 answers are the same; changed: a, b.",)


@pytest.mark.parametrize("name", ["max_tokens", "temperature", "stream", "unique_prefix"])
def test_different_work_is_refused(name: str):
    """Another max_tokens, temperature or streaming is another task: named, not compared."""
    other = run(*answers(), plan={**PLAN, name: 7})
    with pytest.raises(ConfigurationError, match=f"different work: {name}"):
        compare(run(*answers()), other)


def test_runs_without_a_common_prompt_or_model_are_refused():
    """Reworded prompts or other models share nothing to pair."""
    reworded = run(*(replace(each, prompt_sha256="other") for each in answers()))
    with pytest.raises(ConfigurationError, match="share no prompt"):
        compare(run(*answers()), reworded)
    with pytest.raises(ConfigurationError, match="share no model: tiny:1 against big:1"):
        compare(run(*answers()), run(*answers(model="big:1")))


def test_what_differs_between_the_runs_is_a_remark():
    """Runs of two machines, and runs of other prompts, are compared, and it is said that they are."""
    half = [each for each in answers() if each.prompt_id == "a"]
    other = run(*half, machine={**MACHINE, "cpu": "two"})
    assert compare(run(*answers()), other).remarks == (
        "Only the 1 prompts that both runs sent are compared.",
        "Different cpu: one in 20260101T000000Z, two in 20260101T000000Z.",
    )


def test_two_models_of_one_run_are_compared_by_name():
    """`tiny` against `big` inside one run: big takes twice as long."""
    both = run(*answers(), *answers(2.0, "big:1"))
    changes = compare(both, both, "tiny", "big:1@cpu")
    assert changes.lines[0].verdict.startswith("2.00x slower")


@pytest.mark.parametrize(("name", "what"), [("none", "No model"), ("tiny@gpu", "No model"), ("twin", "More than one")])
def test_unclear_names_are_answered_with_what_there_is(name: str, what: str):
    """A name that means nothing lists all; of a name that means several only those are listed."""
    twins = [replace(each, alias="twin") for each in (*answers(), *answers(model="other:1"))]
    third = answers(model="third:1") if what == "More than one" else []
    with pytest.raises(ModelNotFoundError, match=rf"{what}.*There are: tiny:1@cpu, other:1@cpu\.$"):
        find(results_of(run(*third, *twins)), name)


def test_results_read_back_from_both_files(tmp_path: Path):
    """A record file and a report hold the same samples, up to a microsecond; warm-ups and failures are none."""
    measured = run(*answers(), completion([9.0], round=0), completion([9.0], error="broke", error_kind="reset"))
    with RunWriter(tmp_path / "records.jsonl", measured) as writer:
        for record in measured.completions:
            writer.append(record)
    write_report(measured, tmp_path / "report.json")
    from_records, from_report = (results_of(tmp_path / name) for name in ("records.jsonl", "report.json"))
    assert from_records.samples == results_of(measured).samples and len(from_records.samples) == 6
    assert [each.metrics["latency_s"] for each in from_report.samples] == pytest.approx(
        [each.metrics["latency_s"] for each in from_records.samples], abs=1e-6
    )


SAMPLE = '{"samples": [{"x": 1}], "machine": {}, "plan": {}, "rows": []}'


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "is missing"),
        ("{", "is not JSON"),
        ("[]", r"Give a benchmark_report\.json"),
        ('{"rows": ["row"]}', r"Give a benchmark_report\.json"),
        ('{"samples": [], "machine": {}, "plan": {}, "rows": [{"alias": "a"}]}', r"'rows\[0\].model_id' is missing"),
        (SAMPLE, r"'samples\[0\].alias' is missing"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: str | None, said: str):
    """A missing file, broken JSON or a foreign report is one clear error with the file's name, also as a reference."""
    path = tmp_path / "there" / comparison.REPORT
    path.parent.mkdir()
    if content is not None:
        path.write_text(content, encoding="utf-8")
        with pytest.raises(DataFileError, match=said):
            comparison.read_references(tmp_path)
    with pytest.raises(DataFileError, match=said):
        results_of(path)


def test_the_command_prints_a_table_and_can_fail_a_build(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """`compare A B` prints one line per measure; `--fail-if-slower` turns a clear slowdown into exit code 1."""
    paths = []
    for name, factor in (("a", 1.0), ("b", 1.5)):
        measured = run(*answers(factor))
        paths.append(write_report(measured, tmp_path / f"{name}.json"))
    assert commands.compare(*paths) == 0
    assert commands.compare(*paths, fail_if_slower=True) == 1
    assert commands.compare(*reversed(paths), fail_if_slower=True) == 0
    assert commands.compare(paths[0], paths[1], model="tiny") == 0
    said = capsys.readouterr().out
    assert "1.50x slower" in said
    assert "2 of 2 answers are the same" in said


def test_with_a_unique_prefix_the_id_alone_tells_the_prompt():
    """Every round then sends another text; the rounds still belong to one prompt and give an interval."""
    prefixed = [replace(each, prompt_sha256=f"{each.prompt_id}{each.round}") for each in answers()]
    unique = run(*prefixed, plan={**PLAN, "unique_prefix": True})
    assert compare(unique, unique).lines[0].verdict.startswith("no clear difference (1.00x")


def test_runs_measured_apart_must_differ_by_more_than_repeating_makes():
    """5 % between two runs is not clear, 10 % is; within one run 5 % is."""

    def verdict(factor: float) -> str:
        return compare(run(*answers()), run(*answers(factor))).lines[0].verdict

    both = run(*answers(), *answers(1.05, "big:1"))
    assert verdict(1.05).startswith("no clear difference (1.05x")
    assert verdict(1.10).startswith("1.10x slower")
    assert compare(both, both, "tiny", "big").lines[0].verdict.startswith("1.05x slower")


def test_decode_rates_from_bursts_must_differ_by_half():
    """Where answers arrived in bursts, a decode rate 1.3 times as high is no clear difference."""
    bursts = [replace(each, burst=True) for each in results_of(run(*answers())).samples]
    slower = [replace(each, burst=True) for each in results_of(run(*answers(1.3))).samples]
    a, b = (replace(results_of(run(*answers())), samples=tuple(side)) for side in (bursts, slower))
    latency, _, decode = compare(a, b).lines
    assert latency.verdict.startswith("1.30x slower")
    assert decode.verdict.startswith("no clear difference")


# -- CPU beside GPU


def test_a_gpu_here_is_compared_with_the_cpu_build_of_its_precision():
    """Half the time is 2.00x faster; without a CPU build of the same precision the first one is taken."""
    builds = comparison.side_by_side(gpu_run(0.5))
    gpus = {(build.row.alias, build.row.precision): build for build in builds if build.row.device == "gpu"}
    assert (len(builds), len(gpus)) == (12, 6)
    int4, fp16 = (gpus["practice-small", precision] for precision in ("int4", "fp16"))
    assert (int4.against, int4.decode) == ("int4 · cpu", "2.00x faster (95 % CI 2.00-2.00)")
    assert int4.first_token.startswith("2.00x faster (95 % CI 1.")
    assert (fp16.against, fp16.decode) == (int4.against, int4.decode)
    assert {build.where for build in builds} == {comparison.HERE}


def test_an_absent_gpu_is_said_with_the_reason_and_that_no_reference_ships():
    """The CPU results stand; one sentence gives the reason, one says that nothing stands in."""
    assert comparison.side_by_side(cpu_run()) == ()
    assert comparison.absent_gpus(cpu_run()) == dict.fromkeys(ALIASES, WHY)
    assert comparison.device_notes(cpu_run()) == (f"There are no GPU figures of this machine. {WHY}", NO_GPU)


def test_a_reference_stands_in_and_is_labelled():
    """Each GPU build of the other machine has its name and date, and a ratio to the CPU of that machine."""
    references = (reference(0.5),)
    elsewhere = [build for build in comparison.side_by_side(cpu_run(), references) if build.is_reference]
    assert {build.where for build in elsewhere} == {"Made-up GPU, 2026-10-01"}
    assert len(elsewhere) == 6
    assert all(build.decode.startswith("2.00x faster") for build in elsewhere)
    notes = comparison.device_notes(cpu_run(), references)
    assert notes[1] == "GPU figures are those of another machine, against its own CPU: Made-up GPU, 2026-10-01."


def test_a_label_counts_as_no_gpu():
    """Builds labelled gpu without a registered provider are no GPU: that is the reason, and a reference stands in."""
    assert comparison.side_by_side(mislabelled_run()) == ()
    builds = comparison.side_by_side(mislabelled_run(), (reference(),))
    assert [build.is_reference for build in builds if build.row.device == "gpu"] == [True] * 6
    assert "no GPU provider was registered" in comparison.device_notes(mislabelled_run())[0]


def test_references_of_other_models_do_not_stand_in():
    """A shipped GPU result of models that were not measured here is no answer."""
    run = run_of_models(2, failed=0)
    other = replace(reference(), rows=tuple(row for row in reference().rows if row.alias == "practice-large"))
    assert comparison.device_notes(run, (other,)) == (
        "This run has no GPU model: none was asked for, or the server does not say what it runs on.",
        "The shipped GPU reference results hold none of these models.",
    )


# -- shipped references


def write_whole(run: Run, folder: Path) -> Path:
    """The part of a report that is read back, as `write_report` writes it."""
    folder.mkdir()
    path = folder / comparison.REPORT
    path.write_text(report.report_json(run, summarise(run)), "utf-8")
    return path


def test_a_report_is_read_back_as_it_was_written(tmp_path: Path):
    """Rows and samples of a report that this version wrote; its name is the folder's."""
    run = gpu_run()
    write_whole(run, tmp_path / "cuda")
    (reference,) = comparison.read_references(tmp_path)
    assert reference.name == "cuda"
    assert len(reference.samples) == 12 * 2 * 3
    assert [row.model_id for row in reference.gpu_rows] == [
        serving.variant.model_id for serving in run.servings if serving.variant.device == "gpu"
    ]
    assert reference.rows[0].warnings == ("too_few_samples",)


def test_only_a_registered_provider_makes_a_gpu_reference(tmp_path: Path):
    """CPU results, and results labelled gpu without a provider, are references but none of a GPU; none is fine."""
    assert comparison.gpu_references(tmp_path) == comparison.read_references(tmp_path / "none") == ()
    write_whole(cpu_run(), tmp_path / "cpu")
    write_whole(mislabelled_run(), tmp_path / "label")
    assert len(comparison.read_references(tmp_path)) == 2
    assert comparison.gpu_references(tmp_path) == ()


@pytest.mark.parametrize(
    ("machine", "label"),
    [
        ({"gpu": "Card", "cpu": "Chip", "started_at": "2026-10-01T10:00:00+00:00"}, "Card, 2026-10-01"),
        ({"cpu": "Chip", "started_at": None}, "Chip, date unknown"),
        ({}, "machine unknown, date unknown"),
    ],
)
def test_a_reference_is_called_by_machine_and_date(machine: dict[str, object], label: str, tmp_path: Path):
    """The card if its name was recorded, else the processor; what is unknown is said."""
    write_whole(replace(gpu_run(), machine=machine), tmp_path / "one")
    assert comparison.read_references(tmp_path)[0].label == label
