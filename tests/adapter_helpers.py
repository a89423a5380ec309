"""Helpers for the tests of adapters: registering scripted ones, serving them, asking them."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from workshop_lib import data
from workshop_lib.models import registry

if TYPE_CHECKING:
    import openai

    from workshop_lib.models.registry import RegisteredModel
    from workshop_lib.runtimes.child_process import ServedChild

TESTS = Path(__file__).resolve().parent
SAMPLE = TESTS.parent / "samples" / "06-bring-your-own-model" / "genai_adapter.py"
GENAI = f"{SAMPLE}:GenAIAdapter"
SMALL = data.PRACTICE_INDEX_FILE.parent / "practice-small-int4-generic-cpu"


def scripted(kind: str = "Scripted") -> str:
    """A class of the scripted file."""
    return f"{TESTS / 'scripted_adapter.py'}:{kind}"


def weights_in(folder: Path, content: str = "1") -> Path:
    """A file of weights for the scripted adapters: how many bytes they take when loaded."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "weights.txt"
    file.write_text(content, encoding="utf-8")
    return file


def register(folder: Path, alias: str = "mine", kind: str = "Scripted", **options: Any) -> RegisteredModel:
    """Register a scripted adapter in the cache `folder`."""
    return registry.register(alias, weights_in(folder / alias), adapter=scripted(kind), cache_dir=folder, **options)


@contextmanager
def served(folder: Path, kind: str = "Scripted") -> Iterator[ServedChild]:
    """A scripted adapter that answers."""
    model = register(folder, kind.lower(), kind)
    with registry.serve_adapter(model) as running:
        yield running
    registry.remove(model.alias, cache_dir=folder)


def client_of(model: ServedChild) -> openai.OpenAI:
    """The official client; close it."""
    import openai

    return openai.OpenAI(base_url=model.base_url, api_key="none", max_retries=0, timeout=20)


def raw(
    model: ServedChild, method: str, path: str, body: bytes = b"", **headers: str
) -> tuple[int, dict[str, str], Any]:
    """One request without any client's help: status, headers, JSON body."""
    address = urlsplit(model.base_url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=20)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json", **headers})
        response = connection.getresponse()
        content = response.read()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, json.loads(content)
    finally:
        connection.close()
