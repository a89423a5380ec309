"""Several hosts that reach each other over a network only: Linux network namespaces, TLS, the command line.

Where namespaces cannot be made (no Linux, no rights), the test is skipped and says so; `test_fleet` then still has
processes that count as machines.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.fleet_helpers import wait_until
from workshop_lib.fleets import fleet_engine, fleet_room, fleet_security
from workshop_lib.runtimes.child_process import child_environment

IP = shutil.which("ip") or "/usr/sbin/ip"
ROOM = "instructor"
PORT = "8786"


def can_make_namespaces() -> bool:
    if sys.platform != "linux" or not Path(IP).exists():
        return False
    name = f"wf{os.getpid()}probe"
    made = subprocess.run([IP, "netns", "add", name], capture_output=True, check=False)
    subprocess.run([IP, "netns", "del", name], capture_output=True, check=False)
    return made.returncode == 0


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not fleet_engine.is_installed(), reason="NO FLEET IS TESTED: requirements-fleet.txt is missing"),
    pytest.mark.skipif(
        not can_make_namespaces(), reason="NO NETWORK OF SEVERAL HOSTS IS TESTED: no network namespaces"
    ),
]


class Network:
    """The instructor's host and desks, each a network namespace; a desk reaches the instructor and nobody else."""

    def __init__(self, desks: Sequence[str], stack: ExitStack) -> None:
        self.stack = stack
        self.names = {name: f"wf{os.getpid()}{name[:3]}{place}" for place, name in enumerate((ROOM, *desks))}
        for name in self.names.values():
            ip("netns", "add", name)
            stack.callback(ip, "netns", "del", name)
            ip("-n", name, "link", "set", "lo", "up")
        for place, desk in enumerate(desks, 1):
            self._connect(desk, place)

    def _connect(self, desk: str, place: int) -> None:
        there, here = f"wf{os.getpid() % 10_000}i{place}", f"wf{os.getpid() % 10_000}d{place}"
        room, own = self.names[ROOM], self.names[desk]
        ip("-n", room, "link", "add", there, "type", "veth", "peer", "name", here, "netns", own)
        for name, link, end in ((room, there, 1), (own, here, 2)):
            ip("-n", name, "addr", "add", f"10.231.{place}.{end}/24", "dev", link)
            ip("-n", name, "link", "set", link, "up")
        ip("-n", own, "route", "add", "default", "via", f"10.231.{place}.1")

    @contextmanager
    def run(self, name: str, folder: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        folder.mkdir(parents=True, exist_ok=True)
        environment = child_environment(os.environ)
        environment |= {"WORKSHOP_CACHE_DIR": str(folder / "cache"), "TMPDIR": str(folder)}
        with (folder / "messages.txt").open("ab") as messages:
            command = [IP, "netns", "exec", self.names[name], sys.executable, "-m", "workshop_lib", "fleet", *arguments]
            process = subprocess.Popen(command, stdout=messages, stderr=messages, env=environment)
            try:
                yield process
            finally:
                process.terminate()
                process.wait(timeout=20)

    def listening(self, name: str) -> set[str]:
        """Addresses on which anything in a namespace listens."""
        shown = subprocess.run(
            [IP, "netns", "exec", self.names[name], sys.executable, "-c", LISTENING],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return set(shown.stdout.split())


LISTENING = """
import psutil
for one in psutil.net_connections("inet"):
    if one.status == psutil.CONN_LISTEN:
        print(one.laddr.ip)
"""


def ip(*arguments: str) -> None:
    subprocess.run([IP, *arguments], check=True, capture_output=True)


@contextmanager
def network(*desks: str) -> Iterator[Network]:
    with ExitStack() as stack:
        yield Network(desks, stack)


def test_two_hosts_over_tls_measure_one_plan(tmp_path: Path) -> None:
    """Desks join over the network with their certificates, are measured, and stay out of reach themselves."""
    certificates = tmp_path / "certificates"
    fleet_security.make_certificates(certificates, ["ann", "ben"])
    address, mine = f"tls://10.231.1.1:{PORT}", ["--certificates", str(certificates / ROOM)]
    with network("ann", "ben") as net, ExitStack() as stack:
        serve = ["scheduler", "--host", "10.231.1.1", "--port", PORT, *mine]
        stack.enter_context(net.run(ROOM, tmp_path / "scheduler", *serve))
        for desk in ("ann", "ben"):
            theirs = ["--certificates", str(certificates / desk)]
            stack.enter_context(net.run(desk, tmp_path / desk, "join", address, "--name", desk, *theirs))
        for desk in ("ann", "ben"):
            wait_until(lambda desk=desk: "Joined." in (tmp_path / desk / "messages.txt").read_text())  # type: ignore[misc]
        assert net.listening(ROOM) == {"10.231.1.1", "127.0.0.1"}
        assert net.listening("ann") == net.listening("ben") == {"127.0.0.1"}
        model = ["--models", "practice-small-int4-generic-cpu:1", "--rounds", "1", "--max-tokens", "10"]
        output = ["--output", str(tmp_path / "room"), "--prompts", "2", *model, *mine]
        with net.run(ROOM, tmp_path / "run", "run", address, *output) as run:
            assert run.wait(timeout=60) == 0, (tmp_path / "run" / "messages.txt").read_text()
    room = fleet_room.read_room(tmp_path / "room")
    assert [share.status for share in room.shares] == ["done", "done"]
    assert {machine.label.partition("-")[0] for machine in room.measured} == {"ann", "ben"}
    assert [sum(each.ok for each in one.completions) for one in room.runs.values()] == [3, 3]
    assert len({machine.host_id for machine in room.machines}) == 2
    assert "On the slowest machine" in (tmp_path / "run" / "messages.txt").read_text()
