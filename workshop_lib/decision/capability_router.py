"""Which model does a task: by the capability tags of `models.json`, within limits, in an order that is always the same.

    route = choose(capability="action-items", max_size_mb=2, runtime=runtime)

Of the models that carry the tag and keep the limits, those named in `prefer` come first, in that order (for instance
the ranking of a decision); then the smallest, because a tag says that a model can do it and a smaller one costs less
memory and time; then by name. Within a model the first of its `device_preference` is taken, then the smallest build. A
size or licence that is not known keeps no limit. Knows tags and runtimes. Knows no measurement: what a tag rests on is
said in `abilities`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from workshop_lib import catalog
from workshop_lib.decision.criteria import criterion
from workshop_lib.errors import ConfigurationError, ModelNotFoundError, WorkshopError
from workshop_lib.instrument.client import ChatClient
from workshop_lib.records import ModelVariant, Request
from workshop_lib.runtimes.selection import AUTO
from workshop_lib.untrusted import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workshop_lib.catalog import ModelCard
    from workshop_lib.records import Completion, Prompt
    from workshop_lib.runtimes.profiles import Runtime, ServedModel

_MB = criterion("footprint")


@dataclass(frozen=True, slots=True)
class Route:
    """Where a task goes.

    Attributes:
        capability: the tag asked for.
        variant: what was chosen; without a runtime it stands for the CPU build of `models.json`.
        why: the reason, as a sentence.
        passed_over: aliases of the other models that could do it within the limits, in order.
    """

    capability: str
    variant: ModelVariant
    why: str
    passed_over: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Routed:
    """One task, where it went, and what came back; `problem` says why nothing did."""

    prompt: Prompt
    route: Route | None
    completion: Completion | None
    problem: str | None = None


def choose(
    *,
    capability: str,
    max_size_mb: float | None = None,
    licences: Iterable[str] = (),
    prefer: Sequence[str] = (),
    devices: Sequence[str] = ("cpu", "gpu", "npu"),
    runtime: Runtime | None = None,
    cards: Mapping[str, ModelCard] | None = None,
) -> Route:
    """Choose the model for a kind of task.

    Args:
        capability: a tag of `models.json`, e.g. `action-items`.
        max_size_mb: largest size on disk in 10^6 bytes; None = any.
        licences: licences that may be used; none = any.
        prefer: aliases to take before all others, the best first.
        devices: devices that may be used; a variant of an unknown device passes.
        runtime: where it shall run: only what is ready there is chosen, nothing is downloaded from a network for it;
            None = everything that `models.json` lists.
        cards: alias → card; None = the shipped `models.json`.

    Raises:
        ModelNotFoundError: no model has the capability (names the nearest tag), or none of those keeps the limits.
        ConfigurationError: a size that is not above 0.
    """
    if max_size_mb is not None and not max_size_mb > 0:
        raise ConfigurationError(f"max_size_mb is {max_size_mb}.", "Give a number above 0, or leave it out.")
    known = catalog.read_models() if cards is None else cards
    offered = _listed(known, devices) if runtime is None else runtime.find([AUTO], devices)
    able = [each for each in offered if capability in each.capabilities]
    if not offered:
        raise ModelNotFoundError("No model is ready here.", "Download one first, or allow other devices.")
    if not able:
        raise _unknown_capability(capability, offered)
    allowed = {name.strip().casefold() for name in licences if name.strip()}
    fitting = [each for each in able if not _obstacle(each, max_size_mb, allowed)]
    if not fitting:
        seen = dict.fromkeys(f"{each.alias} ({_obstacle(each, max_size_mb, allowed)})" for each in able)
        raise ModelNotFoundError(
            f"No model for '{one_line(capability)}' keeps the limits: {one_line('; '.join(seen), 400)}.",
            "Allow more, or choose another task.",
        )
    aliases = _in_order(fitting, prefer)
    builds = [each for each in fitting if each.alias == aliases[0]]
    variant = min(builds, key=lambda each: _build_order(each, known))
    return Route(capability, variant, _why(variant, aliases, prefer), tuple(aliases[1:]))


class Router:
    """Sends each task to the model that `choose` names, and keeps the last one served.

    One model is in memory at a time: the next one that is needed takes its place. Leaving the context stops it.

    Args:
        runtime: where the models come from; stays open.
        limits: `max_size_mb`, `licences`, `prefer` and `devices` as of `choose`.
    """

    def __init__(self, runtime: Runtime, **limits: object) -> None:
        self._runtime = runtime
        self._limits = limits
        self._served: ServedModel | None = None
        self._client: ChatClient | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the model that is served; safe to call twice."""
        if self._client is not None:
            self._client.close()
        if self._served is not None:
            self._served.stop()
        self._client = self._served = None

    def ask(self, prompt: Prompt, *, max_tokens: int = 120) -> Routed:
        """Put a prompt to the model for its capability.

        A task that no model may do comes back with the reason as `problem`; so does one whose model could not be served
        or did not answer.
        """
        route = None
        try:
            route = choose(capability=prompt.capability, runtime=self._runtime, **self._limits)  # type: ignore[arg-type]
            client = self._client_of(route.variant)
        except WorkshopError as error:
            return Routed(prompt, route, None, str(error))
        request = Request(f"route/{prompt.id}", route.variant, prompt.id, prompt.text, round=1, max_tokens=max_tokens)
        completion = client.ask(request)
        return Routed(prompt, route, completion, completion.error)

    def _client_of(self, variant: ModelVariant) -> ChatClient:
        """The client of a served variant; serves it in place of another one."""
        serves_it = self._served is not None and self._served.variant.model_id == variant.model_id
        if self._client is None or not serves_it or (self._served and self._served.failure()):
            self.close()
            self._served = self._runtime.serve(variant)
            self._served.__enter__()
            self._client = ChatClient.to(self._served)
        return self._client


