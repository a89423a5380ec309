"""`workshop.py` makes the environment once, repairs it, and hands over."""

from __future__ import annotations

import ast
import hashlib
import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.small_project import SCRIPT, start


@pytest.fixture(autouse=True)
def no_search_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fresh machine has no PYTHONPATH; with one, the copied project would find this one's package."""
    monkeypatch.delenv("PYTHONPATH", raising=False)


def said(finished: subprocess.CompletedProcess[str]) -> list[str]:
    assert "Traceback" not in finished.stderr
    return finished.stderr.splitlines()


@pytest.mark.slow
def test_the_first_start_installs_and_later_ones_do_not(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arguments, working folder and exit code pass through; a second start installs nothing, a changed one anew."""
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    first = start(project, "run", "--models", "a b", cwd=tmp_path)
    assert first.returncode == 7, first.stderr
    assert first.stdout.strip() == f"['run', '--models', 'a b'] 1 {tmp_path}"
    assert len(said(first)) == 1
    # compiled once, also for those who keep Python from doing so; but not the packages' own tests
    assert list(project.glob(".venv/**/demo_wheel.*.pyc")) and not list(project.glob(".venv/**/test_demo.*.pyc"))
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE")

    second = start(project, "check", cwd=tmp_path)
    assert (second.returncode, second.stdout.startswith("['check']")) == (7, True)
    assert said(second) == []

    # a package of the same name in the working folder is not taken for this one
    (tmp_path / "workshop_lib.py").write_text("raise SystemExit(3)", encoding="utf-8")
    assert start(project, "run", cwd=tmp_path).returncode == 7
    (tmp_path / "workshop_lib.py").unlink()

    # the package can be imported from any folder, as a notebook's kernel does
    inside = project / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    subprocess.run([inside, "-c", "import workshop_lib"], cwd=tmp_path, check=True)

    # what the checks need besides is installed by the first `test`, and again when its pins change
    (project / "workshop_lib" / "nox.py").write_text("")
    (project / "nox.py").write_text("import sys; print(sys.argv[1:])", encoding="utf-8")
    for name in ("requirements-test.txt", "requirements-fleet.txt"):
        (project / name).write_text("demo-wheel==1.0\n", encoding="utf-8")
    tested = start(project, "test", "lint", "types")
    assert (tested.returncode, len(said(tested))) == (0, 2), tested.stderr
    assert tested.stdout.strip().endswith("noxfile.py', '-s', 'lint', 'types']")
    assert said(start(project, "test")) == []
    (project / "requirements-test.txt").write_text("demo-wheel==2.0\n", encoding="utf-8")
    for _ in range(2):  # a failure leaves no stamp
        failed = start(project, "test", "--list")
        assert failed.returncode == 1
        assert said(failed)[-1].startswith("workshop.py: Cannot install requirements-test.txt (pip: No matching")

    # other requirements, in an environment whose making was broken off: made anew
    (project / "requirements.txt").write_text("demo-wheel==1.0  # again\n", encoding="utf-8")
    (project / ".venv" / "pyvenv.cfg").write_text("broken", encoding="utf-8")
    repaired = start(project, "run")
    assert (repaired.returncode, len(said(repaired))) == (7, 1)


@pytest.mark.skipif(os.name == "nt", reason="Windows sends Ctrl-C to whole consoles")
def test_ctrl_c_during_the_install_is_one_line(project: Path) -> None:
    """Nothing of Python's inside is shown, and no stamp says that the environment is finished."""
    process = subprocess.Popen(
        [sys.executable, str(project / "workshop.py"), "run"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - it may come ignored
    )
    assert process.stderr is not None
    process.stderr.readline()
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "workshop.py: Stopped."
    assert not (project / ".venv" / "workshop-stamp.txt").exists()


def test_help_installs_nothing(project: Path) -> None:
    """--help works before anything is installed; no command is an error with the same text, a wrong one names all."""
    shown = start(project, "--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    for command in ("run", "lab", "test", "reference"):
        assert f"\n  {command}  " in shown.stdout
    assert start(project).returncode == 2
    wrong = start(project, "walk")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("workshop.py: There is no command 'walk'. Use run, check, ")
    assert not (project / ".venv").exists()


def test_a_linked_environment_is_left_as_it_is(project: Path, tmp_path: Path) -> None:
    """A .venv that links to another folder gives way to one of this folder's own; what it led to stays as it is."""
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "workshop-stamp.txt").write_text("another origin", encoding="utf-8")
    (project / ".venv").symlink_to(shared, target_is_directory=True)
    (project / "requirements.txt").write_text("no-such-wheel==1.0\n", encoding="utf-8")
    assert start(project, "run").returncode == 1
    assert [file.name for file in shared.iterdir()] == ["workshop-stamp.txt"]
    assert not (project / ".venv").is_symlink()


def test_the_script_needs_nothing_but_python() -> None:
    """Standard library only, at most 180 lines, and old Pythons can parse it."""
    source = SCRIPT.read_text(encoding="utf-8")
    imports = {
        name.name.split(".")[0]
        for node in ast.walk(ast.parse(source, feature_version=(3, 7)))
        if isinstance(node, ast.Import)
        for name in node.names
    } | {"pathlib"}
    assert imports <= sys.stdlib_module_names
    assert len(source.splitlines()) <= 180
    assert "annotations" not in source  # Python 3.6 refuses that import


def test_the_stamp_holds_the_requirements_and_the_python() -> None:
    """Either one changing makes a new environment."""
    stamp = runpy.run_path(str(SCRIPT))["wanted_stamp"]()
    requirements = SCRIPT.with_name("requirements.txt").read_bytes()
    assert hashlib.sha256(requirements).hexdigest() in stamp
    assert sys.version in stamp
