"""The validation checklist: is every target model listed, cached, served, and does it answer a test chat?

Each check has a status of its own and the reason for it; after a failed one the later ones are not tried. What proves
*served* is said, because `/v1/models` alone does not: Foundry Local lists its whole catalog there, and at
`/models/loaded` what it holds in memory. Knows runtimes and the client; knows no tables and measures no times.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from workshop_lib import providers
from workshop_lib.errors import EndpointError, WorkshopError
from workshop_lib.instrument.client import ChatClient
from workshop_lib.measuring import plan
from workshop_lib.records import Request
from workshop_lib.runtimes.endpoint import WITHOUT_A_LIST
from workshop_lib.show.text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from workshop_lib.records import ModelVariant
    from workshop_lib.runtimes.profiles import Runtime, ServedModel

Status = Literal["passed", "failed", "not tried", "not known"]
Name = Literal["listed", "cached", "served", "answers"]
NAMES: tuple[Name, ...] = ("listed", "cached", "served", "answers")

TEST_CHAT = "What is edge AI?"
TEST_TOKENS = 24
SHOWN_CHARACTERS = 60
"""Of the answer: enough to see that it is one."""

NOT_CACHED = "Its files are not in the model cache. Run page 01, or `workshop.py check` with --download."
NO_LOADED_LIST = "The id is at /v1/models. This server does not say what it has loaded, so the test chat decides."


@dataclass(frozen=True, slots=True)
class Step:
    """One check of one model: its status, and the reason, with what to do where it failed."""

    name: Name
    status: Status
    reason: str


@dataclass(frozen=True, slots=True)
class ModelCheck:
    """The four checks of one model, in the order of `NAMES`; `model` is its exact id, or the name that was asked for.

    `not known` is a check that nobody here could make, such as the cache of another machine; `not tried` one that came
    after a failure.
    """

    model: str
    device: str
    steps: tuple[Step, ...]

    @property
    def failure(self) -> Step | None:
        """The check that failed; None where none did."""
        return next((step for step in self.steps if step.status == "failed"), None)


def check_models(
    runtime: Runtime, names: Sequence[str], *, devices: Sequence[str] = ("cpu",), prompt: str = TEST_CHAT
) -> tuple[ModelCheck, ...]:
    """Check every variant that the names mean, one after the other, each served by itself.

    Args:
        runtime: where the models come from.
        names: aliases, exact ids, or `auto` for all that are ready.
        devices: devices to check them on; one that is absent here is a failed check with the reason.
        prompt: the test chat, at temperature 0.

    Returns:
        One per model and device. A name that no catalog has is in it too, with the nearest names as its reason.

    Raises:
        WorkshopError: the catalog itself cannot be asked.
    """
    variants, missing = plan.choose_variants(runtime, names, devices)
    known = {variant.alias for variant in variants} | {variant.model_id for variant in variants}
    absent = [_after_failure(variant, "listed", why) for variant, why in missing]
    absent += [_elsewhere(runtime, name, devices) for name in _unmatched(names, known, absent)]
    return (*(_check(runtime, variant, prompt) for variant in variants), *absent)


def has_failed(checks: Sequence[ModelCheck]) -> bool:
    """True when a check failed, or when there was no model to check."""
    return not checks or any(check.failure for check in checks)


def counted(checks: Sequence[ModelCheck]) -> str:
    """How many checks have which status, e.g. `3 passed, 1 failed, 0 not tried, 0 not known`."""
    counts = Counter(step.status for each in checks for step in each.steps)
    return ", ".join(f"{counts[status]} {status}" for status in get_args(Status))


def _unmatched(names: Sequence[str], known: set[str], absent: Sequence[ModelCheck]) -> list[str]:
    """Names that exist and have no variant for the devices asked for: `find` gives nothing for them, and no error."""
    said = {check.model for check in absent}
    return [name for name in names if name not in known | said and name != "auto"]


def _elsewhere(runtime: Runtime, name: str, devices: Sequence[str]) -> ModelCheck:
    has = [variant.device for variant in runtime.list_models() if variant.alias == name]
    there, wanted = " and ".join(dict.fromkeys(has)) or "no device", ",".join(devices)
    reason = f"'{name}' is listed for {there}, not for {wanted}. Ask for a device that it has."
    return ModelCheck(name, wanted, _steps([Step("listed", "failed", reason)]))


def _after_failure(variant: ModelVariant, name: Name, why: str) -> ModelCheck:
    return ModelCheck(variant.model_id, variant.device, _steps([Step(name, "failed", why)]))


def _check(runtime: Runtime, variant: ModelVariant, prompt: str) -> ModelCheck:
    done = [Step("listed", "passed", f"The catalog of the profile {runtime.profile} has it."), _cached(variant)]
    if done[-1].status != "failed":
        try:
            with runtime.serve(variant) as model:
                done += _asked(model, prompt)
        except WorkshopError as error:
            done.append(Step("served", "failed", str(error)))
    return ModelCheck(variant.model_id, variant.device, _steps(done))


def _cached(variant: ModelVariant) -> Step:
    if variant.cached is None:
        return Step("cached", "not known", "The models lie on the server's machine, and it does not say which.")
    if not variant.cached:
        return Step("cached", "failed", NOT_CACHED)
    return Step("cached", "passed", "The runtime finds its files on this machine.")


def _asked(model: ServedModel, prompt: str) -> Iterator[Step]:
    """What the running server says: is the model there, and does it answer?"""
    with ChatClient.to(model) as client:
        served = _served(client, model)
        yield served
        if served.status != "failed":
            yield _answers(client, model, prompt)


def _served(client: ChatClient, model: ServedModel) -> Step:
    try:
        return _is_served(client, model, client.list_models(), client.list_loaded())
    except EndpointError as error:
        if error.kind in WITHOUT_A_LIST and model.failure() is None:
            return Step("served", "not known", "The server has no list of models: the test chat decides.")
        return Step("served", "failed", model.failure() or str(error))


def _is_served(client: ChatClient, model: ServedModel, listed: Sequence[str], loaded: Sequence[str] | None) -> Step:
    device = model.variant.device
    model_id = model.variant.served_as or model.variant.model_id
    if listed and model_id not in listed:
        fix = "Check that no other server has this port."
        return Step("served", "failed", f"{client.address.shown}/models does not name {model.variant.model_id}. {fix}")
    if loaded is None:
        return Step("served", "passed", NO_LOADED_LIST)
    if model_id not in loaded:
        fix = "Load it there with `foundry run NAME` (CLI 0.10 and later) or `foundry model run NAME` (until 0.9)."
        listed_only = f"The server lists {model.variant.model_id} at /v1/models and has not loaded it."
        return Step("served", "failed", f"{listed_only} {fix}")
    if device == "gpu" and model.registered_providers and not providers.has_gpu(model.registered_providers):
        return Step("served", "failed", f"It is loaded, but no GPU provider is registered there. {providers.GPU_FIX}")
    return Step("served", "passed", "The id is at /v1/models, and /models/loaded says that it is in memory.")


def _answers(client: ChatClient, model: ServedModel, prompt: str) -> Step:
    request = Request("checklist", model.variant, "checklist", prompt, 1, TEST_TOKENS)
    completion = client.ask(request)
    if completion.error is not None:
        return Step("answers", "failed", model.failure() or completion.error)
    if completion.is_empty and any(chunk.kind == "reasoning" for chunk in completion.chunks):
        return Step("answers", "passed", f"It was still thinking after {TEST_TOKENS} tokens.")
    if completion.is_empty:
        return Step("answers", "failed", "The answer has no text. Read the server's log, then try again.")
    return Step("answers", "passed", f"It said: {one_line(completion.text, SHOWN_CHARACTERS)}")


def _steps(done: Sequence[Step]) -> tuple[Step, ...]:
    """All four, the missing ones not tried, each with the check that stopped it."""
    left = [Step(name, "not tried", f"{done[-1].name} failed.") for name in NAMES[len(done) :]]
    return (*done, *left)
