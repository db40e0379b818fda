"""Authorities and certificates from elsewhere: what is taken, and what is refused with which words."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from redlatch.errors import Conflict, InvalidInput
from redlatch.pki import foreign
from redlatch.pki.authority import Authority
from redlatch.pki.keys import generate_key
from redlatch.pki.profiles import CA_KEY_USAGE, LEAF_KEY_USAGE

KEYS = {"root": generate_key(), "below": generate_key(), "leaf": generate_key()}


def made(now: datetime, who: str = "root", by: str | None = None, **odd: Any) -> x509.Certificate:
    """A CA (or with `leaf` a device's certificate) that is right but for what is `odd`."""
    key = odd.get("key", KEYS[who])
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, odd.get("name", who))]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, by or odd.get("name", who))]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + odd.get("begin", timedelta(days=-1)))
        .not_valid_after(now + odd.get("end", timedelta(days=3000)))
    )
    ca = odd.get("ca", who != "leaf")
    extensions: list[tuple[x509.ExtensionType | None, bool]] = [
        (x509.BasicConstraints(ca, odd.get("length")), True) if odd.get("basic", True) else (None, False),
        (odd.get("usage", CA_KEY_USAGE if who != "leaf" else LEAF_KEY_USAGE), True),
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()) if odd.get("ski", True) else None, False),
        (x509.ExtendedKeyUsage(odd["purposes"]) if "purposes" in odd else None, False),
        (odd.get("constraints"), True),
    ]
    for extension, critical in extensions:
        if extension is not None:
            builder = builder.add_extension(extension, critical=critical)
    signer = KEYS[by] if by is not None else key
    digest = None if isinstance(signer, ed25519.Ed25519PrivateKey) else odd.get("digest", SHA256())
    return builder.sign(signer, digest)


def names(*trees: x509.GeneralName) -> x509.NameConstraints:
    return x509.NameConstraints(permitted_subtrees=list(trees), excluded_subtrees=None)


def taken(kind: str, now: datetime, *certificates: x509.Certificate, key: Any = None, **more: Any) -> Authority:
    return foreign.authority(kind, certificates, key or KEYS["below"], now=now, **more)


def test_an_intermediate_is_taken_with_its_chain_in_any_order(now: datetime) -> None:
    """The one that the key belongs to, its issuers nearest first, whatever else is in the files left out."""
    root, below = made(now, length=1), made(now, "below", "root", length=0)
    stranger = made(now, "leaf", "root", name="leaf")
    for order in ([root, below, stranger], [stranger, below, root]):
        found = taken("device", now, *order)
        assert (found.certificate, found.chain, found.root, found.shown) == (below, (root,), root, (below,))


def test_a_root_is_taken_as_its_own(now: datetime) -> None:
    """Without a chain it is what is installed, and nothing is shown beside a server's certificate."""
    root = made(now)
    found = taken("server", now, root, key=KEYS["root"])
    assert (found.chain, found.root, found.shown) == ((), root, ())


@pytest.mark.parametrize(
    ("kind", "odd", "words"),
    [
        ("device", {"basic": False}, "is no CA"),
        ("device", {"ca": False}, "is no CA"),
        ("device", {"usage": LEAF_KEY_USAGE}, "keyCertSign"),
        ("device", {"usage": None}, "keyCertSign"),
        ("device", {"end": timedelta(days=-1), "begin": timedelta(days=-9)}, "is valid from"),
        ("device", {"begin": timedelta(days=1)}, "is valid from"),
        ("device", {"end": timedelta(days=20)}, "this CA ends"),
        ("device", {"ski": False}, "subjectKeyIdentifier"),
        ("device", {"purposes": [ExtendedKeyUsageOID.SERVER_AUTH]}, "clientAuth"),
        ("server", {"purposes": [ExtendedKeyUsageOID.CLIENT_AUTH]}, "serverAuth"),
        ("device", {"name": "a\u202eb"}, "RIGHT-TO-LEFT"),
        ("device", {"constraints": names(x509.UniformResourceIdentifier("example.org"))}, "nameConstraints"),
        ("device", {"constraints": names(x509.DirectoryName(x509.Name([])))}, "nameConstraints"),
    ],
)  # fmt: skip
def test_what_no_engine_would_take_is_refused(kind: str, odd: dict[str, Any], words: str, now: datetime) -> None:
    """Each fault by itself, in the CA and in what stands above it; the same without it is taken."""
    root = made(now)
    assert taken(kind, now, root, made(now, "below", "root")).chain == (root,)
    with pytest.raises(InvalidInput, match=words):
        taken(kind, now, root, made(now, "below", "root", **odd))
    above = made(now, **odd)
    below = made(now, "below", "root") if "name" not in odd else None
    if below is not None:
        with pytest.raises(InvalidInput, match=words.replace("this CA", "CN=root, above this CA,")):
            taken(kind, now, above, below)


