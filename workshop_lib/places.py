"""Where things are: project, model cache and runs, which variables move."""

from __future__ import annotations

import os
from pathlib import Path

from workshop_lib.errors import ConfigurationError

PROJECT = Path(__file__).resolve().parent.parent
DATA = PROJECT / "data"
NOTEBOOKS = PROJECT / "notebooks"
RUNS_VARIABLE = "WORKSHOP_RUNS_DIR"
CACHE_VARIABLE = "WORKSHOP_CACHE_DIR"
SETTINGS = ("BENCH_", "FOUNDRY_LOCAL_", "RETRY_", "WORKSHOP_", "API_KEY", "SHOW_USAGE")
"""How the names of variables begin that set what this workshop does."""


def runs_folder() -> Path:
    """Return the folder of run folders and of verdicts: `WORKSHOP_RUNS_DIR`, else `runs/` in the project."""
    chosen = os.environ.get(RUNS_VARIABLE)
    return Path(chosen).expanduser().absolute() if chosen else PROJECT / "runs"


def cache_root() -> Path:
    """Return the folder for what can be fetched again: `WORKSHOP_CACHE_DIR`, else the user's cache folder."""
    from platformdirs import user_cache_path

    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen).expanduser().absolute() if chosen else user_cache_path("edge-ai-workshop", appauthor=False)


def make_folder(folder: Path) -> Path:
    """Make a folder of the cache if need be. Raises `ConfigurationError` where it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"The folder {folder} cannot be made ({error.strerror})."
        raise ConfigurationError(what, f"Set {CACHE_VARIABLE} to a folder you may write.") from None
    return folder


def search_path() -> str:
    """Return the `PYTHONPATH` with which another Python imports this package: the project, then what is set."""
    return os.pathsep.join([str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])])


def environment_apart(folder: Path) -> dict[str, str]:
    """Return this environment without the user's settings, and with all that is kept between runs inside `folder`.

    Model cache, registered models, runs, verdicts and IPython's start-up files are then nobody's but the caller's.
    """
    of_the_machine = {"FOUNDRY_LOCAL_CUDA_EP_LIBRARY"}  # where a part of it is: no matter of taste
    return {
        **{name: text for name, text in os.environ.items() if name in of_the_machine or not name.startswith(SETTINGS)},
        CACHE_VARIABLE: str(folder / "cache"),
        RUNS_VARIABLE: str(folder / "runs"),
        "IPYTHONDIR": str(folder / "ipython"),
        "PYTHONPATH": search_path(),
        "PYTHONUTF8": "1",
    }
