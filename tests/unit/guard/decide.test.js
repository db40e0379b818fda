"use strict";
// The compiled decision against the vectors of the specification.

const { test } = require("node:test");
const assert = require("node:assert");
const fs = require("node:fs");
const path = require("node:path");

const GUARD = process.env.REDLATCH_TEST_GUARD || path.join(__dirname, "../../../src/redlatch/engines/nodered/guard");
const { Policy, decide } = require(path.join(GUARD, "decide.js"));
const reasons = require(path.join(GUARD, "reasons.json"));
const VECTORS = JSON.parse(fs.readFileSync(path.join(__dirname, "../../vectors/decide.json"), "utf8"));
const [first] = VECTORS.sets;

test("every vector gets its reason", () => {
  for (const { snapshot, cases } of VECTORS.sets) {
    const policy = snapshot === null ? null : new Policy(snapshot);
    for (const { name, facts, expect } of cases) {
      assert.strictEqual(decide({ ...VECTORS.base, ...facts }, policy), expect, name);
    }
  }
});

test("a policy that has seen everything before still gives every vector its reason", () => {
  // Caches are filled by the first pass and by a pass in reverse order
  const policy = new Policy(first.snapshot);
  for (const order of [first.cases, [...first.cases].reverse(), first.cases]) {
    for (const { name, facts, expect } of order) {
      assert.strictEqual(decide({ ...VECTORS.base, ...facts }, policy), expect, name);
    }
  }
});

test("every reason has words", () => {
  for (const { cases } of VECTORS.sets) for (const { expect } of cases) assert.ok(reasons[expect].text, expect);
});

test("the cache of targets is bounded and forgets nothing that matters", () => {
  const policy = new Policy(first.snapshot);
  for (let number = 0; number < 10000; number++) policy.class(`/nowhere/${number}`);
  assert.ok(policy.young.size + policy.old.size <= 2048);
  assert.strictEqual(policy.class("/flows"), new Policy(first.snapshot).class("/flows"));
  policy.class("/" + "x".repeat(8000));
  assert.ok(![...policy.young.keys()].some((key) => key.length > 256));
});

test("a path that fits no pattern is told so in linear time", () => {
  const policy = new Policy(first.snapshot);
  const begin = process.cpuUsage().user;
  policy.class("/" + "a".repeat(8000) + ";");
  policy.class("/" + "a/".repeat(4000) + ";");
  assert.ok(process.cpuUsage().user - begin < 1e6); // a backtracking pattern needs longer than the universe has
});

test("an unknown role reaches nothing", () => {
  const policy = new Policy(first.snapshot);
  for (const target of ["/", "/flows", "/dashboard", "/hello"]) {
    assert.strictEqual(policy.role("superuser", "GET", target, undefined), "no-rule");
  }
});

test("an upgrade is never a person following a link", () => {
  const headers = { host: "pi.local", "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document" };
  const policy = new Policy(first.snapshot);
  assert.strictEqual(policy.request("GET", "/comms", headers, undefined), null);
  assert.strictEqual(policy.request("GET", "/comms", headers, "websocket"), "cross-origin");
});
