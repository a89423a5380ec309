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
from workshop_lib.errors import EndpointError, ModelNotFoundError, ModelServerError
from workshop_lib.measuring import checklist
from workshop_lib.measuring.checklist import ModelCheck, Step, check_models
from workshop_lib.records import ModelVariant
from workshop_lib.runtimes import profiles
from workshop_lib.runtimes.endpoint import ServedEndpoint
from workshop_lib.runtimes.foundry import FoundryRuntime
from workshop_lib.show import tables

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
def test_what_is_asked_for_and_absent_has_a_line_with_the_reason(runtime: FoundryRuntime) -> None:
    """A wrong alias names the nearest; a device that is not here names why."""
    if "gpu" not in runtime.absent_devices():
        pytest.skip("this machine has a GPU that the runtime can use")
    alias, device = check_models(runtime, ["practice-smal", "practice-small"], devices=("gpu",))
    assert statuses(alias) == ["failed", "not tried", "not tried", "not tried"]
    assert "No model is called 'practice-smal'. Did you mean practice-small?" in reason(alias, "listed")
    assert statuses(device) == ["failed", "not tried", "not tried", "not tried"]
    assert reason(device, "listed").startswith("No GPU provider is registered")


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


@pytest.mark.parametrize(("model", "said"), [("empty", "text"), ("http-500", "HTTP 500")])
def test_a_model_that_gives_no_answer_fails_the_last_check(endpoint: str, model: str, said: str) -> None:
    """An answer without text, and a refusal, are no answers; the server's own words are the reason."""
    with profiles.open_runtime(endpoint=endpoint) as asked:
        (found,) = check_models(asked, [model])
    assert statuses(found) == ["passed", "not known", "passed", "failed"]
    assert said in reason(found, "answers")


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


def test_without_a_server_there_is_no_table(endpoint: str) -> None:
    """Where nobody answers, that is the one thing to say, and the command exits with 1."""
    port_of_nobody = "http://127.0.0.1:9/v1"
    with profiles.open_runtime(endpoint=port_of_nobody) as asked, pytest.raises(EndpointError, match="No server"):
        check_models(asked, ["one"])


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--models", "one"], 0, "3 passed, 0 failed, 0 not tried, 1 not known"),
        (["--models", "one,on"], 1, "on (unknown), listed: No model is called 'on'. Did you mean one?"),
        (["--models", "http-500"], 1, "http-500 (unknown), answers: The server answered HTTP 500"),
        (["--models", ","], 2, "models is empty"),
        (["--devices", "tpu"], 2, "There is no device 'tpu'"),
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


def test_blanks_are_no_answer(server: FaultServer) -> None:
    """A model that says a few spaces is there and does not answer."""
    server.routes[CHAT] = answer_with(lambda _: " \n ")
    with profiles.open_runtime(endpoint=server.base_url) as asked:
        (found,) = check_models(asked, ["one"])
    assert statuses(found) == ["passed", "not known", "passed", "failed"]
    assert "has no text" in reason(found, "answers")


def test_a_model_that_still_thinks_is_there(server: FaultServer) -> None:
    """A test chat of a few tokens may end before the answer begins."""
    server.routes[CHAT] = answer_with(lambda _: "<think>Edge AI is")
    with profiles.open_runtime(endpoint=server.base_url) as asked:
        (found,) = check_models(asked, ["one"])
    assert statuses(found)[-1] == "passed" and "thinking" in reason(found, "answers")


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

    def serve(self, variant: ModelVariant) -> ServedEndpoint:
        if self.error:
            raise self.error
        return Served(variant, self.base_url, self.providers, self.died)  # type: ignore[return-value]


class Served(ServedEndpoint):
    """A served model with the providers and the end that a test gives it."""

    def __init__(self, variant: ModelVariant, base_url: str, providers: tuple[str, ...], died: str | None) -> None:
        super().__init__(variant, base_url, registered_providers=providers)
        object.__setattr__(self, "died", died)

    def failure(self) -> str | None:  # type: ignore[override]
        return self.died  # type: ignore[attr-defined, no-any-return]


ONE = ModelVariant("alias", "one", "cpu", cached=True)


def test_a_model_that_cannot_be_loaded_is_not_asked(endpoint: str) -> None:
    """The runtime's own error is the reason, and the test chat is not tried."""
    error = ModelServerError("The process ended: out of memory.", "Choose a smaller variant.")
    (found,) = check_models(Scripted(ONE, error=error), ["alias"])  # type: ignore[arg-type]
    assert statuses(found) == ["passed", "passed", "failed", "not tried"]
    assert reason(found, "served") == "The process ended: out of memory. Choose a smaller variant."


