"""The gateway's questions and tables: who is let in, by what, and what goes to Node-RED; each line taken away."""

from __future__ import annotations

from tests.faults.fault import Fault

_DOOR = "engines/haproxy/door.cfg"
_WORDS = "engines/haproxy/words.cfg"
_REFUSED = "engines/haproxy/refused.cfg"
_QUESTIONS = "engines/haproxy/questions.py"
_COMPILE = "engines/haproxy/compile.py"
_RENDER = "engines/haproxy/render.py"
# What all generated requests and vectors have in common: they compare with decide, and one program is enough
_ASKED = "integration/gateway/test_gateway_generated.py", "2.6"
_VECTORS = "integration/gateway/test_gateway_vectors.py", "2.6"
_ATTACKS = "integration/gateway/test_gateway_attacks.py"
_CERTIFICATES = "integration/gateway/test_gateway_attacks_certificates.py"
_RESUMPTION = "integration/gateway/test_gateway_attacks_resumption.py"
_OPEN = "integration/gateway/test_gateway_attacks_open.py"
_IDENTITY = "integration/gateway/test_gateway_attacks_identity.py"
_ORIGINS = "integration/gateway/test_gateway_attacks_origins.py"

FAULTS = [
    Fault(check, file, old, new, f"{place} {words}")
    for check, file, old, new, (place, words) in (
        ("HAProxy: a name of the site", _DOOR, "if new_host named_host or new_host ipv6_host any_ipv6", "if new_host", _VECTORS),
        ("HAProxy: a host is one", _DOOR, "host_only if new_host host_form", "host_only if new_host", _ASKED),
        ("HAProxy: another host on the same connection", _DOOR, "http-request unset-var(sess.own) if new_host\n", "", _ASKED),
        ("HAProxy: an upgrade is asked for with GET", _DOOR, "if asks_upgrade get one_upgrade", "if asks_upgrade one_upgrade", _VECTORS),
        ("HAProxy: an upgrade to a websocket", _DOOR, "one_upgrade to_websocket connection_upgrade", "one_upgrade connection_upgrade", _VECTORS),
        ("HAProxy: a target has a form", _DOOR, "own_host own_page target_form !asks_upgrade !connect or", "own_host own_page !asks_upgrade !connect or", _VECTORS),
        ("HAProxy: 8 KB", _DOOR, "if !by_http2 http1_form !too_long", "if !by_http2 http1_form", _ASKED),
        ("HAProxy: no page, or our own", _DOOR, "!has_origin one_site same_site", "!has_origin", _VECTORS),
        ("HAProxy: our own origin", _DOOR, "if has_origin one_origin own_origin", "if has_origin one_origin", _VECTORS),
        ("HAProxy: a navigation", _DOOR, "one_mode navigates one_dest", "one_mode one_dest", _ASKED),
        ("HAProxy: a page that is shown", _DOOR, "one_dest is_shown reads", "one_dest reads", _VECTORS),
        ("HAProxy: a navigation reads", _DOOR, "is_shown reads !asks_upgrade", "is_shown !asks_upgrade", _VECTORS),
        ("HAProxy: a page of elsewhere", _DOOR, "bool(true) if own_host own_page target_form !asks_upgrade !connect", "bool(true) if own_host target_form !asks_upgrade !connect", _VECTORS),
        ("HAProxy: a foreign host", _DOOR, "bool(true) if own_host own_page target_form !asks_upgrade !connect", "bool(true) if own_page target_form !asks_upgrade !connect", _VECTORS),
        ("HAProxy: an upgrade that is none", _DOOR, "target_form !asks_upgrade !connect", "target_form !connect", _VECTORS),
        ("HAProxy: a foreign page's websocket", _DOOR, "or own_host own_page target_form websocket", "or own_host target_form websocket", _VECTORS),
        ("HAProxy: canonical", _DOOR, "http-request set-var(txn.area) str(editor) if uncanonical\n", "", _VECTORS),
        ("HAProxy: a websocket of the editor", _DOOR, "if is_editors websocket comms or", "if is_editors websocket or", _ASKED),
        ("HAProxy: a websocket is no page", _DOOR, "if !placed websocket websockets", "if !placed websockets", _ASKED),
        ("HAProxy: an endpoint is no websocket", _DOOR, "if !placed !websocket endpoints", "if !placed endpoints", _ASKED),
        ("HAProxy: an endpoint that is known", _DOOR, "if !placed !websocket endpoints", "if !placed !websocket", _VECTORS),
        ("HAProxy: a dashboard that is known", _DOOR, "if !placed dashboards", "if !placed", _VECTORS),
        ("HAProxy: no path of the editor's by name", _DOOR, "if !decided nameable\nhttp-request set-var(txn.folder)", "if !decided\nhttp-request set-var(txn.folder)", _VECTORS),
        ("HAProxy: a rule for the area", _DOOR, "if proper by_area", "if proper", _VECTORS),
        ("HAProxy: a request that nobody may send", _DOOR, "if proper by_area", "if by_area", _VECTORS),
        ("HAProxy: a rule for the path", _DOOR, "if !decided proper by_prefix or", "if !decided proper or", _VECTORS),
        ("HAProxy: a client's word about itself", _DOOR, "http-request del-header x-redlatch- -m beg if allowed\n", "", (_IDENTITY, "says_of_itself and 2.6")),
        ("HAProxy: a client's word with an underscore", _RENDER, "option http-restrict-req-hdr-names delete", "option http-restrict-req-hdr-names preserve", (_IDENTITY, "says_of_itself and 2.6")),
        ("HAProxy: one octet is at most 255", _QUESTIONS, '_OCTET = "25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9]"', '_OCTET = "[0-9]+"', _ASKED),
        ("HAProxy: TLS must have verified it", _QUESTIONS, '    yield why("untrusted-certificate", "!verified")\n', "", _VECTORS),
        ("HAProxy: it must be in the list", _QUESTIONS, '''f"!{known('row')}", "{ var(sess.row) -m str -- - }"''', '"{ var(sess.row) -m str -- - }"', _VECTORS),
        ("HAProxy: one that left the list", _QUESTIONS, '''f"!{known('row')}", "{ var(sess.row) -m str -- - }"''', '''f"!{known('row')}"''', (_RESUMPTION, "revoked_device_resumes and 2.6")),
        ("HAProxy: not before its time", _QUESTIONS, '    yield why("not-yet-valid", "{ var(sess.row),field(1,|),sub(sess.now) gt 0 }")\n', "", _ASKED),
        ("HAProxy: not after its end", _QUESTIONS, '    yield why("expired", "{ var(sess.row),field(2,|),sub(sess.now) lt 0 }")\n', "", _ASKED),
        ("HAProxy: what changed is asked anew", _QUESTIONS, "if trusted or !same_version or !begun or !lasts", "if trusted or !begun or !lasts", (_OPEN, "what_is_open_ends and 2.6")),
        ("HAProxy: an end that comes is noticed", _QUESTIONS, "!same_version or !begun or !lasts", "!same_version or !begun", (_OPEN, "anybody_who_cuts and 2.6")),
        ("HAProxy: nothing beyond the handshake", _QUESTIONS, '    yield f"tcp-request session reject if {turned_away}"\n', "", (_CERTIFICATES, "get_to_ask and 2.6")),
        ("HAProxy: strangers on an open port", _QUESTIONS, '"!is_device no_grant by_open_port", *silent', "*silent,", (_CERTIFICATES, "get_to_ask and 2.6")),
        ("HAProxy: an old worker refuses", _QUESTIONS, '    yield f"http-request reject if {stale}"\n', "", (_ATTACKS, "old_tables and 2.6")),
        ("HAProxy: who is not let in goes elsewhere", _QUESTIONS, '    yield f"use_backend {REFUSED} if !allowed"\n', "", _VECTORS),
        ("HAProxy: whom a proxy speaks for", _QUESTIONS, '"req.hdr(x-forwarded-for,-1)", "trusted"', '"req.hdr(x-forwarded-for,-1)", ""', _ASKED),
        ("HAProxy: a rule that names networks", _COMPILE, "if not rule.networks or not names.isdisjoint(rule.networks)", "if True", _VECTORS),
        ("HAProxy: with an open port, strangers use that", _COMPILE, "if snapshot.open_port is not None and not by_open_port:\n        return ()\n", "if False:\n        return ()\n", _VECTORS),
        ("HAProxy: a rule for anyone", _COMPILE, "return tuple(rule for rule in snapshot.rules if rule.anyone)", "return snapshot.rules", _VECTORS),
        ("HAProxy: a role that a rule names", _COMPILE, "return role is not None and (role in rule.roles or snapshot.roles.get(role) in rule.roles)", "return True", _VECTORS),
        ("HAProxy: methods that a rule names", _COMPILE, "if allows_method(rule, method))", "if True)", _VECTORS),
    )
]  # fmt: skip
