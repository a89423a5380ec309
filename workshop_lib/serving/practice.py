"""The practice models, and registered folders, on the real runtime: its listing, cache, load, service, all offline.

Knows what differs from the public catalog, and nothing else.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from workshop_lib.hosting import selection
from workshop_lib.serving.foundry import FoundryRuntime
from workshop_lib.serving.practice_catalog import PracticeCatalog
from workshop_lib.serving.registered_folders import RegisteredFolders

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from workshop_lib.records import ModelVariant
    from workshop_lib.serving.foundry_listing import Listing


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
        self._catalog: PracticeCatalog = PracticeCatalog(index_file)
        self._own = RegisteredFolders(
            self._catalog, cache_dir=self._folder.parent, models_dir=self.models_dir, beside=self._catalog.shipped
        )

    def download(self, variant: ModelVariant, *, on_progress: Callable[[float], None] | None = None) -> None:
        """Copy a variant into the model cache, checked; does nothing when it is there.

        Args:
            variant: what to install.
            on_progress: called with the percentage done, 0 to 100, last with 100.

        Raises:
            ModelNotFoundError: no such variant is offered, or a registered folder has gone.
            DataFileError: its files are missing or damaged.
            DiskSpaceError: too little is free.
            ModelServerError: the cache cannot be written.
        """
        self._copy(variant, on_progress)

    def _catalog_urls(self) -> list[str]:
        return [self._catalog.url]

    def _in_auto(self, variant: ModelVariant) -> bool:
        """Every one: what is not cached yet is copied in no time."""
        return variant.model_id in {offered.model_id for offered in self._catalog.offers}

    def _arranged(self, listing: Listing) -> Listing:
        """Smallest model first, without what an older release left in the cache.

        The runtime counts whole megabytes; the index knows bytes.
        """
        sizes = {offer.model_id: offer.size_mb for offer in self._catalog.offers}
        kept = [
            replace(self._own.described(variant), size_mb=sizes[variant.model_id])
            for variant in listing.variants
            if variant.model_id in sizes
        ]
        return replace(listing, variants=selection.in_reading_order(kept, self._aliases()))

    def _aliases(self) -> list[str]:
        return [model.alias for model in self._catalog.index.models]
