"""What a loopback catalog can offer: the shipped builds and the registered folders, with the place of their files.

Knows the form in which the public catalog writes a model. Knows no server and no runtime.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workshop_lib.hosting import model_cache
from workshop_lib.records import ModelVariant
from workshop_lib.registration import registered_models
from workshop_lib.registration.model_folders import examine, why_unusable
from workshop_lib.show.text import without_home

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from workshop_lib.catalog import PracticeIndex
    from workshop_lib.registration.registered_models import RegisteredModel

REGISTERED_PUBLISHER = "registered"


@dataclass(frozen=True, slots=True)
class Offer:
    """One build that the runtime can be offered.

    Attributes:
        variant: what people see of it.
        publisher: the folder of the runtime's cache that it goes into.
        display_name: its name for people.
        max_output_tokens: longest answer.
        source: the folder of its files.
        files: relative name → proof of the content: a SHA-256, or a stamp (see `model_cache`).
        size_bytes: all files together.
    """

    variant: ModelVariant
    publisher: str
    display_name: str
    max_output_tokens: int
    source: Path
    files: Mapping[str, str]
    size_bytes: int

    @property
    def model_id(self) -> str:
        """The exact id: `name:version`."""
        return self.variant.model_id

    @property
    def name(self) -> str:
        """The id without its version."""
        return self.model_id.rpartition(":")[0]

    @property
    def version(self) -> str:
        """What follows the name in the id."""
        return self.model_id.rpartition(":")[2]

    @property
    def size_mb(self) -> float:
        """Size on disk in 10^6 bytes."""
        return self.size_bytes / 1e6


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A registered folder that cannot be offered now, and why."""

    model: RegisteredModel
    reason: str

    @property
    def fix(self) -> str:
        """What to do."""
        command = f"python3 workshop.py unregister {self.model.alias}"
        return f"Bring the folder back as it was, or take it off the list: {command}."


def shipped(index: PracticeIndex, folder: Path) -> tuple[Offer, ...]:
    """The builds of an index whose folders lie in `folder`."""
    return tuple(
        Offer(
            variant=ModelVariant(
                alias=model.alias,
                model_id=variant.model_id,
                device=variant.device,
                execution_provider=variant.execution_provider,
                precision=variant.precision,
                size_mb=variant.size_mb,
                licence=index.licence,
                context_tokens=model.context_tokens,
            ),
            publisher=index.publisher,
            display_name=model.display_name,
            max_output_tokens=model.max_output_tokens,
            source=folder / variant.folder,
            files=variant.files,
            size_bytes=variant.size_bytes,
        )
        for model in index.models
        for variant in model.variants
    )


def registered(cache_dir: Path | None = None) -> tuple[tuple[Offer, ...], tuple[LeftOut, ...]]:
    """The registered folders that can be offered now, and those that cannot, with the reason.

    Each folder is looked at again, since it may have changed or gone since it was registered.

    Raises:
        DataFileError: the file of registered models is malformed.
        ConfigurationError: another program holds that file.
    """
    looked_at = list(map(_registered, _folders(cache_dir)))
    return (
        tuple(each for each in looked_at if isinstance(each, Offer)),
        tuple(each for each in looked_at if isinstance(each, LeftOut)),
    )


def entry(offer: Offer) -> dict[str, Any]:
    """Write an offer as the public catalog writes its models."""
    asset = f"azureml://registries/{offer.publisher}/models/{offer.name}/versions/{offer.version}"
    variant = offer.variant
    return {
        "assetId": asset,
        "name": offer.name,
        "alias": variant.alias,
        "displayName": offer.display_name,
        "version": offer.version,
        "publisher": offer.publisher,
        "license": variant.licence or "unknown",
        "inferenceTasks": ["chat-completion"],
        "deploymentOptions": ["Foundry Local on Devices"],
        "modelLimits": {
            "textLimits": {
                "inputContextWindow": variant.context_tokens,
                "maxOutputTokens": offer.max_output_tokens,
            },
            "supportedInputModalities": ["text"],
            "supportedOutputModalities": ["text"],
        },
        "variantInformation": {
            "parents": [{"assetId": asset}],
            "variantMetadata": {
                "modelType": "ONNX",
                "quantization": [variant.precision] if variant.precision else [],
                "device": variant.device,
                "executionProvider": variant.execution_provider,
                "fileSizeBytes": offer.size_bytes,
            },
        },
    }


def _folders(cache_dir: Path | None) -> Iterator[RegisteredModel]:
    return (model for model in registered_models.read(cache_dir) if model.kind == "folder")


def _registered(model: RegisteredModel) -> Offer | LeftOut:
    report = examine(model.place)
    if report.failed:
        why = without_home(why_unusable(report))  # it goes into reports, which are handed on
        return LeftOut(model, f"The registered folder '{model.alias}' cannot be served: {why}.")
    if (report.device, report.execution_provider) != (model.device, model.execution_provider):
        reason = f"The registered folder '{model.alias}' was built for {model.execution_provider}"
        return LeftOut(model, f"{reason}, and is now for {report.execution_provider}.")
    try:
        stamps = {name: model_cache.stamp(model.place / name) for name in report.files}
    except OSError as error:
        return LeftOut(model, f"The registered folder '{model.alias}' cannot be read ({error.strerror}).")
    size_bytes = sum(report.files.values())
    return Offer(
        variant=ModelVariant(
            alias=model.alias,
            model_id=model.model_id,
            device=model.device,
            execution_provider=model.execution_provider,
            precision=report.precision,
            size_mb=size_bytes / 1e6,
            licence=model.licence,
            context_tokens=report.context_tokens,
            capabilities=model.capabilities,
        ),
        publisher=REGISTERED_PUBLISHER,
        display_name=model.alias,
        max_output_tokens=report.context_tokens or 1,
        source=model.place,
        files=stamps,
        size_bytes=size_bytes,
    )
