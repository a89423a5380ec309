"""The model files of a folder: named inside it, there, and whole with all that they refer to.

Knows paths and lengths; knows no configuration and no tokenizer.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from workshop_lib.errors import DataFileError
from workshop_lib.registration.onnx_weights import read_weights
from workshop_lib.show.text import one_line

AGAIN = "Convert the model again with `python -m onnxruntime_genai.models.builder`, or copy the whole folder again."


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The files of a folder's model, relative to it, and the precision of most of its weights (None = unknown)."""

    names: tuple[str, ...]
    precision: str | None


def find_model_files(folder: Path, named: tuple[str, ...]) -> ModelFiles:
    """Look at the ONNX files that a configuration names, and find the files that hold their weights.

    Raises:
        DataFileError: a name that may lead out of the folder, or a file that is missing, cut off or no model.
    """
    names: dict[str, None] = {}
    precision = None
    for name in named:
        weights = read_weights(folder / inside(name))
        names[name] = None
        precision = precision or weights.precision
        for part, least in weights.external.items():
            beside = (Path(name).parent / inside(part)).as_posix()
            _check_whole(folder / beside, least)
            names[beside] = None
    return ModelFiles(tuple(names), precision)


def inside(name: str) -> str:
    """Return a relative name, unless it could lead out of its folder on any system; links are another matter.

    A file may be a link to elsewhere, as in the download cache of Hugging Face: the person's folder, the person's link.

    Raises:
        DataFileError: it could.
    """
    parts = name.split("/")
    if "\\" in name or ":" in parts[0] or not name.isprintable() or any(part in {"", ".", ".."} for part in parts):
        raise DataFileError(f"It names the file '{one_line(name, 80)}', which may lead out of the folder.", AGAIN)
    return name


def _check_whole(file: Path, least: int) -> None:
    try:
        size = file.stat().st_size
    except OSError:
        raise DataFileError(f"{file} is missing; it holds the weights.", AGAIN) from None
    if size < least or not file.is_file():
        what = f"{file} has {size} bytes, and the model needs {least}: it was cut off."
        raise DataFileError(what, AGAIN)
