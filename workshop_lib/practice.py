"""The practice models on the real runtime: its listing, cache, load and service, all offline.

Knows what differs from the public catalog, and nothing else.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from workshop_lib import selection
from workshop_lib.foundry import FoundryRuntime
from workshop_lib.practice_catalog import PracticeCatalog

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from workshop_lib.foundry_listing import Listing
    from workshop_lib.records import ModelVariant


class PracticeRuntime(FoundryRuntime):
    """The shipped models.

    A model is cached when its folder was copied into the runtime's cache; that is its download.

    Args:
        index_file: `index.json` beside the model folders; None = the shipped one.
        options: as of `FoundryRuntime`.

    Raises:
        DataFileError: the index is missing or malformed.
    """

    profile = "practice"

    def __init__(self, *, index_file: Path | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._catalog = PracticeCatalog(index_file)

    def download(self, variant: ModelVariant, *, on_progress: Callable[[float], None] | None = None) -> None:
        """Copy a shipped variant into the model cache, checked; does nothing when it is there.

        Args:
            variant: what to install.
            on_progress: called with the percentage done, 0 to 100, last with 100.

        Raises:
            ModelNotFoundError: no such variant is shipped.
            DataFileError: its files are missing or damaged.
            DiskSpaceError: too little is free.
            ModelServerError: the cache cannot be written.
        """

        def on_bytes(done: int, total: int) -> None:
            if on_progress is not None:
                on_progress(100.0 * done / total)

        self._catalog.install(variant.model_id, self.models_dir, on_bytes=on_bytes)
        if not variant.cached:
            self._listing = None

    def close(self) -> None:
        """Stop every model that is still served, and the catalog."""
        super().close()
        self._catalog.close()

    def _catalog_url(self) -> str | None:
        return self._catalog.url

    def _shipped(self) -> Sequence[ModelVariant]:
        return self._catalog.variants()

    def _in_auto(self, variant: ModelVariant) -> bool:
        """Every one: what is not cached yet is copied in no time."""
        return variant.alias in self._aliases()

    def _arranged(self, listing: Listing) -> Listing:
        """Smallest model first, without what an older release left in the cache.

        The runtime counts whole megabytes; the index knows bytes.
        """
        shipped = {variant.model_id: variant.size_mb for variant in self._shipped()}
        kept = [
            replace(variant, size_mb=shipped[variant.model_id])
            for variant in listing.variants
            if variant.model_id in shipped
        ]
        return replace(listing, variants=selection.in_reading_order(kept, self._aliases()))

    def _aliases(self) -> list[str]:
        return [model.alias for model in self._catalog.index.models]
