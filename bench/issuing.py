"""Certificates issued and stored per second, one durable commit each, beside `openssl x509 -req`.

    python bench/issuing.py [--rounds 5] [--each 400]

Both sign P-256 requests; openssl gets one process a certificate, as the recipes have it, and stores a file.
Rounds alternate in one run; the table shows medians. Nothing is asserted: machines differ.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import tempfile
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from redlatch.pki import certificates, keys
from redlatch.pki.authority import Authority
from redlatch.pki.csr import public_key_from_csr
from redlatch.store import Store


def request() -> bytes:
    key = keys.generate_key("p256")
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a device")])
    return (
        x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, SHA256()).public_bytes(Encoding.PEM)
    )


def ours(store: Store, ca: Authority, authority_id: int, requests: list[bytes]) -> float:
    begin = time.perf_counter()
    for csr in requests:
        now = datetime.now(UTC)
        device = str(uuid.uuid4())
        leaf = ca.issue_device(
            public_key_from_csr(csr), device_id=device, name=device, site_host="pi.local", now=now
        )
        fingerprint = certificates.fingerprint(leaf)
        with store.write("bench", now) as tx:
            tx.add_device(device, name=device, name_key=device, role="user", owner=None, user_slug=device[:32])
            tx.add_certificate(
                fingerprint=fingerprint,
                device_id=device,
                authority_id=authority_id,
                serial=certificates.serial_hex(leaf),
                not_before=leaf.not_valid_before_utc,
                not_after=leaf.not_valid_after_utc,
                der=leaf.public_bytes(Encoding.DER),
            )
            tx.record("device.added", device=device, fingerprint=fingerprint)
    return len(requests) / (time.perf_counter() - begin)


def openssl(folder: Path, requests: list[bytes]) -> float:
    for number, csr in enumerate(requests):
        (folder / f"{number}.csr").write_bytes(csr)
    begin = time.perf_counter()
    for number in range(len(requests)):
        subprocess.run(
            ["openssl", "x509", "-req", "-in", f"{number}.csr", "-CA", "ca.crt", "-CAkey", "ca.key",
             "-CAcreateserial", "-days", "365", "-out", f"{number}.crt"],
            cwd=folder, check=True, capture_output=True,
        )  # fmt: skip
    return len(requests) / (time.perf_counter() - begin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--each", type=int, default=400)
    options = parser.parse_args()
    now = datetime.now(UTC)
    ca = Authority.create_device("bench", now=now)
    with tempfile.TemporaryDirectory(dir=".") as name:  # the same disk for both, not a tmpfs
        folder = Path(name)
        (folder / "ca.crt").write_bytes(certificates.certificate_pem(ca.certificate))
        (folder / "ca.key").write_bytes(keys.private_key_pem(ca.key, None))
        store = Store.create(folder / "redlatch.db", site_uuid=str(uuid.uuid4()), now=now)
        with store.write("bench", now) as tx:
            der = ca.certificate.public_bytes(Encoding.DER)
            row = tx.add_authority("device", certificate=der, key_file="ca.key")
            tx.record("ca.created", kind="device")
        rates: dict[str, list[float]] = {"redlatch": [], "openssl": []}
        for _ in range(options.rounds):
            requests = [request() for _ in range(options.each)]
            rates["redlatch"].append(ours(store, ca, row.id, requests))
            rates["openssl"].append(openssl(folder, requests[: max(1, options.each // 10)]))
        store.close()
    ratios = [one / other for one, other in zip(rates["redlatch"], rates["openssl"], strict=True)]
    print(f"{'':32}{'median /s':>12}{'min':>8}{'max':>8}")
    print(f"{'redlatch, issued and stored':32}", *(f"{one:>9.0f}" for one in _three(rates["redlatch"])))
    print(f"{'openssl x509 -req, to a file':32}", *(f"{one:>9.0f}" for one in _three(rates["openssl"])))
    print(f"{'ratio, round by round':32}", *(f"{one:>9.1f}" for one in _three(ratios)))


def _three(values: list[float]) -> tuple[float, float, float]:
    return statistics.median(values), min(values), max(values)


if __name__ == "__main__":
    main()
