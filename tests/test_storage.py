"""Runs on disk survive crashes and read back as they were written."""

from __future__ import annotations

import errno
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.measurement_helpers import VARIANT, completion, run_of
from workshop_lib.errors import DiskSpaceError, RecordFileError
from workshop_lib.records import Completion, Prompt, Serving
from workshop_lib.storage import RunWriter, read_run, record_of

EMPTY = run_of([], servings=())


def write(path: Path, *records: Serving | Completion) -> bytes:
    """A run file with these records; returns its content."""
    with RunWriter(path, EMPTY) as writer:
        writer.append(*records)
    return path.read_bytes()


def test_a_run_reads_back_as_it_was_written(tmp_path: Path):
    """Header, servings and completions survive the round trip, energy and its notes included."""
    records = [
        completion([0.1, 0.2], energy_j=1.25, energy_source="measured:nvml"),
        completion([], error="broke", error_kind="reset"),
    ]
    run = run_of(records, servings=(Serving(VARIANT, gpu_memory_mb=12.5, energy_note="Energy is assumed.", threads=2),))
    with RunWriter(tmp_path / "records.jsonl", run) as writer:
        for record in (*run.servings, *run.completions):
            writer.append(record)
            assert read_run(writer.path).run_id == run.run_id, "a reader sees it while the writer is open"
    assert read_run(tmp_path / "records.jsonl") == run


@pytest.mark.parametrize(
    ("sets", "expected"),
    [(["course", "course"], "course"), (["course", "meeting-notes"], None), (["course", ""], None), ([""], None)],
)
def test_a_run_keeps_the_set_of_its_prompts(tmp_path: Path, sets: list[str], expected: str | None):
    """The name is written with each prompt, and a run has it where all of them share one."""
    prompts = tuple(Prompt(f"p{place}", "Why?", set_name=name) for place, name in enumerate(sets))
    with RunWriter(tmp_path / "records.jsonl", replace(EMPTY, prompts=prompts)) as writer:
        read = read_run(writer.path)
    assert [prompt.set_name for prompt in read.prompts] == sets
    assert read.prompt_set == expected


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(text=st.text(max_size=40))
def test_any_text_survives(tmp_path: Path, text: str):
    """Answers are untrusted text: new lines, quotes and any Unicode come back unchanged."""
    path = tmp_path / "records.jsonl"
    path.unlink(missing_ok=True)
    write(path, completion([0.1], [text]))
    assert read_run(path).completions[0].text == text


def test_a_half_written_last_line_is_dropped(tmp_path: Path):
    """What a crash left after the last newline was never acknowledged; a resumed writer cuts it."""
    path = tmp_path / "records.jsonl"
    path.write_bytes(write(path, completion([0.1])) + b'{"kind":"completion","requ')
    assert len(read_run(path).completions) == 1
    write(path, completion([0.2]))
    assert [record.chunks[0].at_s for record in read_run(path).completions] == [0.1, 0.2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no run header"),
        (b'{"kind":"run","schema":99}\n', "schema 99"),
        (b"{broken}\n", "line 1: not a record of this version"),
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


def refuse(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("step", ["open", "fsync"])
def test_a_full_disk_is_one_error_and_keeps_what_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
):
    """Whenever the system says it, the folder and the way on are named, whole lines stay, and a writer goes on."""
    path = tmp_path / "records.jsonl"
    with RunWriter(path, EMPTY) as writer:
        writer.append(completion([0.1]))
        with monkeypatch.context() as patch:
            patch.setattr(*{"open": (Path, "open"), "fsync": (os, "fsync")}[step], refuse)
            with pytest.raises(DiskSpaceError) as caught:
                writer.append(completion([0.2]))
    assert (caught.value.exit_code, str(tmp_path) in str(caught.value)) == (1, True)
    with RunWriter(path, EMPTY) as writer:
        writer.append(completion([0.3]))
    assert [record.chunks[0].at_s for record in read_run(path).completions] == [0.1, 0.3]


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps a file that is open where it is")
@pytest.mark.parametrize("gone", ["moved", "removed"])
def test_a_folder_that_goes_away_ends_the_writing(tmp_path: Path, gone: str):
    """POSIX would go on writing to a file without a name: the next record is refused instead."""
    folder = tmp_path / "run"
    with RunWriter(folder / "records.jsonl", EMPTY) as writer:
        writer.append(completion([0.1]))
        folder.rename(tmp_path / "moved") if gone == "moved" else shutil.rmtree(folder)
        with pytest.raises(RecordFileError) as caught:
            writer.append(completion([0.2]))
    assert (caught.value.exit_code, str(folder) in str(caught.value)) == (1, True)


def test_a_file_of_an_older_version_is_read(tmp_path: Path):
    """Fields that were added later are not measured in it, and the rest is unchanged."""
    path = tmp_path / "records.jsonl"
    later = {"energy_j", "energy_source", "gpu_memory_mb", "energy_note", "watts", "threads"}
    lines = [json.loads(line) for line in write(path, Serving(VARIANT, load_s=1.0), completion([0.1])).splitlines()]
    for line in lines:
        for entry in (line, line.get("variant", {})):
            for name in later & entry.keys():
                del entry[name]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    run = read_run(path)
    assert (run.servings, run.completions) == ((Serving(VARIANT, load_s=1.0),), (completion([0.1]),))


@pytest.mark.parametrize("line", [None, [], {}, {"kind": "mystery"}, {"kind": "completion"}])
def test_a_line_that_is_no_record_is_refused(line: object):
    """What arrives from elsewhere is checked line by line; headers and notes are no records."""
    with pytest.raises(RecordFileError):
        record_of(line)
    assert record_of({"kind": "note", "text": ""}) is None
