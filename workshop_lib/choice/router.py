"""Which model does a task: by the capability tags of `models.json`, within limits, always in the same order.

Of the models that carry the tag and keep the limits the smallest is taken, because it costs the least memory and time;
of its builds the one on the first device of its `device_preference`, then the smallest. An unknown size or licence
keeps no limit.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from workshop_lib import data
from workshop_lib.choice.decide import CRITERIA
from workshop_lib.client import ChatClient
from workshop_lib.errors import ModelNotFoundError, WorkshopError
from workshop_lib.records import ModelVariant, Prompt, Request
from workshop_lib.runtimes.profiles import ALL
from workshop_lib.show.table import Table
from workshop_lib.show.text import one_line

if TYPE_CHECKING:
    from workshop_lib.runtimes.profiles import Runtime


def choose(
    runtime: Runtime, capability: str, *, max_size_mb: float | None = None, licences: Iterable[str] = ()
) -> tuple[ModelVariant, str]:
    """Choose the model for a kind of task from what is ready on a runtime, and say why.

    Args:
        runtime: where the model is to be ready.
        capability: a tag of `models.json`, e.g. `action-items`.
        max_size_mb: largest size on disk in 10^6 bytes; None = any.
        licences: licences that may be used; none = any.

    Raises `ModelNotFoundError`: no model has the capability (names the nearest tag), or none of those keeps the limits.
    """
    offered = runtime.find([ALL], ("cpu", "gpu", "npu"))
    able = [each for each in offered if capability in each.capabilities]
    if not able:
        tags = sorted({tag for each in offered for tag in each.capabilities})
        near = "".join(f"Did you mean {tag}? " for tag in difflib.get_close_matches(capability, tags, n=1))
        fix = f"{near}There are: {one_line(', '.join(tags), 400)}."
        what = f"No model here has the capability '{one_line(capability)}'."
        raise ModelNotFoundError(what, fix if tags else "Download a model, or add tags to data/models.json.")
    allowed = {name.strip().casefold() for name in licences if name.strip()}
    small = [each for each in able if _size(each) <= (math.inf if max_size_mb is None else max_size_mb)]
    fitting = [each for each in small if not allowed or (each.licence or "").casefold() in allowed]
    if not fitting:
        seen = ", ".join(dict.fromkeys(f"{each.alias} ({_said(each)}, {each.licence or 'unknown'})" for each in able))
        what = f"No model for '{one_line(capability)}' keeps the limits on size and licence: {one_line(seen, 400)}."
        raise ModelNotFoundError(what, "Allow more, or choose another task.")
    cards, smallest = data.read_models(), dict[str, float]()
    for each in fitting:
        smallest[each.alias] = min(_size(each), smallest.get(each.alias, math.inf))

    def order(each: ModelVariant) -> tuple[Any, ...]:
        devices = cards[each.alias].device_preference if each.alias in cards else ()
        device = devices.index(each.device) if each.device in devices else len(devices)
        return smallest[each.alias], each.alias, device, _size(each), each.model_id

    first = min(fitting, key=order)
    count = f"{len(smallest)} models that carry" if len(smallest) > 1 else "1 model that carries"
    return first, f"It is the smallest ({_said(first)}) of {count} the tag within the limits."


def _size(variant: ModelVariant) -> float:
    return math.inf if variant.size_mb is None else variant.size_mb


def _said(variant: ModelVariant) -> str:
    return "size unknown" if variant.size_mb is None else CRITERIA["footprint"].say(variant.size_mb)


def ask(runtime: Runtime, prompts: Iterable[Prompt], **limits: Any) -> Table:
    """Send each prompt to the model that `choose` names for its capability, loaded for it alone.

    One line per prompt: what was asked, the kind of work, which model was chosen and why, and what it answered. What
    goes wrong stands in its line, and the others go on.
    """
    lines = []
    for prompt in prompts:
        model, why, answer = "none", "", ""
        try:
            variant, why = choose(runtime, prompt.capability, **limits)
            model = variant.model_id
            with runtime.serve(variant) as served, ChatClient.to(served) as client:
                asked = (f"route/{prompt.id}", variant, prompt.id, prompt.text)
                done = client.ask(Request(*asked, round=1, max_tokens=120))
            answer = (done.text or "(no text)") if done.ok else f"failed: {done.error}"
        except WorkshopError as error:
            why, answer = (why, f"failed: {error}") if why else (str(error), "")
        lines.append((prompt.text, prompt.capability, model, why, answer))
    return Table.of(lines, "task", "capability", "model", "why", "answer")
