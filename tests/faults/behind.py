"""The checks of a Node-RED behind the gateway: each line takes one away, and names the tests that have to notice."""

from __future__ import annotations

from tests.faults.fault import Fault

JS = "engines/nodered/behind/"
GATE = "unit/behind gate"
WRAP = "unit/behind wrap"
IT = "integration/behind/test_behind_"

FAULTS = [
    # who is the gateway
    Fault("behind: the secret", JS + "gate.js", "if (!this.expected.isSecret(secretOf(req.rawHeaders))) {", "if (false) {",
          IT + "secret.py without_the_secret"),
    Fault("behind: the right secret", JS + "expected.js", "crypto.timingSafeEqual(digest, this.digest)", "true",
          IT + "secret.py without_the_secret and another"),
    Fault("behind: one secret", JS + "gate.js", "if (found !== null) return null;", "",
          IT + "secret.py without_the_secret and doubled"),
    Fault("behind: the header is that header", JS + "gate.js", "raw[at].toLowerCase() !== SECRET) continue;",
          'raw[at].toLowerCase().replaceAll("_", "-") !== SECRET) continue;', IT + "secret.py without_the_secret and underscores"),
    Fault("behind: each request is asked", JS + "gate.js", "this.admitted.add(req);", "this.admitted.add(req); this.expected.isSecret = () => true;",
          IT + "secret.py each_request"),
    Fault("behind: requests pass the gate", JS + "gate.js", '        case "request":\n', "", IT + "secret.py without_the_secret"),
    Fault("behind: expectations pass the gate", JS + "gate.js", '        case "checkContinue":\n        case "checkExpectation":\n', "", GATE),
    Fault("behind: websockets pass the gate", JS + "gate.js", '        case "upgrade":\n', "", IT + "secret.py without_the_secret"),
    Fault("behind: CONNECT passes the gate", JS + "gate.js", '        case "connect":\n', "", GATE),
    Fault("behind: an error of ours closes", JS + "gate.js", "    } catch (error) {\n      req.socket.destroy();", "    } catch (error) {\n      return true;", GATE),
    Fault("behind: a refused websocket that breaks ends nothing else", JS + "gate.js", 'socket.on("error", () => socket.destroy());', "", GATE),
    Fault("behind: a refused websocket is closed", JS + "gate.js", "${text}`, () => socket.destroy());", "${text}`, () => {});", GATE),
    # what flows see
    Fault("behind: no secret in headers", JS + "gate.js", "delete req.headers[SECRET];", "req.headers;", IT + "secret.py flows_see"),
    Fault("behind: no secret in rawHeaders", JS + "gate.js", "if (raw[at].toLowerCase() === SECRET) raw.splice(at, 2);", "", IT + "secret.py flows_see"),
    Fault("behind: no secret in headersDistinct", JS + "gate.js", "delete req.headersDistinct[SECRET];", "req.headersDistinct;", IT + "secret.py flows_see"),
    Fault("behind: the digest alone is published", "engines/nodered/publish.py", '"secret_sha256": secret_sha256,', '"secret_sha256": secret_sha256, "secret": "5e" * 32,',
          IT + "secret.py digest_alone"),
    # behind.json
    Fault("behind: a garbled file closes", JS + "expected.js", 'if (!whole) throw new Error("it is not what redlatch writes");', "", GATE),
    Fault("behind: a file that goes bad closes", JS + "expected.js", "    this.told = null;\n    this.digest = null;\n    try", "    try",
          IT + "start.py becomes_bad"),
    Fault("behind: the file is followed", JS + "expected.js", "  follow() {\n", "  follow() {\n    return;\n", IT + "start.py becomes_bad"),
    Fault("behind: a mismatch looks again", JS + "expected.js", " || (this.look() && this.equals(digest))", "", GATE),
    Fault("behind: a digest is a digest", "engines/nodered/publish.py", "if _PART.fullmatch(secret_sha256) is None:", "if False:",
          IT + "start.py no_other_digest"),
    # who the user is
    Fault("behind: the user is the request's", JS + "gate.js", "{ ticket: null, user: userOf(req.headers) }",
          "(req.socket.state = req.socket.state || { ticket: null, user: userOf(req.headers) })", IT + "sign_on.py one_connection"),
    Fault("behind: a permission is one of two", JS + "gate.js", " || !PERMISSIONS.has(permissions)) return null;", ") return null;", IT + "sign_on.py nobody"),
    Fault("behind: a user has a name", JS + "gate.js", "!USER_NAME.test(username)", "false", IT + "sign_on.py nobody"),
    Fault("behind: an own adminAuth stays", JS + "behind.js", "if (told === null || !told.keep_auth) auth.signOn", "auth.signOn", IT + "sign_on.py own_admin_auth"),
    Fault("behind: single sign-on as long as nothing else was said", JS + "behind.js", "if (told === null || !told.keep_auth) auth.signOn", "if (told !== null && !told.keep_auth) auth.signOn",
          WRAP),
    # where it listens, and whether
    Fault("behind: loopback", JS + "behind.js", "settings.uiHost = LOOPBACK;", "", IT + "start.py loopback"),
    Fault("behind: loopback as long as nothing else was said", JS + "behind.js", "if (told === null || !told.keep_host)", "if (told !== null && !told.keep_host)", WRAP),
    Fault("behind: what is set afterwards does not count", JS + "behind.js", "    apply(given, told); // anew", "    // anew", IT + "start.py afterwards or loopback"),
    Fault("behind: plain http", JS + "behind.js", "delete settings.https; //", "//", IT + "start.py starts_nothing or afterwards"),
    Fault("behind: no redirect to where one is", JS + "behind.js", "delete settings.requireHttps;", "", IT + "secret.py with_the_secret"),
    Fault("behind: no port without having taken over", JS + "behind.js", 'require("./preload.js");', "", IT + "start.py taken_over"),
    Fault("behind: armed only by taking over", JS + "behind.js", "  const expected = new Expected(FOLDER);", "  processState().armed = true;\n  const expected = new Expected(FOLDER);",
          IT + "start.py taken_over"),
    Fault("behind: only the server of these settings", JS + "behind.js", "settings && settings[KEY] === mark", "settings", WRAP),
    # the lines in settings.js
    Fault("behind: each block is proven for what it is", "engines/nodered/edit.py", 'return found.guarded and found.behind == (entry == "behind.js")', "return True",
          IT + "life.py without_effect"),
    Fault("behind: locked inside is not behind", "engines/nodered/inspection.py", "return self.guarded and not self.behind", "return self.guarded",
          IT + "life.py place_of_the_other"),
    Fault("behind: bound is bound by these lines", "engines/nodered/inspection.py", 'bound=answer.get("behind") is True and answer.get("bound") is True', "bound=True",
          IT + "life.py place_of_the_other"),
    Fault("behind: lines that are lost are missed", "operations/gateway_standing.py", "return found.ok and found.guarded and found.bound", "return found.ok",
          IT + "life.py what_is_lost"),
    Fault("behind: a way that would end is refused", "operations/gateway_plan.py", "    _refuse_other_ways(found, inspection.port)\n", "", IT + "life.py way_that_would_end"),
]  # fmt: skip
