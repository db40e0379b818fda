"use strict";
// The guard on a bare https server: what Node-RED gives no occasion to show. An error of ours closes, a claim that
// throws does nothing, and an event that nobody listens to in Node-RED is refused all the same.

const { test } = require("node:test");
const assert = require("node:assert");
const { EventEmitter } = require("node:events");
const path = require("node:path");

const GUARD = process.env.REDLATCH_TEST_GUARD || path.join(__dirname, "../../../src/redlatch/engines/nodered/guard");
const { Enforcement } = require(path.join(GUARD, "enforce.js"));
const { Claims } = require(path.join(GUARD, "claims.js"));
const { groupOf, isPrivate } = require(path.join(GUARD, "door.js"));
const { snapshotOf } = require("../../vectors/read.js");

const FINGERPRINT = "ab".repeat(32);
const SNAPSHOT = {
  format: 2, site: "s", version: 1, time: 0, mode: "strict", port: null, open_port: null, keep_auth: true, names: ["pi"],
  origins: [], admin_root: "/", spool: "/nowhere", roles: {}, networks: { here: ["127.0.0.1"] },
  areas: { dashboards: [], http_in: ["/hook"], static: [], websockets: [] }, rules: [{ id: 1, roles: ["admin"], area: "all" }],
  devices: { [FINGERPRINT]: { id: "1", role: "admin", user: "ann", not_before: 0, not_after: 4e9 } },
};
const OPEN = { ...SNAPSHOT, rules: [...SNAPSHOT.rules, { id: 2, anyone: true, networks: ["here"], area: "http-in" }] };

function socket(fingerprint) {
  const made = new EventEmitter();
  Object.assign(made, { remoteAddress: "127.0.0.1", remotePort: 1, authorized: true, destroyed: false, sent: "" });
  made.getPeerX509Certificate = () =>
    fingerprint && { fingerprint256: fingerprint.toUpperCase().replace(/(..)(?!$)/g, "$1:") };
  made.destroy = () => {
    made.destroyed = true;
  };
  made.end = (text) => {
    made.sent += text;
  };
  return made;
}

function guarded({ snapshot = SNAPSHOT, claims } = {}) {
  const quiet = { access() {}, inForce() {}, connectionsChanged() {}, start() {} };
  const enforcement = new Enforcement({
    published: { snapshot: snapshot && { snapshot: snapshotOf(snapshot), digest: "d" }, server: {}, deviceCa: [] },
    claims: claims || quiet,
    signOn: null,
  });
  enforcement.report = () => {};
  const server = new EventEmitter();
  const seen = [];
  const ticketOf = (from) => ({ address: from.remoteAddress, byOpenPort: false, optional: true, raw: from, bucket: null });
  for (const event of ["secureConnection", "request", "checkContinue", "checkExpectation", "upgrade", "connect"]) {
    server.on(event, () => seen.push(event));
  }
  server.address = () => null;
  enforcement.takeOver(server);
  enforcement.door.ticketOf = ticketOf; // a real socket's raw connection came by the door first
  enforcement.door.admitted = enforcement.door.lingers = enforcement.door.release = () => {};
  return { enforcement, server, seen };
}

const answer = () => ({ writeHead(status) { this.status = status; }, end() {} });
const req = (from, fields) => ({ socket: from, method: "GET", url: "/", headers: { host: "pi" }, ...fields });

function admitted(options) {
  const made = guarded(options);
  const from = socket(FINGERPRINT);
  made.server.emit("secureConnection", from);
  return { ...made, from };
}

test("a device's connection, request and websocket pass", () => {
  const { server, seen, from } = admitted();
  server.emit("request", req(from), answer());
  server.emit("checkContinue", req(from), answer());
  server.emit("checkExpectation", req(from), answer());
  server.emit("upgrade", req(from, { headers: { host: "pi", upgrade: "websocket" } }), from);
  assert.deepStrictEqual(seen, ["secureConnection", "request", "checkContinue", "checkExpectation", "upgrade"]);
});

