"""What one look at the catalog showed, as values. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workshop_lib import machine
from workshop_lib.records import ModelVariant

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workshop_lib.data import ModelCard


@dataclass(frozen=True, slots=True)
class Listing:
    """One look at the catalog and at the execution providers of this machine.

    Attributes:
        variants: what the catalog offers here.
        registered: providers that models can run on.
        discoverable: providers that the runtime knows for this machine, beside the CPU's.
        fault: what went wrong when they were registered, if anything.
    """

    variants: tuple[ModelVariant, ...]
    registered: tuple[str, ...]
    discoverable: tuple[str, ...]
    fault: str | None

    def can_run(self, variant: ModelVariant) -> bool:
        """Whether the provider that a variant was built for is registered."""
        return variant.execution_provider in {None, machine.CPU_PROVIDER, *self.registered}

    def why_not(self, variant: ModelVariant) -> tuple[str, str]:
        """Why a variant cannot run here, and what to do."""
        what = f"{variant.model_id} needs {variant.execution_provider}, which is not registered."
        reason = f"{self.why_no_gpu()} " if variant.device == "gpu" else ""
        return what, f"{reason}Choose a CPU variant. {machine.GPU_FIX}"

    def why_no_gpu(self) -> str:
        """Why no GPU can be used, as a sentence."""
        return machine.why_no_gpu(self.discoverable, self.fault)


def read_listing(event: Mapping[str, Any], cards: Mapping[str, ModelCard]) -> Listing:
    """Turn the `listing` event of a child into values; `cards` adds capabilities and declared watts."""
    return Listing(
        variants=tuple(_variant(model, cards) for model in event["models"]),
        registered=tuple(event["registered"]),
        discoverable=tuple(event["discoverable"]),
        fault=event["fault"],
    )


def _variant(model: Mapping[str, Any], cards: Mapping[str, ModelCard]) -> ModelVariant:
    card = cards.get(model["alias"])
    return ModelVariant(
        alias=model["alias"],
        model_id=model["model_id"],
        device=model["device"],
        execution_provider=model["execution_provider"],
        precision=_precision(model["quantization"], model["model_id"]),
        size_mb=float(model["size_mb"]) if model["size_mb"] else None,
        licence=model["licence"],
        context_tokens=model["context_tokens"],
        capabilities=card.capabilities if card else (),
        cached=model["cached"],
        watts=card.watts if card else None,
    )


def _precision(quantization: str | None, model_id: str) -> str | None:
    """`int4`, `fp16`, … from the catalog or, failing that, the id; None when neither says."""
    for text in (quantization or "", model_id):
        found = re.search(r"(?<![a-z0-9])(u?int|fp|bf)\d+", text.lower())
        if found:
            return found.group()
    return None
