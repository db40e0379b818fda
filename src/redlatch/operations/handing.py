"""What a device takes away: a .p12 with its password, or PEM files; and how one without redlatch fetches it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from redlatch.operations.devices import Issued

FORMATS = ("p12", "p12-modern", "pem")


@dataclass(frozen=True, slots=True)
class Bundle:
    """Files by name, and the password of the .p12 among them (None: there is none)."""

    files: Mapping[str, bytes]
    password: str | None = None


def pack(issued: Issued, kind: str) -> Bundle:
    """The files of `kind` for a certificate just issued; a .p12 gets a new password."""
    from redlatch.pki import bundles
    from redlatch.pki.names import slug

    if kind == "pem" or issued.key is None:
        return Bundle(bundles.pem_files(issued.key, issued.certificate, issued.server_cas))
    password = bundles.generate_password()
    modern = kind == "p12-modern"
    name = issued.device.name
    content = bundles.pkcs12(issued.key, issued.certificate, issued.server_cas, name, password, modern=modern)
    return Bundle({f"{slug(name)}.p12": content}, password)


def without_redlatch(base: str, token: str, pin: str) -> list[str]:
    """Lines of a shell that make a key and fetch its certificate. The token stands in a file, not in a command
    line that everybody on that computer can read.
    """
    return [
        f"(umask 077; printf 'Authorization: Bearer {token}' > enrol.auth)",
        "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -subj /CN=device |",
        f"  curl -fk --pinnedpubkey {pin} -H @enrol.auth -H 'content-type: application/pkcs10' \\",
        f"  --data-binary @- -o cert.pem {base}/redeem; rm enrol.auth",
    ]
