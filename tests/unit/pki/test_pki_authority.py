from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from uuid import uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from redlatch.errors import Conflict, InvalidInput, PassphraseNeeded
from redlatch.pki.authority import Authority
from redlatch.pki.certificates import fingerprint, serial_hex
from redlatch.pki.keys import Key, generate_key

DEVICE = "0b7a1d4e-6f3c-4d36-9a57-2b1f3a1c9e10"


def device(ca: Authority, key: Key, now: datetime, **changed: object) -> x509.Certificate:
    asked: dict[str, object] = {"device_id": DEVICE, "name": "Bart's phone", "site_host": "pi.local", "now": now}
    return ca.issue_device(key.public_key(), **(asked | changed))  # type: ignore[arg-type]


def server(ca: Authority, key: Key, now: datetime, **changed: object) -> x509.Certificate:
    asked: dict[str, object] = {"names": ["pi.local", "pi"], "addresses": ["192.168.1.4"], "now": now}
    return ca.issue_server(key.public_key(), **(asked | changed))  # type: ignore[arg-type]


def common_name(certificate: x509.Certificate) -> str:
    return str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def critical(certificate: x509.Certificate) -> set[str]:
    return {extension.oid._name for extension in certificate.extensions if extension.critical}


def usages(certificate: x509.Certificate) -> set[str]:
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    names = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
    )
    return {name for name in names if getattr(usage, name)}


@pytest.fixture(params=["server", "device"])
def ca(request: pytest.FixtureRequest) -> Authority:
    ca: Authority = request.getfixturevalue(f"{request.param}_ca")
    return ca


@pytest.fixture(params=["server", "device"])
def leaf(request: pytest.FixtureRequest, key: Key, now: datetime) -> x509.Certificate:
    ca = request.getfixturevalue(f"{request.param}_ca")
    return server(ca, key, now) if request.param == "server" else device(ca, key, now)


def test_ca_may_sign_certificates_and_crls_and_no_further_ca(ca: Authority) -> None:
    """Both CAs have critical basicConstraints CA:TRUE with path length 0, and keyCertSign with cRLSign."""
    basic = ca.certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert basic.critical
    assert basic.value == x509.BasicConstraints(ca=True, path_length=0)
    assert usages(ca.certificate) == {"key_cert_sign", "crl_sign"}
    assert "keyUsage" in critical(ca.certificate)
    with pytest.raises(x509.ExtensionNotFound):
        ca.certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)


def test_ca_lives_ten_years_and_signs_itself(ca: Authority, now: datetime) -> None:
    """A CA begins five minutes early, ends after ten years and verifies under its own key."""
    certificate = ca.certificate
    assert certificate.not_valid_before_utc == now - timedelta(minutes=5)
    assert certificate.not_valid_after_utc == now + timedelta(days=3652)
    certificate.verify_directly_issued_by(certificate)


def test_leaf_is_no_ca(leaf: x509.Certificate) -> None:
    """A leaf has basicConstraints, critical, CA:FALSE: most verifiers do not miss it where it is absent."""
    basic = leaf.extensions.get_extension_for_class(x509.BasicConstraints)
    assert basic.critical
    assert basic.value == x509.BasicConstraints(ca=False, path_length=None)


def test_server_and_device_have_one_purpose_each(
    server_ca: Authority, device_ca: Authority, p256: Key, rsa2048: Key, now: datetime
) -> None:
    """A server leaf has only serverAuth, a device leaf only clientAuth; RSA servers may be encrypted to."""
    for key, expected in (
        (p256, {"digital_signature"}),
        (rsa2048, {"digital_signature", "key_encipherment"}),
    ):
        leaf = server(server_ca, key, now)
        assert usages(leaf) == expected
        purposes = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert list(purposes) == [ExtendedKeyUsageOID.SERVER_AUTH]
        leaf = device(device_ca, key, now)
        assert usages(leaf) == {"digital_signature"}
        purposes = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert list(purposes) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_every_certificate_has_both_key_identifiers(ca: Authority, leaf: x509.Certificate) -> None:
    """SKI is the digest of the own key and AKI that of the issuer's: -x509_strict and Python 3.13 ask for both."""
    for certificate in (ca.certificate, leaf):
        own = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        assert own == x509.SubjectKeyIdentifier.from_public_key(certificate.public_key())
        issuer = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
        assert issuer.key_identifier
        assert issuer.authority_cert_issuer is None
    issuer = ca.certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert issuer.key_identifier == x509.SubjectKeyIdentifier.from_public_key(ca.certificate.public_key()).digest


def test_leaf_names_its_issuer_by_key_identifier(device_ca: Authority, p256: Key, now: datetime) -> None:
    """The leaf's AKI is the CA's SKI, and its issuer is the CA's subject."""
    leaf = device(device_ca, p256, now)
    identifier = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    assert (
        identifier
        == device_ca.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    )
    leaf.verify_directly_issued_by(device_ca.certificate)


