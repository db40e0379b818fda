"""Authorities that come, take over and end, at a real Node-RED and a real HAProxy of one site at once."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.integration.operations.gateways import Both, Key
from tests.support import foreign_cas as other
from tests.support.clients import Connection, Refused, WebSocket, context, request
from tests.support.running_gateway import upstream
from tests.support.wait import until

from redlatch.errors import Conflict
from redlatch.operations import adopting, authorities, devices, importing, rotation, traffic
from redlatch.operations.site import Site
from redlatch.pki import certificates

ENGINES = ("node-red", "gateway")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """One site with both engines running; each test leaves one device CA, and one server CA."""
    made = Both(tmp_path_factory.mktemp("ca"))
    made.up()
    made.key("owner", role="owner")
    with made.node_red(), upstream(made.behind), made.run():
        yield made


def ports(house: Both) -> tuple[int, int]:
    return house.node_red_port, house.port


def gets_in(house: Both, key: Any) -> list[bool]:
    """Whether it is served, by Node-RED and by the gateway, on connections of their own."""
    found = []
    for port in ports(house):
        try:
            found.append(request(port, "GET", "/", key).status == 200)
        except Refused:
            found.append(False)
    return found


def everybody_in(house: Both, *keys: Any) -> None:
    """Each is served by both; a gateway that has to reload takes a moment to say so."""
    until(lambda: all(all(gets_in(house, key)) for key in keys), seconds=15, what="all keys at both engines")


def file_of(house: Both, issued: devices.Issued) -> Key:
    path = house.root / f"{issued.fingerprint[:16]}.pem"
    assert issued.key is not None
    from redlatch.pki.bundles import pem_files

    files = pem_files(issued.key, issued.certificate, ())
    path.write_bytes(files["cert.pem"] + files["key.pem"])
    return Key(path, issued)


def password(_: Path) -> bytes:
    return other.PASSWORD.encode()


def in_force(force: Any) -> bool:
    return bool(force.state == "in-force" and not force.note)


def settle(site: Site) -> None:
    """Ends a rotation, whoever has not moved."""
    if rotation.progress(site, "device").stage != "none":
        rotation.end(site, "device", force=True)


def test_old_and_new_devices_in_overlap_and_only_new_ones_after_it(house: Both) -> None:
    """Both get in while one takes over; at its end the old one's new, kept and resumed connections are dead."""
    site = house.open()
    phone, stays = house.key("phone"), house.key("lamp")
    done = rotation.begin(site, "device")
    assert in_force(done.force)
    tablet = house.key("tablet")
    assert tablet.issued.device_ca != phone.issued.device_ca
    everybody_in(house, phone, tablet)
    with pytest.raises(Conflict, match="lamp, owner, phone"):
        rotation.end(site, "device")
    assert gets_in(house, phone) == [True, True]

    new = file_of(house, devices.renew(site, "phone"))
    left = rotation.progress(site, "device")
    assert ([one.name for one in left.remaining], left.moved) == (["lamp", "owner"], 2)
    everybody_in(house, new)
    kept = {port: context(phone, tls="1.2") for port in ports(house)}
    sessions = {}
    for port in ports(house):
        with Connection(port, with_context=kept[port]) as first:
            assert first.request("GET", "/").status == 200
            sessions[port] = first.socket.session
        with Connection(port, with_context=kept[port], session=sessions[port]) as again:  # the control
            assert again.request("GET", "/").status == 200
            assert again.socket.session_reused
    sockets = [WebSocket(port, "/comms", phone) for port in ports(house)]
    assert all(one.is_open for one in sockets)

    done = rotation.end(site, "device", force=True)
    assert in_force(done.force)
    assert (done.revoked, done.cut) == (3, ("lamp", "owner"))
    assert [one.is_closed() for one in sockets] == [True, True]
    assert gets_in(house, phone) == gets_in(house, stays) == [False, False]
    for port in ports(house):
        with pytest.raises(Refused), Connection(port, with_context=kept[port], session=sessions[port]) as dead:
            dead.request("GET", "/")
    assert gets_in(house, new) == gets_in(house, tablet) == [True, True]
    assert [one.key for one in authorities.listed(site)[0] if one.kind == "device"] == ["removed", "here"]


def test_at_once_nobody_of_the_old_one_gets_in(house: Both) -> None:
    """`--now`: a new CA, every certificate of the old one dead in the same moment, and the next key is good."""
    site = house.open()
    before = house.key("stolen")
    assert gets_in(house, before) == [True, True]
    done = rotation.now(site)
    assert in_force(done.force)
    assert "stolen" in done.cut
    assert gets_in(house, before) == [False, False]
    everybody_in(house, house.key("rescue", role="owner"))


