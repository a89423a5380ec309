"""The child process that holds an adapter and serves it.

Started as `python -m workshop_lib.registration.adapter_server` by `adapter_process`. It does one `Job` and emits
`ready`. The adapter runs in the main thread, where libraries expect to be, the web service in a thread beside it. Knows
no registration.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workshop_lib import loopback
from workshop_lib.errors import ModelServerError, WorkshopError
from workshop_lib.hosting import child_pipes
from workshop_lib.registration import adapters, chat_requests
from workshop_lib.registration.adapter_app import make_app
from workshop_lib.registration.generation import Engine

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to serve.

    Attributes:
        adapter: `path/to/file.py:ClassName` or `package.module:ClassName`.
        place: the weights, a file or a folder.
        model_id: the name it answers to.
        context_tokens: longest prompt plus answer; None = what the adapter says.
    """

    adapter: str
    place: str
    model_id: str
    context_tokens: int | None = None


class AdapterServer:
    """The process's one job, and what to do when the parent is gone."""

    def __init__(self) -> None:
        self._engine: Engine | None = None

    def serve(self, described: Mapping[str, Any], emit: child_pipes.Emit) -> None:
        """Load the adapter, emit `ready`, answer until `end`.

        Raises:
            ConfigurationError: there is no such adapter.
            ModelServerError: it could not load its weights, or says of itself what cannot be.
        """
        job = Job(**described)
        adapter = adapters.load_class(job.adapter)()
        started = time.perf_counter()
        _load(adapter, Path(job.place))
        load_s = time.perf_counter() - started
        said = adapters.described(adapter)
        self._engine = Engine(adapter, context_tokens=job.context_tokens or said.context_tokens)
        port = _start_service(self._engine, job.model_id)
        emit(
            {
                "event": "ready",
                "load_s": load_s,
                "base_url": f"http://127.0.0.1:{port}/v1",
                "pid": os.getpid(),
                "registered": [said.execution_provider],
                "device": said.device,
                "context_tokens": said.context_tokens,
            }
        )
        self._engine.answer_all()

    def end(self) -> None:
        """Let the adapter close itself."""
        if self._engine is not None:
            self._engine.close()


def main() -> None:
    """Serve the adapter that standard input names, and end."""
    server = AdapterServer()
    child_pipes.do_the_job(server.serve, farewell=server.end)


def _load(adapter: adapters.CustomModelAdapter, place: Path) -> None:
    try:
        adapter.load(place)
    except WorkshopError:
        raise
    except Exception as error:  # whatever a stranger's code raises
        what = f"The adapter {type(adapter).__name__} could not load {place} ({adapters.in_words(error)})."
        raise ModelServerError(what, "Check that the weights are what the adapter expects.") from error


def _start_service(engine: Engine, model_id: str) -> int:
    """Serve in a daemon thread, on a port that is bound before anyone else can take it; returns the port."""
    import uvicorn

    listener = socket.create_server(("127.0.0.1", 0))
    config = loopback.server_config(make_app(engine, model_id))
    config.load()
    chat_requests.prepare()
    threading.Thread(target=uvicorn.Server(config).run, args=([listener],), daemon=True).start()
    return int(listener.getsockname()[1])


if __name__ == "__main__":
    main()
