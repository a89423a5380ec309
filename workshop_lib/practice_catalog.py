"""A catalog on the loopback that offers the shipped practice models to the runtime.

The runtime asks a public catalog which models exist, by one POST. `PracticeCatalog` answers it from
`data/practice_models/index.json`, so that the runtime's own listing, cache, load and web service
work offline.
Knows no processes.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
from typing import TYPE_CHECKING, Any

from workshop_lib import catalog
from workshop_lib.errors import ModelNotFoundError
from workshop_lib.model_cache import OnBytes, install_variant
from workshop_lib.records import ModelVariant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    import uvicorn
    from starlette.requests import Request
    from starlette.responses import Response

CATALOG_PATH = "/asset-gallery/v1.0/models"
_FILTERS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "name": lambda entry: str(entry["name"]),
    "properties/variantInfo/variantMetadata/device": lambda entry: str(_metadata(entry)["device"]),
    "properties/variantInfo/variantMetadata/executionProvider": (
        lambda entry: str(_metadata(entry)["executionProvider"])
    ),
}


def catalog_entries(index: catalog.PracticeIndex) -> list[dict[str, Any]]:
    """Write the index as the public catalog writes its models, one entry per variant."""
    return [_entry(index, model, variant) for model in index.models for variant in model.variants]


def matching(entries: Iterable[Mapping[str, Any]], question: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Entries that pass the filters of a catalog question.

    Only device, execution provider and name are looked at: by the first two the runtime asks for
    what can run here, and a catalog that ignored them would offer GPU builds to a machine without
    GPU. Every other filter (kind, labels, archived, …) holds for all shipped models.
    """
    kept = list(entries)
    for rule in question.get("filters") or []:
        read = _FILTERS.get(rule.get("field", ""))
        if read is not None:
            wanted = {str(value).lower() for value in rule.get("values") or []}
            kept = [entry for entry in kept if read(entry).lower() in wanted]
    return kept


class PracticeCatalog:
    """A catalog of the shipped models on a free loopback port, for as long as it is not closed.

    Args:
        index_file: `index.json` beside the model folders; None = the shipped one.

    Raises:
        DataFileError: the index is missing or malformed.
    """

    def __init__(self, index_file: Path | None = None) -> None:
        self.index_file = index_file or catalog.PRACTICE_INDEX_FILE
        self.index = catalog.read_practice_index(self.index_file)
        self._entries = catalog_entries(self.index)
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._url = ""

    @property
    def url(self) -> str:
        """Where the runtime asks; the server starts with the first reading."""
        if self._server is None:
            self._start()
        return self._url

    def variant(self, model_id: str) -> catalog.PracticeVariant:
        """The shipped variant of that exact id. Raises `ModelNotFoundError`."""
        for model in self.index.models:
            for variant in model.variants:
                if variant.model_id == model_id:
                    return variant
        raise ModelNotFoundError(f"No practice model is called '{model_id}'.", "List the models for their ids.")

    def variants(self) -> list[ModelVariant]:
        """Every shipped variant, whether or not it can run here."""
        return [
            ModelVariant(
                alias=model.alias,
                model_id=variant.model_id,
                device=variant.device,
                execution_provider=variant.execution_provider,
                precision=variant.precision,
                size_mb=variant.size_mb,
                licence=self.index.licence,
                context_tokens=model.context_tokens,
            )
            for model in self.index.models
            for variant in model.variants
        ]

    def install(self, model_id: str, models_dir: Path, *, on_bytes: OnBytes | None = None) -> Path:
        """Put one shipped variant into the runtime's cache; see `model_cache.install_variant`."""
        source = self.index_file.parent / self.variant(model_id).folder
        publisher = self.index.publisher
        return install_variant(self.variant(model_id), source, models_dir / publisher, on_bytes=on_bytes)

    def close(self) -> None:
        """Stop answering; safe to call twice."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(timeout=5)
        self._server = self._thread = None

    def _start(self) -> None:
        """Serve in a daemon thread, on a port that is bound before anyone else can take it."""
        import uvicorn
        from starlette.applications import Starlette
        from starlette.routing import Route

        listener = socket.create_server(("127.0.0.1", 0))
        app = Starlette(routes=[Route(CATALOG_PATH, self._answer, methods=["POST"])])
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            http="h11",
            loop="asyncio",
            timeout_graceful_shutdown=1,
        )
        logging.getLogger("uvicorn").setLevel(logging.WARNING)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([listener],), name="practice-catalog", daemon=True
        )
        self._thread.start()
        self._url = f"http://127.0.0.1:{listener.getsockname()[1]}{CATALOG_PATH}"

    async def _answer(self, request: Request) -> Response:
        from starlette.responses import JSONResponse

        try:
            question = json.loads(await request.body())
            found = matching(self._entries, question)
        except (ValueError, AttributeError, TypeError):
            return JSONResponse({"error": "not a catalog question"}, status_code=400)
        return JSONResponse({"totalCount": len(found), "summaries": found})


def _entry(
    index: catalog.PracticeIndex, model: catalog.PracticeModel, variant: catalog.PracticeVariant
) -> dict[str, Any]:
    asset = f"azureml://registries/{index.publisher}/models/{variant.name}/versions/{variant.version}"
    return {
        "assetId": asset,
        "name": variant.name,
        "alias": model.alias,
        "displayName": model.display_name,
        "version": variant.version,
        "publisher": index.publisher,
        "license": index.licence,
        "inferenceTasks": ["chat-completion"],
        "deploymentOptions": ["Foundry Local on Devices"],
        "modelLimits": {
            "textLimits": {
                "inputContextWindow": model.context_tokens,
                "maxOutputTokens": model.max_output_tokens,
            },
            "supportedInputModalities": ["text"],
            "supportedOutputModalities": ["text"],
        },
        "variantInformation": {
            "parents": [{"assetId": asset}],
            "variantMetadata": {
                "modelType": "ONNX",
                "quantization": [variant.precision],
                "device": variant.device,
                "executionProvider": variant.execution_provider,
                "fileSizeBytes": variant.size_bytes,
            },
        },
    }


def _metadata(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata: Mapping[str, Any] = entry["variantInformation"]["variantMetadata"]
    return metadata
