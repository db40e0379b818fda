"""Files of other tools, as they are found on disks: opened, refused with words, or given up in time."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from tests.support import foreign_cas as other
from tests.support.home import small_site

from redlatch.checks import certificates
from redlatch.checks.model import Scene
from redlatch.errors import Conflict, FileProblem, InvalidInput, PassphraseNeeded, RedlatchError
from redlatch.operations import adopting, authorities, devices, importing, opening, rotation
from redlatch.operations.site import Site
from redlatch.pki import keys


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    found = small_site(tmp_path)
    yield found
    found.store.close()


def password(_: Path) -> bytes:
    return other.PASSWORD.encode()


def nobody(_: Path) -> bytes:
    raise PassphraseNeeded("nobody can be asked here")


def taken(site: Site, *files: Path) -> str:
    """The subject of the device CA that took over, which then has given a key to a device."""
    importing.carry_out(site, importing.plan(site, "device", files, password))
    issued = devices.add(site, f"device {len(devices.list_devices(site))}")
    rotation.end(site, "device", force=True)
    return authorities.name_of(issued.device_ca)


def test_xca_easy_rsa_and_step(site: Site, tmp_path: Path) -> None:
    """A .p12, a PKCS#8 key under a password with its certificate, and a key in OpenSSL's old form with a chain."""
    export, root = other.xca(tmp_path / "xca")
    assert taken(site, export) == "XCA root"
    assert taken(site, *other.easy_rsa(tmp_path / "easy")) == "ca"
    assert taken(site, *other.step(tmp_path / "step")[:3]) == "intermediate_ca"
    together = tmp_path / "all.pem"  # XCA's other export; the same CA, which had ended here, returns
    together.write_bytes(b"Issuer: XCA\n" + root.key.read_bytes() + root.cert.read_bytes())
    assert taken(site, together) == "XCA root"
    plain = other.make(tmp_path, "plain", other.CA)
    der = tmp_path / "ca.der"
    der.write_bytes(other.openssl("x509", "-in", plain.cert, "-outform", "DER"))
    key = tmp_path / "ca.key.der"
    key.write_bytes(other.openssl("pkcs8", "-topk8", "-nocrypt", "-in", plain.key, "-outform", "DER"))
    assert taken(site, der, key) == "plain"
    kinds = events(site)
    assert kinds.count("ca.imported") == 5
    for path in site.settings.keys.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600


def events(site: Site) -> list[str]:
    with site.store.read() as view:
        return [one.event.kind for one in view.audit_events()]


def test_an_imported_server_ca_waits_and_shows_its_chain(site: Site, tmp_path: Path) -> None:
    """Its root is what devices get; the server shows the intermediate beside its own certificate."""
    root, below, key, company_root, _ = other.step(tmp_path)
    plan = importing.plan(site, "server", [root, below, key], password)
    assert any("no name constraints" in one for one in plan.remarks)
    importing.carry_out(site, plan)
    issued = devices.add(site, "phone")
    assert [authorities.name_of(one) for one in issued.server_cas][1:] == ["root_ca"]
    rotation.switch(site)
    ca = authorities.made_of(next(row for row in rows(site) if row.signing and row.chain))
    assert [authorities.name_of(one) for one in ca.shown] == ["intermediate_ca"]
    assert company_root.cert.exists()


def rows(site: Site) -> list[authorities.AuthorityRow]:
    with site.store.read() as view:
        return authorities.trusted(view, "server")


def bomb(kind: str) -> bytes:
    """A private key (DER) under 2,147,483,647 rounds of hashing, or under 2 GiB of memory."""
    if kind == "rounds":
        kdf = keys._sequence(
            keys._oid("2a864886f70d01050c"),  # PBKDF2
            keys._sequence(keys._octets(b"salt" * 4), keys._integer(2**31 - 1)),
        )
    else:
        kdf = keys._sequence(
            keys._oid("2b06010401da47040b"),
            keys._sequence(
                keys._octets(b"salt" * 4),
                keys._integer(2**21),
                keys._integer(8),
                keys._integer(1),
                keys._integer(32),
            ),
        )
    cipher = keys._sequence(keys._oid("60864801650304012a"), keys._octets(b"i" * 16))
    pbes2 = keys._sequence(keys._oid("2a864886f70d01050d"), keys._sequence(kdf, cipher))
    return keys._sequence(pbes2, keys._octets(b"c" * 48))


