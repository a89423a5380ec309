import pytest

from tests.fault_server import FaultServer
from tests.fault_steps import listed, reply
from workshop_lib import machine
from workshop_lib.errors import ConfigurationError, ModelNotFoundError
from workshop_lib.records import ModelVariant
from workshop_lib.runtimes import profiles
from workshop_lib.runtimes.endpoint import EndpointRuntime
from workshop_lib.runtimes.profiles import in_reading_order, select_variants


@pytest.fixture
def cards(tmp_path):
    """A `models.json` of the test's own."""
    file = tmp_path / "models.json"
    file.write_text('{"phi-4-mini": {"capabilities": ["explain"], "size_mb": 4800}}')
    return file


@pytest.fixture(autouse=True)
def no_endpoint(monkeypatch, tmp_path):
    """The machine's own settings decide nothing here."""
    monkeypatch.delenv("FOUNDRY_LOCAL_ENDPOINT", raising=False)
    monkeypatch.delenv("API_KEY", raising=False)
    monkeypatch.setenv("WORKSHOP_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def server():
    """Lists two models, and says nothing of which are loaded."""
    with FaultServer({}, {"/v1/models": listed("phi-4-mini", "qwen-generic-gpu:2")}) as running:
        yield running


@pytest.mark.parametrize(
    ("variable", "options", "expected"),
    [
        ("", {}, "practice"),
        ("", {"profile": "practice"}, "practice"),
        ("", {"profile": "foundry"}, "foundry"),
        ("", {"endpoint": "http://127.0.0.1:5273/v1"}, "endpoint"),
        ("http://127.0.0.1:5273/v1", {}, "endpoint"),
        ("http://127.0.0.1:5273/v1", {"profile": "practice"}, "practice"),
        ("http://127.0.0.1:5273/v1", {"profile": "foundry"}, "foundry"),
    ],
)
def test_what_is_asked_for_decides_the_profile(monkeypatch, cards, variable, options, expected):
    """A profile that is named wins, then an address, and without either it is practice."""
    monkeypatch.setenv("FOUNDRY_LOCAL_ENDPOINT", variable)
    with profiles.open_runtime(**options, models_file=cards) as runtime:
        assert runtime.profile == expected
        assert isinstance(runtime, EndpointRuntime) is (expected == "endpoint")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"profile": "cloud"}, "There is no profile 'cloud'. Use practice, foundry, endpoint."),
        ({"profile": "endpoint"}, "needs the address of a server. Set FOUNDRY_LOCAL_ENDPOINT"),
        ({"endpoint": "localhost:5273"}, "is no http"),
        ({"endpoint": "ftp://localhost/v1"}, "is no http"),
    ],
)
def test_a_wrong_setting_is_found_when_the_runtime_is_opened(cards, options, words):
    """Configuration errors come before anything is started, with the values that would do."""
    with pytest.raises(ConfigurationError, match=words):
        profiles.open_runtime(**options, models_file=cards)


def test_an_endpoint_offers_what_it_lists(server, cards):
    """Every id is its own alias; a device is known only where the id says it."""
    with profiles.open_runtime(endpoint=server.base_url, models_file=cards) as runtime:
        phi, qwen = runtime.list_models()
        assert (phi.alias, phi.model_id, phi.device) == ("phi-4-mini", "phi-4-mini", "unknown")
        assert (phi.capabilities, phi.cached, phi.size_mb) == (("explain",), None, None)
        assert qwen.device == "gpu"
        assert runtime.find(["auto"], devices=["cpu"]) == [phi]
        assert runtime.find(["auto"]) == [phi, qwen]
        assert runtime.absent_devices() == {}
        percents = []
        runtime.download(phi, on_progress=percents.append)
        assert percents == [100.0]
        with pytest.raises(ModelNotFoundError, match="Did you mean phi-4-mini"):
            runtime.find(["phi-4"])
        with runtime.serve(phi) as served:
            assert served.base_url == server.base_url
            assert (served.load_s, served.resident_mb, served.peak_resident_mb()) == (None,) * 3
            assert served.failure() is None
            assert served.pid is None
            assert served.registered_providers == ()


def test_the_key_is_sent_to_the_endpoint(server, cards, monkeypatch):
    """`API_KEY` reaches the server; an explicit key wins."""
    monkeypatch.setenv("API_KEY", "from-environment")
    profiles.open_runtime(endpoint=server.base_url, models_file=cards).list_models()
    profiles.open_runtime(endpoint=server.base_url, api_key="mine", models_file=cards).list_models()
    with profiles.open_runtime(endpoint=server.base_url, api_key="mine", models_file=cards) as mine:
        served = mine.serve(mine.list_models()[0])
        assert served.api_key == "mine"
        assert "mine" not in repr(served)
    assert [call.key for call in server.calls][:2] == ["from-environment", "mine"]


def test_auto_at_an_endpoint_is_what_it_has_loaded(server, cards):
    """Foundry Local lists its whole catalog and refuses what it has not loaded: `auto` takes the loaded ones."""
    server.routes["/models/loaded"] = reply(b'["qwen-generic-gpu:2", "not-listed:1"]', 200, "application/json")
    with profiles.open_runtime(endpoint=server.base_url, models_file=cards) as runtime:
        assert [variant.model_id for variant in runtime.find(["auto"])] == ["qwen-generic-gpu:2"]
        assert runtime.find(["auto"], devices=["cpu"]) == []
        assert [variant.model_id for variant in runtime.find(["phi-4-mini"])] == ["phi-4-mini"]


