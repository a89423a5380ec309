"""A runtime whose models are the behaviours of the fake server, for tests of what happens around the requests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Self

from tests.fault_server import FaultServer
from workshop_lib.errors import ModelNotFoundError, ModelServerError
from workshop_lib.records import ModelVariant
from workshop_lib.runtimes.profiles import Runtime, ServedModel


def variant(model: str, device: str = "unknown") -> ModelVariant:
    """A behaviour as a model."""
    return ModelVariant(alias=model, model_id=model, device=device)


class Served(ServedModel):
    """A behaviour that is served; dies on demand."""

    load_s = 0.25
    resident_mb = 10.0

    def __init__(self, runtime: FaultRuntime, served: ModelVariant) -> None:
        super().__init__(served, runtime.server.base_url)
        self.runtime = runtime

    def peak_resident_mb(self) -> float | None:
        return 12.0

    def failure(self) -> str | None:
        return self.runtime.dead.get(self.variant.model_id)

    def stop(self) -> None:
        self.runtime.serving.remove(self.variant.model_id)

    def __enter__(self) -> Self:
        self.runtime.serving.append(self.variant.model_id)
        return self


class FaultRuntime(Runtime):
    """Its models are the behaviours of one server."""

    profile = "endpoint"

    def __init__(self, server: FaultServer) -> None:
        self.server = server
        self.serving: list[str] = []
        self.dead: dict[str, str] = {}
        self.unservable: set[str] = set()
        self.served_in_order: list[str] = []

    def list_models(self) -> list[ModelVariant]:
        return [
            *map(variant, self.server.behaviours),
            variant("fast", "gpu"),
            replace(variant("fast", "gpu"), model_id="fast-2"),
        ]

    def find(self, names: Sequence[str], devices: Sequence[str] = ("cpu", "gpu")) -> list[ModelVariant]:
        if names[0] not in self.server.behaviours:
            raise ModelNotFoundError(f"No model is called '{names[0]}'.", "Did you mean fast?")
        return [variant(name) for name in names]

    def download(self, variant: ModelVariant, *, on_progress: Callable[[float], None] | None = None) -> None:
        """Nothing to download."""

    def serve(self, variant: ModelVariant) -> Served:
        self.served_in_order.append(variant.model_id)
        if variant.model_id in self.unservable:
            raise ModelServerError(f"{variant.model_id} could not be loaded.", "Choose a smaller one.")
        return Served(self, variant)

    def absent_devices(self) -> dict[str, str]:
        return {"gpu": "No GPU provider is registered."}

    def left_out(self) -> list[tuple[ModelVariant, str]]:
        return []