@pytest.mark.parametrize(("kind", "seconds"), [("rounds", 1), ("memory", 60)])
def test_a_file_that_asks_for_too_much_is_given_up(kind: str, seconds: int, tmp_path: Path) -> None:
    """Two thousand million rounds of hashing, 2 GiB of memory: refused within a second or two, with words."""
    file = tmp_path / "bomb.der"
    file.write_bytes(bomb(kind))
    with pytest.raises(RedlatchError) as raised:
        opening.read([file], password, seconds=seconds)
    assert "more time or memory" in raised.value.message
    assert str(file) in raised.value.message
    pem = tmp_path / "bomb.pem"
    pem.write_bytes(keys._pem("ENCRYPTED PRIVATE KEY", bomb(kind)))
    with pytest.raises(InvalidInput, match="more rounds"):  # in PEM it is seen before anything is done
        opening.read([pem], password, seconds=20)


def test_a_bundle_that_asks_for_too_much_is_given_up(tmp_path: Path) -> None:
    """What a PKCS#12 asks for shows while it is done: the process that opens it is ended."""
    made = subprocess.run(
        ["openssl", "pkcs12", "-export", "-nocerts", "-iter", "65536", "-passout", f"pass:{other.PASSWORD}"],
        input=keys.private_key_pem(keys.generate_key(), None), capture_output=True, check=True,
    ).stdout  # fmt: skip
    # DER: the file is SEQUENCE {..., MacData}, and MacData a short SEQUENCE {..., INTEGER 65536} at its end
    asked, wanted = b"\x02\x03\x01\x00\x00", b"\x02\x04\x7f\xff\xff\xff"
    assert made.endswith(asked)
    assert made[:2] == b"\x30\x82"
    mac = next(
        at for at in range(len(made) - 129, len(made)) if made[at] == 0x30 and made[at + 1] == len(made) - at - 2
    )
    whole = (int.from_bytes(made[2:4], "big") + 1).to_bytes(2, "big")
    file = tmp_path / "bomb.p12"
    file.write_bytes(
        made[:2] + whole + made[4 : mac + 1] + bytes([made[mac + 1] + 1]) + made[mac + 2 : -len(asked)] + wanted
    )
    with pytest.raises(RedlatchError) as raised:
        opening.read([file], password, seconds=1)
    assert "more time or memory" in raised.value.message


def giant(first: int, second: int) -> bytes:
    """A plain RSA key of two Mersenne primes."""
    p, q, e = 2**first - 1, 2**second - 1, 65537
    d = pow(e, -1, (p - 1) * (q - 1))
    numbers = (0, p * q, e, d, p, q, d % (p - 1), d % (q - 1), pow(q, -1, p))
    return keys._pem("RSA PRIVATE KEY", keys._sequence(*map(keys._integer, numbers)))


def test_a_plain_key_that_asks_for_too_much_is_given_up(tmp_path: Path) -> None:
    """Whether the primes of an RSA key are such takes a minute with 20,000 bits; a smaller one is refused."""
    file = tmp_path / "giant.pem"
    file.write_bytes(giant(4253, 4423))
    with pytest.raises(InvalidInput, match="more time or memory"):
        opening.read([file], nobody, seconds=1)
    file.write_bytes(giant(2203, 2281))
    with pytest.raises(InvalidInput, match=r"giant\.pem: the RSA key has 4484 bits"):
        opening.read([file], nobody)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", InvalidInput),
        (b"hello", InvalidInput),
        (b"\x30\x82\xff\xff\x02\x01\x03" + b"\0" * 100, PassphraseNeeded),  # as a PKCS#12 begins
        (b"\x30\x80" * 200, InvalidInput),
        (os.urandom(4096), InvalidInput),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", InvalidInput),
        (b"-----BEGIN CERTIFICATE-----\n" + b"A" * 65536, InvalidInput),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", InvalidInput),
        (b"-----BEGIN PKCS7-----\nAAAA\n-----END PKCS7-----\n", InvalidInput),
    ],
)
def test_garbage_is_refused(content: bytes, error: type[RedlatchError], tmp_path: Path) -> None:
    """Whatever the bytes, there are words and no traceback."""
    file = tmp_path / "x"
    file.write_bytes(content)
    with pytest.raises(error) as raised:
        opening.read([file], password)
    assert raised.value.message.startswith(str(file))


