"""The validation checklist: is every target model listed, cached, served, and does it answer a test chat?

Each check has a status of its own and the reason for it; after a failed one the later ones are not tried. What proves
*served* is said, because `/v1/models` alone does not: Foundry Local lists its whole catalog there, and at
`/models/loaded` what it holds in memory.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from workshop_lib import machine, plan
from workshop_lib.client import ChatClient
from workshop_lib.errors import EndpointError, WorkshopError
from workshop_lib.records import Request
from workshop_lib.runtimes.endpoint import WITHOUT_A_LIST
from workshop_lib.show.text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from workshop_lib.records import ModelVariant
    from workshop_lib.runtimes.profiles import Runtime, ServedModel

Status = Literal["passed", "failed", "not tried", "not known"]
Name = Literal["listed", "cached", "served", "answers"]
NAMES: tuple[Name, ...] = get_args(Name)

TEST_TOKENS = 24
SHOWN_CHARACTERS = 60
"""Of the answer: enough to see that it is one."""


@dataclass(frozen=True, slots=True)
class Step:
    """One check of one model: its status, and the reason, with what to do where it failed.

    `not known` is a check that nobody here could make, such as the cache of another machine; `not tried` one that came
    after a failure.
    """

    name: Name
    status: Status
    reason: str


@dataclass(frozen=True, slots=True)
class ModelCheck:
    """The checks of one model in the order of `NAMES`; `model` is its exact id, or the name that was asked for."""

    model: str
    device: str
    steps: tuple[Step, ...]

    @property
    def failure(self) -> Step | None:
        """The check that failed; None where none did."""
        return next((step for step in self.steps if step.status == "failed"), None)


def check_models(
    runtime: Runtime, names: Sequence[str], *, devices: Sequence[str] = ("cpu",), prompt: str = "What is edge AI?"
) -> tuple[ModelCheck, ...]:
    """Check every variant that the names mean, one after the other, each served by itself.

    Returned is one per model and device; an absent device, and a name that no catalog has, are failed checks with the
    reason. Raises `WorkshopError` where the catalog itself cannot be asked.
    """
    variants, missing = plan.choose_variants(runtime, names, devices)
    checks = [_filled(variant.model_id, variant.device, _steps(runtime, variant, prompt)) for variant in variants]
    unlisted = [(each.model_id, each.device, why) for each, why in missing]
    found = {name for each in variants for name in (each.alias, each.model_id)} | {name for name, *_ in unlisted}
    for name in names:
        if name not in found and name != "auto":  # it exists, and has no variant for the devices asked for
            has = dict.fromkeys(variant.device for variant in runtime.list_models() if variant.alias == name)
            there, wanted = " and ".join(has) or "no device", ",".join(devices)
            why = f"'{name}' is listed for {there}, not for {wanted}. Ask for a device that it has."
            unlisted.append((name, wanted, why))
    checks += [_filled(name, device, [Step("listed", "failed", why)]) for name, device, why in unlisted]
    return tuple(checks)


def counted(checks: Sequence[ModelCheck]) -> str:
    """How many checks have which status, e.g. `3 passed, 1 failed, 0 not tried, 0 not known`."""
    counts = Counter(step.status for each in checks for step in each.steps)
    return ", ".join(f"{counts[status]} {status}" for status in get_args(Status))


def _filled(model: str, device: str, steps: Iterator[Step] | Sequence[Step]) -> ModelCheck:
    """All four checks, those after a failure not tried, each with the check that stopped it."""
    done = tuple(steps)
    left = (Step(name, "not tried", f"{done[-1].name} failed.") for name in NAMES[len(done) :])
    return ModelCheck(model, device, (*done, *left))


def _steps(runtime: Runtime, variant: ModelVariant, prompt: str) -> Iterator[Step]:
    """The checks up to the first that failed."""
    yield Step("listed", "passed", f"The catalog of the profile {runtime.profile} has it.")
    if variant.cached is None:
        yield Step("cached", "not known", "The models lie on the server's machine, and it does not say which.")
    elif variant.cached:
        yield Step("cached", "passed", "The runtime finds its files on this machine.")
    else:
        why = "Its files are not in the model cache. Run page 01, or `workshop.py check` with --download."
        yield Step("cached", "failed", why)
        return
    try:
        with runtime.serve(variant) as model, ChatClient.to(model) as client:
            served = _served(client, model)
            yield served
            if served.status != "failed":
                yield _answers(client, model, prompt)
    except WorkshopError as error:
        yield Step("served", "failed", str(error))


def _served(client: ChatClient, model: ServedModel) -> Step:
    """What the running server says: is the model there?"""
    variant = model.variant
    model_id = variant.served_as or variant.model_id
    try:
        listed, loaded = client.list_models(), client.list_loaded()
    except EndpointError as error:
        if error.kind in WITHOUT_A_LIST and model.failure() is None:
            return Step("served", "not known", "The server has no list of models: the test chat decides.")
        return Step("served", "failed", model.failure() or str(error))
    status: Status = "failed"
    if listed and model_id not in listed:
        reason = f"{client.address.shown}/models does not name {variant.model_id}. Does another server have this port?"
    elif loaded is None:
        status = "passed"
        reason = "The id is at /v1/models. This server does not say what it has loaded, so the test chat decides."
    elif model_id not in loaded:
        fix = "Load it there with `foundry run NAME` (CLI 0.10 and later) or `foundry model run NAME` (until 0.9)."
        reason = f"The server lists {variant.model_id} at /v1/models and has not loaded it. {fix}"
    elif variant.device == "gpu" and model.registered_providers and not machine.has_gpu(model.registered_providers):
        reason = f"It is loaded, but no GPU provider is registered there. {machine.GPU_FIX}"
    else:
        status, reason = "passed", "The id is at /v1/models, and /models/loaded says that it is in memory."
    return Step("served", status, reason)


def _answers(client: ChatClient, model: ServedModel, prompt: str) -> Step:
    completion = client.ask(Request("checklist", model.variant, "checklist", prompt, 1, TEST_TOKENS))
    if completion.error is not None:
        return Step("answers", "failed", model.failure() or completion.error)
    if not completion.is_empty:
        return Step("answers", "passed", f"It said: {one_line(completion.text, SHOWN_CHARACTERS)}")
    if any(chunk.kind == "reasoning" for chunk in completion.chunks):
        return Step("answers", "passed", f"It was still thinking after {TEST_TOKENS} tokens.")
    return Step("answers", "failed", "The answer has no text. Read the server's log, then try again.")