def _listed(cards: Mapping[str, ModelCard], devices: Sequence[str]) -> list[ModelVariant]:
    """What `models.json` lists, one CPU build per alias."""
    if "cpu" not in devices:
        return []
    return [
        ModelVariant(alias, alias, "cpu", size_mb=card.size_mb, licence=card.licence, capabilities=card.capabilities)
        for alias, card in cards.items()
        if card.listed
    ]


def _obstacle(variant: ModelVariant, max_size_mb: float | None, allowed: set[str]) -> str | None:
    """Why a variant keeps a limit not, or None."""
    if max_size_mb is not None and variant.size_mb is None:
        return "size unknown"
    if max_size_mb is not None and variant.size_mb is not None and variant.size_mb > max_size_mb:
        return f"{_MB.say(variant.size_mb)}, allowed {_MB.say(max_size_mb)}"
    if allowed and (variant.licence or "").strip().casefold() not in allowed:
        return f"licence {variant.licence or 'unknown'}"
    return None


def _in_order(variants: Iterable[ModelVariant], prefer: Sequence[str]) -> list[str]:
    """Aliases: preferred ones first, then the smallest, an unknown size last, then by name."""
    smallest: dict[str, float] = {}
    for each in variants:
        size = float("inf") if each.size_mb is None else each.size_mb
        smallest[each.alias] = min(size, smallest.get(each.alias, size))
    places = {alias: place for place, alias in reversed(list(enumerate(prefer)))}
    return sorted(smallest, key=lambda alias: (places.get(alias, len(prefer)), smallest[alias], alias))


def _build_order(variant: ModelVariant, cards: Mapping[str, ModelCard]) -> tuple[int, float, str]:
    card = cards.get(variant.alias)
    devices = card.device_preference if card else ()
    place = devices.index(variant.device) if variant.device in devices else len(devices)
    return place, float("inf") if variant.size_mb is None else variant.size_mb, variant.model_id


def _why(variant: ModelVariant, aliases: Sequence[str], prefer: Sequence[str]) -> str:
    others = len(aliases) - 1
    if variant.alias in prefer:
        return "It comes first in the order of preference given."
    if not others:
        return "It is the only one that carries the tag and keeps the limits."
    size = "of unknown size" if variant.size_mb is None else _MB.say(variant.size_mb)
    return f"It is the smallest ({size}) of {others + 1} that carry the tag and keep the limits."


def _unknown_capability(capability: str, offered: Iterable[ModelVariant]) -> ModelNotFoundError:
    tags = sorted({tag for each in offered for tag in each.capabilities})
    near = difflib.get_close_matches(capability, tags, n=1)
    what = f"No model here has the capability '{one_line(capability)}'."
    if not tags:
        return ModelNotFoundError(what, "No model here carries any tag: add it to data/models.json.")
    hint = f"Did you mean {near[0]}? " if near else ""
    return ModelNotFoundError(what, f"{hint}There are: {one_line(', '.join(tags), 400)}.")
