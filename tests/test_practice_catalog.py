from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from tests.foundry_helpers import post, write_index
from workshop_lib import data
from workshop_lib.errors import DataFileError, ModelNotFoundError
from workshop_lib.serving import offers
from workshop_lib.serving.practice_catalog import PracticeCatalog, matching

DEVICE = "properties/variantInfo/variantMetadata/device"
PROVIDER = "properties/variantInfo/variantMetadata/executionProvider"


@pytest.fixture
def shelf(tmp_path):
    with_one_variant = PracticeCatalog(write_index(tmp_path, files={"model.onnx": b"w"}))
    yield with_one_variant
    with_one_variant.close()


def question(*filters: tuple[str, list[str]]) -> dict:
    return {"filters": [{"field": field, "operator": "eq", "values": v} for field, v in filters]}


def build(name: str, device: str, provider: str) -> data.PracticeVariant:
    return data.PracticeVariant(name, "1", device, provider, "int4", name, 1, {})


INDEX = data.PracticeIndex(
    schema=1,
    publisher="workshop",
    licence="MIT",
    models=(
        data.PracticeModel(
            alias="toy",
            display_name="Toy",
            parameters=1,
            context_tokens=64,
            max_output_tokens=32,
            variants=(
                build("toy-cpu", "cpu", "CPUExecutionProvider"),
                build("toy-cuda", "gpu", "CUDAExecutionProvider"),
                build("toy-webgpu", "gpu", "WebGpuExecutionProvider"),
            ),
        ),
    ),
)


def entries() -> list[dict]:
    return [offers.entry(offer) for offer in offers.shipped(INDEX, Path())]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([], ["toy-cpu", "toy-cuda", "toy-webgpu"]),
        ([("labels", ["latest"])], ["toy-cpu", "toy-cuda", "toy-webgpu"]),
        ([(DEVICE, ["cpu"])], ["toy-cpu"]),
        ([(DEVICE, ["GPU", "cpu"])], ["toy-cpu", "toy-cuda", "toy-webgpu"]),
        ([(DEVICE, ["gpu"]), (PROVIDER, ["CUDAExecutionProvider"])], ["toy-cuda"]),
        ([("name", ["toy-webgpu"])], ["toy-webgpu"]),
        ([("name", ["unknown"])], []),
        ([(DEVICE, [])], []),
    ],
)
def test_filters_decide_what_is_offered(filters, expected):
    """Device, provider and name narrow the answer together; every other filter holds for all."""
    found = matching(entries(), question(*filters))
    assert [entry["name"] for entry in found] == expected


def test_an_entry_carries_what_the_listing_shows():
    """Licence, context and provider of the index arrive in the entry that the runtime reads."""
    entry = entries()[1]
    assert entry["license"] == "MIT"
    assert entry["modelLimits"]["textLimits"]["inputContextWindow"] == 64
    assert entry["variantInformation"]["variantMetadata"]["executionProvider"] == ("CUDAExecutionProvider")


def test_the_catalog_answers_over_http_on_the_loopback(shelf):
    """The service counts what it offers, on this machine alone."""
    assert shelf.url.startswith("http://127.0.0.1:")
    answer = post(shelf.url, question((DEVICE, ["cpu"])))
    assert answer["totalCount"] == 1
    assert answer["summaries"][0]["alias"] == "toy"
    assert post(shelf.url, question((DEVICE, ["gpu"]))) == {"totalCount": 0, "summaries": []}


@pytest.mark.parametrize("nonsense", [[], "text", {"filters": [1]}, {"filters": 3}])
def test_what_is_no_catalog_question_is_refused(shelf, nonsense):
    """A malformed question gets HTTP 400 and the service lives on."""
    with pytest.raises(HTTPError, match="400") as refused:
        post(shelf.url, nonsense)
    refused.value.close()
    assert post(shelf.url, question())["totalCount"] == 1


def test_a_question_that_never_stops_opening_is_refused(shelf, capfd):
    """Nor does it fill the screen with a traceback."""
    with pytest.raises(HTTPError, match="400") as refused:
        urlopen(Request(shelf.url, b"[" * 100_000), timeout=10)
    refused.value.close()
    assert capfd.readouterr().err == ""


def test_a_page_that_calls_itself_this_machine_is_refused(shelf):
    """A name of elsewhere that leads here is how a web page would read which models are registered."""
    with pytest.raises(HTTPError, match="403") as refused:
        urlopen(Request(shelf.url, b"{}", headers={"Host": "evil.example"}), timeout=10)
    refused.value.close()


def test_a_closed_catalog_no_longer_answers_and_opens_again_when_asked(shelf):
    """Closing frees the port, twice is no fault, and the next use serves again."""
    first = shelf.url
    shelf.close()
    shelf.close()
    with pytest.raises(OSError, match="refused"):
        post(first, question())
    assert post(shelf.url, question())["totalCount"] == 1


def test_an_id_that_is_not_shipped_is_said_to_be_unknown(shelf):
    """Installing needs a shipped id."""
    with pytest.raises(ModelNotFoundError, match="This machine offers no model 'other:1'"):
        shelf.offer("other:1")


def test_a_missing_index_is_named(tmp_path):
    """Without its index the practice profile says which file is missing."""
    with pytest.raises(DataFileError, match=r"index\.json is missing"):
        PracticeCatalog(tmp_path / "index.json")
