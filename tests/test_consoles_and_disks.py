"""Programs on the consoles and disks that people have: nothing measured is lost, and nothing ends in a traceback."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.behaviours import STEADY
from tests.fault_server import FaultServer
from workshop_lib import checklist, load, places
from workshop_lib.benchmark import RECORDS_FILE
from workshop_lib.checklist import ModelCheck, Step
from workshop_lib.programs import commands, terminal
from workshop_lib.records import Row
from workshop_lib.show import tables
from workshop_lib.storage import read_run

QUICK = replace(STEADY, first_token_s=0.002, pace_s=0.0005, tokens=12)
MODELS = {"モデル": QUICK, "fox🦊-é": QUICK, "silent": replace(QUICK, reasoning=12)}
BENCHMARK = places.PROJECT / "samples" / "session03" / "benchmark_oss_models.py"
POSIX = pytest.mark.skipif(os.name == "nt", reason="a shell of POSIX closes or redirects the stream")
DEV_FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no disk that is always full")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with FaultServer(MODELS) as server:
        yield server.base_url


@pytest.fixture(autouse=True)
def one_prompt(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What every benchmark here asks, and whom."""
    monkeypatch.setenv("FOUNDRY_LOCAL_ENDPOINT", endpoint)
    monkeypatch.setenv("BENCH_PROMPT", "Say it.")
    monkeypatch.setenv("BENCH_ROUNDS", "1")
    monkeypatch.setenv("PYTHONPATH", str(places.PROJECT))


def started(command: list[str], shell_words: str = "", **variables: str) -> subprocess.Popen[bytes]:
    """A program of this Python; in a POSIX shell where its streams are redirected by `shell_words`."""
    command = [sys.executable, *command]
    if shell_words:
        command = ["/bin/sh", "-c", f'"$0" "$@" {shell_words}', *command]
    environment = {**os.environ, "PYTHONUTF8": "0", "LANG": "C", **variables}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)


def last_line(stderr: bytes) -> str:
    assert b"Traceback" not in stderr and b"Exception ignored" not in stderr, stderr.decode(errors="replace")
    return stderr.decode(errors="replace").replace("\r", "\n").strip().splitlines()[-1]


def test_any_console_gets_an_array_that_parses(tmp_path: Path):
    """Model ids in any script: the array on standard output, the file and the report hold them on every console."""
    rows = tmp_path / "rows.json"
    done = started(
        [str(BENCHMARK), "--output", str(tmp_path / "run"), "--json", str(rows)], PYTHONIOENCODING="ascii:strict"
    )
    out, err = done.communicate(timeout=120)
    last_line(err)
    assert done.returncode == 0
    assert {row["model_id"] for row in json.loads(out)} == set(MODELS)
    assert json.loads(rows.read_bytes()) == json.loads(out)
    assert "モデル" in (tmp_path / "run" / "benchmark_report.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        pytest.param("", 0, id="the reader leaves at once"),
        pytest.param("2>&-", 0, marks=POSIX),
        pytest.param(">/dev/full", 1, marks=DEV_FULL),
    ],
)
def test_losing_an_output_loses_no_file(tmp_path: Path, words: str, code: int):
    """A reader that left or a closed stream stops nothing; standard output on a full disk is said, after the files."""
    rows = tmp_path / "rows.json"
    done = started(
        [str(BENCHMARK), "--users", "1", "--models", "モデル", "--output", str(tmp_path / "run"), "--json", str(rows)],
        words,
    )
    if not words:
        assert done.stdout is not None
        done.stdout.close()
        done.stdout = None
    _, err = done.communicate(timeout=120)
    if code:
        assert last_line(err).startswith("Standard output cannot be written")
    elif not words:
        last_line(err)
    assert done.returncode == code
    assert [row["status"] for row in json.loads(rows.read_bytes())] == ["ok"]
    made = {path.name for path in (tmp_path / "run").iterdir()}
    assert {RECORDS_FILE, "benchmark_report.html", "figures", load.LOADS_FILE} <= made


@POSIX
def test_every_command_takes_a_closed_output():
    """Help and tables that nobody reads are no error."""
    done = started(["-m", "workshop_lib", "--help"], ">&-; echo", PYTHONUNBUFFERED="")
    _, err = done.communicate(timeout=60)
    assert err == b""


ROW = Row("モデル\ud800", "x🦊\x1b[31m", "cpu", "ok", latency_avg=0.5)
CHECKED = ModelCheck("モデル\ud800", "cpu", tuple(Step(name, "failed", "家\ud800\n") for name in checklist.NAMES))
TABLES: dict[str, Callable[[], None]] = {
    "rows": lambda: terminal.show(tables.results([ROW]), "家\ud800"),
    "checks": lambda: terminal.show(tables.statuses([CHECKED]), "Checklist", stream=sys.stderr),
    "sentences": lambda: terminal.say(["家 \ud800\nline"]),
    "notice": lambda: terminal.notice("家\ud800\x1b[2J"),
}


