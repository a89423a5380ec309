"""Models of one's own: a checked file for each that is registered, trying one, and serving it in a child process.

The models' own files stay where they are: a folder is served by the Foundry Local runtime from where it lies, an
adapter by `adapter_server`.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import ClassVar, Literal

from workshop_lib import data, files, places
from workshop_lib.client import ChatClient
from workshop_lib.data import STRICT, read_as
from workshop_lib.errors import (
    ConfigurationError,
    DataFileError,
    ModelNotFoundError,
    ModelServerError,
    RuntimeUnavailableError,
)
from workshop_lib.files import typed_path
from workshop_lib.models.folder import ModelFolder, read_folder
from workshop_lib.records import ModelVariant, Request
from workshop_lib.runtimes.child_process import ChildProcess, ServedChild
from workshop_lib.show.text import one_line, without_home

LOAD_TIMEOUT_S = 900.0
_log = logging.getLogger(__name__)
_ALIAS = re.compile(r"(?!(auto|all)$)[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredModel(ModelVariant):
    """One model of one's own, as it stands in its file: a variant, and where it comes from.

    Attributes:
        place: where the ONNX GenAI folder, or an adapter's weights, lie; absolute.
        adapter: `/absolute/file.py:ClassName` or `package.module:ClassName`; None = the runtime serves the folder.
        build: which of several folders of one alias, e.g. `int4`; None = the alias has one model.
    """

    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    place: Path
    adapter: str | None = None
    build: str | None = None

    @property
    def kind(self) -> str:
        """`adapter` = a `CustomModelAdapter` answers; `folder` = the runtime does."""
        return "adapter" if self.adapter else "folder"

    def variant(self) -> ModelVariant:
        """The model as every other part of the workshop knows models; `cached` where it can be used now."""
        values = {each.name: getattr(self, each.name) for each in fields(ModelVariant)}
        return ModelVariant(**{**values, "cached": self.why_unusable() is None})

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


def folder_in(cache_dir: Path | None = None) -> Path:
    """Where the models' files lie; None = in `places.cache_root()`. It need not exist."""
    return (cache_dir or places.cache_root()) / "registered"


def read(cache_dir: Path | None = None) -> Models:
    """Every registered model, the oldest first. Raises `DataFileError` for a malformed file: names key and fix."""
    found = []
    for file in folder_in(cache_dir).glob("*.json"):
        with suppress(FileNotFoundError):  # another program unregisters it at this moment
            found.append((file.stat().st_mtime_ns, file.name, read_as(RegisteredModel, file)))
    return tuple(model for _, _, model in sorted(found, key=lambda each: each[:2]))


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
    """Register a model. Raises as `check_alias` and `read` do, or `ConfigurationError`: its file cannot be written."""
    check_alias(model.alias, read(cache_dir), build=model.build)
    content = {**asdict(model), "place": str(model.place)}
    files.write_atomically(_file(model, cache_dir), json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def remove(alias: str, *, cache_dir: Path | None = None) -> Models:
    """Unregister a model, all its builds, and return what was registered; the model's own files stay where they are.

    Raises `ModelNotFoundError`, which names those that are registered.
    """
    before = read(cache_dir)
    removed = tuple(model for model in before if model.alias == alias)
    if not removed:
        names = ", ".join(dict.fromkeys(model.alias for model in before))
        fix = f"Registered are: {names}." if names else "No model is registered at all."
        raise ModelNotFoundError(f"No model is registered as '{alias}'.", fix)
    for model in removed:
        _file(model, cache_dir).unlink(missing_ok=True)
    return removed


def _file(model: RegisteredModel, cache_dir: Path | None) -> Path:
    return folder_in(cache_dir) / f"{model.model_id.removesuffix(':1')}.json"


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


def _adapter_process(model_id: str, adapter: str, place: Path) -> ChildProcess:
    job = {"adapter": adapter, "model_id": model_id, "place": str(place)}
    program = "workshop_lib.models.adapter_server"
    return ChildProcess(program, job, name="adapter", doing=f"loading {model_id}")


def serve_adapter(model: RegisteredModel) -> ServedChild:
    """Load an adapter and serve it.

    Raises `ConfigurationError` where its class is gone, `ModelServerError` where it could not load the weights, or runs
    on something else than when it was registered: it would be measured on the CPU under the name of the GPU.
    """
    child = _adapter_process(model.model_id, str(model.adapter), model.place)
    served = ServedChild(model.variant(), child, timeout_s=LOAD_TIMEOUT_S)
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
    path, reference = typed_path(place).absolute(), _absolute(adapter)
    check_alias(alias, read(cache_dir), build=build)
    size_mb = _size_mb(path)
    if reference:
        with _adapter_process(alias, reference, path) as child:
            ready = child.wait_for("ready", timeout_s=LOAD_TIMEOUT_S)
        device, provider, context_tokens = ready["device"], ready["registered"][0], ready["context_tokens"]
    else:
        try:
            found = try_folder(path)
        except RuntimeUnavailableError as error:
            _log.warning("%s is registered, though it could not be tried here. %s", alias, error)
            found = read_folder(path)
        device, provider, context_tokens = found.device, found.execution_provider, found.context_tokens
        licence, precision = licence or found.licence, precision or found.precision
    model_id = f"{alias}-{build or ('adapter' if reference else 'folder')}-{device}:1"
    model = RegisteredModel(
        alias, model_id, device, provider, precision, size_mb, licence, context_tokens, tuple(capabilities),
        place=path, adapter=reference, build=build,
    )  # fmt: skip
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
