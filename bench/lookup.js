"use strict";
// What a network costs the guard: the look-up of an address (its text -> in or not) among 10 and 1,000,000 subnets, what
// a list weighs, and how long taking up a changed one holds up the event loop.
//
//     node bench/lookup.js [FOLDER OF THE GUARD]      (bench/rules.py runs it with both Node.js)

const crypto = require("node:crypto");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { performance } = require("node:perf_hooks");
const { setTimeout: sleep } = require("node:timers/promises");
const { watch } = require("./clock.js");

const GUARD = path.resolve(process.argv[2] || path.join(__dirname, "../src/redlatch/engines/nodered/guard"));
const { Network, wordsOf } = require(path.join(GUARD, "networks.js"));
const { Published } = require(path.join(GUARD, "published.js"));

const ADDRESSES = 200000; // of each kind: more than a processor's cache keeps
const ROUNDS = 15;
const MILLION = 1000000;

const random = (below) => crypto.randomInt(below);
const median = (values) => [...values].sort((one, other) => one - other)[values.length >> 1];

/** Disjoint IPv4 subnets, each somewhere in a /24 of its own: [first, last], sorted. */
function subnets4(count) {
  const bases = new Set();
  while (bases.size < count) bases.add(1 + random(0xfffffd));
  return [...bases].sort((one, other) => one - other).map((base) => {
    const size = 2 ** random(8);
    const first = base * 256 + random(256 / size) * size;
    return [first, first + size - 1];
  });
}

/** Disjoint IPv6 /48: [two words of the first address], sorted; the last is all ones behind them. */
function subnets6(count) {
  const bases = new Set();
  while (bases.size < count) bases.add((0x20000000 + random(0x1fffffff)) * 65536 + random(65536));
  return [...bases].sort((one, other) => one - other).map((base) => [Math.floor(base / 65536), (base % 65536) * 65536]);
}

/** The table as redlatch.policy.networks.encode writes it. */
function table(v4, v6) {
  const words = new Uint32Array(2 + 2 * v4.length + 8 * v6.length);
  words.set([v4.length, v6.length]);
  v4.forEach(([first, last], at) => {
    words[2 + at] = first;
    words[2 + v4.length + at] = last;
  });
  const at6 = 2 + 2 * v4.length;
  v6.forEach(([high, next], at) => {
    words.set([high, next, 0, 0], at6 + 4 * at);
    words.set([high, (next | 0xffff) >>> 0, 0xffffffff, 0xffffffff], at6 + 4 * (v6.length + at));
  });
  return Buffer.concat([Buffer.from("RLNET1\n\0", "latin1"), Buffer.from(words.buffer)]);
}

const text4 = (value) => [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255].join(".");

function text6(words) {
  const groups = words.flatMap((word) => [(word >>> 16).toString(16), (word & 0xffff).toString(16)]);
  return groups.join(":");
}

/** Random addresses, written as sockets write them: those inside and those outside. */
function addresses(version, list, has) {
  const found = { hits: [], misses: [] };
  while (found.hits.length < ADDRESSES) {
    const one = list[random(list.length)];
    if (version === 4) found.hits.push(text4(one[0] + random(one[1] - one[0] + 1)));
    else found.hits.push(text6([one[0], one[1] + random(65536), random(2 ** 32), random(2 ** 32)]));
  }
  while (found.misses.length < ADDRESSES) {
    const text =
      version === 4
        ? text4(random(2 ** 32))
        : text6([0x20000000 + random(0x1fffffff), random(2 ** 32), random(2 ** 32), random(2 ** 32)]);
    if (!has(text)) found.misses.push(text);
  }
  return found;
}

/** Nanoseconds of CPU for each: the median of the rounds. */
function timed(texts, has, expected) {
  const rounds = [];
  for (let round = 0; round < ROUNDS; round++) {
    let inside = 0;
    const begin = process.cpuUsage();
    for (const text of texts) if (has(text)) inside += 1;
    const { user, system } = process.cpuUsage(begin);
    rounds.push(((user + system) * 1000) / texts.length);
    if (inside !== (expected ? texts.length : 0)) throw new Error("a look-up is wrong");
  }
  return median(rounds);
}

