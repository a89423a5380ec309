"""Plans: each request once, in a seeded order; what can be measured, and what is skipped with a reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.behaviours import BEHAVIOURS
from tests.fault_runtime import FaultRuntime, variant
from tests.fault_server import FaultServer
from workshop_lib.errors import ConfigurationError, ModelNotFoundError
from workshop_lib.plan import Plan, choose_variants, find_models, make_plan
from workshop_lib.records import ModelVariant, Prompt
from workshop_lib.settings import BenchmarkSettings

PROMPTS = (Prompt("first", "Say one."), Prompt("second", "Say two."))


def plan_of(*models: str, **options: object) -> Plan:
    """A plan over behaviours."""
    return make_plan([variant(model) for model in models], PROMPTS, **{"rounds": 2, **options})


@pytest.fixture(scope="module")
def runtime() -> Iterator[FaultRuntime]:
    with FaultServer({name: BEHAVIOURS[name] for name in ("fast", "steady")}) as server:
        yield FaultRuntime(server)


@given(st.integers(0, 1000), st.sampled_from(["round-robin", "blocks"]), st.integers(1, 4))
def test_every_model_prompt_and_round_is_planned_once(seed: int, order: str, rounds: int):
    """Whatever the seed and the order, the plan holds each combination exactly once."""
    plan = plan_of("fast", "steady", rounds=rounds, seed=seed, order=order)
    planned = [request.request_id for _, requests in plan.blocks() for request in requests]
    expected = {
        f"{model}/{prompt.id}/{round_}"
        for model in ("fast", "steady")
        for prompt in PROMPTS
        for round_ in range(1, rounds + 1)
    }
    assert len(planned) == len(expected)
    assert set(planned) == expected


def test_the_same_seed_gives_the_same_order_and_another_seed_another():
    """Order is part of the plan, so that a run can be repeated and resumed."""

    def order(seed: int) -> list[str]:
        return [
            request.request_id for _, requests in plan_of("fast", "steady", seed=seed).blocks() for request in requests
        ]

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_round_robin_finishes_a_round_before_the_next():
    """Heat and other load hit all models alike: round 2 starts when round 1 is complete."""
    ((_, requests),) = plan_of("fast", "steady", rounds=3, order="round-robin").blocks()
    rounds = [request.round for request in requests]
    assert rounds == sorted(rounds)


def test_blocks_serve_one_model_at_a_time():
    """For models that do not fit in memory together every block holds one model and one round."""
    blocks = list(plan_of("fast", "steady", rounds=2, order="blocks").blocks())
    assert len(blocks) == 4
    assert all(
        len(variants) == 1 and len({request.round for request in requests}) == 1 for variants, requests in blocks
    )


def test_models_that_do_not_fit_together_are_measured_in_blocks():
    """Two models of a million megabytes cannot be served at once on any machine."""
    huge = [replace(variant(name), size_mb=1e6) for name in ("a", "b")]
    assert make_plan(huge, PROMPTS).order == "blocks"
    assert make_plan([variant("a")], PROMPTS).order == "round-robin"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rounds": 0}, "rounds is 0"),
        ({"watts": float("nan")}, "watts is nan"),
        ({"pause_s": 60.1}, "pause_s is 60.1"),
        ({"round": 2}, "round is 2"),
    ],
)
def test_a_plan_that_cannot_be_measured_is_refused(options: dict[str, float], said: str):
    """No work, no prompt or no power is a mistake, named with its value."""
    with pytest.raises(ConfigurationError, match=said):
        plan_of("fast", **options)
    with pytest.raises(ConfigurationError, match="empty"):
        make_plan([variant("fast")], ())


def test_a_pause_is_the_environments_where_none_is_given_and_is_recorded(monkeypatch: pytest.MonkeyPatch):
    """Pages and `workshop.py run` pause by `BENCH_PAUSE`; a plan without a pause is described as older ones are."""
    assert "pause_s" not in plan_of("fast").describe()
    monkeypatch.setenv("BENCH_PAUSE", "1.5")
    assert plan_of("fast").describe()["pause_s"] == 1.5
    assert plan_of("fast", pause_s=0.0).how.pause_s == 0.0
    monkeypatch.setenv("BENCH_PAUSE", "soon")
    assert plan_of("fast", how=BenchmarkSettings(pause_s=2.0)).how.pause_s == 2.0  # settings are checked already


class WithoutGpu(FaultRuntime):
    """Its models are for the CPU, and `auto` is `fast`."""

    def find(self, names: Sequence[str], devices: Sequence[str] = ("cpu", "gpu")) -> list[ModelVariant]:
        return super().find(["fast" if name == "auto" else name for name in names]) if "cpu" in devices else []


@pytest.mark.parametrize("name", ["auto", "fast"])
def test_an_absent_device_alone_gives_the_rows_it_gives_beside_another(runtime: FaultRuntime, name: str):
    """Where only the GPU is asked for and there is none, each model is skipped with the reason."""
    without = WithoutGpu(runtime.server)
    chosen, alone = choose_variants(without, [name], ["gpu"])
    assert not chosen
    assert [(each.alias, each.device, why) for each, why in alone] == [
        ("fast", "gpu", "No GPU provider is registered.")
    ]
    assert alone == choose_variants(without, [name], ["cpu", "gpu"])[1]


def test_choosing_nothing_is_an_error_that_names_the_nearest(runtime: FaultRuntime):
    """A wrong name beside a right one is skipped with its reason; a wrong one alone stops."""
    variants, skipped = find_models(runtime, ["steady", "stedy"], ["cpu"])
    assert [variant.model_id for variant in variants] == ["steady"]
    assert skipped[0][0].alias == "stedy"
    with pytest.raises(ModelNotFoundError, match="No model is called 'stedy'"):
        find_models(runtime, ["stedy"], ["cpu"])
