"""Registering a model of one's own: it is tried first; then the same commands, scripts and pages measure it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.adapter_helpers import GENAI, SMALL, register, scripted, weights_in
from tests.foundry_helpers import practice
from workshop_lib import __main__ as command_line
from workshop_lib import data, places
from workshop_lib.errors import ConfigurationError, ModelNotFoundError, ModelServerError
from workshop_lib.models import registry

SCRIPT = places.PROJECT / "samples" / "session03" / "benchmark_oss_models.py"
OWN, OWN_ID = "own", "own-adapter-cpu:1"
OTHER_ID = "practice-medium-int4-generic-cpu:1"
CUDA_FOLDER = data.PRACTICE_INDEX_FILE.parent / "practice-small-fp16-cuda-gpu"
Break = Callable[[Path], object]


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A model cache of this file, where the worked adapter is registered on a practice model's weights."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKSHOP_CACHE_DIR", str(folder))
        patch.delenv("FOUNDRY_LOCAL_ENDPOINT", raising=False)
        registry.register(OWN, SMALL, adapter=GENAI, licence="MIT", precision="int4", capabilities=("explain",))
        yield folder


def gone(name: str) -> Break:
    return lambda folder: (folder / name).unlink()


def cut_off(name: str, at: int) -> Break:
    return lambda folder: os.truncate(folder / name, at)


def model(**values: object) -> Break:
    def change(folder: Path) -> None:
        file = folder / "genai_config.json"
        config = json.loads(file.read_text(encoding="utf-8"))
        config["model"].update(values)
        file.write_text(json.dumps(config), encoding="utf-8")

    return change


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (gone("model.onnx.data"), "model.onnx.data"),
        (cut_off("model.onnx", 9000), "Protobuf parsing failed"),
        (gone("chat_template.jinja"), "Empty chat template"),
        (model(type="abacus"), "abacus"),
    ],
)
def test_what_the_runtime_cannot_use_is_said_in_its_own_words(tmp_path: Path, break_it: Break, said: str) -> None:
    """One line without places in its source or folders of the reader, with what to do; nothing is registered."""
    folder = shutil.copytree(SMALL, tmp_path / "my model")
    break_it(folder)
    with pytest.raises(ModelServerError) as error:
        registry.register("mine", folder, cache_dir=tmp_path / "cache")
    assert said in error.value.what
    assert error.value.fix
    assert not re.search(r"\n|\.cc:\d|genai_model_instance", str(error.value))
    assert str(tmp_path) not in str(error.value)
    assert registry.read(tmp_path / "cache") == ()


def test_a_folder_that_cannot_be_tried_here_is_registered_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its provider may come later; until then whoever asks for it is told what is missing."""
    with practice(tmp_path) as runtime:
        if "gpu" not in runtime.absent_devices():
            pytest.skip("this machine has a GPU")
        mine = registry.register("mine", CUDA_FOLDER, cache_dir=tmp_path)
        assert (mine.device, mine.precision, registry.read(tmp_path)) == ("gpu", "fp16", (mine,))
        assert "needs CUDAExecutionProvider" in caplog.text
        assert mine.model_id not in {variant.model_id for variant in runtime.list_models()}
        for name in ("mine", mine.model_id):
            with pytest.raises(ModelNotFoundError, match="needs CUDAExecutionProvider"):
                runtime.find([name])


def test_registering_tries_the_adapter_and_asks_it_for_its_context(tmp_path: Path) -> None:
    """What the adapter says of itself is kept, and nothing goes on running."""
    before = {child.pid for child in psutil.Process().children()}
    mine = register(tmp_path, licence="MIT", capabilities=("explain",))
    assert registry.read(tmp_path) == (mine,)
    assert (mine.kind, mine.device, mine.context_tokens, mine.size_mb) == ("adapter", "cpu", 60, 1e-6)
    assert {child.pid for child in psutil.Process().children()} <= before


@pytest.mark.parametrize(
    ("alias", "weights", "adapter", "words"),
    [
        ("mine", "broken", scripted(), r"\(ValueError: these are no weights\)"),
        ("mine", "1", scripted("Nowhere"), "device is 'cuda'"),
        ("mine", "1", "missing.py:Mine", "There is no adapter file"),
        ("practice-small", "1", scripted(), "belongs to a model"),
        ("mine", "", scripted(), "There are no files"),
    ],
)
def test_an_adapter_that_cannot_be_used_is_not_registered(
    tmp_path: Path, alias: str, weights: str, adapter: str, words: str
) -> None:
    """The reason is its own, on one line, without the reader's folders."""
    file = weights_in(tmp_path / "w", weights)
    with pytest.raises((ModelServerError, ConfigurationError), match=words):
        registry.register(alias, file, adapter=adapter, cache_dir=tmp_path)
    assert registry.read(tmp_path) == ()


