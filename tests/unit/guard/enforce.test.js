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
const { groupOf, isPrivate, plainAddress } = require(path.join(GUARD, "door.js"));

const FINGERPRINT = "ab".repeat(32);
const SNAPSHOT = {
  format: 1, site: "s", version: 1, time: 0, mode: "strict", port: null, keep_auth: true, names: ["pi"], origins: [],
  admin_root: "/", dashboards: [], spool: "/nowhere",
  devices: { [FINGERPRINT]: { id: "1", role: "admin", user: "ann", not_before: 0, not_after: 4e9 } },
};

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
    published: { snapshot: snapshot && { snapshot, digest: "d" }, server: {}, deviceCa: [] },
    claims: claims || quiet,
    signOn: null,
  });
  enforcement.report = () => {};
  const server = new EventEmitter();
  const seen = [];
  for (const event of ["secureConnection", "request", "checkContinue", "checkExpectation", "upgrade", "connect"]) {
    server.on(event, () => seen.push(event));
  }
  enforcement.takeOver(server);
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
  const { server, seen } = guarded({ snapshot: null });
  const from = socket(FINGERPRINT);
  server.emit("secureConnection", from);
  assert.ok(from.destroyed);
  assert.deepStrictEqual(seen, []);
});

test("an error of ours closes the connection and reaches nobody", () => {
  for (const broken of ["judge", "refresh", "log"]) {
    const { enforcement, server, seen, from } = admitted();
    enforcement[broken] = () => {
      throw new Error("broken");
    };
    if (broken === "refresh") {
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
  assert.strictEqual(plainAddress("::ffff:10.0.0.1"), "10.0.0.1");
  assert.strictEqual(plainAddress("::ffff:zz"), "::ffff:zz");
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
