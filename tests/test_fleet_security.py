"""Who may take part in a fleet: certificates, and the refusal to listen without them."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.fleet_helpers import Hosts
from workshop_lib.__main__ import main
from workshop_lib.errors import ConfigurationError, EndpointError
from workshop_lib.fleets import fleet, fleet_cluster, fleet_dispatch, fleet_engine, fleet_security

pytestmark = pytest.mark.skipif(
    not fleet_engine.is_installed(), reason="NO FLEET IS TESTED: requirements-fleet.txt is missing"
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates") / "room"
    fleet_security.make_certificates(folder, ["Desk 1", "desk-2"])
    return folder


def test_every_machine_gets_its_own_folder(folders: Path) -> None:
    """One folder per machine and one of the instructor's, each with the authority's certificate but not its key."""
    assert sorted(each.name for each in folders.iterdir()) == [
        ".gitignore",
        "authority",
        "desk-1",
        "desk-2",
        "instructor",
    ]
    authority = (folders / "authority" / "key.pem").read_bytes()
    for name in ("desk-1", "desk-2", "instructor"):
        files = sorted(each.name for each in (folders / name).iterdir())
        assert files == [".gitignore", "ca.pem", "certificate.pem", "key.pem"]
        assert (folders / name / "key.pem").read_bytes() != authority
        assert fleet_security.read_security(folders / name).require_encryption is True


@pytest.mark.skipif(shutil.which("git") is None, reason="git is missing")
def test_git_never_takes_keys(tmp_path: Path) -> None:
    """`git add -A` beside a folder of certificates adds nothing of it, whatever the folder is called."""
    fleet_security.make_certificates(tmp_path / "any name", ["desk-1"])
    (tmp_path / "seen.txt").write_text("", encoding="utf-8")
    for command in (["init", "--quiet"], ["add", "-A"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    staged = subprocess.run(["git", "ls-files"], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert staged.stdout.split() == ["seen.txt"]


def test_a_plain_join_that_fails_asks_about_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheduler with TLS lets a tcp:// join time out; the repeated line says what to try, but not to who has TLS."""

    def run(work: Any) -> None:
        work.close()
        raise TimeoutError

    monkeypatch.setattr(fleet_cluster, "check_reachable", lambda *_: None)
    monkeypatch.setattr(fleet_engine, "run", run)
    plain = fleet_cluster._join("tcp://127.0.0.1:8786", None, print)
    assert plain == "Not connected (TimeoutError). Does the room use TLS? Then give tls:// and --certificates."
    assert fleet_cluster._join("tls://127.0.0.1:8786", object(), print) == "Not connected (TimeoutError)."


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such modes: a folder's owner decides who may read it")
def test_keys_are_for_their_owner_only(folders: Path) -> None:
    """A key is never readable by others, and one that became so on the way is closed when it is used."""
    keys = list(folders.glob("*/key.pem"))
    assert len(keys) == 4 and {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}
    (folders / "desk-1" / "key.pem").chmod(0o644)
    fleet_security.read_security(folders / "desk-1")
    assert stat.S_IMODE((folders / "desk-1" / "key.pem").stat().st_mode) == 0o600


def test_certificates_say_how_long_and_for_whom(folders: Path) -> None:
    """A certificate names its machine, is signed by the authority, cannot sign others, and ends after a week."""
    from cryptography import x509

    ca = x509.load_pem_x509_certificate((folders / "desk-2" / "ca.pem").read_bytes())
    mine = x509.load_pem_x509_certificate((folders / "desk-2" / "certificate.pem").read_bytes())
    mine.verify_directly_issued_by(ca)
    assert mine.subject.rfc4514_string() == "CN=desk-2"
    assert mine.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert (mine.not_valid_after_utc - mine.not_valid_before_utc).days == 8, "a week, and a day for slow clocks"


def test_certificates_are_never_mixed(folders: Path, tmp_path: Path) -> None:
    """Two authorities in one folder would not know each other; a name given twice would overwrite a key."""
    with pytest.raises(ConfigurationError, match="is not empty"):
        fleet_security.make_certificates(folders, ["desk-3"])
    with pytest.raises(ConfigurationError, match="The name 'desk-1' is taken"):
        fleet_security.make_certificates(tmp_path / "new", ["desk-1", "Desk 1"])
    with pytest.raises(ConfigurationError, match="The name 'instructor' is taken"):
        fleet_security.make_certificates(tmp_path / "new", ["instructor"])
    with pytest.raises(ConfigurationError, match="has no name"):
        fleet_security.make_certificates(tmp_path / "new", ["!"])
    assert not (tmp_path / "new").exists()


