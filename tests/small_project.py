"""A project with our `workshop.py` and one requirement, for the tests of what a first start does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "workshop.py"
ECHO = """\
import demo_wheel, os, sys
print(sys.argv[1:], sys.flags.utf8_mode, os.getcwd())
sys.exit(7)
"""


def make_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with one requirement, installed from a wheel beside it, in a folder with a space."""
    folder = tmp_path / "my caf\xe9"
    package = folder / "workshop_lib"
    package.mkdir(parents=True)
    shutil.copy(SCRIPT, folder)
    (package / "__init__.py").write_text("", encoding="utf-8")
    (package / "__main__.py").write_text(ECHO, encoding="utf-8")
    (folder / "requirements.txt").write_text("demo-wheel==1.0\n", encoding="utf-8")
    make_wheel(tmp_path / "wheels")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", (tmp_path / "wheels").as_uri())
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return folder


def make_wheel(folder: Path) -> None:
    folder.mkdir()
    info = "demo_wheel-1.0.dist-info"
    with zipfile.ZipFile(folder / "demo_wheel-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("demo_wheel.py", "")
        wheel.writestr("demo/tests/test_demo.py", "")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: demo-wheel\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


def start(project: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(project / "workshop.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False, **options)
