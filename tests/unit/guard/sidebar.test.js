"use strict";
// The sidebar's half inside Node-RED and its words, without Node-RED: who is told what, and what a garbled list does.

const { test } = require("node:test");
const assert = require("node:assert");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const vm = require("node:vm");

const ENGINE = path.join(__dirname, "../../../src/redlatch/engines/nodered");
const GUARD = process.env.REDLATCH_TEST_GUARD || path.join(ENGINE, "guard");
const PLUGIN = path.join(ENGINE, "plugin");
const { List, gathered, parse, stateFor } = require(path.join(PLUGIN, "sidebar.js"));
const { Claims } = require(path.join(GUARD, "claims.js"));
const { viewOf } = require(path.join(GUARD, "view.js"));

const device = (id, fields) => ({ id, name: `name ${id}`, role: "user", base: "user", owner: null, not_after: 5, ...fields });
const LIST = {
  format: 1, site: "s", version: 3, total: 2, devices: [device("1"), device("2")], ending: [],
  console: { port: 1881, listen: ["loopback"] },
};
const SOCKET = {};

function view(base) {
  const own = { id: "1", role: "mine", base, fingerprint: "ab", not_after: 5, from: "192.0.2.1" };
  return {
    deviceBehind: (socket) => (socket === SOCKET && base ? own : null),
    connections: () => [{ id: "1", from: "192.0.2.1", since: 5, websocket: true }],
    refusals: () => [{ reason: "no-certificate", from: "192.0.2.2" }],
    inForce: () => ({ site: "s", version: 3, problem: null }),
  };
}

const published = (list, problem = null) => ({ read: () => ({ list, problem }) });

test("owners and admins see everything", () => {
  for (const base of ["owner", "admin"]) {
    const state = stateFor(SOCKET, view(base), published(LIST));
    assert.deepStrictEqual(state.list.devices, LIST.devices);
    assert.strictEqual(state.connections.length, 1);
    assert.strictEqual(state.refusals.length, 1);
    assert.strictEqual(state.own.name, "name 1");
  }
});

test("a viewer sees its own certificate and nothing of others", () => {
  const state = stateFor(SOCKET, view("viewer"), published(LIST));
  assert.deepStrictEqual(Object.keys(state).sort(), ["console", "now", "own", "problem"]);
  assert.ok(!JSON.stringify(state).includes("name 2"));
});

test("nobody else sees anything, and without the guard nobody does", () => {
  for (const base of ["user", "thing", "mine", ""]) {
    assert.strictEqual(stateFor(SOCKET, view(base), published(LIST)), null);
  }
  assert.strictEqual(stateFor({}, view("owner"), published(LIST)), null);
  for (const none of [undefined, null]) assert.strictEqual(stateFor(SOCKET, none, published(LIST)), null);
});

test("without the list the rest is there, and another site's list is none", () => {
  const missing = stateFor(SOCKET, view("owner"), published(null, "missing"));
  assert.deepStrictEqual([missing.list, missing.problem, missing.own.name, missing.connections.length], [null, "missing", null, 1]);
  const foreign = stateFor(SOCKET, view("owner"), published({ ...LIST, site: "other" }));
  assert.deepStrictEqual([foreign.list, foreign.problem], [null, "garbled"]);
});

test("a list that is not exactly one is none", () => {
  assert.deepStrictEqual(parse(JSON.stringify(LIST)), LIST);
  const bad = [
    { format: 2 }, { site: 5 }, { version: "1" }, { total: -1 }, { devices: {} }, { devices: [null] }, { ending: [5] },
    { devices: [device("1", { name: {} })] }, { devices: [device("1", { not_after: "5" })] }, { console: null },
    { devices: [device("1", { owner: [] })] }, { console: { port: 0, listen: [] } }, { console: { port: 1, listen: [5] } },
  ];
  for (const change of bad) assert.strictEqual(parse(JSON.stringify({ ...LIST, ...change })), null, JSON.stringify(change));
  for (const text of ["", "[", "null", "[]", "5", JSON.stringify(LIST).slice(0, -1)]) assert.strictEqual(parse(text), null);
});

