"""Who may take part in a fleet: the key, and the refusal to listen or to join without it."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.fleet_helpers import NO_DASK, Hosts, wait_until
from workshop_lib.__main__ import main
from workshop_lib.errors import ConfigurationError, EndpointError
from workshop_lib.fleet import cluster
from workshop_lib.fleet.plan import read_fleet

pytestmark = pytest.mark.skipif(NO_DASK, reason="NO FLEET IS TESTED: requirements-fleet.txt is missing")
IP = shutil.which("ip") or "/usr/sbin/ip"


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys") / "mine"
    cluster.make_key(folder)
    return folder


def test_a_key_is_one_file_for_a_week_that_only_its_owner_reads(key: Path) -> None:
    """It ends after seven days and is valid a day earlier, for slow clocks; a copy that all can read is closed."""
    from cryptography import x509

    pem = key / "fleet-key.pem"
    certificate = x509.load_pem_x509_certificate(pem.read_bytes())
    assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days == 8
    assert sorted(path.name for path in key.iterdir()) == [".gitignore", "fleet-key.pem"]
    if os.name == "posix":
        assert stat.S_IMODE(pem.stat().st_mode) == 0o600
        pem.chmod(0o644)
        assert cluster.read_key(key).require_encryption is True
        assert stat.S_IMODE(pem.stat().st_mode) == 0o600


@pytest.mark.skipif(shutil.which("git") is None, reason="git is missing")
def test_git_never_takes_a_key(tmp_path: Path) -> None:
    """`git add -A` beside a key adds nothing of it, whatever its folder is called."""
    cluster.make_key(tmp_path / "any name")
    (tmp_path / "seen.txt").write_text("", encoding="utf-8")
    for command in (["init", "--quiet"], ["add", "-A"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    staged = subprocess.run(["git", "ls-files"], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert staged.stdout.split() == ["seen.txt"]


def test_what_is_no_key_is_named(key: Path, tmp_path: Path) -> None:
    """A full folder, a missing file and half a file are told before anything is opened."""
    (tmp_path / "fleet-key.pem").write_bytes((key / "fleet-key.pem").read_bytes()[:400])
    with pytest.raises(ConfigurationError, match="is not empty"):
        cluster.make_key(key)
    for folder in (tmp_path / "nothing", tmp_path):
        with pytest.raises(ConfigurationError, match="holds no key"):
            cluster.read_key(folder)
    assert cluster.read_key(None) is None


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7", "::", "classroom.example"])
def test_nothing_listens_or_joins_beyond_loopback_without_the_key(host: str) -> None:
    """Dask runs whatever it is sent, so what others can reach needs TLS on both sides."""
    address = f"tcp://[{host}]:8786" if ":" in host else f"tcp://{host}:8786"
    for action in (
        lambda: cluster.run_scheduler(host, 8786),
        lambda: cluster.join(address),
        lambda: cluster.connect(address),
    ):
        with pytest.raises(ConfigurationError, match="there is no TLS"):
            action()
    assert main(["fleet", "run", address]) == 2
    cluster.check_exposure(host, object())


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.9.1"])
def test_loopback_needs_no_key(host: str) -> None:
    """What only this computer can reach is open to whoever uses this computer anyway."""
    cluster.check_exposure(host, None)


@pytest.mark.parametrize("address", ["", "192.0.2.7:8786", "http://192.0.2.7:80", "tcp://192.0.2.7", "tcp://h:99999"])
def test_an_address_is_checked_before_anything_waits_for_it(address: str, key: Path) -> None:
    """A typing mistake is named at once, and so is TLS on one side only."""
    with pytest.raises(ConfigurationError, match="no address of a scheduler"):
        cluster.split_address(address)
    for mixed, security in (("tcp://127.0.0.1:1", cluster.read_key(key)), ("tls://127.0.0.1:1", None)):
        with pytest.raises(ConfigurationError, match="A tls:// address needs"):
            cluster.check_scheduler(mixed, security)


def test_a_port_that_is_taken_is_one_error() -> None:
    """A second scheduler on the same port says what to do."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        command = [sys.executable, "-m", "workshop_lib", "fleet", "scheduler", "--port", str(taken.getsockname()[1])]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1) and "Choose another --port" in done.stderr


