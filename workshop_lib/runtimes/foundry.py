"""Foundry Local as a runtime: the public catalog or the shipped practice models, and beside them one's own.

The shipped and the registered models are folders and adapters of this machine and need no network and no copy; only
models of the public catalog are downloaded. Whatever is served has a child process of its own.
"""

from __future__ import annotations

import logging
import re
import time
import weakref
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from workshop_lib import data, machine
from workshop_lib.errors import (
    DataFileError,
    ModelNotFoundError,
    ModelServerError,
)
from workshop_lib.models import registry, smollm2
from workshop_lib.places import cache_root, make_folder
from workshop_lib.records import ModelVariant
from workshop_lib.runtimes import selection
from workshop_lib.runtimes.child_process import ChildProcess, ServedChild
from workshop_lib.runtimes.protocols import Runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from workshop_lib.data import ModelCard
    from workshop_lib.models.registry import RegisteredModel

    OnProgress = Callable[[float], None]

DISK_RESERVE_MB = 50.0
LIST_S = 300.0
"""How long to wait for the catalog: a machine with a GPU may fetch its execution providers meanwhile."""
STALL_S, ATTEMPTS, BACKOFF_S = 180.0, 3, 2.0
"""How long a download may show no progress, how often it is tried, and the first pause, which doubles each time."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Look:
    """One look at the public catalog, empty in the practice profile, and at this machine's execution providers.

    `registered` are those that models can run on, `discoverable` those that the runtime knows for this machine beside
    the CPU's, `fault` what went wrong when they were registered.
    """

    public: tuple[ModelVariant, ...]
    registered: tuple[str, ...]
    discoverable: tuple[str, ...]
    fault: str | None

    def can_run(self, variant: ModelVariant) -> bool:
        """Whether the provider that a variant was built for is registered; its label counts for nothing."""
        return variant.execution_provider in {None, machine.CPU_PROVIDER, *self.registered}


class FoundryRuntime(Runtime):
    """Models of a profile, and those that are registered, which are read anew each time.

    Args:
        profile: `practice` = the shipped models; `foundry` = the public catalog.
        cache_dir: where downloads, logs and the file of registered models are kept; None = `places.cache_root()`.
        cards: `models.json`: capabilities, and what to offer for names that no catalog lists.
        index_file: index of the practice models; None = the shipped one.
        catalog_url: where the public catalog is; None = Microsoft's.
        sleep: waits between tries; replaced in tests.

    Raises:
        DataFileError: the index is missing or malformed.
    """

    def __init__(
        self,
        profile: Literal["practice", "foundry"],
        *,
        cache_dir: Path | None = None,
        cards: Mapping[str, ModelCard] | None = None,
        index_file: Path | None = None,
        catalog_url: str | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.profile = profile
        self._cache_dir = cache_dir or cache_root()
        self._catalog_url = catalog_url or ""
        self._cards = cards or {}
        self._sleep = sleep
        self._practice: list[ModelVariant] = []
        self._shipped: dict[str, Path] = {}
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
        """Every variant that can run here, cached or not; a registered one whose files are gone is not cached.

        Raises:
            RuntimeUnavailableError: the runtime cannot run here.
            ModelServerError: the public catalog did not answer, and nothing is registered.
        """
        self._seen = None
        return self._offered(self._registered())[0]

    def find(self, names: Sequence[str], devices: Sequence[str] = ("cpu", "gpu")) -> list[ModelVariant]:
        """Variants that can run here; names as in `selection.select_variants`.

        `all` means every variant that is cached, shipped or registered, `auto` those of them that are the default; a
        registered one whose files are gone is named by `left_out`. An alias that is registered means that model. The
        last look at the public catalog counts: `list_models` takes a new one. Adapters need no runtime at all.

        Raises:
            ModelNotFoundError: no such model, and the nearest that exist; or it cannot be used here, and why.
        """
        registered = self._registered()
        for model in registered:
            if {model.alias, model.model_id} & set(names) and (gone := model.why_unusable()):
                raise ModelNotFoundError(*gone)
        adapters = [model for model in registered if model.kind == "adapter"]
        if set(names) <= {name for model in adapters for name in (model.alias, model.model_id)}:
            here = [model.variant() for model in adapters]
        else:
            here, absent = self._offered(registered)
            aliases = {variant.alias for variant in here}
            for variant in absent:
                if variant.model_id in names or variant.alias in set(names) - aliases:
                    what = f"{variant.model_id} needs {variant.execution_provider}, which is not registered."
                    reason = f"{self._why_no_gpu()} " if variant.device == "gpu" else ""
                    raise ModelNotFoundError(what, f"{reason}Choose a CPU variant. {machine.GPU_FIX}")
        nearest = {alias: card.nearest for alias, card in self._cards.items()}
        return selection.select_variants(here, names, devices, in_auto=self._is_default, nearest=nearest)

    def to_fetch(self) -> list[ModelVariant]:
        """Default candidates that are not on this machine yet: in the practice profile, builds of the real model."""
        return self._builds_beside({each.model_id for each in self._registered() if each.why_unusable() is None})

    def _builds_beside(self, known: Collection[str]) -> list[ModelVariant]:
        """The real model's builds without those of the ids known; none where the profile does not offer it."""
        wanted = self.profile == "practice" and smollm2.ALIAS in self._cards
        return [each for each in smollm2.VARIANTS if each.model_id not in known] if wanted else []

    def download(self, variant: ModelVariant, *, on_progress: OnProgress | None = None) -> None:
        """Bring a variant of the public catalog, or the real model, into the cache; does nothing for one that is here.

        Raises:
            DiskSpaceError: too little is free.
            ModelServerError: it could not be downloaded in several tries; or it was registered, and its files are gone.
            DataFileError: the files of a shipped model are gone.
        """
        if variant.alias == smollm2.ALIAS and variant.model_id in {each.model_id for each in self.to_fetch()}:
            smollm2.add(variant, cache_dir=self._cache_dir)
        model, shipped = self._registered_as(variant), self._shipped.get(variant.model_id)
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
        if on_progress is not None:
            on_progress(100.0)

    def serve(self, variant: ModelVariant) -> ServedChild:
        """Download if need be, load and serve a variant in a process of its own.

        Raises:
            RuntimeUnavailableError: the runtime, or the variant's provider, is not there.
            ModelServerError: it could not be loaded or served, or its process died.
            WorkshopError: as `download`.
        """
        self.download(variant)
        model = self._registered_as(variant)
        if model and model.kind == "adapter":
            served = registry.serve_adapter(model)
        else:
            child = self._start("serve", variant, model.place if model else self._shipped.get(variant.model_id))
            served = ServedChild(variant, child, timeout_s=registry.LOAD_TIMEOUT_S)
        self._served.add(served)
        return served

    def absent_devices(self) -> dict[str, str]:
        """Devices that cannot be measured here → the reason and what to install."""
        has_gpu = machine.has_gpu(self._look().registered)
        return {} if has_gpu else {"gpu": f"{self._why_no_gpu()} {machine.GPU_FIX}"}

    def _why_no_gpu(self) -> str:
        return machine.why_no_gpu(self._look().discoverable, self._look().fault)

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

    def _registered(self) -> tuple[RegisteredModel, ...]:
        return registry.read(self._cache_dir)

    def _registered_as(self, variant: ModelVariant) -> RegisteredModel | None:
        return next((model for model in self._registered() if model.model_id == variant.model_id), None)

    def _offered(self, registered: Sequence[RegisteredModel]) -> tuple[list[ModelVariant], list[ModelVariant]]:
        """What can run here, smallest shipped model first, adapters last; and what cannot.

        Adapters bring their own library: the runtime's providers say nothing of them.
        """
        look = self._look()
        own = {model.model_id: _with_card(model.variant(), self._cards.get(model.alias)) for model in registered}
        if self.profile == "foundry" and not look.public:
            self._seen = None
            if not own:
                fix = "Check the network, or use the profile 'practice', which needs none."
                raise ModelServerError("The catalog of Foundry Local did not answer.", fix)
            _log.warning("The public catalog did not answer: only registered models are listed. Check the network.")
        aliases_of_own = {model.alias for model in registered}
        public = [replace(each, alias=each.model_id) if each.alias in aliases_of_own else each for each in look.public]
        folders = [own[model.model_id] for model in registered if model.kind == "folder"]
        aliases = list(dict.fromkeys(variant.alias for variant in self._practice))
        fetchable = self._builds_beside(own)
        ordered = selection.in_reading_order([*public, *self._practice, *folders, *fetchable], aliases)
        adapters = [own[model.model_id] for model in registered if model.kind == "adapter"]
        absent = [variant for variant in ordered if not look.can_run(variant)]
        return [*filter(look.can_run, ordered), *adapters], absent

    def _look(self) -> Look:
        if self._seen is None:
            with self._start("look") as child:
                event = child.wait_for("listing", timeout_s=LIST_S)
            public = tuple(_public_variant(each, self._cards.get(each["alias"])) for each in event["models"])
            self._seen = Look(public, tuple(event["registered"]), tuple(event["discoverable"]), event["fault"])
        return self._seen

    def _try_download(self, variant: ModelVariant, on_progress: OnProgress | None) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with self._start("download", variant) as child:
                    child.wait_for("downloaded", timeout_s=STALL_S, on_progress=on_progress)
            except ModelServerError as error:
                if attempt == ATTEMPTS:
                    what = f"{error.what} That was the last of {ATTEMPTS} tries."
                    raise ModelServerError(what, error.fix) from error
                self._sleep(BACKOFF_S * 2 ** (attempt - 1))
            else:
                return

    def _start(self, task: str, variant: ModelVariant | None = None, place: Path | None = None) -> ChildProcess:
        job: dict[str, Any] = {"catalog_url": self._catalog_url}
        if variant and variant.model_id in self._shipped and variant.device == "cpu":
            job["threads"] = machine.cores()  # as imported models have it: the runtime alone may take half
        if self.profile == "foundry" and place is None:
            job["models_dir"] = str(make_folder(self.models_dir))
        return registry.foundry_process(task, variant, logs_dir=self._cache_dir / "logs", place=place, **job)

    def _read_shipped(self, index_file: Path) -> None:
        index = data.read_practice_index(index_file)
        for model in index.models:
            for build in model.variants:
                self._shipped[build.model_id] = index_file.parent / build.folder
                variant = ModelVariant(
                    model.alias, build.model_id, build.device, build.execution_provider, build.precision,
                    build.size_mb, index.licence, model.context_tokens, cached=True,
                )  # fmt: skip
                self._practice.append(_with_card(variant, self._cards.get(model.alias)))


def _public_variant(described: Mapping[str, Any], card: ModelCard | None) -> ModelVariant:
    """A model as the child describes it; a size of 0 is unknown, and a precision that it does not name."""
    precision = _precision(described["precision"] or "") or _precision(described["model_id"])
    values = {**described, "precision": precision, "size_mb": float(described["size_mb"] or 0) or None}
    return _with_card(ModelVariant(**values), card)


def _with_card(variant: ModelVariant, card: ModelCard | None) -> ModelVariant:
    if card is None:
        return variant
    return replace(variant, capabilities=card.capabilities, watts=card.watts, trained_on=card.trained_on)


def _precision(text: str) -> str | None:
    """`int4`, `fp16`, … where a text names one."""
    found = re.search(r"(?<![a-z0-9])(u?int|fp|bf)\d+", text.lower())
    return found.group() if found else None
