"""Where console and enrolment listen, and the certificate that they show: never the one that flows can read."""

from __future__ import annotations

import os
import ssl
import stat
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography import x509
from tests.integration.operations.conftest import House
from tests.support.site import odd_certificate

from redlatch import bootstrap
from redlatch.cli.root import cli
from redlatch.engines.nodered import publish
from redlatch.errors import FileProblem, InvalidInput, RedlatchError, UsageError
from redlatch.operations import machine, server, service, service_key
from redlatch.operations.site import Site, changing, set_config
from redlatch.pki import certificates, keys
from redlatch.pki.authority import Authority


@pytest.fixture
def site(newest: House) -> Site:
    newest.up(names=("pi.example.org",))
    return newest.open()


@pytest.fixture
def outside() -> Authority:
    """An authority from elsewhere, as a public one is."""
    return Authority.create_server("outside", ["pi.example.org", "other.example.com"], now=bootstrap.now())


def issue(folder: Path, ca: Authority, name: str = "pi.example.org", days: int = 60) -> tuple[str, str]:
    """Certificate with chain, and key, as certbot leaves them."""
    key = keys.generate_key("p256")
    leaf = ca.issue_server(key.public_key(), [name], now=bootstrap.now(), days=days)
    cert_file, key_file = folder / f"{name}.pem", folder / f"{name}.key"
    cert_file.write_bytes(certificates.certificate_pem(leaf) + certificates.certificate_pem(ca.certificate))
    key_file.write_bytes(keys.private_key_pem(key, None))
    return str(cert_file), str(key_file)


def shown(site: Site) -> x509.Certificate:
    found = service_key.leaf(site)
    assert found is not None
    return found


def names_of(leaf: x509.Certificate) -> list[str]:
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.DNSName)


def kinds(site: Site) -> list[str]:
    with site.store.read() as view:
        return [entry.event.kind for entry in view.audit_events()]


# --- where it listens


def test_the_words_stand_for_addresses_of_this_machine() -> None:
    """loopback is this machine alone, lan its private addresses too and none of its public ones."""
    loopback, lan = service.addresses(["loopback"]), service.addresses(["lan"])
    assert loopback == ["127.0.0.1", "::1"][: 1 + machine.has_ipv6()]
    assert lan == [*loopback, *map(str, machine.private_addresses())]
    assert service.addresses(["192.168.1.20"]) == ["192.168.1.20"]


def test_a_change_is_recorded_with_what_it_was(site: Site) -> None:
    """It is in the configuration and in the audit trail, once; the same again changes nothing."""
    done = service.configure(site, console=["lan"], enrolment_port=8444)
    assert done.changes == (
        "console: lan, port 1881 (until now loopback, port 1881)",
        "enrolment: loopback, port 8444 (until now loopback, port 1882)",
    )
    present = site.config().service
    assert (present.console, present.enrolment, present.enrolment_port) == (("lan",), ("loopback",), 8444)
    assert service.configure(site, console=["lan"]).changes == ()
    assert kinds(site).count("service.changed") == 1
    assert done.force.state == "published"


@pytest.mark.parametrize(
    ("told", "kind", "words"),
    [
        ({"console_port": 0}, InvalidInput, "no port"),
        ({"enrolment_port": 65536}, InvalidInput, "no port"),
        ({"console_port": 1882}, InvalidInput, "both"),
        ({"console": ["0.0.0.0"]}, InvalidInput, "every address"),
        ({"console": ["::"]}, InvalidInput, "every address"),
        ({"console": ["203.0.113.9"]}, InvalidInput, "no address of this machine"),
        ({"enrolment": ["fe80::1%eth0"]}, InvalidInput, "no address of this machine"),
        ({"enrolment": ["everywhere; rm"]}, InvalidInput, "no address"),
        ({"console": ["lan", "127.0.0.1"]}, UsageError, "neither goes"),
        ({"console": []}, UsageError, "where to listen"),
    ],
)
def test_what_cannot_be_is_refused(
    told: dict[str, Any], kind: type[RedlatchError], words: str, site: Site
) -> None:
    """Nothing is recorded of it."""
    before = site.config()
    with pytest.raises(kind, match=words):
        service.configure(site, **told)
    assert site.config() == before


