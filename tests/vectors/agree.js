"use strict";
// node agree.js FILE: decides every question of FILE and prints, as JSON, those where the answer is not the expected one.
// FILE: [{snapshot, tables: {name: base64 as published}, devices: {fingerprint: entry}, asked: [[facts, reason]]}].

const fs = require("node:fs");
const path = require("node:path");

const GUARD = process.env.REDLATCH_TEST_GUARD || path.join(__dirname, "../../src/redlatch/engines/nodered/guard");
const { Policy, decide } = require(path.join(GUARD, "decide.js"));
const { Network } = require(path.join(GUARD, "networks.js"));

const wrong = [];
let asked = 0;
JSON.parse(fs.readFileSync(process.argv[2], "utf8")).forEach((set, number) => {
  const networks = Object.entries(set.tables).map(([name, table]) => [name, new Network(Buffer.from(table, "base64"))]);
  const devices = new Map(Object.entries(set.devices));
  const policy = new Policy({ ...set.snapshot, devices, networks: new Map(networks) });
  for (const [facts, expected] of set.asked) {
    asked += 1;
    const got = decide(facts, policy);
    if (got !== expected && wrong.length < 20) wrong.push({ snapshot: number, facts, expected, got });
  }
});
process.stdout.write(JSON.stringify({ asked, wrong }));
