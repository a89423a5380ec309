"""Models of this machine, each served by a child process of its own; and registering one, after it was tried once.

A folder is served by the Foundry Local runtime, from where it lies; an adapter by `adapter_server`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from workshop_lib import places
from workshop_lib.client import ChatClient
from workshop_lib.errors import ConfigurationError, ModelServerError, RuntimeUnavailableError
from workshop_lib.files import typed_path
from workshop_lib.machine import CPU_PROVIDER
from workshop_lib.models import folder as folders
from workshop_lib.models import registry
from workshop_lib.models.folder import ModelFolder
from workshop_lib.models.registry import RegisteredModel
from workshop_lib.records import ModelVariant, Request
from workshop_lib.runtimes.child_process import ChildProcess, ServedChild

LOAD_TIMEOUT_S = 900.0
_log = logging.getLogger(__name__)


def foundry_process(
    task: str,
    variant: ModelVariant | None = None,
    *,
    logs_dir: Path,
    place: Path | None = None,
    **job: Any,
) -> ChildProcess:
    """Start a child with the runtime in it; the other options are those of `foundry_child.Job`."""
    doing = {"look": "listing the models", "download": "downloading {}", "serve": "loading {}"}[task]
    job |= {"task": task, "logs_dir": str(logs_dir), "folder": str(place or "")}
    if variant is not None:
        job |= {"model_id": variant.model_id, "execution_provider": variant.execution_provider}
        doing = doing.format(variant.model_id)
    names = {place: place.name} if place else {}
    return ChildProcess("workshop_lib.runtimes.foundry_child", job, name="runtime", doing=doing, names=names)


def serve_adapter(model: RegisteredModel) -> ServedChild:
    """Load an adapter and serve it.

    Raises:
        ConfigurationError: its class is gone.
        ModelServerError: it could not load the weights, its process died, or it runs on something else than when it was
            registered: one that finds no GPU today would be measured on the CPU under the name of the GPU.
    """

    def accept(ready: Mapping[str, Any]) -> None:
        now = (ready["device"], ready["registered"][0])
        if now != (model.device, model.execution_provider):
            what = f"'{model.alias}' was registered on {model.device} ({model.execution_provider}), and now runs on"
            fix = f"Correct that, or register it anew: python3 workshop.py unregister {model.alias}."
            raise ModelServerError(f"{what} {now[0]} ({now[1]}).", fix)

    return ServedChild.when_ready(model.variant(), _adapter_process(model), timeout_s=LOAD_TIMEOUT_S, accept=accept)


def try_folder(folder: Path | str) -> ModelFolder:
    """Look at a folder, load it once and let it answer.

    Raises:
        DataFileError: its files are not those of a model.
        ModelServerError: the runtime could not load it, or it did not answer; in the runtime's own words.
        RuntimeUnavailableError: the runtime, or the provider that it is built for, is not on this machine.
    """
    found = folders.read_folder(folder)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", found.place.name)
    variant = ModelVariant(name, f"{name}:1", found.device, found.execution_provider)
    child = foundry_process("serve", variant, logs_dir=places.cache_root() / "logs", place=found.place)
    question = Request("try", variant, "try", "Say hello.", round=1, max_tokens=1)
    with (
        ServedChild.when_ready(variant, child, timeout_s=LOAD_TIMEOUT_S) as served,
        ChatClient(served.base_url) as client,
    ):
        answer = client.ask(question)
    if answer.error is not None:
        fix = "Take an instruction-tuned model, with a chat template (-Instruct, -it, -chat), and convert it again."
        raise ModelServerError(f"{found.place.name} was loaded, and did not answer: {answer.error}", fix)
    return found


def register(
    alias: str,
    place: Path | str,
    *,
    adapter: str | None = None,
    licence: str | None = None,
    precision: str | None = None,
    context_tokens: int | None = None,
    capabilities: Sequence[str] = (),
    build: str | None = None,
    cache_dir: Path | None = None,
) -> RegisteredModel:
    """Offer a model of one's own beside the others; it is tried once, and stays where it is.

    A folder that cannot be tried, as the runtime or its provider is not on this machine, is registered with a warning.

    Args:
        alias: what people will type; no alias of `models.json`.
        place: an ONNX Runtime GenAI folder; with an adapter the file or folder that it loads.
        adapter: `path/to/file.py:ClassName` or `package.module:ClassName`; its file is run.
        licence: of the weights; None = what a folder states.
        precision: of the weights; None = what a folder's model file tells.
        context_tokens: longest prompt plus answer; None = what folder or adapter say.
        capabilities: tags as in `models.json`.
        build: which of several folders of this alias; None = the alias has one model.
        cache_dir: None = `places.cache_root()`.

    Raises:
        ConfigurationError: the alias is taken, there are no such weights, or no such adapter.
        ModelServerError: it could not be loaded, did not answer, or its process died.
        DataFileError: a folder's files are not those of a model.
    """
    path = typed_path(place).absolute()
    model = RegisteredModel(
        alias, "adapter" if adapter else "folder", path, _absolute(adapter), "cpu", CPU_PROVIDER,
        precision, _size_mb(path), licence, context_tokens, tuple(capabilities), build,
    )  # fmt: skip
    registry.check_alias(alias, registry.read(cache_dir), build=build)
    if adapter:
        with _adapter_process(model) as child:
            ready = child.wait_for("ready", timeout_s=LOAD_TIMEOUT_S)
        model = replace(
            model,
            device=ready["device"],
            execution_provider=ready["registered"][0],
            context_tokens=context_tokens or ready["context_tokens"],
        )
    else:
        try:
            found = try_folder(path)
        except RuntimeUnavailableError as error:
            _log.warning("%s is registered, though it could not be tried here. %s", alias, error)
            found = folders.read_folder(path)
        model = replace(
            model,
            device=found.device,
            execution_provider=found.execution_provider,
            licence=licence or found.licence,
            precision=precision or found.precision,
            context_tokens=found.context_tokens,
        )
    registry.add(model, cache_dir=cache_dir)
    return model


def _adapter_process(model: RegisteredModel) -> ChildProcess:
    job = {name: getattr(model, name) for name in ("adapter", "model_id", "context_tokens")}
    program, doing = "workshop_lib.models.adapter_server", f"loading {model.model_id}"
    return ChildProcess(program, {**job, "place": str(model.place)}, name="adapter", doing=doing)


def _absolute(adapter: str | None) -> str | None:
    """The same reference, with the path of a file made absolute: the child runs in another folder one day."""
    if adapter is None:
        return None
    place, _, name = adapter.strip(" \"'").rpartition(":")
    path = typed_path(place)
    return f"{path.absolute()}:{name}" if path.suffix == ".py" else adapter


def _size_mb(place: Path) -> float:
    files = [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]
    if not (size_bytes := sum(path.stat().st_size for path in files)):
        raise ConfigurationError(f"There are no files of a model at {place}.", "Give their folder, or the file.")
    return size_bytes / 1e6