test("the file is read when it is another one, and said when it cannot be", () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "sidebar-"));
  try {
    const file = path.join(folder, "sidebar.json");
    const list = new List(file);
    assert.deepStrictEqual(list.read(), { list: null, problem: "missing" });
    const put = (text) => {
      fs.writeFileSync(file + ".new", text);
      fs.renameSync(file + ".new", file);
    };
    put(JSON.stringify(LIST));
    const first = list.read();
    assert.deepStrictEqual(first, { list: LIST, problem: null });
    assert.strictEqual(list.read(), first);
    put("garbage");
    assert.deepStrictEqual(list.read(), { list: null, problem: "garbled" });
    put(JSON.stringify(LIST) + " ".repeat(4 * 1024 * 1024));
    assert.strictEqual(list.read().problem, "garbled");
    put(JSON.stringify({ ...LIST, version: 4 }));
    assert.strictEqual(list.read().list.version, 4);
    fs.unlinkSync(file);
    fs.mkdirSync(file);
    assert.strictEqual(list.read().problem, "garbled");
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
});

test("connections of one device from one address are one line", () => {
  const at = (id, from, since, websocket = false) => ({ id, from, since, websocket });
  const found = gathered([at("1", "a", 5), at("1", "a", 3, true), at("1", "b", 9), at("", "a", 1)]);
  assert.deepStrictEqual(found, [
    { id: "1", from: "b", since: 9, count: 1, websockets: 0 },
    { id: "1", from: "a", since: 3, count: 2, websockets: 1 },
    { id: "", from: "a", since: 1, count: 1, websockets: 0 },
  ]);
});

test("refusals are kept by who and why, the latest fifty, and what is let in is none", () => {
  const claims = new Claims({ state: () => ({}), connections: () => [] });
  const record = (from, reason, at, allow = false) => ({ at, from, device: null, fp: null, method: null, path: null, allow, reason });
  for (let at = 1; at <= 60; at++) claims.access(record(`10.0.0.${at}`, "no-certificate", at), true);
  for (let at = 61; at <= 100; at++) claims.access(record("10.0.0.60", "no-certificate", at), true);
  claims.access(record("friend", "ok", 101, true), false);
  const kept = claims.refusals();
  assert.strictEqual(kept.length, 50);
  assert.deepStrictEqual([kept[0].from, kept[0].at, kept[0].count], ["10.0.0.60", 100, 41]);
  assert.deepStrictEqual([kept[49].from, kept[49].count], ["10.0.0.11", 1]);
  kept[0].from = "elsewhere";
  assert.strictEqual(claims.refusals()[0].from, "10.0.0.60");
});

test("the view cannot be changed and leads nowhere", () => {
  const made = viewOf({ deviceBehind: () => null, connections: () => [], claims: { refusals: () => [] } }, { snapshot: null, problem: "p" });
  assert.throws(() => {
    made.deviceBehind = () => ({ base: "owner" });
  }, TypeError);
  assert.deepStrictEqual(made.inForce(), { site: null, version: null, problem: "p" });
  assert.deepStrictEqual(Object.values(made).map((one) => typeof one), ["function", "function", "function", "function"]);
});

test("every language has every word, and every reason words", () => {
  const keys = (value, at = "") =>
    typeof value === "string" ? [at] : Object.entries(value).flatMap(([key, inner]) => keys(inner, `${at}.${key}`));
  const read = (language) => JSON.parse(fs.readFileSync(path.join(PLUGIN, "locales", language, "sidebar.json"), "utf8"));
  const english = read("en-US");
  const reasons = Object.keys(JSON.parse(fs.readFileSync(path.join(GUARD, "reasons.json"), "utf8"))).filter((one) => one !== "ok");
  assert.deepStrictEqual(Object.keys(english.reason).sort(), reasons.sort());
  for (const language of fs.readdirSync(path.join(PLUGIN, "locales"))) {
    assert.deepStrictEqual(keys(read(language)), keys(english), language);
    for (const [key, text] of Object.entries(read(language).reason)) assert.ok(text, key);
  }
  assert.deepStrictEqual(fs.readdirSync(path.join(PLUGIN, "locales")).sort(), ["de", "en-US"]);
});

test("the page's script parses and shows data as text alone", () => {
  const html = fs.readFileSync(path.join(PLUGIN, "sidebar.html"), "utf8");
  const [, script] = /<script[^>]*>([^]*)<\/script>/.exec(html);
  new vm.Script(script);
  for (const unsafe of ["innerHTML", "outerHTML", "insertAdjacentHTML", ".html(", "document.write", "eval(", "$("]) {
    assert.ok(!script.includes(unsafe), unsafe);
  }
});