test("the sidebar is told which device is behind a socket, by the snapshot of now", () => {
  const { enforcement, from } = admitted({ snapshot: { ...SNAPSHOT, roles: { admin: "owner" } } });
  const own = { id: "1", role: "admin", base: "owner", fingerprint: FINGERPRINT, not_after: 4e9, from: "127.0.0.1" };
  assert.deepStrictEqual(enforcement.deviceBehind(from), own);
  assert.strictEqual(enforcement.deviceBehind(socket(FINGERPRINT)), null); // nobody looked at this one
  enforcement.published.snapshot = { snapshot: snapshotOf({ ...SNAPSHOT, devices: {} }), digest: "e" };
  enforcement.adopt();
  assert.strictEqual(enforcement.deviceBehind(from), null);
});

test("who needs no certificate is no device to the sidebar", () => {
  const { enforcement, server } = guarded({ snapshot: OPEN });
  const from = socket(undefined);
  server.emit("secureConnection", from);
  assert.strictEqual(enforcement.isAdmitted(from), true);
  assert.strictEqual(enforcement.deviceBehind(from), null);
});

test("CONNECT is refused, and with it an upgrade that names no protocol", () => {
  const { server, seen, from } = admitted();
  server.emit("connect", req(from, { method: "CONNECT", url: "/" }), from);
  server.emit("connect", req(from, { headers: { host: "pi", upgrade: "websocket" } }), from);
  server.emit("upgrade", req(from), from);
  assert.deepStrictEqual(seen, ["secureConnection"]);
  assert.match(from.sent, /^HTTP\/1.1 403 /);
});

test("expectations of a stranger and of another page are judged", () => {
  const { server, seen, from } = admitted();
  for (const event of ["request", "checkContinue", "checkExpectation"]) {
    const res = answer();
    server.emit(event, req(from, { method: "POST", headers: { host: "pi", origin: "null" } }), res);
    assert.strictEqual(res.status, 403);
  }
  assert.deepStrictEqual(seen, ["secureConnection"]);
});

test("a connection that nobody looked at is closed at its first request", () => {
  const { server, seen } = guarded();
  for (const event of ["request", "checkContinue", "upgrade"]) {
    const from = socket(FINGERPRINT);
    server.emit(event, req(from), event === "upgrade" ? from : answer());
    assert.ok(from.destroyed);
  }
  assert.deepStrictEqual(seen, []);
});

test("authorized without a certificate is taken back, for flows read it", () => {
  const { server, seen } = guarded({ snapshot: { ...SNAPSHOT, mode: "explain" } });
  const from = socket(undefined);
  server.emit("secureConnection", from);
  assert.strictEqual(from.authorized, false);
  const res = answer();
  server.emit("request", req(from), res);
  assert.strictEqual(res.status, 403);
  assert.deepStrictEqual(seen, ["secureConnection"]); // HTTP is spoken, so that the page can be shown
});

test("a listed certificate that TLS did not verify is refused", () => {
  const { server, seen } = guarded();
  const from = socket(FINGERPRINT);
  from.authorized = false;
  server.emit("secureConnection", from);
  assert.ok(from.destroyed);
  assert.deepStrictEqual(seen, []);
});

test("without a snapshot nobody passes", () => {
  const reasons = [];
  const claims = { access: (line) => reasons.push(line.reason), inForce() {}, connectionsChanged() {}, start() {} };
  const { server, seen } = guarded({ snapshot: null, claims });
  const from = socket(FINGERPRINT);
  server.emit("secureConnection", from);
  assert.ok(from.destroyed);
  assert.deepStrictEqual(seen, []);
  assert.deepStrictEqual(reasons, ["no-snapshot"]);
});

test("a stranger whom no rule knows is told of the certificate, whatever else is wrong", () => {
  const { server } = guarded({ snapshot: { ...SNAPSHOT, mode: "explain" } });
  const from = socket(undefined);
  server.emit("secureConnection", from);
  const res = { writeHead() {}, end: (body) => (res.body = body) };
  server.emit("request", req(from, { headers: { host: "evil.example" } }), res);
  assert.match(res.body, /\(no-certificate\)/);
});

