"use strict";
// What counts as a snapshot.

const { test } = require("node:test");
const assert = require("node:assert");
const crypto = require("node:crypto");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");

const GUARD = process.env.REDLATCH_TEST_GUARD || path.join(__dirname, "../../../src/redlatch/engines/nodered/guard");
const { load, parse } = require(path.join(GUARD, "snapshot.js"));

const RULE = {
  id: 1, roles: ["admin"], devices: [], any_device: false, anyone: false, networks: ["home"], area: null, path: "/x", methods: ["GET"],
};
const GOOD = {
  format: 2, site: "s", version: 3, time: 1000, mode: "strict", port: null, open_port: null, keep_auth: false,
  names: ["pi"], origins: [], admin_root: "/", spool: "/spool",
  areas: { dashboards: ["/ui"], http_in: [], static: [], websockets: [] },
  roles: {}, rules: [], networks: {}, devices: null,
};
const ENTRY = ["1", "admin", "ann", 1, 2];
const sha256 = (data) => crypto.createHash("sha256").update(data).digest("hex");

function file(body) {
  const line = JSON.stringify(body);
  return Buffer.from(`${line}\n${sha256(line)}\n`);
}

/** A published folder with `parts` (JSON or bytes) and a head made by `head` from their digests. */
function folder(context, parts, head) {
  const place = fs.mkdtempSync(path.join(os.tmpdir(), "snapshot-"));
  context.after(() => fs.rmSync(place, { recursive: true }));
  fs.mkdirSync(path.join(place, "snapshot"));
  const put = (part) => {
    const bytes = Buffer.isBuffer(part) ? part : Buffer.from(JSON.stringify(part));
    fs.writeFileSync(path.join(place, "snapshot", sha256(bytes)), bytes);
    return sha256(bytes);
  };
  const write = (made) => fs.writeFileSync(path.join(place, "snapshot.json"), file({ ...GOOD, ...made }));
  write(head(parts.map(put)));
  return { place, put, write, load: (current) => load(place, "snapshot.json", current) };
}

const key = (digit) => digit.repeat(64);
const leaf = (...digits) => ({ leaf: Object.fromEntries(digits.map((digit) => [key(digit), ENTRY])) });
const branch = (children) => ({ branch: Array.from({ length: 16 }, (_, at) => children[at] || null) });
const table = (...words) => Buffer.concat([Buffer.from("RLNET1\n\0"), Buffer.from(new Uint32Array(words).buffer)]);

test("a good one is read", () => {
  assert.deepStrictEqual(parse(file(GOOD)).head, GOOD);
});

test("bytes that are no text are refused", () => {
  const line = Buffer.from(JSON.stringify({ ...GOOD, site: "s\u00fc" }), "latin1");
  assert.throws(() => parse(Buffer.concat([line, Buffer.from(`\n${sha256(line)}\n`)])), /no text/);
  assert.strictEqual(parse(file({ ...GOOD, site: "s\u00fc" })).head.site, "s\u00fc");
});

test("every field has to be there and be of its kind", () => {
  for (const name of Object.keys(GOOD)) {
    const { [name]: dropped, ...rest } = GOOD;
    assert.throws(() => parse(file(rest)), Error, `without ${name}`);
    for (const wrong of [undefined, -1, 0.5, "", "x", {}, [1], true, null]) {
      if (JSON.stringify(wrong) === JSON.stringify(dropped)) continue;
      const fits = { site: ["x"], admin_root: [null], port: [null], open_port: [null], keep_auth: [true], devices: [null],
        roles: ["{}"], networks: ["{}"] };
      if ((fits[name] || []).some((value) => value === wrong || value === JSON.stringify(wrong))) continue;
      assert.throws(() => parse(file({ ...GOOD, [name]: wrong })), Error, `${name}: ${JSON.stringify(wrong)}`);
    }
  }
});

