"use strict";
// auth.js alone. Run by test_auth_js.py with both versions of Node.js that the Node-REDs use.

const { test } = require("node:test");
const assert = require("node:assert");
const path = require("node:path");
const auth = require(path.join(process.env.REDLATCH_TEST_GUARD, "auth.js"));

const ADMIN = Object.freeze({ username: "anna", permissions: "*" });
const visitor = () => ({ ticket: null });
const request = (headers = {}) => ({ headers });
const tokensOf = (lookup) => auth.adminAuth({ lookup }).module.tokens;

/** What Node-RED's strategies.js does: the header's value as it is. */
async function userOf(lookup, state, req = request()) {
  auth.inject(req, state);
  return tokensOf(lookup)(req.headers[auth.HEADER]);
}

test("a visitor without an entry is nobody, from the moment on in which it loses it", async () => {
  let entry = ADMIN;
  const state = visitor();
  assert.strictEqual((await userOf(() => entry, state)).username, "anna");
  entry = null;
  assert.strictEqual(await userOf(() => entry, state), null);
});

test("each visitor has its own ticket and keeps it", () => {
  const [one, other] = [visitor(), visitor()];
  const [first, second, third] = [request(), request(), request()];
  auth.inject(first, one);
  auth.inject(second, one);
  auth.inject(third, other);
  assert.strictEqual(first.headers[auth.HEADER], second.headers[auth.HEADER]);
  assert.notStrictEqual(first.headers[auth.HEADER], third.headers[auth.HEADER]);
});

test("what a client sent under the header's name is gone", () => {
  const req = request({ [auth.HEADER]: "from the client", host: "pi.local" });
  auth.inject(req, visitor());
  assert.strictEqual(typeof req.headers[auth.HEADER], "object");
  assert.deepStrictEqual(Object.keys(req.headers), ["host"]);
});

test("a request that is judged twice is injected twice", () => {
  const [req, state] = [request(), visitor()];
  auth.inject(req, state);
  auth.inject(req, state);
  assert.throws(() => auth.inject(req, visitor()), TypeError);
});

test("whoever prints, copies or forwards the headers does not carry the ticket along", () => {
  const req = request({ host: "pi.local" });
  auth.inject(req, visitor());
  assert.deepStrictEqual({ ...req.headers }, { host: "pi.local" });
  assert.strictEqual(JSON.stringify(req.headers), '{"host":"pi.local"}');
  assert.deepStrictEqual(structuredClone(req.headers), { host: "pi.local" });
});

test("nothing counts but the ticket itself", async () => {
  const req = request();
  auth.inject(req, visitor());
  const ticket = req.headers[auth.HEADER];
  const tokens = tokensOf(() => ADMIN);
  assert.strictEqual((await tokens(ticket)).username, "anna");
  const copies = [String(ticket), JSON.parse(JSON.stringify(ticket)), { ...ticket }, structuredClone(ticket)];
  for (const other of [...copies, "", null, undefined, 0, {}, visitor()]) {
    assert.strictEqual(await tokens(other), null);
  }
});

test("an adminAuth of the person's own is replaced, their theme is kept, and twice is as good as once", () => {
  const theme = Object.freeze({ tours: false, page: Object.freeze({ title: "Home", scripts: "/own.js" }) });
  const settings = { adminAuth: { type: "credentials", users: [], default: { permissions: "*" } }, editorTheme: theme };
  auth.signOn(settings, { lookup: () => null });
  auth.signOn(settings, { lookup: () => null });
  assert.deepStrictEqual(Object.keys(settings.adminAuth), ["module"]);
  assert.deepStrictEqual(Object.keys(settings.adminAuth.module), ["tokens", "tokenHeader"]);
  const { page, ...rest } = settings.editorTheme;
  assert.deepStrictEqual(rest, { tours: false });
  assert.strictEqual(page.title, "Home");
  assert.deepStrictEqual(page.scripts.map((file) => path.basename(file)), ["redlatch-editor.js", "own.js"]);
  assert.strictEqual(theme.page.scripts, "/own.js");
});
