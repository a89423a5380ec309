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
