"""Foundry Local as a runtime: the public catalog or the shipped practice models, and beside them one's own.

The shipped and the registered models are folders and adapters of this machine and need no network and no copy; only
models of the public catalog are downloaded. Whatever is served has a child process of its own.
"""

from __future__ import annotations

import logging
import re
import time
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from workshop_lib import data, machine
from workshop_lib.errors import DataFileError, ModelNotFoundError, ModelServerError
from workshop_lib.models import registry, smollm2
from workshop_lib.places import cache_root, make_folder
from workshop_lib.records import ModelVariant
from workshop_lib.runtimes.child_process import ChildProcess, ServedChild
from workshop_lib.runtimes.profiles import Runtime, in_reading_order, select_variants

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from workshop_lib.data import ModelCard
    from workshop_lib.models.registry import Models, RegisteredModel, Task
    from workshop_lib.runtimes.profiles import OnProgress

DISK_RESERVE_MB = 50.0
LIST_S = 300.0
"""How long to wait for the catalog: a machine with a GPU may fetch its execution providers meanwhile."""
STALL_S, ATTEMPTS, BACKOFF_S = 180.0, 3, 2.0
"""How long a download may show no progress, how often it is tried, and the first pause, which doubles each time."""
_log = logging.getLogger(__name__)


class Look(NamedTuple):
    """The public catalog, empty in the practice profile, and this machine's execution providers.

    `registered` are those that models can run on, `discoverable` those that the runtime knows for this machine beside
    the CPU's, `fault` what went wrong when they were registered.
    """

    public: Sequence[ModelVariant]
    registered: Sequence[str]
    discoverable: Sequence[str]
    fault: str | None

    def can_run(self, variant: ModelVariant) -> bool:
        """Whether the provider that a variant was built for is registered; its label counts for nothing."""
        return variant.execution_provider in {None, machine.CPU_PROVIDER, *self.registered}

    def why_no_gpu(self) -> str:
        """The reason, where no GPU's provider is registered."""
        return machine.why_no_gpu(self.discoverable, self.fault)