def test_node_reds_ports_are_not_for_the_service(site: Site, newest: House) -> None:
    """Neither its own nor the second one, and that is so the other way round too."""
    with pytest.raises(InvalidInput, match="Node-RED's"):
        service.configure(site, console_port=newest.port)
    with changing(site) as tx:
        set_config(tx, open_port=1890)
        tx.record("open-port.changed", old=None, new=1890)
    with pytest.raises(InvalidInput, match="Node-RED's"):
        service.configure(site, enrolment_port=1890)


def test_a_port_for_root_alone_is_warned_about(site: Site) -> None:
    """The service is not root; whoever wants port 443 hears it before."""
    first = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    assert bool(service.plan(site, console_port=443).warnings) == (first > 443)


# --- its own certificate


def test_the_service_has_a_key_of_its_own(site: Site) -> None:
    """Issued by the site's server CA for its names and addresses, closed to others, and not Node-RED's."""
    path = service.server_pem(site)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    ca = server.authority(site, "server", signing=False)
    shown(site).verify_directly_issued_by(ca.certificate)
    assert set(names_of(shown(site))) == set(site.config().hosts)
    node_red = server.published_leaf(site)
    assert node_red is not None
    assert shown(site).public_key() != node_red.public_key()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)  # key and certificate belong together
    recorded = kinds(site)
    first = path.read_bytes()
    assert service.server_pem(site).read_bytes() == first
    assert kinds(site) == recorded
    with site.store.read() as view:
        assert publish.snapshot_version(site.settings) == view.site().revision


