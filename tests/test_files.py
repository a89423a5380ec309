"""Files that survive a crash: whole or old, whole lines, one writer, nothing left behind."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workshop_lib import files, places
from workshop_lib.errors import ConfigurationError, DiskSpaceError

HOME = Path.home()
QUICK = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path):
    """Text is UTF-8 with plain newlines, a folder is made, and no temporary file stays."""
    path = tmp_path / "new" / "decision.md"
    files.write_atomically(path, "first\n")
    files.write_atomically(path, "é\n\ud800")
    assert path.read_bytes() == b"\xc3\xa9\n\\ud800"
    assert list(path.parent.iterdir()) == [path]


def test_a_place_is_tried_before_long_work_and_left_as_it_was(tmp_path: Path):
    """A new or an existing file passes and stays unchanged; a folder, or a file on the way, is refused in words."""
    old = tmp_path / "old.json"
    old.write_text("old", encoding="utf-8")
    for path in (old, tmp_path / "new" / "new.json"):
        files.check_writable(path)
    assert old.read_text(encoding="utf-8") == "old"
    assert list((tmp_path / "new").iterdir()) == []
    for path in (tmp_path / "new", old / "below.json"):
        with pytest.raises(ConfigurationError, match=r"cannot be written: .*choose another folder"):
            files.check_writable(path)


@pytest.mark.parametrize("broken", ["write", "replace"])
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str):
    """Whether the new content or its name finds no room: one sentence, the old file, no temporary file."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "a.json"
    files.write_atomically(path, "old")
    with monkeypatch.context() as patch:
        patch.setattr(*((os, "fsync") if broken == "write" else (Path, "replace")), full)
        with pytest.raises(DiskSpaceError, match=r"a\.json cannot be written: No space.*choose another folder"):
            files.write_atomically(path, b"new")
    assert path.read_text("utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


@QUICK
@given(st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=20) | st.integers()), max_size=6), st.binary())
def test_lines_come_back_whatever_a_crash_left_between_them(tmp_path: Path, entries: list[dict], rest: bytes):
    """Half a line is cut before the next is added; every entry is one line, and no other line is there."""
    path, half = tmp_path / "lines.jsonl", rest.replace(b"\n", b"")
    path.unlink(missing_ok=True)
    for entry in entries:
        files.append_lines(path, [entry])
        with path.open("ab") as file:
            file.write(half)
    seen = files.whole_lines(path.read_bytes()) if entries else []
    assert [json.loads(line.decode()) for line in seen] == [json.loads(json.dumps(entry)) for entry in entries]
    assert files.cut_half_line(path) == (len(half) if entries else 0)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no disk that is always full")
def test_a_device_is_written_to_and_not_replaced():
    """A pipe or a device takes the content as it is; one without room is a full disk."""
    files.write_atomically(Path(os.devnull), "gone")
    assert Path(os.devnull).is_char_device()
    with pytest.raises(DiskSpaceError):
        files.write_atomically(Path("/dev/full"), "too much")
    with pytest.raises(OSError, match="space") as caught:
        files.append_lines(Path("/dev/full"), [{"a": 1}])
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, "/dev/full")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
@pytest.mark.parametrize("text", ['["é", "モデル🦊"]', "[]", "a;b\r\n", ""])
def test_text_is_read_in_any_unicode_encoding(text: str, encoding: str):
    """PowerShell writes UTF-16, Excel's Unicode text too, and editors write marks: the text is the same."""
    assert files.decoded(text.encode(encoding)) == text


def test_other_encodings_are_not_guessed():
    """Windows-1252 is refused at its first byte that is not UTF-8."""
    with pytest.raises(UnicodeDecodeError) as caught:
        files.decoded("naïve".encode("cp1252"))
    assert caught.value.start == 2


@pytest.mark.parametrize(
    ("typed", "path"),
    [
        ("a/b", "a/b"),
        ("a/b/", "a/b"),
        (' "a b/c" ', "a b/c"),
        ("'a/b'", "a/b"),
        ("~/a", HOME / "a"),
        ("'~/a/'", HOME / "a"),
        ("~nobody-of-that-name/a", "~nobody-of-that-name/a"),
        ('a"', 'a"'),
        (Path("a"), "a"),
    ],
)
def test_a_path_is_taken_as_people_paste_it(typed: str | Path, path: str | Path):
    """Quotes and spaces around it go, `~` is the home, a quote inside stays."""
    assert files.typed_path(typed) == Path(path)


def test_infinity_is_no_json(tmp_path: Path):
    """What other programs could not read is refused before it reaches a file."""
    with pytest.raises(ValueError, match="Out of range float"):
        files.append_lines(tmp_path / "lines.jsonl", [{"a": float("inf")}])
    assert list(tmp_path.iterdir()) == []


def test_the_second_writer_waits_and_the_lock_leaves_nothing(tmp_path: Path):
    """While one holds the file another gets no hold of it; afterwards no lock file is there."""
    path = tmp_path / "records.jsonl"
    with files.one_writer(path, wait_s=0):
        with pytest.raises(TimeoutError), files.one_writer(path, wait_s=0.05):
            pass
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []


COUNT = """
import sys
from pathlib import Path
from workshop_lib.files import one_writer
path = Path(sys.argv[1])
for _ in range(int(sys.argv[2])):
    with one_writer(path, wait_s=60):
        path.write_text(str(int(path.read_text()) + 1))
"""


def test_a_lock_that_is_removed_still_lets_only_one_in(tmp_path: Path):
    """Three programs count up one file 40 times each, and no step is lost although each removes the lock."""
    path = tmp_path / "count"
    path.write_text("0")
    command = [sys.executable, "-c", COUNT, str(path), "40"]
    programs = [subprocess.Popen(command, cwd=places.PROJECT) for _ in range(3)]
    assert [each.wait(90) for each in programs] == [0, 0, 0]
    assert path.read_text() == "120"
    assert list(tmp_path.iterdir()) == [path]


def test_runs_go_where_the_variable_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`WORKSHOP_RUNS_DIR` moves runs and verdicts; without it they are in the project's `runs/`."""
    monkeypatch.setenv("WORKSHOP_RUNS_DIR", str(tmp_path))
    assert places.runs_folder() == tmp_path
    monkeypatch.delenv("WORKSHOP_RUNS_DIR")
    assert places.runs_folder() == places.PROJECT / "runs"
    assert (places.PROJECT / "workshop.py").is_file()
