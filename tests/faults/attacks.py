"""What stands in an attacker's way at the gateway, taken away: words, tables and files beside those of gateway.py.

One HAProxy is enough to see it, the newer one.
"""

from __future__ import annotations

from tests.faults.fault import Fault


def _fault(check: str, file: str, old: str, new: str, words: str, place: str = "integration/gateway") -> Fault:
    tests = f"{place} ({words})" + (" and not 2.6" if place == "integration/gateway" else "")
    return Fault(f"HAProxy: {check}", f"engines/haproxy/{file}", old, new, tests)


def _all(file: str, *faults: tuple[str, str, str, str]) -> list[Fault]:
    return [_fault(check, file, old, new, words) for check, old, new, words in faults]


V = "test_vectors"
G = "generated"
_UNIT = "unit/haproxy"

FAULTS = [
    *_all(
        "words.cfg",
        # who
        ("a certificate was sent", "acl has_certificate ssl_c_used", "acl has_certificate always_true", "test_2"),
        ("TLS verified it", "acl verified ssl_c_verify 0", "acl verified always_true", "told_why"),
        ("past its dates", "acl past ssl_c_verify 10", "acl past always_false", "told_why"),
        ("before its dates", "acl future ssl_c_verify 9", "acl future always_false", "told_why"),
        ("the open port is the open port", "acl by_open_port so_name -m str open", "acl by_open_port always_false", "test_1_across"),
        ("and no other is", "acl by_open_port so_name -m str open", "acl by_open_port always_true", "test_1_across"),
        ("a trusted proxy is one that is named", "acl trusted src,map_ip(@/trusted.map) -m str 1", "acl trusted always_true", "what_others_say"),
        ("not what only looks like one", "acl trusted src,map_ip(@/trusted.map) -m str 1", "acl trusted src,map_ip(@/trusted.map) -m found", "peers_of_ipv6"),
        ("Cloudflare is Cloudflare", "acl cloudflare src,map_ip(@/cloudflare.map) -m str 1", "acl cloudflare always_true", "test_13_cloudflare or what_others_say"),
        ("an address is written as one", "acl address var(sess.peer) -m reg", "acl address always_true #", "is_nowhere"),
        ("a device is one that is well", "acl is_device var(sess.why) -m str ok", "acl is_device var(sess.why) -m found", "told_why"),
        ("no rule, no word", "acl no_grant var(sess.grant) -m str 0", "acl no_grant always_false", "gets_nothing"),
        ("permissions are those that there are", "acl permitted var(sess.permission) -m str * read", "acl permitted var(sess.permission) -m found", "test_8_what_a_client"),
        ("a change has all asked anew", "acl same_version str(version),map_str_int(@/state.map),sub(sess.version) eq 0", "acl same_version always_true", "test_6_a_right or test_6_what_is_open"),
        ("an end has its device asked anew", "acl lasts date,sub(sess.until) le 0", "acl lasts always_true", "anybody_who_cuts"),
        # which host
        ("each request's own host", "acl same_host req.fhdr(host),strcmp(sess.host) eq 0", "acl same_host var(sess.host) -m found", "test_4"),
        ("the form of a host", "acl host_form req.fhdr(host) -m reg", "acl host_form always_true #", f"{V} or test_4 or {G}"),
        ("own names", "acl named_host var(sess.hostname) -m str -f @/hosts.lst", "acl named_host var(sess.hostname) -m beg -f @/hosts.lst", "test_4 or test_12_a_foreign"),
        ("addresses as hosts", "acl named_host var(sess.hostname) -m reg '^(OCTET)(\\.(OCTET)){3}$'", "acl named_host var(sess.hostname) -m reg '^[0-9.x]+$'", "test_12_a_foreign"),
        ("IPv6 hosts are in brackets", "acl ipv6_host var(sess.hostname) -m reg '^\\[.*:.*\\]$'", "acl ipv6_host always_true", f"{V} or {G}"),
        ("IPv6 hosts are addresses", "acl any_ipv6 var(sess.hostname),ltrim([),rtrim(]) -m ip ::/0", "acl any_ipv6 always_true", f"{V} or {G}"),
        # in what form
        ("targets are paths", "acl http1_form url -m reg '^/[!-~]*$'", "acl http1_form always_true", "test_10_other_forms"),
        ("targets are paths, by HTTP/2", "acl http2_form url -m reg '^(https?://[^/]+)?/[!-~]*$'", "acl http2_form always_true", "test_10_pseudo or test_10_bytes"),
        ("targets are printable, by HTTP/2", "acl http2_form url -m reg '^(https?://[^/]+)?/[!-~]*$'", "acl http2_form url -m reg '^(https?://[^/]+)?/'", "test_10_bytes"),
        ("8 KB of target", "acl too_long pathq -m len gt MAX_TARGET", "acl too_long always_false", f"{V} or {G}"),
        ("one upgrade", "acl one_upgrade req.fhdr_cnt(upgrade) eq 1", "acl one_upgrade always_true", f"{V} or {G}"),
        ("an upgrade to websocket", "acl to_websocket req.fhdr(upgrade) -m str -i websocket", "acl to_websocket always_true", "test_11_a_right"),
        # from which page
        ("one origin is meant", "acl one_origin req.fhdr_cnt(origin) eq 1", "acl one_origin always_true", "test_12_a_header_twice"),
        ("the own origin", "acl own_origin req.fhdr(origin),strcmp(sess.own) eq 0", "acl own_origin always_true", "test_12_requests"),
        ("origins that are named", "acl own_origin req.fhdr(origin) -m str -f @/origins.lst", "acl own_origin req.fhdr(origin) -m beg -f @/origins.lst", "test_12_websockets"),
        ("one word about the site", "acl one_site req.fhdr_cnt(sec-fetch-site) eq 1", "acl one_site always_true", "test_12_a_header_twice"),
        ("the own site", "acl same_site req.fhdr(sec-fetch-site) -m str same-origin none", "acl same_site always_true", "test_12_requests"),
        ("a visit navigates", "acl navigates req.fhdr(sec-fetch-mode) -m str navigate", "acl navigates always_true", f"test_12_requests or {V} or {G}"),
        ("a visit is shown", "acl is_shown req.fhdr(sec-fetch-dest) -m str SHOWN", "acl is_shown always_true", "test_12_requests"),
        # to what
        ("canonical paths alone are matched", "acl uncanonical var(txn.path) -m reg -f @/uncanonical.lst", "acl uncanonical always_false", "test_10"),
        ("what is the editor's", "acl editors var(txn.lower) -m beg -f @/editor.lst", "acl editors always_false", f"{V} or {G}"),
        ("what the editor owns, in whatever case", "acl editors var(txn.lower) -m beg -f @/editor.lst", "acl editors var(txn.spath) -m beg -f @/editor.lst", f"{V} or {G}"),
        ("the editor's root", "acl editors var(txn.path) -m str -f @/editor-root.lst", "acl editors always_false", f"{V} or {G}"),
        ("what only reads in the editor", "acl editor_reads var(txn.path) -m str -f @/reads.lst", "acl editor_reads always_true", f"{V} or {G}"),
        ("a viewer's websocket is /comms", "acl comms var(txn.path) -m str -f @/comms.lst", "acl comms always_true", f"{V} or {G}"),
        ("websockets of the flows", "acl websockets var(txn.path) -m str -f @/websockets.lst", "acl websockets always_true", "test_11_a_right"),
        ("endpoints of the flows", "acl endpoints var(txn.path),rtrim(/) -m str -f @/endpoints.lst", "acl endpoints always_true", f"{V} or {G}"),
        ("endpoints with a free segment", "acl endpoints var(txn.path),rtrim(/) -m reg -f @/endpoints-free.lst", "acl endpoints always_true", f"{V} or {G}"),
        ("dashboards end with a segment", "acl dashboards var(txn.spath) -m beg -f @/dashboards.lst", "acl dashboards always_true", "test_10_prefixes"),
        ("static files end with a segment", "acl static var(txn.spath) -m beg -f @/static.lst", "acl static always_true", "test_10_prefixes"),
        # what the rules reach
        ("a rule for an area names methods", "acl by_area var(txn.by_area),and(txn.method) gt 0", "acl by_area var(txn.by_area),and(REACHES) gt 0", f"{V} or {G}"),
        ("a rule for a path names methods", "acl by_prefix var(txn.by_prefix),and(txn.method) gt 0", "acl by_prefix var(txn.by_prefix),and(REACHES) gt 0", "test_10_a_webhook"),
        ("a rule for a folder names methods", "acl by_folder var(txn.by_folder),and(txn.method) gt 0", "acl by_folder var(txn.by_folder),and(REACHES) gt 0", f"{V} or {G}"),
        ("wrong-method is the method's", "acl reaches var(txn.by_area),and(REACHES) gt 0", "acl reaches always_false", f"{V} or {G}"),
        ("wrong-network is the network's", "acl elsewhere var(txn.also_area),and(txn.method) gt 0", "acl elsewhere always_false", f"{V} or {G}"),
        ("read-only is the viewer's", "acl reads_here var(txn.by_area),and(READS_HERE) gt 0", "acl reads_here always_false", f"test_7 or test_8 or {V}"),
        ("let in is what is ok", "acl allowed var(txn.reason) -m str ok", "acl allowed always_true", "test_2"),
    ),
    *_all(
        "door.cfg",
        ("a host that is gone is forgotten", "http-request unset-var(sess.host) if new_host\n", "", "test_4_one_http2"),
        ("no origin, no foreign site", "if !has_origin !has_site or !has_origin one_site same_site", "if !has_origin", "test_12_requests"),
        ("a visit is no upgrade", "one_dest is_shown reads !asks_upgrade", "one_dest is_shown reads", "test_12_websockets"),
        ("a websocket's host is our own", "or own_host own_page target_form websocket", "or own_page target_form websocket", f"{V} or {G}"),
        ("a prefix is asked with a slash", "var(txn.path),concat(/)", "var(txn.path)", "test_10"),
        ("a websocket is no file's", "if !placed !websocket static", "if !placed static", f"{V} or {G}"),
        ("no rule for a path has what the editor owns", "http-request set-var(txn.nameable) bool(true) if !placed\n", "http-request set-var(txn.nameable) bool(true)\n", f"{V} or {G}"),
        ("what nobody may do, by path", "if !decided proper by_prefix or", "if !decided by_prefix or", "test_10_prefixes"),
        ("what nobody may do, by folder", "or !decided proper by_folder", "or !decided by_folder", "test_10_prefixes"),
        ("clients forward nothing", "http-request del-header forwarded if allowed\n", "", "test_8_what_others"),
        ("Node-RED is told the peer's address", "http-request set-header X-Forwarded-For %[var(sess.peer)] if allowed\n", "", "test_8_what_others"),
        ("Node-RED is told the scheme", "http-request set-header X-Forwarded-Proto https if allowed\n", "", "test_8_what_others"),
        ("Node-RED is told the host", "http-request set-header X-Forwarded-Host %[req.fhdr(host)] if allowed\n", "", "test_8_what_others"),
        ("Node-RED is told of devices alone", "set-header X-Redlatch-Device %[var(sess.device)] if allowed is_device", "set-header X-Redlatch-Device %[var(sess.device)] if allowed", "test_8 or no_better"),
        ("Node-RED is told roles of devices alone", "%[var(sess.role)] if allowed is_device", "%[var(sess.role)] if allowed", "test_8 or no_better"),
        ("Node-RED is told what is permitted", "X-Redlatch-Permission %[var(sess.permission)] if allowed permitted", "X-Redlatch-Permission * if allowed", "test_8"),
    ),
    *_all(
        "refused.cfg",
        ("a stranger without a rule is told no more", "http-request set-var(txn.reason) var(sess.why) if !is_device no_grant\n", "", "test_4"),
        ("foreign-host is said", "str(foreign-host) if !decided !own_host", "str(foreign-host) if FALSE", "test_4"),
        ("bad-target is said", "str(bad-target) if !decided !target_form", "str(bad-target) if FALSE", "test_10"),
        ("bad-upgrade is said", "if !decided connect or !decided asks_upgrade !websocket", "if !decided connect", f"{V} or test_11"),
        ("cross-origin is said", "str(cross-origin) if !decided !own_page", "str(cross-origin) if FALSE", "test_12"),
        ("a stranger is told of the certificate", "http-request set-var(txn.reason) var(sess.why) if !decided !is_device\n", "", "test_10"),
        ("strangers are not told where the mode is strict", "SILENCE\n", "", "in_silence"),
        ("nothing keeps the page", " HEADERS if { req.hdr(accept)", " if { req.hdr(accept)", "both_forms"),
    ),
    *_all(
        "questions.py",
        ("without a snapshot nobody is asked", 'return ["tcp-request session reject", "http-request reject"]', "return []", "no_good_snapshot"),
        ("behind a proxy all is asked anew", 'if trusted or !same_version', 'if !same_version', "a_device_behind"),
        ("the last address that a proxy names", "req.hdr(x-forwarded-for,-1)", "req.hdr(x-forwarded-for,1)", "test_13_what_a_trusted"),
        ("a proxy is asked whom it speaks for", '("x-forwarded-for", "req.hdr(x-forwarded-for,-1)", "trusted"),\n', "", "test_13_what_a_trusted"),
        ("no address, no network", 'yield "http-request set-var(sess.peer) str(unknown) if trusted !address"', "", "is_nowhere"),
        ("nobody keeps the place of the one before", '"until", "place", "who"', '"until", "who"', "is_nowhere"),
        ("what changed counts first", '''yield line("row", f"var(sess.fp),map_str({folder}/changed.map)", "has_certificate")''', "", "test_1_a_revoked"),
        ("the later of clock and snapshot", 'yield line("now", time, f"{{ {time},sub(sess.now) gt 0 }}")', "", "later_of_clock"),
        ("a stranger is a stranger", 'yield line("who", f"str({STRANGER})", "!is_device !by_open_port")', "", "test_2"),
        ("a device that rules name", 'yield line("who", f"var(sess.device),map_str({folder}/special.map)", "is_device")', "", f"{V} or {G} or a_word_is"),
        ("a frame where origins are named", '"SHOWN": "document iframe" if snapshot.origins else "document"', '"SHOWN": "document iframe"', "test_12_requests"),
    ),
    *_all(
        "compile.py",
        ("a role of the operator's own", " or snapshot.roles.get(role) in rule.roles)", ")", f"{V} or a_word_is"),
        ("an unknown method needs every method", 'return bits | OTHER if allows_method(rule, "") else bits', "return bits | OTHER", "test_10_a_webhook"),
        ("the editor's reading is no writing", "        return Area.EDITOR, Area.EDITOR_READ\n", "        return tuple(Area)\n", f"{V} or {G}"),
        ("a prefix is of that path", "key.startswith(rule.path + \"/\")", "True", f"{V} or {G} or test_10_prefixes"),
        ("Node-RED is told no more than read", 'if any(not rule.methods and rule.area != Area.EDITOR_READ for rule in reading):', "if reading:", "test_8_what_a_client"),
        ("IPv4's addresses in IPv6's dress", "_overlay({**networks, _LIKE_IPV4: _LIKE_IPV4_NETWORK}, 6)", "_overlay(networks, 6)", "test_13"),
        ("IPv4 is not asked among IPv6", "((first, min(last, _MAPPED[0] - 1)), (max(first, _MAPPED[1] + 1), last))", "((first, last),)", "test_13_what_a_trusted"),
    ),
    _fault("no word ends a key", "compile.py", 'return quote(name, safe="") or "%"', "return name", "meant", _UNIT),
    _fault("no path ends a key", "compile.py", " and is_canonical(rule.path)]", "]", "meant", _UNIT),
    _fault("a network called - is one", "compile.py", "len(joined) <= 64 and joined != NOWHERE", "len(joined) <= 64", "whatever_it_is_called", _UNIT),
    *_all(
        "render.py",
        ("PROXY headers of trusted proxies alone", " if {{ src,map_ip({folder}/trusted.map) -m str 1 }}", "", "strangers_header"),
        ("a certificate is asked for", "verify optional crt-ignore-err all", "verify none crt-ignore-err all", "test_1_a_session_is_resumed"),
        ("the open port asks for none", 'name open {tls}"', 'name open {tls} {asks}"', "test_1_across"),
        ("no CA, nobody", "ca-file {places.pems}/device-ca.pem", "ca-file @system-ca", "told_why or test_1_a_session_is"),
        ("an area at / is none", 'if path != "/"]', "]", f"{V} or {G}"),
        ("an area's word is its own", 'f"{path}/" for path in found if not path.endswith("/")', 'path for path in found if not path.endswith("/")', "test_10_prefixes"),
        ("whom the page speaks to when nobody answers", 'f"    errorfile 503 {places.folder}/down.http",', "", "node_red_is_down"),
    ),
    _fault("no host ends a line", "render.py", "if _NAME.fullmatch(name) for", "for", "depend_on_words", _UNIT),
    _fault("no origin ends a line", "render.py", "if _ORIGIN.fullmatch(one)]", "]", "depend_on_words", _UNIT),
    _fault("no area ends a line", "render.py", "return [path for path in found if paths.is_canonical(path)]", "return [*found]", "depend_on_words", _UNIT),
    _fault("no endpoint ends a line", "render.py", 'or not paths.is_canonical("/".join(fixed))', "", "depend_on_words", _UNIT),
    _fault("no editor's path ends a line", "render.py", " or not paths.is_canonical(admin_root)", "", "depend_on_words", _UNIT),
    _fault("no folder ends a line", "render.py", "if _PLACE.fullmatch(str(path)) is None:", "if False:", "place_that_means", _UNIT),
    _fault("no secret ends a line", "render.py", "if _SECRET.fullmatch(secret) is None:", "if False:", "place_that_means", _UNIT),
]  # fmt: skip