def test_a_server_that_does_not_know_the_model_does_not_serve_it(server: FaultServer) -> None:
    """Another server on the same port answers /v1/models without the id."""
    variant = replace(ONE, model_id="three")
    (found,) = check_models(Scripted(variant, server.base_url), ["alias"])  # type: ignore[arg-type]
    assert statuses(found) == ["passed", "passed", "failed", "not tried"]
    assert "/v1/models does not name three" in reason(found, "served")


def test_a_gpu_build_on_a_cpu_is_not_served(server: FaultServer) -> None:
    """A GPU build loads on a CPU without a word; the registered providers tell."""
    server.routes["/models/loaded"] = reply(["one"])
    variant = replace(ONE, device="gpu")
    cpu = Scripted(variant, server.base_url, providers=("CPUExecutionProvider",))
    gpu = Scripted(variant, server.base_url, providers=("CUDAExecutionProvider",))
    (on_cpu,) = check_models(cpu, ["alias"], devices=("gpu",))  # type: ignore[arg-type]
    (on_gpu,) = check_models(gpu, ["alias"], devices=("gpu",))  # type: ignore[arg-type]
    assert statuses(on_cpu) == ["passed", "passed", "failed", "not tried"]
    assert "no GPU provider is registered" in reason(on_cpu, "served")
    assert statuses(on_gpu) == ["passed"] * 4


def test_a_server_that_vanished_is_one_clear_reason(server: FaultServer) -> None:
    """A model behind an endpoint has no process of ours: then the connection's own fault is said."""
    gone = server.base_url
    server.close()
    (found,) = check_models(Scripted(ONE, gone), ["alias"])  # type: ignore[arg-type]
    assert statuses(found) == ["passed", "passed", "failed", "not tried"]
    assert "No server listens at" in reason(found, "served")


def test_a_process_that_died_is_the_reason(server: FaultServer) -> None:
    """Where the connection broke because the model's process ended, its end is said and not the connection's."""
    gone = server.base_url
    server.close()
    died = Scripted(ONE, gone, died="The process ended: out of memory.")
    (found,) = check_models(died, ["alias"])  # type: ignore[arg-type]
    assert reason(found, "served") == "The process ended: out of memory."


def test_a_device_without_a_build_is_said() -> None:
    """An alias that exists, on a device for which it has no build: the line names the devices that it has."""
    (found,) = check_models(Scripted(ONE), ["alias"], devices=("npu",))  # type: ignore[arg-type]
    assert reason(found, "listed") == "'alias' is listed for cpu, not for npu. Ask for a device that it has."


def test_nothing_to_check_is_no_success() -> None:
    """An empty checklist has not passed."""
    assert checklist.has_failed([])


def test_auto_without_a_ready_model_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An endpoint that lists nothing is one failed line that says so and what to do."""
    with FaultServer({}) as server:
        monkeypatch.setenv("FOUNDRY_LOCAL_ENDPOINT", server.base_url)
        assert command_line.main(["check"]) == 1
    assert "lists no model. Load one there." in capsys.readouterr().out


# -- tables

CHECKS = (
    ModelCheck("good:1", "cpu", tuple(Step(name, "passed", "Yes.") for name in checklist.NAMES)),
    ModelCheck(
        "b\x1b[31mad",
        "gpu",
        (
            Step("listed", "passed", "Yes."),
            Step("cached", "failed", "Not\x1b[31m there."),
            Step("served", "not tried", "cached failed."),
            Step("answers", "not tried", "cached failed."),
        ),
    ),
)


def test_the_table_has_a_status_per_check() -> None:
    """One line per model and device; control characters of names do not reach the reader."""
    table = tables.statuses(CHECKS)
    assert list(table.columns) == ["model", "device", "listed", "cached", "served", "answers"]
    assert table.values.tolist() == [
        ["good:1", "cpu", "passed", "passed", "passed", "passed"],
        ["b�[31mad", "gpu", "passed", "failed", "not tried", "not tried"],
    ]


def test_failures_say_what_to_do() -> None:
    """Only what failed, with its reason; empty where nothing did."""
    assert tables.failures(CHECKS).values.tolist() == [["b�[31mad", "gpu", "cached", "Not�[31m there."]]
    assert tables.failures(CHECKS[:1]).empty


def test_reasons_of_one_check() -> None:
    """What a status rests on can be read."""
    assert tables.reasons(CHECKS, "served").values.tolist() == [
        ["good:1", "passed", "Yes."],
        ["b�[31mad", "not tried", "cached failed."],
    ]


def test_statuses_are_counted() -> None:
    """5 passed, 1 failed, 2 not tried: no word for all of them."""
    assert checklist.counted(CHECKS) == "5 passed, 1 failed, 2 not tried, 0 not known"
