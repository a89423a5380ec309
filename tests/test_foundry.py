import gc
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace

import psutil
import pytest

from tests.foundry_helpers import (
    REPOSITORY,
    ask,
    is_gone,
    practice,
    python,
    smallest,
    wait_until,
    write_index,
)
from workshop_lib.catalog import ModelCard
from workshop_lib.errors import (
    DataFileError,
    DiskSpaceError,
    ModelNotFoundError,
    ModelServerError,
    RuntimeUnavailableError,
)
from workshop_lib.hosting.child_process import child_environment, how_it_ended
from workshop_lib.instrument import machine
from workshop_lib.providers import CPU_PROVIDER
from workshop_lib.records import ModelVariant
from workshop_lib.serving.foundry import FoundryRuntime, Patience
from workshop_lib.serving.foundry_listing import Listing
from workshop_lib.serving.foundry_process import FoundryProcess
from workshop_lib.serving.practice_catalog import PracticeCatalog

CUDA_VARIANT = ModelVariant(
    alias="practice-small",
    model_id="practice-small-fp16-cuda-gpu:1",
    device="gpu",
    execution_provider="CUDAExecutionProvider",
)
NO_NETWORK = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A model cache that the tests of this file share."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def runtime(cache):
    with practice(cache) as opened:
        yield opened


@pytest.fixture(scope="module")
def variant(runtime):
    return smallest(runtime)


@pytest.fixture(scope="module")
def served(runtime, variant):
    """A served model for the tests that only look at it."""
    with runtime.serve(variant) as model:
        yield model


@pytest.fixture
def job(runtime, variant):
    """A job as the runtime would write it."""
    return {
        "task": "serve",
        "models_dir": str(runtime.models_dir),
        "logs_dir": str(runtime.models_dir.parent / "logs"),
        "catalog_urls": [runtime._catalog.url],
        "model_id": variant.model_id,
        "execution_provider": variant.execution_provider,
    }


def test_the_listing_is_the_runtimes_own_and_grows_with_the_cache(tmp_path):
    """Every shipped CPU model is listed by the runtime, not cached before and cached after."""
    with practice(tmp_path) as runtime:
        before = runtime.list_models()
        first = before[0]
        percents = []
        runtime.download(first, on_progress=percents.append)
        after = runtime.list_models()
    assert percents == sorted(percents)
    assert percents[-1] == 100
    assert [v.cached for v in before] == [False] * len(before)
    assert [v.cached for v in after] == [True] + [False] * (len(before) - 1)
    assert (first.device, first.execution_provider) == ("cpu", CPU_PROVIDER)
    assert first.licence == "MIT"
    assert first.context_tokens > 0
    assert 0 < first.size_mb < 100
    assert first.precision == "int4"


def test_a_served_model_answers_a_chat_the_same_way_twice(served, variant):
    """The service is the runtime's own: greedy answers repeat, and their cost is measured."""
    answer = ask(served.base_url, variant.model_id)
    assert answer.strip()
    assert ask(served.base_url, variant.model_id) == answer
    assert served.base_url.startswith("http://127.0.0.1:")
    assert 0 < served.load_s < 30
    assert 20 < served.resident_mb <= served.peak_resident_mb()
    assert served.failure() is None
    assert CPU_PROVIDER in served.registered_providers


def test_the_served_process_sends_no_telemetry(served):
    """`CI=true` is in the environment of the process that holds the runtime."""
    assert psutil.Process(served.pid).environ()["CI"] == "true"


def test_stop_frees_the_process_quickly_and_keeps_the_peak(runtime, variant):
    """After `stop` the process is gone within two seconds; its peak memory is still known."""
    served = runtime.serve(variant)
    started = time.monotonic()
    served.stop()
    assert time.monotonic() - started < 2
    assert is_gone(served.pid)
    assert served.peak_resident_mb() >= served.resident_mb
    assert served.failure() is None
    assert served._process._child.returncode == 0, "it was killed instead of ending by itself"
    served.stop()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot halt a process by a signal")
