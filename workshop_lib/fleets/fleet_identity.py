"""Which machine of a fleet this is, told by ids that were made up here and say nothing about its owner.

Knows two folders: the model cache, whose id is the machine's, and the computer's folder for what passes, whose id and
lock all workers on one computer share. Knows no Dask and no plans.
"""

from __future__ import annotations

import os
import re
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path

from workshop_lib import files, places

_ID = re.compile(r"[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Identity:
    """Which machine this is: `machine_id` follows the cache folder, `host_id` the computer."""

    machine_id: str
    host_id: str


def identity() -> Identity:
    """This machine's identity, made up at the first call and kept from then on."""
    return Identity(_kept_id(fleet_folder() / "machine-id.txt"), _kept_id(host_file("id.txt")))


def fleet_folder() -> Path:
    """Where a machine keeps what belongs to fleets: in its model cache."""
    return places.make_folder(places.cache_root() / "fleet")


def host_file(name: str) -> Path:
    """A file that all workers of one user on one computer share, wherever their caches are."""
    user = os.getuid() if hasattr(os, "getuid") else "user"
    return places.make_folder(Path(tempfile.gettempdir()) / f"edge-ai-workshop-fleet-{user}") / name


def _kept_id(path: Path) -> str:
    """The id in a file, made up where there is none."""
    with files.one_writer(path, wait_s=10):
        kept = path.read_text(encoding="ascii", errors="replace").strip() if path.exists() else ""
        if not _ID.fullmatch(kept):
            kept = uuid.uuid4().hex[:12]
            files.write_atomically(path, kept + "\n")
    return kept
