"""TLS for the clusters of one run: an authority made for it, and a certificate for each role.

Whoever holds one of these certificates holds the cluster: Dask runs the code that a client sends, and does not
bind certificates to roles. So every run has an authority of its own, whose key is thrown away when three
certificates are signed, and the files are for their owner alone and go when the run ends.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from slcluster.cluster.home import home_folder, private_folder, refuse_seen_by_others
from slcluster.errors import InputError, cannot_write

__all__ = ["Credentials", "issue_credentials", "issue_for_run", "load_credentials"]

ROLES = ("scheduler", "worker", "client")

#: Runs and queues are long; what ends a certificate is the end of its run, which deletes it.
HOURS = 30 * 24.0

#: Clocks of nodes differ.
_CLOCKS = timedelta(hours=1)


@dataclass(frozen=True)
class Credentials:
    """Where the certificates and keys of one run lie.

    Attributes
    ----------
    folder : Path
        Holds ``ca.pem``, and a certificate ``ROLE.pem`` and a key ``ROLE.key`` for each of scheduler, worker
        and client.
    """

    folder: Path

    @property
    def authority(self) -> Path:
        return self.folder / "ca.pem"

    def certificate(self, role: str) -> Path:
        return self.folder / f"{role}.pem"

    def key(self, role: str) -> Path:
        return self.folder / f"{role}.key"

    @property
    def files(self) -> list[Path]:
        return [self.authority, *(file(role) for role in ROLES for file in (self.certificate, self.key))]

    def security(self) -> Any:
        """What Dask's schedulers, workers and clients take as ``security``.

        Returns
        -------
        distributed.Security
            Names the files; plain connections are refused.
        """
        from distributed import Security

        roles: dict[str, str] = {}
        for role in ROLES:
            roles[f"tls_{role}_cert"] = str(self.certificate(role))
            roles[f"tls_{role}_key"] = str(self.key(role))
        return Security(require_encryption=True, tls_ca_file=str(self.authority), **roles)

    def remove(self) -> None:
        """Delete the files, and their folder where nothing else is in it. Does nothing the second time."""
        for file in self.files:
            file.unlink(missing_ok=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()


def issue_credentials(folder: str | Path, *, hours: float = HOURS) -> Credentials:
    """Make a certificate authority, and a certificate of it for each role.

    The authority's key never reaches the disk and is gone on return: nobody can sign another certificate.

    Parameters
    ----------
    folder : path
        Made for its owner alone where absent. Every node of the cluster must see it under this path.
    hours : float
        For how long the certificates open new connections.

    Returns
    -------
    Credentials

    Raises
    ------
    InputError
        The folder is open to others, belongs to somebody else, or holds credentials already; or ``hours`` is
        not positive.
    StoreError
        The folder cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> made = issue_credentials(tempfile.mkdtemp(), hours=1)
    >>> made.security().require_encryption
    True
    >>> made.remove()
    """
    if not hours > 0:
        raise InputError(f"hours must be positive, got {hours}")
    credentials = Credentials(private_folder(folder))
    if any(os.path.lexists(file) for file in credentials.files):
        raise InputError(f"{credentials.folder} holds credentials already; give each run a folder of its own")
    try:
        for file, text in _signed(hours).items():
            _write_private(credentials.folder / file, text)
    except OSError as error:
        credentials.remove()
        raise cannot_write(credentials.folder, error) from None
    return credentials


def issue_for_run(place: str | Path | None = None, *, hours: float = HOURS) -> Credentials:
    """Credentials in a new folder of their own, of which no other run knows.

    Folders that runs left behind which were killed are deleted once their certificates have expired.

    Parameters
    ----------
    place : path, optional
        Where the folder is made; ``tls`` in :func:`~slcluster.cluster.home.home_folder` where not given.
    hours : float

    Raises
    ------
    InputError, StoreError
        As :func:`issue_credentials`.
    """
    within = private_folder(home_folder() / "tls" if place is None else place)
    for left in within.glob("run-*/ca.pem"):
        if _has_expired(left):
            shutil.rmtree(left.parent, ignore_errors=True)
    name = f"run-{socket.gethostname().split('.')[0]}-{os.getpid()}-{secrets.token_hex(4)}"
    return issue_credentials(within / name, hours=hours)


def load_credentials(folder: str | Path) -> Credentials:
    """The credentials that a folder holds.

    Parameters
    ----------
    folder : path

    Returns
    -------
    Credentials

    Raises
    ------
    InputError
        A file is missing, the folder or a key is open to others or belongs to somebody else, or the certificates
        have expired.
    """
    folder = Path(folder).expanduser().absolute()
    credentials = Credentials(folder)
    missing = [file.name for file in credentials.files if not file.is_file()]
    if missing:
        raise InputError(
            f"{folder} holds no credentials ({missing[0]} is missing): they are there only while their cluster "
            "runs; expected a folder with " + ", ".join(file.name for file in credentials.files)
        )
    refuse_seen_by_others(folder)
    for role in ROLES:
        refuse_seen_by_others(credentials.key(role))
    if (end := _expiry(credentials.authority)) < datetime.now(UTC):
        raise InputError(
            f"the certificates in {folder} have expired ({end:%Y-%m-%d %H:%M} UTC); start the cluster again"
        )
    return credentials


def _has_expired(certificate: Path) -> bool:
    """Whether a certificate that a run left is of no use. One that is being written or removed is somebody's."""
    try:
        return _expiry(certificate) < datetime.now(UTC)
    except (InputError, OSError):
        return False


def _expiry(certificate: Path) -> datetime:
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
    except ValueError:
        raise InputError(f"{certificate} is not a certificate") from None


def _write_private(path: Path, text: bytes) -> None:
    """A file that nobody else could open at any moment."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(text)


def _signed(hours: float) -> dict[str, bytes]:
    """File names and contents of an authority and the certificates that it signed."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    end = datetime.now(UTC) + timedelta(hours=hours)
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca = _certificate("authority", ca_key.public_key(), None, ca_key, end)
    pem = serialization.Encoding.PEM
    files = {"ca.pem": ca.public_bytes(pem)}
    for role in ROLES:
        key = ec.generate_private_key(ec.SECP256R1())
        files[f"{role}.pem"] = _certificate(role, key.public_key(), ca, ca_key, end).public_bytes(pem)
        files[f"{role}.key"] = key.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    return files


def _certificate(role: str, public_key: Any, issuer: Any, issuer_key: Any, end: datetime) -> Any:
    """A certificate that holds up under OpenSSL's strict rules; without an issuer, of an authority."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    is_authority = issuer is None
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"slcluster {role}")])
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only"),
        False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name if issuer is None else issuer.subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(datetime.now(UTC), end) - _CLOCKS)
        .not_valid_after(end)
        .add_extension(
            x509.BasicConstraints(ca=is_authority, path_length=0 if is_authority else None), critical=True
        )
        .add_extension(
            x509.KeyUsage(
                digital_signature=not is_authority,
                key_cert_sign=is_authority,
                crl_sign=is_authority,
                decipher_only=False,
                **usage,
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
    )
    if not is_authority:
        # Scheduler and workers both listen and connect; a client listens to nobody.
        ends = [ExtendedKeyUsageOID.CLIENT_AUTH]
        if role != "client":
            ends.append(ExtendedKeyUsageOID.SERVER_AUTH)
        certificate = certificate.add_extension(x509.ExtendedKeyUsage(ends), critical=False)
    return certificate.sign(issuer_key, hashes.SHA256())