def test_stop_ends_a_process_that_does_not_react(runtime, variant):
    """A hanging model is killed, within the same two seconds."""
    served = runtime.serve(variant)
    os.kill(served.pid, signal.SIGSTOP)
    started = time.monotonic()
    served.stop()
    assert time.monotonic() - started < 2
    assert is_gone(served.pid)


def test_a_model_that_is_dropped_is_stopped(runtime, variant):
    """A cell that is run again replaces its model, and the old one does not stay in memory."""
    served = runtime.serve(variant)
    pid = served.pid
    del served
    gc.collect()
    assert is_gone(pid)


def test_closing_the_runtime_stops_what_is_still_served(cache):
    """A forgotten model ends with its runtime."""
    with practice(cache) as runtime:
        served = [runtime.serve(smallest(runtime)) for _ in range(2)]
    assert all(is_gone(model.pid) for model in served)


def test_an_interrupt_does_not_take_the_model_along(served, variant):
    """Interrupting a notebook cell reaches every process of the group: the model stays."""
    if sys.platform == "win32":
        pytest.skip("Windows sends no interrupt to one process")
    os.kill(served.pid, signal.SIGINT)
    assert ask(served.base_url, variant.model_id)


def test_a_killed_model_is_a_clear_failure_and_the_others_go_on(runtime, served, variant):
    """Each model has a process of its own, so one can die alone, and its end says why."""
    with runtime.serve(variant) as doomed:
        psutil.Process(doomed.pid).kill()
        wait_until(lambda: doomed.failure() is not None, within_s=5)
        why = doomed.failure()
        assert variant.model_id in why
        if sys.platform != "win32":
            assert "killed by signal 9" in why
            assert "memory ran out" in why
        assert ask(served.base_url, variant.model_id)
    assert doomed.failure() == why


