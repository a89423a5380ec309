"""Foundry Local models from the parent's side: listing, downloading, serving, each in a child.

`FoundryRuntime` uses the public catalog, and beside it one on the loopback that offers the registered folders. The SDK
is imported by the children only. Knows no plans.
"""

from __future__ import annotations

import logging
import time
import weakref
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from workshop_lib import machine
from workshop_lib.errors import ModelNotFoundError, ModelServerError, RuntimeUnavailableError
from workshop_lib.hosting import selection
from workshop_lib.hosting.child_process import ServedChild
from workshop_lib.hosting.model_cache import cache_root, check_disk, make_folder
from workshop_lib.serving.foundry_listing import Listing, read_listing
from workshop_lib.serving.foundry_process import FoundryProcess
from workshop_lib.serving.practice_catalog import LoopbackCatalog
from workshop_lib.serving.registered_folders import RegisteredFolders

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from workshop_lib.data import ModelCard
    from workshop_lib.records import ModelVariant

    OnProgress = Callable[[float], None]

PUBLIC_CATALOG_URL = "https://api.catalog.azureml.ms/asset-gallery/v1.0/models"
"""What the runtime asks when it is told nothing else."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to wait, in seconds, and how often to try a download.

    Attributes:
        list_s: for the catalog; a GPU machine may fetch its execution providers meanwhile.
        load_s: for a model to be loaded and served.
        stall_s: for a download to show progress.
        download_attempts: tries in all.
        backoff_s: pause before the second try; it doubles each time.
    """

    list_s: float = 300.0
    load_s: float = 900.0
    stall_s: float = 180.0
    download_attempts: int = 3
    backoff_s: float = 2.0


