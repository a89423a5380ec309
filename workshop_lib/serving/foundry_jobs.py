"""What a child does with the Foundry Local SDK: list the catalog, download a model, serve one.

The only module that imports the SDK, and only when a job runs. Knows nothing of the parent.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workshop_lib.errors import ModelNotFoundError, ModelServerError, RuntimeUnavailableError
from workshop_lib.providers import CPU_PROVIDER

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from foundry_local_sdk import FoundryLocalManager, IModel

    from workshop_lib.hosting.child_pipes import Emit

APP_NAME = "edge-ai-workshop"
_INSTALL = (
    "Install it with 'pip install foundry-local-sdk==2.2.1' (Python 3.11 to 3.14 on Windows, "
    "Linux or macOS arm64), or set FOUNDRY_LOCAL_ENDPOINT to a server on another machine."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to do.

    Attributes:
        task: `list`, `download` or `serve`.
        models_dir: the runtime's model cache.
        logs_dir: where the runtime writes its log.
        catalog_urls: where models are asked for; none = the public catalog.
        model_id: the exact `name:version` to download or serve.
        execution_provider: what that model is built for; None when unknown.
        port: of the web service; 0 = a free one.
    """

    task: str
    models_dir: str
    logs_dir: str
    catalog_urls: Sequence[str] = ()
    model_id: str = ""
    execution_provider: str | None = None
    port: int = 0


def list_models(job: Job, emit: Emit) -> None:
    """Emit `listing`: what the catalog offers here, and which providers are registered."""
    manager = _start_runtime(job)
    fault = _register_providers(manager)
    emit(
        {
            "event": "listing",
            "models": [_description(variant) for model in manager.catalog.list_models() for variant in model.variants],
            "registered": _registered(manager),
            "discoverable": sorted(provider.name for provider in manager.discover_eps()),
            "fault": fault,
        }
    )


def download(job: Job, emit: Emit) -> None:
    """Emit `progress` with `percent`, 0 to 100, while the runtime downloads, then `downloaded`."""
    manager = _start_runtime(job)
    if job.execution_provider not in {None, CPU_PROVIDER}:
        _register_providers(manager)  # the catalog offers a GPU build only then
    model = _variant(manager, job.model_id)
    _call(
        lambda: model.download(lambda percent: emit({"event": "progress", "percent": percent})),
        what=f"{job.model_id} could not be downloaded",
        fix="Check the network and try again; what has arrived is kept where the runtime can.",
    )
    emit({"event": "downloaded"})


def serve(job: Job, emit: Emit) -> None:
    """Load a model and serve it, emit `ready`, and stay: the process ends by its parent's will."""
    manager = _start_runtime(job)
    _require_provider(job, manager)
    model = _variant(manager, job.model_id)
    if not model.is_cached:
        what = f"{job.model_id} is not in the model cache."
        raise ModelServerError(what, "Download it first.")
    _call(
        manager.start_web_service,
        what=f"The web service could not listen on port {job.port} of 127.0.0.1",
        fix="End the program that uses that port, or choose another; 0 takes a free one.",
    )
    started = time.perf_counter()
    _call(
        model.load,
        what=f"{job.model_id} could not be loaded",
        fix="Stop other models, choose a smaller variant, or download the model again.",
    )
    emit(
        {
            "event": "ready",
            "load_s": time.perf_counter() - started,
            "base_url": f"{(manager.urls or [''])[0].rstrip('/')}/v1",
            "pid": os.getpid(),
            "registered": _registered(manager),
        }
    )
    threading.Event().wait()


def _start_runtime(job: Job) -> FoundryLocalManager:
    try:
        from foundry_local_sdk import (  # native code, for the child alone
            Configuration,
            FoundryLocalException,
            FoundryLocalManager,
        )

        configuration = Configuration(
            app_name=APP_NAME,
            model_cache_dir=job.models_dir,
            logs_dir=job.logs_dir,
            catalog_urls=[(url, None) for url in job.catalog_urls] or None,
            web=Configuration.WebService(urls=f"http://127.0.0.1:{job.port}"),
        )
        manager = FoundryLocalManager(configuration)
    except (ImportError, OSError) as error:
        what = f"The Foundry Local runtime cannot run here ({_one_line(error)})."
        raise RuntimeUnavailableError(what, _INSTALL) from error
    except FoundryLocalException as error:
        what = f"The Foundry Local runtime did not start ({_one_line(error)})."
        fix = f"Check that {job.models_dir} can be written and that memory is free, then try again."
        raise RuntimeUnavailableError(what, fix) from error
    return manager


def _register_providers(manager: FoundryLocalManager) -> str | None:
    """Register every execution provider this machine can use; returns what went wrong, if anything.

    The runtime may download a provider for that. `FOUNDRY_LOCAL_CUDA_EP_LIBRARY` names the file of
    a CUDA provider that is here already; it needs CUDA libraries, which are installed apart.
    """
    from foundry_local_sdk import FoundryLocalException

    if all(provider.is_registered for provider in manager.discover_eps()):
        return None
    try:
        manager.download_and_register_eps()
    except FoundryLocalException as error:
        return _one_line(error)
    return None


def _registered(manager: FoundryLocalManager) -> list[str]:
    """What a model can really run on; the runtime never lists the CPU, which is part of it."""
    providers = manager.discover_eps()
    return [CPU_PROVIDER, *sorted(each.name for each in providers if each.is_registered)]


def _require_provider(job: Job, manager: FoundryLocalManager) -> None:
    """Refuse what the runtime would run on the CPU without a word, as if it were the GPU."""
    wanted = job.execution_provider
    if wanted in {None, CPU_PROVIDER}:
        return
    fault = _register_providers(manager)
    if wanted not in _registered(manager):
        reason = f" ({fault})" if fault else ""
        what = f"{job.model_id} needs {wanted}, which is not registered on this machine{reason}."
        fix = "Choose a CPU variant, or install the driver and the libraries it needs."
        raise RuntimeUnavailableError(what, fix)


def _variant(manager: FoundryLocalManager, model_id: str) -> IModel:
    model = manager.catalog.get_model_variant(model_id)
    if model is None:
        what = f"The catalog does not offer '{model_id}' here."
        raise ModelNotFoundError(what, "List the models for their exact ids.")
    return model


def _description(variant: IModel) -> dict[str, Any]:
    info = variant.info
    device = info.runtime.device_type if info.runtime else None
    provider = info.runtime.execution_provider if info.runtime else None
    return {
        "alias": info.alias,
        "model_id": info.id,
        "device": str(device).lower() if device else "unknown",
        "execution_provider": provider or None,
        "quantization": info.get_string_property("quantization"),
        "size_mb": info.file_size_mb,
        "licence": info.license,
        "context_tokens": info.context_length,
        "cached": variant.is_cached,
    }


def _call(action: Callable[[], None], *, what: str, fix: str) -> None:
    from foundry_local_sdk import FoundryLocalException

    try:
        action()
    except FoundryLocalException as error:
        raise ModelServerError(f"{what} ({_one_line(error)}).", fix) from error


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()).rstrip(".")
    return text if len(text) <= 300 else f"{text[:297]}..."