def test_what_is_no_file_and_what_is_too_large(tmp_path: Path) -> None:
    """A FIFO does not hang, a missing file and a giant one are told."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "large").write_bytes(b"x" * (opening.MOST + 1))
    for name in ("fifo", "large", "missing"):
        with pytest.raises(FileProblem):
            opening.read([tmp_path / name], password)


def test_a_wrong_or_missing_password(tmp_path: Path) -> None:
    """Asked for once, and wrong, it is said; the file is named."""
    export, _ = other.xca(tmp_path / "xca")
    _, key = other.easy_rsa(tmp_path / "easy")
    der = tmp_path / "ca.key.der"
    form = ("-outform", "DER", "-passin", f"pass:{other.PASSWORD}", "-passout", f"pass:{other.PASSWORD}")
    der.write_bytes(other.openssl("pkcs8", "-topk8", "-in", key, *form))
    assert len(opening.read([der], password).keys) == 1
    for file in (export, key, der):
        with pytest.raises(PassphraseNeeded, match="does not open"):
            opening.read([file], lambda _: b"wrong")
        with pytest.raises(PassphraseNeeded, match="nobody"):
            opening.read([file], nobody)


def test_nothing_in_the_folder_it_is_called_in_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`cd ~/.node-red; sudo redlatch ca import x.p12`: modules that a flow put there are not loaded."""
    export, _ = other.xca(tmp_path / "xca")
    folder = tmp_path / "node-red"
    folder.mkdir()
    for name in ("json", "base64", "redlatch"):
        (folder / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    monkeypatch.chdir(folder)
    assert len(opening.read([export], password).keys) == 1
    assert not (tmp_path / "ran").exists()


def test_what_is_refused_changes_nothing(site: Site, tmp_path: Path) -> None:
    """No key, two keys, a SHA-1 signature, one's own CA again: words, and the site as it was."""
    root = other.make(tmp_path, "root", other.CA)
    second = other.make(tmp_path, "second", other.CA)
    weak = other.make(tmp_path, "weak", other.CA, key=other.RSA, digest="sha1")
    card = other.make(tmp_path, "card", other.LEAF, by=weak)
    before = (events(site), sorted(path.name for path in site.settings.keys.iterdir()))
    for files, words in (
        ([root.cert], "private key is missing"),
        ([root.cert, root.key, second.key], "more than one"),
        ([root.cert, second.key], "belongs to none"),
        ([weak.cert, weak.key], "SHA1"),
    ):
        with pytest.raises(InvalidInput, match=words):
            importing.plan(site, "device", files, password)
    with pytest.raises(InvalidInput, match="SHA1"):
        adopting.adopt(site, "card", [card.cert, weak.cert], password)
    assert (events(site), sorted(path.name for path in site.settings.keys.iterdir())) == before
    importing.carry_out(site, importing.plan(site, "device", [root.cert, root.key], password))
    with pytest.raises(Conflict, match="taking over already"):
        importing.plan(site, "device", [second.cert, second.key], password)
    rotation.end(site, "device", force=True)
    with pytest.raises(Conflict, match="already"):
        importing.plan(site, "device", [root.cert, root.key], password)


def test_the_machines_public_roots_are_refused_but_not_its_administrators(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A root that came with the system is for everybody; one in /usr/local is the company's own."""
    root = other.make(tmp_path, "root", other.CA)
    der = other.openssl("x509", "-in", root.cert, "-outform", "DER")

    class Context:
        def get_ca_certs(self, *, binary_form: bool) -> list[bytes]:
            assert binary_form
            return [der]

    monkeypatch.setattr(importing.ssl, "create_default_context", Context)
    monkeypatch.setattr(importing, "LOCAL_ROOTS", tmp_path / "local")
    with pytest.raises(InvalidInput, match="public root"):
        importing.plan(site, "device", [root.cert, root.key], password)
    (tmp_path / "local").mkdir()
    (tmp_path / "local/company.crt").write_bytes(root.cert.read_bytes())
    assert importing.plan(site, "device", [root.cert, root.key], password).remarks == ()


def test_a_request_waits_until_its_certificate_comes(site: Site, tmp_path: Path) -> None:
    """Asked twice it is for the same key; another CA's certificate does not fit; forgotten, its key is gone."""
    company = other.make(tmp_path, "company", other.CA)
    first = importing.request(site, "device")
    assert keys_of(importing.request(site, "device")) == keys_of(first)
    assert [one.kind for one in authorities.listed(site)[1]] == ["device"]
    with pytest.raises(InvalidInput, match="request that is out"):
        importing.plan(site, "device", [company.cert], password)
    assert importing.forget_request(site, "device") == 1
    assert authorities.listed(site)[1] == []
    assert keys_of(importing.request(site, "device")) != keys_of(first)
    assert events(site)[-3:] == ["ca.requested"] * 3


def keys_of(request: bytes) -> bytes:
    return other.openssl("req", "-pubkey", "-noout", stdin=request)


def test_a_ca_that_was_adopted_from_is_imported_and_ended_as_one(site: Site, tmp_path: Path) -> None:
    """First only a card of it gets in, then its key comes too: one authority, which takes the card with it."""
    company = other.make(tmp_path, "company", other.CA)
    card = other.make(tmp_path, "card", other.LEAF, by=company)
    adopting.adopt(site, "Ada", [card.cert, company.cert], password)
    done = importing.carry_out(site, importing.plan(site, "device", [company.cert, company.key], password))
    assert (done.progress.moved, done.progress.remaining) == (1, ())
    rotation.end(site, "device")
    devices.add(site, "phone")
    trusted = [one for one in authorities.listed(site)[0] if one.kind == "device" and one.retired_at is None]
    assert [(one.subject, one.state, one.devices) for one in trusted] == [("company", "signs", 2)]
    with pytest.raises(Conflict, match="signs here"):
        adopting.end(site, trusted[0].fingerprint)
    rotation.begin(site, "device")
    assert [one.name for one in rotation.progress(site, "device").remaining] == ["Ada", "phone"]
    assert rotation.end(site, "device", force=True).revoked == 2
    with site.store.read() as view:
        assert len(authorities.anchors(view, "device")) == 1
        assert list(view.active_certificates()) == []
    # It comes back as what it was: trusted for one card
    later = other.make(tmp_path, "later", other.LEAF, by=company)
    assert adopting.adopt(site, "Bart", [later.cert, company.cert], password).new_anchor


def test_an_authority_ends_with_the_first_of_its_chain(site: Site, tmp_path: Path) -> None:
    """One is not imported under a root that ends in days; the list shows that day for one that is trusted."""
    root = other.make(tmp_path, "root", other.CA, days=20)
    below = other.make(tmp_path, "below", other.BELOW, by=root)
    card = other.make(tmp_path, "card", other.LEAF, by=below)
    with pytest.raises(InvalidInput, match="CN=root, above this CA, ends on"):
        importing.plan(site, "device", [below.cert, below.key, root.cert], password)
    adopting.adopt(site, "Ada", [card.cert, below.cert, root.cert], password)
    (trusted,) = [one for one in authorities.listed(site)[0] if one.state == "trusted"]
    assert trusted.subject == "below"
    assert trusted.not_after - site.clock() < timedelta(days=21)
    found = next(one for one in certificates.CHECKS if one.code == "ca-ending").look(Scene(site, {}))
    assert [one.subject for one in found] == ["device CA"]


def test_a_device_is_adopted_once_and_a_revoked_one_never(site: Site, tmp_path: Path) -> None:
    """The same certificate is nobody else's; a further one belongs to the device that is there."""
    company = other.make(tmp_path, "company", other.CA)
    card, later = (other.make(tmp_path, name, other.LEAF, by=company) for name in ("card", "later"))
    adopting.adopt(site, "Ada", [card.cert, company.cert], password)
    with pytest.raises(Conflict, match="'Ada' already"):
        adopting.adopt(site, "Bart", [card.cert, company.cert], password)
    with pytest.raises(Conflict, match="exists already"):
        adopting.adopt(site, "Ada", [later.cert], password)
    adopting.adopt(site, "Ada", [later.cert], password, further=True)
    assert len(devices.show(site, "Ada").certificates) == 2
    devices.revoke(replace(site, insist=True), "Ada")
    with pytest.raises(Conflict, match="for good"):
        adopting.adopt(site, "Ada", [card.cert], password)
    listed = [one for one in authorities.listed(site)[0] if one.state == "trusted"]
    assert [(one.subject, one.key, one.devices) for one in listed] == [("company", "elsewhere", 0)]
