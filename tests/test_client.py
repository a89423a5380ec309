"""The instrument against a loopback endpoint with known timing and known faults."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

import pytest

from tests.behaviours import BEHAVIOURS
from tests.fault_server import fault_server
from tests.measurement_helpers import request
from workshop_lib import timing
from workshop_lib.client import ChatClient
from workshop_lib.records import Request
from workshop_lib.runtimes.profiles import open_runtime

pytestmark = pytest.mark.alone


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    """The fake server in a process of its own."""
    with fault_server() as url:
        yield url


@pytest.mark.parametrize("model", ["steady", "early-role", "coalesced"])
def test_pace_is_the_servers_pace(base_url: str, model: str):
    """10 ms a token is measured as 10 ms a token; counted from the role chunk, or per chunk, it were 11 or 40."""
    with ChatClient(base_url) as client:
        assert client.list_models() == tuple(BEHAVIOURS)
        answers = [client.ask(request(model)) for _ in range(5)]
    assert all(each.connect_s is not None for each in answers), "a connection that was used before was used again"
    assert median(filter(None, map(timing.time_per_output_token_s, answers))) == pytest.approx(0.010, rel=0.07)


def test_listing_models_first_does_not_delay_the_first_token_of_a_real_model():
    """On the real runtime a connection used before costs 27 ms or more; after `list_models` it must not show."""
    used_before, new = [], []
    with open_runtime("practice") as runtime:
        variant = runtime.find(["practice-small"], ["cpu"])[0]
        with runtime.serve(variant) as served, ChatClient(served.base_url) as client:
            question = Request("real/p/1", variant, "p", "What is edge AI?", 1, 8)
            for _ in range(9):
                client.list_models()
                used_before.append(timing.first_token_s(client.ask(question)))
                with ChatClient(served.base_url) as fresh:
                    new.append(timing.first_token_s(fresh.ask(question)))
    assert median(filter(None, used_before)) - median(filter(None, new)) < 0.02
