"""Is a folder a model that the runtime can serve? Looked at file by file, without loading it.

`examine` says one thing per check: what was seen, and what to do. `register_folder` lets a folder that passed take its
place beside the models of the catalog. That a model answers well, or fits into the memory, only loading it can show.
Knows the format of ONNX Runtime GenAI folders; knows no catalog and no runtime.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from workshop_lib.errors import DataFileError
from workshop_lib.files import typed_path
from workshop_lib.registration import genai_config, model_cards, registered_models
from workshop_lib.registration.genai_config import GenaiConfig
from workshop_lib.registration.model_files import ModelFiles, find_model_files
from workshop_lib.registration.registered_models import RegisteredModel
from workshop_lib.registration.tokenizer_files import Fault, find_chat_template, find_tokenizer
from workshop_lib.untrusted import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from workshop_lib.display import Table

Status = Literal["passed", "failed", "unknown"]
Device = Literal["cpu", "gpu", "npu"]
_SMALL_FILES = (".json", ".jinja", ".txt", ".model", ".tiktoken")
"""Beside the model files, what tokenizers of all kinds are made of."""

_RUNTIME_MARKER = "inference_model.json"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of a report: what was checked, how it came out, the value seen, what to do (empty when passed)."""

    name: str
    status: Status
    seen: str
    to_do: str = ""


