"""Routing by capability tags, the tags' evidence, and one live example on the practice models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fault_server import fault_server
from tests.foundry_helpers import is_gone, practice
from workshop_lib import catalog
from workshop_lib.catalog import ModelCard
from workshop_lib.decision import abilities, choice_tables
from workshop_lib.decision.capability_router import Router, choose
from workshop_lib.errors import ConfigurationError, DataFileError, ModelNotFoundError, ModelServerError
from workshop_lib.records import ModelVariant, Prompt
from workshop_lib.runtimes.endpoint import EndpointRuntime
from workshop_lib.runtimes.foundry import FoundryRuntime

CARDS = {
    "tiny": ModelCard(("explain",), 400.0, "MIT"),
    "middle": ModelCard(("explain", "code"), 2500.0, "Apache-2.0", ("gpu", "cpu")),
    "huge": ModelCard(("explain", "code", "reason"), 12000.0, "MIT"),
    "unsized": ModelCard(("reason",), None),
    "unlisted": ModelCard(("poems",), 1.0, listed=False),
}


class Shelf:
    """A runtime that only lists: `auto` is what is ready."""

    def __init__(self, *variants: ModelVariant) -> None:
        self.variants = variants

    def find(self, names: Sequence[str], devices: Sequence[str] = ("cpu", "gpu")) -> list[ModelVariant]:
        assert list(names) == ["auto"]
        return [each for each in self.variants if each.device in {*devices, "unknown"}]


def variant(alias: str, device: str = "cpu", size_mb: float | None = 1.0, **changes: Any) -> ModelVariant:
    made = ModelVariant(alias, f"{alias}-{device}:1", device, size_mb=size_mb, capabilities=("explain",))
    return replace(made, **changes)


def chosen(*variants: ModelVariant, **options: Any) -> str:
    shelf: Any = Shelf(*variants)
    return choose(capability="explain", runtime=shelf, cards=CARDS, **options).variant.model_id


# -- choosing


@pytest.mark.parametrize(
    ("options", "alias", "passed_over"),
    [
        ({"capability": "explain"}, "tiny", ("middle", "huge")),
        ({"capability": "code"}, "middle", ("huge",)),
        ({"capability": "code", "licences": ["mit"]}, "huge", ()),
        ({"capability": "explain", "max_size_mb": 400}, "tiny", ()),
        ({"capability": "reason"}, "huge", ("unsized",)),
        ({"capability": "reason", "max_size_mb": 20000}, "huge", ()),
        ({"capability": "explain", "prefer": ["huge", "nobody"]}, "huge", ("tiny", "middle")),
        ({"capability": "code", "prefer": ["tiny"]}, "middle", ("huge",)),
    ],
)
def test_the_smallest_that_can_is_chosen(options: dict[str, Any], alias: str, passed_over: tuple[str, ...]) -> None:
    """Preferred ones first, then by size, an unknown size last; limits and licences come before both."""
    route = choose(cards=CARDS, **options)
    assert (route.variant.alias, route.passed_over) == (alias, passed_over)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"capability": "explain"}, "It is the smallest (400 MB) of 3 that carry the tag and keep the limits."),
        (
            {"capability": "explain", "max_size_mb": 400},
            "It is the only one that carries the tag and keeps the limits.",
        ),
        ({"capability": "explain", "prefer": ["huge"]}, "It comes first in the order of preference given."),
    ],
)
def test_a_route_says_why(options: dict[str, Any], why: str) -> None:
    """One sentence for each of the three reasons."""
    assert choose(cards=CARDS, **options).why == why


def test_only_what_is_ready_is_chosen_and_the_preferred_device_first() -> None:
    """Of one model the device of its card is taken, then the smallest build; what the runtime lacks is no choice."""
    builds = [variant("middle", "cpu", 3.0), variant("middle", "gpu", 9.0), variant("huge", "cpu", 5.0)]
    assert chosen(*builds) == "middle-gpu:1"
    assert chosen(*builds, devices=["cpu"]) == "middle-cpu:1"
    assert chosen(*builds, max_size_mb=4) == "middle-cpu:1"
    assert chosen(variant("huge", size_mb=7.0), variant("other", "unknown", None)) == "huge-cpu:1"
    two = [variant("tiny", size_mb=2.0, model_id="b"), variant("tiny", size_mb=1.0, model_id="a")]
    assert chosen(*two) == "a"


@given(st.permutations(["tiny", "middle", "huge"]), st.permutations(["tiny", "middle", "huge"]))
def test_the_order_of_the_listing_does_not_matter(listed: list[str], preferred: list[str]) -> None:
    """The same offer gives the same route, however it is sorted; a full preference decides alone."""
    same = [variant(alias, size_mb=1.0) for alias in listed]
    assert chosen(*same) == "huge-cpu:1"
    assert chosen(*same, prefer=preferred) == f"{preferred[0]}-cpu:1"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"capability": "explian"}, r"capability 'explian'. Did you mean explain\? There are: code, explain, reason\."),
        ({"capability": "poems"}, r"capability 'poems'. There are: code"),
        ({"capability": "reason", "max_size_mb": 100}, r"huge \(12,000 MB, allowed 100 MB\); unsized \(size unknown\)"),
        ({"capability": "reason", "licences": ["BSD"]}, r"huge \(licence MIT\); unsized \(licence unknown\)"),
        ({"capability": "explain", "devices": ["gpu"]}, r"No model is ready here. Download one first"),
        ({"capability": "a\x1b[31m\nb"}, r"capability 'a�\[31m b'"),
    ],
)
def test_a_task_that_nobody_can_do_is_said(options: dict[str, Any], said: str) -> None:
    """The nearest tag and those that exist, or each model that could with what stands in its way."""
    with pytest.raises(ModelNotFoundError, match=said):
        choose(cards=CARDS, **options)


@pytest.mark.parametrize("size", [0, -3, float("nan")])
def test_a_size_that_cannot_be_is_refused(size: float) -> None:
    """Nothing is smaller than nothing."""
    with pytest.raises(ConfigurationError, match="max_size_mb is"):
        choose(capability="explain", max_size_mb=size, cards=CARDS)


def test_the_shipped_models_are_routed() -> None:
    """Explaining goes to the smallest model, action items to the smallest that was measured to copy them."""
    assert choose(capability="explain").variant.alias == "practice-small"
    assert choose(capability="action-items").variant.alias == "practice-medium"
    assert choose(capability="code", max_size_mb=3000).variant.alias == "phi-3.5-mini"


# -- what tags rest on


def test_practice_models_carry_exactly_the_tags_they_earned() -> None:
    """A tag means that the weakest build got half of its test right; less is no tag, and more is not left out."""
    cards = catalog.read_models()
    for alias, model in abilities.read_measured().items():
        earned = {tag for tag in abilities.TESTS if (model.share(tag) or 0.0) >= abilities.ENOUGH}
        assert set(cards[alias].capabilities) == earned, alias


def test_what_the_shipped_tags_rest_on_by_hand() -> None:
    """practice-small: 56 % of the known questions (int4), a quarter of the meeting notes (fp32), its weaker builds."""
    small = abilities.read_measured()["practice-small"]
    assert small.share("explain") == 0.56
    assert small.share("summarise-meeting") == 0.248
    assert small.share("poems") is None
    table = choice_tables.tags(catalog.read_models(), abilities.read_measured())
    shown = table.set_index("capability")["practice-small"]
    assert (shown["explain"], shown["summarise-meeting"]) == ("56% right, tagged", "25% right, no tag")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('{"schema": 2, "models": []}', "schema"),
        ('{"schema": 1, "models": [{"alias": "a", "variants": [{"name": "b", "scores": {"t": 1.5}}]}]}', "1.5"),
        ('{"schema": 1, "models": [{"alias": "a"}]}', "variants"),
    ],
)
def test_a_faulty_file_of_measured_shares_is_named(tmp_path: Path, text: str, named: str) -> None:
    """Schema, share and missing key are named with the file."""
    path = tmp_path / "quality.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataFileError, match=r"quality\.json") as error:
        abilities.read_measured(path)
    assert named in str(error.value)


# -- the router


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FoundryRuntime]:
    with practice(tmp_path_factory.mktemp("cache"), cards=catalog.read_models()) as runtime:
        yield runtime


def _pid(router: Router) -> int:
    assert router._served is not None and router._served.pid is not None
    return router._served.pid


@pytest.mark.slow
def test_two_tasks_go_to_two_models_and_are_answered(runtime: FoundryRuntime) -> None:
    """Real answers; a second task of a kind does not load its model again, and leaving stops the last one."""
    explain = catalog.read_prompts()[0]
    items = catalog.read_prompts(set_name="meeting-notes")[1]
    with Router(runtime, devices=["cpu"]) as router:
        first, again = router.ask(explain, max_tokens=60), router.ask(replace(explain, id="again"), max_tokens=8)
        first_pid = _pid(router)
        second = router.ask(items)
        second_pid = _pid(router)
        assert is_gone(first_pid) and not is_gone(second_pid)
    assert [each.route.variant.alias for each in (first, again, second) if each.route] == [
        "practice-small",
        "practice-small",
        "practice-medium",
    ]
    assert first.completion is not None and "documents" in first.completion.text
    assert second.completion is not None and "login screen by 6 May" in second.completion.text
    assert is_gone(second_pid)
    shown = choice_tables.routes([first, second])
    assert list(shown["capability"]) == ["explain", "action-items"]
    assert "login screen" in shown["answer"][1]


def test_a_task_without_a_model_comes_back_with_the_reason() -> None:
    """Nothing is served for it, and the other tasks go on."""
    shelf: Any = Shelf(variant("tiny"))
    with Router(shelf) as router:
        back = router.ask(Prompt("p", "Write a poem.", capability="poems"))
    assert (back.route, back.completion) == (None, None)
    assert "No model here has the capability 'poems'" in str(back.problem)
    line = choice_tables.routes([back]).to_numpy().tolist()[0]
    assert line[:3] == ["Write a poem.", "poems", "none"] and "poems" in line[3]


def test_models_without_tags_are_no_choice() -> None:
    """A server whose models nobody tagged: it says where tags are added."""
    with pytest.raises(ModelNotFoundError, match=r"carries any tag: add it to data/models\.json"):
        chosen(variant("tiny", capabilities=()))


def test_a_model_that_cannot_be_served_is_a_problem_and_no_crash() -> None:
    """The route stands, and the reason is shown in place of an answer."""

    class Broken(Shelf):
        def serve(self, variant: ModelVariant) -> object:
            raise ModelServerError("It ran out of memory.", "Choose a smaller one.")

    shelf: Any = Broken(variant("tiny"))
    with Router(shelf) as router:
        back = router.ask(Prompt("p", "Hello?"))
    assert back.route is not None and back.completion is None
    line = choice_tables.routes([back]).to_numpy().tolist()[0]
    assert line[-1] == "failed: It ran out of memory. Choose a smaller one."


def test_a_request_that_fails_is_a_problem_and_no_crash() -> None:
    """A server that answers with an error: the route stands, the reason is shown."""
    cards = {"http-500": ModelCard(("explain",), None)}
    with fault_server() as url, EndpointRuntime(url, cards=cards) as runtime, Router(runtime) as router:
        back = router.ask(Prompt("p", "Hello?"))
    assert back.route is not None and back.route.variant.alias == "http-500"
    assert choice_tables.routes([back])["answer"][0].startswith("failed: ")