test("an error of ours closes the connection and reaches nobody", () => {
  for (const broken of ["grants", "verdict", "log"]) {
    const { enforcement, server, seen, from } = admitted();
    (broken === "log" ? enforcement : enforcement.policy)[broken] = () => {
      throw new Error("broken");
    };
    if (broken === "grants") {
      const next = socket(FINGERPRINT);
      server.emit("secureConnection", next);
      assert.ok(next.destroyed, broken);
    } else {
      server.emit("request", req(from), answer());
      assert.ok(from.destroyed, broken);
    }
    assert.deepStrictEqual(seen, ["secureConnection"], broken);
  }
});

test("the choice of the handshake is of one connection, and an error in it closes", () => {
  const { enforcement, server } = guarded({ snapshot: OPEN });
  const raw = socket();
  const asked = [];
  const shake = () => asked.push([server.requestCert, server.rejectUnauthorized]);
  enforcement.begin({ raw, address: "127.0.0.1", byOpenPort: false }, shake);
  enforcement.begin({ raw, address: "127.0.0.2", byOpenPort: false }, shake);
  assert.deepStrictEqual(asked, [[true, false], [true, true]]);
  assert.deepStrictEqual([server.requestCert, server.rejectUnauthorized], [true, true]);
  assert.ok(!raw.destroyed);
  enforcement.begin({ raw, address: "127.0.0.1", byOpenPort: false }, () => {
    throw new Error("broken");
  });
  assert.ok(raw.destroyed);
  assert.deepStrictEqual([server.requestCert, server.rejectUnauthorized], [true, true]);
});

test("what a handshake asks for, by mode, address and port", () => {
  const asks = (snapshot, address, byOpenPort = false) => guarded({ snapshot }).enforcement.asks(address, byOpenPort);
  assert.strictEqual(asks(null, "127.0.0.1"), "required");
  assert.strictEqual(asks(SNAPSHOT, "127.0.0.1"), "required");
  assert.strictEqual(asks({ ...SNAPSHOT, mode: "explain" }, "8.8.8.8"), "optional");
  assert.strictEqual(asks({ ...SNAPSHOT, mode: "auto" }, "192.168.1.5"), "optional");
  assert.strictEqual(asks({ ...SNAPSHOT, mode: "auto" }, "8.8.8.8"), "required");
  assert.strictEqual(asks(OPEN, "127.0.0.1"), "optional");
  assert.strictEqual(asks(OPEN, "127.0.0.2"), "required");
  assert.strictEqual(asks(SNAPSHOT, "127.0.0.1", true), null);
  const open = { ...OPEN, open_port: 1890 };
  assert.strictEqual(asks(open, "127.0.0.1", true), "none");
  assert.strictEqual(asks(open, "127.0.0.2", true), null);
  assert.strictEqual(asks(open, "127.0.0.1"), "required"); // the rule counts on the open port alone
});

test("whom a rule lets in without a certificate gets that and nothing beside it", () => {
  const { server, seen } = guarded({ snapshot: OPEN });
  const from = socket(undefined);
  server.emit("secureConnection", from);
  assert.strictEqual(from.authorized, false);
  server.emit("request", req(from, { url: "/hook" }), answer());
  assert.deepStrictEqual(seen, ["secureConnection", "request"]);
  const res = answer();
  server.emit("request", req(from), res);
  assert.strictEqual(res.status, 403); // it knows already that somebody is here
  assert.ok(!from.destroyed);
  assert.deepStrictEqual(seen, ["secureConnection", "request"]);
});

test("frames of other origins are the browser's to judge, by a header that is there when origins are named", () => {
  for (const origins of [[], ["https://ha.local:8123"]]) {
    const { server, from } = admitted({ snapshot: { ...SNAPSHOT, origins } });
    const headers = {};
    server.emit("request", req(from), { setHeader: (name, value) => (headers[name] = value) });
    const wanted = origins.length ? { "Content-Security-Policy": "frame-ancestors 'self' https://ha.local:8123" } : {};
    assert.deepStrictEqual(headers, wanted);
  }
});

