"""Models of any OpenAI-compatible server, seen as a runtime. Imports no SDK and starts nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from workshop_lib.errors import ConfigurationError, ModelNotFoundError
from workshop_lib.instrument import client
from workshop_lib.records import ModelVariant
from workshop_lib.runtimes import selection

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from workshop_lib.catalog import ModelCard

ENDPOINT_VARIABLE = "FOUNDRY_LOCAL_ENDPOINT"
LIST_TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True)
class ServedEndpoint:
    """A model behind an endpoint: it was served before, and nothing is known of its process."""

    variant: ModelVariant
    base_url: str
    api_key: str | None = field(default=None, repr=False)
    load_s: None = None
    pid: None = None
    resident_mb: None = None
    registered_providers: tuple[str, ...] = ()

    def peak_resident_mb(self) -> None:
        """Not ours to see."""

    def failure(self) -> None:
        """Not ours to see: a request that fails says so itself."""

    def stop(self) -> None:
        """Nothing was started."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing was started."""


class EndpointRuntime:
    """Models of any OpenAI-compatible server.

    Args:
        address: e.g. `http://127.0.0.1:5273/v1`; `/v1` is added where the address has no path.
        api_key: key that the server asks for; None = none.
        cards: `models.json`, for capabilities.

    Raises:
        ConfigurationError: the address cannot be one.
    """

    profile = "endpoint"

    def __init__(
        self,
        address: str,
        *,
        api_key: str | None = None,
        cards: Mapping[str, ModelCard] | None = None,
    ) -> None:
        self.base_url = _base_url(address)
        self._api_key = api_key
        self._cards = cards or {}

    def list_models(self) -> list[ModelVariant]:
        """What `/v1/models` names; the alias is the id itself.

        Raises:
            EndpointError: no server, an HTTP error, or an answer that is no list of models.
        """
        with client.ChatClient(self.base_url, api_key=self._api_key, timeout_s=LIST_TIMEOUT_S) as asked:
            return [self._variant(model_id) for model_id in asked.list_models()]

    def find(self, names: Sequence[str], devices: Sequence[str] = ("cpu", "gpu")) -> list[ModelVariant]:
        """Variants for ids or `auto`; a device counts only where the id names one.

        `auto` means all that the server has loaded. Foundry Local lists its whole catalog and refuses what it has not
        loaded; of a server that does not say what is loaded, all that it lists.

        Raises:
            EndpointError: as `list_models`.
            ModelNotFoundError: no such model, and the nearest that exist; or `auto`, and none is loaded.
        """
        nearest = {alias: card.nearest for alias, card in self._cards.items()}
        offered = self.list_models()
        loaded = self._loaded() if selection.AUTO in names else None
        if loaded is not None and not any(variant.model_id in loaded for variant in offered):
            raise ModelNotFoundError(
                f"The server lists {len(offered)} models and has loaded none of them.",
                "Load one there, with `foundry run NAME` (CLI 0.10 and later) or `foundry model run NAME` (until 0.9).",
            )
        return selection.select_variants(
            offered, names, devices, in_auto=lambda each: loaded is None or each.model_id in loaded, nearest=nearest
        )

    def _loaded(self) -> tuple[str, ...] | None:
        with client.ChatClient(self.base_url, api_key=self._api_key, timeout_s=LIST_TIMEOUT_S) as asked:
            return asked.list_loaded()

    def download(
        self,
        variant: ModelVariant,  # noqa: ARG002 - part of the interface
        *,
        on_progress: Callable[[float], None] | None = None,
    ) -> None:
        """The server has its models: nothing to do."""
        if on_progress is not None:
            on_progress(100.0)

    def serve(self, variant: ModelVariant) -> ServedEndpoint:
        """The server serves already: only says where."""
        return ServedEndpoint(variant, self.base_url, self._api_key)

    def absent_devices(self) -> dict[str, str]:
        """Unknown for another machine, so none."""
        return {}

    def left_out(self) -> list[tuple[ModelVariant, str]]:
        """Nothing is registered on another machine by us, so none."""
        return []

    def close(self) -> None:
        """Nothing was started."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing was started."""

    def _variant(self, model_id: str) -> ModelVariant:
        parts = set(model_id.lower().replace(":", "-").split("-"))
        device = next((device for device in ("cpu", "gpu", "npu") if device in parts), "unknown")
        card = self._cards.get(model_id)
        return ModelVariant(
            alias=model_id,
            model_id=model_id,
            device=device,
            capabilities=card.capabilities if card else (),
            watts=card.watts if card else None,
        )


def _base_url(address: str) -> str:
    if not address:
        raise ConfigurationError(
            "The profile 'endpoint' needs the address of a server.",
            f"Set {ENDPOINT_VARIABLE}, e.g. to http://127.0.0.1:5273/v1.",
        )
    bare = client.checked_base_url(address)
    return bare if urlsplit(bare).path else f"{bare}/v1"
