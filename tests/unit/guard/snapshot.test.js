"use strict";
// What counts as a snapshot.

const { test } = require("node:test");
const assert = require("node:assert");
const crypto = require("node:crypto");
const path = require("node:path");

const GUARD = process.env.REDLATCH_TEST_GUARD || path.join(__dirname, "../../../src/redlatch/engines/nodered/guard");
const { parse } = require(path.join(GUARD, "snapshot.js"));

const GOOD = {
  format: 1, site: "s", version: 3, time: 1000, mode: "strict", port: null, keep_auth: false, names: ["pi"],
  origins: [], admin_root: "/", dashboards: ["/ui"], spool: "/spool",
  devices: { ["a".repeat(64)]: { id: "1", role: "admin", user: "ann", not_before: 1, not_after: 2 } },
};
function file(body) {
  const line = JSON.stringify(body);
  return Buffer.from(`${line}\n${crypto.createHash("sha256").update(line).digest("hex")}\n`);
}

test("a good one is read", () => {
  assert.deepStrictEqual(parse(file(GOOD)).snapshot, GOOD);
});

test("every field has to be there and be of its kind", () => {
  for (const name of Object.keys(GOOD)) {
    const { [name]: dropped, ...rest } = GOOD;
    assert.throws(() => parse(file(rest)), Error, `without ${name}`);
    for (const wrong of [undefined, -1, 0.5, "", "x", {}, [1], true, null]) {
      if (JSON.stringify(wrong) === JSON.stringify(dropped)) continue;
      const fits = { site: ["x"], version: [], admin_root: [null], spool: [], port: [null], keep_auth: [true], devices: ["{}"] };
      if ((fits[name] || []).some((value) => value === wrong || value === JSON.stringify(wrong))) continue;
      assert.throws(() => parse(file({ ...GOOD, [name]: wrong })), Error, `${name}: ${JSON.stringify(wrong)}`);
    }
  }
});

test("every device has to be whole", () => {
  const [[fingerprint, entry]] = Object.entries(GOOD.devices);
  for (const name of Object.keys(entry)) {
    const { [name]: dropped, ...rest } = entry;
    assert.throws(() => parse(file({ ...GOOD, devices: { [fingerprint]: rest } })), Error, name);
  }
  for (const odd of ["A".repeat(64), "a".repeat(63), "__proto__"]) {
    const devices = JSON.parse(`{"${odd}": ${JSON.stringify(entry)}}`);
    assert.throws(() => parse(file({ ...GOOD, devices })), Error, odd);
  }
});

test("whatever is cut off or added is noticed", () => {
  const whole = file(GOOD);
  for (let length = 0; length < whole.length; length += 7) {
    assert.throws(() => parse(whole.subarray(0, length)), Error, `${length} bytes`);
  }
  assert.throws(() => parse(whole.subarray(0, whole.length - 1)));
  assert.throws(() => parse(Buffer.concat([whole, Buffer.from("\n")])));
});