test("a change cuts who is somebody else now, and nobody beside", () => {
  const devices = (role) => ({ [FINGERPRINT]: { ...SNAPSHOT.devices[FINGERPRINT], role } });
  const rules = [...OPEN.rules, { id: 3, roles: ["user"], area: "all" }, { id: 4, roles: ["viewer"], area: "editor-read" }];
  const cases = [
    [{ ...OPEN }, [false, false]],
    [{ ...OPEN, rules: [...rules] }, [false, false]],
    [{ ...OPEN, rules, devices: devices("user") }, [false, false]], // another role, which reaches the same
    [{ ...OPEN, rules, devices: devices("thing") }, [true, false]],
    [{ ...OPEN, rules, devices: { [FINGERPRINT]: { ...SNAPSHOT.devices[FINGERPRINT], id: "2" } } }, [true, false]],
    [{ ...OPEN, rules, devices: { [FINGERPRINT]: { ...SNAPSHOT.devices[FINGERPRINT], user: "bob" } } }, [true, false]],
    [{ ...OPEN, devices: {} }, [true, false]],
    [SNAPSHOT, [false, true]],
    [{ ...OPEN, open_port: 1 }, [false, true]],
    [{ ...OPEN, areas: { ...OPEN.areas, http_in: [] } }, [false, true]],
  ];
  for (const [number, [after, cut]] of cases.entries()) {
    const { enforcement, server } = guarded({ snapshot: OPEN });
    const sockets = [socket(FINGERPRINT), socket(undefined)];
    for (const [at, one] of sockets.entries()) {
      server.emit("secureConnection", one);
      server.emit("request", req(one, { url: at ? "/hook" : "/flows" }), answer());
    }
    enforcement.published.snapshot = { snapshot: snapshotOf(after), digest: String(number) };
    enforcement.changed(["snapshot.json"], 0);
    assert.deepStrictEqual(sockets.map((one) => one.destroyed), cut, `case ${number}`);
  }
});

test("a websocket whose permission changed is cut: Node-RED knows it by the old one", () => {
  const rule = { id: 1, roles: ["admin"], area: "editor-read" };
  const { enforcement, server, from } = admitted({ snapshot: { ...SNAPSHOT, rules: [rule] } });
  server.emit("upgrade", req(from, { url: "/comms", headers: { host: "pi", upgrade: "websocket" } }), from);
  enforcement.published.snapshot = { snapshot: snapshotOf({ ...SNAPSHOT, rules: [rule, { ...rule, id: 2 }] }), digest: "e" };
  enforcement.changed(["snapshot.json"], 0);
  assert.ok(!from.destroyed);
  enforcement.published.snapshot = { snapshot: snapshotOf(SNAPSHOT), digest: "f" };
  enforcement.changed(["snapshot.json"], 0);
  assert.ok(from.destroyed);
});

test("a door that throws closes the raw connection", () => {
  const { enforcement, server } = guarded();
  enforcement.door.arrive = () => {
    throw new Error("broken");
  };
  const raw = socket();
  server.emit("connection", raw);
  assert.ok(raw.destroyed);
});

test("claims that cannot be made are not made, and nothing else happens", () => {
  const claims = new Claims({
    state: () => {
      throw new Error("broken");
    },
    connections: () => {
      throw new Error("broken");
    },
  });
  claims.start("/nonexistent/spool");
  const { server, seen, from } = admitted({ claims });
  claims.inForce();
  claims.access(null, true);
  server.emit("request", req(from), answer());
  assert.deepStrictEqual(seen, ["secureConnection", "request"]);
  assert.ok(!from.destroyed);
});

