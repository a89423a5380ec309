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
from workshop_lib.errors import ModelServerError
from workshop_lib.models.registry import foundry_process
from workshop_lib.programs import commands
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
def test_no_byte_that_the_script_leaves_holds_a_key(
    tmp_path: Path,
    settings: dict[str, str],
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
):
    """Neither output nor a file, whether the key can be used, cannot be used, or is said by the server."""
    models = ("fast", "echo-in-error", "echo-in-stream", "echo-in-answer")
    with FaultServer({name: BEHAVIOURS[name] for name in models}) as server:
        for name, value in {"FOUNDRY_LOCAL_ENDPOINT": server.base_url, **settings}.items():
            monkeypatch.setenv(name, value)
        options = ["--rounds=1", "--prompt=Say it.", f"--output={tmp_path / 'out'}", f"--json={tmp_path / 'rows.json'}"]
        assert commands.benchmark(options) == code
        keys = {call.headers.get("authorization") for call in server.calls}
    assert (keys == {"Bearer sk-T0p-9z8y7x"}) == (code == 0)
    left = {str(path): path.read_text("utf-8", "replace") for path in tmp_path.rglob("*") if path.is_file()}
    said = {"output": "".join(capfd.readouterr()), **left}
    assert not [place for place, content in said.items() if "T0p-" in content or "9z8y7x" in content]
