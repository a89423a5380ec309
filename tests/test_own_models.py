"""What page 06 does: it takes a file that is there, removes what an earlier run left, and leaves no trace."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import workshop_lib as ws
from tests.adapter_helpers import SAMPLE, register
from tests.measurement_helpers import completion, run_of
from workshop_lib import own_models, places
from workshop_lib.errors import ConfigurationError
from workshop_lib.models import registry, smollm2
from workshop_lib.own_models import KEPT


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model cache of the test's own."""
    monkeypatch.setenv("WORKSHOP_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def aliases() -> list[str]:
    return [model.alias for model in registry.read()]


@pytest.mark.parametrize(("keep", "now", "left"), [(False, "unregistered", []), (True, "registered", [KEPT])])
def test_the_page_leaves_no_trace(cache: Path, *, keep: bool, now: str, left: list[str]) -> None:
    """What an interrupted run left is replaced, models of others stay; afterwards nothing is left unless it is kept."""
    register(cache, "somebodys")
    register(cache, KEPT)
    (own_models.begin().folder / "half").mkdir(parents=True)
    example = own_models.begin(keep=keep)
    assert (aliases(), example.folder.exists()) == (["somebodys"], False)
    ws.import_gguf(example.file, example.folder / "exact4")
    register(cache, KEPT)
    assert example.leave().to_numpy().tolist() == [[KEPT, now]]
    assert (aliases(), example.folder.exists()) == (["somebodys", *left], keep)
    assert example.file.is_file()


def test_a_kernel_that_ends_early_forgets_them_too() -> None:
    """Who closes the page in the middle finds the other pages as they were."""
    code = (
        "from pathlib import Path; from tests.adapter_helpers import register\n"
        "from workshop_lib import data, own_models, places\n"
        "own_models.begin(); register(places.cache_root(), own_models.KEPT)\n"
    )
    environment = {**os.environ, "PYTHONPATH": places.search_path()}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert aliases() == []


@pytest.mark.parametrize("options", [{"rounds": 0}, {"repeats": 0}, {"file": "no-such-file"}])
def test_a_setting_that_cannot_be_used_is_found_first(options: dict[str, object]) -> None:
    """Before anything is registered, with the value seen."""
    with pytest.raises(ConfigurationError, match=r" is 0|no file no-such-file"):
        own_models.begin(**options)  # type: ignore[arg-type]


def test_the_file_is_ones_own_or_the_real_model_or_a_practice_model(cache: Path, tmp_path: Path) -> None:
    """In this order; the real model is taken where it lies, never fetched, and of one's own file nothing is guessed."""
    example = own_models.begin()
    assert (example.file, example.licence) == (own_models.PRACTICE_FILE, None)
    fetched = smollm2.file_in(cache)
    fetched.parent.mkdir(parents=True)
    fetched.touch()
    example = own_models.begin()
    assert (example.file, example.licence) == (fetched, "Apache-2.0")
    (tmp_path / "mine.gguf").touch()
    example = own_models.begin(str(tmp_path / "mine.gguf"))
    assert (example.file, example.licence) == (tmp_path / "mine.gguf", None)


def test_what_an_import_kept_and_rounded_is_one_line_a_type(tmp_path: Path) -> None:
    """The practice file: 1 table of embeddings, 11 vectors and 14 matrices; `exact4` keeps what `int4` rounds."""
    said = dict(own_models.look_into(own_models.PRACTICE_FILE).to_numpy().tolist())
    assert (said["architecture"], said["licence"]) == ("qwen2, 2 layers, 217,664 weights", "MIT")
    reports = [ws.import_gguf(own_models.PRACTICE_FILE, tmp_path / name, precision=name) for name in ("exact4", "int4")]
    assert own_models.fates(*reports).to_numpy().tolist() == [
        ["Q8_0", 1, "token_embd.weight", "8-bit codes kept", "rounded to 4 bits"],
        ["F32", 11, "blk.0.attn_norm.weight", "kept as float32", "kept as float32"],
        ["Q4_1", 14, "blk.0.attn_q.weight", "4-bit codes kept", "rounded to 4 bits"],
    ]


def test_same_answers_are_counted_by_prompt() -> None:
    """Only prompts that both models answered count, and all rounds have to agree."""
    answers = [("one", "a", "Yes."), ("two", "a", "Yes."), ("one", "b", "Yes."), ("two", "b", "No."), ("one", "c", "?")]
    run = run_of([completion([0.1], [text], alias=alias, prompt_id=prompt) for alias, prompt, text in answers])
    shown = own_models.same_answers(run, ("one", "two"), ("one", "three"))
    assert shown["same answer"].tolist() == ["1 of 2 prompts", "not measured"]


def test_the_code_that_is_shown_is_the_code_that_runs() -> None:
    """Cut out of the file itself, without its indentation, short enough to be read at once."""
    first, *lines = own_models.source(own_models.ADAPTER, "stream").data.splitlines()
    assert first == "```python" and lines[0].startswith("def stream(self, prompt: str") and len(lines) <= 16
    file = SAMPLE.read_text(encoding="utf-8")
    assert all(line.strip() in file for line in lines[:-1])