def test_nothing_is_issued_beyond_the_end_of_what_stands_above(now: datetime) -> None:
    """Engines refuse the whole chain from that day on."""
    root = made(now, end=timedelta(days=40))
    ca = taken("device", now, root, made(now, "below", "root"))
    order = {"device_id": "6f9d3ad2-62a4-4f0c-9a5b-0f6ab3f0d7c1", "name": "x", "site_host": "pi.local"}
    leaf = ca.issue_device(KEYS["leaf"].public_key(), **order, now=now)
    assert leaf.not_valid_after_utc == root.not_valid_after_utc == ca.not_after
    with pytest.raises(Conflict, match="or one above it, ended"):
        ca.issue_device(KEYS["leaf"].public_key(), **order, now=now + timedelta(days=41))


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (ec.generate_private_key(ec.SECP521R1()), "curve"),
        (rsa.generate_private_key(65537, 1024), "1024 bits"),
        (ed25519.Ed25519PrivateKey.generate(), "neither"),
    ],
    ids=["P-521", "RSA-1024", "Ed25519"],
)
def test_keys_that_tls_stacks_do_not_share(key: Any, words: str, now: datetime) -> None:
    """A CA with such a key is refused, as a device would be."""
    with pytest.raises(InvalidInput, match=words):
        taken("device", now, made(now, key=key), key=key)


def test_other_kinds_of_key_are_taken(now: datetime) -> None:
    """P-384 and RSA-3072, as companies have them, and certificates of theirs verify."""
    for key, digest in (
        (ec.generate_private_key(ec.SECP384R1()), SHA384()),
        (rsa.generate_private_key(65537, 3072), SHA256()),
    ):
        ca = taken("device", now, made(now, key=key, digest=digest), key=key)
        leaf = ca.issue_device(
            KEYS["leaf"].public_key(),
            device_id="6f9d3ad2-62a4-4f0c-9a5b-0f6ab3f0d7c1", name="x", site_host="pi.local", now=now,
        )  # fmt: skip
        leaf.verify_directly_issued_by(ca.certificate)


def test_the_path_length_of_each_is_kept(now: datetime) -> None:
    """A root that allows no CA below it has none that is trusted here."""
    with pytest.raises(InvalidInput, match="pathlen"):
        taken("device", now, made(now, length=0), made(now, "below", "root"))


def test_a_chain_that_is_not_whole_is_refused(now: datetime) -> None:
    """The missing certificate is named."""
    below = made(now, "below", "root")
    with pytest.raises(InvalidInput, match="CN=root"):
        taken("device", now, below)
    with pytest.raises(InvalidInput, match="CN=root"):
        foreign.device(made(now, "leaf", "below"), [below], now=now)


def test_a_chain_is_whole_by_its_signatures_and_not_by_its_names(now: datetime) -> None:
    """A CA with the issuer's name and another key is not its issuer."""
    with pytest.raises(InvalidInput, match="not whole"):
        taken("device", now, made(now, key=generate_key()), made(now, "below", "root"))


def test_a_key_of_something_else_is_refused(now: datetime) -> None:
    """As is a file without any certificate."""
    for certificates in ([made(now)], []):
        with pytest.raises(InvalidInput):
            taken("device", now, *certificates)


def test_a_public_root_is_refused_wherever_it_stands(now: datetime) -> None:
    """Whoever pays gets a certificate of it."""
    root = made(now)
    with pytest.raises(InvalidInput, match="public root"):
        taken("device", now, root, made(now, "below", "root"), public={root.public_bytes(Encoding.DER)})


def test_a_device_certificate_is_taken_with_or_without_a_purpose(now: datetime) -> None:
    """clientAuth, any, or none said."""
    root = made(now)
    for odd in (
        {},
        {"purposes": [ExtendedKeyUsageOID.CLIENT_AUTH]},
        {"purposes": [ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]},
        {"usage": None},
        {"basic": False},
    ):
        assert foreign.device(made(now, "leaf", "root", **odd), [root], now=now) == (root,)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda now: made(now, "leaf", "root", ca=True), "certificate of a CA"),
        (lambda now: made(now, "leaf", "root", end=timedelta(days=-1), begin=timedelta(days=-9)), "ended"),
        (lambda now: made(now, "leaf", "root", begin=timedelta(days=1)), "not valid before"),
        (lambda now: made(now, "leaf", "root", purposes=[ExtendedKeyUsageOID.SERVER_AUTH]), "clientAuth"),
        (lambda now: made(now, "leaf", "root", usage=CA_KEY_USAGE), "digitalSignature"),
        (lambda now: made(now, "leaf", "root", key=rsa.generate_private_key(65537, 1024)), "1024"),
        (lambda now: made(now, "leaf", "root", name="a\x1b[31m"), "control character"),
        (lambda now: made(now, "leaf"), "signed itself"),
        (lambda now: made(now, "leaf", "below"), "not whole"),
    ],
)
def test_what_is_no_device_certificate(
    build: Callable[[datetime], x509.Certificate], words: str, now: datetime
) -> None:
    """Refused with words, before anything trusts its issuer."""
    with pytest.raises(InvalidInput, match=words):
        foreign.device(build(now), [made(now)], now=now)


def test_names_that_a_foreign_server_ca_may_give(now: datetime) -> None:
    """Each form of name is restricted by subtrees of that form only, permitted and excluded, along the chain."""
    only = made(now, "below", "root", constraints=names(x509.DNSName("example.org")))
    root = made(now)
    found = taken("server", now, only, root)
    assert (found.covers("pi.example.org"), found.covers("pi.local"), found.covers("192.168.1.4")) == (
        True,
        False,
        True,
    )
    above = made(now, constraints=x509.NameConstraints(None, [x509.DNSName(".local")]))
    found = taken("server", now, made(now, "below", "root"), above)
    assert (found.covers("pi.local"), found.covers("pi.example.org"), found.is_constrained) == (False, True, True)
    nothing = made(now, constraints=x509.NameConstraints(None, [x509.DNSName("")]))
    assert not taken("server", now, made(now, "below", "root"), nothing).covers("pi.local")
    assert not taken("server", now, made(now, "below", "root"), root).is_constrained