@dataclass(frozen=True, slots=True)
class FolderReport:
    """What one look at a folder showed.

    Attributes:
        folder: its absolute path.
        checks: one line each, in the order of the look.
        device, execution_provider: what its configuration names; None where that cannot be known.
        precision: of most weights; None where the model file does not tell.
        context_tokens: longest prompt plus answer; None where the configuration does not say.
        licence: as the folder states it; None where it states none.
        files: what the runtime needs: relative name → bytes.
    """

    folder: Path
    checks: tuple[Check, ...]
    device: Device | None = None
    execution_provider: str | None = None
    precision: str | None = None
    context_tokens: int | None = None
    licence: str | None = None
    files: Mapping[str, int] = field(default_factory=dict)

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that failed; none = the folder can be registered."""
        return tuple(check for check in self.checks if check.status == "failed")

    @property
    def size_mb(self) -> float:
        """What the runtime needs of it, in 10^6 bytes."""
        return sum(self.files.values()) / 1e6

    def sentences(self) -> tuple[str, ...]:
        """One sentence per check, for people."""
        return tuple(f"{check.name}: {check.status}. {check.seen} {check.to_do}".rstrip() for check in self.checks)


def examine(folder: Path | str) -> FolderReport:
    """Look at a folder, file by file; never raises for what is wrong with it."""
    place = typed_path(folder).absolute()
    try:
        if place.is_dir():
            return _examined(place)
        seen = f"{place} is {'a file' if place.exists() else 'not there'}."
    except OSError as error:
        seen = f"{place} cannot be read ({error.strerror or error})."
    to_do = "Give the folder that holds genai_config.json, and that you may read."
    return FolderReport(place, (Check("folder", "failed", seen, to_do),))


def _examined(place: Path) -> FolderReport:
    """The report on a folder that is there. Raises `OSError` where it cannot be read."""
    config, config_check = _config(place)
    model_check, model = _models(place, config)
    card = model_cards.read_card(place)
    files = _sizes(place, model.names)
    checks = (
        Check("folder", "passed", f"{place} is there."),
        config_check,
        model_check,
        _tried("tokenizer", lambda: find_tokenizer(place)),
        _tried("chat template", lambda: find_chat_template(place)),
        *_stated(config),
        Check("size", "passed" if files else "unknown", f"{sum(files.values()) / 1e6:.2f} MB in {len(files)} files."),
        _precision_check(model.precision),
        _licence_check(card),
    )
    return FolderReport(
        place,
        checks,
        device=config.device if config else None,
        execution_provider=config.execution_provider if config else None,
        precision=model.precision,
        context_tokens=config.context_tokens if config else None,
        licence=card.licence,
        files=files,
    )


def register_folder(
    folder: Path | str,
    *,
    alias: str,
    licence: str | None = None,
    capabilities: tuple[str, ...] = (),
    cache_dir: Path | None = None,
) -> RegisteredModel:
    """Let a folder join the catalogs under an alias; it stays where it is, the runtime gets a copy when it needs one.

    Args:
        folder: an ONNX Runtime GenAI folder.
        alias: what people will type; no alias of `models.json`.
        licence: what to show as its licence; None = what the folder states.
        capabilities: tags as in `models.json`.
        cache_dir: the model cache; None = `model_cache.cache_root()`.

    Raises:
        DataFileError: the folder failed a check; names every one that failed.
        ConfigurationError: the alias cannot be used, or is taken.
    """
    report = examine(folder)
    if report.failed or report.device is None or report.execution_provider is None:
        raise _unusable(report)
    model = RegisteredModel(
        alias=alias,
        kind="folder",
        place=report.folder,
        adapter=None,
        device=report.device,
        execution_provider=report.execution_provider,
        precision=report.precision,
        size_mb=report.size_mb,
        licence=licence or report.licence,
        context_tokens=report.context_tokens,
        capabilities=capabilities,
    )
    registered_models.add(model, cache_dir=cache_dir)
    return model


def table(report: FolderReport) -> Table:
    """Return a report as a table for people: one line per check."""
    from workshop_lib.display import Table

    lines = [(check.name, check.status, check.seen, check.to_do) for check in report.checks]
    return Table(lines, columns=["check", "status", "seen", "what to do"])


def why_unusable(report: FolderReport) -> str:
    """Every failed check in one line: what was seen."""
    return "; ".join(f"{check.name}: {check.seen.rstrip('.')}" for check in report.failed)


def _unusable(report: FolderReport) -> DataFileError:
    what = f"{report.folder} cannot be registered. {why_unusable(report)}."
    return DataFileError(what, " ".join(dict.fromkeys(check.to_do for check in report.failed)))


def _config(place: Path) -> tuple[GenaiConfig | None, Check]:
    try:
        config = genai_config.read_config(place)
    except DataFileError as error:
        return None, Check(genai_config.FILE_NAME, "failed", one_line(error.what, 300), error.fix)
    return config, Check(genai_config.FILE_NAME, "passed", f"A model of type '{one_line(config.model_type, 40)}'.")


def _models(place: Path, config: GenaiConfig | None) -> tuple[Check, ModelFiles]:
    if config is None:
        return Check("model files", "unknown", "Without the configuration they have no names."), ModelFiles((), None)
    try:
        found = find_model_files(place, config.model_files)
    except DataFileError as error:
        return Check("model files", "failed", one_line(error.what, 300), error.fix), ModelFiles((), None)
    seen = ", ".join(f"{one_line(name, 60)}{_linked(place / name)}" for name in found.names)
    return Check("model files", "passed", f"{seen}: complete."), found


def _linked(file: Path) -> str:
    return " (a link, as in a download cache)" if file.is_symlink() else ""


def _tried(name: str, find: Callable[[], str]) -> Check:
    try:
        return Check(name, "passed", find())
    except Fault as fault:
        return Check(name, "failed", one_line(fault.seen, 300), fault.to_do)


def _stated(config: GenaiConfig | None) -> tuple[Check, Check]:
    if config is None:
        seen = "Only the configuration says it."
        return Check("context length", "unknown", seen), Check("device", "unknown", seen)
    return (
        Check("context length", "passed", f"{config.context_tokens} tokens."),
        Check("device", "passed", f"{config.device}, {config.execution_provider}."),
    )


def _precision_check(precision: str | None) -> Check:
    if precision is None:
        return Check("precision", "unknown", "The model file does not tell.", "Nothing; it is shown as unknown.")
    return Check("precision", "passed", f"{precision}, by most of its weights.")


def _licence_check(card: model_cards.ModelCard) -> Check:
    if card.licence is None:
        to_do = "Find its licence before you use it, and give it as `licence`."
        return Check("licence", "unknown", "Neither README.md nor a LICENSE file states one.", to_do)
    return Check("licence", "passed", f"{one_line(card.licence, 60)}, says {card.licence_from}.")


def _sizes(place: Path, model_files: tuple[str, ...]) -> dict[str, int]:
    """Bytes of each file that the runtime needs, in the order of their names; links are followed."""
    small = {
        path.name
        for path in place.iterdir()
        if path.suffix in _SMALL_FILES and path.is_file() and path.name.isprintable()
    }
    names = sorted((small | set(model_files)) - {_RUNTIME_MARKER})
    return {name: (place / name).stat().st_size for name in names}