def test_a_broken_folder_is_named(folders: Path, tmp_path: Path) -> None:
    """A missing file and a file that is no certificate are told apart."""
    with pytest.raises(ConfigurationError, match=r"holds no ca\.pem"):
        fleet_security.read_security(tmp_path)
    for name in ("ca.pem", "certificate.pem", "key.pem"):
        (tmp_path / name).write_bytes((folders / "desk-1" / name).read_bytes())
    (tmp_path / "key.pem").write_bytes((folders / "desk-2" / "key.pem").read_bytes())
    with pytest.raises(ConfigurationError, match="cannot be used"):
        fleet_security.read_security(tmp_path)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7", "::", "classroom.example"])
def test_nothing_listens_beyond_loopback_without_tls(host: str) -> None:
    """Dask runs whatever it is sent, so a scheduler that others reach needs TLS, or someone who insists."""
    with pytest.raises(ConfigurationError, match=r"run any program on this machine.*there is no TLS"):
        fleet_cluster.run_scheduler(host)
    warning = fleet_security.check_exposure(host, None, insecure=True)
    assert warning is not None and warning.startswith("WARNING: Anyone who can reach")
    assert fleet_security.check_exposure(host, object()) is None


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.9.1"])
def test_loopback_needs_no_tls(host: str) -> None:
    """What only this computer can reach is open to whoever uses this computer anyway."""
    assert fleet_security.check_exposure(host, None) is None


def test_joining_and_running_elsewhere_need_tls_too(capfd: pytest.CaptureFixture[str]) -> None:
    """A worker runs what its scheduler sends, so it joins nobody whom it cannot check; the command ends with 2."""
    for part in (["join"], ["run"]):
        assert main(["fleet", *part, "tcp://192.0.2.7:8786"]) == 2
        assert "there is no TLS" in capfd.readouterr().err


def test_tls_and_certificates_come_together(folders: Path) -> None:
    """An address without TLS with certificates, or the reverse, is a slip that would end in a hanging connection."""
    security = fleet_security.read_security(folders / "desk-1")
    for address, given in (("tcp://192.0.2.7:8786", security), ("tls://192.0.2.7:8786", None)):
        with pytest.raises(ConfigurationError, match=r"tls:// address needs certificates"):
            fleet_engine.check_scheme(address, given)


@pytest.mark.parametrize("address", ["", "192.0.2.7:8786", "http://192.0.2.7:80", "tcp://192.0.2.7", "tcp://h:99999"])
def test_an_address_is_checked_before_anything_waits_for_it(address: str) -> None:
    """A typing mistake is named at once."""
    with pytest.raises(ConfigurationError, match="no address of a scheduler"):
        fleet_engine.split_address(address)


@pytest.mark.slow
def test_only_certificates_of_the_room_get_in(folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With TLS a machine with the room's certificate joins; plain connections and other authorities stay outside."""
    fleet_security.make_certificates(tmp_path / "others", ["desk-1"])
    monkeypatch.setattr(fleet_dispatch, "CONNECT_S", 2.0)
    with ExitStack() as stack:
        made = Hosts(tmp_path / "hosts", stack)
        made.address = f"tls://127.0.0.1:{made.port}"
        certificates = ["--certificates", str(folders / "instructor")]
        made.start("scheduler", ["scheduler", "--port", str(made.port), *certificates])
        security = fleet_security.read_security(folders / "instructor")
        fleet_cluster.wait_for_scheduler(made.address, security=security)
        made.start("desk", ["join", made.address, "--certificates", str(folders / "desk-1")])
        fleet_cluster.wait_for_machines(made.address, 1, security=security)
        strangers = fleet_security.read_security(tmp_path / "others" / "desk-1")
        with pytest.raises(ConfigurationError, match="certificate is not of this room"):
            fleet.connected(made.address, security=strangers).__enter__()
        with pytest.raises(EndpointError, match="No scheduler answers"):
            fleet.connected(f"tcp://127.0.0.1:{made.port}").__enter__()
        made.start("stranger", ["join", made.address, "--certificates", str(tmp_path / "others" / "desk-1")])
        assert made.processes["stranger"].wait(timeout=30) == 2
        assert "certificate is not of this room" in made.said("stranger")
        for name in ("scheduler", "desk"):
            assert "PRIVATE KEY" not in made.said(name) and "Traceback" not in made.said(name)
