"""The child process that holds the Foundry Local runtime: look at the catalog, download a model, or serve one.

Run as `python -m workshop_lib.runtimes.foundry_child`; its job is what `registry.foundry_process` says. The only module
that imports the SDK. A model of this machine is registered with the runtime's local catalog, from its own folder, under
`/catalogs/local/v1`; one of the public catalog is served under `/v1`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workshop_lib.errors import ModelNotFoundError, ModelServerError, RuntimeUnavailableError
from workshop_lib.machine import CPU_PROVIDER
from workshop_lib.runtimes.child import Emit, do_the_job
from workshop_lib.show.text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from foundry_local_sdk import FoundryLocalManager, IModel

    Job = Mapping[str, Any]

APP_NAME = "edge-ai-workshop"
CONFIG = "genai_config.json"
_INSTALL = (
    "Install it with 'pip install foundry-local-sdk==2.2.1' (Python 3.11 to 3.14 on Windows, "
    "Linux or macOS arm64), or set FOUNDRY_LOCAL_ENDPOINT to a server on another machine."
)
_NATIVE_PLACE = re.compile(r"\S+\.(?:cc|h):\d+ (?:(?:[^():]|::)*\((?:[^()]|\([^()]*\))*\)(?: const)?|\w+)\s*")
"""Where in its own source the runtime met a fault: nothing that a reader can use."""


def _do(cache: str, job: Job, emit: Emit) -> None:
    """Do a job, with the events `listing`, `progress`, `downloaded`, `ready`. Raises `WorkshopError`.

    The local catalog keeps its registrations in the model cache, for every process that shares it, and reads them again
    at each request. So each child has an empty cache of its own for as long as it lives.
    """
    manager = _start(job, job["models_dir"] or cache)
    if job["threads"]:
        job = {**job, "folder": str(_with_threads(Path(job["folder"]), job["threads"], Path(cache) / "served"))}
    {"look": _look, "download": _download, "serve": _serve}[job["task"]](manager, job, emit)


def _start(job: Job, models_dir: str) -> FoundryLocalManager:
    try:
        from foundry_local_sdk import Configuration, FoundryLocalException, FoundryLocalManager

        options: dict[str, Any] = {"model_cache_dir": models_dir, "logs_dir": job["logs_dir"]}
        options["catalog_urls"] = [(job["catalog_url"], None)] if job["catalog_url"] else []
        web = Configuration.WebService(urls="http://127.0.0.1:0")
        return FoundryLocalManager(Configuration(APP_NAME, web=web, **options))
    except (ImportError, OSError) as error:
        what = f"The Foundry Local runtime cannot run here ({_one_line(error)})."
        raise RuntimeUnavailableError(what, _INSTALL) from error
    except FoundryLocalException as error:
        what = f"The Foundry Local runtime did not start ({_one_line(error)})."
        fix = f"Check that {models_dir} can be written and that memory is free, then try again."
        raise RuntimeUnavailableError(what, fix) from error


def _look(manager: FoundryLocalManager, job: Job, emit: Emit) -> None:
    fault = _register_providers(manager)
    models = manager.catalog.list_models() if job["models_dir"] else []
    described = [_description(variant) for model in models for variant in model.variants]
    known = sorted(provider.name for provider in manager.discover_eps())
    listing = {"models": described, "registered": _registered(manager), "discoverable": known, "fault": fault}
    emit({"event": "listing", **listing})


def _download(manager: FoundryLocalManager, job: Job, emit: Emit) -> None:
    if job["execution_provider"] not in {None, CPU_PROVIDER}:
        _register_providers(manager)  # the catalog offers a GPU build only then
    model = _public_model(manager, job["model_id"])
    fix = "Check the network and try again; what has arrived is kept where the runtime can."
    with _faults(f"{job['model_id']} could not be downloaded", fix):
        model.download(lambda percent: emit({"event": "progress", "percent": percent}))
    emit({"event": "downloaded"})


def _serve(manager: FoundryLocalManager, job: Job, emit: Emit) -> None:
    """Load a model, serve it, and stay: the process ends by its parent's will."""
    from foundry_local_sdk import CatalogType, ModelInfoBuilder

    model_id, folder = job["model_id"], job["folder"]
    _require_provider(manager, model_id, job["execution_provider"])
    if folder:
        info = ModelInfoBuilder().set_string_property("task", "chat-completion")
        with _faults("The runtime does not take the folder", "Give a folder for ONNX Runtime GenAI."):
            model = manager.get_catalog(CatalogType.LOCAL).register_model(folder, model_id, info)
    else:
        model = _public_model(manager, model_id)
    if not model.is_cached:
        raise ModelServerError(f"{model_id} is not in the model cache.", "Download it first.")
    with _faults("The web service could not start on 127.0.0.1", "Try again."):
        manager.start_web_service()
    started = time.perf_counter()
    fix = "Stop other models, choose a smaller variant, or download or convert it again."
    with _faults(f"{model_id} could not be loaded", fix):
        model.load()
    told = {"load_s": time.perf_counter() - started, "pid": os.getpid(), "registered": _registered(manager)}
    base_url = f"{(manager.urls or [''])[0].rstrip('/')}{'/catalogs/local' if folder else ''}/v1"
    emit({"event": "ready", "base_url": base_url, "threads": _threads(Path(folder or model.get_path())), **told})
    threading.Event().wait()


