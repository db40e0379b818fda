"""A published folder made from pki and policy alone, so that the guard can be tested without the rest."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from redlatch.files import write_all, write_atomic
from redlatch.pki.authority import Authority
from redlatch.pki.certificates import ServerPair, certificate_pem, fingerprint, server_pem
from redlatch.pki.keys import Key, generate_key, private_key_pem
from redlatch.policy.model import DEFAULT_RULES, Areas, Entry, Snapshot
from redlatch.policy.networks import Network
from redlatch.policy.networks import encode as encode_network
from redlatch.policy.snapshot import Files, decode, grow, head, replaced

GUARD = Path(
    os.environ.get("REDLATCH_TEST_GUARD")  # scripts/faults puts a copy with one check removed here
    or Path(__file__).parents[2] / "src/redlatch/engines/nodered/guard"
)
PLUGIN = Path(__file__).parents[2] / "src/redlatch/engines/nodered/plugin"


@dataclass(frozen=True)
class Device:
    """A certificate with its key, as files that the ssl module and curl take."""

    name: str
    id: str
    certificate: x509.Certificate
    key: Key = field(repr=False)
    folder: Path

    @property
    def cert_file(self) -> Path:
        """Certificate and key, PEM."""
        path = self.folder / f"{self.fingerprint[:16]}.pem"
        if not path.exists():
            path.write_bytes(certificate_pem(self.certificate) + private_key_pem(self.key, None))
        return path

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.certificate)

    @property
    def entry(self) -> Entry:
        return Entry(
            id=self.id,
            role="admin",
            user=self.name,
            not_before=int(self.certificate.not_valid_before_utc.timestamp()),
            not_after=int(self.certificate.not_valid_after_utc.timestamp()),
        )


def published(folder: Path) -> Snapshot:
    """What is published in `folder`, its parts included; InvalidInput when it is not whole."""

    def read(digest: str) -> bytes | None:
        path = folder / "snapshot" / digest
        return path.read_bytes() if path.exists() else None

    return decode((folder / "snapshot.json").read_bytes(), read)


class Tree:
    """Devices and their tree of files, grown further with every change."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.devices: Mapping[str, Entry] = {}
        self.root: str | None = None
        self._keys: list[str] = []

    def entries(self, prefix: str, limit: int) -> Mapping[str, Entry]:
        begin = bisect_left(self._keys, prefix)
        inside = self._keys[begin : min(begin + limit, bisect_left(self._keys, prefix + "g"))]
        return {key: self.devices[key] for key in inside}

    def read(self, digest: str) -> bytes | None:
        path = self.folder / digest
        return path.read_bytes() if path.exists() else None

    def grow(self, devices: Mapping[str, Entry], changed: Iterable[str]) -> Files:
        """The new files for these devices, of which only `changed` came, went or are others now."""
        changed = tuple(changed)
        if len(changed) > 1000:
            self._keys = sorted(devices)
        else:
            for key in changed:
                if key in devices and key not in self.devices:
                    insort(self._keys, key)
                elif key in self.devices and key not in devices:
                    del self._keys[bisect_left(self._keys, key)]
        self.devices = devices
        files: Files = {}
        self.root = grow(self, files, old=self.root, changed=changed, read=self.read)
        return files


