"""What page 06 does: it works on copies, removes what an earlier run left, and leaves no trace."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.adapter_helpers import SMALL, register
from workshop_lib import own_models, places
from workshop_lib.errors import ConfigurationError
from workshop_lib.models import local, registry
from workshop_lib.own_models import IN_RUNTIME
from workshop_lib.runtimes import profiles


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model cache of the test's own."""
    monkeypatch.setenv("WORKSHOP_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def aliases() -> list[str]:
    return [model.alias for model in registry.read()]


@pytest.mark.parametrize(("keep", "now", "left"), [(False, "unregistered", []), (True, "registered", [IN_RUNTIME])])
def test_the_page_works_on_a_copy_and_leaves_no_trace(cache: Path, *, keep: bool, now: str, left: list[str]) -> None:
    """What an interrupted run left is replaced, models of others stay; afterwards nothing is left unless it is kept."""
    register(cache, "somebodys")
    local.register(IN_RUNTIME, own_models.begin().folder)
    example = own_models.begin(keep=keep)
    assert (aliases(), example.licence) == (["somebodys"], "MIT")
    assert {path.name for path in example.folder.iterdir()} == {path.name for path in SMALL.iterdir()}
    local.register(IN_RUNTIME, example.folder)
    assert example.leave().to_numpy().tolist() == [[IN_RUNTIME, now]]
    assert aliases() == ["somebodys", *left]
    assert example.folder.exists() == keep and SMALL.is_dir()


@pytest.mark.parametrize(("keep", "left"), [(False, []), (True, [IN_RUNTIME])])
def test_a_kernel_that_ends_early_forgets_them_too(*, keep: bool, left: list[str]) -> None:
    """Who closes the page in the middle finds the other pages as they were."""
    code = (
        "from workshop_lib.models import local; from workshop_lib import own_models\n"
        f"local.register(own_models.IN_RUNTIME, own_models.begin(keep={keep}).folder)\n"
    )
    environment = {**os.environ, "PYTHONPATH": places.search_path()}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert aliases() == left


@pytest.mark.parametrize("options", [{"rounds": 0}, {"repeats": 0}, {"folder": "no-such-folder"}])
def test_a_setting_that_cannot_be_used_is_found_first(options: dict[str, object]) -> None:
    """Before anything is registered, with the value seen."""
    with pytest.raises(ConfigurationError, match=r" is 0|no folder no-such-folder"):
        own_models.begin(**options)  # type: ignore[arg-type]


def test_a_look_into_a_folder_names_folders_and_not_places(tmp_path: Path) -> None:
    """A page is stored and shown to others: it says what is wrong, not where the reader's files lie."""
    mine = own_models.begin(str(own_models.begin().folder))
    assert mine.licence is None, "of a folder of one's own it is not guessed"
    example = own_models.begin()
    said = dict(own_models.look_into(example.folder).to_numpy().tolist())
    assert (said["model type"], said["model files"], said["precision"]) == ("qwen2", "model.onnx", "int4")
    assert "answered" in said["the runtime"]
    shown = own_models.look_into(example.damaged())
    assert str(tmp_path) not in shown.to_string()
    assert "damaged/model.onnx.data" in dict(shown.to_numpy().tolist())["the runtime"]
    assert "a folder in it does" in own_models.look_into(example.copies).to_string()


def test_where_the_runtime_is_missing_the_tables_say_so(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page goes on: an adapter needs no Foundry Local, and the comparison says what it lacks."""
    register(cache, "mine", "Whole")
    monkeypatch.setenv("FOUNDRY_LOCAL_LIB_DIR", str(cache))
    with profiles.open_runtime("practice") as runtime:
        assert "cannot run here" in own_models.look(runtime, ["other"]).to_string()
        assert "cannot run here" in own_models.ask(runtime, "other", "Hello").to_string()
        run = own_models.measure(runtime, ["other", "mine"], rounds=1)
    assert run.servings[0].status == "skipped"
    assert own_models.price(run, "other", "mine").remarks


def test_the_code_that_is_shown_is_the_code_that_runs() -> None:
    """Cut out of the file itself, without its indentation, short enough to be read at once."""
    first, *lines = own_models.source(own_models.ADAPTER_FILE, "stream").data.splitlines()
    assert first == "```python" and lines[0].startswith("def stream(self, prompt: str") and len(lines) <= 16
    file = own_models.ADAPTER_FILE.read_text(encoding="utf-8")
    assert all(line.strip() in file for line in lines[:-1])


def test_a_model_is_asked_and_measured(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An adapter needs no Foundry Local; every prompt is answered."""
    register(cache, "mine", "Whole")
    monkeypatch.setenv("FOUNDRY_LOCAL_LIB_DIR", str(cache))
    with profiles.open_runtime("practice") as runtime:
        assert own_models.ask(runtime, "mine", "Hello")["answer"].tolist() == ["You said: Hello"]
        run = own_models.measure(runtime, ["mine"], rounds=1)
    assert run.completions and all(each.ok for each in run.completions)
