"""What every runtime and every served model can do, whoever they are. Knows none of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from workshop_lib.records import ModelVariant


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

    def to_fetch(self) -> list[ModelVariant]:
        """Default candidates that are not on this machine yet, and that `download` brings."""

    def download(self, variant: ModelVariant, *, on_progress: Callable[[float], None] | None = None) -> None:
        """Bring a variant into the cache; `on_progress` gets the percentage done, 0 to 100."""

    def serve(self, variant: ModelVariant) -> ServedModel:
        """Load and serve a variant, downloading it first if need be."""

    def absent_devices(self) -> dict[str, str]:
        """Devices that cannot be measured here → the reason and what to install."""

    def left_out(self) -> list[tuple[ModelVariant, str]]:
        """Registered models that `auto` leaves out, each with the reason and what to do."""

    def close(self) -> None:
        """Stop every model still served."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...