test("an expired certificate counts on no request, whatever timers do", (context) => {
  const { server, seen, from } = admitted();
  const now = Date.now;
  context.after(() => {
    Date.now = now;
  });
  server.emit("request", req(from), answer());
  Date.now = () => 4.1e12;
  server.emit("request", req(from), answer());
  assert.deepStrictEqual(seen, ["secureConnection", "request"]);
  assert.ok(from.destroyed);
});

test("a clock that was behind at the handshake does not keep a later request out of order", (context) => {
  const { server, seen, from } = admitted({ snapshot: { ...SNAPSHOT, time: 2000 } });
  const now = Date.now;
  context.after(() => {
    Date.now = now;
  });
  Date.now = () => 0; // a Pi without a clock battery: the snapshot's time counts
  server.emit("request", req(from), answer());
  assert.deepStrictEqual(seen, ["secureConnection", "request"]);
});

test("strangers' broken HTTP is not answered", () => {
  const { server } = guarded({ snapshot: { ...SNAPSHOT, mode: "explain" } });
  const from = socket(undefined);
  server.emit("secureConnection", from);
  server.emit("clientError", new Error("bad request"), from);
  assert.ok(from.destroyed);
});

test("addresses", () => {
  for (const one of ["10.1.2.3", "172.31.0.1", "192.168.0.1", "127.0.0.1", "169.254.1.1", "::1", "fd00::1", "fe80::1%eth0"]) {
    assert.ok(isPrivate(one), one);
  }
  for (const one of ["8.8.8.8", "172.32.0.1", "100.64.0.1", "2001:db8::1", "", "x", "11.0.0.1"]) {
    assert.ok(!isPrivate(one), one);
  }
  assert.strictEqual(groupOf("2001:db8:1:2:3:4:5:6"), groupOf("2001:db8:1:2::9"));
  assert.notStrictEqual(groupOf("2001:db8:1:2::9"), groupOf("2001:db8:1:3::9"));
  assert.strictEqual(groupOf("10.0.0.1"), "10.0.0.1");
});

const OURS = { host: "pi", origin: "https://pi" };
const AGAIN = { url: "/.redlatch/again", method: "POST", headers: OURS };

/** A stranger's connection where strangers are told why, and what the guard answers to `fields`. */
function told(snapshot, { fingerprint, address = "127.0.0.1", ...rest } = {}) {
  const made = guarded({ snapshot: { ...SNAPSHOT, mode: "explain", ...snapshot } });
  made.server.setTicketKeys = () => {};
  const from = socket(fingerprint);
  Object.assign(from, { remoteAddress: address, ...rest });
  made.server.emit("secureConnection", from);
  const ask = (fields, by = from) => {
    const res = { writeHead(status) { this.status = status; }, end(body) { this.body = body; } };
    made.server.emit("request", req(by, fields), res);
    return res;
  };
  return { ...made, from, ask };
}

test("a page of ours has the guard insist, for its own address alone", () => {
  const { enforcement, ask } = told();
  assert.strictEqual(enforcement.asks("127.0.0.1"), "optional");
  assert.strictEqual(ask(AGAIN).status, 204);
  assert.strictEqual(enforcement.asks("127.0.0.1"), "required");
  assert.strictEqual(enforcement.asks("127.0.0.2"), "optional");
  assert.strictEqual(ask(AGAIN).status, 204); // it insists already
});

test("one address at a time", () => {
  const { enforcement, server, ask } = told();
  const other = Object.assign(socket(undefined), { remoteAddress: "127.0.0.9" });
  server.emit("secureConnection", other);
  assert.strictEqual(ask(AGAIN).status, 204);
  const second = ask(AGAIN, other);
  assert.deepStrictEqual([second.status, second.body], [403, "busy"]);
  assert.strictEqual(enforcement.asks("127.0.0.9"), "optional");
});

