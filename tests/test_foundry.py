import json
import shutil
from dataclasses import replace

import pytest

from tests.adapter_helpers import SMALL, scripted, weights_in
from tests.foundry_helpers import PROXIES, PublicCatalog, ask, is_gone, practice, python, smallest
from workshop_lib import data, files, machine
from workshop_lib.client import ChatClient
from workshop_lib.data import ModelCard
from workshop_lib.errors import DiskSpaceError, ModelNotFoundError, ModelServerError, RuntimeUnavailableError
from workshop_lib.machine import CPU_PROVIDER
from workshop_lib.models import registry
from workshop_lib.plan import choose_variants
from workshop_lib.records import ModelVariant
from workshop_lib.runtimes import foundry_child
from workshop_lib.runtimes.foundry import FoundryRuntime, Look, public_variant

CUDA = "CUDAExecutionProvider"
CUDA_VARIANT = ModelVariant("practice-small", "practice-small-fp16-cuda-gpu:1", "gpu", CUDA)


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


@pytest.fixture
def no_gpu(runtime):
    if "gpu" not in runtime.absent_devices():
        pytest.skip("this machine has a GPU provider")


def ids(variants):
    return [variant.model_id for variant in variants]


# The practice models


def test_every_shipped_model_that_can_run_here_is_listed_and_here_already(runtime, cache):
    """Six CPU builds, smallest first, with what tables ask for; nothing of them is copied into the cache."""
    listed = runtime.list_models()
    assert ids(listed)[:2] == ["practice-small-int4-generic-cpu:1", "practice-small-fp32-generic-cpu:1"]
    assert len(listed) >= 6
    assert ids(runtime.find(["auto"])) == ids(listed)
    first = listed[0]
    assert (first.device, first.execution_provider, first.precision) == ("cpu", CPU_PROVIDER, "int4")
    assert (first.licence, first.context_tokens, first.size_mb) == ("MIT", 1024, 0.416305)
    assert {variant.cached for variant in listed} == {True}
    percents = []
    runtime.download(first, on_progress=percents.append)
    assert percents == [100.0]
    assert {path.name for path in cache.iterdir()} <= {"logs", "registered"}


def test_a_served_model_answers_a_chat_the_same_way_twice(runtime, variant):
    """The service is the runtime's own local catalog: greedy answers repeat, and their cost is measured."""
    with runtime.serve(variant) as served:
        answer = ask(served.base_url, variant.model_id)
        assert answer.strip()
        assert ask(served.base_url, variant.model_id) == answer
        assert served.base_url.startswith("http://127.0.0.1:")
        assert served.base_url.endswith("/catalogs/local/v1")
        assert 0 < served.load_s < 30
        assert 20 < served.resident_mb <= served.peak_resident_mb()
        assert CPU_PROVIDER in served.registered_providers
        assert served.threads == machine.cores()
        with ChatClient(served.base_url) as client:
            assert client.list_loaded() == client.list_models() == (variant.model_id,)


@pytest.mark.parametrize(
    ("decoder", "threads"),
    [
        ('{"session_options": {"intra_op_num_threads": 2}}', 2),
        ('{"session_options": {"intra_op_num_threads": 0}}', None),  # what the runtime reads as its own choice
        ('{"session_options": {"intra_op_num_threads": "many"}}', None),
        ('{"session_options": null}', None),
        ("{", None),
    ],
)
def test_threads_are_those_that_the_folder_sets(tmp_path, decoder, threads):
    """A positive number in the place that the runtime reads; anything else is the runtime's choice, and no fault."""
    (tmp_path / "genai_config.json").write_text(f'{{"model": {{"decoder": {decoder}}}}}')
    assert foundry_child._threads(tmp_path) == threads
    assert foundry_child._threads(tmp_path / "none") is None


@pytest.mark.parametrize(("text", "threads"), [('{"model": {"decoder": {"session_options": {}}}}', 3), ("{}", None)])
def test_threads_are_set_in_a_folder_of_the_child_s_own(tmp_path, text, threads):
    """The shipped folder stays as it was, and a damaged configuration is handed on for the runtime to judge."""
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    (shipped / "genai_config.json").write_text(text)
    place = foundry_child._with_threads(shipped, 3, tmp_path / "served")
    assert foundry_child._threads(place) == threads
    assert (shipped / "genai_config.json").read_text() == text


def test_closing_the_runtime_stops_what_is_still_served(cache, variant):
    """A forgotten model ends with its runtime."""
    with practice(cache) as runtime:
        served = [runtime.serve(variant) for _ in range(2)]
    assert all(is_gone(model.pid) for model in served)


