"""What page 06 does: it works on copies, takes away what an earlier run left, and leaves no trace."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.adapter_helpers import SMALL, register
from tests.measurement_helpers import completion
from workshop_lib import places
from workshop_lib.errors import ConfigurationError, ModelNotFoundError
from workshop_lib.models import local, registry
from workshop_lib.programs import notebooks
from workshop_lib.records import Run
from workshop_lib.runtimes import profiles
from workshop_lib.teaching import own_models


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model cache of the test's own."""
    monkeypatch.setenv("WORKSHOP_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def aliases() -> list[str]:
    return [model.alias for model in registry.read()]


def test_the_page_works_on_a_copy_and_leaves_no_trace(cache: Path) -> None:
    """The shipped folder is not touched, and afterwards neither registration nor copy is left."""
    example = own_models.begin()
    assert example.folder.is_relative_to(cache)
    assert {path.name for path in example.folder.iterdir()} == {path.name for path in SMALL.iterdir()}
    assert example.licence == "MIT"
    local.register(own_models.IN_RUNTIME, example.folder)
    left = example.leave()
    assert left.to_numpy().tolist() == [[own_models.IN_RUNTIME, "unregistered"]]
    assert aliases() == []
    assert not (cache / "page-06").exists()
    assert SMALL.is_dir()


def test_what_a_run_that_broke_off_left_is_replaced(cache: Path) -> None:
    """The page may be started again at any moment; models of others stay."""
    register(cache, "somebodys")
    first = own_models.begin()
    local.register(own_models.IN_RUNTIME, first.folder)
    again = own_models.begin()
    assert aliases() == ["somebodys"]
    local.register(own_models.IN_RUNTIME, again.folder)


def test_who_wants_to_keep_the_models_keeps_them(cache: Path) -> None:
    """With `keep` they stay registered, and so do their files."""
    example = own_models.begin(keep=True)
    local.register(own_models.IN_RUNTIME, example.folder)
    assert example.leave().to_numpy().tolist() == [[own_models.IN_RUNTIME, "registered"]]
    assert aliases() == [own_models.IN_RUNTIME]
    assert example.folder.is_dir()


@pytest.mark.parametrize(("keep", "left"), [(False, []), (True, [own_models.IN_RUNTIME])])
def test_a_kernel_that_ends_early_forgets_them_too(cache: Path, *, keep: bool, left: list[str]) -> None:
    """Who closes the page in the middle finds the other pages as they were."""
    code = (
        "from workshop_lib.models import local; from workshop_lib.teaching import own_models\n"
        f"example = own_models.begin(keep={keep})\n"
        "local.register(own_models.IN_RUNTIME, example.folder)\n"
    )
    environment = {**os.environ, "PYTHONPATH": places.search_path()}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert aliases() == left


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rounds": 0}, "rounds is 0"),
        ({"repeats": 0}, "repeats is 0"),
        ({"folder": "no-such-folder"}, "There is no folder no-such-folder"),
    ],
)
def test_a_setting_that_cannot_be_used_is_found_first(options: dict[str, object], words: str) -> None:
    """Before anything is registered."""
    with pytest.raises(ConfigurationError, match=words):
        own_models.begin(**options)  # type: ignore[arg-type]
    assert aliases() == []


def test_a_folder_of_ones_own_is_taken_as_it_is(tmp_path: Path) -> None:
    """It is not copied, its licence is not guessed, and it is still there at the end."""
    (tmp_path / "mine").mkdir()
    example = own_models.begin(str(tmp_path / "mine"))
    assert (example.folder, example.licence) == (tmp_path / "mine", None)
    example.leave()
    assert example.folder.is_dir()


def test_a_look_into_a_folder_names_folders_and_not_places(tmp_path: Path) -> None:
    """A page is stored and shown to others: it says what is wrong, not where the reader's files lie."""
    example = own_models.begin()
    said = dict(own_models.look_into(example.folder).to_numpy().tolist())
    assert (said["model type"], said["model files"], said["precision"]) == ("qwen2", "model.onnx", "int4")
    assert "answered" in said["the runtime"]
    shown = own_models.look_into(example.damaged())
    assert str(tmp_path) not in shown.to_string()
    assert "damaged/model.onnx.data" in dict(shown.to_numpy().tolist())["the runtime"]
    assert "a folder in it does" in own_models.look_into(example.copies).to_string()


def test_the_code_that_is_shown_is_the_code_that_runs() -> None:
    """Cut out of the file itself, without its indentation, short enough to be read at once."""
    shown = own_models.source(own_models.ADAPTER_FILE, "stream")
    lines = repr(shown).splitlines()
    assert lines[0].startswith("def stream(self, prompt: str")
    assert len(lines) <= 15
    file = own_models.ADAPTER_FILE.read_text(encoding="utf-8")
    assert all(line.strip() in file for line in lines)
    assert shown._repr_markdown_().startswith("```python\ndef stream")
    with pytest.raises(ModelNotFoundError, match="has no method 'flow'"):
        own_models.source(own_models.ADAPTER_FILE, "flow")


def test_where_the_runtime_is_missing_the_tables_say_so(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page goes on: an adapter needs no Foundry Local, and the comparison says what it lacks."""
    register(cache, "mine", "Whole")
    monkeypatch.setenv("FOUNDRY_LOCAL_LIB_DIR", str(cache))
    with profiles.open_runtime("practice") as runtime:
        assert "cannot run here" in own_models.look(runtime, ["other"]).to_string()
        assert "cannot run here" in own_models.ask(runtime, "other", "Hello").to_string()
        assert own_models.ask(runtime, "mine", "Hello")["answer"].tolist() == ["You said: Hello"]
        run = own_models.measure(runtime, ["other", "mine"], rounds=1)
        assert own_models.first_found(runtime, ["other", "mine"]).alias == "mine"
        with pytest.raises(ModelNotFoundError, match="cannot run here"):
            own_models.first_found(runtime, ["other"])
    assert next((serving.variant.alias, serving.status) for serving in run.servings) == ("other", "skipped")
    assert all(each.ok for each in run.completions)
    found = own_models.price(run, "other", "mine")
    assert found.lines == ()
    assert "No model in" in found.remarks[0]


def test_answers_are_the_same_only_if_every_one_is() -> None:
    """One prompt that differs, one that failed, or none at all: not the same."""
    same = [completion([0.1], ["yes"], model_id=name, round=1) for name in ("a", "b")]
    run = Run("r", "now", "practice", {}, {}, (), completions=tuple(same))
    assert own_models.same_answers(run)
    other = completion([0.1], ["no"], model_id="b", round=1)
    failed = replace(same[1], error="broken")
    for changed in ((same[0], other), (same[0], failed), ()):
        assert not own_models.same_answers(replace(run, completions=changed))
    warm_up = replace(other, round=0)
    assert own_models.same_answers(replace(run, completions=(*same, warm_up)))


def test_the_page_is_one_of_the_workshops() -> None:
    """`run` executes it after the choice, with the parameters that it shares."""
    assert notebooks.PAGES[5] == "06_bring_your_own_model.ipynb"
    known = notebooks.read_parameters(notebooks.FOLDER / notebooks.PAGES[5])
    assert list(known) == ["folder", "rounds", "repeats", "keep"]