def test_a_companys_ca_gives_keys_and_its_other_certificates_stay_out(house: Both, tmp_path: Path) -> None:
    """A step-ca intermediate below a root: ours gets in; the company's own leaf passes TLS and is refused."""
    site = house.open()
    root, below, key, company_root, company = other.step(tmp_path)
    plan = importing.plan(site, "device", [root, below, key], password)
    assert importing.carry_out(site, plan).force.state == "in-force"
    everybody_in(house, house.key("by company"))
    foreign = other.make(tmp_path, "foreign", other.LEAF, by=company)
    aside = other.make(tmp_path, "aside", other.LEAF, by=company_root)
    for one in (foreign, aside):
        assert gets_in(house, one) == [False, False]
    fingerprint = certificates.fingerprint(certificates.load_certificates(foreign.cert.read_bytes())[0])

    def told() -> bool:
        """Refused for not being on the list, not for its chain: the trust is there."""
        seen = [one for one in traffic.accesses(site, 200) if one.fingerprint == fingerprint[:12]]
        return {one.reason for one in seen} == {"unknown-certificate"}

    until(told, what="why the foreign certificate was refused")
    settle(site)


def test_a_request_signed_elsewhere(house: Both, tmp_path: Path) -> None:
    """The key is made here and never leaves; what was signed takes over, and its certificates get in."""
    site = house.open()
    company = other.make(tmp_path, "company", other.CA)
    (tmp_path / "our.csr").write_bytes(importing.request(site, "device"))
    other.signed(tmp_path, tmp_path / "our.csr", tmp_path / "our.crt", other.BELOW, by=company)
    plan = importing.plan(site, "device", [company.cert, tmp_path / "our.crt"], password)
    importing.carry_out(site, plan)
    assert authorities.requests(site) == []
    everybody_in(house, house.key("by request"))
    settle(site)


def test_certificates_from_elsewhere_are_adopted_one_by_one(house: Both, tmp_path: Path) -> None:
    """One of a company's gets in, its neighbours do not; revoked it is out, and so is its issuer once nobody has
    it.
    """
    site = house.open()
    company = other.make(tmp_path, "company", other.CA, key=other.RSA)
    card = other.make(tmp_path, "card", other.LEAF, by=company, key=other.RSA)
    neighbour = other.make(tmp_path, "neighbour", other.LEAF, by=company)
    done = adopting.adopt(site, "card", [card.cert, company.cert], password)
    assert done.new_anchor
    assert in_force(done.force)
    everybody_in(house, card)
    assert gets_in(house, neighbour) == [False, False]
    assert not adopting.adopt(
        site, "neighbour", [neighbour.cert], password
    ).new_anchor  # its issuer is known by now
    everybody_in(house, neighbour)
    assert in_force(devices.revoke(replace(site, insist=True), "card").force)
    assert gets_in(house, card) == [False, False]
    issuer = certificates.fingerprint(certificates.load_certificates(company.cert.read_bytes())[0])
    with pytest.raises(Conflict, match="neighbour"):
        adopting.end(site, issuer)
    assert adopting.end(site, issuer[:8], force=True).cut == ("neighbour",)
    assert gets_in(house, neighbour) == [False, False]


def test_a_new_server_root_takes_over(house: Both) -> None:
    """First it is only handed out; then both engines show certificates of it; then the old one has no key."""
    site = house.open()
    before = rotation.begin(site, "server").progress
    assert before.stage == "handing-out"
    phone = house.key("trusting")
    old, new = phone.issued.server_cas
    assert trusted_by(house, old) == [True, True]
    assert trusted_by(house, new) == [False, False]
    with pytest.raises(Conflict, match="old root"):
        rotation.end(site, "server")
    rotation.switch(site)
    until(lambda: trusted_by(house, new) == [True, True], what="certificates of the new root at both engines")
    assert trusted_by(house, old) == [False, False]
    assert file_of(house, devices.renew(site, "trusting")).issued.server_cas == (new, old)
    rotation.end(site, "server")
    assert devices.renew(site, "trusting").server_cas == (new,)
    assert [one.key for one in authorities.listed(site)[0] if one.kind == "server"] == ["removed", "here"]


def trusted_by(house: Both, root: Any) -> list[bool]:
    """Whether a client with this root alone recognises Node-RED and the gateway."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.load_verify_locations(cadata=certificates.certificate_pem(root).decode())
    found = []
    for port in ports(house):
        try:
            # without a certificate of ours nothing is served; the handshake in TLS 1.3 is over before that
            with Connection(port, with_context=made, server_name="localhost"):
                found.append(True)
        except Refused as error:
            if "CERTIFICATE_VERIFY_FAILED" not in str(error):
                raise
            found.append(False)
    return found
