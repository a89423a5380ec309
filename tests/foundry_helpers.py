"""Helpers for the tests of the runtime: shipped models, made-up models, and processes that end."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.request import ProxyHandler, Request, build_opener

import psutil

from workshop_lib.data import PRACTICE_INDEX_FILE
from workshop_lib.runtimes.foundry import FoundryRuntime

if TYPE_CHECKING:
    from collections.abc import Callable

    from workshop_lib.records import ModelVariant

REPOSITORY = Path(__file__).resolve().parent.parent
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")


def wait_until(condition: Callable[[], bool], *, within_s: float) -> float:
    """Wait for a condition; returns the seconds it took, and fails when it never held."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < within_s, f"not within {within_s} s"
        time.sleep(0.01)
    return time.monotonic() - started


def is_gone(pid: int) -> bool:
    """Whether a process has ended; a zombie has, its parent only has not looked yet."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def ask(base_url: str, model_id: str, text: str = "What is edge AI?") -> str:
    """One short greedy chat with the standard library alone, past any proxy."""
    question = {
        "model": model_id,
        "messages": [{"role": "user", "content": text}],
        "max_tokens": 12,
        "temperature": 0,
    }
    answer = post(f"{base_url}/chat/completions", question)
    return str(answer["choices"][0]["message"]["content"])


def post(url: str, question: object) -> dict:
    request = Request(url, json.dumps(question).encode(), {"Content-Type": "application/json"})
    with build_opener(ProxyHandler({})).open(request, timeout=30) as response:
        return json.load(response)


def practice(cache_dir: Path, **options: object) -> FoundryRuntime:
    """The shipped models with a model cache of the test's own."""
    return FoundryRuntime("practice", cache_dir=cache_dir, **options)


def smallest(runtime: FoundryRuntime) -> ModelVariant:
    """The smallest shipped variant that runs on a CPU."""
    return min(runtime.find(["auto"], devices=["cpu"]), key=lambda variant: variant.size_mb or 0)


def python(code: str, **environment: str) -> subprocess.Popen[str]:
    """A Python process beside the test, with the package at hand."""
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
    )


class PublicCatalog:
    """A catalog of one model on the loopback, as the public one answers, for as long as it is open."""

    model_id = "toy-int4-generic-cpu:1"

    def __enter__(self) -> Self:
        entry = self._entry()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                filters = json.loads(self.rfile.read(int(self.headers["Content-Length"]))).get("filters", [])
                values = {rule["field"].rpartition("/")[2]: rule["values"] for rule in filters}
                fits = "cpu" in map(str.lower, values.get("device", ["cpu"])) and entry["name"] in values.get(
                    "name", [entry["name"]]
                )
                body = json.dumps({"totalCount": int(fits), "summaries": [entry] * fits}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nothing on the screen."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.01])
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def runtime(self, **options: Any) -> FoundryRuntime:
        """The foundry profile on this catalog."""
        url = f"http://127.0.0.1:{self._server.server_port}/asset-gallery/v1.0/models"
        return FoundryRuntime("foundry", catalog_url=url, **options)

    def cache(self, models_dir: Path) -> None:
        """Put the model into the cache, as a download would."""
        folder = models_dir / "tests" / "toy-int4-generic-cpu-1"
        shutil.copytree(PRACTICE_INDEX_FILE.parent / "practice-small-int4-generic-cpu", folder)
        (folder / "inference_model.json").write_text(json.dumps({"Name": self.model_id}))

    def _entry(self) -> dict[str, Any]:
        asset = "azureml://registries/tests/models/toy-int4-generic-cpu/versions/1"
        limits = {"inputContextWindow": 1024, "maxOutputTokens": 512}
        build = {"modelType": "ONNX", "quantization": ["int4"], "device": "cpu", "fileSizeBytes": 416_305}
        return {
            "assetId": asset,
            "name": "toy-int4-generic-cpu",
            "alias": "toy",
            "displayName": "Toy",
            "version": "1",
            "publisher": "tests",
            "license": "MIT",
            "inferenceTasks": ["chat-completion"],
            "deploymentOptions": ["Foundry Local on Devices"],
            "modelLimits": {
                "textLimits": limits,
                "supportedInputModalities": ["text"],
                "supportedOutputModalities": ["text"],
            },
            "variantInformation": {
                "parents": [{"assetId": asset}],
                "variantMetadata": {**build, "executionProvider": "CPUExecutionProvider"},
            },
        }
