"""Helpers for the tests of the runtime: shipped models, made-up models, and processes that end."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import ProxyHandler, Request, build_opener

import psutil

from workshop_lib.serving.practice import PracticeRuntime

if TYPE_CHECKING:
    from collections.abc import Callable

    from workshop_lib.records import ModelVariant

REPOSITORY = Path(__file__).resolve().parent.parent


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


def practice(cache_dir: Path, **options: object) -> PracticeRuntime:
    """The shipped models with a model cache of the test's own."""
    return PracticeRuntime(cache_dir=cache_dir, **options)


def smallest(runtime: PracticeRuntime) -> ModelVariant:
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


def write_index(folder: Path, *, files: dict[str, bytes], publisher: str = "workshop", **changes: object) -> Path:
    """A model folder that no runtime could load, and its index; `changes` are the variant's."""
    model = folder / "toy-int4-generic-cpu"
    for name, content in files.items():
        path = model / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    variant = {
        "name": "toy-int4-generic-cpu",
        "version": "1",
        "device": "cpu",
        "execution_provider": "CPUExecutionProvider",
        "precision": "int4",
        "folder": model.name,
        "size_bytes": sum(len(content) for content in files.values()),
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        **changes,
    }
    entry = {
        "alias": "toy",
        "display_name": "Toy",
        "parameters": 1,
        "context_tokens": 64,
        "max_output_tokens": 32,
        "variants": [variant],
    }
    index = {"schema": 1, "publisher": publisher, "licence": "MIT", "models": [entry]}
    path = folder / "index.json"
    path.write_text(json.dumps(index), encoding="utf-8")
    return path
