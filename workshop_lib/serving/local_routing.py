"""Registered adapters beside the models of a runtime: one list, one `find`, one `serve`.

From here on nothing knows the difference: plan, benchmark, judge and comparison see models. Registered *folders* are
served by the runtime itself and are not looked at here. Knows no catalog and no HTTP.
"""

from __future__ import annotations

import difflib
import logging
import weakref
from typing import TYPE_CHECKING, Self

from workshop_lib.errors import ModelNotFoundError, ModelServerError
from workshop_lib.hosting import selection
from workshop_lib.registration import adapter_process, registered_models

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from workshop_lib.hosting.child_process import ServedChild
    from workshop_lib.records import ModelVariant
    from workshop_lib.registration.registered_models import RegisteredModel
    from workshop_lib.serving.runtimes import Runtime, ServedModel

_log = logging.getLogger(__name__)


class LocalRuntime:
    """A runtime and the registered adapters; the file of the registered ones is read anew each time.

    Args:
        inner: the runtime that everything else is left to; closed along.
        cache_dir: where `registered_models.json` lies; None = `model_cache.cache_root()`.
    """

    def __init__(self, inner: Runtime, *, cache_dir: Path | None = None) -> None:
        self.inner = inner
        self._cache_dir = cache_dir
        self._served: weakref.WeakSet[ServedChild] = weakref.WeakSet()
        self._warned: set[str] = set()

    @property
    def profile(self) -> str:
        """The inner runtime's."""
        return self.inner.profile

    def list_models(self) -> list[ModelVariant]:
        """What the inner runtime lists, then the adapters; one whose files are gone counts as not cached.

        An alias that is registered and in the catalog as well is warned of, once.
        """
        listed = [*self.inner.list_models(), *map(_variant, self._adapters())]
        self._speak_of_twins(listed)
        return listed

    def find(self, names: Sequence[str], devices: Sequence[str] = ("cpu", "gpu")) -> list[ModelVariant]:
        """Variants for aliases, exact ids or `auto`, which takes every adapter whose files are there.

        One whose files are gone is left out of `auto`, with a warning in the log; `left_out` names it. The inner
        runtime is asked only for what is not registered here.

        Raises:
            ModelNotFoundError: no such model, and the nearest that exist; or the files of a named one are gone.
        """
        adapters = self._adapters()
        own = [_variant(model) for model in adapters]
        known = {name for model in adapters for name in (model.alias, model.model_id)}
        for model in adapters:
            self._speak_of_unusable(model, names)
        found: dict[str, ModelVariant] = {}
        for name in names:
            variants = [] if name in known else self._find_inside(name, devices, own)
            if name in known or name == selection.AUTO:
                variants += selection.select_variants(own, [name], devices, in_auto=lambda each: bool(each.cached))
            found |= {variant.model_id: variant for variant in variants}
        self._speak_of_twins(found.values())
        return list(found.values())

    def download(self, variant: ModelVariant, *, on_progress: Callable[[float], None] | None = None) -> None:
        """Leave it to the inner runtime; an adapter's files only have to be there still.

        Raises:
            ModelServerError: they are not.
            WorkshopError: as the inner runtime says.
        """
        model = self._registered(variant)
        if model is None:
            self.inner.download(variant, on_progress=on_progress)
            return
        reason = registered_models.why_unusable(model)
        if reason:
            raise ModelServerError(reason, registered_models.advice(model))
        if on_progress is not None:
            on_progress(100.0)

    def serve(self, variant: ModelVariant) -> ServedModel:
        """Serve a variant in a process of its own, whoever answers in it.

        Raises:
            ConfigurationError: an adapter's class is gone.
            ModelServerError: it could not be loaded or served, or its process died.
            WorkshopError: as the inner runtime says.
        """
        model = self._registered(variant)
        if model is None:
            return self.inner.serve(variant)
        served = adapter_process.serve(model, variant, cache_dir=self._cache_dir)
        self._served.add(served)
        return served

    def absent_devices(self) -> dict[str, str]:
        """The inner runtime's."""
        return self.inner.absent_devices()

    def left_out(self) -> list[tuple[ModelVariant, str]]:
        """What the inner runtime leaves out, then the adapters whose files are gone, with the reason and what to do."""
        reasons = [(model, registered_models.why_unusable(model)) for model in self._adapters()]
        gone = [(_variant(model), f"{why} {registered_models.advice(model)}") for model, why in reasons if why]
        return [*self.inner.left_out(), *gone]

    def close(self) -> None:
        """Stop every model that is still served, and the inner runtime."""
        for served in list(self._served):
            served.stop()
        self.inner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _adapters(self) -> list[RegisteredModel]:
        return [model for model in registered_models.read(self._cache_dir) if model.kind == "adapter"]

    def _registered(self, variant: ModelVariant) -> RegisteredModel | None:
        return next((model for model in self._adapters() if model.model_id == variant.model_id), None)

    def _speak_of_unusable(self, model: RegisteredModel, names: Sequence[str]) -> None:
        """Raise where its name was given; where `auto` was, warn once."""
        reason = registered_models.why_unusable(model)
        if reason and {model.alias, model.model_id} & set(names):
            raise ModelNotFoundError(reason, registered_models.advice(model))
        if reason and selection.AUTO in names and reason not in self._warned:
            self._warned.add(reason)
            _log.warning("%s It is left out. %s", reason, registered_models.advice(model))

    def _speak_of_twins(self, variants: Iterable[ModelVariant]) -> None:
        """Warn where the public catalog has an alias that is registered here; which ones it has, only it knows."""
        registered = {model.alias: model.model_id for model in registered_models.read(self._cache_dir)}
        for variant in variants:
            own_id = registered.get(variant.alias, variant.model_id)
            if own_id != variant.model_id and variant.alias not in self._warned:
                self._warned.add(variant.alias)
                what = "The alias '%s' means two models: %s, which is registered here, and %s of the catalog."
                fix = "Ask for one of these ids, or register yours under another alias."
                _log.warning(f"{what} {fix}", variant.alias, own_id, variant.model_id)

    def _find_inside(self, name: str, devices: Sequence[str], own: Sequence[ModelVariant]) -> list[ModelVariant]:
        try:
            return self.inner.find([name], devices)
        except ModelNotFoundError as error:
            close = difflib.get_close_matches(name, [variant.alias for variant in own], n=1)
            if not close:
                raise
            raise ModelNotFoundError(error.what, f"Did you mean {close[0]}, which is registered? {error.fix}") from None


def _variant(model: RegisteredModel) -> ModelVariant:
    return model.variant(cached=registered_models.why_unusable(model) is None)
