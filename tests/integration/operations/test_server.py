"""Names, addresses and the server's certificate: kept right, and in use without a restart."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from tests.integration.operations.conftest import House
from tests.support.clients import request
from tests.support.wait import until

from redlatch import bootstrap
from redlatch.errors import Conflict, InvalidInput, NotFound
from redlatch.operations import machine, server
from redlatch.operations.status import status
from redlatch.pki import certificates, keys
from redlatch.pki.authority import Authority


def served(port: int, device_file: object) -> x509.Certificate:
    """The certificate that the port presents now."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(str(device_file))
    with socket.create_connection(("127.0.0.1", port)) as raw, context.wrap_socket(raw) as tls:
        der = tls.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der)


def names_in(leaf: x509.Certificate) -> list[str]:
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.DNSName)


def test_a_new_name_is_served_and_admitted_without_a_restart(newest: House) -> None:
    """`name add` puts it into the certificate and admits requests for it; `name remove` ends that."""
    newest.up()
    phone = newest.key("phone", role="owner")
    with newest.node_red():
        host = {"Host": f"garage.lan:{newest.port}"}
        assert request(newest.port, "GET", "/", phone, headers=host).status == 403
        server.add_name(newest.open(), "garage.lan")
        assert request(newest.port, "GET", "/", phone, headers=host).status == 200
        until(lambda: "garage.lan" in names_in(served(newest.port, phone.cert_file)), what="the new certificate")
        server.remove_name(newest.open(), "garage.lan")
        assert request(newest.port, "GET", "/", phone, headers=host).status == 403
    with pytest.raises(NotFound):
        server.remove_name(newest.open(), "garage.lan")


def test_a_name_outside_the_constraints_needs_a_new_root(newest: House) -> None:
    """The server CA may name private names and the given ones only; another one is refused, or makes a new CA."""
    newest.up(names=("pi.example.org",))
    site = newest.open()
    before = server.authority(site, "server", signing=False).certificate
    assert "pi.example.org" in names_in(server.published_leaf(site) or pytest.fail("no certificate"))
    with pytest.raises(Conflict, match="may not name"):
        server.add_name(site, "bank.example.com")
    assert server.authority(site, "server", signing=False).certificate == before
    server.add_name(site, "other.example.com", new_root=True)
    assert server.authority(site, "server", signing=False).certificate != before
    assert "other.example.com" in names_in(server.published_leaf(site) or pytest.fail("no certificate"))


def test_refresh_changes_nothing_when_all_is_well(newest: House) -> None:
    """A daily timer leaves a good certificate alone."""
    newest.up()
    leaf = server.published_leaf(newest.open())
    assert server.refresh(newest.open()).changes == ()
    assert server.published_leaf(newest.open()) == leaf


def test_refresh_renews_before_the_end(newest: House) -> None:
    """Thirty days before its end the server certificate is replaced, with a new key."""
    newest.up()
    later = replace(newest.open(), clock=lambda: bootstrap.now() + timedelta(days=370))
    leaf = server.published_leaf(later)
    assert server.refresh(later).changes != ()
    new = server.published_leaf(later)
    assert new is not None
    assert leaf is not None
    assert new.public_key() != leaf.public_key()
    assert new.not_valid_after_utc > leaf.not_valid_after_utc + timedelta(days=300)


def test_a_new_address_gets_into_the_certificate(newest: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new DHCP address needs no new root: the next refresh names it."""
    newest.up()
    site = newest.open()
    root = server.authority(site, "server", signing=False).certificate
    moved = (*machine.private_addresses(), ipaddress.ip_address("192.168.77.9"))
    monkeypatch.setattr(machine, "private_addresses", lambda: moved)
    assert any("192.168.77.9" in change for change in server.refresh(site).changes)
    assert server.authority(site, "server", signing=False).certificate == root


def test_a_certificate_of_the_operators_own(newest: House) -> None:
    """`--server-cert` is served, its names are admitted, its renewal is taken over without a restart."""
    outside = Authority.create_server("outside", ["pi.example.org"], now=bootstrap.now())
    cert, key = newest.root / "fullchain.pem", newest.root / "privkey.pem"

    def write(days: int) -> None:
        secret = keys.generate_key("p256")
        leaf = outside.issue_server(secret.public_key(), ["pi.example.org"], now=bootstrap.now(), days=days)
        cert.write_bytes(certificates.certificate_pem(leaf) + certificates.certificate_pem(outside.certificate))
        key.write_bytes(keys.private_key_pem(secret, None))

    write(60)
    newest.up(server_cert=cert, server_key=key)
    phone = newest.key("phone", role="owner")
    assert phone.issued.server_cas == ()
    with newest.node_red():
        assert names_in(served(newest.port, phone.cert_file)) == ["pi.example.org"]
        assert request(newest.port, "GET", "/", phone, headers={"Host": "pi.example.org"}).status == 200
        assert request(newest.port, "GET", "/", phone, headers={"Host": "example.org"}).status == 403
        old = served(newest.port, phone.cert_file)
        write(90)
        server.refresh(newest.open())
        until(lambda: served(newest.port, phone.cert_file) != old, what="the renewed certificate")
        key.write_bytes(keys.private_key_pem(keys.generate_key("p256"), None))
        with pytest.raises(InvalidInput, match="do not belong together"):
            server.refresh(newest.open())
        assert request(newest.port, "GET", "/", phone).status == 200
    standing = status(newest.open(), newest.environ)
    assert standing.locked
