"""Comparing results: two runs, two models, what is refused and what is only said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.measurement_helpers import completion, run_of
from workshop_lib.archive.changes import compare_named, compare_results, find_side
from workshop_lib.archive.results import read_results, results_of, sample_objects
from workshop_lib.archive.storage import RunWriter
from workshop_lib.errors import ConfigurationError, DataFileError, ModelNotFoundError
from workshop_lib.programs import commands
from workshop_lib.records import Completion, Run

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


def test_a_run_against_itself_has_no_clear_difference_and_the_same_answers():
    """Every measure says no clear difference; all answers are the same; nothing to remark."""
    results = results_of(run(*answers()))
    changes = compare_results(results, results)
    assert [line.measure for line in changes.lines] == ["latency", "first token", "decode"]
    assert all(line.verdict.startswith("no clear difference (1.00x") for line in changes.lines)
    assert changes.remarks == ()
    assert changes.texts == ("tiny:1 on cpu: 2 of 2 answers are the same.",)


def test_a_slower_run_is_found_in_every_measure():
    """Everything takes 1.5 times as long: three clear verdicts, two of them lower-is-better."""
    changes = compare_results(results_of(run(*answers())), results_of(run(*answers(1.5))))
    assert [line.verdict.split(" (")[0] for line in changes.lines] == ["1.50x slower"] * 3


def test_changed_answers_are_named():
    """Deterministic mode compares the texts prompt by prompt."""
    changes = compare_results(results_of(run(*answers())), results_of(run(*answers(text=" other"))))
    assert changes.texts == ("tiny:1 on cpu: 0 of 2 answers are the same; changed: a, b.",)


@pytest.mark.parametrize("name", ["max_tokens", "temperature", "stream", "unique_prefix"])
def test_different_work_is_refused(name: str):
    """Another max_tokens, temperature or streaming is another task: named, not compared."""
    other = run(*answers(), plan={**PLAN, name: 7})
    with pytest.raises(ConfigurationError, match=f"different work: {name}"):
        compare_results(results_of(run(*answers())), results_of(other))


def test_runs_without_a_common_prompt_or_model_are_refused():
    """Reworded prompts or other models share nothing to pair."""
    reworded = run(*(replace(each, prompt_sha256="other") for each in answers()))
    with pytest.raises(ConfigurationError, match="share no prompt"):
        compare_results(results_of(run(*answers())), results_of(reworded))
    with pytest.raises(ConfigurationError, match="share no model: tiny:1 against big:1"):
        compare_results(results_of(run(*answers())), results_of(run(*answers(model="big:1"))))


def test_another_machine_is_a_remark():
    """Runs of two machines are compared, and it is said that they are."""
    other = run(*answers(), machine={**MACHINE, "cpu": "two"})
    assert compare_results(results_of(run(*answers())), results_of(other)).remarks == (
        "Different cpu: one in 20260101T000000Z, two in 20260101T000000Z.",
    )


def test_a_prompt_that_one_run_lacks_is_a_remark():
    """The comparison covers what both did, and says so."""
    half = run(*(each for each in answers() if each.prompt_id == "a"))
    assert compare_results(results_of(run(*answers())), results_of(half)).remarks == (
        "Only the 1 prompts that both runs sent are compared.",
    )


def test_two_models_of_one_run_are_compared_by_name():
    """`tiny` against `big` inside one run: big takes twice as long."""
    both = results_of(run(*answers(), *answers(2.0, "big:1")))
    changes = compare_named(both, both, "tiny", "big:1@cpu")
    assert changes.lines[0].verdict.startswith("2.00x slower")


@pytest.mark.parametrize(("name", "what"), [("none", "No model"), ("tiny@gpu", "No model"), ("twin", "More than one")])
def test_unclear_names_are_answered_with_what_there_is(name: str, what: str):
    """A name that means nothing, or two variants, lists the possible ones."""
    twins = [replace(each, alias="twin") for each in (*answers(), *answers(model="other:1"))]
    with pytest.raises(ModelNotFoundError, match=rf"{what}.*tiny:1@cpu, other:1@cpu"):
        find_side(results_of(run(*twins)), name)


def test_of_a_name_that_means_several_only_those_are_listed():
    """Of three models, an alias of two is answered with these two."""
    twins = [replace(each, alias="twin") for each in (*answers(), *answers(model="other:1"))]
    with pytest.raises(ModelNotFoundError, match=r"There are: tiny:1@cpu, other:1@cpu\.$"):
        find_side(results_of(run(*answers(model="third:1"), *twins)), "twin")


def test_failed_and_warm_up_requests_are_no_samples():
    """Only successful timed requests are compared."""
    mixed = run(*answers(), completion([9.0], round=0), completion([9.0], error="broke", error_kind="reset"))
    assert len(results_of(mixed).samples) == 6


def test_results_read_back_from_both_files(tmp_path: Path):
    """A record file and a report hold the same samples, up to a microsecond."""
    measured = run(*answers())
    with RunWriter(tmp_path / "records.jsonl", measured) as writer:
        for record in measured.completions:
            writer.append(record)
    report = {"machine": MACHINE, "plan": PLAN, "samples": sample_objects(measured)}
    (tmp_path / "report.json").write_text(json.dumps(report), encoding="utf-8")
    from_records, from_report = (read_results(tmp_path / name) for name in ("records.jsonl", "report.json"))
    assert from_records.samples == results_of(measured).samples
    assert [each.latency_s for each in from_report.samples] == pytest.approx(
        [each.latency_s for each in from_records.samples], abs=1e-6
    )


@pytest.mark.parametrize(
    "content", [None, "{", "[]", '{"rows": []}', '{"samples": [{"x": 1}], "machine": {}, "plan": {}}']
)
def test_other_files_are_refused(tmp_path: Path, content: str | None):
    """A missing file, broken JSON or a foreign report is one clear error."""
    path = tmp_path / "report.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(DataFileError, match=r"Give a benchmark_report\.json"):
        read_results(path)


def test_the_command_prints_a_table_and_can_fail_a_build(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """`compare A B` prints one line per measure; `--fail-if-slower` turns a clear slowdown into exit code 1."""
    paths = []
    for name, factor in (("a", 1.0), ("b", 1.5)):
        measured = run(*answers(factor))
        report = {"machine": MACHINE, "plan": PLAN, "samples": sample_objects(measured)}
        paths.append(tmp_path / f"{name}.json")
        paths[-1].write_text(json.dumps(report), encoding="utf-8")
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
    results = results_of(run(*prefixed, plan={**PLAN, "unique_prefix": True}))
    assert compare_results(results, results).lines[0].verdict.startswith("no clear difference (1.00x")


def test_runs_measured_apart_must_differ_by_more_than_repeating_makes():
    """5 % between two runs is not clear, 10 % is; within one run 5 % is."""

    def verdict(factor: float) -> str:
        return compare_results(results_of(run(*answers())), results_of(run(*answers(factor)))).lines[0].verdict

    both = results_of(run(*answers(), *answers(1.05, "big:1")))
    assert verdict(1.05).startswith("no clear difference (1.05x")
    assert verdict(1.10).startswith("1.10x slower")
    assert compare_named(both, both, "tiny", "big").lines[0].verdict.startswith("1.05x slower")


def test_decode_rates_from_bursts_must_differ_by_half():
    """Where answers arrived in bursts, a decode rate 1.3 times as high is no clear difference."""
    bursts = [replace(each, burst=True) for each in results_of(run(*answers())).samples]
    slower = [replace(each, burst=True) for each in results_of(run(*answers(1.3))).samples]
    a, b = (replace(results_of(run(*answers())), samples=tuple(side)) for side in (bursts, slower))
    latency, _, decode = compare_results(a, b).lines
    assert latency.verdict.startswith("1.30x slower")
    assert decode.verdict.startswith("no clear difference")
