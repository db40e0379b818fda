"""What is published for the gateway, read as it changes: the snapshot, what the gateway is told, keys and CA."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from redlatch.engines.haproxy.model import Gateway, parse_gateway
from redlatch.engines.haproxy.tree import Changed, Tree, follow
from redlatch.errors import InvalidInput
from redlatch.files import explained, read_own
from redlatch.policy.model import Snapshot
from redlatch.policy.networks import Network
from redlatch.policy.networks import decode as decode_network
from redlatch.policy.snapshot import decode_head, snapshot_of
from redlatch.policy.snapshot import digest as digest_of
from redlatch.settings import Settings

HEAD: Final = "snapshot.json"
_FILES: Final = ("gateway.json", "secret", "server.pem", "device-ca.pem")
_TRIES: Final = 5


@dataclass(frozen=True, slots=True)
class Setting:
    """What the configuration needs besides the snapshot; `pems` are the files' contents by name."""

    gateway: Gateway
    secret: str
    pems: Mapping[str, bytes]

    @property
    def server_not_after(self) -> datetime | None:
        """When the server's certificate ends; None where there is none to read."""
        from cryptography import x509

        try:
            return x509.load_pem_x509_certificates(self.pems["server.pem"])[0].not_valid_after_utc
        except (ValueError, IndexError):
            return None


class Published:
    """The published folder of the gateway."""

    def __init__(self, settings: Settings) -> None:
        self.folder = settings.published
        self._tree = Tree()
        self._networks: dict[str, Network] = {}

    def state(self, *names: str) -> tuple[object, ...]:
        """What differs as soon as one of these files (all of them: none named) was replaced."""
        return tuple(self._state(name) for name in names or (HEAD, *_FILES))

    def setting_state(self) -> tuple[object, ...]:
        """As `state`, of all but the snapshot."""
        return self.state(*_FILES)

    def _state(self, name: str) -> object:
        try:
            found = (self.folder / name).lstat()
        except OSError:
            return None
        return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size

    def setting(self) -> Setting:
        """Reads everything but the snapshot. Raises FileProblem and InvalidInput."""
        data = {name: self._read(name) for name in _FILES}
        secret = data.pop("secret").strip()
        if not secret.isascii():
            raise InvalidInput("the secret between gateway and Node-RED is no 64 hex digits")
        return Setting(parse_gateway(data.pop("gateway.json")), secret.decode("ascii"), data)

    def snapshot(self) -> tuple[Snapshot, str, Changed]:
        """The snapshot, its digest, and which devices are others than in the one that this gave before.

        Raises FileProblem and InvalidInput; the next call compares with the same one as this did. Parts are
        removed as soon as no head names them: so a missing one is looked for by the next head.
        """
        for left in reversed(range(_TRIES)):
            data = self._read(HEAD)
            try:
                return self._decoded(data)
            except InvalidInput:
                if not left or self._read(HEAD) == data:
                    raise
        raise InvalidInput("the snapshot changes faster than it can be read")

    def _decoded(self, data: bytes) -> tuple[Snapshot, str, Changed]:
        body = decode_head(data)
        digests: dict[str, str] = body["networks"]
        networks = {key: self._networks.get(key) or self._network(key) for key in digests.values()}
        tree, changed = follow(self._tree, body["devices"], self._part)
        named = {name: networks[key] for name, key in digests.items()}
        self._tree, self._networks = tree, networks
        return snapshot_of(body, networks=named, devices=tree), digest_of(data), changed

    def _network(self, key: str) -> Network:
        data = self._part(key)
        if data is None or hashlib.sha256(data).hexdigest() != key:
            raise InvalidInput("a part of the snapshot is missing or garbled")
        return decode_network(data)

    def _part(self, key: str) -> bytes | None:
        if len(key) != 64 or not key.isalnum():
            return None
        try:
            return read_own(self.folder / "snapshot" / key)
        except OSError:
            return None

    def _read(self, name: str) -> bytes:
        path = self.folder / name
        with explained("read", path):
            return read_own(path)