@pytest.mark.parametrize("encoding", ["cp1252", "utf-8"])
@pytest.mark.parametrize("table", TABLES)
def test_a_table_is_shown_on_any_console(monkeypatch: pytest.MonkeyPatch, table: str, encoding: str):
    """Whatever names hold: no table raises, no line sends a command to the terminal, and the console can show it."""
    written = io.BytesIO()
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(written, encoding, write_through=True))
    with terminal.any_console() as unwritten:
        TABLES[table]()
    assert unwritten == []
    assert written.getvalue().decode(encoding)
    assert b"\x1b" not in written.getvalue()


def rows_said(capsys: pytest.CaptureFixture[str]) -> tuple[list[dict[str, object]], str]:
    said = capsys.readouterr()
    return json.loads(said.out), last_line(said.err.encode("utf-8", "replace"))


def test_a_disk_that_refuses_a_record_keeps_those_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """On every system: one line, exit 1, the rows so far; with space only the rest is asked."""
    order = ["--models=モデル", "--rounds=8", f"--output={tmp_path / 'run'}"]
    sync, left = os.fsync, iter(range(6))

    def filling(descriptor: int) -> None:
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", filling)
        assert commands.benchmark(order) == 1
    rows, line = rows_said(capsys)
    assert line.startswith("DiskSpaceError: ") and f"--output {tmp_path / 'run'}" in line
    assert rows[0]["requests_ok"] == 2
    assert commands.benchmark(order) == 0
    asked = [each.request_id for each in read_run(tmp_path / "run" / RECORDS_FILE).completions if each.round]
    assert len(set(asked)) == len(asked) == rows_said(capsys)[0][0]["requests_ok"] == 8


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A disk of its own of a given size, which a second call makes larger."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = False

    def sized(size: str) -> Path:
        nonlocal mounted
        how = f"remount,size={size}" if mounted else f"size={size}"
        try:
            done = subprocess.run(["mount", "-t", "tmpfs", "-o", how, "tmpfs", place], capture_output=True, check=False)
        except FileNotFoundError:
            pytest.skip("this system has no mount")
        if done.returncode:
            pytest.skip("only an administrator of Linux can make a disk")
        mounted = True
        return place

    yield sized
    if mounted:
        subprocess.run(["umount", place], check=True)


def test_a_disk_that_really_fills_up(small_disk: Callable[[str], Path]):
    """A run on 24 kB: one line, exit 1, readable records and an array; with space again `--output` completes it."""
    run = small_disk("24k") / "run"
    order = [str(BENCHMARK), "--models=モデル", "--rounds=60", f"--output={run}", f"--json={run / 'r.json'}"]
    done = started(order)
    out, err = done.communicate(timeout=120)
    assert done.returncode == 1
    assert last_line(err).startswith("DiskSpaceError: ") and str(run) in last_line(err)
    before = read_run(run / RECORDS_FILE).completions
    assert 0 < len(before) < 61
    assert json.loads(out)[0]["requests_ok"] == len(before) - 1
    small_disk("20m")
    done = started(order)
    out, err = done.communicate(timeout=120)
    assert done.returncode == 0, err
    after = read_run(run / RECORDS_FILE).completions
    assert after[: len(before)] == before
    assert json.loads(out)[0]["requests_ok"] == 60
    assert json.loads((run / "r.json").read_bytes()) == json.loads(out)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left", "/a/b"), "DiskSpaceError: /a/b cannot be written: No space left"),
        (PermissionError(errno.EACCES, "Permission denied", "/a/b"), "WorkshopError: /a/b: Permission denied."),
        (FileNotFoundError(errno.ENOENT, "No such file", "/a/b"), "WorkshopError: /a/b: No such file."),
    ],
)
@pytest.mark.skipif(os.name == "nt", reason="paths of POSIX")
def test_what_the_system_refuses_is_one_line(error: OSError, said: str, capsys: pytest.CaptureFixture[str]):
    """Wherever a program comes to it, a file that cannot be used is a line and exit code 1."""

    def work() -> int:
        raise error

    assert commands.ended(work) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(said)


def test_a_fault_of_the_program_stays_a_traceback():
    """What names neither a file nor a full disk is nothing that a reader could mend."""

    def work() -> int:
        raise ConnectionResetError(errno.ECONNRESET, "reset")

    with pytest.raises(ConnectionResetError):
        commands.ended(work)


@pytest.mark.parametrize(("models", "code"), [("モデル,silent", 1), ("モデル", 0)])
def test_an_answer_that_shows_no_text_is_empty(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], models: str, code: int
):
    """A model that only reasons has said nothing to whoever asked: `--fail-on-empty` names it and ends with 1."""
    assert commands.benchmark(["--models", models, "--output", str(tmp_path), "--fail-on-empty"]) == code
    assert ("silent: " in capsys.readouterr().err) == bool(code)


def test_an_endpoint_that_cannot_be_reached_leaves_an_empty_array_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Whoever reads the file after the program finds what standard output says: no rows."""
    monkeypatch.setenv("FOUNDRY_LOCAL_ENDPOINT", "http://127.0.0.1:9/v1")
    file = tmp_path / "rows.json"
    file.write_text("old", encoding="utf-8")
    assert commands.benchmark(["--output", str(tmp_path / "run"), "--json", str(file)]) == 1
    rows, _ = rows_said(capsys)
    assert rows == json.loads(file.read_bytes()) == []
