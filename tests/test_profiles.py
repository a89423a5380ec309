import pytest

from tests.fault_server import FaultServer
from tests.fault_steps import listed, reply
from tests.foundry_helpers import ask, practice, smallest
from workshop_lib.errors import ConfigurationError, ModelNotFoundError
from workshop_lib.runtimes import profiles
from workshop_lib.runtimes.endpoint import EndpointRuntime


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


def test_auto_at_a_real_server_is_what_it_serves(tmp_path, cards):
    """It has registered and loaded one model: `auto` is that one, and it answers."""
    with practice(tmp_path) as owner:
        variant = smallest(owner)
        with (
            owner.serve(variant) as served,
            profiles.open_runtime(endpoint=served.base_url, models_file=cards) as guest,
        ):
            (found,) = guest.find(["auto"])
            assert found.model_id == variant.model_id
            assert ask(served.base_url, found.model_id)
