"use strict";
// The gate on a bare server, and the file by which it knows the gateway: what Node-RED gives no occasion to show.

const { test } = require("node:test");
const assert = require("node:assert");
const crypto = require("node:crypto");
const { EventEmitter } = require("node:events");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");

const BEHIND = process.env.REDLATCH_TEST_GUARD;
const auth = require(path.join(BEHIND, "auth.js"));
const { Expected } = require(path.join(BEHIND, "expected.js"));
const { Gate } = require(path.join(BEHIND, "gate.js"));

const SECRET = "5e".repeat(32);
const OTHER = "07".repeat(32);
const EVENTS = ["request", "checkContinue", "checkExpectation", "upgrade", "connect"];
const sha256 = (text) => crypto.createHash("sha256").update(text).digest("hex");

function socket() {
  const made = new EventEmitter();
  Object.assign(made, { destroyed: false, sent: "" });
  made.destroy = () => {
    made.destroyed = true;
  };
  made.end = (text, done) => {
    made.sent += text;
    done();
  };
  return made;
}

function req(...raw) {
  const headers = {};
  const headersDistinct = {};
  for (let at = 0; at < raw.length; at += 2) {
    const name = raw[at].toLowerCase();
    (headersDistinct[name] = headersDistinct[name] || []).push(raw[at + 1]);
    headers[name] = headersDistinct[name].join(", ");
  }
  return { rawHeaders: raw, headers, headersDistinct, socket: socket(), method: "GET", url: "/" };
}

const known = (...more) => req("X-Redlatch-Secret", SECRET, ...more);

function answer() {
  return {
    status: null,
    body: null,
    writeHead(status) {
      this.status = status;
    },
    end(body) {
      this.body = body;
    },
  };
}

function folder(content) {
  const made = fs.mkdtempSync(path.join(os.tmpdir(), "behind-"));
  if (content !== undefined) put(made, content);
  return made;
}

function put(place, content) {
  const text = typeof content === "string" ? content : JSON.stringify(content);
  fs.writeFileSync(path.join(place, "new"), text);
  fs.renameSync(path.join(place, "new"), path.join(place, "behind.json"));
}

const told = (secret, more) => ({ format: 1, secret_sha256: sha256(secret), keep_auth: false, keep_host: false, ...more });

function expected(content = told(SECRET)) {
  const made = new Expected(folder(content));
  made.read();
  return made;
}

function gated({ by = expected(), signOn = auth } = {}) {
  const server = new EventEmitter();
  server.keepAliveTimeout = 5000;
  const seen = [];
  for (const event of [...EVENTS, "connection"]) server.on(event, (first) => seen.push([event, first]));
  new Gate({ expected: by, signOn }).takeOver(server);
  return { server, seen };
}

function emit(server, event, request) {
  const other = event === "upgrade" || event === "connect" ? request.socket : answer();
  assert.strictEqual(server.emit(event, request, other, Buffer.alloc(0)), true);
  return other;
}

for (const event of EVENTS) {
  test(`${event}: with the secret it passes, without it nobody hears of it`, () => {
    const { server, seen } = gated();
    const mine = known();
    emit(server, event, mine);
    assert.deepStrictEqual(seen, [[event, mine]]);
    for (const raw of [[], ["X-Redlatch-Secret", OTHER], ["X_Redlatch_Secret", SECRET], ["X-Redlatch-Secret", ""]]) {
      const refused = emit(server, event, req(...raw));
      if (event === "upgrade" || event === "connect") {
        assert.match(refused.sent, /^HTTP\/1.1 403 Forbidden\r\n/);
        assert.strictEqual(refused.destroyed, true);
        refused.emit("error", new Error("reset")); // somebody listens: it would end Node-RED
      } else {
        assert.strictEqual(refused.status, 403);
        assert.match(refused.body, /gateway/);
      }
    }
    assert.strictEqual(seen.length, 1);
  });
}

test("two secrets are none, whichever of them is right", () => {
  const { server, seen } = gated();
  for (const [one, two] of [[SECRET, SECRET], [SECRET, OTHER], [OTHER, SECRET]]) {
    assert.strictEqual(emit(server, "request", req("X-Redlatch-Secret", one, "x-redlatch-SECRET", two)).status, 403);
  }
  assert.deepStrictEqual(seen, []);
});

