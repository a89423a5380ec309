"""What runtimes and served models are, what the names that people type mean, and `open_runtime`.

| profile | models | needs |
|---|---|---|
| `practice` | the shipped ones, on the real runtime | nothing, not even a network |
| `foundry` | the public Foundry Local catalog | a network for each first download |
| `endpoint` | what an OpenAI-compatible server offers | its address; no SDK |

Registered models join the first two. Knows no measurement.
"""

from __future__ import annotations

import difflib
import os
import re
from typing import TYPE_CHECKING, Protocol, Self

from workshop_lib import data, settings
from workshop_lib.errors import ConfigurationError, ModelNotFoundError
from workshop_lib.machine import rank

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from workshop_lib.records import ModelVariant

    OnProgress = Callable[[float], None]

AUTO, ALL = "auto", "all"
"""Names that stand for the default candidates, and for every variant, of what is ready."""
_DEVICES = ("cpu", "gpu", "npu")


class ServedModel:
    """A model that answers; leaving its context stops what was started for it.

    This is one behind an endpoint, which was served before: nothing was started, and nothing is known of its process.

    Attributes:
        variant: what is served.
        base_url: its address, ending in `/v1`.
        api_key: the key that the server asks for; None = none.
        pid: the process that serves; on Windows it can be a child of the one that was started.
        load_s: seconds to load the model.
        resident_mb: resident memory of its process after load in 10^6 bytes.
        registered_providers: execution providers that it can really run on.
        threads: those that its folder sets; None = whoever serves it chooses.
    """

    variant: ModelVariant
    base_url: str
    api_key: str | None
    pid: int | None = None
    load_s: float | None = None
    resident_mb: float | None = None
    registered_providers: tuple[str, ...] = ()
    threads: int | None = None

    def __init__(self, variant: ModelVariant, base_url: str, api_key: str | None = None) -> None:
        self.variant, self.base_url, self.api_key = variant, base_url, api_key

    def peak_resident_mb(self) -> float | None:
        """Highest resident memory so far in 10^6 bytes; None when unknown."""
        return None

    def failure(self) -> str | None:
        """Why the model's process is gone, and what to do; None while it lives."""
        return None

    def stop(self) -> None:
        """Stop serving; safe to call twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Runtime(Protocol):
    """Where models come from; leaving its context stops every model still served. Methods raise `WorkshopError`.

    `profile` is `practice`, `foundry` or `endpoint`.
    """

    profile: str

    def list_models(self) -> list[ModelVariant]:
        """Everything the catalog offers here."""

    def find(self, names: Sequence[str], devices: Sequence[str] = ("cpu", "gpu")) -> list[ModelVariant]:
        """Variants for aliases, exact ids, `auto` or `all`; `ModelNotFoundError` names the nearest."""

    def to_fetch(self) -> list[ModelVariant]:
        """Default candidates that are not on this machine yet, and that `download` brings."""
        return []

    def download(self, variant: ModelVariant, *, on_progress: OnProgress | None = None) -> None:  # noqa: ARG002
        """Bring a variant into the cache, where need be; `on_progress` gets the percentage done, 0 to 100."""
        if on_progress is not None:
            on_progress(100.0)

    def serve(self, variant: ModelVariant) -> ServedModel:
        """Load and serve a variant, downloading it first if need be."""

    def absent_devices(self) -> dict[str, str]:
        """Devices that cannot be measured here → the reason and what to install; none where that is unknown."""
        return {}

    def left_out(self) -> list[tuple[ModelVariant, str]]:
        """Models that `auto` leaves out, each with the reason and what to do."""

    def close(self) -> None:
        """Stop every model still served."""
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_runtime(
    profile: str | None = None,
    *,
    endpoint: str | None = None,
    api_key: str | None = None,
    cache_dir: Path | None = None,
    models_file: Path | None = None,
    index_file: Path | None = None,
) -> Runtime:
    """Open the runtime of a profile; use it as a context manager.

    Args:
        profile: None = `endpoint` where an address is given, else `practice`.
        endpoint: address of an OpenAI-compatible server; None = `FOUNDRY_LOCAL_ENDPOINT`.
        api_key: key that the server asks for; None = `API_KEY`.
        cache_dir: where models are kept; None = `places.cache_root()`.
        models_file: `models.json`; None = the shipped one.
        index_file: index of the practice models; None = the shipped one.

    Raises:
        ConfigurationError: an unknown profile, or `endpoint` without a usable address.
        DataFileError: a data file is missing or malformed.
    """
    from workshop_lib.runtimes.endpoint import EndpointRuntime
    from workshop_lib.runtimes.foundry import FoundryRuntime

    address = endpoint or os.environ.get(settings.ENDPOINT_VARIABLE) or ""
    chosen = profile or ("endpoint" if address else "practice")
    if chosen not in settings.PROFILES:
        raise ConfigurationError(f"There is no profile '{chosen}'.", f"Use {', '.join(settings.PROFILES)}.")
    cards = data.read_models(models_file)
    if chosen == "endpoint":
        return EndpointRuntime(address, api_key=api_key or settings.read_key(os.environ), cards=cards)
    return FoundryRuntime(chosen, index_file=index_file, cache_dir=cache_dir, cards=cards)


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
    wanted = [variant for variant in offered if variant.device in {*devices, "unknown"}]
    for name in names:
        if name in (AUTO, ALL):
            ready = [variant for variant in wanted if variant.cached is not False]
            found = _one_per_build([variant for variant in ready if name == ALL or in_auto(variant)])
        elif not (found := [variant for variant in offered if variant.model_id == name]):
            found = _one_per_build([variant for variant in wanted if variant.alias == name])
            if name not in {variant.alias for variant in offered}:
                raise _unknown_name(name, offered, nearest or {})
        chosen |= {variant.model_id: variant for variant in found}
    return list(chosen.values())


def in_reading_order(variants: Iterable[ModelVariant], aliases: Sequence[str] = ()) -> list[ModelVariant]:
    """Sort by alias (`aliases` first, then by name), CPU before GPU, fewer bits before more, then the smaller."""

    def place(variant: ModelVariant) -> tuple[object, ...]:
        alias = aliases.index(variant.alias) if variant.alias in aliases else len(aliases)
        device = _DEVICES.index(variant.device) if variant.device in _DEVICES else len(_DEVICES)
        bits = int((re.findall(r"\d+", variant.precision or "") or ["999"])[0])
        rest = (rank(variant.execution_provider), variant.size_mb or 0, variant.model_id)
        return (alias, variant.alias, device, bits, *rest)

    return sorted(variants, key=place)


def _one_per_build(variants: Sequence[ModelVariant]) -> list[ModelVariant]:
    """Of variants that share alias, device and precision, keep that with the best provider."""
    best: dict[tuple[str, str, str | None], ModelVariant] = {}
    for variant in sorted(variants, key=lambda variant: rank(variant.execution_provider)):
        best.setdefault((variant.alias, variant.device, variant.precision), variant)
    return [variant for variant in variants if variant in best.values()]


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
        or difflib.get_close_matches(name, aliases)
        or difflib.get_close_matches(name, ids)
    )
    fix = f"Did you mean {' or '.join(close)}?" if close else f"There are: {', '.join(aliases)}."
    return ModelNotFoundError(f"No model is called '{name}'.", fix if offered else "No model is offered here at all.")