function lookups() {
  for (const version of [4, 6]) {
    for (const count of [10, MILLION]) {
      const list = version === 4 ? subnets4(count) : subnets6(count);
      const network = new Network(version === 4 ? table(list, []) : table([], list));
      const has = (text) => network.has(wordsOf(text));
      const { hits, misses } = addresses(version, list, has);
      const words = timed(hits, (text) => wordsOf(text) !== null, true);
      const figures = [timed(hits, has, true), timed(misses, has, false)].map((one) => `${one.toFixed(0)} ns`);
      console.log(
        `look-up, IPv${version}, ${count} subnets: hit ${figures[0]}, miss ${figures[1]} (the text alone ${words.toFixed(0)} ns)`,
      );
    }
  }
}

// --- a changed list of a million, taken up by what follows the published folder -----------------------------------------

const HEAD = {
  format: 2, site: "bench", version: 1, time: 1, mode: "strict", port: null, open_port: null, keep_auth: false,
  names: ["localhost"], origins: [], admin_root: "/", areas: { dashboards: [], http_in: [], static: [], websockets: [] },
  roles: {}, rules: [], networks: {}, devices: null, spool: "/nowhere",
}; // prettier-ignore

function publish(folder, version, networks) {
  const line = JSON.stringify({ ...HEAD, version, networks });
  const digest = crypto.createHash("sha256").update(line).digest("hex");
  fs.writeFileSync(path.join(folder, ".snapshot.json"), `${line}\n${digest}\n`);
  fs.renameSync(path.join(folder, ".snapshot.json"), path.join(folder, "snapshot.json"));
}

async function loading() {
  for (const version of [4, 6]) {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), "redlatch-bench-"));
    fs.mkdirSync(path.join(folder, "snapshot"));
    // Made before anything is measured: making them is not what is measured
    const tables = Array.from({ length: 6 }, () =>
      version === 4 ? table(subnets4(MILLION), []) : table([], subnets6(MILLION)),
    );
    publish(folder, 1, {});
    const published = new Published(folder);
    published.read();
    let taken = null;
    published.follow((names) => names.includes("snapshot.json") && taken(performance.now()), () => {});
    const blocked = [];
    const until = [];
    let grown = 0;
    for (const [number, bytes] of tables.entries()) {
      if (global.gc) global.gc();
      const before = process.memoryUsage().arrayBuffers;
      const inForce = new Promise((resolve) => (taken = resolve));
      const list = crypto.createHash("sha256").update(bytes).digest("hex");
      fs.writeFileSync(path.join(folder, "snapshot", list), bytes);
      await sleep(50);
      let worst = 0;
      const end = watch((late) => (worst = Math.max(worst, late)));
      const begin = performance.now();
      publish(folder, number + 2, { list });
      const at = await inForce;
      await sleep(20);
      end();
      until.push(at - begin);
      blocked.push(worst);
      if (global.gc) global.gc();
      if (number === 0) grown = process.memoryUsage().arrayBuffers - before;
    }
    console.log(
      `a changed network of 1000000 subnets, IPv${version}: ${(tables[0].length / 2 ** 20).toFixed(0)} MiB on disk, ` +
        `${(grown / 2 ** 20).toFixed(0)} MiB in memory, in force after ${median(until).toFixed(0)} ms, ` +
        `event loop held up for ${median(blocked).toFixed(0)} ms (worst ${Math.max(...blocked).toFixed(0)})`,
    );
    fs.rmSync(folder, { recursive: true });
    clearInterval(published.timer);
    if (published.watcher !== null) published.watcher.close();
  }
}

async function main() {
  const alive = setInterval(() => {}, 1000); // what follows the folder keeps no process alive
  lookups();
  await loading();
  clearInterval(alive);
}

main();
