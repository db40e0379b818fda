"""Enrolment links in the store: who may have one, who may use it, once."""

from __future__ import annotations

import subprocess
import sys
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from tests.support.home import small_site

from redlatch.enrolment import Refusal
from redlatch.errors import Conflict, InvalidInput, NotFound
from redlatch.operations import devices, links, service, service_key
from redlatch.operations.links import LinkRefused, TrustNeeded, Wanted
from redlatch.operations.site import Site
from redlatch.pki.authority import Authority
from redlatch.pki.certificates import certificate_pem
from redlatch.pki.keys import generate_key, private_key_pem

HOME = "192.168.1.20"
AWAY = "203.0.113.9"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = small_site(tmp_path)
    with closing(site.store):
        yield replace(site, insist=True)  # its only device comes and goes


def invite(site: Site, name: str = "Bart's phone", **told: Any) -> links.Invited:
    role = told.pop("role", "user")
    return links.invite(site, [Wanted(name, role, told.pop("owner", None))], **({"trust_lan": True} | told))[0]


def redeem(site: Site, made: links.Invited, **told: Any) -> links.Redeemed:
    return links.redeem(site, made.token, **({"peer": HOME, "by_page": True} | told))


def later(site: Site, **time: float) -> Site:
    return replace(site, clock=lambda: datetime.now(UTC) + timedelta(**time))