def test_serial_is_twenty_random_positive_octets(
    ca: Authority, device_ca: Authority, p256: Key, now: datetime
) -> None:
    """Serials have exactly 20 octets with the top bit clear, and no two are alike."""
    serials = [device(device_ca, p256, now).serial_number for _ in range(50)]
    for serial in [*serials, ca.certificate.serial_number]:
        assert serial.bit_length() == 159
    assert len(set(serials)) == 50
    assert len(serial_hex(ca.certificate)) == 40


def test_leaf_never_outlives_its_issuer(
    device_ca: Authority, server_ca: Authority, p256: Key, now: datetime
) -> None:
    """Near the CA's end a leaf ends with the CA; after it none is made."""
    late = now + timedelta(days=3652 - 10)
    for issued, ca in ((device(device_ca, p256, late), device_ca), (server(server_ca, p256, late), server_ca)):
        assert issued.not_valid_after_utc == ca.certificate.not_valid_after_utc
    with pytest.raises(Conflict, match="ended on 2036"):
        device(device_ca, p256, now + timedelta(days=3653))


def test_leaf_begins_a_little_early_but_not_before_its_issuer(
    device_ca: Authority, p256: Key, now: datetime
) -> None:
    """notBefore lies five minutes back, within the CA's validity, even where the clock fell behind it."""
    later = now + timedelta(days=1)
    assert device(device_ca, p256, later).not_valid_before_utc == later - timedelta(minutes=5)
    first = device_ca.certificate.not_valid_before_utc
    assert device(device_ca, p256, now).not_valid_before_utc == first
    early = device(device_ca, p256, now - timedelta(days=700))
    assert early.not_valid_before_utc == first
    assert early.not_valid_after_utc == first + timedelta(days=365)


def test_lifetimes_are_bounded(device_ca: Authority, server_ca: Authority, p256: Key, now: datetime) -> None:
    """365 days for a device and 397 for a server are the most; one day is the least; 900 is nobody's."""
    assert device(device_ca, p256, now, days=365).not_valid_after_utc == now + timedelta(days=365)
    assert device(device_ca, p256, now, days=1).not_valid_after_utc == now + timedelta(days=1)
    assert server(server_ca, p256, now, days=397).not_valid_after_utc == now + timedelta(days=397)
    for days in (0, -1, 366, 900):
        with pytest.raises(InvalidInput, match="days"):
            device(device_ca, p256, now, days=days)
    for days in (0, 398, 900):
        with pytest.raises(InvalidInput, match="days"):
            server(server_ca, p256, now, days=days)


def test_time_without_zone_is_refused(device_ca: Authority, p256: Key, now: datetime) -> None:
    """A naive time would mean another moment on every machine."""
    with pytest.raises(InvalidInput, match="time zone"):
        device(device_ca, p256, now.replace(tzinfo=None))


