"use strict";
// What wrap() makes of settings, and which server it takes over: Node-RED's with these settings, and no other.

const { test } = require("node:test");
const assert = require("node:assert");
const { EventEmitter } = require("node:events");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");

const BEHIND = process.env.REDLATCH_TEST_GUARD;
const KEY = Symbol.for("redlatch.guard");
const FILE = path.join(path.dirname(BEHIND), "behind.json");

// Node-RED's own lib/red.js, as far as it matters
const place = path.join(fs.mkdtempSync(path.join(os.tmpdir(), "behind-")), "node_modules/node-red/lib");
fs.mkdirSync(place, { recursive: true });
fs.writeFileSync(path.join(place, "red.js"), "exports.calls = []; exports.init = function (...all) { this.calls.push(all); return 7; };");
const red = require(path.join(place, "red.js"));
const { wrap } = require(path.join(BEHIND, "behind.js"));

const told = (more) =>
  fs.writeFileSync(FILE, JSON.stringify({ format: 1, secret_sha256: "ab".repeat(32), keep_auth: false, keep_host: false, ...more }));
const server = () => Object.assign(new EventEmitter(), { keepAliveTimeout: 5000 });
const isTaken = (one) => Object.hasOwn(one, "emit");

test("settings listen on loopback, in plain http, and sign on by the gateway's word", () => {
  told();
  const settings = wrap({ https: {}, httpsRefreshInterval: 1, requireHttps: true, uiHost: "0.0.0.0", adminAuth: "own", uiPort: 5 });
  assert.deepStrictEqual(Object.keys(settings).sort(), ["adminAuth", "editorTheme", "uiHost", "uiPort"]);
  assert.strictEqual(settings.uiHost, "127.0.0.1");
  assert.strictEqual(typeof settings.adminAuth.module.tokens, "function");
  assert.strictEqual(settings.uiPort, 5);
  assert.strictEqual(wrap(settings), settings);
});

test("an own adminAuth and an own address stay where that was said", () => {
  told({ keep_auth: true, keep_host: true });
  assert.deepStrictEqual(Object.entries(wrap({ adminAuth: "own", uiHost: "::" })), [["adminAuth", "own"], ["uiHost", "::"]]);
});

test("without a file all is closed: loopback, and nobody's adminAuth", () => {
  fs.rmSync(FILE);
  const settings = wrap({ adminAuth: null, uiHost: "0.0.0.0" });
  assert.strictEqual(settings.uiHost, "127.0.0.1");
  assert.strictEqual(typeof settings.adminAuth.module.tokens, "function");
});

test("no settings are an error", () => {
  for (const none of [undefined, null, "settings"]) assert.throws(() => wrap(none), /exports no settings/);
});

test("the server that Node-RED is initialised with is taken over, another's is not", () => {
  told();
  const settings = wrap({});
  settings.uiHost = "0.0.0.0"; // -D
  settings.adminAuth = null;
  assert.notStrictEqual((globalThis[KEY] || {}).armed, true);
  const [others, own] = [server(), server()];
  const theirs = {};
  assert.strictEqual(red.init(others, theirs), 7);
  assert.strictEqual(isTaken(others), false);
  assert.notStrictEqual((globalThis[KEY] || {}).armed, true);
  assert.strictEqual(red.init(own, settings), 7);
  assert.deepStrictEqual(red.calls, [[others, theirs], [own, settings]]);
  assert.strictEqual(isTaken(own), true);
  assert.strictEqual(globalThis[KEY].armed, true);
  assert.strictEqual(settings.uiHost, "127.0.0.1");
  assert.strictEqual(typeof settings.adminAuth.module.tokens, "function");
  const { emit } = own;
  red.init(own, settings);
  assert.strictEqual(own.emit, emit); // once
});
