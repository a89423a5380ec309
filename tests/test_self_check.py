"""The instrument's own check: what it computes, and that it runs against the server of known timing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.fault_server import FaultServer, free_port
from workshop_lib import self_check
from workshop_lib.client import ChatClient
from workshop_lib.errors import EndpointError
from workshop_lib.self_check import FIRST_TOKEN_S, Errors, Times

WORKSHOP = Errors("workshop", (Times(0.0503, 0.01), Times(0.0505, 0.0102), Times(0.0599, None)))
BARE = Errors("bare socket", (Times(0.0501, 0.01), Times(0.0502, 0.01), Times(0.0503, 0.01)))


def test_errors_are_against_the_schedule():
    """Due after 50 ms, then every 10: 0.3, 0.5 and 9.9 ms late have the median 0.5; 10.1 ms a token is 1 % slow."""
    assert WORKSHOP.first_token_errors_ms == pytest.approx((0.3, 0.5, 9.9))
    assert WORKSHOP.first_token_ms == pytest.approx(0.5)
    assert WORKSHOP.pace_percent == pytest.approx(1.0)


def test_a_pace_that_nobody_claimed_is_not_measured():
    """Held up for long, a client claims no pace: that is no error of 0."""
    assert Errors("workshop", (Times(0.051, None),)).pace_percent is None


@pytest.mark.alone
def test_both_clients_see_the_schedule():
    """On a server of its own process no first token comes early, and both clients were asked as often."""
    check = self_check.check_instrument(repeats=3)
    for errors in (check.workshop, check.bare):
        assert len(errors.times) == 3
        assert min(errors.first_token_errors_ms) > -0.05
        assert errors.first_token_ms < 1000 * FIRST_TOKEN_S, "a busy machine is late, but not by that much"


def test_a_server_that_does_not_answer_is_an_error():
    """Nobody at the port, and a server that knows no such model, are said."""
    with (
        ChatClient(f"http://127.0.0.1:{free_port()}/v1") as client,
        pytest.raises(EndpointError, match="did not answer"),
    ):
        self_check.ask_workshop(client)
    with FaultServer({}) as server, pytest.raises(EndpointError, match="did not answer the bare client"):
        self_check.bare_times(self_check.read_bare(server.base_url, self_check.REQUEST))


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is no signal there")
def test_ctrl_c_is_left_to_the_parent_of_the_reference_server():
    """Ctrl-C reaches the whole group: the server stays until its standard input closes, and prints nothing."""
    command = [sys.executable, "-m", "workshop_lib.self_check"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        assert server.stdout.readline().startswith("http://")
        server.send_signal(signal.SIGINT)
        _, complaints = server.communicate(timeout=10)
    assert (server.returncode, complaints) == (0, "")
