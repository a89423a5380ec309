"""The validation checklist: four checks a model, each with its own status and reason, on real and on broken servers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests import behaviours
from tests.behaviours import STEADY
from tests.fault_server import FaultServer
from tests.fault_steps import answer_with, reply
from tests.foundry_helpers import PublicCatalog, practice
from workshop_lib import __main__ as command_line
from workshop_lib import checklist
from workshop_lib.checklist import ModelCheck, check_models
from workshop_lib.errors import ModelNotFoundError, ModelServerError
from workshop_lib.records import ModelVariant
from workshop_lib.runtimes import profiles
from workshop_lib.runtimes.foundry import FoundryRuntime
from workshop_lib.runtimes.profiles import ServedModel

QUICK = replace(STEADY, first_token_s=0.002, pace_s=0.0005, tokens=6)
BEHAVIOURS = {"one": QUICK, "empty": behaviours.BEHAVIOURS["empty"], "http-500": behaviours.BEHAVIOURS["http-500"]}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """An endpoint of three models: one answers, one has no text, one fails."""
    with FaultServer(BEHAVIOURS) as server:
        yield server.base_url


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checklist") / "cache"


@pytest.fixture(scope="module")
def runtime(cache: Path) -> Iterator[FoundryRuntime]:
    """The real runtime."""
    with practice(cache) as opened:
        yield opened


@pytest.fixture
def asked_by_variable(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOUNDRY_LOCAL_ENDPOINT", endpoint)


def statuses(check: ModelCheck) -> list[str]:
    assert [step.name for step in check.steps] == list(checklist.NAMES)
    return [step.status for step in check.steps]


def reason(check: ModelCheck, name: str) -> str:
    return next(step.reason for step in check.steps if step.name == name)


# -- the real runtime


@pytest.mark.slow
def test_a_model_that_is_not_cached_is_not_served(tmp_path: Path) -> None:
    """Listed passes, cached fails and says what to do, and nothing after it is called passed."""
    with PublicCatalog() as public, public.runtime(cache_dir=tmp_path) as runtime:
        (found,) = check_models(runtime, ["toy"])
    assert statuses(found) == ["passed", "failed", "not tried", "not tried"]
    assert "`workshop.py check` with --download" in reason(found, "cached")
    assert reason(found, "answers") == "cached failed."


@pytest.mark.slow
def test_a_model_in_the_cache_is_served_and_answers(runtime: FoundryRuntime) -> None:
    """All four pass on the real runtime: served because it says what it has loaded, answered with words."""
    variant = runtime.find(["practice-small"], ["cpu"])[0]
    runtime.download(variant)
    (found,) = check_models(runtime, [variant.model_id])
    assert statuses(found) == ["passed"] * 4
    assert found.failure is None
    assert "/models/loaded says that it is in memory" in reason(found, "served")
    said = reason(found, "answers").removeprefix("It said: ")
    assert len(said.split()) > 2 and len(said) <= checklist.SHOWN_CHARACTERS


@pytest.mark.slow
def test_the_command_downloads_checks_and_exits_with_0(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`check --download` leaves one line per model with four statuses, and the count of each status."""
    monkeypatch.setenv("WORKSHOP_CACHE_DIR", str(cache))
    assert command_line.main(["check", "--models", "practice-small", "--download"]) == 0
    said = capsys.readouterr().out
    for build in ("int4", "fp32"):
        (line,) = (each for each in said.splitlines() if f"practice-small-{build}-generic-cpu:1" in each)
        assert line.count("passed") == 4
    assert said.splitlines()[-1] == "8 passed, 0 failed, 0 not tried, 0 not known"


# -- any endpoint


def test_what_an_endpoint_does_not_say_is_not_known(endpoint: str) -> None:
    """Its cache is not ours to see, and where it does not say what it has loaded the test chat decides."""
    with profiles.open_runtime(endpoint=endpoint) as asked:
        (found,) = check_models(asked, ["one"])
    assert statuses(found) == ["passed", "not known", "passed", "passed"]
    assert "so the test chat decides" in reason(found, "served")
    assert not checklist.has_failed([found])


def test_each_model_has_statuses_of_its_own(endpoint: str) -> None:
    """One failing model changes nothing about the others, and a name without a model comes last."""
    with profiles.open_runtime(endpoint=endpoint) as asked:
        found = check_models(asked, ["http-500", "on", "one"])
    assert [(each.model, each.failure.name if each.failure else None) for each in found] == [
        ("http-500", "answers"),
        ("one", None),
        ("on", "listed"),
    ]
    assert "Did you mean one?" in reason(found[2], "listed")
    assert "HTTP 500" in reason(found[0], "answers")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--models", "one"], 0, "3 passed, 0 failed, 0 not tried, 1 not known"),
        (["--models", "http-500"], 1, "http-500 (unknown), answers: The server answered HTTP 500"),
        (["--devices", "tpu"], 2, "devices is 'tpu'"),
    ],
)
@pytest.mark.usefixtures("asked_by_variable")
def test_the_exit_code_says_whether_every_check_passed(
    capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, said: str
) -> None:
    """0 where nothing failed, 1 where something did, with a line that says what to do; 2 for a wrong setting."""
    assert command_line.main(["check", *arguments]) == code
    shown = capsys.readouterr()
    assert said in shown.out + shown.err
    assert "all" not in shown.out.lower().split()


