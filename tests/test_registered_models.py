"""The file of models of one's own: what may stand in it, who may write it, and the commands that do."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.adapter_helpers import SMALL, scripted, weights_in
from workshop_lib import __main__ as command_line
from workshop_lib import data, files, places
from workshop_lib.errors import ConfigurationError, DataFileError, ModelNotFoundError
from workshop_lib.registration import registered_models
from workshop_lib.registration.registered_models import RegisteredModel

FOLDER = Path(tempfile.gettempdir()).absolute()
MODEL = RegisteredModel(
    alias="mine",
    kind="folder",
    place=FOLDER,
    adapter=None,
    device="cpu",
    execution_provider="CPUExecutionProvider",
    precision="int4",
    size_mb=1.5,
    licence="MIT",
    context_tokens=1024,
    capabilities=("explain",),
)
ADAPTER = replace(MODEL, alias="other", kind="adapter", adapter="package.module:Mine")
ALIASES = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,10}", fullmatch=True).filter(lambda alias: alias != "auto")


def write(folder: Path, **changes: Any) -> Path:
    """A file with one model of which some values are changed; a value of `...` is left out."""
    registered_models.add(MODEL, cache_dir=folder)
    file = registered_models.file_in(folder)
    content = json.loads(file.read_text(encoding="utf-8"))
    content["models"][0].update(changes)
    content["models"][0] = {key: value for key, value in content["models"][0].items() if value is not ...}
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def test_nothing_is_registered_at_first(tmp_path: Path) -> None:
    """Looking makes no file."""
    assert registered_models.read(tmp_path / "cache") == ()
    assert not (tmp_path / "cache").exists()


def test_models_are_kept_in_the_order_they_came(tmp_path: Path) -> None:
    """What was added is read back, every field of it; what was removed is returned and gone."""
    registered_models.add(MODEL, cache_dir=tmp_path)
    registered_models.add(ADAPTER, cache_dir=tmp_path)
    assert registered_models.read(tmp_path) == (MODEL, ADAPTER)
    assert registered_models.remove("mine", cache_dir=tmp_path) == MODEL
    assert registered_models.read(tmp_path) == (ADAPTER,)


@settings(max_examples=30)  # each writes files
@given(
    alias=ALIASES,
    precision=st.none() | st.text(),
    size_mb=st.floats(1e-9, 1e9),
    licence=st.none() | st.text(),
    context=st.none() | st.integers(1, 10**7),
    tags=st.lists(st.text(), max_size=3),
)
def test_every_model_that_is_accepted_is_read_back_as_it_was(
    *, alias: str, precision: str | None, size_mb: float, licence: str | None, context: int | None, tags: list[str]
) -> None:
    """Whatever texts and numbers a model has, the file keeps them."""
    values = {"precision": precision, "size_mb": size_mb, "licence": licence, "context_tokens": context}
    model = replace(ADAPTER, alias=f"my-{alias}"[:64], capabilities=tuple(tags), **values)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        registered_models.add(model, cache_dir=Path(folder))
        assert registered_models.read(Path(folder)) == (model,)


def test_a_model_has_an_id_like_those_of_a_catalog() -> None:
    """Alias, kind, device and version: no two models that differ in alias share one."""
    assert (MODEL.model_id, ADAPTER.model_id) == ("mine-folder-cpu:1", "other-adapter-cpu:1")
    variant = MODEL.variant()
    assert (variant.alias, variant.model_id, variant.licence, variant.cached) == ("mine", MODEL.model_id, "MIT", True)
    assert variant.capabilities == ("explain",)


@given(ALIASES, ALIASES, st.sampled_from(["cpu", "gpu", "npu"]), st.sampled_from(["cpu", "gpu", "npu"]))
def test_different_aliases_never_share_an_id(one: str, other: str, device: Any, another: Any) -> None:
    """Even where an alias looks like the end of an id."""
    first, second = replace(MODEL, alias=one, device=device), replace(ADAPTER, alias=other, device=another)
    assert first.model_id != second.model_id


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"alias": "Mine"}, "The alias of the model to register is 'Mine'. Use up to 64 lower-case letters"),
        ({"alias": ""}, "is ''"),
        ({"alias": "../up"}, "is '../up'"),
        ({"alias": "a" * 65}, "Use up to 64"),
        ({"alias": "auto"}, "and not 'auto'"),
        ({"alias": "a:1"}, "is 'a:1'"),
        ({"place": Path("relative")}, "The place of the model to register is 'relative'. Give an absolute path"),
        ({"adapter": "x:Y"}, "Leave it out: the runtime itself serves a folder"),
        ({"size_mb": 0.0}, "Give megabytes above 0"),
        ({"size_mb": float("inf")}, "Give megabytes above 0"),
        ({"context_tokens": 0}, "Give a number above 0, or none"),
        ({"kind": "adapter", "adapter": None}, "Give FILE.py:ClassName or package.module:ClassName"),
        ({"kind": "adapter", "adapter": "file.py"}, "Give FILE.py:ClassName"),
        ({"device": "cuda"}, "The device of the model to register is 'cuda'. It should be 'cpu', 'gpu' or 'npu'."),
        ({"precision": 4}, "The precision of the model to register is 4. It should be a valid string."),
        ({"capabilities": (1,)}, "The capabilities of the model to register is 1."),
        ({"context_tokens": True}, "The context_tokens of the model to register is True."),
        ({"licence": b"MIT"}, "bytes is not JSON serializable"),
        ({"licence": "\udcff"}, "A path or text of 'mine' is no Unicode text"),
        ({"place": FOLDER / "\udcff"}, "Move the files to a folder whose name is"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    """Field, value and rule are named, and the file stays as it was: one model must not hide all the others."""
    registered_models.add(ADAPTER, cache_dir=tmp_path)
    with pytest.raises(ConfigurationError, match=re.escape(words)):
        registered_models.add(replace(MODEL, **changes), cache_dir=tmp_path)
    assert registered_models.read(tmp_path) == (ADAPTER,)


def test_an_alias_that_a_catalog_offers_is_refused(tmp_path: Path) -> None:
    """It would name two models; one that courses use but no catalog lists is free."""
    with pytest.raises(ConfigurationError, match=r"belongs to a model of the profile 'practice'.*my-practice-small"):
        registered_models.add(replace(MODEL, alias="practice-small"), cache_dir=tmp_path)
    with pytest.raises(ConfigurationError, match="belongs to a model of the profile 'foundry'"):
        registered_models.add(replace(MODEL, alias="phi-4-mini"), cache_dir=tmp_path)
    assert not data.read_models()["gemma-2-2b"].listed
    registered_models.add(replace(MODEL, alias="gemma-2-2b"), cache_dir=tmp_path)


def test_an_alias_is_taken_once(tmp_path: Path) -> None:
    """The error says by what, and how to free it."""
    registered_models.add(MODEL, cache_dir=tmp_path)
    with pytest.raises(ConfigurationError, match=r"'mine' is taken by a registered folder, .*unregister mine"):
        registered_models.add(replace(ADAPTER, alias="mine"), cache_dir=tmp_path)
    assert registered_models.read(tmp_path) == (MODEL,)


def test_a_model_that_is_not_registered_cannot_be_removed(tmp_path: Path) -> None:
    """The nearest are named; with none registered, that is said."""
    with pytest.raises(ModelNotFoundError, match="No model is registered at all"):
        registered_models.remove("mine", cache_dir=tmp_path)
    registered_models.add(MODEL, cache_dir=tmp_path)
    with pytest.raises(ModelNotFoundError, match=r"'mime'\. Did you mean mine\?"):
        registered_models.remove("mime", cache_dir=tmp_path)
    with pytest.raises(ModelNotFoundError, match="Registered are: mine"):
        registered_models.remove("xyz", cache_dir=tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"alias": "No"}, "'models[0].alias' is 'No'"),
        ({"alias": 5}, "'models[0].alias' is 5"),
        ({"alias": ...}, "'models[0].alias' is missing"),
        ({"kind": "file"}, "'models[0].kind' is 'file'"),
        ({"place": "relative"}, "'models[0].place' is 'relative'"),
        ({"device": "tpu"}, "'models[0].device' is 'tpu'"),
        ({"size_mb": "big"}, "'models[0].size_mb' is 'big'"),
        ({"size_mb": -1}, "'models[0].size_mb' is -1"),
        ({"colour": "red"}, "'models[0].colour' is an unknown key"),
    ],
)
def test_a_faulty_file_is_refused_with_file_key_and_value(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    """Somebody edited it: the error says where."""
    file = write(tmp_path, **changes)
    with pytest.raises(DataFileError, match=re.escape(words)) as error:
        registered_models.read(tmp_path)
    assert file.name in str(error.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is not JSON"),
        ('{"schema": 2, "models": []}', "'schema' is 2. This version reads schema 1"),
        ('{"models": []}', "'schema' is missing"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: str, words: str) -> None:
    """Neither half a file nor one of a newer version is read as empty, and neither is written over."""
    file = registered_models.file_in(tmp_path)
    file.write_text(content, encoding="utf-8")
    for action in (registered_models.read, lambda folder: registered_models.add(MODEL, cache_dir=folder)):
        with pytest.raises(DataFileError, match=re.escape(words)):
            action(tmp_path)
    assert file.read_text(encoding="utf-8") == content


def test_an_alias_given_twice_in_the_file_is_refused(tmp_path: Path) -> None:
    """Nobody could say which of the two is meant."""
    file = write(tmp_path)
    content = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**content, "models": content["models"] * 2}), encoding="utf-8")
    with pytest.raises(DataFileError, match="holds 'mine' twice"):
        registered_models.read(tmp_path)


def test_many_may_register_at_once(tmp_path: Path) -> None:
    """Each waits for its turn: of twenty models none is lost, whoever reads meanwhile."""
    with ThreadPoolExecutor(8) as pool:
        done = [
            pool.submit(registered_models.add, replace(MODEL, alias=f"m{number}"), cache_dir=tmp_path)
            for number in range(20)
        ]
        seen = [len(registered_models.read(tmp_path)) for _ in range(10)]
        for each in done:
            each.result()
    assert {model.alias for model in registered_models.read(tmp_path)} == {f"m{number}" for number in range(20)}
    assert seen == sorted(seen)


def test_a_file_that_another_program_holds_is_not_waited_for_forever(tmp_path: Path, monkeypatch: Any) -> None:
    """After its time the error says who is in the way."""
    registered_models.add(MODEL, cache_dir=tmp_path)
    monkeypatch.setattr(registered_models, "LOCK_TIMEOUT_S", 0.05)
    with (
        files.one_writer(registered_models.file_in(tmp_path), wait_s=1),
        pytest.raises(ConfigurationError, match="Another program has been holding"),
    ):
        registered_models.read(tmp_path)


def test_a_cache_that_is_no_folder_is_named(tmp_path: Path) -> None:
    """The error says which variable moves it."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="WORKSHOP_CACHE_DIR"):
        registered_models.add(MODEL, cache_dir=tmp_path / "file")


