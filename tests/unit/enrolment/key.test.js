"use strict";

const { test } = require("node:test");
const assert = require("node:assert");
const path = require("node:path");
const key = require(path.join(__dirname, "../../../src/redlatch/service/enrolment/static/key.js"));

test("a password is 15 of 24 letters in three groups, and every letter comes as often", () => {
  const counts = {};
  for (let round = 0; round < 4000; round += 1) {
    const made = key.password();
    assert.match(made, /^[a-km-np-z]{5}-[a-km-np-z]{5}-[a-km-np-z]{5}$/);
    for (const letter of made.replaceAll("-", "")) counts[letter] = (counts[letter] ?? 0) + 1;
  }
  assert.strictEqual(Object.keys(counts).length, 24);
  assert.ok(15 * Math.log2(24) > 60);
  // The remainder of a whole byte by 24 would make the last eight letters rarer: 18750 of 60000 instead of 20000,
  // which is eleven standard deviations off; six are allowed
  const last = Object.entries(counts).filter(([letter]) => letter >= "s").reduce((sum, [, count]) => sum + count, 0);
  assert.ok(Math.abs(last - 20000) < 700, `${last}`);
});

test("a friendly name is what pki.bundles makes of it", () => {
  for (const [name, expected] of [
    ["Bart's phone 📱", "Bart's phone"],
    ["❤️ tablet ☎", "tablet"],
    ["👩‍👩‍👧", "redlatch device"],
    ["Büro", "Büro"],
    ["日本語", "日本語"],
    ["1️⃣ phone", "1 phone"],
    ["<b> + $", "<b> + $"],
    ["", "redlatch device"],
    ["a\u0000\u001b[31m\nb\u202e", "a [31m b"],
    ["x".repeat(500), "x".repeat(64)],
  ]) assert.strictEqual(key.friendly(name), expected);
});

test("a C header holds the lines of the PEM, and nothing that ends a string or a line of C", () => {
  const text = "-----BEGIN CERTIFICATE-----\nAB+/=\n\"; system(\"x\\\n-----END CERTIFICATE-----\n";
  const made = key.header({ client_cert: text });
  assert.match(made, /const char client_cert\[\] PROGMEM =\n {2}"-----BEGIN CERTIFICATE-----\\n"\n {2}"AB\+\/=\\n"\n/);
  for (const line of made.split("\n").filter((one) => one.startsWith("  \""))) {
    assert.match(line, /^ {2}"[A-Za-z0-9+/= -]*\\n"$/);
  }
});

test("certificates are found in a PEM text, and none in anything else", () => {
  const pem = key.pem("CERTIFICATE", Uint8Array.of(0x30, 1, 2)) + "other\n" + key.pem("CERTIFICATE", Uint8Array.of(0x30, 9));
  assert.deepStrictEqual(key.certificates(pem).map((one) => [...one]), [[0x30, 1, 2], [0x30, 9]]);
  assert.deepStrictEqual(key.certificates("<html>"), []);
});

test("two keys are never the same", async () => {
  const [one, other] = await Promise.all([key.makeKey(), key.makeKey()]);
  assert.notDeepStrictEqual(await key.privateKey(one.keys), await key.privateKey(other.keys));
});
