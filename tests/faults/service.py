"""The checks of the service: who gets to a page, whose page may start something, which link is good; each taken away."""

from __future__ import annotations

from tests.faults.fault import Fault

_ORIGIN = "integration/service/test_origin.py"
_ACCESS = "integration/service/test_console_access.py"
_SENDING = "integration/handover/test_sending.py"
_LINKS = "integration/operations/test_links.py"

FAULTS = [
    Fault(check, file, old, new, f"{place} {words}")
    for check, file, old, new, place, words in (
        ("a certificate at the handshake of the console", "service/origin.py", "context.verify_mode = ssl.CERT_REQUIRED", "context.verify_mode = ssl.CERT_OPTIONAL", _ORIGIN, "there_is_no_answer"),
        ("TLS 1.3 for the console", "service/origin.py", "oldest or ssl.TLSVersion.TLSv1_3", "ssl.TLSVersion.TLSv1_2", _ORIGIN, "openssl"),
        ("the certificate is the connection's", "service/origin.py", 'scope.pop("state", {})', "{}", _ORIGIN, "tls_layer"),
        ("an address has its share of places", "service/origin.py", "self._open[address] >= self.limits.per_address", "False", _ORIGIN, "every_place"),
        ("a slow head is dropped", "service/origin.py", "        self._limit(self._origin.limits.head)\n\n", "\n", _ORIGIN, "slow"),
        ("a slow body is dropped", "service/origin.py", "self._limit(self._origin.limits.exchange)", "self._limit(None)", _ORIGIN, "slow"),
        ("a body nobody wants is not read", "service/origin.py", "if unread:", "if False:", _ORIGIN, "answered_early"),
        ("a port is held everywhere", "service/holding.py", "made.bind((\"::\" if", "made.bind((\"::1\" if", "integration/service/test_holding.py", "any_address"),
        ("a port is shared with ourselves only", "service/holding.py", "_everywhere(port, socket.SO_REUSEADDR).close()", "pass", "integration/service/test_holding.py", "tried_again"),
        ("a worker of somebody else's ends", "service/security.py", 'if (b"service-worker", b"script") in scope["headers"]:', "if False:", _ORIGIN, "worker"),
        ("names of the service only", "service/security.py", "(self._own_host(host), 421", "(True, 421", _ORIGIN, "foreign_names"),
        ("its own port only", "service/security.py", "int(port) not in self._ports()", "False", _ORIGIN, "foreign_names"),
        ("GET and POST only", "service/security.py", '(method in _READS or method == "POST", 405', "(True, 405", _ORIGIN, "own_pages"),
        ("nothing is upgraded", "service/security.py", '(b"upgrade" not in headers, 400', "(True, 400", _ORIGIN, "own_pages"),
        ("only its own pages", "service/security.py", "(_same_origin(headers, host, method), 403", "(True, 403", _ORIGIN, "own_pages"),
        ("another origin", "service/security.py", 'if origin and origin != f"https://{host}":', "if False:", _ORIGIN, "own_pages"),
        ("a page of elsewhere writes nothing", "service/security.py", "    if method not in _READS:\n        return False\n", "", _ORIGIN, "own_pages"),
        ("a link is followed, a picture is not", "service/security.py", 'mode == "navigate" and target == "document"', "True", _ORIGIN, "own_pages"),
        ("a stated length", "service/security.py", "int(length[:12]) <= self._body_bytes", "True", _ORIGIN, "long_body or fifty"),
        ("a length that is not stated", "service/security.py", "if self._left < 0:", "if False:", _ORIGIN, "long_body"),
        ("a header that came twice", "service/security.py", "if name in headers and name in _ONCE:", "if False:", _ORIGIN, "two_ways"),
        ("a revoked key", "service/visitor.py", "found.revoked_at is not None or ", "", _ORIGIN, "visitor"),
        ("an ended key", "service/visitor.py", "not found.not_before <= now <= found.not_after", "False", _ORIGIN, "visitor"),
        ("a known key", "service/visitor.py", "found is None or ", "found is not None and ", _ORIGIN, "visitor"),
        ("who may see", "service/visitor.py", 'return self.base in ("owner", "admin")', "return True", _ACCESS, "may_see"),
        ("who may change", "service/visitor.py", 'return self.base == "owner"', "return True", _ACCESS, "may_not_change"),
        ("a write is a change", "service/console/access.py", "if method not in _READS or (way is not None and way.form):", "if way is not None and way.form:", _ACCESS, "takes_the_most or may_not_change"),
        ("what is not everybody's", "service/console/access.py", 'path == prefix or path.startswith(f"{prefix}/")', "True", _ACCESS, "may_see"),
        ("a stranger gets no page", "service/console/app.py", "if who is None:", "if False:", _ACCESS, "middle"),
        ("asked before anything is answered", "service/console/app.py", "if not access.may(who, what):", "if False:", _ACCESS, "may_see"),
        ("forms only", "service/console/app.py", '!= _FORM:', '== "":', _ACCESS, "forms_are_taken"),
        ("a token that somebody was given", "enrolment.py", "    if link is None:\n        return Refusal.WRONG\n", '    if link is None:\n        link = ("open", True, False)\n', "unit/test_enrolment.py", "from_elsewhere"),
        ("a link that is over", "enrolment.py", '    if state != "open":\n        return _OVER.get(state, Refusal.WRONG)\n', "", "unit/test_enrolment.py", "is_not_open"),
        ("inside the network", "enrolment.py", "if not (remote or inside):", "if False:", _LINKS, "from_elsewhere"),
        ("for command lines only", "enrolment.py", "return Refusal.PINNED if pinned and by_page else None", "return None", _LINKS, "refused_to_pages"),
        ("what device send serves, the service does not", "operations/links.py", "(link.compared if only is None else link.id != only)", "(only is not None and link.id != only)", _LINKS, "on_that_port_only"),
        ("what the service serves, device send does not", "operations/links.py", "(link.compared if only is None else link.id != only)", "(link.compared if only is None else False)", _LINKS, "on_that_port_only"),
        ("device send has private peers only", "service/sending.py", "admit=is_inside", "admit=lambda _: True", _SENDING, "public_peer"),
        ("its link does not outlive it", "service/sending.py", "            links.withdraw(self._site, self._link.id)\n", "            pass\n", _SENDING, "not_left_open"),
        ("one redemption", "store/statements.py", "digest = :digest AND used_at IS NULL AND withdrawn_at IS NULL AND expires_at > :at RETURNING", "digest = :digest AND withdrawn_at IS NULL AND expires_at > :at RETURNING", _LINKS, "two_hundred"),
        ("the later of clock and last event", "operations/site.py", "return max(site.clock(), newest[0].event.at) if newest else site.clock()", "return site.clock()", _LINKS, "falls_back"),
        ("owners and admins need more than trust", "operations/links.py", "if base in _STRONG:", "if False:", _LINKS, "more_than_trust"),
        ("elsewhere needs a known certificate", "operations/links.py", "    if remote:\n        raise", "    if False:\n        raise", _LINKS, "elsewhere_needs"),
        ("trust is asked for", "operations/links.py", "if not trust_lan:", "if False:", _LINKS, "trust_is_asked"),
        ("a certificate that is known", "operations/service_key.py", "return tuple(name for name in hosts if _trusted(pem, name))", "return hosts", _LINKS, "vouches"),
        ("the device, not its name", "operations/devices.py", "find(tx, uuid.UUID(device_id))", "find(tx, tx.device_by_id(device_id).name)", _LINKS, "not_for_its_name"),
        ("a device that is out is out", "operations/devices.py", "        if device.revoked_at is not None:\n", "        if False:\n", _LINKS, "by_its_id"),
        ("a web hook is https", "operations/notices.py", 'return (parts.scheme == "https" or here)', "return True", "integration/operations/test_notices.py", "no_web_hook"),
        ("a web hook leads nowhere else", "operations/notices.py", "build_opener(_NoRedirect)", "build_opener()", "integration/operations/test_notices.py", "without_its_path"),
    )
]  # fmt: skip
