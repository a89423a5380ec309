"""The parent's side of an adapter: trying it when it is registered, and serving it from a process of its own.

Knows how an adapter's process is started and what it answers. Knows no runtime.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workshop_lib.errors import ConfigurationError, ModelServerError
from workshop_lib.files import typed_path
from workshop_lib.hosting.child_process import ChildProcess, ServedChild
from workshop_lib.providers import CPU_PROVIDER
from workshop_lib.registration import registered_models
from workshop_lib.registration.registered_models import RegisteredModel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workshop_lib.records import ModelVariant

LOAD_TIMEOUT_S = 900.0


def register_adapter(
    alias: str,
    weights: Path | str,
    adapter: str,
    *,
    licence: str | None = None,
    context_tokens: int | None = None,
    precision: str | None = None,
    capabilities: Sequence[str] = (),
    cache_dir: Path | None = None,
) -> RegisteredModel:
    """Register a model that a `CustomModelAdapter` answers for. This runs its file and loads the weights once.

    Args:
        alias: what people will type.
        weights: file or folder that `load` is given.
        adapter: `path/to/file.py:ClassName` or `package.module:ClassName`.
        licence: of the weights, e.g. `MIT`.
        context_tokens: longest prompt plus answer; None = what the adapter says.
        precision: of the weights, e.g. `int4`.
        capabilities: tags as in `models.json`.
        cache_dir: None = `model_cache.cache_root()`.

    Raises:
        ConfigurationError: the alias is taken, there are no such weights, or no such adapter.
        ModelServerError: the adapter could not load the weights, or its process died.
    """
    place = typed_path(weights).absolute()
    model = RegisteredModel(
        alias=alias,
        kind="adapter",
        place=place,
        adapter=_absolute(adapter),
        device="cpu",
        execution_provider=CPU_PROVIDER,
        precision=precision,
        size_mb=_size_mb(place),
        licence=licence,
        context_tokens=context_tokens,
        capabilities=tuple(capabilities),
    )
    registered_models.check(model, cache_dir=cache_dir)
    with _start(model, "trying", cache_dir) as child:
        ready = child.wait_for("ready", timeout_s=LOAD_TIMEOUT_S)
    model = replace(
        model,
        device=ready["device"],
        execution_provider=ready["registered"][0],
        context_tokens=context_tokens or ready["context_tokens"],
    )
    registered_models.add(model, cache_dir=cache_dir)
    return model


def serve(model: RegisteredModel, variant: ModelVariant, *, cache_dir: Path | None = None) -> ServedChild:
    """Load an adapter in a process of its own and serve it.

    Raises:
        ConfigurationError: its class is gone.
        ModelServerError: its files are gone, it could not load the weights, it runs on something else than when it was
            registered, or its process died.
    """
    reason = registered_models.why_unusable(model)
    if reason:
        raise ModelServerError(reason, registered_models.advice(model))
    child = _start(model, "loading", cache_dir)
    try:
        ready = child.wait_for("ready", timeout_s=LOAD_TIMEOUT_S)
        _refuse_elsewhere(model, ready)
    except BaseException:  # also when a person interrupts the load
        child.stop()
        raise
    child.doing = f"serving {model.model_id}"
    return ServedChild(variant, child, ready)


def _refuse_elsewhere(model: RegisteredModel, ready: Mapping[str, Any]) -> None:
    """An adapter that finds no GPU today would else be measured on the CPU under the name of the GPU."""
    now = (ready["device"], ready["registered"][0])
    if now != (model.device, model.execution_provider):
        what = f"'{model.alias}' was registered on {model.device} ({model.execution_provider}), and now runs on"
        fix = f"Mend that, or register it anew: python3 workshop.py unregister {model.alias}."
        raise ModelServerError(f"{what} {now[0]} ({now[1]}).", fix)


def _start(model: RegisteredModel, doing: str, cache_dir: Path | None) -> ChildProcess:
    job = {
        "adapter": model.adapter,
        "place": str(model.place),
        "model_id": model.model_id,
        "context_tokens": model.context_tokens,
    }
    cache = registered_models.file_in(cache_dir).parent
    return ChildProcess(
        "workshop_lib.registration.adapter_server", job, name="adapter", doing=f"{doing} {model.model_id}", cache=cache
    )


def _absolute(adapter: str) -> str:
    """The same reference, with the path of a file made absolute: the child runs in another folder one day."""
    place, _, name = adapter.strip(" \"'").rpartition(":")
    path = typed_path(place)
    return f"{path.absolute()}:{name}" if path.suffix == ".py" else adapter


def _size_mb(place: Path) -> float:
    """The size of the weights in 10^6 bytes. Raises `ConfigurationError` where there are none."""
    files = [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]
    size_bytes = sum(path.stat().st_size for path in files)
    if not size_bytes:
        raise ConfigurationError(f"There are no weights at {place}.", "Give the file or folder that the adapter loads.")
    return size_bytes / 1e6
