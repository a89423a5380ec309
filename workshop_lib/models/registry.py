"""Models of one's own: which are registered, in one checked file of the model cache.

The file is read and written under a lock and replaced as a whole, so that neither two programs nor a power cut leave
half of one. The models' own files stay where they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from workshop_lib import data, files, places
from workshop_lib.data import SCHEMA, STRICT, read_as
from workshop_lib.errors import ConfigurationError, DataFileError, ModelNotFoundError
from workshop_lib.models.folder import read_folder
from workshop_lib.records import ModelVariant
from workshop_lib.show.text import one_line, without_home

FILE_NAME = "registered_models.json"
LOCK_TIMEOUT_S = 20.0
_ALIAS = re.compile(r"(?!(auto|all)$)[a-z0-9][a-z0-9._-]{0,63}")
_ALIAS_RULE = "Use up to 64 lower-case letters, digits, '.', '_' and '-', and not 'auto' or 'all'."


@dataclass(frozen=True, slots=True)
class RegisteredModel:
    """One model of one's own, as it stands in the file.

    Attributes:
        alias: what people type: lower-case letters, digits, `.`, `_`, `-`; no alias of `models.json`.
        kind: `adapter` = a `CustomModelAdapter` answers; `folder` = the runtime itself serves it.
        place: where the weights (adapter) or the ONNX GenAI folder lie, absolute.
        adapter: `/absolute/file.py:ClassName` or `package.module:ClassName`; None for a folder.
        device, execution_provider: what it runs on: `cpu`, `gpu` or `npu`; e.g. `CPUExecutionProvider`.
        precision: `int4`, `fp16`, …; None when unknown.
        size_mb: on disk, 10^6 bytes.
        licence: SPDX name or the owner's wording; None when unknown.
        context_tokens: longest prompt plus answer; None when unknown.
        capabilities: tags as in `models.json`.
        build: which of several folders of one alias, e.g. `int4`; None = the alias has one model.

    Raises:
        ConfigurationError: a value cannot be used.
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
    build: str | None = None

    def __post_init__(self) -> None:
        rules = (
            ("alias", _ALIAS.fullmatch(self.alias), _ALIAS_RULE),
            ("place", not re.search(r"[\ud800-\udfff]", str(self.place)), "Move it to a folder whose name is Unicode."),
            ("adapter", (self.adapter is None) == (self.kind == "folder"), "A folder has none, an adapter has one."),
            ("device", self.device in {"cpu", "gpu", "npu"}, "Use cpu, gpu or npu."),
            ("context_tokens", self.context_tokens is None or self.context_tokens >= 1, "Give a number above 0."),
        )  # fmt: skip
        for key, holds, rule in rules:
            if not holds:
                seen = one_line(repr(getattr(self, key)), 80)
                raise ConfigurationError(f"The {key} of the model '{one_line(self.alias, 70)}' is {seen}.", rule)

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
        """Why it cannot be served any more, and what to do; None where nothing is known to be wrong."""
        file = Path((self.adapter or "").rpartition(":")[0])
        what = None
        if not self.place.exists():
            kind = "weights" if self.adapter else "folder"
            what = f"The {kind} of '{self.alias}' cannot be found any more at {without_home(str(self.place))}."
        elif file.suffix == ".py" and not file.is_file():
            what = f"The adapter of '{self.alias}' cannot be found any more at {without_home(str(file))}."
        elif self.kind == "folder":
            what = self._changed()
        fix = f"Bring it back as it was, or take it off the list: python3 workshop.py unregister {self.alias}."
        return (what, fix) if what else None

    def _changed(self) -> str | None:
        """A folder that was built anew for another device would be measured under the wrong name."""
        try:
            provider = read_folder(self.place).execution_provider
        except DataFileError as error:
            return f"The folder of '{self.alias}' cannot be served: {without_home(error.what)}"
        if provider == self.execution_provider:
            return None
        return f"The folder of '{self.alias}' was built for {self.execution_provider}, and is now for {provider}."


def _named(models: tuple[RegisteredModel, ...]) -> list[str]:
    """What may stand there once: an alias without builds, an alias with builds, and each id."""
    alone = [model.alias for model in models if model.build is None]
    return [*alone, *{model.alias for model in models if model.build}, *(model.model_id for model in models)]


@dataclass(frozen=True, slots=True)
class _File:
    """The whole file."""

    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    schema: data.Schema
    models: Annotated[tuple[RegisteredModel, ...], data.unique(_named)]


def file_in(cache_dir: Path | None = None) -> Path:
    """Where the file lies; None = in `places.cache_root()`. It need not exist."""
    return (cache_dir or places.cache_root()) / FILE_NAME


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


def check_alias(alias: str, registered: tuple[RegisteredModel, ...], *, build: str | None = None) -> None:
    """Raise `ConfigurationError` for no alias, or one that names a model already; a new build may join other builds."""
    if not _ALIAS.fullmatch(alias):
        raise ConfigurationError(f"The alias is {one_line(repr(alias), 80)}.", _ALIAS_RULE)
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
    """Register a model.

    Raises:
        ConfigurationError: the alias is taken, or the file cannot be written.
        DataFileError: the file is malformed.
    """
    file = file_in(cache_dir)
    places.make_folder(file.parent)
    with _locked(file):
        before = _read(file)
        check_alias(model.alias, before, build=model.build)
        _write(file, (*before, model))


def remove(alias: str, *, cache_dir: Path | None = None) -> tuple[RegisteredModel, ...]:
    """Unregister a model, all its builds, and return what was registered; the files stay where they are.

    Raises:
        ModelNotFoundError: no such model is registered; names those that are.
        ConfigurationError, DataFileError: as `add`.
    """
    file = file_in(cache_dir)
    before = read(cache_dir)
    if alias not in {model.alias for model in before}:
        names = ", ".join(dict.fromkeys(model.alias for model in before))
        fix = f"Registered are: {names}." if names else "No model is registered at all."
        raise ModelNotFoundError(f"No model is registered as '{alias}'.", fix)
    with _locked(file):
        _write(file, tuple(model for model in _read(file) if model.alias != alias))
    return tuple(model for model in before if model.alias == alias)


def _read(file: Path) -> tuple[RegisteredModel, ...]:
    if not file.exists():
        return ()
    try:
        content = read_as(_File, file)
    except DataFileError:
        raise
    except ConfigurationError as error:  # of a model in it
        raise DataFileError(f"{file}: {error.what}", error.fix) from None
    return content.models


def _write(file: Path, models: tuple[RegisteredModel, ...]) -> None:
    content = {"schema": SCHEMA, "models": [{**asdict(model), "place": str(model.place)} for model in models]}
    files.write_atomically(file, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


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
        raise ConfigurationError(what, f"Set {places.CACHE_VARIABLE} to a folder you may write.") from error