@pytest.mark.parametrize("why", ["end", "name", "address", "garbled", "root"])
def test_it_is_renewed_when_it_is_time(why: str, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within 30 days of its end, for a new name or address, when it cannot be read, and for a new server CA."""
    service.server_pem(site)
    before = shown(site)
    match why:
        case "end":
            site = replace(site, clock=lambda: bootstrap.now() + timedelta(days=370))
        case "name":
            server.add_name(site, "garage.lan")
        case "address":
            import ipaddress

            moved = (*machine.private_addresses(), ipaddress.ip_address("192.168.77.9"))
            monkeypatch.setattr(machine, "private_addresses", lambda: moved)
        case "garbled":
            site.settings.service_pem.write_bytes(b"-----BEGIN")
        case "root":
            server.add_name(site, "other.example.com", new_root=True)
    service.server_pem(site)
    # Another root is no reason for another key: whoever pinned it would not know this service any more.
    assert (shown(site).public_key() == before.public_key()) is (why == "root")
    assert shown(site) != before
    if why == "name":
        assert "garage.lan" in names_of(shown(site))


def test_refresh_renews_it_and_makes_none_where_nobody_serves(newest: House, site: Site) -> None:
    """`redlatch refresh`, as the timer calls it."""

    def refresh() -> str:
        arguments = ["--home", str(site.settings.home), "refresh", "--json"]
        environ = {**newest.environ, "REDLATCH_HOME": ""}
        done = CliRunner(env=environ).invoke(cli, arguments, catch_exceptions=False)
        assert done.exit_code == 0
        return done.stdout

    refresh()
    assert not site.settings.service_pem.exists()
    service.server_pem(site)
    before = site.settings.service_pem.read_bytes()
    assert "console and enrolment" not in refresh()
    assert site.settings.service_pem.read_bytes() == before
    site.settings.service_pem.write_bytes(b"")
    assert "issued a certificate for console and enrolment" in refresh()
    assert b"PRIVATE KEY" in site.settings.service_pem.read_bytes()


# --- a certificate from elsewhere


def test_a_certificate_of_the_operators_is_copied_and_its_renewal_too(
    newest: House, site: Site, outside: Authority
) -> None:
    """With its chain; back to the site's own with OWN."""
    files = issue(newest.root, outside)
    service.configure(site, server_files=files)
    assert names_of(shown(site)) == ["pi.example.org"]
    assert site.settings.service_pem.read_bytes().count(b"BEGIN CERTIFICATE") == 2
    assert "server-certificate.adopted" in kinds(site)
    before = shown(site)
    issue(newest.root, outside, days=80)
    assert service_key.renew(site) == ["took over the certificate of console and enrolment"]
    assert shown(site) != before
    assert service_key.renew(site) == []
    service.configure(site, server_files=service.OWN)
    service.server_pem(site)
    assert set(names_of(shown(site))) == set(site.config().hosts)


def test_the_copy_serves_where_its_files_cannot_be_read(newest: House, site: Site, outside: Authority) -> None:
    """The service reads nothing of root's: what root copied serves, but not past its end, and not another's."""
    files = issue(newest.root, outside)
    service.configure(site, server_files=files)
    for file in files:
        Path(file).unlink()
    copied = shown(site)
    service.server_pem(site)
    assert shown(site) == copied
    late = replace(site, clock=lambda: bootstrap.now() + timedelta(days=61))
    with pytest.raises(FileProblem):
        service.server_pem(late)
    site.settings.service_pem.unlink()
    with pytest.raises(FileProblem):
        service.server_pem(site)


def test_certificates_that_cannot_be_used_are_refused(newest: House, site: Site, outside: Authority) -> None:
    """Another's key, another name, an end in the past, a missing file: the one that serves stays."""
    service.server_pem(site)
    before = site.settings.service_pem.read_bytes()
    cert, key = issue(newest.root, outside)
    foreign, foreign_key = issue(newest.root, outside, "other.example.com")
    past = newest.root / "past.pem"
    secret = keys.generate_key("p256")
    ended = odd_certificate(
        outside,
        secret,
        "pi.example.org",
        "0",
        end=timedelta(minutes=-1),
        purpose=x509.ExtendedKeyUsageOID.SERVER_AUTH,
    )
    past.write_bytes(certificates.certificate_pem(ended) + keys.private_key_pem(secret, None))
    for files, words in (
        ((cert, foreign_key), "belong together"),
        ((foreign, foreign_key), "none of this site's names"),
        ((str(past), str(past)), "expired"),
        ((cert, str(newest.root / "missing")), "cannot read"),
        ((key, key), "not a certificate"),
    ):
        with pytest.raises((InvalidInput, FileProblem), match=words):
            service.configure(site, server_files=files)
    assert site.config().service.server_files is None
    assert site.settings.service_pem.read_bytes() == before


def test_node_reds_key_is_not_for_the_console(newest: House, outside: Authority) -> None:
    """Flows read it, so the same key at the console would let them pass for it: refused, also in other files."""
    cert, key = issue(newest.root, outside)
    newest.up(names=("pi.example.org",), server_cert=Path(cert), server_key=Path(key))
    site = newest.open()
    copy = newest.root / "copy.key"
    copy.write_bytes(Path(key).read_bytes())
    for files in ((cert, key), (cert, str(copy))):
        with pytest.raises(InvalidInput, match="flows can read"):
            service.configure(site, server_files=files)


def test_public_is_what_other_devices_trust(
    newest: House, site: Site, outside: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tried with a handshake against this machine's roots: the site's own CA and a stranger's are not public."""
    service.server_pem(site)
    assert service_key.public_names(site) == ()
    service.configure(site, server_files=issue(newest.root, outside))
    assert service_key.public_names(site) == ()
    roots = newest.root / "roots.pem"
    roots.write_bytes(certificates.certificate_pem(outside.certificate))
    monkeypatch.setenv("SSL_CERT_FILE", str(roots))
    service_key._trusted_names.cache_clear()
    assert service_key.public_names(site) == ("pi.example.org",)
    own = server.authority(site, "server", signing=False)
    roots.write_bytes(certificates.certificate_pem(own.certificate))
    service.configure(site, server_files=service.OWN)
    service.server_pem(site)
    service_key._trusted_names.cache_clear()
    assert service_key.public_names(site) == ()  # in this machine's roots, and in no phone's


def test_a_key_that_node_reds_user_may_read_is_refused(newest: House, outside: Authority) -> None:
    """As root, which looks with that user's rights."""
    if os.geteuid() != 0:
        pytest.skip("needs root to look with another user's rights")
    newest.up(names=("pi.example.org",))
    site = newest.open()
    config = site.config()
    assert config.target is not None
    with changing(site) as tx:
        set_config(tx, target=replace(config.target, user="nobody", uid=65534, gid=65534))
        tx.record("site.changed", user="nobody")
    folder = Path("/var/tmp") / f"redlatch-key-{os.getpid()}"
    folder.mkdir(mode=0o755)
    try:
        files = issue(folder, outside)
        Path(files[1]).chmod(0o644)
        with pytest.raises(InvalidInput, match="nobody may read the key"):
            service.configure(site, server_files=files)
        Path(files[1]).chmod(0o600)
        assert service.configure(site, server_files=files).changes
    finally:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