test("other pages, other methods and devices do not have it insist", () => {
  for (const [fields, fingerprint] of [
    [{ ...AGAIN, headers: { host: "pi", origin: "https://elsewhere" } }],
    [{ ...AGAIN, headers: { host: "pi", origin: "null" } }],
    [{ ...AGAIN, headers: { host: "pi" } }],
    [{ ...AGAIN, headers: { host: "elsewhere", origin: "https://elsewhere" } }],
    [{ ...AGAIN, headers: { host: "pi", "sec-fetch-site": "cross-site" } }],
    [{ ...AGAIN, method: "GET" }],
    [AGAIN, FINGERPRINT],
  ]) {
    const { enforcement, ask } = told({}, { fingerprint });
    ask(fields);
    assert.strictEqual(enforcement.asks("127.0.0.1"), "optional");
  }
});

test("what the page is told of its own connection", () => {
  const probe = { url: "/.redlatch/probe", headers: { host: "pi", "sec-fetch-site": "same-origin" } };
  const says = (...given) => {
    const { status, body } = told(...given).ask(probe);
    return [status, body];
  };
  assert.deepStrictEqual(says({}, {}), [403, "no-certificate"]);
  assert.deepStrictEqual(says({}, { fingerprint: "cd".repeat(32) }), [403, "unknown-certificate"]);
  assert.deepStrictEqual(says({}, { fingerprint: FINGERPRINT }), [204, undefined]);
});

test("a certificate that TLS refuses for its dates is named so, and refused", () => {
  const dated = (fingerprint, authorizationError) => ({ fingerprint, authorized: false, authorizationError });
  for (const [given, reason] of [
    [dated(FINGERPRINT, "CERT_HAS_EXPIRED"), "expired"],
    [dated(FINGERPRINT, "CERT_NOT_YET_VALID"), "not-yet-valid"],
    [dated(FINGERPRINT, "SELF_SIGNED_CERT_IN_CHAIN"), "untrusted-certificate"],
    [dated("cd".repeat(32), "CERT_HAS_EXPIRED"), "unknown-certificate"],
  ]) {
    const { ask, seen } = told({}, given);
    const res = ask({ headers: { host: "pi" } });
    assert.strictEqual(res.status, 403);
    assert.match(res.body, new RegExp(`\\(${reason}\\)`));
    assert.ok(!seen.includes("request"));
  }
});

test("who asks with an expired certificate is turned back by an alert, a few times; others never are", () => {
  const raw = () => Object.assign(new EventEmitter(), { sent: null, end(data) { this.sent = data; } });
  const begins = (enforcement, address) => {
    const arrived = raw();
    let proceeded = false;
    enforcement.begin({ raw: arrived, address, byOpenPort: false, optional: false }, () => {
      proceeded = true;
    });
    assert.notStrictEqual(proceeded, arrived.sent !== null);
    return arrived.sent === null ? null : [...arrived.sent];
  };
  const alert = [21, 3, 3, 0, 2, 2, 116];
  const expired = told({}, { fingerprint: FINGERPRINT, authorized: false, authorizationError: "CERT_HAS_EXPIRED" });
  assert.strictEqual(begins(expired.enforcement, "127.0.0.1"), null);
  expired.ask(AGAIN);
  assert.strictEqual(begins(expired.enforcement, "127.0.0.2"), null);
  for (let n = 0; n < 3; n++) assert.deepStrictEqual(begins(expired.enforcement, "127.0.0.1"), alert);
  assert.strictEqual(begins(expired.enforcement, "127.0.0.1"), null);
  const without = told();
  without.ask(AGAIN);
  assert.strictEqual(begins(without.enforcement, "127.0.0.1"), null);
});

test("what a stranger has open is closed where the guard begins to insist: it would be used instead of a new one", () => {
  const { server, from, ask } = told();
  const opened = (fingerprint, remoteAddress) => {
    const made = Object.assign(socket(fingerprint), { remoteAddress });
    server.emit("secureConnection", made);
    return made;
  };
  const leftover = opened(undefined, "127.0.0.1");
  const others = [opened(FINGERPRINT, "127.0.0.1"), opened(undefined, "127.0.0.2"), from];
  ask(AGAIN);
  assert.ok(leftover.destroyed);
  assert.deepStrictEqual(others.map((one) => one.destroyed), [false, false, false]);
});
