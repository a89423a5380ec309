"""Who may take part in a fleet: Dask's own mutual TLS, with one folder of certificates per machine.

Dask knows no tokens and no passwords. What it has is TLS in both directions: everyone must show a certificate that the
same authority signed. So the folder that a machine is given *is* its token, and Dask asks for nothing more: whoever
holds such a folder can run any program on every machine that is connected. The authority's key never leaves the
instructor's machine and is not needed after the folders are made. Knows no plans.
"""

from __future__ import annotations

import os
import socket
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workshop_lib import files, loopback
from workshop_lib.errors import ConfigurationError, EndpointError
from workshop_lib.fleets import fleet_engine
from workshop_lib.fleets.fleet_room import plain_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import Certificate, Name

AUTHORITY, INSTRUCTOR = "authority", "instructor"
CA_FILE, CERTIFICATE_FILE, KEY_FILE = "ca.pem", "certificate.pem", "key.pem"
VALID_DAYS = 7
OWNER_ONLY = 0o600
REACH_S = 5.0
EXPOSED = (
    "Anyone who can reach {host} can run any program on this machine and on every machine that joins: there is no TLS."
)


@dataclass(frozen=True, slots=True)
class _Signed:
    certificate: Certificate
    key: EllipticCurvePrivateKey


def make_certificates(folder: Path, machines: Sequence[str], *, days: int = VALID_DAYS) -> list[Path]:
    """Make an authority and one folder per machine, the instructor's first; each holds `ca`, `certificate` and `key`.

    Keys are readable by their owner only (on Windows: by whoever may read the folder), and git leaves them out.

    Raises:
        ConfigurationError: the folder is not empty or cannot be written, a name is given twice, or `cryptography` is
            missing.
    """
    names = [INSTRUCTOR, *(plain_name(name) for name in machines)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if "" in names:
        raise ConfigurationError("A machine has no name.", "Use letters and digits.")
    if twice or AUTHORITY in names:
        raise ConfigurationError(f"The name '{(twice or [AUTHORITY])[0]}' is taken.", "Give every machine its own.")
    if days < 1:
        raise ConfigurationError(f"days is {days}.", "Give 1 or more.")
    if folder.is_dir() and any(folder.iterdir()):
        what = f"{folder} is not empty."
        raise ConfigurationError(what, "Give a new folder: certificates of two authorities do not know each other.")
    authority = _sign("workshop fleet authority", None, days)
    files.check_writable(folder / CA_FILE)
    for kept in (folder, folder / AUTHORITY, *(folder / name for name in names)):
        _write(kept / ".gitignore", b"*\n", secret=False)  # before any key, and wherever a folder is copied to
    _write(folder / AUTHORITY / KEY_FILE, _key_pem(authority), secret=True)
    _write(folder / AUTHORITY / CA_FILE, _certificate_pem(authority), secret=False)
    made = []
    for name in names:
        signed = _sign(name, authority, days)
        _write(folder / name / CA_FILE, _certificate_pem(authority), secret=False)
        _write(folder / name / CERTIFICATE_FILE, _certificate_pem(signed), secret=False)
        _write(folder / name / KEY_FILE, _key_pem(signed), secret=True)
        made.append(folder / name)
    return made


def read_security(folder: Path | None) -> Any:
    """Return Dask's `Security` for a folder of certificates, which then refuses all that is not encrypted.

    None gives None: no TLS. A key that others could read is closed to them where the system allows it.

    Raises:
        ConfigurationError: a file is missing or does not fit, or `distributed` is not installed.
    """
    distributed = fleet_engine.engine()
    if folder is None:
        return None
    paths = [folder / name for name in (CA_FILE, CERTIFICATE_FILE, KEY_FILE)]
    for path in paths:
        if not path.is_file():
            fix = "Give the folder that `fleet certificates` made for this machine."
            raise ConfigurationError(f"{folder} holds no {path.name}.", fix)
    _close_to_others(paths[2])
    ca, certificate, key = map(str, paths)
    roles = ("client", "scheduler", "worker")
    security = distributed.Security(
        require_encryption=True,
        tls_ca_file=ca,
        **{f"tls_{role}_cert": certificate for role in roles},
        **{f"tls_{role}_key": key for role in roles},
    )
    try:
        security.get_connection_args("client")
    except OSError as error:  # ssl.SSLError is one
        what = f"The certificate in {folder} cannot be used ({error.strerror or type(error).__name__})."
        raise ConfigurationError(what, "Copy the folder once more, or make new certificates.") from None
    return security


def check_exposure(host: str, security: object, *, insecure: bool = False) -> str | None:
    """Refuse to listen beyond this machine without TLS; with `insecure`, return the warning to show.

    Raises:
        ConfigurationError: `host` can be reached from outside, there is no TLS, and nobody insisted.
    """
    if loopback.is_loopback(host) or security is not None:
        return None
    warning = EXPOSED.format(host=host)
    if insecure:
        return f"WARNING: {warning}"
    raise ConfigurationError(
        warning,
        "Make certificates (python -m workshop_lib fleet certificates FOLDER NAME ...) and give --certificates, "
        "or add --insecure where every device of the network is yours.",
    )


def check_reachable(address: str, security: Any, *, timeout_s: float = REACH_S) -> None:
    """See whether somebody answers at an address, and with TLS whether one authority signed both certificates.

    Raises:
        EndpointError: nobody answers there, or not with TLS.
        ConfigurationError: the scheduler's certificate is of another authority, or it ended.
    """
    _, host, port = fleet_engine.split_address(address)
    try:
        with socket.create_connection((host, port), timeout=timeout_s) as plain:
            if security is not None:
                security.get_connection_args("worker")["ssl_context"].wrap_socket(plain).close()
    except ssl.SSLCertVerificationError as error:
        what = f"The scheduler's certificate is not of this room ({error.verify_message})."
        raise ConfigurationError(what, "Ask the instructor for a folder of certificates.") from None
    except OSError as error:
        what = f"No scheduler answers at {address} ({error.strerror or error})."
        raise EndpointError(what, "Start it, or correct the address.") from None


def _sign(name: str, authority: _Signed | None, days: int) -> _Signed:
    """A key and a certificate for it, signed by the authority; the authority signs itself."""
    x509, hashes, ec = _cryptography()
    key = ec.generate_private_key(ec.SECP256R1())
    subject: Name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    issuer, signer = (authority.certificate.subject, authority.key) if authority else (subject, key)
    is_ca, now = authority is None, datetime.now(UTC)
    usage = {"digital_signature": not is_ca, "key_cert_sign": is_ca, "crl_sign": is_ca}
    others = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only")
    key_usage = x509.KeyUsage(**usage, **dict.fromkeys((*others, "decipher_only"), False))
    issuer_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # clocks of laptops differ
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=0 if is_ca else None), critical=True)
        .add_extension(key_usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(issuer_id, critical=False)
    )
    if not is_ca:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    return _Signed(builder.sign(signer, hashes.SHA256()), key)


def _cryptography() -> tuple[Any, Any, Any]:
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError as error:
        what = f"Certificates need the package cryptography ({error})."
        raise ConfigurationError(what, f"{fleet_engine.INSTALL}.") from None
    return x509, hashes, ec


def _certificate_pem(signed: _Signed) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return bytes(signed.certificate.public_bytes(Encoding.PEM))


def _key_pem(signed: _Signed) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return bytes(signed.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def _write(path: Path, content: bytes, *, secret: bool) -> None:
    """Write a new file; a secret one is never readable by others, not even for a moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = OWNER_ONLY if secret else 0o644
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def _close_to_others(key: Path) -> None:
    """A key that came by memory stick is often readable by all; where that cannot be changed, it stays."""
    if os.name == "posix" and key.stat().st_mode & 0o077:
        try:
            key.chmod(OWNER_ONLY)
        except OSError:
            return
