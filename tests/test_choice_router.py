"""Routing by capability tags, what the tags rest on, and one live example on the practice models."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from tests.fault_server import fault_server
from tests.foundry_helpers import practice
from workshop_lib import data, places
from workshop_lib.choice import router
from workshop_lib.choice.router import choose
from workshop_lib.data import ModelCard
from workshop_lib.errors import ModelNotFoundError
from workshop_lib.records import ModelVariant, Prompt
from workshop_lib.runtimes.endpoint import EndpointRuntime

CARDS = {
    "tiny": ModelCard(("explain",), 400.0, "MIT"),
    "middle": ModelCard(("explain", "code"), 2500.0, "Apache-2.0", ("gpu", "cpu")),
    "huge": ModelCard(("explain", "code", "reason"), 12000.0, "MIT"),
    "unsized": ModelCard(("reason",), None),
}


class Shelf:
    """A runtime that only lists: `auto` is what is ready."""

    def __init__(self, *variants: ModelVariant) -> None:
        self.variants = variants

    def find(self, names: Sequence[str], devices: Sequence[str]) -> list[ModelVariant]:
        assert list(names) == ["all"]
        return [each for each in self.variants if each.device in {*devices, "unknown"}]


def variant(alias: str, device: str = "cpu", size_mb: float | None = 1.0, **changes: Any) -> ModelVariant:
    made = ModelVariant(alias, f"{alias}-{device}:1", device, size_mb=size_mb, capabilities=("explain",))
    return replace(made, **changes)


def offer() -> Any:
    """Every card as a model that is ready on the CPU."""
    known = {alias: {"licence": card.licence, "capabilities": card.capabilities} for alias, card in CARDS.items()}
    return Shelf(*(variant(alias, size_mb=CARDS[alias].size_mb, **about) for alias, about in known.items()))


def chosen(*variants: ModelVariant, **options: Any) -> str:
    shelf: Any = Shelf(*variants)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "read_models", lambda: CARDS)
        return choose(shelf, "explain", **options)[0].model_id


@pytest.mark.parametrize(
    ("options", "alias", "why"),
    [
        ({"capability": "explain"}, "tiny", "smallest (400 MB) of 3 models that carry the tag within the limits."),
        ({"capability": "code", "licences": ["mit"]}, "huge", "of 1 model that carries"),
        ({"capability": "explain", "max_size_mb": 400}, "tiny", "of 1 model that carries"),
        ({"capability": "reason"}, "huge", "of 2 models"),
        ({"capability": "reason", "max_size_mb": 20000}, "huge", "of 1 model that carries"),
    ],
)
def test_the_smallest_that_can_is_chosen(options: dict[str, Any], alias: str, why: str) -> None:
    """By size, an unknown size last; limits and licences come first."""
    variant_, said = choose(offer(), **options)
    assert variant_.alias == alias and why in said


def test_only_what_is_ready_is_chosen_and_the_preferred_device_first() -> None:
    """Of one model the device of its card is taken, then the smallest build; what the runtime lacks is no choice."""
    builds = [variant("middle", "cpu", 3.0), variant("middle", "gpu", 9.0), variant("huge", "cpu", 5.0)]
    assert chosen(*builds) == "middle-gpu:1"
    assert chosen(*builds, max_size_mb=4) == "middle-cpu:1"
    assert chosen(variant("huge", size_mb=7.0), variant("other", "unknown", None)) == "huge-cpu:1"
    assert chosen(variant("tiny", size_mb=2.0, model_id="b"), variant("tiny", size_mb=1.0, model_id="a")) == "a"


def test_the_order_of_the_listing_does_not_matter() -> None:
    """The same offer gives the same route, however it is sorted."""
    for listed in permutations(["tiny", "middle", "huge"]):
        assert chosen(*(variant(alias, size_mb=1.0) for alias in listed)) == "huge-cpu:1"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"capability": "explian"}, r"capability 'explian'. Did you mean explain\? There are: code, explain, reason\."),
        ({"capability": "poems"}, r"capability 'poems'. There are: code"),
        ({"capability": "reason", "max_size_mb": 100}, r"huge \(12,000 MB, MIT\), unsized \(size unknown, unknown\)"),
        ({"capability": "reason", "licences": ["BSD"]}, "keeps the limits on size and licence"),
        ({"capability": "a\x1b[31m\nb"}, r"capability 'a�\[31m b'"),
    ],
)
def test_a_task_that_no_model_can_do_is_said(options: dict[str, Any], said: str) -> None:
    """The nearest tag and those that exist, or each model that could with what stands in its way."""
    with pytest.raises(ModelNotFoundError, match=said):
        choose(offer(), **options)
    with pytest.raises(ModelNotFoundError, match=r"Download a model, or add tags to data/models\.json"):
        chosen()


TESTS: dict[str, tuple[str, ...]] = {
    "kept_out_phrasing": ("explain", "list", "summarise"),
    "notes_known_names": ("summarise-meeting", "action-items"),
    "question_known_names": ("decisions", "who-owns-what", "due-dates"),
}
"""Test of the practice models → the capabilities of whoever got half of it right."""


def test_practice_models_carry_exactly_the_tags_they_earned() -> None:
    """A tag means that the weakest build got half of its test right; less is no tag, and more is not left out."""
    file = places.DATA / "practice_models" / "quality.json"
    for model in json.loads(file.read_text("utf-8"))["models"]:
        shares = {test: min(build["scores"][test] for build in model["variants"]) for test in TESTS}
        earned = {tag for test, tags in TESTS.items() for tag in tags if shares[test] >= 0.5}
        assert set(data.read_models()[model["alias"]].capabilities) == earned, model["alias"]
        if model["alias"] == "practice-small":
            assert round(shares["notes_known_names"], 2) == 0.25, "page 05 says so"


def test_a_task_that_goes_wrong_is_a_line_and_no_crash() -> None:
    """A task that no model can do, and a server that answers with an error; the others go on."""
    cards = {"http-500": ModelCard(("explain",), None)}
    with fault_server() as url, EndpointRuntime(url, cards=cards) as runtime:
        first, second = router.ask(runtime, [Prompt("p", "Hi?", capability="poems"), Prompt("q", "Hello?")]).to_numpy()
    assert first[2] == "none" and "No model here has the capability 'poems'" in first[3] and not first[4]
    assert second[2].startswith("http-500") and second[4].startswith("failed: ")


@pytest.mark.slow
def test_two_tasks_go_to_two_models_and_are_answered(tmp_path: Path) -> None:
    """Real answers: explaining goes to the smallest model, action items to the smallest that can copy them."""
    tasks = [data.read_prompts()[0], data.read_prompts(set_name="meeting-notes")[1]]
    with practice(tmp_path, cards=data.read_models()) as runtime:
        shown = router.ask(runtime, tasks)
    assert [model.rsplit("-int4")[0] for model in shown["model"]] == ["practice-small", "practice-medium"]
    assert "documents" in shown["answer"][0] and "login screen by 6 May" in shown["answer"][1]
