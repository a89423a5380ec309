"""The list of checks: which run side by side, and that none is lost when one fails."""

from __future__ import annotations

import ast
import os
from pathlib import Path
from typing import Any

import pytest

from tests.test_bootstrap import make_wheel
from workshop_lib.errors import ConfigurationError, WorkshopError
from workshop_lib.programs import checks


def test_unknown_checks_are_named():
    """`test` with a name that is no check lists those that are."""
    with pytest.raises(ConfigurationError, match=r"Use lint, format, types, .*, coverage"):
        checks.run_checks(["speed"])


def test_tools_are_installed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The second time needs no package index; other pins are installed again, and what fails then is one line."""
    pins = tmp_path / "requirements-demo.txt"
    pins.write_text("demo-wheel==1.0\n", encoding="utf-8")
    make_wheel(tmp_path / "wheels")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_FIND_LINKS", (tmp_path / "wheels").as_uri())
    monkeypatch.setenv("PIP_TARGET", str(tmp_path / "installed"))
    checks.install_once(pins, tmp_path)
    assert (tmp_path / "installed" / "demo_wheel.py").exists()
    monkeypatch.delenv("PIP_FIND_LINKS")
    checks.install_once(pins, tmp_path)
    pins.write_text("demo-wheel==2.0\n", encoding="utf-8")
    for _ in range(2):  # a failure leaves no stamp
        with pytest.raises(WorkshopError, match=r"requirements-demo\.txt \(pip: No matching distribution .*==2\.0\)"):
            checks.install_once(pins, tmp_path)


BAD = checks.Check("bad", ("this_module_does_not_exist",))
GOOD = checks.Check("good", ("json.tool", "--help"))


def test_a_failing_check_fails_the_whole_and_the_others_still_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """One check of a row fails: every check has a line at the end, and the result is 1."""
    monkeypatch.setattr(checks, "FIRST_ROW", (BAD, GOOD))
    monkeypatch.setattr(checks, "SECOND_ROW", (checks.Check("also good", GOOD.arguments),))
    monkeypatch.setattr(checks, "LAST", (checks.Check("last", GOOD.arguments),))
    for processors in (1, 2):
        monkeypatch.setattr(os, "cpu_count", lambda processors=processors: processors)
        monkeypatch.setattr(checks, "CHECKS", (*checks.FIRST_ROW, *checks.SECOND_ROW, *checks.LAST))
        assert checks.run_checks() == 1
        end = [line.split("  ")[:2] for line in capsys.readouterr().err.splitlines()[-4:]]
        assert end == [["FAILED", "bad"], ["passed", "good"], ["passed", "also good"], ["passed", "last"]]


def test_checks_side_by_side_really_overlap_and_say_what_they_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Each of two waits for a file that the other one makes; in turn neither would end."""
    code = "import pathlib, sys, time; mine, other = map(pathlib.Path, sys.argv[1:])\nmine.touch()\n"
    code += "end = time.monotonic() + 60\nwhile not other.exists() and time.monotonic() < end: time.sleep(0.01)\n"
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "meet_each_other.py").write_text(code + "print('met' if other.exists() else 'alone')")
    met = [
        checks.Check(name, ("meet_each_other", str(tmp_path / name), str(tmp_path / other)))
        for name, other in (("a", "b"), ("b", "a"))
    ]
    results = checks.run_side_by_side([[each] for each in met], tmp_path)
    assert [(each.name, each.code) for each in results] == [("a", 0), ("b", 0)]
    assert capsys.readouterr().err.count("met") == 2


def test_a_row_that_cannot_run_is_an_error_and_no_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """No program can be started in one row: that is raised, not left out of the result."""
    real = checks.Check.run

    def run(check: checks.Check, *arguments: Any) -> int:
        if check.name == "bad":
            raise OSError(24, "Too many open files")
        return real(check, *arguments)

    monkeypatch.setattr(checks.Check, "run", run)
    with pytest.raises(OSError, match="Too many open files"):
        checks.run_side_by_side([[BAD], [GOOD]], tmp_path)


def test_a_check_that_hangs_is_ended_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """A check that would run for ten minutes has a tenth of a second: it is ended, and the next one still runs."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "hang.py").write_text("import threading; threading.Event().wait(600)")
    row = (checks.Check("slow", ("hang",), limit_s=0.1), GOOD)
    monkeypatch.setattr(checks, "CHECKS", row)
    assert checks.run_checks(["slow", "good"]) == 1
    end = [line.rsplit("  ", 1)[0] for line in capsys.readouterr().err.splitlines()[-2:]]
    assert end == ["TIMED OUT  slow", "passed  good"]


def test_no_check_sees_what_the_user_set_or_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    """Settings, model cache and runs of the user stay outside, and each check counts coverage in a file of its own."""
    names = ("BENCH_ROUNDS", "WORKSHOP_CACHE_DIR", "WORKSHOP_RUNS_DIR", "COVERAGE_FILE")
    for name in names:
        monkeypatch.setenv(name, "the user's")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "tell.py").write_text(f"import os; print([os.environ.get(name) for name in {names}])")
    assert checks.Check("one", ("tell",)).run(tmp_path) == 0
    rounds, cache, runs, coverage = ast.literal_eval(capfd.readouterr().out)
    assert rounds is None
    assert "the user's" not in (cache, runs) and Path(cache).parent == Path(runs).parent
    assert not Path(cache).parent.exists()
    assert coverage == str(tmp_path / ".coverage.one")


def test_every_test_runs_in_exactly_one_check():
    """Browser tests, tests that need the machine for themselves, and the others are three parts of the whole."""
    with_tests = {each.name: each.arguments for each in checks.CHECKS if "--cov" in each.arguments}
    assert set(with_tests) == {"browser", "tests", "alone"}
    assert with_tests["browser"][-1] == "tests/browser"
    assert with_tests["tests"][-3:] == ("--ignore=tests/browser", "-m", "not alone")
    assert with_tests["alone"][-3:] == ("--ignore=tests/browser", "-m", "alone")
