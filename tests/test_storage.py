"""Runs on disk survive crashes and read back as they were written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.measurement_helpers import VARIANT, completion, run_of
from workshop_lib.errors import RecordFileError
from workshop_lib.records import Serving
from workshop_lib.storage import RunWriter, read_run

EMPTY = run_of([], servings=())


def test_a_run_reads_back_as_it_was_written(tmp_path: Path):
    """Header, servings and completions survive the round trip."""
    run = run_of([completion([0.1, 0.2]), completion([], error="broke", error_kind="reset")])
    with RunWriter(tmp_path / "records.jsonl", run) as writer:
        for record in (*run.servings, *run.completions):
            writer.append(record)
    assert read_run(tmp_path / "records.jsonl") == run


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(text=st.text(max_size=40))
def test_any_text_survives(tmp_path: Path, text: str):
    """Answers are untrusted text: new lines, quotes and any Unicode come back unchanged."""
    path = tmp_path / "records.jsonl"
    path.unlink(missing_ok=True)
    with RunWriter(path, EMPTY) as writer:
        writer.append(completion([0.1], [text]))
    assert read_run(path).completions[0].text == text


def test_a_half_written_last_line_is_dropped(tmp_path: Path):
    """What a crash left after the last newline was never acknowledged; a resumed writer cuts it."""
    path = tmp_path / "records.jsonl"
    with RunWriter(path, EMPTY) as writer:
        writer.append(completion([0.1]))
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"kind":"completion","requ')
    assert len(read_run(path).completions) == 1
    with RunWriter(path, EMPTY) as writer:
        writer.append(completion([0.2]))
    assert [record.chunks[0].at_s for record in read_run(path).completions] == [0.1, 0.2]


def test_two_runs_cannot_write_one_file(tmp_path: Path):
    """A second process is told that another run is writing."""
    path = tmp_path / "records.jsonl"
    code = (
        "import sys; from pathlib import Path; from tests.measurement_helpers import run_of;"
        "from workshop_lib.storage import RunWriter; RunWriter(Path(sys.argv[1]), run_of([]))"
    )
    with RunWriter(path, EMPTY):
        second = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert "RecordFileError: Another run is writing records.jsonl." in second.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no run header"),
        (b'{"kind":"run","schema":99}\n', "schema 99"),
        (b"{broken}\n", "line 1: broken JSON"),
        (b"[]\n", "line 1: not a record"),
        (b'{"kind":"completion","chunks":[]}\n', "line 1: not a record of this version"),
    ],
)
def test_unusable_files_are_refused_with_the_line(tmp_path: Path, content: bytes, message: str):
    """Another schema, broken JSON or a foreign file is one clear error."""
    path = tmp_path / "records.jsonl"
    path.write_bytes(content)
    with pytest.raises(RecordFileError, match=message):
        read_run(path)


def test_a_missing_file_says_what_to_do(tmp_path: Path):
    """Reading before measuring is answered, not traced."""
    with pytest.raises(RecordFileError, match="Run a benchmark first"):
        read_run(tmp_path / "none.jsonl")


def test_every_record_is_on_disk_when_append_returns(tmp_path: Path):
    """A reader sees a record while the writer is still open."""
    path = tmp_path / "records.jsonl"
    with RunWriter(path, EMPTY) as writer:
        writer.append(Serving(VARIANT, load_s=1.0))
        assert read_run(path).servings == (Serving(VARIANT, load_s=1.0),)
