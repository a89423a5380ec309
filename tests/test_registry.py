"""The file of models of one's own: what may stand in it, who may write it, and what makes a model unusable."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.adapter_helpers import SMALL
from workshop_lib import data
from workshop_lib.errors import ConfigurationError, DataFileError, ModelNotFoundError
from workshop_lib.models import registry
from workshop_lib.models.registry import RegisteredModel

MODEL = RegisteredModel(
    "mine", "mine-folder-cpu:1", "cpu", "CPUExecutionProvider", "int4", 1.5, "MIT", 1024, ("explain",), place=SMALL
)
ADAPTER = replace(MODEL, alias="other", model_id="other-adapter-cpu:1", adapter="package.module:Mine")


def test_models_are_kept_in_the_order_they_came(tmp_path: Path) -> None:
    """Looking makes no file; what was added is read back, every field; what was removed is returned and gone."""
    cache = tmp_path / "cache"
    assert registry.read(cache) == ()
    assert not cache.exists()
    registry.add(MODEL, cache_dir=cache)
    registry.add(ADAPTER, cache_dir=cache)
    assert registry.read(cache) == (MODEL, ADAPTER)
    assert registry.remove("mine", cache_dir=cache) == (MODEL,)
    assert registry.read(cache) == (ADAPTER,)


@pytest.mark.parametrize("alias", ["Mine", "", "../up", "a" * 65, "auto", "a:1"])
def test_an_alias_that_cannot_be_used_is_refused(tmp_path: Path, alias: str) -> None:
    """Value and rule are named, and nothing is written."""
    with pytest.raises(ConfigurationError, match=f"The alias is {alias!r}"):
        registry.add(replace(MODEL, alias=alias), cache_dir=tmp_path)
    assert registry.read(tmp_path) == ()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"alias": ...}, "'alias' is missing"),
        ({"adapter": 1}, "'adapter' is 1"),
        ({"size_mb": "big"}, "'size_mb' is 'big'"),
        ({"colour": "red"}, "'colour' is an unknown key"),
    ],
)
def test_a_faulty_file_is_refused_with_file_key_and_value(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    """Somebody edited it: the error says where, and nothing is registered beside it."""
    registry.add(MODEL, cache_dir=tmp_path)
    (file,) = registry.folder_in(tmp_path).iterdir()
    model = {**json.loads(file.read_text(encoding="utf-8")), **changes}
    file.write_text(json.dumps({key: value for key, value in model.items() if value is not ...}), encoding="utf-8")
    for action in (registry.read, lambda folder: registry.add(ADAPTER, cache_dir=folder)):
        with pytest.raises(DataFileError, match=f"mine-folder-cpu.json: {words}"):
            action(tmp_path)


def test_an_alias_names_one_model(tmp_path: Path) -> None:
    """Neither what a catalog offers nor what is registered; what no catalog has is free."""
    registry.add(MODEL, cache_dir=tmp_path)
    for alias, words in (("mine", "unregister mine"), ("practice-small", "'practice'"), ("phi-4-mini", "'foundry'")):
        with pytest.raises(ConfigurationError, match=words):
            registry.add(replace(ADAPTER, alias=alias), cache_dir=tmp_path)
    assert not data.read_models()["gemma-2-2b"].listed
    registry.add(replace(MODEL, alias="gemma-2-2b"), cache_dir=tmp_path)


def test_an_alias_may_have_several_builds(tmp_path: Path) -> None:
    """Each has its own id; neither the same build twice nor a model without builds joins them; all go together."""
    builds = [replace(MODEL, build=build, model_id=f"mine-{build}-cpu:1") for build in ("exact4", "int4")]
    for build in builds:
        registry.add(build, cache_dir=tmp_path)
    assert [model.model_id for model in registry.read(tmp_path)] == ["mine-exact4-cpu:1", "mine-int4-cpu:1"]
    for other in (builds[0], MODEL, replace(ADAPTER, alias="mine")):
        with pytest.raises(ConfigurationError, match="unregister mine"):
            registry.add(other, cache_dir=tmp_path)
    assert registry.remove("mine", cache_dir=tmp_path) == tuple(builds)


def test_a_model_that_is_not_registered_cannot_be_removed(tmp_path: Path) -> None:
    """Those that are registered are named; with none registered, that is said."""
    with pytest.raises(ModelNotFoundError, match="No model is registered at all"):
        registry.remove("mine", cache_dir=tmp_path)
    registry.add(MODEL, cache_dir=tmp_path)
    with pytest.raises(ModelNotFoundError, match="Registered are: mine"):
        registry.remove("mime", cache_dir=tmp_path)


def test_what_makes_a_model_unusable_is_said_without_naming_its_reader(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Folder, weights and the adapter's file must be there, the folder built for the same provider; home is `~`."""
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    assert MODEL.why_unusable() is None
    assert ADAPTER.why_unusable() is None
    changed = replace(MODEL, execution_provider="CUDAExecutionProvider")
    empty = shutil.copytree(SMALL, tmp_path / "empty")
    (empty / "genai_config.json").unlink()
    for model, words in (
        (replace(MODEL, place=tmp_path / "gone"), "'mine' cannot be found"),
        (replace(ADAPTER, place=tmp_path / "gone"), "'other' cannot be found"),
        (replace(ADAPTER, adapter=f"{tmp_path / 'gone'}.py:Mine"), "gone.py"),
        (replace(MODEL, place=empty), "genai_config.json is missing"),
        (changed, "is now for CPUExecutionProvider"),
    ):
        what, fix = model.why_unusable() or ("", "")
        assert words in what
        assert str(tmp_path) not in what
        assert f"unregister {model.alias}" in fix
        assert model.variant().cached is False
