"""Names that people type → the variants to measure. Pure: knows no runtime and no files."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

from workshop_lib.errors import ModelNotFoundError
from workshop_lib.machine import rank

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from workshop_lib.records import ModelVariant

AUTO = "auto"
_DEVICE_ORDER = ("cpu", "gpu", "npu")


def select_variants(
    offered: Sequence[ModelVariant],
    names: Iterable[str],
    devices: Collection[str],
    *,
    in_auto: Callable[[ModelVariant], bool],
    nearest: Mapping[str, Sequence[str]] | None = None,
) -> list[ModelVariant]:
    """Choose variants in the order of the names, each once.

    Args:
        offered: variants that can run here.
        names: aliases, exact ids, or `auto`. An alias means one variant per device and precision;
            an exact id is taken whatever its device.
        devices: devices wanted; a variant of an unknown device passes.
        in_auto: whether `auto` takes a variant.
        nearest: aliases to offer for names that are known not to exist.

    Raises:
        ModelNotFoundError: neither an alias nor an id; names the nearest that are.
    """
    chosen: dict[str, ModelVariant] = {}
    on_devices = [variant for variant in offered if variant.device in {*devices, "unknown"}]
    for name in names:
        exact = [variant for variant in offered if variant.model_id == name]
        if name == AUTO:
            found = one_per_build([variant for variant in on_devices if in_auto(variant)])
        elif exact:
            found = exact
        elif any(variant.alias == name for variant in offered):
            found = one_per_build([variant for variant in on_devices if variant.alias == name])
        else:
            raise unknown_name(name, offered, nearest or {})
        chosen.update((variant.model_id, variant) for variant in found)
    return list(chosen.values())


def one_per_build(variants: Iterable[ModelVariant]) -> list[ModelVariant]:
    """Of variants that share alias, device and precision, keep that with the best provider."""
    best: dict[tuple[str, str, str | None], ModelVariant] = {}
    for variant in variants:
        key = (variant.alias, variant.device, variant.precision)
        if key not in best or rank(variant.execution_provider) < rank(best[key].execution_provider):
            best[key] = variant
    return list(best.values())


def in_reading_order(variants: Iterable[ModelVariant], aliases: Sequence[str] = ()) -> tuple[ModelVariant, ...]:
    """Sort by alias (`aliases` first, then by name), CPU before GPU, fewer bits before more."""
    places = {alias: place for place, alias in enumerate(aliases)}
    ordered = sorted(
        variants,
        key=lambda variant: (
            places.get(variant.alias, len(places)),
            variant.alias,
            _place(variant.device, _DEVICE_ORDER),
            _bits(variant.precision),
            rank(variant.execution_provider),
            variant.model_id,
        ),
    )
    return tuple(ordered)


def unknown_name(
    name: str, offered: Sequence[ModelVariant], nearest: Mapping[str, Sequence[str]]
) -> ModelNotFoundError:
    """The error for a name that is neither alias nor id, naming up to three that are close."""
    aliases = list(dict.fromkeys(variant.alias for variant in offered))
    ids = [variant.model_id for variant in offered]
    close = (
        [alias for alias in nearest.get(name, ()) if alias in aliases]
        or [alias for alias in aliases if alias.startswith(name)][:3]
        or [model_id for model_id in ids if model_id.startswith(name)][:3]
        or difflib.get_close_matches(name, aliases, n=3)
        or difflib.get_close_matches(name, ids, n=3)
    )
    if close:
        fix = f"Did you mean {' or '.join(close)}?"
    elif aliases:
        fix = f"There are: {', '.join(aliases)}."
    else:
        fix = "No model is offered here at all."
    return ModelNotFoundError(f"No model is called '{name}'.", fix)


def _place(value: str, order: Sequence[str]) -> int:
    return order.index(value) if value in order else len(order)


def _bits(precision: str | None) -> int:
    digits = re.search(r"\d+", precision or "")
    return int(digits.group()) if digits else 999
