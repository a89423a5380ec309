"""The child process that serves one GGUF file by llama.cpp's own server, on this machine alone."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from workshop_lib.runtimes import child

if TYPE_CHECKING:
    from workshop_lib.runtimes.child import Emit


def serve(job: Mapping[str, Any], emit: Emit) -> None:
    """Load the file, say where it is served, and stay until the parent ends."""
    started = time.perf_counter()
    from xllamacpp import CommonParams, Server

    parameters = CommonParams()
    parameters.model.path = job["file"]
    parameters.cpuparams.n_threads = job["threads"]
    parameters.n_ctx = job["context_tokens"]
    parameters.n_parallel = 1
    parameters.cache_prompt = False  # Foundry Local reads every prompt anew too
    parameters.cache_ram_mib = 0
    server = Server(parameters)
    load_s = time.perf_counter() - started
    told = {"base_url": f"{server.listening_address}/v1", "load_s": load_s, "registered": (), "pid": os.getpid()}
    emit({"event": "ready", "threads": job["threads"], **told})
    threading.Event().wait()


if __name__ == "__main__":
    child.do_the_job(serve)