test("the secret is taken from all three places, and nothing else is", () => {
  const { server, seen } = gated({ signOn: null });
  emit(server, "request", known("A", "1", "X-Redlatch-User", "ann", "a", "2"));
  const [[, got]] = seen;
  assert.deepStrictEqual(got.rawHeaders, ["A", "1", "X-Redlatch-User", "ann", "a", "2"]);
  assert.deepStrictEqual(got.headers, { a: "1, 2", "x-redlatch-user": "ann" });
  assert.deepStrictEqual(got.headersDistinct, { a: ["1", "2"], "x-redlatch-user": ["ann"] });
});

test("a request that a listener hands on by emit is still the gateway's", () => {
  const { server, seen } = gated();
  const mine = known();
  server.on("checkContinue", (request, response) => server.emit("request", request, response));
  emit(server, "checkContinue", mine);
  assert.deepStrictEqual(seen, [["checkContinue", mine], ["request", mine]]);
});

test("each request has a ticket of its own, with the user that came with it", async () => {
  const { server } = gated();
  const tokens = auth.adminAuth({ lookup: (state) => state.user }).module.tokens;
  const [ann, bob, none] = [
    known("X-Redlatch-User", "ann", "X-Redlatch-Permission", "*"),
    known("X-Redlatch-User", "bob", "X-Redlatch-Permission", "read"),
    known("X-Redlatch-User", "carl"),
  ];
  for (const one of [ann, bob, none]) emit(server, "request", one);
  ann.headers["x-redlatch-permission"] = bob.headers["x-redlatch-permission"] = "*"; // a flow's doing
  const userOf = (request) => tokens(request.headers[auth.HEADER]);
  assert.deepStrictEqual(await userOf(ann), { username: "ann", permissions: "*" });
  assert.deepStrictEqual(await userOf(bob), { username: "bob", permissions: "read" });
  assert.strictEqual(await userOf(none), null);
});

test("an error of ours closes", () => {
  const throwing = { digest: null, isSecret: () => { throw new Error("ours"); } };
  const { server, seen } = gated({ by: throwing });
  const written = process.stderr.write;
  process.stderr.write = () => true;
  try {
    for (const event of EVENTS) {
      const mine = known();
      emit(server, event, mine);
      assert.strictEqual(mine.socket.destroyed, true);
    }
  } finally {
    process.stderr.write = written;
  }
  assert.deepStrictEqual(seen, []);
});

test("other events pass, and connections are kept longer than the gateway keeps them", () => {
  const { server, seen } = gated();
  const from = socket();
  server.emit("connection", from);
  assert.deepStrictEqual(seen, [["connection", from]]);
  assert.ok(server.keepAliveTimeout > 60000);
});

test("a file that is not whole lets nobody in, and says so", () => {
  const bad = [
    undefined, "", "garbage", "null", "[]", "1", { ...told(SECRET), format: 2 }, told(SECRET, { secret_sha256: SECRET.slice(1) }),
    told(SECRET, { secret_sha256: [sha256(SECRET)] }), told(SECRET, { keep_auth: "no" }), told(SECRET, { keep_host: undefined }),
    told(SECRET, { secret_sha256: sha256(SECRET).toUpperCase() }),
  ];
  for (const content of bad) {
    const by = new Expected(folder(content));
    by.read();
    assert.strictEqual(by.told, null);
    assert.notStrictEqual(by.problem, null);
    assert.strictEqual(by.isSecret(SECRET), false);
    const { server, seen } = gated({ by });
    const refused = emit(server, "request", known());
    assert.strictEqual(refused.status, 503);
    assert.match(emit(server, "upgrade", known()).sent, /^HTTP\/1.1 503 /);
    assert.deepStrictEqual(seen, []);
  }
});

test("a new secret is known at the first mismatch, without anybody having told of it", () => {
  const by = expected();
  assert.strictEqual(by.isSecret(SECRET), true);
  put(by.folder, told(OTHER));
  assert.strictEqual(by.isSecret(OTHER), true);
  assert.strictEqual(by.isSecret(SECRET), false);
  assert.strictEqual(by.isSecret(null), false);
});

test("a file that goes bad takes the secret with it", () => {
  const by = expected();
  const said = [];
  const written = process.stderr.write;
  process.stderr.write = (text) => said.push(text);
  try {
    put(by.folder, "garbage");
    assert.strictEqual(by.look(), true);
    assert.strictEqual(by.look(), false);
  } finally {
    process.stderr.write = written;
  }
  assert.strictEqual(by.isSecret(SECRET), false);
  assert.strictEqual(said.length, 1);
  assert.match(said[0], /refuses everybody.*not JSON/);
});