@pytest.mark.parametrize(
    "answer",
    [
        reply(b"no", 404, "text/plain"),
        reply(b'{"error": "broken"}', 500, "application/json"),
        reply(b"<html>any route shows this page</html>", 200, "text/html"),
        reply(b"[1, 2]", 200, "application/json"),
    ],
)
def test_a_server_that_does_not_say_what_is_loaded_offers_all(server, cards, answer):
    """Only Foundry Local has the route; whatever else answers there, `auto` takes all that is listed."""
    server.routes["/models/loaded"] = answer
    with profiles.open_runtime(endpoint=server.base_url, models_file=cards) as runtime:
        assert len(runtime.find(["auto"])) == 2


# What names mean

CPU, CUDA, TENSORRT, OPENVINO, QNN, WEBGPU = (
    f"{name}ExecutionProvider" for name in ("CPU", "CUDA", "NvTensorRTRTX", "OpenVINO", "QNN", "WebGpu")
)


def variant(model_id: str, device: str, provider: str | None, precision: str, cached: bool = True):
    alias = "-".join(model_id.split("-")[:2])
    return ModelVariant(alias, f"{model_id}:1", device, provider, precision, cached=cached)


OFFERED = [
    variant("toy-small-webgpu", "gpu", WEBGPU, "int4"),
    variant("toy-small-cuda", "gpu", CUDA, "int4"),
    variant("toy-small-cuda-fp16", "gpu", CUDA, "fp16"),
    variant("toy-small-cpu", "cpu", CPU, "int4"),
    variant("toy-small-cpu-fp32", "cpu", CPU, "fp32"),
    variant("toy-large-cpu", "cpu", CPU, "int4", cached=False),
    variant("toy-remote", "unknown", None, "int4"),
]


def chosen(names, devices=("cpu", "gpu"), **options):
    options = {"in_auto": lambda variant: bool(variant.cached), **options}
    return [v.model_id.removesuffix(":1") for v in select_variants(OFFERED, names, devices, **options)]


@pytest.mark.parametrize(
    ("names", "devices", "expected"),
    [
        (["toy-small"], ["cpu"], ["toy-small-cpu", "toy-small-cpu-fp32"]),
        (["toy-small"], ["gpu"], ["toy-small-cuda", "toy-small-cuda-fp16"]),
        (["toy-large"], ["gpu"], []),
        (["toy-remote"], ["cpu"], ["toy-remote"]),
        (["toy-small-webgpu:1"], ["cpu"], ["toy-small-webgpu"]),
        (["toy-large", "toy-small"], ["cpu"], ["toy-large-cpu", "toy-small-cpu", "toy-small-cpu-fp32"]),
        (["toy-small-cpu-fp32:1", "toy-small"], ["cpu"], ["toy-small-cpu-fp32", "toy-small-cpu"]),
        (["auto"], ["cpu"], ["toy-small-cpu", "toy-small-cpu-fp32", "toy-remote"]),
        ([], ["cpu"], []),
    ],
)
def test_names_mean_variants(names, devices, expected):
    """An alias is one variant per device and precision, an id is itself, nothing comes twice."""
    assert chosen(names, devices) == expected


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("toy-smal", "Did you mean toy-small"),
        ("toy-small-cpu", "Did you mean toy-small-cpu:1 or toy-small-cpu-fp32:1?"),
        ("toy-smal-cpu", "Did you mean toy-small"),
        ("toy-small-cpu-fp32", "Did you mean toy-small-cpu-fp32:1?"),
        ("toy-l", "toy-large"),
        ("zzzzzzzz", "There are: toy-small, toy-large, toy-remote."),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(name, advice):
    """A misspelt name costs one look at the error, not at the catalog."""
    with pytest.raises(ModelNotFoundError, match=f"No model is called '{name}'") as error:
        chosen([name])
    assert advice in error.value.fix


def test_a_name_that_courses_use_but_no_catalog_lists_leads_to_its_neighbours():
    """`models.json` knows what to offer for such names, as far as it is offered here."""
    with pytest.raises(ModelNotFoundError, match=r"Did you mean toy-large\?"):
        chosen(["gemma"], nearest={"gemma": ("toy-large", "not-offered")})


def test_providers_are_preferred_in_the_documented_order():
    """CUDA before TensorRT, OpenVINO, QNN and WebGPU, and any of them before an unknown one."""
    order = [CUDA, TENSORRT, OPENVINO, QNN, WEBGPU, "OtherExecutionProvider"]
    assert sorted(sorted(order), key=machine.rank) == order
    assert machine.rank(None) == machine.rank("OtherExecutionProvider")


def test_models_are_read_smallest_first_and_cpu_before_gpu():
    """Aliases in the order given, then by name; within one CPU first and fewer bits first."""
    ordered = in_reading_order(OFFERED, ["toy-large", "toy-small"])
    small = [f"toy-small-{build}:1" for build in ("cpu", "cpu-fp32", "cuda", "webgpu", "cuda-fp16")]
    assert [v.model_id for v in ordered] == ["toy-large-cpu:1", *small, "toy-remote:1"]


@pytest.mark.parametrize(
    ("discoverable", "fault", "driver", "expected"),
    [
        ([CUDA, OPENVINO], "no CUDA 13", None, f"{CUDA} was found but could not be registered (no CUDA 13)."),
        ([CUDA], None, None, f"{CUDA} was found but could not be registered."),
        ([], None, "/usr/bin/nvidia-smi", "although an NVIDIA driver is installed"),
        ([OPENVINO], None, None, "the runtime found no GPU that it can use"),
    ],
)
def test_an_absent_gpu_has_a_reason(monkeypatch, discoverable, fault, driver, expected):
    """What the runtime found, and what it said, makes the reason."""
    monkeypatch.setattr(machine.shutil, "which", lambda command: driver)
    assert expected in machine.why_no_gpu(discoverable, fault)