def test_server_leaf_names_hosts_and_addresses(server_ca: Authority, p256: Key, now: datetime) -> None:
    """Names are normalised and made unique; zones and IPv4-mapped forms of addresses are dropped."""
    leaf = server(
        server_ca,
        p256,
        now,
        names=["Pi.LOCAL.", "pi.local", "bücher.lan", "nodered.example.org"],
        addresses=["192.168.1.4", IPv4Address("192.168.1.4"), "fe80::1%eth0", "::ffff:10.0.0.1", "203.0.113.7"],
    )
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["pi.local", "xn--bcher-kva.lan", "nodered.example.org"]
    expected = ["192.168.1.4", "fe80::1", "10.0.0.1", "203.0.113.7"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == expected
    assert common_name(leaf) == "pi.local"


def test_server_with_only_an_address_or_only_a_long_name_has_a_common_name(
    server_ca: Authority, p256: Key, now: datetime
) -> None:
    """The CN is a label: the address, or a word where the host name exceeds 64 characters."""
    assert common_name(server(server_ca, p256, now, names=[])) == "192.168.1.4"
    long = f"{'a' * 60}.{'b' * 20}.lan"
    assert common_name(server(server_ca, p256, now, names=[long], addresses=[])) == "server"
    with pytest.raises(InvalidInput, match="needs a host name"):
        server(server_ca, p256, now, names=[], addresses=[])


@pytest.mark.parametrize("name", ["example.org", "evilnodered.example.org", "com", "xpi", "local.example"])
def test_server_ca_refuses_to_name_foreign_hosts(
    server_ca: Authority, p256: Key, now: datetime, name: str
) -> None:
    """What the name constraints would make every verifier refuse is refused at once, and `covers` says so."""
    assert not server_ca.covers(name)
    with pytest.raises(InvalidInput, match="may not name"):
        server(server_ca, p256, now, names=[name])


@pytest.mark.parametrize("address", ["8.8.8.8", "172.32.0.1", "2001:db8::1", "::ffff:8.8.8.8", "100.128.0.1"])
def test_server_ca_refuses_public_addresses(server_ca: Authority, p256: Key, now: datetime, address: str) -> None:
    """A public address that was not given when the CA was made cannot be named."""
    assert not server_ca.covers(address)
    assert not server_ca.covers(ip_address(address))
    with pytest.raises(InvalidInput, match="may not name"):
        server(server_ca, p256, now, addresses=[address])


@pytest.mark.parametrize(
    "name",
    [
        "pi",
        "PI.",
        "pi.local",
        "x.y.local",
        "pi.lan",
        "pi.home.arpa",
        "pi.internal",
        "localhost",
        "nodered.example.org",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.255.255",
        "169.254.1.1",
        "127.0.0.1",
        "100.64.0.1",
        "100.127.255.255",
        "203.0.113.7",
        "fd00::1",
        "fe80::1%wlan0",
        "::1",
    ],
)
def test_server_ca_covers_private_names_and_addresses(server_ca: Authority, name: str) -> None:
    """A new DHCP address or another private name needs no new root."""
    assert server_ca.covers(name)


def test_covers_says_no_to_nonsense(server_ca: Authority, device_ca: Authority) -> None:
    """What is neither host nor address is never covered, by a CA without name constraints neither."""
    for name in ("", "*.local", "pi.local:1880", "a b.local", "_x.local", "1.2.local."[:3]):
        assert not server_ca.covers(name)
        assert not device_ca.covers(name)
    assert device_ca.covers("example.org")


def test_name_constraints_are_critical_and_cover_every_usual_form(
    server_ca: Authority, device_ca: Authority
) -> None:
    """DNS, IP, e-mail and URI each have a subtree: a form without one is unrestricted (RFC 5280, 4.2.1.10)."""
    extension = server_ca.certificate.extensions.get_extension_for_class(x509.NameConstraints)
    assert extension.critical
    assert extension.value.excluded_subtrees is None
    trees = extension.value.permitted_subtrees or []
    forms = {type(tree) for tree in trees}
    assert forms == {
        x509.DNSName,
        x509.IPAddress,
        x509.RFC822Name,
        x509.UniformResourceIdentifier,
    }
    domains = {tree.value for tree in trees if isinstance(tree, x509.DNSName)}
    assert domains == {"local", "lan", "home.arpa", "localhost", "internal", "pi", "nodered.example.org"}
    networks = {str(tree.value) for tree in trees if isinstance(tree, x509.IPAddress)}
    assert networks == {
        *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "127.0.0.0/8", "100.64.0.0/10"),
        *("fc00::/7", "fe80::/10", "::1/128", "203.0.113.7/32"),
    }
    assert all(
        network.is_private or network == ip_network("100.64.0.0/10") for network in map(ip_network, networks)
    )
    with pytest.raises(x509.ExtensionNotFound):
        device_ca.certificate.extensions.get_extension_for_class(x509.NameConstraints)


@pytest.mark.parametrize("name", ["dev", "box", "tv", "Garden."])
def test_machine_named_like_a_top_level_domain_gets_no_subtree(now: datetime, p256: Key, name: str) -> None:
    """A root that may name `dev` may name all of .dev: so it may not, and dev.local is what remains."""
    ca = Authority.create_server("dev", [name, f"{name.strip('.')}.local"], now=now)
    assert not ca.covers(name)
    assert ca.covers(f"{name.strip('.')}.local")
    with pytest.raises(InvalidInput, match="may not name") as refused:
        server(ca, p256, now, names=[name])
    assert f"{name.lower().strip('.')}.local" in refused.value.hint


def test_device_is_named_by_uri_and_labelled_by_name(device_ca: Authority, p256: Key, now: datetime) -> None:
    """The SAN is https://<site>/device/<uuid>, the CN the name, and the fingerprint the identity."""
    leaf = device(device_ca, p256, now, site_host="PI.local.", name="Bart's phone")
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.UniformResourceIdentifier(f"https://pi.local/device/{DEVICE}")]
    assert common_name(leaf) == "Bart's phone"
    assert len(fingerprint(leaf)) == 64
    assert fingerprint(leaf) != fingerprint(device(device_ca, p256, now))


@pytest.mark.parametrize("name", ["ü" * 64, "📱" * 64, "日" * 64])
def test_common_name_is_cut_to_64_octets(device_ca: Authority, p256: Key, now: datetime, name: str) -> None:
    """64 characters of any script are a fine name; its label in the certificate is cut between characters."""
    label = common_name(device(device_ca, p256, now, name=name))
    assert name.startswith(label)
    assert 60 < len(label.encode()) <= 64


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("device_id", "not-a-uuid"),
        ("device_id", "0b7a1d4e/../x"),
        ("site_host", "pi.local/evil"),
        ("site_host", "*.local"),
        ("name", "phone\u202egnp"),
        ("name", ""),
    ],
)
def test_device_refuses_bad_names(device_ca: Authority, p256: Key, now: datetime, field: str, value: str) -> None:
    """Nothing that a person can name gets into a certificate unchecked."""
    with pytest.raises(InvalidInput):
        device(device_ca, p256, now, **{field: value})