class FoundryRuntime:
    """Models of the public Foundry Local catalog and registered folders, in the workshop's own model cache.

    A registered folder that has gone or was damaged is left out of every listing; the reason is a warning in the log,
    in `left_out`, and the error of whoever asks for it by name.

    Args:
        cache_dir: where models and logs are kept; None = `model_cache.cache_root()`.
        port: of the web service; 0 = a free one. Two models cannot be served on one fixed port.
        cards: `models.json`: capabilities, and what to offer for names that no catalog lists.
        patience: time limits and retries.
        sleep: waits between tries; replaced in tests.
    """

    profile = "foundry"

    def __init__(
        self,
        *,
        cache_dir: Path | None = None,
        port: int = 0,
        cards: Mapping[str, ModelCard] | None = None,
        patience: Patience | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._folder = (cache_dir or cache_root()) / self.profile
        self._port = port
        self._cards = cards or {}
        self._patience = patience or Patience()
        self._sleep = sleep
        self._listing: Listing | None = None
        self._catalog = LoopbackCatalog()
        self._own = RegisteredFolders(self._catalog, cache_dir=self._folder.parent, models_dir=self.models_dir)
        self._downloaded: set[str] = set()
        self._served: weakref.WeakSet[ServedChild] = weakref.WeakSet()

    @property
    def models_dir(self) -> Path:
        """The runtime's model cache."""
        return self._folder / "models"

    def list_models(self) -> list[ModelVariant]:
        """Every variant the catalog offers here, cached or not.

        Raises:
            RuntimeUnavailableError: the runtime cannot run here.
            ModelServerError: no catalog answered.
            ConfigurationError: the cache folder cannot be made.
            DataFileError: the file of registered models is malformed.
        """
        return list(self._look().variants)

    def find(self, names: Sequence[str], devices: Sequence[str] = ("cpu", "gpu")) -> list[ModelVariant]:
        """Variants that can run here; names as in `selection.select_variants`.

        `auto` means every cached variant and every registered folder. The last look at the catalog counts:
        `list_models` takes a new one.

        Raises:
            ModelNotFoundError: no such model, and the nearest that exist; an exact id whose execution provider is not
                registered here; or a registered folder that has gone, with the reason.
        """
        listing = self._listing or self._look()
        self._own.refuse_left_out(names)
        for variant in (*listing.variants, *self._catalog.variants()):
            wanted = {variant.model_id, variant.alias} if self._own.holds(variant) else {variant.model_id}
            if wanted & set(names) and not listing.can_run(variant):
                raise ModelNotFoundError(*listing.why_not(variant))
        return selection.select_variants(
            [variant for variant in listing.variants if listing.can_run(variant)],
            names,
            devices,
            in_auto=self._in_auto,
            nearest={alias: card.nearest for alias, card in self._cards.items()},
        )

    def download(self, variant: ModelVariant, *, on_progress: OnProgress | None = None) -> None:
        """Bring a variant into the model cache; does nothing when it is there.

        A registered folder is copied, checked; again when it has changed since.

        Args:
            variant: what to download.
            on_progress: called with the percentage done, 0 to 100, last with 100.

        Raises:
            DiskSpaceError: too little is free.
            ModelNotFoundError: it was a registered folder, and has gone.
            DataFileError: a registered folder changed while it was copied.
            ModelServerError: it could not be downloaded in several tries.
        """
        if self._own.holds(variant):
            self._copy(variant, on_progress)
        elif not variant.cached and variant.model_id not in self._downloaded:
            check_disk(variant.model_id, variant.size_mb, self.models_dir)
            self._try_download(variant, on_progress)
            self._downloaded.add(variant.model_id)
            self._listing = None
        if on_progress is not None:
            on_progress(100.0)

    def serve(self, variant: ModelVariant) -> ServedChild:
        """Download if need be, load and serve a variant in a process of its own.

        Raises:
            DiskSpaceError: too little is free.
            RuntimeUnavailableError: the runtime, or the variant's provider, is not there.
            ModelServerError: it could not be loaded or served, or its process died.
        """
        if variant.execution_provider not in {None, machine.CPU_PROVIDER}:
            listing = self._listing or self._look()
            if not listing.can_run(variant):
                raise RuntimeUnavailableError(*listing.why_not(variant))
        self.download(variant)
        child = self._start("serve", f"loading {variant.model_id}", variant)
        try:
            ready = child.wait_for("ready", timeout_s=self._patience.load_s)
        except BaseException:  # also when a person interrupts the load
            child.stop()
            raise
        child.doing = f"serving {variant.model_id}"
        served = ServedChild(variant, child, ready)
        self._served.add(served)
        return served

    def absent_devices(self) -> dict[str, str]:
        """Devices that cannot be measured here → the reason and what to install."""
        listing = self._listing or self._look()
        if any(machine.is_gpu(provider) for provider in listing.registered):
            return {}
        return {"gpu": f"{listing.why_no_gpu()} {machine.GPU_FIX}"}

    def left_out(self) -> list[tuple[ModelVariant, str]]:
        """Registered folders that had gone or were damaged at the last look, each with the reason and what to do."""
        return self._own.left_out()

    def close(self) -> None:
        """Stop every model that is still served, and the catalog on the loopback."""
        for served in list(self._served):
            served.stop()
        self._catalog.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _catalog_url(self) -> str | None:
        """None = the runtime's own, public one."""
        return None

    def _catalog_urls(self) -> list[str]:
        """Where the runtime asks; none = its own, public catalog alone."""
        beside = [self._catalog_url() or PUBLIC_CATALOG_URL, self._catalog.url] if self._catalog.offers else []
        return beside or [url for url in [self._catalog_url()] if url]

    def _in_auto(self, variant: ModelVariant) -> bool:
        return bool(variant.cached) or self._own.holds(variant)

    def _arranged(self, listing: Listing) -> Listing:
        """The runtime's listing as it is shown."""
        known = [self._own.described(each) for each in listing.variants if not self._own.leaves_out(each)]
        return replace(listing, variants=selection.in_reading_order(known))

    def _copy(self, variant: ModelVariant, on_progress: OnProgress | None) -> None:
        self._own.copy(variant, on_progress=on_progress)
        if not variant.cached:
            self._listing = None

    def _look(self) -> Listing:
        self._own.look()
        with self._start("list", "listing the models") as child:
            event = child.wait_for("listing", timeout_s=self._patience.list_s)
        listing = self._arranged(read_listing(event, self._cards))
        if not listing.variants:
            fix = "Check the network, or use the profile 'practice', which needs none."
            raise ModelServerError("The catalog of Foundry Local did not answer.", fix)
        if all(map(self._own.holds, listing.variants)):
            _log.warning("The public catalog did not answer: only registered folders are listed. Check the network.")
        self._listing = listing
        return listing

    def _try_download(self, variant: ModelVariant, on_progress: OnProgress | None) -> None:
        attempts = self._patience.download_attempts
        for attempt in range(1, attempts + 1):
            try:
                with self._start("download", f"downloading {variant.model_id}", variant) as child:
                    child.wait_for("downloaded", timeout_s=self._patience.stall_s, on_progress=on_progress)
            except ModelServerError as error:
                if attempt == attempts:
                    what = f"{error.what} That was the last of {attempts} tries."
                    raise ModelServerError(what, error.fix) from error
                self._sleep(self._patience.backoff_s * 2 ** (attempt - 1))
            else:
                return

    def _start(self, task: str, doing: str, variant: ModelVariant | None = None) -> FoundryProcess:
        job = {
            "task": task,
            "models_dir": str(self.models_dir),
            "logs_dir": str(self._folder / "logs"),
            "catalog_urls": self._catalog_urls(),
            "port": self._port,
        }
        if variant is not None:
            job["model_id"] = variant.model_id
            job["execution_provider"] = variant.execution_provider
        make_folder(self.models_dir)
        return FoundryProcess(job, doing=doing, cache=self._folder.parent)