@pytest.fixture
def made_public(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Gives console and enrolment a certificate that this machine's roots vouch for."""

    def make() -> None:
        authority = Authority.create_server(str(uuid.uuid4()), ["attic.local"], now=datetime.now(UTC))
        key = generate_key("p256")
        leaf = authority.issue_server(key.public_key(), ["attic.local"], [], now=datetime.now(UTC))
        roots = tmp_path / "roots.pem"
        roots.write_bytes(certificate_pem(authority.certificate))
        monkeypatch.setenv("SSL_CERT_FILE", str(roots))
        cert, private = tmp_path / "cert.pem", tmp_path / "key.pem"
        cert.write_bytes(certificate_pem(leaf))
        private.write_bytes(private_key_pem(key, None))
        private.chmod(0o600)
        service.configure(site, server_files=(str(cert), str(private)))

    return make


def test_a_certificate_that_nobody_vouches_for_is_not_public(
    site: Site, made_public: Callable[[], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What counts is whether a device would accept it, not that the operator named files."""
    made_public()
    (tmp_path / "none.pem").write_bytes(
        certificate_pem(Authority.create_device("x" * 36, now=datetime.now(UTC)).certificate)
    )
    assert links.public(site)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    service_key._trusted_names.cache_clear()
    assert not links.public(site)
    with pytest.raises(TrustNeeded):
        invite(site, trust_lan=False)


def test_a_link_makes_its_device_once(site: Site) -> None:
    made = invite(site, owner="Bart")
    done = redeem(site, made)
    assert (done.issued.device.name, done.issued.device.role, done.issued.device.owner) == (
        "Bart's phone",
        "user",
        "Bart",
    )
    assert done.issued.key is not None
    assert (done.link.used_from, done.link.fingerprint) == (HOME, done.issued.fingerprint)
    with pytest.raises(LinkRefused) as refused:
        redeem(site, made)
    assert refused.value.refusal is Refusal.USED
    assert len(devices.show(site, "Bart's phone").certificates) == 1


def test_of_two_hundred_at_once_one_gets_a_certificate(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """200 threads that have all found the link good, and only then go on: one certificate, one device."""
    made = invite(site)
    together, order = threading.Barrier(200), devices.order

    def ordered(*arguments: Any, **named: Any) -> devices.Order:
        together.wait(60)
        return order(*arguments, **named)

    monkeypatch.setattr(devices, "order", ordered)

    def attempt(number: int) -> str:
        try:
            redeem(site, made, peer=f"192.168.1.{number % 250 + 1}")
        except LinkRefused as error:
            return error.refusal.value
        return "in"

    with ThreadPoolExecutor(200) as pool:
        outcomes = Counter(pool.map(attempt, range(200)))
    assert outcomes == {"in": 1, "already-used": 199}
    assert len(devices.show(site, "Bart's phone").certificates) == 1
    with site.store.read() as view:
        assert view.verify_audit().ok
        kinds = Counter(entry.event.kind for entry in view.audit_events())
    assert (kinds["link.redeemed"], kinds["device.added"], kinds["certificate.issued"]) == (1, 1, 1)


def test_of_processes_at_once_one_gets_a_certificate(site: Site) -> None:
    """The same from several processes: what decides is in the store, not in one of them."""
    made = invite(site)
    program = (
        "import sys; from pathlib import Path; from redlatch import bootstrap\n"
        "from redlatch.operations import links; from redlatch.settings import from_environment\n"
        "site = bootstrap.open_site(from_environment(Path(sys.argv[1]), {}), actor='test')\n"
        "sys.stdin.readline()\n"
        "try: links.redeem(site, sys.argv[2], peer='127.0.0.1', by_page=True); print('in')\n"
        "except links.LinkRefused as error: print(error.refusal.value)\n"
    )
    arguments = [sys.executable, "-c", program, str(site.settings.home), made.token]
    running = [
        subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(6)
    ]
    for one in running:
        assert one.stdin is not None
        one.stdin.write("\n")
        one.stdin.flush()
    outcomes = Counter(one.communicate(timeout=60)[0].strip() for one in running)
    assert outcomes == {"in": 1, "already-used": 5}


def test_a_link_for_a_device_that_there_is_gives_it_a_further_key(site: Site) -> None:
    """Its role and owner stay, whatever the link was asked to say."""
    devices.add(site, "Bart's phone", role="viewer", owner="Bart")
    made = invite(site, role="thing")
    assert made.link.role == "viewer"
    redeem(site, made)
    shown = devices.show(site, "Bart's phone")
    assert (shown.device.role, len(shown.certificates)) == ("viewer", 2)


def test_a_further_key_is_for_that_device_and_not_for_its_name(
    site: Site, made_public: Callable[[], None]
) -> None:
    """Revoked and added anew under the same name meanwhile, it is another device: the link opens nothing."""
    devices.add(site, "Bart's phone", role="admin")
    made_public()
    made = invite(site)
    devices.revoke(site, "Bart's phone")
    devices.add(site, "Bart's phone", role="owner")
    with pytest.raises(Conflict, match="is revoked already"):
        redeem(site, made)
    assert len(devices.show(site, "Bart's phone").certificates) == 1
    assert links.open_links(site) == (made.link,)  # nothing was used up


def test_a_name_taken_meanwhile_uses_nothing_up(site: Site) -> None:
    made = invite(site)
    devices.add(site, "bart's PHONE")
    with pytest.raises(Conflict, match="exists already"):
        redeem(site, made)
    devices.revoke(site, "Bart's phone")
    assert redeem(site, made).issued.device.name == "Bart's phone"


@pytest.mark.parametrize(
    ("seconds", "refusal"), [(14 * 60 + 50, None), (15 * 60 + 1, Refusal.EXPIRED), (-3600, None)]
)
def test_a_link_ends_with_its_time(site: Site, seconds: float, refusal: Refusal | None) -> None:
    made = invite(site)
    if refusal is None:
        assert redeem(later(site, seconds=seconds), made)
        return
    with pytest.raises(LinkRefused) as refused:
        redeem(later(site, seconds=seconds), made)
    assert refused.value.refusal is refusal


def test_a_clock_that_falls_back_opens_no_link_again(site: Site) -> None:
    """The newest audit event is the earliest that it can be."""
    made = invite(site)
    devices.add(later(site, hours=1), "Another")  # an event an hour from now
    with pytest.raises(LinkRefused) as refused:
        redeem(site, made)
    assert refused.value.refusal is Refusal.EXPIRED
    assert links.open_links(site) == ()


def test_a_withdrawn_link_opens_nothing(site: Site) -> None:
    made = invite(site)
    assert links.withdraw(site, made.link.id).withdrawn_at is not None
    with pytest.raises(LinkRefused) as refused:
        redeem(site, made)
    assert refused.value.refusal is Refusal.WITHDRAWN
    with pytest.raises(Conflict, match="withdrawn already"):
        links.withdraw(site, made.link.id)
    with pytest.raises(NotFound):
        links.withdraw(site, 99)


def test_a_used_link_is_not_withdrawn(site: Site) -> None:
    made = invite(site)
    redeem(site, made)
    with pytest.raises(Conflict, match="used already") as error:
        links.withdraw(site, made.link.id)
    assert "revoke" in error.value.hint


@pytest.mark.parametrize("token", ["", "a" * 26, "a" * 10_000, "\ud800", "' OR 1=1 --"])
def test_a_token_that_nobody_was_given_is_wrong(site: Site, token: str) -> None:
    invite(site)
    with pytest.raises(LinkRefused) as refused:
        links.redeem(site, token, peer=HOME, by_page=True)
    assert refused.value.refusal is Refusal.WRONG


def test_neither_store_nor_trail_holds_the_token(site: Site) -> None:
    made = invite(site)
    redeem(site, made)
    found = b"".join(file.read_bytes() for file in site.settings.authority.rglob("redlatch.db*"))
    assert made.token.encode() not in found.lower()
    assert b"link.made" in found


@pytest.mark.parametrize("peer", [AWAY, "2001:db8::9", "nonsense", ""])
def test_a_link_for_the_network_opens_nothing_from_elsewhere(site: Site, peer: str) -> None:
    made = invite(site)
    with pytest.raises(LinkRefused) as refused:
        redeem(site, made, peer=peer)
    assert refused.value.refusal is Refusal.AWAY
    assert redeem(site, made, peer="::ffff:192.168.1.20")


def test_a_link_for_elsewhere_opens_from_anywhere(site: Site, made_public: Callable[[], None]) -> None:
    made_public()
    made = invite(site, remote=True)
    assert made.link.expires_at - made.link.created_at == timedelta(hours=24)
    assert redeem(site, made, peer=AWAY)


def test_a_link_for_command_lines_is_refused_to_pages(site: Site) -> None:
    """And looking at it from a page says so, without using it up."""
    made = invite(site, role="owner", pinned=True, trust_lan=False)
    for by_page in (True, True, False):
        if by_page:
            with pytest.raises(LinkRefused) as refused:
                redeem(site, made)
            assert refused.value.refusal is Refusal.PINNED
        else:
            assert redeem(site, made, by_page=False).issued.device.role == "owner"


def test_without_a_known_certificate_trust_is_asked_for_before_there_is_a_link(
    site: Site, made_public: Callable[[], None]
) -> None:
    with pytest.raises(TrustNeeded, match="could take the link"):
        invite(site, trust_lan=False)
    assert links.list_links(site) == ()
    made_public()
    assert invite(site, trust_lan=False)


@pytest.mark.parametrize("role", ["owner", "admin", "boss"])
def test_a_link_that_makes_an_owner_or_admin_needs_more_than_trust(
    site: Site, role: str, made_public: Callable[[], None]
) -> None:
    """Roles of the operator's own that are like these two included."""
    from redlatch.operations import roles

    roles.add(site, "boss", like="admin")
    with pytest.raises(Conflict, match="is not safe here"):
        invite(site, role=role)
    devices.add(site, "Ada's laptop", role=role)
    with pytest.raises(Conflict, match="is not safe here"):
        invite(site, "Ada's laptop", role="user")  # a further key for one that is
    assert links.list_links(site) == ()
    assert invite(site, role=role, pinned=True)
    made_public()
    assert invite(site, "Another", role=role, trust_lan=False)


def test_who_compares_a_fingerprint_may_make_an_owner_on_that_port_only(site: Site) -> None:
    """Not at the service, nor where another link is served: there it is as unknown as a token nobody was given."""
    made = invite(site, role="owner", trust_lan=False, compared=True)
    other = invite(site, "Another")
    for told in ({}, {"only": other.link.id}):
        with pytest.raises(LinkRefused) as caught:
            redeem(site, made, **told)
        assert caught.value.refusal is Refusal.WRONG
    with pytest.raises(LinkRefused):
        redeem(site, other, only=made.link.id)
    assert redeem(site, made, only=made.link.id).issued.device.role == "owner"
    assert redeem(site, other).issued.device.role == "user"


def test_a_link_for_elsewhere_needs_a_known_certificate(site: Site) -> None:
    with pytest.raises(Conflict, match="outside your network"):
        invite(site, remote=True)
    assert invite(site, remote=True, pinned=True)


def test_many_or_none(site: Site) -> None:
    """One bad name among fifty, and there is no link at all."""
    good = [Wanted(f"Sensor {number}", "thing") for number in range(49)]
    for bad, error in (
        (Wanted("", "thing"), InvalidInput),
        (Wanted("x\n acl", "thing"), InvalidInput),
        (Wanted("Sensor 7", "thing"), Conflict),
        (Wanted("Sensor 50", "nonsense"), InvalidInput),
        (Wanted("Sensor 50", "admin"), Conflict),
    ):
        with pytest.raises(error):
            links.invite(site, [*good, bad], trust_lan=True)
    assert links.list_links(site) == ()
    made = links.invite(site, good, trust_lan=True)
    assert len({one.token for one in made}) == len(links.open_links(site)) == 49


@pytest.mark.parametrize(
    "told",
    [
        {"valid": timedelta(seconds=29)},
        {"valid": timedelta(days=8)},
        {"valid": timedelta(seconds=-1)},
        {"days": 0},
        {"days": 366},
    ],
)
def test_times_that_make_no_sense_are_refused(site: Site, told: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        invite(site, **told)


def test_a_csr_leaves_the_key_with_the_device(site: Site, tmp_path: Path) -> None:
    key, csr = tmp_path / "key.pem", tmp_path / "csr.pem"
    subprocess.run(
        ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-keyout", key, "-out", csr, "-subj", "/CN=x"],
        check=True, capture_output=True,
    )  # fmt: skip
    made = invite(site)
    with pytest.raises(InvalidInput):
        redeem(site, made, csr=b"nonsense")
    done = redeem(site, made, csr=csr.read_bytes())  # the link was still good
    assert done.issued.key is None


def test_the_pages_word_is_recorded_once(site: Site) -> None:
    made = invite(site)
    redeem(site, made)
    for _ in range(2):
        links.confirmed(site, made.link.id)
    with site.store.read() as view:
        assert [entry.event.kind for entry in view.audit_events()].count("link.confirmed") == 1
        assert view.verify_audit().ok
    assert links.state(links.list_links(site)[0], site.clock()) == "confirmed"


def test_what_came_of_a_link_is_shown_for_a_week(site: Site) -> None:
    invite(site)
    assert links.list_links(later(site, days=6))
    assert links.list_links(later(site, days=8)) == ()
    invite(later(site, days=8), "Another")  # and then it is forgotten
    with site.store.read() as view:
        assert [one.name for one in view.links(datetime(2000, 1, 1, tzinfo=UTC))] == ["Another"]


def test_a_device_by_its_id_is_that_one_and_no_other(site: Site) -> None:
    """What a page named is revoked, not what has its name by now; twice is said in words."""
    first = devices.add(site, "Lamp").device
    devices.revoke(site, UUID(first.id))
    second = devices.add(site, "Lamp").device
    with pytest.raises(Conflict, match="'Lamp' is revoked already"):
        devices.revoke(site, UUID(first.id))
    assert devices.show(site, UUID(first.id)).device.revoked_at is not None
    assert devices.show(site, "Lamp").device.id == second.id
    with pytest.raises(NotFound):
        devices.revoke(site, UUID(int=0))
