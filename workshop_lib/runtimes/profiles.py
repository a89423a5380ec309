"""`open_runtime`: one interface to the practice models, to the public catalog, to any endpoint, to models of one's own.

| profile | models | needs |
|---|---|---|
| `practice` | the shipped ones, on the real runtime | nothing, not even a network |
| `foundry` | the public Foundry Local catalog | a network for each first download |
| `endpoint` | what an OpenAI-compatible server offers | its address; no SDK |

Registered models join the first two. Knows no measurement.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal, get_args

from workshop_lib import data, settings
from workshop_lib.errors import ConfigurationError
from workshop_lib.runtimes.endpoint import EndpointRuntime
from workshop_lib.runtimes.foundry import FoundryRuntime
from workshop_lib.runtimes.protocols import Runtime, ServedModel

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Profile", "Runtime", "ServedModel", "open_runtime"]

Profile = Literal["practice", "foundry", "endpoint"]


def open_runtime(
    profile: str | None = None,
    *,
    endpoint: str | None = None,
    api_key: str | None = None,
    cache_dir: Path | None = None,
    models_file: Path | None = None,
    index_file: Path | None = None,
) -> Runtime:
    """Open the runtime of a profile; use it as a context manager.

    Args:
        profile: None = `endpoint` where an address is given, else `practice`.
        endpoint: address of an OpenAI-compatible server; None = `FOUNDRY_LOCAL_ENDPOINT`.
        api_key: key that the server asks for; None = `API_KEY`.
        cache_dir: where models are kept; None = `places.cache_root()`.
        models_file: `models.json`; None = the shipped one.
        index_file: index of the practice models; None = the shipped one.

    Raises:
        ConfigurationError: an unknown profile, or `endpoint` without a usable address.
        DataFileError: a data file is missing or malformed.
    """
    address = endpoint or os.environ.get(settings.ENDPOINT_VARIABLE) or ""
    chosen = profile or ("endpoint" if address else "practice")
    if chosen not in get_args(Profile):
        raise ConfigurationError(f"There is no profile '{chosen}'.", f"Use {', '.join(get_args(Profile))}.")
    cards = data.read_models(models_file)
    if chosen == "endpoint":
        return EndpointRuntime(address, api_key=api_key or settings.read_key(os.environ), cards=cards)
    own: Literal["practice", "foundry"] = "foundry" if chosen == "foundry" else "practice"
    return FoundryRuntime(own, index_file=index_file, cache_dir=cache_dir, cards=cards)
