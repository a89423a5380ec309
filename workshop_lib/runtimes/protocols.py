"""What every runtime and every served model can do, whoever they are. Knows none of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from workshop_lib.records import ModelVariant


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
    """Where models come from; a context manager, leaving it stops every model still served.

    Attributes:
        profile: `practice`, `foundry` or `endpoint`.
    """

    profile: str

    def list_models(self) -> list[ModelVariant]:
        """Everything the catalog offers here."""

    def find(self, names: Sequence[str], devices: Sequence[str] = ("cpu", "gpu")) -> list[ModelVariant]:
        """Variants for aliases, exact ids or `auto`; `ModelNotFoundError` names the nearest."""

    def to_fetch(self) -> list[ModelVariant]:
        """Default candidates that are not on this machine yet, and that `download` brings."""
        return []

    def download(self, variant: ModelVariant, *, on_progress: Callable[[float], None] | None = None) -> None:
        """Bring a variant into the cache; `on_progress` gets the percentage done, 0 to 100."""

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
