"use strict";
// A long list of addresses is read beforehand: until it has been, and when it is garbled, the snapshot before stays.

const { test } = require("node:test");
const assert = require("node:assert");
const crypto = require("node:crypto");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");

const GUARD = process.env.REDLATCH_TEST_GUARD || path.join(__dirname, "../../../src/redlatch/engines/nodered/guard");
const { Published } = require(path.join(GUARD, "published.js"));
const { wordsOf } = require(path.join(GUARD, "networks.js"));

const HEAD = {
  format: 2, site: "s", time: 1000, mode: "strict", port: null, open_port: null, keep_auth: false, names: ["pi"], origins: [],
  admin_root: "/", areas: { dashboards: [], http_in: [], static: [], websockets: [] }, roles: {}, rules: [], devices: null,
  spool: "/spool",
};
const COUNT = 50000; // intervals: more than what is read in one go
const sha256 = (data) => crypto.createHash("sha256").update(data).digest("hex");

/** The even addresses from `base` on, IPv4; with `unsorted` the last two change places. */
function table(base, unsorted = false) {
  const firsts = Uint32Array.from({ length: COUNT }, (_, at) => base + 2 * at);
  if (unsorted) firsts.subarray(-2).reverse();
  const words = Uint32Array.of(COUNT, 0, ...firsts, ...firsts);
  return Buffer.concat([Buffer.from("RLNET1\n\0"), Buffer.from(words.buffer)]);
}

/** What follows a folder with version 1, which has no list; `change` publishes a later one with a list. */
function followed(context) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "published-"));
  fs.mkdirSync(path.join(folder, "snapshot"));
  const write = (version, networks) => {
    const line = JSON.stringify({ ...HEAD, version, networks });
    fs.writeFileSync(path.join(folder, "new"), `${line}\n${sha256(line)}\n`);
    fs.renameSync(path.join(folder, "new"), path.join(folder, "snapshot.json"));
  };
  const change = (version, bytes, digest = sha256(bytes)) => {
    fs.writeFileSync(path.join(folder, "snapshot", digest), bytes);
    write(version, { list: digest });
  };
  write(1, {});
  const published = new Published(folder);
  published.read();
  let told = () => {};
  const news = () => new Promise((resolve) => (told = resolve));
  published.follow(() => told(), () => told());
  const awake = setInterval(() => {}, 1000); // following keeps no process alive
  context.after(() => {
    clearInterval(awake);
    clearInterval(published.timer);
    if (published.watcher !== null) published.watcher.close();
    fs.rmSync(folder, { recursive: true });
  });
  return { published, change, news };
}

const version = (published) => published.snapshot.snapshot.version;

test("a long list counts once it has been read, and other changes with it", async (context) => {
  const { published, change, news } = followed(context);
  const next = news();
  change(2, table(1 << 24));
  published.look();
  assert.strictEqual(version(published), 1); // not yet
  change(3, table(1 << 24));
  published.look();
  await next;
  assert.strictEqual(version(published), 3);
  const list = published.snapshot.snapshot.networks.get("list");
  assert.deepStrictEqual(["1.0.0.0", "1.0.0.1", "1.0.0.2"].map((one) => list.has(wordsOf(one))), [true, false, true]);
  assert.match(published.problem, /server.pem/); // this folder has nothing else
  assert.doesNotMatch(published.problem, /snapshot/);
});

test("a long list that is garbled or not sorted changes nothing, and a good one later counts", async (context) => {
  const { published, change, news } = followed(context);
  const good = table(1 << 24);
  const wrong = { "torn or garbled": [good, sha256("another")], "not sorted": [table(1 << 25, true)] };
  let number = 1;
  for (const [problem, bytes] of Object.entries(wrong)) {
    const next = news();
    number += 1;
    change(number, ...bytes);
    await next;
    assert.match(published.problem, new RegExp(problem));
    assert.strictEqual(version(published), 1);
  }
  const next = news();
  change(number + 1, good);
  await next;
  assert.strictEqual(version(published), number + 1);
  assert.doesNotMatch(published.problem, /snapshot/);
});
