"""Models of one's own: a checked file of those that are registered, trying one, and serving it in a child process.

The file is read and written under a lock and replaced as a whole, so that neither two programs nor a power cut leave
half of one. The models' own files stay where they are: a folder is served by the Foundry Local runtime from where it
lies, an adapter by `adapter_server`.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

from workshop_lib import data, files, places
from workshop_lib.client import ChatClient
from workshop_lib.data import SCHEMA, STRICT, Device, read_as
from workshop_lib.errors import (
    ConfigurationError,
    DataFileError,
    ModelNotFoundError,
    ModelServerError,
    RuntimeUnavailableError,
)
from workshop_lib.files import typed_path
from workshop_lib.machine import CPU_PROVIDER
from workshop_lib.models.folder import ModelFolder, read_folder
from workshop_lib.records import ModelVariant, Request
from workshop_lib.runtimes.child_process import ChildProcess, ServedChild
from workshop_lib.show.text import one_line, without_home

FILE_NAME = "registered_models.json"
LOAD_TIMEOUT_S = 900.0
_log = logging.getLogger(__name__)
_ALIAS = re.compile(r"(?!(auto|all)$)[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class RegisteredModel:
    """One model of one's own, as it stands in the file.

    Attributes:
        alias: what people type; no alias of `models.json`.
        kind: `adapter` = a `CustomModelAdapter` answers; `folder` = the runtime itself serves it.
        place: where the weights (adapter) or the ONNX GenAI folder lie, absolute.
        adapter: `/absolute/file.py:ClassName` or `package.module:ClassName`; None for a folder.
        device, execution_provider: what it runs on, e.g. `cpu` and `CPUExecutionProvider`.
        precision: `int4`, `fp16`, …; None when unknown.
        size_mb: on disk, 10^6 bytes.
        licence: SPDX name or the owner's wording; None when unknown.
        context_tokens: longest prompt plus answer; None when unknown.
        capabilities: tags as in `models.json`.
        build: which of several folders of one alias, e.g. `int4`; None = the alias has one model.
    """

    alias: str
    kind: Literal["adapter", "folder"]
    place: Path
    adapter: str | None
    device: Device
    execution_provider: str
    precision: str | None
    size_mb: float
    licence: str | None
    context_tokens: int | None
    capabilities: tuple[str, ...] = ()
    build: str | None = None

    @property
    def model_id(self) -> str:
        """The exact id the web service answers to, e.g. `my-model-adapter-cpu:1`, `my-model-int4-cpu:1`."""
        return f"{self.alias}-{self.build or self.kind}-{self.device}:1"

    def variant(self) -> ModelVariant:
        """The model as every other part of the workshop knows models; `cached` where it can be used now."""
        return ModelVariant(
            self.alias, self.model_id, self.device, self.execution_provider, self.precision, self.size_mb,
            self.licence, self.context_tokens, self.capabilities, cached=self.why_unusable() is None,
        )  # fmt: skip

    def why_unusable(self) -> tuple[str, str] | None:
        """Why it cannot be served any more, and what to do; None where nothing is known to be wrong.

        A folder that was built anew for another device would be measured under the wrong name.
        """
        adapter, what = Path((self.adapter or "").rpartition(":")[0]), ""
        needed = [self.place, adapter] if adapter.suffix == ".py" else [self.place]
        if missing := [place for place in needed if not place.exists()]:
            what = f"'{self.alias}' cannot be found any more at {missing[0]}."
        elif self.kind == "folder":
            try:
                if (now := read_folder(self.place).execution_provider) != self.execution_provider:
                    what = f"'{self.alias}' was built for {self.execution_provider}, and is now for {now}."
            except DataFileError as error:
                what = f"The folder of '{self.alias}' cannot be served: {error.what}"
        fix = f"Bring it back as it was, or take it off the list: python3 workshop.py unregister {self.alias}."
        return (without_home(what), fix) if what else None


Models = tuple[RegisteredModel, ...]
Task = Literal["look", "download", "serve"]


@dataclass(frozen=True, slots=True)
class _File:
    """The whole file."""

    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    schema: data.Schema
    models: Models


def file_in(cache_dir: Path | None = None) -> Path:
    """Where the file lies; None = in `places.cache_root()`. It need not exist."""
    return (cache_dir or places.cache_root()) / FILE_NAME


def read(cache_dir: Path | None = None) -> Models:
    """Every registered model, in the order of registration; none where there is no file.

    Raises `DataFileError` for a malformed file, `ConfigurationError` for one that another program holds.
    """
    file = file_in(cache_dir)
    if not file.exists():
        return ()
    with locked(file):  # a reader that is let in beside a writer would stop Windows from replacing the file
        return read_as(_File, file).models


def check_alias(alias: str, registered: Models, *, build: str | None = None) -> None:
    """Raise `ConfigurationError` for no alias, or one that names a model already; a new build may join other builds."""
    if not _ALIAS.fullmatch(alias):
        fix = "Use up to 64 lower-case letters, digits, '.', '_' and '-', and not 'auto' or 'all'."
        raise ConfigurationError(f"The alias is {one_line(repr(alias), 80)}.", fix)
    card = data.read_models().get(alias)
    if card is not None and card.listed:
        what = f"The alias '{alias}' belongs to a model of the profile '{card.profile}'."
        raise ConfigurationError(what, f"Choose another, for example my-{alias}.")
    for other in registered:
        if other.alias == alias and (build is None or other.build in {None, build}):
            what = f"The alias '{alias}' is taken by a registered {other.kind}, {without_home(str(other.place))}."
            fix = f"Choose another, or free it first: python3 workshop.py unregister {alias}."
            raise ConfigurationError(what, fix)


def add(model: RegisteredModel, *, cache_dir: Path | None = None) -> None:
    """Register a model. Raises as `check_alias` and `read` do, or `ConfigurationError`: the file cannot be written."""
    file = file_in(cache_dir)
    places.make_folder(file.parent)
    with locked(file):
        before = read_as(_File, file).models if file.exists() else ()
        check_alias(model.alias, before, build=model.build)
        _write(file, (*before, model))


def remove(alias: str, *, cache_dir: Path | None = None) -> Models:
    """Unregister a model, all its builds, and return what was registered; the files stay where they are.

    Raises `ModelNotFoundError`, which names those that are registered, and what `add` raises.
    """
    before = read(cache_dir)
    removed = tuple(model for model in before if model.alias == alias)
    if not removed:
        names = ", ".join(dict.fromkeys(model.alias for model in before))
        fix = f"Registered are: {names}." if names else "No model is registered at all."
        raise ModelNotFoundError(f"No model is registered as '{alias}'.", fix)
    with locked(file := file_in(cache_dir)):
        _write(file, [model for model in read_as(_File, file).models if model.alias != alias])
    return removed


def _write(file: Path, models: Sequence[RegisteredModel]) -> None:
    content = {"schema": SCHEMA, "models": [{**asdict(model), "place": str(model.place)} for model in models]}
    files.write_atomically(file, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


@contextmanager
def locked(path: Path, *, wait_s: float = 20.0) -> Iterator[None]:
    """Keep other programs from a file or folder until the block ends; what keeps it from being written is an error."""
    try:
        with files.one_writer(path, wait_s=wait_s):
            yield
    except TimeoutError:
        what = f"Another program has been writing {without_home(str(path))} for {wait_s:.0f} s."
        raise ConfigurationError(what, "Wait for it or end it, then try again.") from None
    except OSError as error:
        raise files.unwritable(path, error) from error


def foundry_process(
    task: Task,
    variant: ModelVariant | None = None,
    *,
    logs_dir: Path,
    models_dir: Path | None = None,
    catalog_url: str = "",
    place: Path | None = None,
    threads: int | None = None,
) -> ChildProcess:
    """Start a child with the runtime in it.

    Args:
        task: what it is to do; with a `variant`, but for `look`.
        variant: of which the exact `name:version` and the execution provider count.
        logs_dir: where the runtime writes its log.
        models_dir: the cache of the public catalog; None = the public catalog is not asked.
        catalog_url: where that one is, ending in `/asset-gallery/v1.0/models`; empty = the runtime's own.
        place: the folder of a model of this machine; None = it is the public catalog's.
        threads: how many that model uses; None = what its folder sets.
    """
    model_id, provider = (variant.model_id, variant.execution_provider) if variant else ("", None)
    folders = {"logs_dir": str(logs_dir), "models_dir": str(models_dir or ""), "folder": str(place or "")}
    asked = {"task": task, "model_id": model_id, "execution_provider": provider}
    doing = {"look": "listing the models", "download": f"downloading {model_id}", "serve": f"loading {model_id}"}[task]
    return ChildProcess(
        "workshop_lib.runtimes.foundry_child",
        {**asked, **folders, "catalog_url": catalog_url, "threads": threads},
        name="runtime",
        doing=doing,
        names={place: place.name} if place else {},
    )


def _adapter_process(model: RegisteredModel) -> ChildProcess:
    job = {"adapter": model.adapter, "model_id": model.model_id, "place": str(model.place)}
    program, doing = "workshop_lib.models.adapter_server", f"loading {model.model_id}"
    return ChildProcess(program, job, name="adapter", doing=doing)


def serve_adapter(model: RegisteredModel) -> ServedChild:
    """Load an adapter and serve it.

    Raises `ConfigurationError` where its class is gone, `ModelServerError` where it could not load the weights, or runs
    on something else than when it was registered: it would be measured on the CPU under the name of the GPU.
    """
    served = ServedChild(model.variant(), _adapter_process(model), timeout_s=LOAD_TIMEOUT_S)
    now = served.ready["device"], served.registered_providers[0]
    if now == (model.device, model.execution_provider):
        return served
    served.stop()
    what = f"'{model.alias}' was registered on {model.device} ({model.execution_provider}), and now runs on"
    fix = f"Correct that, or register it anew: python3 workshop.py unregister {model.alias}."
    raise ModelServerError(f"{what} {now[0]} ({now[1]}).", fix)


def try_folder(folder: Path | str) -> ModelFolder:
    """Look at a folder, load it once and let it answer.

    Raises:
        DataFileError: its files are not those of a model.
        ModelServerError: the runtime could not load it, or it did not answer; in the runtime's own words.
        RuntimeUnavailableError: the runtime, or the provider that it is built for, is not on this machine.
    """
    found = read_folder(folder)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", found.place.name)
    variant = ModelVariant(name, f"{name}:1", found.device, found.execution_provider)
    child = foundry_process("serve", variant, logs_dir=places.cache_root() / "logs", place=found.place)
    question = Request("try", variant, "try", "Say hello.", round=1, max_tokens=1)
    with ServedChild(variant, child, timeout_s=LOAD_TIMEOUT_S) as served, ChatClient.to(served) as client:
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
    capabilities: Sequence[str] = (),
    build: str | None = None,
    cache_dir: Path | None = None,
) -> RegisteredModel:
    """Offer a model of one's own beside the others; it is tried once, and stays where it is.

    A folder that cannot be tried, as the runtime or its provider is not on this machine, is registered with a warning.

    `place` is an ONNX Runtime GenAI folder, or with an adapter the file or folder that it loads. `adapter` is
    `path/to/file.py:ClassName` or `package.module:ClassName`; its file is run. Licence and precision are those of the
    weights; None = what a folder's card states, and its model file tells. The rest is as in `RegisteredModel`.

    Raises:
        ConfigurationError: the alias is taken, there are no such weights, or no such adapter.
        ModelServerError: it could not be loaded, did not answer, or its process died.
        DataFileError: a folder's files are not those of a model.
    """
    path = typed_path(place).absolute()
    check_alias(alias, read(cache_dir), build=build)
    model = RegisteredModel(
        alias, "adapter" if adapter else "folder", path, _absolute(adapter), "cpu", CPU_PROVIDER,
        precision, _size_mb(path), licence, None, tuple(capabilities), build,
    )  # fmt: skip
    if adapter:
        with _adapter_process(model) as child:
            ready = child.wait_for("ready", timeout_s=LOAD_TIMEOUT_S)
        runs_on, context_tokens = (ready["device"], ready["registered"][0]), ready["context_tokens"]
    else:
        try:
            found = try_folder(path)
        except RuntimeUnavailableError as error:
            _log.warning("%s is registered, though it could not be tried here. %s", alias, error)
            found = read_folder(path)
        runs_on, context_tokens = (found.device, found.execution_provider), found.context_tokens
        model = replace(model, licence=licence or found.licence, precision=precision or found.precision)
    model = replace(model, device=runs_on[0], execution_provider=runs_on[1], context_tokens=context_tokens)
    add(model, cache_dir=cache_dir)
    return model


def _absolute(adapter: str | None) -> str | None:
    """The same reference, with the path of a file made absolute: the child runs in another folder one day."""
    place, _, name = (adapter or "").strip(" \"'").rpartition(":")
    path = typed_path(place)
    return f"{path.absolute()}:{name}" if path.suffix == ".py" else adapter


def _size_mb(place: Path) -> float:
    found = [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]
    if not (size_bytes := sum(path.stat().st_size for path in found)):
        raise ConfigurationError(f"There are no files of a model at {place}.", "Give their folder, or the file.")
    return size_bytes / 1e6