def test_two_notebooks_may_start_at_once_with_an_empty_cache(tmp_path):
    """Two processes list and serve the same model side by side."""
    code = (
        "from pathlib import Path\n"
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


# Providers


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_provider_no_gpu_build_is_offered_or_served(runtime):
    """The reason and the remedy are given, whether it is listed, looked for or served, by parent and child."""
    assert {variant.device for variant in runtime.list_models()} == {"cpu"}
    assert "No GPU provider is registered" in runtime.absent_devices()["gpu"]
    assert "cuDNN" in runtime.absent_devices()["gpu"]
    with pytest.raises(ModelNotFoundError, match=f"needs {CUDA}"):
        runtime.find([CUDA_VARIANT.model_id])
    with pytest.raises(RuntimeUnavailableError, match=f"needs {CUDA}"):
        runtime.serve(CUDA_VARIANT)
    with (
        registry.foundry_process("serve", CUDA_VARIANT, logs_dir=runtime._cache_dir, place=SMALL) as child,
        pytest.raises(RuntimeUnavailableError, match=f"{CUDA}, which is not"),
    ):
        child.wait_for("ready", timeout_s=30)


def test_a_registered_provider_decides_what_is_a_gpu(tmp_path):
    """The device on a label counts for nothing: the provider must be registered."""
    look = Look((), (CPU_PROVIDER, CUDA), (), None)
    with practice(tmp_path) as runtime:
        runtime._seen = look
        assert runtime.absent_devices() == {}
    assert look.can_run(CUDA_VARIANT)
    assert not look.can_run(replace(CUDA_VARIANT, execution_provider="WebGpuExecutionProvider"))
    assert look.can_run(replace(CUDA_VARIANT, execution_provider=None))


# Registered models


@pytest.fixture(scope="module")
def mine(tmp_path_factory, cache):
    """A copy of practice-small int4, registered as `my-small`; and an adapter, `my-adapter`."""
    place = shutil.copytree(SMALL, tmp_path_factory.mktemp("models") / "my small")
    (place / "README.md").write_text("---\nlicense: mit\n---\n")
    registry.register("my-small", place, capabilities=("explain",), cache_dir=cache)
    weights = weights_in(place.parent)
    registry.register("my-adapter", weights, adapter=scripted(), cache_dir=cache)
    yield place
    for alias in ("my-small", "my-adapter"):
        registry.remove(alias, cache_dir=cache)


def test_registered_models_stand_beside_the_others_in_every_profile_of_this_machine(cache, runtime, mine):
    """Listed, part of `auto`, found by alias or id in the order given, served; same weights, same answer."""
    every = ids(runtime.find(["auto"]))
    assert every[-2:] == ["my-small-folder-cpu:1", "my-adapter-adapter-cpu:1"]
    assert every == ids(runtime.list_models())
    assert ids(runtime.find(["my-adapter", "practice-large-int4-generic-cpu:1", "my-small"])) == [
        "my-adapter-adapter-cpu:1", "practice-large-int4-generic-cpu:1", "my-small-folder-cpu:1",
    ]  # fmt: skip
    assert runtime.find(["my-adapter"], devices=["gpu"]) == []
    (variant,) = runtime.find(["my-small"])
    assert (variant.licence, variant.capabilities, variant.precision) == ("mit", ("explain",), "int4")
    assert (variant.context_tokens, variant.cached) == (1024, True)
    (shipped,) = runtime.find(["practice-small-int4-generic-cpu:1"])
    with runtime.serve(variant) as own, runtime.serve(shipped) as other:
        assert ask(own.base_url, variant.model_id) == ask(other.base_url, shipped.model_id)
        assert own.pid != other.pid
    with PublicCatalog() as public, public.runtime(cache_dir=cache) as foundry:
        assert {"my-small", "my-adapter", "toy"} <= {each.alias for each in foundry.list_models()}
        assert ids(foundry.find(["auto"])) == ["my-small-folder-cpu:1", "my-adapter-adapter-cpu:1"]
        with foundry.serve(foundry.find(["my-small"])[0]) as served:
            assert ask(served.base_url, "my-small-folder-cpu:1")


def test_a_registered_model_whose_files_are_gone_is_left_out_with_the_reason(runtime, mine):
    """The others stay; who asks for it by name is told; a run has a skipped row."""
    (variant,) = runtime.find(["my-small"])
    moved = mine.rename(mine.with_name("moved"))
    try:
        for name in ("my-small", variant.model_id):
            with pytest.raises(ModelNotFoundError, match=r"cannot be found any more.*unregister my-small"):
                runtime.find([name])
        for action in (runtime.serve, runtime.download):
            with pytest.raises(ModelServerError, match="cannot be found any more"):
                action(variant)
        assert variant.model_id not in ids(runtime.find(["auto"]))
        assert [each.cached for each in runtime.list_models() if each.alias == "my-small"] == [False]
        (skipped,) = choose_variants(runtime, ["auto"], ["cpu"])[1]
        assert (skipped[0].model_id, skipped[1]) == (variant.model_id, runtime.left_out()[0][1])
        assert ids(runtime.find(["my-adapter"])) == ["my-adapter-adapter-cpu:1"]
    finally:
        moved.rename(mine)
    assert runtime.left_out() == []


# The public catalog


@pytest.fixture
def public():
    with PublicCatalog() as opened:
        yield opened


def test_a_cached_public_model_is_served_without_downloading(tmp_path, public):
    """`auto` means what is cached; capabilities come from `models.json`; it is served under the public catalog."""
    with public.runtime(cache_dir=tmp_path, cards={"toy": ModelCard(("explain",), 1.0, watts=9.0)}) as runtime:
        assert runtime.find(["auto"]) == []
        public.cache(runtime.models_dir)
        runtime.list_models()
        (found,) = runtime.find(["auto"])
        assert (found.model_id, found.capabilities, found.watts) == (public.model_id, ("explain",), 9.0)
        assert (found.precision, found.licence, found.context_tokens) == ("int4", "MIT", 1024)
        with runtime.serve(found) as served:
            assert not served.base_url.endswith("/catalogs/local/v1")
            assert ask(served.base_url, found.model_id)


def test_a_download_is_tried_again_with_growing_pauses(tmp_path, public, monkeypatch):
    """Three tries, two pauses of which the second is twice as long, then one clear error."""
    for name in PROXIES:
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    pauses = []
    with public.runtime(cache_dir=tmp_path, sleep=pauses.append) as runtime:
        (toy,) = runtime.find([public.model_id])
        with pytest.raises(ModelServerError, match="last of 3 tries"):
            runtime.download(toy)
    assert pauses == [2.0, 4.0]


def test_a_download_is_told_to_its_end_and_not_repeated(tmp_path, public, monkeypatch):
    """Progress ends at 100; a second download is nothing even when the disk is full by then, another is refused."""
    percents = []
    with public.runtime(cache_dir=tmp_path) as runtime:
        (toy,) = runtime.find([public.model_id])
        public.cache(runtime.models_dir)
        runtime.download(toy, on_progress=percents.append)
        monkeypatch.setattr(machine, "free_disk_mb", lambda path: 12.0)
        runtime.download(toy, on_progress=percents.append)
        with pytest.raises(DiskSpaceError, match=r"needs 51 MB.*12 MB are free"):
            runtime.download(replace(toy, model_id="other:1", size_mb=1.0))
    assert percents[-2:] == [100.0, 100.0]


def test_a_public_catalog_that_is_silent_is_said(tmp_path, monkeypatch, caplog):
    """Without a network registered models are still there, with a warning."""
    for name in PROXIES:
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with FoundryRuntime("foundry", cache_dir=tmp_path) as runtime:
        registry.register("mine", SMALL, cache_dir=tmp_path)
        assert ids(runtime.list_models()) == ids(runtime.find(["auto"])) == ["mine-folder-cpu:1"]
        assert "did not answer" in caplog.text


def test_an_alias_of_both_catalogs_means_the_registered_model(tmp_path, public):
    """Nobody can know beforehand what the public catalog will list; that one is reached by its exact id."""
    registry.register("toy", SMALL, cache_dir=tmp_path)
    with public.runtime(cache_dir=tmp_path) as runtime:
        assert ids(runtime.find(["toy"])) == ["toy-folder-cpu:1"]
        assert ids(runtime.find([public.model_id])) == [public.model_id]


@pytest.mark.parametrize(
    ("quantization", "model_id", "expected"),
    [
        ("int4", "toy-fp16-cpu:1", "int4"),
        (None, "toy-fp16-cpu:1", "fp16"),
        ("RTN", "toy-fp32-cuda-gpu:2", "fp32"),
        ("RTN", "toy-instruct-generic-cpu:2", None),
        (None, "print4-cpu:1", None),
    ],
)
def test_precision_is_read_from_the_catalog_or_the_id(quantization, model_id, expected):
    """Where neither names a precision, none is made up; a size of 0 MB is unknown too."""
    described = {"alias": "toy", "model_id": model_id, "device": "cpu", "precision": quantization, "size_mb": 0}
    read = public_variant(described)
    assert (read.precision, read.size_mb) == (expected, None)


def test_what_the_index_says_is_what_lies_there():
    """Each shipped file is as long and as it was when it was made: nothing else checks them."""
    for model in data.read_practice_index().models:
        for build in model.variants:
            folder = data.PRACTICE_INDEX_FILE.parent / build.folder
            assert {path.name: files.sha256(path) for path in folder.iterdir()} == build.files
            assert json.loads((folder / "genai_config.json").read_text())["model"]["context_length"] == 1024
            assert sum(path.stat().st_size for path in folder.iterdir()) == build.size_bytes
