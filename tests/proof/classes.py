"""What is proved, and by which test: the attack classes, and the tests of each engine and of the service.

`scripts/proof` runs them and writes docs/proof.md. A test is named by its file below tests/ and its function.
Classes 1 to 13 are those of the two test files that list an accepted and a refused case each (COVERED there).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from tests.integration.gateway.test_gateway_attacks import COVERED as OF_GATEWAY
from tests.integration.guard.test_guard_attacks import COVERED as OF_GUARD

TESTS: Final = Path(__file__).parents[1]
Proof = tuple[str, ...] | str
"""Tests as "file::function"; or, in words, why this engine has none."""

_NO_PART = "no part: {}"


class Class(NamedTuple):
    """One class of attack or accident. `control`: tests of service, command line and files, the same for both."""

    number: int
    title: str
    node_red: Proof
    gateway: Proof
    control: tuple[str, ...] = ()


class Finding(NamedTuple):
    """What fuzzing found, and the test that holds it since."""

    target: str
    what: str
    test: str


def named_by(one: Class) -> Iterator[str]:
    """All tests of a class."""
    for proof in (one.node_red, one.gateway, one.control):
        if not isinstance(proof, str):
            yield from proof


def _covered(
    table: dict[str, tuple[tuple[str, ...], tuple[str, ...]]], folder: str, number: int
) -> tuple[str, ...]:
    accepted, refused = next(pair for name, pair in table.items() if name.split()[0] == str(number))
    found = []
    for one in dict.fromkeys((*accepted, *refused)):
        module, _, test = one.partition(": ")
        file = f"integration/{module}.py" if "/" in module else f"integration/{folder}/test_{folder}_{module}.py"
        found.append(f"{file}::{test}")
    return tuple(found)


def _of(file: str, *tests: str) -> tuple[str, ...]:
    return tuple(f"{file}::test_{test}" for test in tests)


_TITLES: Final = (
    "TLS sessions resumed under another name, at another port, after a revocation, an end or a CA that went",
    "A resumed session that shows no certificate",
    "CA, key or list of devices missing, empty, torn or garbled",
    "Server name and Host that disagree, trailing dots, capitals, HTTP/2 for several names",
    "Certificates that are revoked, over, not yet valid, of another CA, for another use, self-signed",
    "Connections and websockets that outlive their right",
    "Names in certificates: borrowed, doubled, with hidden bytes",
    "Identity headers that a client sends itself",
    "Ways to Node-RED around the engine",
    "Paths that policy and server read differently",
    "Smuggled requests, upgrades to anything but a websocket",
    "Pages of other origins, foreign host names",
    "Forwarded addresses from anybody, odd spellings of addresses",
)

CLASSES: Final = (
    *(
        Class(number, title, _covered(OF_GUARD, "guard", number), _covered(OF_GATEWAY, "gateway", number))
        for number, title in enumerate(_TITLES, 1)
    ),
    Class(
        14,
        "One enrolment link redeemed twice, used up by a preview, guessed",
        _NO_PART.format("links are redeemed at the service"),
        _NO_PART.format("links are redeemed at the service"),
        (
            *_of(
                "integration/operations/test_links.py",
                "a_link_makes_its_device_once",
                "of_two_hundred_at_once_one_gets_a_certificate",
                "of_processes_at_once_one_gets_a_certificate",
                "neither_store_nor_trail_holds_the_token",
            ),
            *_of("integration/service/test_service_process.py", "of_many_who_come_at_once_one_gets_the_key"),
            *_of(
                "integration/service/test_enrolment_http.py",
                "offer_uses_nothing_up",
                "a_thousand_guesses_lock_nobody_out",
            ),
        ),
    ),
    Class(
        15,
        "Another page, or another name, that makes the console do something",
        _of("browser/test_flow_against_console.py", "a_page_of_a_flow_makes_the_console_do_nothing"),
        _NO_PART.format("the console is never reached through the gateway"),
        (
            *_of(
                "integration/service/test_origin.py",
                "own_names_are_served",
                "foreign_names_are_not",
                "only_its_own_pages_start_something",
            ),
            *_of(
                "integration/service/test_console_access.py",
                "a_foreign_name_is_not_served",
                "only_its_own_pages_may_post",
                "an_owner_may_change",
            ),
            *_of("unit/test_fuzz.py", "nothing_is_found_at_once"),
        ),
    ),
    Class(
        16,
        "Names that break out into a configuration, a page, a log, a terminal, a file name",
        (
            *_of("unit/engine/test_block.py", "any_path_is_one_safe_line"),
            *_of("integration/guard/test_guard_requests.py", "nothing_of_a_request_is_echoed"),
            *_of("integration/operations/test_sidebar_list.py", "names_are_only_text"),
        ),
        (
            *_of(
                "integration/gateway/test_gateway_words.py",
                "haproxy_takes_whatever_is_rendered",
                "a_word_is_a_word",
            ),
            *_of(
                "integration/gateway/test_gateway_pages.py",
                "nothing_of_the_request_is_in_it",
                "what_the_log_says_of_odd_requests_is_json",
            ),
            *_of("integration/gateway/test_gateway_told.py", "a_reason_cannot_break_out_of_its_label"),
        ),
        (
            *_of("integration/service/test_enrolment_http.py", "names_are_inert"),
            *_of("integration/service/test_console_changes.py", "a_hostile_log_is_text"),
            *_of("unit/pki/test_pki_mobileconfig.py", "names_are_inert"),
            *_of(
                "cli/test_cli.py",
                "hostile_claims_do_not_reach_the_terminal",
                "a_name_from_the_argument_does_not_reach_the_terminal_raw",
                "safe_text_is_one_line_without_controls",
            ),
        ),
    ),
    Class(
        17,
        "Signing requests that ask for more than a certificate of a device",
        _NO_PART.format("requests are signed by the service or the command line"),
        _NO_PART.format("requests are signed by the service or the command line"),
        (
            *_of(
                "unit/pki/test_pki_csr.py",
                "public_key_is_taken",
                "other_wishes_are_ignored",
                "wish_to_be_an_authority_is_refused",
                "bad_self_signature_is_refused",
                "odd_keys_are_refused",
                "hidden_characters_are_refused",
                "giant_request_is_refused",
            ),
            *_of(
                "integration/service/test_enrolment_bad_input.py",
                "bad_requests_use_nothing_up",
                "wishes_of_a_request_are_ignored",
            ),
        ),
    ),
    Class(
        18,
        "Key files and bundles that are malformed, do not match, or take for ever to open",
        _of("integration/guard/test_guard_live.py", "a_bad_key_file_changes_nothing"),
        (
            *_of("integration/gateway/test_gateway_recovery.py", "a_bad_certificate_stands_in_the_way_of_nothing"),
            *_of(
                "integration/operations/test_gateway_bad_input.py",
                "certificate_and_key_that_do_not_match_leave_the_old_ones_in_force",
            ),
        ),
        (
            *_of(
                "unit/pki/test_pki_keys.py",
                "keys_of_other_tools_are_read",
                "what_is_no_usable_key_is_refused",
                "garbage_between_the_markers_is_refused",
                "a_file_that_asks_for_endless_rounds_is_refused_at_once",
                "scrypt_that_takes_too_long_is_refused_at_once",
            ),
            *_of("unit/pki/test_pki_bundles.py", "pkcs12_comes_back", "weak_password_and_foreign_key_are_refused"),
            *_of("integration/operations/test_bad_input.py", "certificate_and_key_that_do_not_match"),
            *_of("integration/operations/test_service_key.py", "certificates_that_cannot_be_used_are_refused"),
            *_of(
                "integration/operations/test_ca_import.py",
                "xca_easy_rsa_and_step",
                "a_file_that_asks_for_too_much_is_given_up",
                "a_bundle_that_asks_for_too_much_is_given_up",
                "garbage_is_refused",
            ),
        ),
    ),
    Class(
        19,
        "Node-RED's user that reads CA keys, or leads root or the service astray by links and planted files",
        (
            *_of(
                "integration/engine/test_real_users.py",
                "user_of_node_red_reads_what_it_serves",
                "user_of_node_red_reads_no_secret",
                "user_of_node_red_changes_no_published_file",
                "user_of_node_red_changes_no_published_folder",
                "nobody_else_reads_anything",
                "planted_claim_is_refused",
                "removal_follows_no_link",
            ),
            *_of(
                "integration/engine/test_service_user.py",
                "node_reds_user_reads_and_writes_nothing_of_the_services",
                "root_follows_no_folder_that_became_a_link",
                "root_follows_no_file_that_became_a_link",
            ),
        ),
        (
            *_of(
                "integration/engine/test_gateway_unit.py",
                "the_gateway_runs_as_its_own_user_and_goes_without_a_trace",
            ),
            *_of(
                "integration/operations/test_gateway_life.py",
                "what_the_gateway_writes_cannot_be_planted",
                "what_is_shown_names_no_secret",
            ),
            *_of(
                "integration/operations/test_gateway_two_engines.py", "each_engine_has_what_it_needs_and_no_more"
            ),
        ),
        (
            *_of("integration/service/test_enroll.py", "umask_and_environment_do_not_matter"),
            *_of("cli/test_cli.py", "a_link_in_place_of_the_output_is_not_followed"),
        ),
    ),
    Class(
        20,
        "Power cuts, a full disk, a clock that jumps, two administrators, an upgrade that stops half-way",
        (
            *_of("integration/guard/test_guard_certificates.py", "the_later_of_clock_and_snapshot_counts"),
            *_of("integration/guard/test_guard_live.py", "a_bad_snapshot_changes_nothing"),
            *_of("integration/guard/test_guard_start.py", "no_start_with_a_half_written_guard"),
        ),
        (
            *_of(
                "integration/gateway/test_gateway_recovery.py",
                "run_is_killed_and_the_next_one_takes_over",
                "all_is_killed_and_the_list_changes_meanwhile",
                "a_full_disk_leaves_all_as_it_was",
            ),
            *_of("integration/gateway/test_gateway_attacks_open.py", "6_the_later_of_clock_and_snapshot"),
            *_of(
                "integration/operations/test_gateway_life.py",
                "what_a_killed_command_left_is_published_by_the_next",
            ),
        ),
        (
            *_of(
                "integration/operations/test_trouble.py",
                "a_full_disk_changes_nothing",
                "two_commands_at_once",
                "a_store_from_a_newer_redlatch",
            ),
            *_of("crash/test_every_write.py", "whatever_stops_it_nothing_is_lost_and_nobody_let_in"),
            *_of("integration/operations/test_bad_input.py", "a_clock_years_behind_changes_nothing"),
            *_of("integration/operations/test_links.py", "a_clock_that_falls_back_opens_no_link_again"),
            *_of("integration/service/test_origin.py", "a_clock_that_falls_back_revives_no_key"),
            *_of("integration/store/test_store_opening.py", "an_upgrade_stopped_half_way_leaves_the_old_store"),
            *_of("integration/keeping/test_clock.py", "a_clock_that_cannot_be_right_issues_nothing"),
            *_of(
                "integration/keeping/test_restore.py",
                "the_same_site_comes_back",
                "killed_anywhere_there_is_no_site_or_the_whole",
            ),
            *_of(
                "integration/keeping/test_store_upgrade.py",
                "killed_at_any_step_of_a_migration_the_store_is_old_or_new",
            ),
        ),
    ),
    Class(
        21,
        "settings.js replaced, so that the lock falls off; root made to load what an ordinary user wrote",
        (
            *_of(
                "integration/engine/test_systemd.py",
                "replaced_settings_stop_node_red_instead_of_opening_it",
                "missing_preload_keeps_node_red_from_starting",
            ),
            *_of("integration/engine/test_preload.py", "real_node_red_without_the_guard_ends_with_78"),
            *_of(
                "integration/engine/test_adopt.py",
                "adopted_and_given_back_byte_for_byte",
                "settings_replaced_behind_the_block_are_seen",
                "settings_run_without_roots_rights_environment_and_files",
                "link_to_a_file_of_root_is_refused",
                "folder_of_root_with_settings_of_a_user_is_not_run_as_root",
            ),
        ),
        (
            *_of(
                "integration/behind/test_behind_life.py",
                "lines_without_effect_are_not_taken_for_ours",
                "what_is_lost_is_put_back",
            ),
            *_of("integration/behind/test_behind_start.py", "no_start_without_its_files"),
        ),
    ),
    Class(
        22,
        "Handshakes and unfinished connections by the hundred",
        _of(
            "integration/guard/test_guard_door.py",
            "a_flood_of_strangers_is_rationed",
            "unfinished_connections_are_capped_per_address",
            "unfinished_connections_are_capped_in_all",
            "an_idle_connection_ends_soon",
        ),
        _of("integration/gateway/test_gateway_floods.py", "22_strangers_keep_no_device_out"),
        _of(
            "integration/service/test_origin.py",
            "a_handshake_that_does_not_come_is_ended",
            "who_is_slow_is_dropped",
            "one_address_cannot_take_every_place",
        ),
    ),
    Class(
        23,
        "A proxy, tunnel or router before which everybody has one address",
        (
            *_of("integration/guard/test_guard_rules.py", "address_alone", "certificate_and_address"),
            *_of(
                "integration/operations/test_networks.py",
                "traffic_in_which_everybody_is_one_address_is_said",
                "other_traffic_says_nothing",
            ),
            *_of(
                "integration/operations/test_rules.py",
                "a_proxys_address_is_not_taken_for_an_address",
                "one_laptop_at_home_is_not_taken_for_a_proxy",
            ),
        ),
        (
            *_of(
                "integration/gateway/test_gateway_attacks_proxies.py",
                "13_a_trusted_proxy_has_to_say_it",
                "13_what_others_say_counts_for_nothing",
            ),
            *_of(
                "integration/operations/test_gateway_standing.py",
                "a_proxy_that_ends_tls_is_noticed",
                "a_proxy_that_passes_tls_on_is_not_blamed",
            ),
        ),
    ),
    Class(
        24,
        "A GET that does something, loaded as an image by another page; a page of a flow against the console; a "
        "service worker left behind",
        (
            *_of("browser/test_cross_origin.py", "own_pages_may", "pages_of_others_may_not", "links_lead_in"),
            *_of("integration/guard/test_guard_requests.py", "a_device_is_refused", "a_device_is_let_in"),
        ),
        _of("integration/gateway/test_gateway_attacks_origins.py", "12_requests_of_other_pages"),
        (
            *_of("integration/service/test_origin.py", "a_workers_script_ends_the_worker"),
            *_of(
                "browser/test_flow_against_console.py",
                "a_page_of_a_flow_reads_nothing",
                "a_page_of_a_flow_cannot_pass_for_the_consoles",
                "the_console_itself_may",
            ),
        ),
    ),
    Class(
        25,
        "Locking oneself out: the last way in removed, the last key revoked, an end that nobody noticed",
        _of("integration/operations/test_server.py", "refresh_renews_before_the_end"),
        _of("integration/operations/test_gateway_life.py", "the_servers_certificate_is_renewed_for_the_gateway"),
        (
            *_of("integration/operations/test_rules.py", "removing_the_last_way_into_the_editor_is_refused"),
            *_of("integration/service/test_console_devices.py", "ones_own_key_only_on_purpose"),
            *_of("integration/operations/test_notices.py", "it_is_said_once_for_each_number_of_days"),
            *_of(
                "integration/operations/test_lockout.py",
                "what_nobody_could_undo_is_refused",
                "what_somebody_can_undo_is_done",
                "the_way_back_in",
            ),
            *_of("integration/operations/test_trials.py", "what_was_comes_back", "what_was_kept_stays"),
        ),
    ),
)

FINDINGS: Final = (
    Finding(
        "backup",
        "a manifest of the year 2340 was taken, which cannot be written: a header of a tar ends with 2242",
        "unit/operations/test_archive.py::test_a_backup_is_of_a_time_that_a_tar_can_say",
    ),
    Finding(
        "backup",
        "a noted head with a year before 1000 was taken, and not written as it was read",
        "unit/test_audit_head.py::test_what_is_no_whole_head_is_refused",
    ),
    Finding(
        "snapshot",
        "Python, and with it the gateway, took values of any type in a snapshot where the guard refused them",
        "unit/policy/test_snapshot.py::test_a_field_of_another_kind_is_refused",
    ),
    Finding(
        "snapshot",
        "`policy.snapshot.decode` took a device that does not stand where its fingerprint leads",
        "unit/policy/test_snapshot.py::test_a_device_stands_where_its_fingerprint_leads",
    ),
    Finding(
        "snapshot",
        "Python took JSON in other encodings and NaN, the guard bytes that are no UTF-8",
        "unit/policy/test_snapshot.py::test_what_javascript_does_not_read_is_refused",
    ),
    Finding(
        "tables",
        "Python took an interval of addresses that ends before it begins",
        "unit/policy/test_addresses.py::test_an_interval_that_ends_before_it_begins_is_none",
    ),
    Finding(
        "addresses",
        "in the guard a link-local address with a zone such as `br_lan` was in no network: rules refused it",
        "unit/guard/test_guard_units.py::test_guard",
    ),
    Finding(
        "claims",
        "a line of HAProxy's log with a time beyond any number raised an error that nothing caught",
        "unit/haproxy/test_streams.py::test_what_is_no_line_is_passed_over",
    ),
    Finding(
        "tokens",
        "a link with blanks or control characters in its host name was taken for one",
        "unit/operations/test_https.py::test_what_is_no_https_link_is_refused",
    ),
    Finding(
        "keys",
        "an encrypted key file says how many rounds its passphrase takes, and 2^31 were begun: half an hour",
        "unit/pki/test_pki_keys.py::test_a_file_that_asks_for_endless_rounds_is_refused_at_once",
    ),
)