class FoundryRuntime(Runtime):
    """Models of a profile, and those that are registered, which are read anew each time.

    Args:
        profile: `practice` = the shipped models; `foundry` = the public catalog.
        cache_dir: where downloads, logs and the file of registered models are kept; None = `places.cache_root()`.
        cards: `models.json`: capabilities, and what to offer for names that no catalog lists.
        index_file: index of the practice models; None = the shipped one.
        catalog_url: where the public catalog is; empty = Microsoft's.
        sleep: waits between tries; replaced in tests.

    Raises:
        DataFileError: the index is missing or malformed.
    """

    def __init__(
        self,
        profile: str,
        *,
        cache_dir: Path | None = None,
        cards: Mapping[str, ModelCard] | None = None,
        index_file: Path | None = None,
        catalog_url: str = "",
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.profile, self._cards = profile, cards or {}
        self._cache_dir = cache_dir or cache_root()
        self._catalog_url, self._sleep = catalog_url, sleep
        self._shipped: dict[str, tuple[ModelVariant, Path]] = {}
        if profile == "practice":
            self._read_shipped(index_file or data.PRACTICE_INDEX_FILE)
        self._seen: Look | None = None
        self._downloaded: set[str] = set()
        self._served: weakref.WeakSet[ServedChild] = weakref.WeakSet()

    @property
    def models_dir(self) -> Path:
        """Where models of the public catalog are kept."""
        return self._cache_dir / self.profile / "models"

    def list_models(self) -> list[ModelVariant]:
        """Every variant that can run here, cached or not; a registered one whose files are gone is not cached."""
        self._seen = None
        return self._offered(self._registered())[0]

    def find(self, names: Sequence[str], devices: Sequence[str] = ("cpu", "gpu")) -> list[ModelVariant]:
        """Variants that can run here; names as in `select_variants`.

        `all` means every variant that is cached, shipped or registered, `auto` those of them that are the default; a
        registered one whose files are gone is named by `left_out`. An alias that is registered means that model. The
        last look at the public catalog counts: `list_models` takes a new one. Adapters need no runtime at all.
        Raises `ModelNotFoundError` with the nearest that exist, or with what keeps the model from being used here.
        """
        registered = self._registered()
        for model in registered:
            if {model.alias, model.model_id} & set(names) and (gone := model.why_unusable()):
                raise ModelNotFoundError(*gone)
        here = [model.variant() for model in registered if model.kind == "adapter"]
        if not {name for variant in here for name in (variant.alias, variant.model_id)}.issuperset(names):
            here, absent = self._offered(registered)
            aliases = {variant.alias for variant in here}
            for variant in absent:
                if variant.model_id in names or variant.alias in set(names) - aliases:
                    what = f"{variant.model_id} needs {variant.execution_provider}, which is not registered."
                    reason = f"{self._look().why_no_gpu()} " if variant.device == "gpu" else ""
                    raise ModelNotFoundError(what, f"{reason}Choose a CPU variant. {machine.GPU_FIX}")
        nearest = {alias: card.nearest for alias, card in self._cards.items()}
        return select_variants(here, names, devices, in_auto=self._is_default, nearest=nearest)

    def to_fetch(self) -> list[ModelVariant]:
        """Default candidates that are not on this machine yet: in the practice profile, builds of the real model."""
        return self._builds_beside([model for model in self._registered() if model.why_unusable() is None])

    def _builds_beside(self, known: Sequence[RegisteredModel]) -> list[ModelVariant]:
        """The real model's builds without those that are known; none where the profile does not offer it."""
        if self.profile != "practice" or smollm2.ALIAS not in self._cards:
            return []
        ids = {model.model_id for model in known}
        return [variant for variant in smollm2.VARIANTS if variant.model_id not in ids]

    def download(self, variant: ModelVariant, *, on_progress: OnProgress | None = None) -> None:
        """Bring a variant of the public catalog, or the real model, into the cache; does nothing for one that is here.

        Raises:
            DiskSpaceError: too little is free.
            ModelServerError: it could not be downloaded in several tries, or a registered model's files are gone.
            DataFileError: the files of a shipped model are gone.
        """
        if variant.alias == smollm2.ALIAS and variant.model_id in {each.model_id for each in self.to_fetch()}:
            smollm2.add(variant, cache_dir=self._cache_dir)
        model, (_, shipped) = self._registered_as(variant), self._shipped.get(variant.model_id, (None, None))
        if model and (gone := model.why_unusable()):
            raise ModelServerError(*gone)
        if shipped and not (shipped / "genai_config.json").is_file():
            fix = "Get it back with 'git checkout -- data/practice_models'."
            raise DataFileError(f"The shipped model {shipped} is missing.", fix)
        if not (model or shipped or variant.cached or variant.model_id in self._downloaded):
            if variant.size_mb is not None:
                machine.check_disk(self.models_dir, variant.size_mb + DISK_RESERVE_MB, variant.model_id)
            self._try_download(variant, on_progress)
            self._downloaded.add(variant.model_id)
            self._seen = None
        super().download(variant, on_progress=on_progress)

    def _try_download(self, variant: ModelVariant, on_progress: OnProgress | None) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with self._start("download", variant) as child:
                    child.wait_for("downloaded", timeout_s=STALL_S, on_progress=on_progress)
                return
            except ModelServerError as error:
                if attempt == ATTEMPTS:
                    what = f"{error.what} That was the last of {ATTEMPTS} tries."
                    raise ModelServerError(what, error.fix) from error
                self._sleep(BACKOFF_S * 2 ** (attempt - 1))

    def serve(self, variant: ModelVariant) -> ServedChild:
        """Download if need be, load and serve a variant in a process of its own.

        Raises `RuntimeUnavailableError` where the runtime, or the variant's provider, is not there, `ModelServerError`
        where it could not be loaded, and what `download` raises.
        """
        self.download(variant)
        model = self._registered_as(variant)
        if model and model.kind == "adapter":
            served = registry.serve_adapter(model)
        else:
            _, shipped = self._shipped.get(variant.model_id, (None, None))
            child = self._start("serve", variant, model.place if model else shipped)
            served = ServedChild(variant, child, timeout_s=registry.LOAD_TIMEOUT_S)
        self._served.add(served)
        return served

    def absent_devices(self) -> dict[str, str]:
        """Devices that cannot be measured here → the reason and what to install."""
        look = self._look()
        return {} if machine.has_gpu(look.registered) else {"gpu": f"{look.why_no_gpu()} {machine.GPU_FIX}"}

    def left_out(self) -> list[tuple[ModelVariant, str]]:
        """Registered models whose files are gone, each with the reason and what to do."""
        return [(model.variant(), " ".join(gone)) for model in self._registered() if (gone := model.why_unusable())]

    def close(self) -> None:
        """Stop every model that is still served."""
        for served in list(self._served):
            served.stop()

    def _is_default(self, variant: ModelVariant) -> bool:
        card = self._cards.get(variant.alias)
        return card is None or card.default_builds is None or variant.precision in card.default_builds

    def _registered(self) -> Models:
        return registry.read(self._cache_dir)

    def _registered_as(self, variant: ModelVariant) -> RegisteredModel | None:
        return next((model for model in self._registered() if model.model_id == variant.model_id), None)

    def _offered(self, registered: Models) -> tuple[list[ModelVariant], list[ModelVariant]]:
        """What can run here, smallest shipped model first, adapters last; and what cannot.

        Adapters bring their own library: the runtime's providers say nothing of them.
        """
        look = self._look()
        if self.profile == "foundry" and not look.public:
            self._seen = None
            if not registered:
                fix = "Check the network, or use the profile 'practice', which needs none."
                raise ModelServerError("The catalog of Foundry Local did not answer.", fix)
            _log.warning("The public catalog did not answer: only registered models are listed. Check the network.")
        taken = {model.alias for model in registered}
        public = [replace(each, alias=each.model_id) if each.alias in taken else each for each in look.public]
        shipped = [variant for variant, _ in self._shipped.values()]
        folders, adapters = (
            [self._with_card(model.variant(), model.alias) for model in registered if model.kind == kind]
            for kind in ("folder", "adapter")
        )
        found = [*public, *shipped, *folders, *self._builds_beside(registered)]
        ordered = in_reading_order(found, list(dict.fromkeys(each.alias for each in shipped)))
        absent = [variant for variant in ordered if not look.can_run(variant)]
        return [*filter(look.can_run, ordered), *adapters], absent

    def _look(self) -> Look:
        if self._seen is None:
            with self._start("look") as child:
                event = child.wait_for("listing", timeout_s=LIST_S)
            public = [self._with_card(public_variant(each), each["alias"]) for each in event["models"]]
            self._seen = Look(public, event["registered"], event["discoverable"], event["fault"])
        return self._seen

    def _start(self, task: Task, variant: ModelVariant | None = None, place: Path | None = None) -> ChildProcess:
        is_shipped = variant and variant.model_id in self._shipped and variant.device == "cpu"
        return registry.foundry_process(
            task,
            variant,
            logs_dir=self._cache_dir / "logs",
            models_dir=make_folder(self.models_dir) if self.profile == "foundry" and place is None else None,
            catalog_url=self._catalog_url,
            place=place,
            threads=machine.cores() if is_shipped else None,  # as imported models have: the runtime alone may take half
        )

    def _read_shipped(self, index_file: Path) -> None:
        index = data.read_practice_index(index_file)
        for model in index.models:
            for build in model.variants:
                variant = ModelVariant(
                    model.alias, build.model_id, build.device, build.execution_provider, build.precision,
                    build.size_mb, index.licence, model.context_tokens, cached=True,
                )  # fmt: skip
                folder = index_file.parent / build.folder
                self._shipped[build.model_id] = (self._with_card(variant, model.alias), folder)

    def _with_card(self, variant: ModelVariant, alias: str) -> ModelVariant:
        if (card := self._cards.get(alias)) is None:
            return variant
        return replace(variant, capabilities=card.capabilities, watts=card.watts, trained_on=card.trained_on)


def public_variant(described: Mapping[str, Any]) -> ModelVariant:
    """A model as the child describes it; a size of 0 is unknown, and a precision that neither it nor its id names."""
    named = (
        re.search(r"(?<![a-z0-9])(u?int|fp|bf)\d+", (described[key] or "").lower()) for key in ("precision", "model_id")
    )
    precision = next((found.group() for found in named if found), None)
    return ModelVariant(**{**described, "precision": precision, "size_mb": float(described["size_mb"] or 0) or None})
