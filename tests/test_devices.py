"""CPU against GPU: what counts as a GPU, what stands in for an absent one, and what is said of it."""

from __future__ import annotations

from dataclasses import replace

from tests.comparison_helpers import ALIASES, PLAN, WHY, cpu_run, gpu_run, mislabelled_run, reference
from tests.report_helpers import run_of_models
from workshop_lib.archive import devices
from workshop_lib.archive.references import NO_GPU
from workshop_lib.metrics.summaries import WARNINGS, summarise


def test_a_label_without_a_provider_is_a_warning():
    """A variant labelled gpu whose process registered no GPU provider carries the code, and the code has a sentence."""
    codes = {row.device: "gpu_not_registered" in row.warnings for row in summarise(mislabelled_run())}
    assert codes == {"cpu": False, "gpu": True}
    assert not any("gpu_not_registered" in row.warnings for row in summarise(gpu_run()))
    assert "no GPU provider" in WARNINGS["gpu_not_registered"]


def test_a_gpu_here_is_compared_with_the_cpu_build_of_its_precision():
    """Half the time is 2.00x faster; without a CPU build of the same precision the first one is taken."""
    builds = devices.side_by_side(gpu_run(0.5))
    gpus = {(build.row.alias, build.row.precision): build for build in builds if build.row.device == "gpu"}
    assert len(builds), len(gpus) == (12, 6)
    int4 = gpus["practice-small", "int4"].verdict
    assert int4 is not None
    assert (int4.against, int4.decode) == ("int4 · cpu", "2.00x faster (95 % CI 2.00-2.00)")
    assert int4.first_token.startswith("2.00x faster (95 % CI 1.")
    assert gpus["practice-small", "fp16"].verdict == int4
    assert {build.where for build in builds} == {devices.HERE}


def test_an_absent_gpu_is_said_with_the_reason_and_that_no_reference_ships():
    """The CPU results stand; one sentence gives the reason, one says that nothing stands in."""
    assert [build.row.device for build in devices.side_by_side(cpu_run())] == ["cpu"] * 6
    assert devices.absences(cpu_run()) == dict.fromkeys(ALIASES, WHY)
    assert devices.notes(cpu_run()) == (f"There are no GPU figures of this machine. {WHY}", NO_GPU)


def test_a_reference_stands_in_and_is_labelled():
    """Each GPU build of the other machine has its name and date, a ratio to the CPU here, and one to its own CPU."""
    references = (reference(0.5),)
    elsewhere = [build for build in devices.side_by_side(cpu_run(), references) if build.is_reference]
    assert {build.where for build in elsewhere} == {"Made-up GPU, 2026-10-01"}
    assert len(elsewhere) == 6
    assert all(build.verdict and build.verdict.decode.startswith("2.00x faster") for build in elsewhere)
    notes = devices.notes(cpu_run(), references)
    assert notes[1].startswith("GPU figures of another machine stand beside this one's: Made-up GPU, 2026-10-01.")
    assert notes[2].startswith(
        "On that machine alone, practice-small · fp16 · gpu against its int4 · cpu: first token 2.0"
    )
    assert len(notes) == 2 + 6


def test_no_reference_is_drawn_where_a_gpu_was_measured():
    """A machine with a GPU needs no other's."""
    builds = devices.side_by_side(gpu_run(), (reference(),))
    assert not any(build.is_reference for build in builds)
    assert devices.notes(gpu_run(), (reference(),)) == ()


def test_a_label_counts_as_no_gpu():
    """It is listed, compared with nothing, said in a sentence, and a reference still stands in."""
    builds = devices.side_by_side(mislabelled_run(), (reference(),))
    doubtful = [build for build in builds if not build.is_confirmed]
    assert [build.verdict for build in doubtful] == [None] * 6
    assert sum(build.is_reference for build in builds) == 6
    assert not devices.has_gpu(devices.side_by_side(mislabelled_run()))
    assert "so it counts as no GPU" in devices.notes(mislabelled_run())[0]


def test_a_reference_of_other_work_is_shown_but_not_compared():
    """Another max_tokens is another task: the verdict says so."""
    run = replace(cpu_run(), plan={**PLAN, "max_tokens": 7})
    builds = [build for build in devices.side_by_side(run, (reference(),)) if build.is_reference]
    assert all(
        build.verdict and "not compared: The runs did different work" in build.verdict.decode for build in builds
    )


def test_references_of_other_models_do_not_stand_in():
    """A shipped GPU result of models that were not measured here is no answer."""
    run = run_of_models(2, failed=0)
    other = replace(reference(), rows=tuple(row for row in reference().rows if row.alias == "practice-large"))
    assert devices.notes(run, (other,)) == (
        "This run has no GPU model: none was asked for, or the server does not say what it runs on.",
        "The shipped GPU reference results hold none of these models.",
    )


def test_a_gpu_without_a_cpu_build_has_nothing_to_be_compared_with():
    """Asked for the GPU alone, the table has its figures and no ratio."""
    run = gpu_run()
    run = replace(run, servings=tuple(each for each in run.servings if each.variant.device == "gpu"))
    assert {build.verdict and build.verdict.against for build in devices.side_by_side(run)} == {"no CPU build"}
