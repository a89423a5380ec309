"""Models of one's own that the runtimes shall offer: one checked file in the model cache.

`registered_models.json` holds what a person registered: ONNX GenAI folders and adapters. It is read
and written under a lock and replaced as a whole, so that neither two programs nor a power cut leave
half a file. Knows whether a model's files are still there; knows nothing of how it is served.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Literal

from workshop_lib import catalog, files
from workshop_lib.errors import ConfigurationError, ModelNotFoundError
from workshop_lib.hosting import model_cache
from workshop_lib.hosting.selection import AUTO
from workshop_lib.json_files import STRICT, check_unique, fault, read_as
from workshop_lib.records import ModelVariant
from workshop_lib.show.text import one_line, without_home

FILE_NAME = "registered_models.json"
SCHEMA = 1
LOCK_TIMEOUT_S = 20.0
LONGEST_ALIAS = 64
_ALIAS = re.compile(r"[a-z0-9][a-z0-9._-]*")
_ADAPTER = re.compile(r".+:[^\W\d]\w*")


@dataclass(frozen=True, slots=True)
class RegisteredModel:
    """One model of one's own, as it stands in the file.

    Attributes:
        alias: what people type: lower-case letters, digits, `.`, `_`, `-`; no alias of `models.json`.
        kind: `adapter` = a `CustomModelAdapter` answers; `folder` = the runtime itself serves it.
        place: where the weights (adapter) or the ONNX GenAI folder lie, absolute.
        adapter: `/absolute/file.py:ClassName` or `package.module:ClassName`; None for a folder.
        device: `cpu`, `gpu` or `npu`.
        execution_provider: e.g. `CPUExecutionProvider`.
        precision: `int4`, `fp16`, …; None when unknown.
        size_mb: on disk, 10^6 bytes.
        licence: SPDX name or the owner's wording; None when unknown.
        context_tokens: longest prompt plus answer; None when unknown.
        capabilities: tags as in `models.json`.
    """

    alias: str
    kind: Literal["adapter", "folder"]
    place: Path
    adapter: str | None
    device: Literal["cpu", "gpu", "npu"]
    execution_provider: str
    precision: str | None
    size_mb: float
    licence: str | None
    context_tokens: int | None
    capabilities: tuple[str, ...] = ()

    @property
    def model_id(self) -> str:
        """The exact id the web service answers to, e.g. `my-model-adapter-cpu:1`."""
        return f"{self.name}:1"

    @property
    def name(self) -> str:
        """The id without its version."""
        return f"{self.alias}-{self.kind}-{self.device}"

    def variant(self, *, cached: bool | None = True) -> ModelVariant:
        """The model as every other part of the workshop knows models."""
        return ModelVariant(
            alias=self.alias,
            model_id=self.model_id,
            device=self.device,
            execution_provider=self.execution_provider,
            precision=self.precision,
            size_mb=self.size_mb,
            licence=self.licence,
            context_tokens=self.context_tokens,
            capabilities=self.capabilities,
            cached=cached,
        )


@dataclass(frozen=True, slots=True)
class _File:
    """The whole file."""

    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    schema: int
    models: tuple[RegisteredModel, ...]


def file_in(cache_dir: Path | None = None) -> Path:
    """Where the file lies; None = in `model_cache.cache_root()`. It need not exist."""
    return (cache_dir or model_cache.cache_root()) / FILE_NAME


def read(cache_dir: Path | None = None) -> tuple[RegisteredModel, ...]:
    """Every registered model, in the order of registration; none where there is no file.

    Raises:
        DataFileError: the file is malformed; names the key and the fix.
        ConfigurationError: another program holds the file.
    """
    file = file_in(cache_dir)
    if not file.exists():
        return ()
    with _locked(file):
        return _read(file)


def check(model: RegisteredModel, *, cache_dir: Path | None = None) -> None:
    """Say before any work is done what `add` would refuse. Raises what it raises."""
    for key, what, to_do in _faults(model):
        raise ConfigurationError(f"The {key} of the model to register {what}.", to_do)
    _refuse_unreadable(model)
    _refuse_offered(model.alias)
    _refuse_taken(model.alias, read(cache_dir))


def add(model: RegisteredModel, *, cache_dir: Path | None = None) -> None:
    """Register a model.

    Raises:
        ConfigurationError: the alias is taken, a value cannot be used, or the file cannot be written.
        DataFileError: the file is malformed.
    """
    check(model, cache_dir=cache_dir)
    file = file_in(cache_dir)
    model_cache.make_folder(file.parent)
    with _locked(file):
        before = _read(file)
        _refuse_taken(model.alias, before)  # again: another program may have been faster
        _write(file, (*before, model))


def remove(alias: str, *, cache_dir: Path | None = None) -> RegisteredModel:
    """Unregister a model and return what was registered; its files stay where they are.

    Raises:
        ModelNotFoundError: no such model is registered; names the nearest that are.
        ConfigurationError: the file cannot be written.
        DataFileError: the file is malformed.
    """
    file = file_in(cache_dir)
    if not file.exists():
        raise _not_registered(alias, ())
    with _locked(file):
        before = _read(file)
        for model in before:
            if model.alias == alias:
                _write(file, tuple(each for each in before if each is not model))
                return model
    raise _not_registered(alias, [model.alias for model in before])


def why_unusable(model: RegisteredModel) -> str | None:
    """Why a model cannot be served any more, as a sentence; None where nothing is known to be wrong."""
    what = "weights" if model.kind == "adapter" else "folder"
    if not model.place.exists():
        return f"The {what} of '{model.alias}' cannot be found any more at {without_home(str(model.place))}."
    file = Path((model.adapter or "").rpartition(":")[0])
    if file.suffix == ".py" and not file.is_file():
        return f"The adapter of '{model.alias}' cannot be found any more at {without_home(str(file))}."
    return None


def advice(model: RegisteredModel) -> str:
    """What to do with a model that is unusable, as a sentence."""
    return f"Put it back there, or take the model off the list: python3 workshop.py unregister {model.alias}."


def _read(file: Path) -> tuple[RegisteredModel, ...]:
    if not file.exists():
        return ()
    content = read_as(_File, file)
    if content.schema != SCHEMA:
        raise fault(file, "schema", f"is {content.schema}", f"This version reads schema {SCHEMA}.")
    for number, model in enumerate(content.models):
        for key, what, to_do in _faults(model):
            raise fault(file, f"models[{number}].{key}", what, to_do)
    check_unique(file, "models", (model.alias for model in content.models))
    return content.models


def _faults(model: RegisteredModel) -> Iterator[tuple[str, str, str]]:
    """What cannot be used: the field, what is wrong with it, what to do."""
    if not _ALIAS.fullmatch(model.alias) or len(model.alias) > LONGEST_ALIAS or model.alias == AUTO:
        rule = f"Use up to {LONGEST_ALIAS} lower-case letters, digits, '.', '_' and '-', and not '{AUTO}'."
        yield "alias", f"is {model.alias!r}", rule
    if not model.place.is_absolute():
        yield "place", f"is '{model.place}'", "Give an absolute path."
    if model.kind == "adapter" and not _ADAPTER.fullmatch(model.adapter or ""):
        yield "adapter", f"is {model.adapter!r}", "Give FILE.py:ClassName or package.module:ClassName."
    if model.kind == "folder" and model.adapter is not None:
        yield "adapter", f"is {model.adapter!r}", "Leave it out: the runtime itself serves a folder."
    if not 0 < model.size_mb < math.inf:
        yield "size_mb", f"is {model.size_mb}", "Give megabytes above 0."
    if model.context_tokens is not None and model.context_tokens < 1:
        yield "context_tokens", f"is {model.context_tokens}", "Give a number above 0, or none."


def _refuse_unreadable(model: RegisteredModel) -> None:
    """A value that is written but not read back would make the whole file, with every other model, unreadable."""
    from pydantic import TypeAdapter, ValidationError

    try:
        TypeAdapter(_File).validate_json(_as_json((model,)))
    except TypeError as error:
        raise ConfigurationError(f"The model cannot be registered: {error}.", "Give plain values.") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if first["type"] == "json_invalid":
            what = f"A path or text of '{model.alias}' is no Unicode text."
            raise ConfigurationError(what, "Move the files to a folder whose name is.") from None
        _, _, key, *_ = first["loc"]
        what = f"The {key} of the model to register is {one_line(repr(first['input']), 60)}."
        raise ConfigurationError(what, f"{first['msg'].replace('Input', 'It')}.") from None


def _refuse_offered(alias: str) -> None:
    """An alias that a catalog offers would name two models at once."""
    card = catalog.read_models().get(alias)
    if card is not None and card.listed:
        what = f"The alias '{alias}' belongs to a model of the profile '{card.profile}'."
        raise ConfigurationError(what, f"Choose another, for example my-{alias}.")


def _refuse_taken(alias: str, registered: Iterable[RegisteredModel]) -> None:
    for other in registered:
        if other.alias == alias:
            what = f"The alias '{alias}' is taken by a registered {other.kind}, {without_home(str(other.place))}."
            fix = f"Choose another, or free it first: python3 workshop.py unregister {alias}."
            raise ConfigurationError(what, fix)


def _not_registered(alias: str, registered: Iterable[str]) -> ModelNotFoundError:
    names = list(registered)
    close = difflib.get_close_matches(alias, names, n=3)
    if close:
        to_do = f"Did you mean {' or '.join(close)}?"
    else:
        to_do = f"Registered are: {', '.join(names)}." if names else "No model is registered at all."
    return ModelNotFoundError(f"No model is registered as '{alias}'.", to_do)


def _write(file: Path, models: tuple[RegisteredModel, ...]) -> None:
    files.write_atomically(file, _as_json(models))


def _as_json(models: Iterable[RegisteredModel]) -> bytes:
    content = {"schema": SCHEMA, "models": [{**asdict(model), "place": str(model.place)} for model in models]}
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Read and write one at a time; a reader that is let in between would stop Windows from replacing the file."""
    try:
        with files.one_writer(file, wait_s=LOCK_TIMEOUT_S):
            yield
    except TimeoutError:
        what = f"Another program has been holding {file} for {LOCK_TIMEOUT_S:.0f} s."
        raise ConfigurationError(what, "End it, then try again.") from None
    except OSError as error:
        what = f"{file.parent} cannot be written ({error.strerror or error})."
        raise ConfigurationError(what, f"Set {model_cache.CACHE_VARIABLE} to a folder you may write.") from error
