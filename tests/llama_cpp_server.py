"""A real server that nobody here wrote: llama.cpp's, from a wheel, as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from workshop_lib import timing
from workshop_lib.client import ChatClient
from workshop_lib.records import ModelVariant, Request
from workshop_lib.self_check import Times, bare_times, read_bare
from workshop_lib.streams import Arrival

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


def server_times(received: bytes) -> dict[str, float]:
    """What llama.cpp itself measured of one streamed answer, by its names: `prompt_ms`, `predicted_per_second`, …"""
    found: dict[str, float] = json.loads(received[received.rindex(b'"timings":') + 10 :].split(b"}")[0] + b"}")
    return found


def timings(received: bytes) -> tuple[float, float]:
    """Seconds for the prompt, and per token after the first, as llama.cpp itself measured them."""
    found = server_times(received)
    return found["prompt_ms"] / 1e3, found["predicted_ms"] / 1e3 / (found["predicted_n"] - 1)


@dataclass(frozen=True, slots=True)
class Beside:
    """What one client saw of several answers, and what the server measured of the same ones, in seconds."""

    seen: tuple[Times, ...]
    served: tuple[tuple[float, float], ...]

    @property
    def added_ms(self) -> float:
        """How much later than the server the client saw first tokens: the median over the answers."""
        pairs = zip(self.seen, self.served, strict=True)
        return 1e3 * median(each.first_token_s - prompt_s for each, (prompt_s, _) in pairs)

    @property
    def slower_percent(self) -> float:
        """How much slower than the server the client saw the pace: the median over the answers."""
        pairs = zip(self.seen, self.served, strict=True)
        return 100 * (median(each.pace_s / pace_s for each, (_, pace_s) in pairs if each.pace_s) - 1)


def side_by_side(base_url: str, model_id: str, texts: Sequence[str], tokens: int) -> tuple[Beside, Beside]:
    """The workshop's client and the bare one in turns, one text after the other; the first pair does not count."""
    variant = ModelVariant(model_id, model_id, "unknown")
    ours: list[tuple[Times, tuple[float, float]]] = []
    bare: list[tuple[Times, tuple[float, float]]] = []
    with ChatClient(base_url) as client:
        for number, text in enumerate(texts):
            request = Request(f"beside/p/{number}", variant, "p", text, 1, tokens)
            received: list[Arrival] = []
            if number % 4 in {0, 3}:  # ours, bare, bare, ours: neither is always the first of a pair
                answer = client.ask(request, arrivals=received)
                times = Times(timing.first_token_s(answer) or 0.0, timing.time_per_output_token_s(answer))
            else:
                received = read_bare(base_url, request)
                times = bare_times(received)
            served = timings(b"".join(piece for _, piece in received))
            (ours if number % 4 in {0, 3} else bare).append((times, served))
    return _beside(ours[1:]), _beside(bare[1:])


def _beside(answers: list[tuple[Times, tuple[float, float]]]) -> Beside:
    seen, served = zip(*answers, strict=True)
    return Beside(seen, served)


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