def test_odd_keys_are_not_certified(device_ca: Authority, server_ca: Authority, now: datetime) -> None:
    """Ed25519, P-521, secp256k1 and RSA-1024 are refused by both kinds of certificate."""
    for key in (
        ed25519.Ed25519PrivateKey.generate(),
        ec.generate_private_key(ec.SECP521R1()),
        ec.generate_private_key(ec.SECP256K1()),
        rsa.generate_private_key(65537, 1024),
    ):
        with pytest.raises(InvalidInput, match="key"):
            device(device_ca, key, now)  # type: ignore[arg-type]
        with pytest.raises(InvalidInput, match="key"):
            server(server_ca, key, now)  # type: ignore[arg-type]


def test_ca_without_its_key_can_be_shown_not_used(device_ca: Authority, p256: Key, now: datetime) -> None:
    """An Authority without key asks for the passphrase instead of issuing."""
    locked = Authority(device_ca.certificate)
    with pytest.raises(PassphraseNeeded):
        device(locked, p256, now)


def test_ca_with_a_foreign_key_is_refused(device_ca: Authority, p256: Key) -> None:
    """A key that does not belong to the certificate would issue what nobody accepts."""
    with pytest.raises(InvalidInput, match="belong together"):
        Authority(device_ca.certificate, p256)


def test_leaf_is_no_authority(device_ca: Authority, p256: Key, now: datetime) -> None:
    """A leaf with its own key cannot be used to issue."""
    with pytest.raises(InvalidInput, match="no CA"):
        Authority(device(device_ca, p256, now), p256)


def test_ca_key_is_not_in_the_representation(device_ca: Authority) -> None:
    """Printing an Authority, as a log or a traceback might, shows no key."""
    assert "key" not in repr(device_ca).lower()


def test_two_sites_of_one_name_have_distinct_cas(now: datetime) -> None:
    """Two homes whose machine is called pi, or one set up twice, can be told apart in a trust store."""
    subjects = {Authority.create_device("pi", now=now).certificate.subject for _ in range(3)}
    subjects |= {Authority.create_server("pi", ["pi"], now=now).certificate.subject for _ in range(3)}
    assert len(subjects) == 6


@pytest.mark.parametrize("site", ["x" * 300, "Bücher & Söhne", "", "ü" * 100])
def test_any_plain_site_label_fits(now: datetime, site: str) -> None:
    """The label is cut so that the CA's common name keeps to 64 octets."""
    assert len(common_name(Authority.create_device(site, now=now).certificate).encode()) <= 64


def test_site_label_with_hidden_characters_is_refused(now: datetime) -> None:
    """Control and bidirectional characters do not reach a CA's subject."""
    with pytest.raises(InvalidInput, match="U\\+202E"):
        Authority.create_device("pi\u202e", now=now)


def test_given_key_is_used_and_checked(now: datetime, rsa2048: Key) -> None:
    """A CA can be made with a key of the caller's, under the same limits as any other."""
    ca = Authority.create_device("pi", now=now, key=rsa2048)
    assert ca.certificate.public_key() == rsa2048.public_key()
    with pytest.raises(InvalidInput, match="key"):
        Authority.create_device("pi", now=now, key=ed25519.Ed25519PrivateKey.generate())  # type: ignore[arg-type]


def test_public_ipv6_address_given_is_covered_alone(now: datetime) -> None:
    """An own public IPv6 address is permitted as a /128, not its network."""
    ca = Authority.create_server("pi", ["2001:db8::7"], now=now)
    assert ca.covers(IPv6Address("2001:db8::7"))
    assert not ca.covers("2001:db8::8")


def test_device_id_may_be_any_spelling_of_a_uuid(device_ca: Authority, now: datetime) -> None:
    """Upper case is normalised, so that one device has one URI."""
    uuid = uuid4()
    leaf = device(device_ca, generate_key(), now, device_id=str(uuid).upper())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.UniformResourceIdentifier(f"https://pi.local/device/{uuid}")]


def test_clock_without_battery_still_makes_a_site(p256: Key) -> None:
    """A Raspberry Pi that believes it is 1970 makes a CA and certificates that are valid by its own clock."""
    now = datetime(1970, 1, 1, tzinfo=UTC)
    leaf = device(Authority.create_device("pi", now=now), p256, now)
    assert leaf.not_valid_before_utc <= now < leaf.not_valid_after_utc
