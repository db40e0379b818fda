"""What attackers do, by class: for each one accepted and one refused case against live HAProxy, 2.6 and 2.8.

COVERED names them, and a test here sees to it that they are there. The guard's list: test_guard_attacks.py.
"""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.integration.gateway.house import House, Live, gets_nothing, reason
from tests.support.clients import request
from tests.support.haproxy import PROGRAMS, Counting
from tests.support.running_gateway import accepts
from tests.support.wait import until

HERE = Path(__file__).parent
# class: (what is accepted, what is refused), each as "module: test", of this folder or of one beside it
COVERED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "1 resumption": (
        ("attacks_resumption: test_1_a_session_is_resumed",),
        (
            "attacks_resumption: test_1_a_revoked_device_resumes_nothing",
            "attacks_resumption: test_1_an_expired_entry_resumes_nothing",
            "attacks_resumption: test_1_a_foreign_certificate_stays_one",
            "attacks_resumption: test_1_a_stranger_resumes_in_silence",
            "attacks_resumption: test_1_across_the_open_port",
            "attacks_resumption: test_1_a_session_of_a_ca_that_is_gone",
        ),
    ),
    "2 a session without a certificate": (
        ("attacks_resumption: test_2_a_session_without_a_certificate",),
        (
            "attacks_resumption: test_2_a_session_without_a_certificate",
            "attacks_resumption: test_2_a_certificate_is_not_lent_to_a_session_without",
        ),
    ),
    "3 missing and broken files": (
        ("attacks: test_3_a_bad_file_while_it_runs",),
        (
            "attacks: test_3_a_bad_file_at_the_start",
            "attacks: test_3_a_bad_file_while_it_runs",
            "attacks: test_3_old_tables_let_nobody_in",
            "recovery: test_garbage_leaves_the_old_snapshot_in_force",
            "recovery: test_no_good_snapshot_at_the_start_refuses_everybody",
            "recovery: test_a_bad_certificate_stands_in_the_way_of_nothing",
        ),
    ),
    "4 server name and host": (
        ("attacks_certificates: test_4_the_server_name_decides_nothing",),
        (
            "attacks_certificates: test_4_one_http2_connection_for_several_names",
            "attacks_certificates: test_4_two_names_in_one_request",
        ),
    ),
    "5 bad certificates": (
        ("attacks_certificates: test_5_a_chain_of_an_own_device",),
        (
            "attacks_certificates: test_5_a_bad_certificate_gets_nothing",
            "attacks_certificates: test_5_a_bad_certificate_is_told_why",
            "attacks_certificates: test_5_a_bad_certificate_is_no_better_than_none",
            "attacks_certificates: test_5_strangers_do_not_get_to_ask",
            "attacks_certificates: test_5_no_renegotiation",
        ),
    ),
    "6 what is open outlives its right": (
        ("attacks_open: test_6_what_is_open_ends",),
        (
            "attacks_open: test_6_what_is_open_ends",
            "attacks_open: test_6_expiry_by_the_clock",
            "attacks_open: test_6_expiry_without_anybody_who_cuts",
            "attacks_open: test_6_the_later_of_clock_and_snapshot",
            "attacks_open: test_6_a_right_that_went_is_gone_on_an_open_connection",
            "live: test_old_workers_too",
        ),
    ),
    "7 names in certificates": (
        ("attacks_identity: test_7_two_devices_of_one_name",),
        ("attacks_identity: test_7_a_borrowed_name_is_nobody",),
    ),
    "8 identity headers": (
        ("attacks_identity: test_8_what_others_would_read_does_not_change_who_it_is",),
        (
            "attacks_identity: test_8_what_a_client_says_of_itself_never_arrives",
            "attacks_identity: test_8_a_name_or_value_that_ends_a_line",
            "attacks_identity: test_8_trailers_are_no_headers",
        ),
    ),
    "9 around the gateway": (
        ("operations/test_gateway_standing: test_a_node_red_that_others_reach_is_not_locked",),
        (
            "operations/test_gateway_standing: test_another_machines_node_red_is_not_called_locked",
            "attacks: test_9_plain_http_gets_nothing",
        ),
    ),
    "10 paths": (
        ("attacks_paths: test_10_a_webhook_and_nothing_beside_it",),
        (
            "attacks_paths: test_10_a_webhook_and_nothing_beside_it",
            "attacks_paths: test_10_bytes_that_do_not_belong_in_a_target",
            "attacks_paths: test_10_other_forms_than_a_path",
            "attacks_paths: test_10_pseudo_headers",
            "attacks_paths: test_10_prefixes_end_with_a_segment",
            "generated: test_haproxy_and_decide_agree",
        ),
    ),
    "11 smuggling and upgrades": (
        ("attacks_upgrades: test_11_websockets_pass_and_echo", "attacks_smuggling: test_11_a_body_is_no_request"),
        (
            "attacks_smuggling: test_11_nothing_is_smuggled",
            "attacks_smuggling: test_11_http2_bodies",
            "attacks_upgrades: test_11_a_right_to_a_websocket_is_none_to_the_page",
            "attacks_upgrades: test_11_no_upgrade_gets_to_node_red_but_websocket",
            "attacks_upgrades: test_11_an_upgrade_that_node_red_declines_opens_no_tunnel",
            "attacks_upgrades: test_11_http2_without_being_offered_is_judged",
        ),
    ),
    "12 other pages": (
        ("attacks_origins: test_12_requests_of_other_pages",),
        (
            "attacks_origins: test_12_requests_of_other_pages",
            "attacks_origins: test_12_a_header_twice_is_none_of_ours",
            "attacks_origins: test_12_websockets_of_other_pages",
            "attacks_origins: test_12_a_foreign_host_that_leads_here",
        ),
    ),
    "13 addresses that are only said": (
        (
            "attacks_proxies: test_13_what_a_trusted_proxy_says",
            "attacks_proxies: test_13_a_trusted_proxys_header_counts",
        ),
        (
            "attacks_proxies: test_13_what_is_no_address_is_nowhere",
            "attacks_proxies: test_13_strangers_behind_a_proxy_in_silence",
            "attacks_proxies: test_13_what_others_say_counts_for_nothing",
            "attacks_proxies: test_13_a_strangers_header_is_no_handshake",
            "attacks_proxies: test_13_a_trusted_proxy_has_to_say_it",
            "attacks_proxies: test_13_cloudflare_says_it_in_its_own_header",
            "attacks_proxies: test_13_peers_of_ipv6",
        ),
    ),
}