test("every rule has to be whole: one that is not understood is no rule to guess at", () => {
  assert.ok(parse(file({ ...GOOD, rules: [RULE] })));
  for (const name of Object.keys(RULE)) {
    const { [name]: dropped, ...rest } = RULE;
    assert.throws(() => parse(file({ ...GOOD, rules: [rest] })), Error, name);
  }
  for (const odd of [{ area: "all" }, { path: null }, { path: "/" }, { path: "x" }, { path: "/a//b" }, { path: "/a/../b" },
    { path: null, area: "everything" }, { methods: ["get"] }, { methods: ["BREW"] }, { methods: "GET" }, { id: "1" },
    { anyone: 1 }, { any_device: null }, { roles: null }, { networks: "home" }, { devices: [1] }]) {
    assert.throws(() => parse(file({ ...GOOD, rules: [{ ...RULE, ...odd }] })), Error, JSON.stringify(odd));
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

test("devices are found through leaf and branch, and nobody beside them", (context) => {
  const flat = folder(context, [leaf("a", "b")], ([devices]) => ({ devices }));
  assert.deepStrictEqual(flat.load(null).snapshot.devices.get(key("a")), {
    id: "1", role: "admin", user: "ann", not_before: 1, not_after: 2,
  });
  const deep = folder(context, [leaf("a"), leaf("c")], () => ({}));
  const devices = deep.put(branch({ 10: sha256(JSON.stringify(leaf("a"))), 12: sha256(JSON.stringify(leaf("c"))) }));
  deep.write({ devices });
  const found = deep.load(null).snapshot.devices;
  for (const one of ["a", "c"]) assert.strictEqual(found.get(key(one)).user, "ann");
  for (const one of [key("b"), key("d"), "", "__proto__", "constructor", "a".repeat(63), key("A")]) {
    assert.strictEqual(found.get(one), undefined, one);
  }
});

test("what did not change is not read again, and what changed is", (context) => {
  const made = folder(context, [leaf("a"), leaf("c"), table(1, 0, 5, 9)], ([, , home]) => ({ networks: { home } }));
  const home = sha256(table(1, 0, 5, 9));
  const at = (one) => sha256(JSON.stringify(leaf(one)));
  made.write({ devices: made.put(branch({ 10: at("a"), 12: at("c") })), networks: { home } });
  const first = made.load(null);
  for (const part of [at("a"), home]) fs.unlinkSync(path.join(made.place, "snapshot", part));
  made.write({ version: 4, devices: made.put(branch({ 10: at("a"), 13: made.put(leaf("d")) })), networks: { home } });
  const second = made.load(first);
  assert.ok(second.snapshot.devices.get(key("a")));
  assert.ok(second.snapshot.devices.get(key("d")));
  assert.strictEqual(second.snapshot.devices.get(key("c")), undefined);
  assert.strictEqual(second.snapshot.networks.get("home"), first.snapshot.networks.get("home"));
  assert.ok(first.snapshot.devices.get(key("c"))); // the one in force is as it was
});

test("a part that is missing, garbled or not where it belongs is refused", (context) => {
  const bad = [
    [leaf("a"), (bytes) => bytes.subarray(0, 9)],
    [leaf("a"), () => Buffer.alloc(0)],
    [leaf("a"), (bytes) => Buffer.concat([bytes, Buffer.from(" ")])],
    [table(1, 0, 5, 9), (bytes) => bytes.subarray(0, 12)],
  ];
  for (const [part, damage] of bad) {
    const isTable = Buffer.isBuffer(part);
    const made = folder(context, [part], ([one]) => (isTable ? { networks: { home: one } } : { devices: one }));
    assert.ok(made.load(null));
    const [name] = fs.readdirSync(path.join(made.place, "snapshot"));
    const place = path.join(made.place, "snapshot", name);
    fs.writeFileSync(place, damage(fs.readFileSync(place)));
    assert.throws(() => made.load(null), /torn or garbled/);
    fs.unlinkSync(place);
    assert.throws(() => made.load(null), { code: "ENOENT" });
  }
  const odd = [
    {}, [], null, { leaf: [] }, { leaf: { [key("A")]: ENTRY } }, { leaf: { ["a".repeat(63)]: ENTRY } }, { branch: [] },
    ...[["1", "admin", "ann", 1], [1, "admin", "ann", 1, 2], ["1", "admin", "ann", "1", 2], ["1", null, "ann", 1, 2], {}, null]
      .map((row) => ({ leaf: { [key("a")]: row } })),
    branch({ 3: sha256(JSON.stringify(leaf("a"))) }), // a leaf below the wrong digit
  ];
  for (const part of odd) {
    const made = folder(context, [part, leaf("a")], ([devices]) => ({ devices }));
    assert.throws(() => made.load(null), /garbled/, JSON.stringify(part));
  }
  for (const words of [[], [1], [1, 0], [1, 0, 5], [0, 1, 1, 2, 3, 4], [1, 0, 9, 5], [2, 0, 1, 5, 6, 9], [9, 9]]) {
    const made = folder(context, [table(...words)], ([home]) => ({ networks: { home } }));
    assert.throws(() => made.load(null), Error, JSON.stringify(words));
  }
});

test("what a branch names is a digest, before any file of that name is looked at", (context) => {
  const made = folder(context, [{ branch: Array(16).fill("../snapshot.json") }], ([devices]) => ({ devices }));
  assert.throws(() => made.load(null), /garbled branch/);
});

test("an older one, and one of another site, changes nothing", (context) => {
  const made = folder(context, [], () => ({}));
  const current = made.load(null);
  assert.strictEqual(made.load(current), null);
  made.write({ version: 3, time: 1001 });
  assert.throws(() => made.load(current), /not newer/);
  made.write({ version: 2 });
  assert.throws(() => made.load(current), /not newer/);
  made.write({ version: 4, site: "t" });
  assert.throws(() => made.load(current), /another site/);
  made.write({ version: 4 });
  assert.strictEqual(made.load(current).snapshot.version, 4);
});
