"""A real server that nobody here wrote: llama.cpp's, from a wheel, as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

START_S, STOP_S = 60, 20


@dataclass(frozen=True, slots=True)
class LlamaServer:
    """A running server: its address, the only model's id (a path), and its process."""

    base_url: str
    model_id: str
    process: subprocess.Popen[str]


@contextmanager
def llama_cpp_server(model: Path, *, wait: bool = True, **parameters: object) -> Iterator[LlamaServer]:
    """Serve the model on a free loopback port; ends with the block, or with this process.

    Args:
        model: the GGUF file; its path becomes the model's id.
        wait: for the model to be loaded; else `port` must be among the parameters.
        parameters: of llama.cpp, by xllamacpp's names, e.g. `n_ctx`, `api_keys`, `sse_ping_interval`.
    """
    wanted = {"n_ctx": 2048, "n_threads": max(1, (os.cpu_count() or 2) - 1), **parameters}
    command = [sys.executable, str(Path(__file__).resolve()), str(model), json.dumps(wanted)]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
        assert process.stdin and process.stdout
        patience = threading.Timer(START_S, process.kill)
        patience.start()
        try:
            address = process.stdout.readline().strip() if wait else f"http://127.0.0.1:{wanted['port']}"
            if not address:
                log.seek(0)
                raise RuntimeError(f"llama.cpp's server did not start: {log.read().decode(errors='replace')[-1000:]}")
            patience.cancel()
            yield LlamaServer(f"{address}/v1", str(model), process)
        finally:
            patience.cancel()
            process.stdin.close()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()


def timings(received: bytes) -> tuple[float, float]:
    """What llama.cpp itself measured of one streamed answer: seconds for the prompt, and per token after the first."""
    found = json.loads(received[received.rindex(b'"timings":') + len(b'"timings":') :].split(b"}")[0] + b"}")
    return found["prompt_ms"] / 1e3, found["predicted_ms"] / 1e3 / (found["predicted_n"] - 1)


def main() -> None:
    """Load, print the address, serve until standard input closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent to answer
    from xllamacpp import CommonParams, Server

    parameters = CommonParams()
    parameters.model.path = sys.argv[1]
    for name, value in json.loads(sys.argv[2]).items():
        setattr(parameters.cpuparams if name == "n_threads" else parameters, name, value)
    server = Server(parameters)
    print(server.listening_address, flush=True)  # noqa: T201 - how the parent learns the port
    sys.stdin.read()


if __name__ == "__main__":
    main()