def main() -> None:
    """Do the job that standard input names, and end."""
    os.environ["CI"] = "true"  # the runtime then sends no telemetry
    with tempfile.TemporaryDirectory(prefix=f"{APP_NAME}-", ignore_cleanup_errors=True) as cache:
        do_the_job(partial(_do, cache), on_exit=partial(shutil.rmtree, cache, ignore_errors=True))


def _public_model(manager: FoundryLocalManager, model_id: str) -> IModel:
    model = manager.catalog.get_model_variant(model_id)
    if model is None:
        what = f"The catalog does not offer '{model_id}' here."
        raise ModelNotFoundError(what, "List the models for their exact ids.")
    return model


def _register_providers(manager: FoundryLocalManager) -> str | None:
    """Register every execution provider this machine can use; returns what went wrong, if anything.

    The runtime may download a provider for that; `FOUNDRY_LOCAL_CUDA_EP_LIBRARY` names the file of a CUDA provider that
    is here already; it needs CUDA libraries, which are installed apart.
    """
    from foundry_local_sdk import FoundryLocalException

    try:
        if not all(provider.is_registered for provider in manager.discover_eps()):
            manager.download_and_register_eps()
    except FoundryLocalException as error:
        return _one_line(error)
    return None


def _registered(manager: FoundryLocalManager) -> list[str]:
    """What a model can really run on; the runtime never lists the CPU, which is part of it."""
    return [CPU_PROVIDER, *sorted(each.name for each in manager.discover_eps() if each.is_registered)]


def _require_provider(manager: FoundryLocalManager, model_id: str, wanted: str | None) -> None:
    """Refuse what the runtime would run on the CPU without a word, as if it were the GPU."""
    if wanted in {None, CPU_PROVIDER}:
        return
    fault = _register_providers(manager)
    if wanted not in _registered(manager):
        reason = f" ({fault})" if fault else ""
        what = f"{model_id} needs {wanted}, which is not registered on this machine{reason}."
        raise RuntimeUnavailableError(what, "Choose a CPU variant, or install the driver and the libraries it needs.")


def _with_threads(folder: Path, threads: int, place: Path) -> Path:
    """Make a folder with the files of another that tells the runtime how many threads to use."""
    shutil.copytree(folder, place, copy_function=shutil.copyfile)  # some megabytes
    with suppress(ValueError, LookupError, TypeError):  # a damaged one: the runtime says better what is wrong
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        config["model"]["decoder"]["session_options"]["intra_op_num_threads"] = threads
        (place / CONFIG).write_text(json.dumps(config), encoding="utf-8")
    return place


def _threads(folder: Path) -> int | None:
    """How many threads the folder tells the runtime to use; None = the runtime chooses."""
    try:
        decoder = json.loads((folder / CONFIG).read_text(encoding="utf-8"))["model"]["decoder"]
        threads = decoder["session_options"]["intra_op_num_threads"]
    except (OSError, ValueError, LookupError, TypeError):  # not set, or in a form that only the runtime reads
        return None
    return threads if isinstance(threads, int) and threads > 0 else None


def _description(variant: IModel) -> dict[str, Any]:
    info, runtime = variant.info, variant.info.runtime
    return {
        "alias": info.alias,
        "model_id": info.id,
        "device": str((runtime and runtime.device_type) or "unknown").lower(),
        "execution_provider": (runtime and runtime.execution_provider) or None,
        "precision": info.get_string_property("quantization"),
        "size_mb": info.file_size_mb,
        "licence": info.license,
        "context_tokens": info.context_length,
        "cached": variant.is_cached,
    }


@contextmanager
def _faults(what: str, fix: str) -> Iterator[None]:
    """Turn what the runtime raises into an error of ours, in its own words."""
    from foundry_local_sdk import FoundryLocalException

    try:
        yield
    except FoundryLocalException as error:
        raise ModelServerError(f"{what} ({_one_line(error)}).", fix) from error


def _one_line(error: Exception) -> str:
    return one_line(_NATIVE_PLACE.sub("", " ".join(str(error).split())), 300).rstrip(".")


if __name__ == "__main__":
    main()