@pytest.mark.slow
def test_only_the_fleet_s_key_gets_in(key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with the key joins; plain connections, another key and no answer at all are one error each."""
    cluster.make_key(tmp_path / "other")
    with ExitStack() as stack:
        made = Hosts(tmp_path / "hosts", stack, scheme="tls")
        with monkeypatch.context() as hasty:
            hasty.setattr(cluster, "CONNECT_S", 2.0)
            with pytest.raises(EndpointError, match="No scheduler answers"):
                cluster.connect(made.address, cluster.read_key(key))
        made.start("scheduler", "scheduler", "--port", str(made.port), "--certificates", str(key))
        wait_until(lambda: "Scheduler: tls://" in made.said("scheduler"))
        made.start("desk", "join", made.address, "--certificates", str(key))
        wait_until(lambda: "Joined." in made.said("desk"))
        with pytest.raises(ConfigurationError, match="the key of another fleet"):
            cluster.connect(made.address, cluster.read_key(tmp_path / "other"))
        with pytest.raises(EndpointError, match="is no scheduler"):
            cluster.connect(f"tcp://127.0.0.1:{made.port}")
        stranger = made.start("stranger", "join", made.address, "--certificates", str(tmp_path / "other"))
        assert stranger.wait(timeout=30) == 2 and "the key of another fleet" in made.said("stranger")
        for name in ("scheduler", "desk"):
            assert "PRIVATE KEY" not in made.said(name) and "Traceback" not in made.said(name)


LISTENING = """
import psutil
print(*(one.laddr.ip for one in psutil.net_connections("inet") if one.status == psutil.CONN_LISTEN))
"""


def ip(*arguments: str) -> None:
    subprocess.run([IP, *arguments], check=True, capture_output=True)


def can_make_namespaces() -> bool:
    if sys.platform != "linux" or not Path(IP).exists():
        return False
    name = f"wf{os.getpid()}probe"
    made = subprocess.run([IP, "netns", "add", name], capture_output=True, check=False)
    subprocess.run([IP, "netns", "del", name], capture_output=True, check=False)
    return made.returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(
    not can_make_namespaces(),
    reason="NO NETWORK OF SEVERAL HOSTS IS TESTED: no network namespaces (root on Linux only)",
)
def test_two_hosts_over_tls_measure_one_plan(key: Path, tmp_path: Path) -> None:
    """Two network namespaces join a third over TLS, are measured, and stay out of reach themselves."""
    names = {name: f"wf{os.getpid()}{name}" for name in ("room", "ann", "ben")}
    address, mine = "tls://10.231.1.1:8786", ["--certificates", str(key)]
    inside = {name: [IP, "netns", "exec", space] for name, space in names.items()}

    def listening(name: str) -> set[str]:
        command = [*inside[name], sys.executable, "-c", LISTENING]
        return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())

    with ExitStack() as stack:
        for space in names.values():
            ip("netns", "add", space)
            stack.callback(ip, "netns", "del", space)
            ip("-n", space, "link", "set", "lo", "up")
        for place, desk in enumerate(("ann", "ben"), 1):
            here, there = f"wf{os.getpid() % 10_000}r{place}", f"wf{os.getpid() % 10_000}d{place}"
            ip("-n", names["room"], "link", "add", here, "type", "veth", "peer", "name", there, "netns", names[desk])
            for space, link, end in ((names["room"], here, 1), (names[desk], there, 2)):
                ip("-n", space, "addr", "add", f"10.231.{place}.{end}/24", "dev", link)
                ip("-n", space, "link", "set", link, "up")
            ip("-n", names[desk], "route", "add", "default", "via", f"10.231.{place}.1")
        made = Hosts(tmp_path, stack)
        made.start("scheduler", "scheduler", "--host", "10.231.1.1", *mine, before=inside["room"])
        for desk in ("ann", "ben"):
            made.start(desk, "join", address, "--name", desk, *mine, before=inside[desk])
        wait_until(lambda: all("Joined." in made.said(desk) for desk in ("ann", "ben")))
        assert listening("room") == {"10.231.1.1", "127.0.0.1"}
        assert listening("ann") == listening("ben") == {"127.0.0.1"}
        model = ["--models", "practice-small-int4-generic-cpu:1", "--rounds", "1", "--max-tokens", "10"]
        options = ["--output", str(tmp_path / "results"), "--prompts", "2", *model, *mine]
        run = made.start("run", "run", address, *options, before=inside["room"])
        assert run.wait(timeout=60) == 0, made.said("run")
    fleet = read_fleet(tmp_path / "results")
    assert [share.status for share in fleet.shares] == ["done", "done"]
    assert sorted(label.partition("-")[0] for label in fleet.runs) == ["ann", "ben"]
    assert [sum(each.ok for each in one.completions) for one in fleet.runs.values()] == [3, 3]
    assert len({label.partition("-")[2] for label in fleet.runs}) == 2
    assert "On the slowest machine" in made.said("run")