class Site:
    """Both CAs, a published folder with guard, keys and snapshot, and a spool folder below `root`.

    `snapshot` is what was published last; `change(...)` publishes a newer one, at a cost that does not grow with
    the devices (nor does that of `list` and `revoke`, but for the copying of a dict).
    """

    def __init__(self, root: Path, **fields: Any) -> None:
        self.root = root
        self.published = root / "published"
        self.spool = root / "spool"
        self._tree = Tree(self.published / "snapshot")
        self._tables: dict[str, tuple[Network, str]] = {}
        for folder in (self._tree.folder, self.spool, root / "devices"):
            folder.mkdir(parents=True)
        now = datetime.now(UTC)
        self.server_ca = Authority.create_server("test", ["localhost"], now=now)
        self.device_ca = Authority.create_device("test", now=now)
        (root / "server-ca.pem").write_bytes(certificate_pem(self.server_ca.certificate))
        self.snapshot = Snapshot(
            **{
                "site": str(uuid.uuid4()),
                "version": 0,
                "time": int(now.timestamp()),
                "mode": "strict",
                "port": None,
                "keep_auth": False,
                "names": ("localhost", "pi.local"),
                "admin_root": "/",
                "areas": Areas(dashboards=("/dashboard", "/ui")),
                "rules": DEFAULT_RULES,
                "spool": str(self.spool),
                "devices": {},
                **fields,
            }
        )
        self.publish_guard()
        self.publish_server()
        self.publish_device_ca(self.device_ca)
        self.change()

    @property
    def server_ca_file(self) -> Path:
        return self.root / "server-ca.pem"

    # --- publishing

    def publish_guard(self) -> None:
        files = sorted(path for path in GUARD.iterdir() if path.suffix in (".js", ".json"))
        digest = hashlib.sha256(b"".join(path.name.encode() + path.read_bytes() for path in files)).hexdigest()[
            :12
        ]
        folder = self.published / f"guard-{digest}"
        folder.mkdir(exist_ok=True)
        for path in files:
            shutil.copy(path, folder)
        shutil.copytree(PLUGIN, folder / "plugin", dirs_exist_ok=True)
        for name in ("guard.js", "preload.js"):
            (self.published / name).write_text(f'module.exports = require("./{folder.name}/{name}");\n')

    def publish_server(self, days: int = 90) -> None:
        key = generate_key()
        leaf = self.server_ca.issue_server(
            key.public_key(), ["localhost", "pi.local"], ["127.0.0.1", "::1"], now=datetime.now(UTC), days=days
        )
        self.put("server.pem", server_pem(ServerPair(key, leaf)))

    def publish_device_ca(self, *authorities: Authority) -> None:
        self.put("device-ca.pem", b"".join(certificate_pem(one.certificate) for one in authorities))

    def put(self, name: str, data: bytes) -> None:
        write_atomic(self.published / name, data, mode=0o600)

    def change(self, **fields: Any) -> Snapshot:
        """Publishes a snapshot with the next version and these fields."""
        before, after = self._tree.devices, fields.get("devices", self.snapshot.devices)
        changed = () if before is after else (before.keys() | after.keys())
        return self._change([key for key in changed if before.get(key) != after.get(key)], fields)

    def _change(self, changed: Iterable[str], fields: Mapping[str, Any]) -> Snapshot:
        """As `change`, with the fingerprints of the entries that differ."""
        self.snapshot = replace(self.snapshot, **{"version": self.snapshot.version + 1, **fields})
        old = self._tree.root
        files = self._tree.grow(self.snapshot.devices, changed)
        unused = {digest for _, digest in self._tables.values()}
        for name, network in self.snapshot.networks.items():
            if name not in self._tables or self._tables[name][0] is not network:
                table = encode_network(network)
                self._tables[name] = network, hashlib.sha256(table).hexdigest()
                files[self._tables[name][1]] = table
        self._tables = {name: self._tables[name] for name in self.snapshot.networks}
        networks = {name: digest for name, (_, digest) in self._tables.items()}
        write_all(self._tree.folder, files, mode=0o600)
        self.put("snapshot.json", head(self.snapshot, devices=self._tree.root, networks=networks))
        unused |= replaced(old, self._tree.root, self._tree.read)
        for digest in unused - set(networks.values()):
            (self._tree.folder / digest).unlink(missing_ok=True)
        return self.snapshot

    # --- devices

    def device(
        self,
        name: str = "laptop",
        role: str = "admin",
        *,
        authority: Authority | None = None,
        listed: bool = True,
        **odd: Any,
    ) -> Device:
        """Issues a certificate; `odd` as in `odd_certificate`. `listed`: its entry is published at once."""
        key = generate_key()
        identity = str(uuid.uuid4())
        authority = authority or self.device_ca
        if odd:
            certificate = odd_certificate(authority, key, name, identity, **odd)
        else:
            certificate = authority.issue_device(
                key.public_key(), device_id=identity, name=name, site_host="localhost", now=datetime.now(UTC)
            )
        device = Device(name, identity, certificate, key, self.root / "devices")
        if listed:
            self.list(device, role=role)
        return device

    def list(self, *devices: Device, **fields: Any) -> None:
        """Publishes the entries of `devices`, with `fields` of them changed."""
        entries = {one.fingerprint: replace(one.entry, **fields) for one in devices}
        self._change(entries, {"devices": {**self.snapshot.devices, **entries}})

    def revoke(self, device: Device) -> None:
        lost = device.fingerprint  # found out once, not for each of a hundred thousand
        left = {key: entry for key, entry in self.snapshot.devices.items() if key != lost}
        self._change([lost], {"devices": left})


def odd_certificate(
    authority: Authority,
    key: Key,
    name: str,
    identity: str,
    *,
    begin: timedelta = timedelta(minutes=-5),
    end: timedelta = timedelta(days=30),
    purpose: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH,
) -> x509.Certificate:
    """A certificate that redlatch would not issue: dates relative to now, another purpose."""
    now = datetime.now(UTC)
    assert authority.key is not None
    return (
        x509.CertificateBuilder()
        .issuer_name(authority.certificate.subject)
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begin)
        .not_valid_after(now + end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"https://localhost/device/{identity}")]),
            critical=False,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.certificate.public_key()),  # type: ignore[arg-type]
            critical=False,
        )
        .sign(authority.key, hashes.SHA256())
    )
