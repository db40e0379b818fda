"use strict";
// Who holds the other end, and as whom Node-RED's editor gets to know them.

const { test } = require("node:test");
const assert = require("node:assert");
const path = require("node:path");

const GUARD = process.env.REDLATCH_TEST_GUARD || path.join(__dirname, "../../../src/redlatch/engines/nodered/guard");
const { Policy } = require(path.join(GUARD, "decide.js"));
const { Visitor } = require(path.join(GUARD, "visitor.js"));
const { snapshotOf } = require("../../vectors/read.js");

const FINGERPRINT = "ab".repeat(32);
const entry = { id: "1", role: "viewer", user: "ann", not_before: 0, not_after: 4e9 };
const policy = (fields) =>
  new Policy(
    snapshotOf({
      site: "s", version: 1, time: 0, mode: "strict", port: null, open_port: null, names: ["pi"], origins: [], admin_root: "/",
      spool: "/s", roles: {}, areas: { dashboards: [], http_in: [], static: [], websockets: [] },
      networks: { home: ["10.0.0.0/8"] }, devices: { [FINGERPRINT]: entry },
      rules: [{ id: 3, roles: ["viewer"], area: "editor-read" }, { id: 4, roles: ["viewer"], networks: ["home"], area: "editor" }],
      ...fields,
    }),
  );

function visitor(given, { address = "8.8.8.8", fingerprint = FINGERPRINT, verified = true } = {}) {
  const made = new Visitor({ address, byOpenPort: false });
  Object.assign(made, { fingerprint, verified });
  made.refresh(given);
  return made;
}

test("the same device is told what the rules of its address let it do", () => {
  assert.deepStrictEqual(visitor(policy()).user, { username: "ann", permissions: "read" });
  assert.deepStrictEqual(visitor(policy(), { address: "10.0.0.1" }).user, { username: "ann", permissions: "*" });
});

test("nobody is a user without a rule for the editor, without a name, or without being let in", () => {
  assert.strictEqual(visitor(policy({ rules: [{ id: 1, roles: ["viewer"], area: "dashboards" }] })).user, null);
  assert.strictEqual(visitor(policy({ devices: { [FINGERPRINT]: { ...entry, user: "" } } })).user, null);
  assert.strictEqual(visitor(policy(), { verified: false }).user, null);
  assert.strictEqual(visitor(policy(), { fingerprint: null }).user, null);
  assert.strictEqual(visitor(null).user, null);
});

test("who is let into the editor without a certificate is nobody's user", () => {
  const open = policy({ rules: [{ id: 1, anyone: true, networks: ["home"], area: "editor" }] });
  const found = visitor(open, { address: "10.0.0.1", fingerprint: null });
  assert.deepStrictEqual(found.user, { username: "anyone", permissions: "*" });
  assert.strictEqual(visitor(open, { fingerprint: null }).user, null);
});

test("what a flow does to the user of one request does not change the user of the next", () => {
  const { user } = visitor(policy());
  assert.throws(() => {
    user.permissions = "*";
  }, TypeError);
});

test("no clock makes a device of who showed no certificate, and a clock does of who showed one early", () => {
  const early = policy({ devices: { [FINGERPRINT]: { ...entry, not_before: 4e9 } } });
  const nobody = visitor(early, { fingerprint: null });
  assert.ok(nobody.isCurrent(early));
  assert.ok(!visitor(early).isCurrent(early)); // looked at again with each request
});
