"""The registered folders as one runtime sees them: what it can offer, what it must leave out and why, its copies.

Knows the catalog on the loopback and the model cache. Starts no process.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from workshop_lib.errors import ModelNotFoundError
from workshop_lib.hosting import model_cache
from workshop_lib.serving import offers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from workshop_lib.records import ModelVariant
    from workshop_lib.serving.offers import LeftOut, Offer
    from workshop_lib.serving.practice_catalog import LoopbackCatalog

_log = logging.getLogger(__name__)


class RegisteredFolders:
    """Keeps a catalog's offers true to what is registered now.

    Args:
        catalog: where they are offered.
        cache_dir: where models are registered.
        models_dir: the runtime's model cache.
        beside: what the catalog offers besides, always.
    """

    def __init__(
        self, catalog: LoopbackCatalog, *, cache_dir: Path, models_dir: Path, beside: tuple[Offer, ...] = ()
    ) -> None:
        self._catalog = catalog
        self._cache_dir = cache_dir
        self._models_dir = models_dir
        self._beside = beside
        self._offers: dict[str, Offer] = {}
        self._left_out: tuple[LeftOut, ...] = ()
        self._warned: set[str] = set()

    def look(self) -> None:
        """Look at every registered folder again.

        One that has gone or was damaged is left out, with a warning in the log; a copy of what is no longer registered
        is removed from the model cache.

        Raises:
            DataFileError: the file of registered models is malformed.
            ConfigurationError: another program holds that file.
        """
        found, self._left_out = offers.registered(self._cache_dir)
        self._offers = {offer.model_id: offer for offer in found}
        self._catalog.offers = (*self._beside, *found)
        kept = [*self._offers, *(left_out.model.model_id for left_out in self._left_out)]
        copies = self._models_dir / offers.REGISTERED_PUBLISHER
        model_cache.remove_others(copies, [model_id.replace(":", "-") for model_id in kept])
        for left_out in self._left_out:
            if left_out.reason not in self._warned:
                self._warned.add(left_out.reason)
                _log.warning("%s It is left out. %s", left_out.reason, left_out.fix)

    def left_out(self) -> list[tuple[ModelVariant, str]]:
        """Each folder that is left out, with the reason and what to do."""
        return [(each.model.variant(cached=False), f"{each.reason} {each.fix}") for each in self._left_out]

    def holds(self, variant: ModelVariant) -> bool:
        """Whether a variant is a registered folder, also one that is left out."""
        return variant.model_id in self._offers or self.leaves_out(variant)

    def leaves_out(self, variant: ModelVariant) -> bool:
        """Whether a variant is left out; the runtime goes on listing its copy."""
        return any(each.model.model_id == variant.model_id for each in self._left_out)

    def refuse_left_out(self, names: Sequence[str]) -> None:
        """Raise `ModelNotFoundError` with the reason if a folder that is left out is asked for by alias or id."""
        for each in self._left_out:
            if {each.model.alias, each.model.model_id} & set(names):
                raise ModelNotFoundError(each.reason, each.fix)

    def described(self, variant: ModelVariant) -> ModelVariant:
        """A listed variant with what is known of the folder: the runtime counts whole megabytes and sees no change."""
        offer = self._offers.get(variant.model_id)
        if offer is None:
            return variant
        cached = model_cache.is_installed(offer, self._models_dir / offer.publisher)
        return replace(offer.variant, cached=cached, watts=variant.watts)

    def copy(self, variant: ModelVariant, *, on_progress: Callable[[float], None] | None = None) -> None:
        """Copy what the catalog offers into the model cache, unless it is there as it is now.

        Args:
            variant: a registered folder, or what is offered beside them.
            on_progress: called with the percentage done, 0 to 100, last with 100.

        Raises:
            ModelNotFoundError: it is not offered; for a folder that is left out, the reason.
            DataFileError, DiskSpaceError, ModelServerError: as of `model_cache.install_variant`.
        """

        def on_bytes(done: int, total: int) -> None:
            if on_progress is not None:
                on_progress(100.0 * done / total)

        if self.holds(variant):
            self.look()
            self.refuse_left_out([variant.model_id])
        self._catalog.install(variant.model_id, self._models_dir, on_bytes=on_bytes)
