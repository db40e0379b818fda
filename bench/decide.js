"use strict";
// What the guard's decision costs by itself, in nanoseconds of CPU, without and with rules: of whole requests a busy
// machine tells nothing below a few per cent.
//
//     node bench/decide.js FACTS      (bench/rules.py writes them: {areas, roles, networks, rules: {name: [...]}, device})

const fs = require("node:fs");
const path = require("node:path");

const GUARD = path.join(__dirname, "../src/redlatch/engines/nodered/guard");
const { Policy } = require(path.join(GUARD, "decide.js"));
const { Network } = require(path.join(GUARD, "networks.js"));
const { Visitor } = require(path.join(GUARD, "visitor.js"));

const facts = JSON.parse(fs.readFileSync(process.argv[2], "utf8"));
const entry = { id: facts.device, role: "admin", user: "bench", not_before: 0, not_after: 2 ** 40 };
const networks = new Map(Object.entries(facts.networks).map(([name, hex]) => [name, new Network(Buffer.from(hex, "hex"))]));
const CONNECTIONS = 1000;

function policyOf(rules) {
  return new Policy({
    site: "bench", version: 1, time: 1, mode: "strict", port: null, open_port: null, names: ["localhost"], origins: [],
    admin_root: "/", areas: facts.areas, roles: facts.roles, rules, networks, devices: { get: () => entry },
  });
}

/** The median of the rounds, for each of `count` pieces of work. */
function timed(count, work) {
  const rounds = [];
  for (let round = 0; round < 15; round++) {
    const begin = process.cpuUsage();
    for (let at = 0; at < count; at++) work(at);
    const { user, system } = process.cpuUsage(begin);
    rounds.push(((user + system) * 1000) / count);
  }
  return rounds.sort((one, other) => one - other)[7].toFixed(0);
}

function visitors(policy) {
  return Array.from({ length: CONNECTIONS }, (_, at) => {
    const visitor = new Visitor({ address: `127.0.${at >> 8}.${at & 255}`, byOpenPort: false });
    Object.assign(visitor, { fingerprint: "a".repeat(64), verified: true });
    visitor.refresh(policy);
    visitor.comesIn();
    visitor.request = { method: "GET", url: "/hello", headers: { host: "localhost" } };
    return visitor;
  });
}

for (const [name, rules] of Object.entries(facts.rules)) {
  const policy = policyOf(rules);
  const grants = policy.grants(entry, "127.0.0.1", false);
  const asked = (target) => {
    if (policy.verdict(grants, "GET", target, { host: "localhost" }, undefined) !== "ok") throw new Error("refused");
  };
  const figures = {
    "a request": timed(500000, () => asked("/hello")),
    "with another query": timed(50000, (at) => asked(`/hello?at=${at}-${Math.random()}`)),
    "for another path": timed(20000, (at) => asked(`/hello/${at}-${Math.random()}`)),
    "a handshake": timed(50000, () => {
      policy.mayComeWithout("127.0.0.1", false);
      policy.grants(entry, "127.0.0.1", false);
    }),
    "a change, for itself": timed(500, () => policyOf(rules)),
  };
  const open = visitors(policy);
  let newer = policy;
  figures["a change, for each open connection"] = timed(20 * CONNECTIONS, (at) => {
    if (at % CONNECTIONS === 0) newer = policyOf(rules);
    const visitor = open[at % CONNECTIONS];
    if (!visitor.isLetIn(newer) || visitor.judge(newer, visitor.request, undefined) !== "ok") throw new Error("refused");
  });
  const cells = Object.entries(figures).map(([what, ns]) => `${what} ${ns}`);
  console.log(`the decision alone, ${name}, ns: ${cells.join(", ")}`);
}
