"""Names that people type → the variants to measure, and the order to show variants in. Pure."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

from workshop_lib.errors import ModelNotFoundError
from workshop_lib.machine import rank

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from workshop_lib.records import ModelVariant

AUTO, ALL = "auto", "all"
"""Names that stand for the default candidates, and for every variant, of what is ready."""
_DEVICES = ("cpu", "gpu", "npu")


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
        names: aliases, exact ids, `auto` or `all`. An alias means one variant per device and precision, that of the
            best provider; an exact id is taken whatever its device.
        devices: devices wanted; a variant of an unknown device passes.
        in_auto: whether `auto` takes a variant that is ready.
        nearest: aliases to offer for names that are known not to exist.

    Raises:
        ModelNotFoundError: neither an alias nor an id; names the nearest that are.
    """
    chosen: dict[str, ModelVariant] = {}
    on_devices = [variant for variant in offered if variant.device in {*devices, "unknown"}]
    for name in names:
        exact = [variant for variant in offered if variant.model_id == name]
        if name in (AUTO, ALL):
            ready = [variant for variant in on_devices if variant.cached is not False]
            found = _one_per_build([variant for variant in ready if name == ALL or in_auto(variant)])
        elif exact:
            found = exact
        elif any(variant.alias == name for variant in offered):
            found = _one_per_build([variant for variant in on_devices if variant.alias == name])
        else:
            raise _unknown_name(name, offered, nearest or {})
        chosen.update((variant.model_id, variant) for variant in found)
    return list(chosen.values())


def in_reading_order(variants: Iterable[ModelVariant], aliases: Sequence[str] = ()) -> list[ModelVariant]:
    """Sort by alias (`aliases` first, then by name), CPU before GPU, fewer bits before more, then the smaller."""

    def place(variant: ModelVariant) -> tuple[object, ...]:
        alias = aliases.index(variant.alias) if variant.alias in aliases else len(aliases)
        device = _DEVICES.index(variant.device) if variant.device in _DEVICES else len(_DEVICES)
        bits = int((re.findall(r"\d+", variant.precision or "") or ["999"])[0])
        return (
            alias,
            variant.alias,
            device,
            bits,
            rank(variant.execution_provider),
            variant.size_mb or 0,
            variant.model_id,
        )

    return sorted(variants, key=place)


def _one_per_build(variants: Iterable[ModelVariant]) -> list[ModelVariant]:
    """Of variants that share alias, device and precision, keep that with the best provider."""
    best: dict[tuple[str, str, str | None], ModelVariant] = {}
    for variant in variants:
        key = (variant.alias, variant.device, variant.precision)
        if key not in best or rank(variant.execution_provider) < rank(best[key].execution_provider):
            best[key] = variant
    return list(best.values())


def _unknown_name(
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
    fix = f"Did you mean {' or '.join(close)}?" if close else f"There are: {', '.join(aliases)}."
    if not offered:
        fix = "No model is offered here at all."
    return ModelNotFoundError(f"No model is called '{name}'.", fix)