@pytest.mark.parametrize(
    ("exit_code", "how", "fix"),
    [
        (-9, "killed by signal 9 (SIGKILL), probably because the memory ran out", "smaller"),
        (-11, "crashed with signal 11 (SIGSEGV)", "Try again"),
        (-200, "crashed with signal 200 (unknown)", "Try again"),
        (0xC0000017, "the memory ran out", "smaller"),
        (0xC000012D, "the memory ran out", "smaller"),
        (0xC0000005, "crashed (access violation, 0xc0000005)", "Try again"),
        (0xC0000409, "crashed (it ended itself after a fault, 0xc0000409)", "Try again"),
        (0xC0001234, "crashed (unknown, 0xc0001234)", "Try again"),
        (1, "ended with exit code 1", "Try again"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="Windows numbers its signals differently")
def test_every_way_to_end_has_words(exit_code, how, fix):
    """Exit codes of POSIX and Windows become a cause and a next step."""
    said, advice = how_it_ended(exit_code)
    assert how in said
    assert fix in advice


def test_a_process_that_dies_while_loading_is_a_clear_error(job):
    """A death before the model is served names the signal and what was being done."""
    with FoundryProcess(job, doing="loading a model") as child:
        child._child.kill()
        with pytest.raises(ModelServerError, match="while loading a model"):
            child.wait_for("ready", timeout_s=10)


def test_a_process_that_says_nothing_is_not_waited_for_forever(cache):
    """Every wait has a limit, and the child that broke it is ended."""
    before = {child.pid for child in psutil.Process().children()}
    with (
        practice(cache, patience=Patience(list_s=0.001)) as runtime,
        pytest.raises(ModelServerError, match=r"Nothing was heard for .* while listing"),
    ):
        runtime.list_models()
    assert {child.pid for child in psutil.Process().children()} <= before


def test_a_busy_fixed_port_is_named(cache, variant):
    """A port that is taken is one clear error, and a free one is used as asked."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            practice(cache, port=port) as runtime,
            pytest.raises(ModelServerError, match=f"could not listen on port {port}"),
        ):
            runtime.serve(variant)
    with practice(cache, port=port) as runtime, runtime.serve(variant) as served:
        assert served.base_url == f"http://127.0.0.1:{port}/v1"


def test_a_missing_shipped_folder_is_one_clear_error(tmp_path):
    """A model whose folder is gone cannot be served, and the file is named."""
    index = write_index(tmp_path / "shipped", files={"model.onnx": b"w"})
    (index.parent / "toy-int4-generic-cpu" / "model.onnx").unlink()
    with practice(tmp_path / "cache", index_file=index) as runtime:
        (toy,) = runtime.find(["toy"])
        with pytest.raises(DataFileError, match=r"model\.onnx is missing"):
            runtime.serve(toy)


def test_a_model_that_cannot_be_loaded_is_one_clear_error(tmp_path):
    """The runtime's own words come along, on one line."""
    index = write_index(tmp_path / "shipped", files={"genai_config.json": b"{}"})
    with practice(tmp_path / "cache", index_file=index) as runtime:
        (toy,) = runtime.find(["toy"])
        with pytest.raises(ModelServerError, match="could not be loaded") as error:
            runtime.serve(toy)
    assert "\n" not in str(error.value)


def test_no_disk_space_names_what_is_needed(tmp_path, variant, monkeypatch):
    """Too little disk is found before the runtime starts to load."""
    monkeypatch.setattr(machine, "free_disk_mb", lambda path: 1.0)
    with practice(tmp_path) as runtime, pytest.raises(DiskSpaceError, match="1 MB are free"):
        runtime.serve(variant)


def test_an_unknown_alias_is_answered_with_the_nearest(runtime, variant):
    """A slip of the finger is answered with the alias that was meant."""
    with pytest.raises(ModelNotFoundError, match=f"Did you mean.*{variant.alias}"):
        runtime.find([variant.alias[:-1]])


def test_auto_finds_every_shipped_model_that_can_run_here(runtime):
    """Shipped models need no download worth the name, so `auto` takes them all."""
    here = [v.model_id for v in runtime.list_models() if v.execution_provider == CPU_PROVIDER]
    assert [v.model_id for v in runtime.find(["auto"], devices=["cpu"])] == here
    aliases = {model.alias for model in runtime._catalog.index.models}
    assert {v.alias for v in runtime.find(["auto"], devices=["cpu"])} == aliases


@pytest.fixture
def no_gpu(runtime):
    if "gpu" not in runtime.absent_devices():
        pytest.skip("this machine has a GPU provider")


@pytest.mark.usefixtures("no_gpu")
def test_the_catalogs_filter_is_honoured_by_the_runtime(runtime):
    """GPU builds are shipped, and not offered to a machine without a GPU provider."""
    shipped = {v.device for v in runtime._catalog.variants()}
    assert {v.device for v in runtime.list_models()} <= {"cpu"} | (shipped - {"gpu"})
    assert "No GPU provider is registered" in runtime.absent_devices()["gpu"]
    assert "cuDNN" in runtime.absent_devices()["gpu"]


def test_no_device_is_absent_when_a_gpu_provider_is_registered(tmp_path):
    """A registered provider decides, and a cached listing is not looked up again."""
    with practice(tmp_path) as runtime:
        runtime._listing = Listing((), (CPU_PROVIDER, "CUDAExecutionProvider"), (), None)
        assert runtime.absent_devices() == {}


@pytest.mark.usefixtures("no_gpu")
def test_a_gpu_variant_without_its_provider_is_refused_by_the_parent(runtime):
    """The reason and the remedy are given, whether it is looked for or served."""
    with pytest.raises(RuntimeUnavailableError, match=r"needs CUDAExecutionProvider.*cuDNN"):
        runtime.serve(CUDA_VARIANT)
    shipped = [v for v in runtime._catalog.variants() if v.device == "gpu"]
    for gpu_variant in shipped[:1]:
        with pytest.raises(ModelNotFoundError, match="which is not registered"):
            runtime.find([gpu_variant.model_id])


@pytest.mark.usefixtures("no_gpu")
def test_a_gpu_variant_without_its_provider_is_refused_by_the_child(job):
    """The runtime itself would run it on the CPU without a word, so the child refuses too."""
    job["execution_provider"] = "CUDAExecutionProvider"
    with (
        FoundryProcess(job, doing="loading") as child,
        pytest.raises(RuntimeUnavailableError, match="CUDAExecutionProvider, which is not"),
    ):
        child.wait_for("ready", timeout_s=30)


@pytest.mark.parametrize("blocked", ["package", "library"])
def test_a_runtime_that_is_missing_is_one_clear_line(tmp_path, cache, monkeypatch, blocked):
    """Without wheel or native library the error says what to install, or how to do without."""
    if blocked == "package":
        package = tmp_path / "foundry_local_sdk"
        package.mkdir()
        (package / "__init__.py").write_text("raise ImportError('no wheel for this platform')")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    else:
        monkeypatch.setenv("FOUNDRY_LOCAL_LIB_DIR", str(tmp_path))
    with practice(cache) as runtime, pytest.raises(RuntimeUnavailableError) as error:
        runtime.list_models()
    assert "cannot run here" in error.value.what
    assert "pip install foundry-local-sdk" in error.value.fix
    assert "FOUNDRY_LOCAL_ENDPOINT" in error.value.fix
    assert "\n" not in str(error.value)


def test_a_proxy_does_not_stand_between_the_runtime_and_this_machine(cache, monkeypatch):
    """Class rooms have proxies; what stays on the machine goes past them."""
    for name in NO_NETWORK:
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "example.org")
    with practice(cache) as runtime:
        assert runtime.list_models()
    assert child_environment(os.environ)["NO_PROXY"] == "example.org,127.0.0.1,localhost"


PARENT = """
import sys, time
from pathlib import Path
from workshop_lib.serving.practice import PracticeRuntime
runtime = PracticeRuntime(cache_dir=Path(sys.argv[1]))
variants = runtime.find(["auto"], devices=["cpu"])[:2]
served = [runtime.serve(variant) for variant in variants]
print(*(model.pid for model in served), flush=True)
"""
FORK = """
import os
worker = os.fork()
if worker == 0:
    time.sleep(60)
print(worker, flush=True)
"""


def start_parent(cache, code: str) -> tuple[subprocess.Popen, list[int]]:
    parent = subprocess.Popen(
        [sys.executable, "-c", f"{PARENT}{code}\ntime.sleep(60)", str(cache)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    return parent, [int(pid) for pid in parent.stdout.readline().split()]


def test_a_killed_parent_leaves_no_model_behind(cache):
    """When the kernel is killed, every model's process is gone within five seconds."""
    parent, pids = start_parent(cache, "")
    parent.kill()
    wait_until(lambda: all(is_gone(pid) for pid in pids), within_s=5)
    parent.communicate()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_a_fork_of_the_parent_does_not_keep_its_models_alive(cache):
    """A forked worker holds the pipe open; the models end with their own parent all the same."""
    parent, pids = start_parent(cache, FORK)
    worker = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    wait_until(lambda: all(is_gone(pid) for pid in pids), within_s=5)
    assert worker.is_running()
    worker.kill()
    parent.communicate()


def test_a_parent_that_dies_before_it_gives_a_job_leaves_nothing():
    """A child without a job ends by itself."""
    done = subprocess.run(
        [sys.executable, "-m", "workshop_lib.serving.foundry_server"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        cwd=REPOSITORY,
        timeout=20,
    )
    assert (done.returncode, done.stdout) == (0, b"")


def test_only_events_reach_standard_output():
    """Whatever the runtime prints, natively too, stays out of the events."""
    code = (
        "import os; from workshop_lib.hosting import child_pipes\n"
        "emit = child_pipes.take_standard_output()\n"
        "print('noise', flush=True); os.write(1, b'native noise')\n"
        "emit({'event': 'ready'})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True, cwd=REPOSITORY)
    assert done.stdout == '{"event": "ready"}\n'
    assert done.stderr.replace("\n", "") == "noisenative noise"


def test_two_notebooks_may_start_at_once_with_an_empty_cache(tmp_path):
    """Two processes list, install and serve the same model side by side."""
    code = (
        "import sys; from pathlib import Path\n"
        "from tests.foundry_helpers import ask, practice, smallest\n"
        f"with practice(Path({str(tmp_path)!r})) as runtime:\n"
        "    variant = smallest(runtime)\n"
        "    with runtime.serve(variant) as served:\n"
        "        print(ask(served.base_url, variant.model_id).strip().splitlines()[0])"
    )
    processes = [python(code) for _ in range(2)]
    answers = [process.communicate(timeout=60)[0] for process in processes]
    assert answers[0].strip()
    assert answers[0] == answers[1]


class PublicLike(FoundryRuntime):
    """The public profile with a catalog that can be reached without a network."""

    def __init__(self, shelf: PracticeCatalog, **options):
        super().__init__(**options)
        self._shelf = shelf

    def _catalog_url(self):
        return self._shelf.url


@pytest.fixture
def shelf():
    opened = PracticeCatalog()
    yield opened
    opened.close()


def test_the_public_profile_serves_what_is_cached_without_downloading(tmp_path, shelf, variant):
    """`auto` means what is cached, and a cached model is neither fetched nor measured for disk."""
    cards = {variant.alias: ModelCard(capabilities=("explain",), size_mb=1.0)}
    with PublicLike(shelf, cache_dir=tmp_path, cards=cards) as runtime:
        assert runtime.find(["auto"]) == []
        shelf.install(variant.model_id, runtime.models_dir)
        runtime.list_models()
        (found,) = runtime.find(["auto"])
        assert (found.model_id, found.capabilities) == (variant.model_id, ("explain",))
        with runtime.serve(found) as served:
            assert ask(served.base_url, found.model_id)


def test_a_download_is_tried_again_with_growing_pauses(tmp_path, shelf, variant, monkeypatch):
    """Three tries, two pauses of which the second is twice as long, then one clear error."""
    for name in NO_NETWORK:
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    pauses = []
    with (
        PublicLike(shelf, cache_dir=tmp_path, sleep=pauses.append) as runtime,
        pytest.raises(ModelServerError, match=r"could not be downloaded.*last of 3 tries"),
    ):
        runtime.download(replace(variant, cached=False))
    assert pauses == [2.0, 4.0]


def test_a_download_that_succeeds_is_told_to_its_end_and_not_repeated(tmp_path, shelf, variant):
    """Progress ends at 100, and a second download is nothing even when the disk is full by then."""
    percents = []
    with PublicLike(shelf, cache_dir=tmp_path) as runtime:
        shelf.install(variant.model_id, runtime.models_dir)
        before = replace(variant, cached=False)
        runtime.download(before, on_progress=percents.append)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(machine, "free_disk_mb", lambda path: 0.0)
            runtime.download(before, on_progress=percents.append)
            with pytest.raises(DiskSpaceError):
                runtime.download(replace(before, model_id="other:1"))
    assert percents[-2:] == [100.0, 100.0]


def test_serving_what_is_not_there_says_so(job):
    """A child asked for an unknown or an absent model answers with the reason."""
    with (
        FoundryProcess({**job, "model_id": "no-such-model:1"}, doing="loading") as child,
        pytest.raises(ModelNotFoundError, match="does not offer 'no-such-model:1'"),
    ):
        child.wait_for("ready", timeout_s=30)
    with (
        FoundryProcess({**job, "models_dir": f"{job['models_dir']}-empty"}, doing="x") as child,
        pytest.raises(ModelServerError, match="is not in the model cache"),
    ):
        child.wait_for("ready", timeout_s=30)


def test_a_catalog_that_offers_nothing_is_a_fault(tmp_path, shelf, monkeypatch):
    """Without a network the public catalog is empty, which is said instead of shown."""
    shelf.offers = ()
    with (
        PublicLike(shelf, cache_dir=tmp_path) as runtime,
        pytest.raises(ModelServerError, match=r"did not answer.*'practice'"),
    ):
        runtime.list_models()