def test_files_that_are_gone_make_a_model_unusable(tmp_path: Path) -> None:
    """Folder, weights and the adapter's own file are looked for; an installed module is trusted."""
    there, gone = tmp_path, tmp_path / "gone"
    assert registered_models.why_unusable(replace(MODEL, place=there)) is None
    assert registered_models.why_unusable(replace(ADAPTER, place=there)) is None
    assert "The folder of 'mine'" in str(registered_models.why_unusable(replace(MODEL, place=gone)))
    assert "The weights of 'other'" in str(registered_models.why_unusable(replace(ADAPTER, place=gone)))
    lost = replace(ADAPTER, place=there, adapter=f"{gone}.py:Mine")
    assert "The adapter of 'other' cannot be found any more" in str(registered_models.why_unusable(lost))


def test_a_reason_tells_nobody_who_its_reader_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Reasons stand in reports: the user's own folder is written as `~`."""
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    reason = str(registered_models.why_unusable(replace(MODEL, place=tmp_path / "models" / "mine")))
    assert str(tmp_path) not in reason
    assert "~" in reason


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
    assert "Registered: my-folder (my-folder-folder-cpu:1, 0.4 MB)." in said
    assert "workshop.py run --models my-folder" in said
    assert registered_models.read()[0].capabilities == ("explain", "list")
    assert command("registered") == 0
    shown = capsys.readouterr().out
    assert re.search(r"my-folder\W+folder\W+cpu\W+int4\W+0\.4\W+MIT\W+ready", shown)
    assert command("unregister", "my-folder") == 0
    assert "Its files stay at" in capsys.readouterr().out
    assert SMALL.is_dir()
    assert command("registered") == 0
    assert "No model is registered" in capsys.readouterr().out


