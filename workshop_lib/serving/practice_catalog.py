"""A catalog on the loopback that offers models of this machine to the runtime.

The runtime asks a public catalog which models exist, by one POST. `LoopbackCatalog` answers it from what it is given,
so that the runtime's own listing, cache, load and web service work offline; `PracticeCatalog` begins with the shipped
models. Knows no processes.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
from typing import TYPE_CHECKING, Any

from workshop_lib import data, loopback
from workshop_lib.errors import ModelNotFoundError
from workshop_lib.hosting.model_cache import OnBytes, install_variant
from workshop_lib.registration.adapter_app import LoopbackOnly
from workshop_lib.serving import offers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    import uvicorn
    from starlette.requests import Request
    from starlette.responses import Response

    from workshop_lib.records import ModelVariant
    from workshop_lib.serving.offers import Offer

CATALOG_PATH = "/asset-gallery/v1.0/models"
_FILTERS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "name": lambda entry: str(entry["name"]),
    "properties/variantInfo/variantMetadata/device": lambda entry: str(_metadata(entry)["device"]),
    "properties/variantInfo/variantMetadata/executionProvider": (
        lambda entry: str(_metadata(entry)["executionProvider"])
    ),
}


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


class LoopbackCatalog:
    """A catalog on a free loopback port, for as long as it is not closed.

    Attributes:
        offers: what it offers; may be replaced while it answers.
    """

    def __init__(self, offered: Iterable[Offer] = ()) -> None:
        self.offers = tuple(offered)
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._url = ""

    @property
    def url(self) -> str:
        """Where the runtime asks; the server starts with the first reading."""
        if self._server is None:
            self._start()
        return self._url

    def offer(self, model_id: str) -> Offer:
        """The offer of that exact id. Raises `ModelNotFoundError`."""
        for offer in self.offers:
            if offer.model_id == model_id:
                return offer
        raise ModelNotFoundError(f"This machine offers no model '{model_id}'.", "List the models for their ids.")

    def variants(self) -> list[ModelVariant]:
        """Every variant on offer, whether or not it can run here."""
        return [offer.variant for offer in self.offers]

    def install(self, model_id: str, models_dir: Path, *, on_bytes: OnBytes | None = None) -> Path:
        """Put one variant into the runtime's cache; see `model_cache.install_variant`."""
        offer = self.offer(model_id)
        return install_variant(offer, models_dir / offer.publisher, on_bytes=on_bytes)

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
        from starlette.middleware import Middleware
        from starlette.routing import Route

        listener = socket.create_server(("127.0.0.1", 0))
        app = Starlette(
            routes=[Route(CATALOG_PATH, self._answer, methods=["POST"])], middleware=[Middleware(LoopbackOnly)]
        )
        config = loopback.server_config(app, timeout_graceful_shutdown=1)
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
            found = matching(map(offers.entry, self.offers), question)
        except (ValueError, AttributeError, TypeError, RecursionError):
            return JSONResponse({"error": "not a catalog question"}, status_code=400)
        return JSONResponse({"totalCount": len(found), "summaries": found})


class PracticeCatalog(LoopbackCatalog):
    """A catalog of the shipped models, and of what else it is given.

    Args:
        index_file: `index.json` beside the model folders; None = the shipped one.

    Raises:
        DataFileError: the index is missing or malformed.
    """

    def __init__(self, index_file: Path | None = None) -> None:
        self.index_file = index_file or data.PRACTICE_INDEX_FILE
        self.index = data.read_practice_index(self.index_file)
        self.shipped = offers.shipped(self.index, self.index_file.parent)
        super().__init__(self.shipped)


def _metadata(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata: Mapping[str, Any] = entry["variantInformation"]["variantMetadata"]
    return metadata
