"""`open_runtime`: one interface to the practice models, to the public catalog and to any endpoint.

| profile | models | needs |
|---|---|---|
| `practice` | the shipped ones, on the real runtime | nothing, not even a network |
| `foundry` | the public Foundry Local catalog | a network for each first download |
| `endpoint` | what an OpenAI-compatible server offers | its address; no SDK |

Knows no measurement.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal, Protocol, Self, get_args

from workshop_lib import catalog
from workshop_lib.endpoint import ENDPOINT_VARIABLE, EndpointRuntime
from workshop_lib.errors import ConfigurationError
from workshop_lib.foundry import FoundryRuntime
from workshop_lib.practice import PracticeRuntime

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from workshop_lib.records import ModelVariant

Profile = Literal["practice", "foundry", "endpoint"]


class ServedModel(Protocol):
    """A model that answers at `base_url`; leaving its context stops what was started for it."""

    @property
    def variant(self) -> ModelVariant:
        """What is served."""

    @property
    def base_url(self) -> str:
        """Its address, ending in `/v1`."""

    @property
    def api_key(self) -> str | None:
        """The key that the server asks for; None = none."""

    @property
    def pid(self) -> int | None:
        """The process that serves; None for an endpoint."""

    @property
    def load_s(self) -> float | None:
        """Seconds to load the model; None for an endpoint."""

    @property
    def resident_mb(self) -> float | None:
        """Resident memory of its process after load in 10^6 bytes; None for an endpoint."""

    @property
    def registered_providers(self) -> tuple[str, ...]:
        """Execution providers that it can really run on; empty for an endpoint."""

    def peak_resident_mb(self) -> float | None:
        """Highest resident memory so far in 10^6 bytes; None when unknown."""

    def failure(self) -> str | None:
        """Why the model's process is gone; None while it lives."""

    def stop(self) -> None:
        """Stop serving; safe to call twice."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class Runtime(Protocol):
    """Where models come from; a context manager, leaving it stops every model still served."""

    @property
    def profile(self) -> str:
        """`practice`, `foundry` or `endpoint`."""

    def list_models(self) -> list[ModelVariant]:
        """Everything the catalog offers here."""

    def find(self, names: Sequence[str], devices: Sequence[str] = ("cpu", "gpu")) -> list[ModelVariant]:
        """Variants for aliases, exact ids or `auto`; `ModelNotFoundError` names the nearest."""

    def download(self, variant: ModelVariant, *, on_progress: Callable[[float], None] | None = None) -> None:
        """Bring a variant into the cache; `on_progress` gets the percentage done, 0 to 100."""

    def serve(self, variant: ModelVariant) -> ServedModel:
        """Load and serve a variant, downloading it first if need be."""

    def absent_devices(self) -> dict[str, str]:
        """Devices that cannot be measured here → the reason and what to install."""

    def close(self) -> None:
        """Stop every model still served."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


def open_runtime(
    profile: str | None = None,
    *,
    endpoint: str | None = None,
    api_key: str | None = None,
    cache_dir: Path | None = None,
    port: int = 0,
    models_file: Path | None = None,
    index_file: Path | None = None,
) -> Runtime:
    """Open the runtime of a profile; use it as a context manager.

    Args:
        profile: None = `endpoint` where an address is given, else `practice`.
        endpoint: address of an OpenAI-compatible server; None = `FOUNDRY_LOCAL_ENDPOINT`.
        api_key: key that the server asks for; None = `API_KEY`.
        cache_dir: where models are kept; None = `model_cache.cache_root()`.
        port: fixed port of the web service; 0 = a free one.
        models_file: `models.json`; None = the shipped one.
        index_file: index of the practice models; None = the shipped one.

    Raises:
        ConfigurationError: an unknown profile, or `endpoint` without a usable address.
        DataFileError: a data file is missing or malformed.
    """
    address = endpoint or os.environ.get(ENDPOINT_VARIABLE) or ""
    chosen = profile or ("endpoint" if address else "practice")
    if chosen not in get_args(Profile):
        raise ConfigurationError(f"There is no profile '{chosen}'.", f"Use {', '.join(get_args(Profile))}.")
    cards = catalog.read_models(models_file)
    if chosen == "endpoint":
        return EndpointRuntime(address, api_key=api_key or os.environ.get("API_KEY"), cards=cards)
    if chosen == "foundry":
        return FoundryRuntime(cache_dir=cache_dir, port=port, cards=cards)
    return PracticeRuntime(index_file=index_file, cache_dir=cache_dir, port=port, cards=cards)