# -- servers that are not what they seem


CHAT = "/v1/chat/completions"


@pytest.fixture
def server() -> Iterator[FaultServer]:
    """Lists two models and answers every chat with a word."""
    with FaultServer(dict.fromkeys(("one", "two"), QUICK), {CHAT: answer_with(lambda _: "Yes.")}) as running:
        yield running


def test_what_is_listed_and_not_loaded_is_not_served(server: FaultServer) -> None:
    """Foundry Local names its whole catalog at /v1/models: only what is at /models/loaded counts as served."""
    server.routes["/models/loaded"] = reply(["two"])
    with profiles.open_runtime(endpoint=server.base_url) as asked:
        one, two = check_models(asked, ["one", "two"])
    assert statuses(one) == ["passed", "not known", "failed", "not tried"]
    assert "has not loaded it. Load it there with `foundry run NAME`" in reason(one, "served")
    assert statuses(two) == ["passed", "not known", "passed", "passed"]


@pytest.mark.parametrize(
    ("text", "status", "said"),
    [
        (" \n ", "failed", "has no text"),
        ("<think>Edge AI is", "passed", "thinking"),
        ("Yes.", "passed", "It said: Yes."),
    ],
)
def test_what_counts_as_an_answer(server: FaultServer, text: str, status: str, said: str) -> None:
    """A few spaces are none; a model that still thinks when the test chat ends is there."""
    server.routes[CHAT] = answer_with(lambda _: text)
    with profiles.open_runtime(endpoint=server.base_url) as asked:
        (found,) = check_models(asked, ["one"])
    assert statuses(found) == ["passed", "not known", "passed", status]
    assert said in reason(found, "answers")


@dataclass
class Scripted:
    """A runtime of one cached variant that serves as it is told; everything it answers over HTTP is real."""

    variant: ModelVariant
    base_url: str = ""
    error: ModelServerError | None = None
    providers: tuple[str, ...] = ()
    died: str | None = None
    profile: str = "practice"

    def list_models(self) -> list[ModelVariant]:
        return [self.variant]

    def find(self, names: Sequence[str], devices: Sequence[str] = ("cpu",)) -> list[ModelVariant]:
        if names == ["nobody"]:
            raise ModelNotFoundError("No model is called 'nobody'.", "There are: one.")
        return [self.variant] if self.variant.device in devices or names == [self.variant.model_id] else []

    def absent_devices(self) -> dict[str, str]:
        return {}

    def serve(self, variant: ModelVariant) -> ServedModel:
        if self.error:
            raise self.error
        return Served(variant, self.base_url, self.providers, self.died)


class Served(ServedModel):
    """A served model with the providers and the end that a test gives it."""

    def __init__(self, variant: ModelVariant, base_url: str, providers: tuple[str, ...], died: str | None) -> None:
        super().__init__(variant, base_url)
        self.registered_providers, self.died = providers, died

    def failure(self) -> str | None:
        return self.died


ONE = ModelVariant("alias", "one", "cpu", cached=True)


@pytest.mark.parametrize(
    ("changes", "options", "status", "said"),
    [
        ({}, {"error": ModelServerError("The process ended.", "Choose a smaller variant.")}, "failed", "ended. Choose"),
        ({"model_id": "three"}, {}, "failed", "/v1/models does not name three"),
        ({"device": "gpu"}, {"providers": ("CPUExecutionProvider",)}, "failed", "no GPU provider is registered"),
        ({"device": "gpu"}, {"providers": ("CUDAExecutionProvider",)}, "passed", "says that it is in memory"),
    ],
)
def test_what_proves_that_a_model_is_served(
    server: FaultServer, changes: dict[str, str], options: dict[str, object], status: str, said: str
) -> None:
    """Loaded without error, listed by this very server, and a GPU build with a registered GPU provider."""
    server.routes["/models/loaded"] = reply(["one"])
    variant = replace(ONE, **changes)
    scripted = Scripted(variant, server.base_url, **options)  # type: ignore[arg-type]
    (found,) = check_models(scripted, ["alias"], devices=(variant.device,))  # type: ignore[arg-type]
    rest = "passed" if status == "passed" else "not tried"
    assert statuses(found) == ["passed", "passed", status, rest]
    assert said in reason(found, "served")


@pytest.mark.parametrize("died", [None, "The process ended: out of memory."])
def test_a_server_that_vanished_is_one_clear_reason(server: FaultServer, died: str | None) -> None:
    """Where the model's process ended, its end is said; behind an endpoint the connection's own fault."""
    gone = server.base_url
    server.close()
    (found,) = check_models(Scripted(ONE, gone, died=died), ["alias"])  # type: ignore[arg-type]
    assert statuses(found) == ["passed", "passed", "failed", "not tried"]
    assert (died or "No server listens at") in reason(found, "served")
