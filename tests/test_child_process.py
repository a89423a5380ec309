import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.foundry_helpers import REPOSITORY, ask, is_gone, practice, smallest, wait_until
from workshop_lib.errors import ModelServerError
from workshop_lib.models import registry
from workshop_lib.runtimes.child_process import child_environment, how_it_ended

PARENT = """
import sys, time
from pathlib import Path
from tests.foundry_helpers import practice
runtime = practice(Path(sys.argv[1]))
served = [runtime.serve(variant) for variant in runtime.find(["auto"], devices=["cpu"])[:2]]
print(*(model.pid for model in served), flush=True)
"""
FORK = """
import os
worker = os.fork()
if worker == 0:
    time.sleep(60)
print(worker, flush=True)
"""


@pytest.fixture(scope="module")
def runtime(tmp_path_factory):
    with practice(tmp_path_factory.mktemp("cache")) as opened:
        yield opened


@pytest.fixture(scope="module")
def variant(runtime):
    return smallest(runtime)


@pytest.fixture(scope="module")
def served(runtime, variant):
    """A served model for the tests that only look at it."""
    with runtime.serve(variant) as model:
        yield model


def test_stop_frees_the_process_quickly_and_keeps_the_peak(runtime, variant, tmp_path, monkeypatch):
    """After `stop` the process is gone within seconds, with its folder; its peak memory is still known."""
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.setenv(name, str(tmp_path))
    served = runtime.serve(variant)
    assert len(list(tmp_path.glob("edge-ai-workshop-*"))) == 1
    started = time.monotonic()
    served.stop()
    assert time.monotonic() - started < 30
    assert is_gone(served.pid)
    assert not list(tmp_path.glob("edge-ai-workshop-*"))
    assert served.peak_resident_mb() >= served.resident_mb
    assert served.failure() is None
    assert served._process._child.returncode == 0, "it was killed instead of ending by itself"
    served.stop()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot halt a process by a signal")
def test_stop_ends_a_process_that_does_not_react(runtime, variant):
    """A hanging model is killed, within seconds: it would never end by itself."""
    served = runtime.serve(variant)
    os.kill(served.pid, signal.SIGSTOP)
    started = time.monotonic()
    served.stop()
    assert time.monotonic() - started < 30
    assert is_gone(served.pid)


def test_a_model_that_is_dropped_is_stopped(runtime, variant):
    """A cell that is run again replaces its model, and the old one does not stay in memory."""
    served = runtime.serve(variant)
    pid = served.pid
    del served
    wait_until(lambda: is_gone(pid), within_s=30)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no interrupt to one process")
def test_an_interrupt_does_not_take_the_model_along(served, variant):
    """Interrupting a notebook cell reaches every process of the group: the model stays."""
    os.kill(served.pid, signal.SIGINT)
    assert ask(served.base_url, variant.model_id)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows numbers its signals differently")
@pytest.mark.parametrize(
    ("exit_code", "how", "fix"),
    [
        (-9, "killed by signal 9 (SIGKILL), probably because the memory ran out", "smaller"),
        (-11, "crashed with signal 11 (SIGSEGV)", "Try again"),
        (0xC0000017, "the memory ran out", "smaller"),
        (0xC0000005, "crashed (0xc0000005)", "Try again"),
        (1, "ended with exit code 1", "Try again"),
    ],
)
def test_every_way_to_end_has_words(exit_code, how, fix):
    """Exit codes of POSIX and Windows become a cause and a next step."""
    said, advice = how_it_ended(exit_code)
    assert how in said
    assert fix in advice


def test_a_process_that_dies_while_it_works_names_the_work(tmp_path, variant):
    """A death before the model is served says what was being done."""
    with registry.foundry_process("serve", variant, logs_dir=tmp_path) as child:
        child._child.kill()
        with pytest.raises(ModelServerError, match=f"while loading {variant.model_id}"):
            child.wait_for("ready", timeout_s=10)


def test_a_process_that_says_nothing_is_not_waited_for_forever(tmp_path):
    """Every wait has a limit, which the error names."""
    with (
        registry.foundry_process("look", logs_dir=tmp_path) as child,
        pytest.raises(ModelServerError, match=r"for 0\.05 s while listing"),
    ):
        child.wait_for("listing", timeout_s=0.05)
    assert is_gone(child._child.pid)


def test_a_child_sends_no_telemetry_and_goes_past_proxies(served):
    """`CI=true` stands in its environment, and loopback addresses are no proxy's affair."""
    assert psutil.Process(served.pid).environ()["CI"] == "true"
    assert child_environment({"NO_PROXY": "example.org"})["NO_PROXY"] == "example.org,127.0.0.1,localhost"


@pytest.mark.parametrize("code", ["", pytest.param(FORK, marks=pytest.mark.skipif(os.name != "posix", reason="forks"))])
def test_a_killed_parent_leaves_no_model_behind(tmp_path, code):
    """However the parent ends, also with a fork that holds the pipes open, its models are soon gone."""
    parent = subprocess.Popen(
        [sys.executable, "-c", f"{PARENT}{code}\ntime.sleep(60)", str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    worker = int(parent.stdout.readline()) if code else None
    parent.kill()
    wait_until(lambda: all(is_gone(pid) for pid in pids), within_s=30)
    if worker:
        psutil.Process(worker).kill()
    parent.communicate()


def test_a_parent_that_dies_before_it_gives_a_job_leaves_nothing():
    """A child without a job ends by itself."""
    command = [sys.executable, "-m", "workshop_lib.runtimes.foundry_child"]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, check=False, cwd=REPOSITORY, timeout=20
    )
    assert (done.returncode, done.stdout) == (0, b"")


def test_only_events_reach_standard_output():
    """Whatever the runtime prints, natively too, stays out of the events."""
    code = (
        "import os; from workshop_lib.runtimes import child\n"
        "emit = child.take_standard_output()\n"
        "print('noise', flush=True); os.write(1, b'native noise')\n"
        "emit({'event': 'ready'})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True, cwd=REPOSITORY)
    assert done.stdout == '{"event": "ready"}\n'
    assert done.stderr.replace("\n", "") == "noisenative noise"
