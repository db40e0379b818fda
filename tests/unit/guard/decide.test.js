"use strict";
// The compiled decision against the vectors of the specification.

const { test } = require("node:test");
const assert = require("node:assert");
const fs = require("node:fs");
const path = require("node:path");

const GUARD = process.env.REDLATCH_TEST_GUARD || path.join(__dirname, "../../../src/redlatch/engines/nodered/guard");
const { Policy, decide } = require(path.join(GUARD, "decide.js"));
const reasons = require(path.join(GUARD, "reasons.json"));
const { network, snapshotOf } = require("../../vectors/read.js");
const { plainAddress, wordsOf } = require(path.join(GUARD, "networks.js"));
const VECTORS = JSON.parse(fs.readFileSync(path.join(__dirname, "../../vectors/decide.json"), "utf8"));
const [first] = VECTORS.sets;
const fresh = () => new Policy(snapshotOf(first.snapshot));
const admin = (policy) => policy.grants(policy.entry("b".repeat(64)), "198.51.100.1", false);

test("every vector gets its reason", () => {
  for (const { snapshot, cases } of VECTORS.sets) {
    const policy = snapshot === null ? null : new Policy(snapshotOf(snapshot));
    for (const { name, facts, expect } of cases) {
      assert.strictEqual(decide({ ...VECTORS.base, ...facts }, policy), expect, name);
    }
  }
});

test("a policy that has seen everything before still gives every vector its reason", () => {
  // Caches are filled by the first pass and by a pass in reverse order
  for (const { snapshot, cases } of VECTORS.sets.filter((set) => set.snapshot !== null)) {
    const policy = new Policy(snapshotOf(snapshot));
    for (const order of [cases, [...cases].reverse(), cases]) {
      for (const { name, facts, expect } of order) {
        assert.strictEqual(decide({ ...VECTORS.base, ...facts }, policy), expect, name);
      }
    }
  }
});

test("every reason has words", () => {
  for (const { cases } of VECTORS.sets) for (const { expect } of cases) assert.ok(reasons[expect].text, expect);
});

test("the cache of targets is bounded and forgets nothing that matters", () => {
  const grants = admin(fresh());
  for (let number = 0; number < 10000; number++) grants.reach(`/nowhere/${number}`);
  assert.ok(grants.young.size + grants.old.size <= 2048);
  assert.strictEqual(grants.reach("/flows"), admin(fresh()).reach("/flows"));
  grants.reach("/" + "x".repeat(8000));
  assert.ok(![...grants.young.keys()].some((key) => key.length > 256));
});

test("the combinations of rules that are kept are bounded, and one that was dropped is found anew", () => {
  const snapshot = snapshotOf(first.snapshot);
  snapshot.rules = Array.from({ length: 12 }, (_, bit) => ({
    ...snapshot.rules[0], id: bit, roles: [], anyone: true, networks: [`n${bit}`],
  }));
  // Network n(bit) holds the addresses 10.0.x.y in whose number that bit is set: 4096 combinations
  const holds = (bit) => ({ has: ([word]) => (word & (1 << bit)) !== 0 });
  snapshot.networks = new Map(Array.from({ length: 12 }, (_, bit) => [`n${bit}`, holds(bit)]));
  const policy = new Policy(snapshot);
  const from = (value) => policy.grants(null, `10.0.${value >> 8}.${value & 255}`, false).rules.length;
  for (let value = 0; value < 4096; value++) from(value);
  assert.ok(policy.grantsOf.size <= 1024);
  for (const value of [0, 1, 3, 7, 4095]) assert.strictEqual(from(value), value.toString(2).replaceAll("0", "").length);
});

test("a path that fits no pattern is told so in linear time", () => {
  const grants = admin(fresh());
  const begin = process.cpuUsage().user;
  grants.reach("/" + "a".repeat(8000) + ";");
  grants.reach("/" + "a/".repeat(4000) + ";");
  assert.ok(process.cpuUsage().user - begin < 1e6); // a backtracking pattern needs longer than the universe has
});

