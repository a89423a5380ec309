"""What goes into a report tells nobody where on the machine, and so as whom, it was made."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.behaviours import BEHAVIOURS
from tests.fault_server import FaultServer
from tests.scripts import FULL
from tests.scripts import run as run_script
from workshop_lib.errors import ModelServerError, RuntimeUnavailableError
from workshop_lib.models.registry import foundry_process
from workshop_lib.show.text import without_places

HOME = Path("/home/ada").absolute()
CACHE = HOME / ".cache" / "workshop"
PLACES = {HOME: "~", CACHE: "<cache>"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"cannot open {HOME / 'notes.txt'}", f"cannot open ~{os.sep}notes.txt"),
        (f"no room in {CACHE}.", "no room in <cache>."),
        (f'{{"path": "{CACHE.as_posix()}/models"}}', '{"path": "<cache>/models"}'),
        (f"{HOME}, {CACHE} and {HOME}", "~, <cache> and ~"),
        (f"{HOME}m and {HOME}-old are others", f"{HOME}m and {HOME}-old are others"),
        ("nothing to hide", "nothing to hide"),
    ],
)
def test_folders_are_called_by_their_names(text: str, shown: str):
    """Home becomes `~` and the cache inside it `<cache>`; a folder that only begins alike stays."""
    assert without_places(text, PLACES) == shown


def test_a_root_is_no_place_of_anybody():
    """In a container the home can be the root: then every slash would be one."""
    root = Path(HOME.anchor)
    assert without_places(f"{HOME}", {root: "~"}) == f"{HOME}"


def test_a_place_behind_a_link_is_known_by_both_names(tmp_path: Path):
    """A library that follows links writes the folder's other name."""
    real = tmp_path / "real"
    real.mkdir()
    link = tmp_path / "link"
    try:
        link.symlink_to(real, target_is_directory=True)
    except OSError:
        pytest.skip("links need a right that this user does not have")
    assert without_places(f"{link} is {real.resolve()}", {link: "~"}) == "~ is ~"


@given(st.text(), st.text())
def test_no_text_keeps_a_place(before: str, after: str):
    """Whatever stands around it, a path with a space before and a separator behind it is gone."""
    text = f"{before} {CACHE}{os.sep}{after}"
    assert f" {HOME}{os.sep}" not in without_places(text, PLACES).removeprefix(before)


@given(st.text(alphabet="abc /\\~<>.:", max_size=30))
def test_text_without_places_stays_as_it_is(text: str):
    """Nothing else is touched."""
    assert without_places(text, PLACES) == text


DYING = """
import os, sys
sys.stderr.write("first line" + chr(10) + f"cannot read {os.environ['SECRET']}/model.onnx" + chr(10))
sys.stderr.flush()
os._exit(3)
"""


@pytest.mark.parametrize("secret", ["home", "cache"])
def test_the_last_words_of_a_crashed_child_name_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secret: str):
    """What the child wrote to standard error is in the error, without home and cache."""
    folders = {name: tmp_path / name for name in ("home", "cache", "sdk/foundry_local_sdk")}
    for folder in folders.values():
        folder.mkdir(parents=True)
    (folders["sdk/foundry_local_sdk"] / "__init__.py").write_text(DYING)
    monkeypatch.setenv("USERPROFILE" if sys.platform == "win32" else "HOME", str(folders["home"]))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "sdk"))
    monkeypatch.setenv("SECRET", str(folders[secret]))
    monkeypatch.setenv("WORKSHOP_CACHE_DIR", str(folders["cache"]))
    with (
        foundry_process("look", logs_dir=folders["cache"]) as child,
        pytest.raises(ModelServerError) as error,
    ):
        child.wait_for("listing", timeout_s=30)
    assert f"cannot read {'~' if secret == 'home' else '<cache>'}/model.onnx" in str(error.value)
    assert str(tmp_path) not in str(error.value)
    assert str(tmp_path) not in str(child.failure())


def test_what_a_child_reports_names_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """An error that the child explains itself goes the same way."""
    package = tmp_path / "sdk" / "foundry_local_sdk"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("import os; raise ImportError('no library in ' + os.environ['SECRET'])")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "sdk"))
    monkeypatch.setenv("SECRET", str(tmp_path))
    monkeypatch.setenv("WORKSHOP_CACHE_DIR", str(tmp_path))
    with (
        foundry_process("look", logs_dir=tmp_path) as child,
        pytest.raises(RuntimeUnavailableError) as error,
    ):
        child.wait_for("listing", timeout_s=30)
    assert str(tmp_path) not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"API_KEY": "sk-T0p-9z8y7x\n"}, 0),
        ({"API_KEY": "sk-T0p\u20149z8y7x"}, 2),
        ({"API_KEY": "sk-T0p\u200b9z8y7x"}, 2),
        ({"API_KEY": "sk-T0p\nsk-9z8y7x"}, 2),
        ({"FOUNDRY_LOCAL_ENDPOINT": "http//me:T0p-9z8y7x@host:1/v1"}, 2),
        ({"HTTP_PROXY": "http://me:T0p-9z8y7x@127.0.0.1:9", "FOUNDRY_LOCAL_ENDPOINT": "http://models.invalid/v1"}, 1),
    ],
)
def test_no_byte_that_the_script_leaves_holds_a_key(tmp_path: Path, settings: dict[str, str], code: int):
    """Neither output nor a file, whether the key can be used, cannot be used, or is said by the server."""
    models = ("fast", "echo-in-error", "echo-in-stream", "echo-in-answer")
    with FaultServer({name: BEHAVIOURS[name] for name in models}) as server:
        done = run_script(
            FULL, "--rounds", "1", "--prompt", "Say it.", "--output", str(tmp_path / "out"), "--json",
            str(tmp_path / "rows.json"), **{"FOUNDRY_LOCAL_ENDPOINT": server.base_url, **settings},
        )  # fmt: skip
        keys = {call.headers.get("authorization") for call in server.calls}
    assert done.returncode == code, done.stderr
    assert (keys == {"Bearer sk-T0p-9z8y7x"}) == (code == 0)
    left = {str(path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    said = {"stdout": done.stdout.encode(), "stderr": done.stderr.encode(), **left}
    assert not [place for place, content in said.items() if b"T0p-" in content or b"9z8y7x" in content]