def test_registering_an_adapter_says_that_its_file_is_run(
    command: Callable[..., int], capsys: Any, tmp_path: Path
) -> None:
    """The person who types it learns what happens before it does; figures of its own come along."""
    weights = weights_in(tmp_path / "w")
    done = command("register", "mine", weights, "--adapter", scripted(), "--context", 50, "--precision", "fp16")
    assert done == 0
    said = capsys.readouterr()
    assert re.search(r"This runs .*scripted_adapter\.py and loads the weights once\.", said.err)
    (model,) = registered_models.read()
    assert (model.context_tokens, model.precision, model.licence) == (50, "fp16", None)
    weights.unlink()
    assert command("registered") == 0
    shown = capsys.readouterr().out
    assert "unusable" in shown
    assert "The weights of 'mine' cannot be found any more" in shown


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("register", "mine", "no-such-folder"), 2, "is not there"),
        (("register", "practice-small", SMALL), 2, "belongs to a model"),
        (("register", "mine", SMALL, "--context", "5"), 2, "--context was given without --adapter"),
        (("register", "mine", SMALL, "--precision", "int4"), 2, "--precision was given without --adapter"),
        (("register", "mine", SMALL, "--adapter", "missing.py:Mine"), 2, "There is no adapter file"),
        (("register", "mine", "no-weights", "--adapter", scripted()), 2, "There are no weights at"),
        (("unregister", "mine"), 1, "No model is registered at all"),
    ],
)
def test_a_command_that_cannot_be_done_is_one_line_and_an_exit_code(
    command: Callable[..., int], capsys: Any, arguments: tuple[str, ...], code: int, words: str
) -> None:
    """Nothing is registered by halves."""
    assert command(*arguments) == code
    assert words in capsys.readouterr().err.splitlines()[-1]
    assert registered_models.read() == ()


def test_the_starter_knows_every_command() -> None:
    """`workshop.py` hands over only what it lists, and describes each in its help."""
    text = (places.PROJECT / "workshop.py").read_text(encoding="utf-8")
    for name in ("register", "unregister", "registered"):
        assert f'"{name}"' in text
        assert re.search(rf"^  {name} +\w", text, re.MULTILINE)