test("an upgrade is never a person following a link", () => {
  const headers = { host: "pi.local", "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document" };
  const policy = fresh();
  assert.strictEqual(policy.verdict(admin(policy), "GET", "/comms", headers, undefined), "ok");
  assert.strictEqual(policy.verdict(admin(policy), "GET", "/comms", headers, "websocket"), "cross-origin");
});

test("what the editor is told follows the rules: everything, reading, nothing", () => {
  const permission = (...rules) => {
    const snapshot = snapshotOf({ ...first.snapshot, rules: rules.map((rule, id) => ({ id, anyone: true, ...rule })) });
    return new Policy(snapshot).grants(null, "10.0.0.1", false).permission;
  };
  assert.strictEqual(permission(), null);
  assert.strictEqual(permission({ area: "dashboards" }, { path: "/x" }, { area: "http-in" }), null);
  assert.strictEqual(permission({ area: "editor-read" }), "read");
  assert.strictEqual(permission({ area: "editor", methods: ["GET"] }), "read");
  assert.strictEqual(permission({ area: "editor", methods: ["POST"] }), null);
  assert.strictEqual(permission({ area: "editor-read" }, { area: "editor" }), "*");
  assert.strictEqual(permission({ area: "all" }), "*");
});

test("addresses are read as Python reads them", () => {
  assert.deepStrictEqual(wordsOf("10.0.0.1"), [0x0a000001]);
  assert.deepStrictEqual(wordsOf("255.255.255.255"), [0xffffffff]);
  assert.deepStrictEqual(wordsOf("::ffff:10.0.0.1"), [0x0a000001]);
  assert.deepStrictEqual(wordsOf("::ffff:a00:1"), [0x0a000001]);
  assert.deepStrictEqual(wordsOf("2001:db8::1"), [0x20010db8, 0, 0, 1]);
  assert.deepStrictEqual(wordsOf("::"), [0, 0, 0, 0]);
  assert.deepStrictEqual(wordsOf("::1.2.3.4"), [0, 0, 0, 0x01020304]);
  for (const zone of ["eth0", "br_lan", "wl p3"]) assert.deepStrictEqual(wordsOf(`fe80::1%${zone}`), [0xfe800000, 0, 0, 1]);
  assert.deepStrictEqual(wordsOf("1:2:3:4:5:6:7:8"), [0x00010002, 0x00030004, 0x00050006, 0x00070008]);
  for (const none of ["", "x", "1.2.3", "01.2.3.4", "1.2.3.4.5", "256.1.1.1", ":::", "1::2::3", "%eth0", "::1%", "::1%a%b", "::1%a/b", "1.2.3.4%eth0"]) {
    assert.strictEqual(wordsOf(none), null, none);
  }
  assert.strictEqual(plainAddress("::ffff:10.0.0.1"), "10.0.0.1");
  assert.strictEqual(plainAddress("::ffff:zz"), "::ffff:zz");
});

test("a table is searched to its edges, and one that is not sorted is refused", () => {
  const table = network(["10.0.0.1", "10.0.0.3-10.0.0.5", "255.255.255.255", "2001:db8::/126", "ffff::1"]);
  const has = (address) => table.has(wordsOf(address));
  for (const inside of ["10.0.0.1", "10.0.0.3", "10.0.0.4", "10.0.0.5", "255.255.255.255", "2001:db8::", "2001:db8::3", "ffff::1"]) {
    assert.ok(has(inside), inside);
  }
  for (const outside of ["0.0.0.0", "10.0.0.0", "10.0.0.2", "10.0.0.6", "255.255.255.254", "2001:db8::4", "2001:db7::", "::", "ffff::2"]) {
    assert.ok(!has(outside), outside);
  }
  assert.throws(() => network(["10.0.0.5-10.0.0.3"]), /not sorted/);
  assert.throws(() => network(["10.0.0.1-10.0.0.9", "10.0.0.5"]), /not sorted/);
  assert.throws(() => network(["2001:db8::2-2001:db8::1"]), /not sorted/);
  assert.throws(() => network(["2001:db8::/64", "2001:db8::5"]), /not sorted/);
});
