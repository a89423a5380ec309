"""Sentences about how far a run can be trusted, against numbers worked by hand."""

from __future__ import annotations

import pytest

from tests.measurement_helpers import VARIANT, completion, run_of
from workshop_lib.records import Completion, Run, Serving
from workshop_lib.summary import MOST_ROUNDS, outlier_notes, rounds_needed, stability_notes


def answers(latencies: dict[str, list[float]]) -> list[Completion]:
    """A completion of two tokens for each latency in seconds, prompt by prompt, rounds in order."""
    return [
        completion([latency_s / 2, latency_s], request_id=f"tiny:1/{prompt}/{number}", prompt_id=prompt, round=number)
        for prompt, values in latencies.items()
        for number, latency_s in enumerate(values, 1)
    ]


def even(rounds: int, prompts: int = 8) -> dict[str, list[float]]:
    """The same latency always."""
    return {f"p{number}": [1.0] * rounds for number in range(prompts)}


def notes_of(latencies: dict[str, list[float]], **changes: object) -> tuple[str, ...]:
    """The notes of a run without a load time."""
    return stability_notes(run_of(answers(latencies), **{"servings": (Serving(VARIANT),), **changes}))


def test_an_even_run_needs_no_note():
    """24 requests without scatter: nothing to say."""
    assert notes_of(even(3)) == ()


def test_few_requests_are_told_how_many_more_would_do():
    """16 requests of 8 prompts: one more round makes 24, enough for 20."""
    assert notes_of(even(2)) == ("tiny int4 cpu: 16 requests are few; about 1 more round would do.",)


def test_scatter_is_told_with_the_rounds_it_takes():
    """0.8, 1, 1.2 s: s = 20 %; 16 degrees of freedom, t = 2.12: (2.12 x 0.2 / 0.05)^2 = 72 requests, 9 rounds."""
    latencies = {f"p{number}": [0.8, 1.0, 1.2] for number in range(8)}
    (note,) = notes_of(latencies)
    assert note.startswith("tiny int4 cpu: requests with the same prompt scatter by 20 % of their mean; ")
    assert note.endswith("; about 6 more rounds would do.")


@pytest.mark.parametrize(
    ("spread", "prompts", "rounds", "needed"),
    [
        (0.0, 8, 3, 3),  # 20 requests
        (0.2, 8, 3, 9),  # as above: 71.9 requests
        (0.2, 1, 3, MOST_ROUNDS),  # t(0.975, 2) = 4.303: 296 requests
        (0.05, 1, 11, 20),  # t(0.975, 10) = 2.228: 5 requests, but 20 for a percentile
        (0.1, 1, 1, MOST_ROUNDS),  # one round says nothing about scatter: t(0.975, 1) = 12.7
    ],
)
def test_rounds_follow_from_the_interval_of_the_mean(spread: float, prompts: int, rounds: int, needed: int):
    """n = (t s / 0.05)^2 requests, at least 20, at most 100 rounds."""
    assert rounds_needed(spread, prompts=prompts, rounds=rounds) == needed


def test_hopeless_scatter_asks_for_a_quieter_machine():
    """Beyond 100 rounds the machine is the problem."""
    (note,) = notes_of({"p": [0.5, 1.0, 1.5, 1.0]})
    assert note.endswith("100 rounds would not do, so measure on a quieter machine.")


def test_scatter_that_many_requests_outweigh_says_so():
    """12 % in 24 requests of 2 prompts: (2.07 x 0.12 / 0.05)^2 = 25 > 24; in 96 requests enough."""
    latencies = {name: [0.88, 1.12] * 24 for name in ("a", "b")}
    (note,) = notes_of(latencies)
    assert note.endswith("the mean is known to 5 % all the same.")


def spiked() -> dict[str, list[float]]:
    """One request of 24 takes three times as long."""
    return {**even(3), "p5": [1.0, 3.0, 1.0]}


def test_an_outlier_is_named_by_model_prompt_and_round():
    """Round 2 of prompt p5 took 3 s where its median is 1 s."""
    run = run_of(answers(spiked()))
    assert outlier_notes(run) == ("tiny int4 cpu: prompt p5, round 2 took 3.0x its median.",)
    assert "tiny int4 cpu: prompt p5, round 2 took 3.0x its median." in stability_notes(run)


def test_many_outliers_are_the_worst_three_and_a_count():
    """Five slow requests of 40: three are named, worst first."""
    latencies = even(5)
    for number, slow in enumerate((2.0, 3.0, 4.0, 5.0, 6.0)):
        latencies[f"p{number}"] = [1.0, 1.0, slow, 1.0, 1.0]
    (note,) = [each for each in notes_of(latencies) if "prompt p" in each]
    assert note.startswith("tiny int4 cpu: prompt p4, round 3 took 6.0x its median; prompt p3,")
    assert note.endswith("; 2 more outliers.")


def test_cold_start_and_load_time_are_results_of_their_own():
    """A first request of 5 s and a load of half a second are said apart from everything else."""
    cold = completion([2.5, 5.0], round=0, prompt_id="p0", request_id="tiny:1/p0/0")
    run = run_of([cold, *answers(even(3))])
    assert stability_notes(run) == (
        "tiny int4 cpu: the first request took 5.00 s; it is in no average.",
        "Load times, in no other figure: tiny int4 cpu 0.50 s.",
    )


def test_what_failed_has_no_notes():
    """A model that answered nothing has no scatter to speak of."""
    failed: Run = run_of([completion([], error="broke", error_kind="reset")])
    assert stability_notes(failed) == ()
    assert outlier_notes(failed) == ()