def test_an_adapter_that_runs_elsewhere_than_registered_is_not_served(tmp_path: Path) -> None:
    """One that finds no GPU today would be measured on the CPU under the name of the GPU; nothing is left running."""
    moved = replace(register(tmp_path), device="gpu", execution_provider="CUDAExecutionProvider")
    before = {child.pid for child in psutil.Process().children()}
    with pytest.raises(ModelServerError, match=r"registered on gpu .*now runs on cpu"):
        registry.serve_adapter(moved)
    assert {child.pid for child in psutil.Process().children()} == before


# The commands


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """Run a command with a model cache of the test's own."""
    monkeypatch.setenv("WORKSHOP_CACHE_DIR", str(tmp_path / "cache"))
    return lambda *arguments: command_line.main([str(each) for each in arguments])


def test_a_folder_is_registered_shown_and_forgotten(command: Callable[..., int], capsys: Any) -> None:
    """The three commands together: what is registered stands in the table until it is unregistered."""
    assert command("register", "my-folder", SMALL, "--licence", "MIT", "--capabilities", "explain, list") == 0
    said = capsys.readouterr().out
    assert "my-folder-folder-cpu:1, 0.4 MB" in said
    assert "workshop.py run --models my-folder" in said
    assert registry.read()[0].capabilities == ("explain", "list")
    assert command("registered") == 0
    assert re.search(r"my-folder\W+folder\W+cpu\W+int4\W+0\.42\W+MIT\W+ready", capsys.readouterr().out)
    assert command("unregister", "my-folder") == 0
    assert SMALL.is_dir()
    assert command("registered") == 0
    assert "No model is registered" in capsys.readouterr().out


def test_registering_an_adapter_says_that_its_file_is_run(
    command: Callable[..., int], capsys: Any, tmp_path: Path
) -> None:
    """The person who types it learns what happens before it does; figures of its own come along."""
    weights = weights_in(tmp_path / "w")
    done = command("register", "mine", weights, "--adapter", scripted(), "--precision", "fp16")
    assert done == 0
    assert re.search(r"This runs .*scripted_adapter\.py", capsys.readouterr().err)
    (mine,) = registry.read()
    assert (mine.context_tokens, mine.precision, mine.licence) == (60, "fp16", None)
    weights.unlink()
    assert command("registered") == 0
    assert "unusable" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("register", "mine", "no-such-folder"), 2),
        (("register", "mine", SMALL, "--adapter", "missing.py:Mine"), 2),
        (("unregister", "mine"), 1),
    ],
)
def test_a_command_that_cannot_be_done_is_one_line_and_an_exit_code(
    command: Callable[..., int], capsys: Any, arguments: tuple[str, ...], code: int
) -> None:
    """Nothing is registered by halves."""
    assert command(*arguments) == code
    assert "Traceback" not in capsys.readouterr().err
    assert registry.read() == ()


# The same scripts and pages, unchanged


@pytest.fixture(scope="module")
def measured(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The full script, run by a person, on the adapter and one of the runtime's own models."""
    folder = tmp_path_factory.mktemp("measured")
    options = [f"--models={OWN},{OTHER_ID}", "--devices=cpu", "--rounds=1", f"--output={folder}"]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *options],
        env={**os.environ, "PYTHONPATH": str(places.PROJECT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    (folder / "array.json").write_text(done.stdout, encoding="utf-8")
    return folder


def test_the_benchmark_script_measures_an_adapter_like_any_model(measured: Path) -> None:
    """One object each, everything measured that is measured of the runtime's own model, tokens from usage."""
    rows = {row["model_id"]: row for row in json.loads((measured / "array.json").read_text(encoding="utf-8"))}
    mine, theirs = rows[OWN_ID], rows[OTHER_ID]
    assert (mine["alias"], mine["device"], mine["status"], mine["rounds"]) == (OWN, "cpu", "ok", 1)
    assert mine["requests_ok"] == theirs["requests_ok"] == 8
    assert mine["tokens_source"] == theirs["tokens_source"] == "usage"
    for name in ("prompt_tokens_avg", "licence", "precision"):  # the same questions, counted alike
        assert mine[name] == theirs[name], name
    for name in ("latency_avg", "first_token_latency_avg", "load_s", "cold_start_s", "resident_mb", "peak_resident_mb"):
        assert mine[name] > 0, name
