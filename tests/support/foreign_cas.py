"""Authorities as other tools leave them on a disk, made with OpenSSL as those tools make them."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CA: Final = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n"
BELOW: Final = "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\n"
LEAF: Final = (
    "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth\n"
)
PASSWORD: Final = "correct horse"
P256: Final = ("ec", "-pkeyopt", "ec_paramgen_curve:P-256")
RSA: Final = ("rsa:2048",)


def openssl(*arguments: str | Path, stdin: bytes = b"") -> bytes:
    """Runs it; what it printed. AssertionError with its words when it fails."""
    done = subprocess.run(
        ["openssl", *map(str, arguments)], input=stdin, capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@dataclass(frozen=True)
class Made:
    """A certificate and its plain key, PEM files."""

    cert: Path
    key: Path

    @property
    def cert_file(self) -> Path:
        """Both in one file, as clients want them."""
        path = self.cert.with_suffix(".both")
        path.write_bytes(self.cert.read_bytes() + self.key.read_bytes())
        return path


def make(
    folder: Path,
    name: str,
    extensions: str,
    *,
    by: Made | None = None,
    key: tuple[str, ...] = P256,
    days: int = 3650,
    digest: str = "sha256",
) -> Made:
    """A certificate called `name`, self-signed or signed `by` another one."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Made(folder / f"{name}.crt", folder / f"{name}.key")
    request = folder / f"{name}.csr"
    openssl("req", "-new", "-newkey", *key, "-nodes", "-keyout", made.key, "-out", request, "-subj", f"/CN={name}")
    signed(folder, request, made.cert, extensions, by=by, own=made.key, days=days, digest=digest)
    return made


def signed(
    folder: Path,
    request: Path,
    out: Path,
    extensions: str,
    *,
    by: Made | None = None,
    own: Path | None = None,
    days: int = 3650,
    digest: str = "sha256",
) -> None:
    """Signs a request with these extensions and both key identifiers."""
    config = folder / "extensions.cnf"
    config.write_text(
        f"{extensions}subjectKeyIdentifier=hash\n" + ("authorityKeyIdentifier=keyid\n" if by else "")
    )
    issuer = ("-CA", by.cert, "-CAkey", by.key) if by is not None else ("-signkey", own or "")
    openssl(
        "x509", "-req", "-in", request, *issuer, "-set_serial", "0x4242" + request.name.encode().hex()[:16],
        "-days", str(days), f"-{digest}", "-extfile", config, "-out", out,
    )  # fmt: skip


def easy_rsa(folder: Path) -> tuple[Path, Path]:
    """pki/ca.crt and pki/private/ca.key: RSA, the key PKCS#8 under PASSWORD."""
    made = make(folder / "pki", "ca", CA, key=RSA)
    key = folder / "pki/private/ca.key"
    key.parent.mkdir()
    openssl("pkcs8", "-topk8", "-in", made.key, "-out", key, "-passout", f"pass:{PASSWORD}")
    return made.cert, key


def xca(folder: Path) -> tuple[Path, Made]:
    """A PKCS#12 export of an XCA's CA, and the CA itself."""
    made = make(folder, "XCA root", CA, key=RSA)
    out = folder / "XCA_root.p12"
    openssl("pkcs12", "-export", "-in", made.cert, "-inkey", made.key, "-out", out, "-passout", f"pass:{PASSWORD}")
    return out, made


def step(folder: Path) -> tuple[Path, Path, Path, Made, Made]:
    """root_ca.crt, intermediate_ca.crt and intermediate_ca_key (the old OpenSSL form, under PASSWORD); root and
    intermediate with plain keys.
    """
    root = make(folder, "root_ca", CA.replace("CA:TRUE", "CA:TRUE,pathlen:1"))
    below = make(folder, "intermediate_ca", BELOW, by=root)
    key = folder / "intermediate_ca_key"
    openssl("ec", "-in", below.key, "-aes256", "-out", key, "-passout", f"pass:{PASSWORD}")
    return root.cert, below.cert, key, root, below