def test_every_class_of_the_gateway_has_its_cases() -> None:
    """Classes 1 to 13 each name an accepted and a refused case, and all that are named exist."""
    assert [int(name.split()[0]) for name in COVERED] == list(range(1, 14))
    for accepted, refused in COVERED.values():
        assert accepted
        assert refused
        for one in (*accepted, *refused):
            module, _, test = one.partition(": ")
            file = HERE.parent / f"{module}.py" if "/" in module else HERE / f"test_gateway_{module}.py"
            assert re.search(rf"^def {test}\(", file.read_text(), re.MULTILINE), one


# --- 3 files -----------------------------------------------------------------------------------------------------


def missing(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def garbage(path: Path) -> None:
    path.write_bytes(b"\0\xffgarbage\n" * 50)


FILES = pytest.mark.parametrize("name", ["device-ca.pem", "server.pem", "snapshot.json", "gateway.json", "secret"])
SPOIL = pytest.mark.parametrize("spoil", [missing, empty, torn, garbage])


@pytest.mark.parametrize("program", PROGRAMS)
@SPOIL
@FILES
def test_3_a_bad_file_at_the_start(program: str, tmp_path: Path, name: str, spoil: Callable[[Path], None]) -> None:
    """Without any of its files, or with one that is empty, torn or garbled, nobody is let in; with it, who has the
    right is.
    """
    behind = Counting()
    gateway = Live(program, tmp_path, behind)
    path = gateway.site.published / name
    good = path.read_bytes()
    spoil(path)
    gateway.start(wait=False)
    try:
        until(lambda: gateway.problem() or gateway.told().count("\n") > 1, what="a word of what is wrong")
        for device in (gateway.admin, None):
            if accepts(gateway.port):
                assert gets_nothing(gateway.port, "GET", "/hello", device)
        assert behind.seen == []
        gateway.site.put(name, good)
        gateway.wait()
        until(
            lambda: (
                accepts(gateway.port) and reason(request(gateway.port, "GET", "/hello", gateway.admin)) == "ok"
            ),
            what="a gateway that lets its owner in",
        )
    finally:
        gateway.stop()
        behind.close()


@SPOIL
@FILES
def test_3_a_bad_file_while_it_runs(live: Live, name: str, spoil: Callable[[Path], None]) -> None:
    """What was in force stays so: devices get in, strangers and those revoked before do not."""
    device = live.device()
    gone = live.device()
    live.revoke(gone)
    path = live.site.published / name
    good = path.read_bytes()
    spoil(path)
    try:
        until(lambda: live.problem() is not None, what="the report")
        assert reason(request(live.port, "GET", "/hello", device)) == "ok"
        assert reason(request(live.port, "GET", "/hello", gone)) == "unknown-certificate"
        assert reason(request(live.port, "GET", "/hello")) == "no-certificate"
    finally:
        live.site.put(name, good)
    until(lambda: live.problem() is None, what="the end of the trouble")
    live.revoke(device)
    assert reason(request(live.port, "GET", "/hello", device)) == "unknown-certificate"
    assert reason(request(live.port, "GET", "/hello", live.admin)) == "ok"


def test_3_old_tables_let_nobody_in(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that is told so, because its tables are not the newest, refuses its owner as well."""
    write = house.write

    def stale(*, log_fd: int) -> None:
        write(log_fd=log_fd)
        state = house.folder / "state.map"
        state.write_bytes(state.read_bytes().replace(b"stale 0", b"stale 1"))

    house.ruled()
    assert reason(request(house.port, "GET", "/hello", house.admin)) == "ok"
    monkeypatch.setattr(house, "write", stale)
    house.ruled()
    assert gets_nothing(house.port, "GET", "/hello", house.admin)
    assert gets_nothing(house.port, "GET", "/hello")
    assert house.reached == []


# --- 9 around the gateway ----------------------------------------------------------------------------------------


def test_9_plain_http_gets_nothing(house: House) -> None:
    """On the gateway's own port there is nothing without TLS, whatever is open to anyone."""
    house.ruled()
    for first in (
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\0\0",
    ):
        with socket.create_connection(("127.0.0.1", house.port), 5) as plain:
            plain.sendall(first)
            plain.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionError):
                assert b"HTTP" not in plain.recv(1000)
    assert house.reached == []
