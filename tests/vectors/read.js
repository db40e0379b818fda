"use strict";
// A vector's snapshot as the guard loads it: lists of addresses become tables, rules get what they leave out. Written
// apart from redlatch's own reading of addresses, so that a mistake of that one shows.

const path = require("node:path");

const GUARD = process.env.REDLATCH_TEST_GUARD || path.join(__dirname, "../../src/redlatch/engines/nodered/guard");
const { Network } = require(path.join(GUARD, "networks.js"));

const EMPTY = { roles: [], devices: [], any_device: false, anyone: false, networks: [], area: null, path: null, methods: [] };

/** [bits, number] of an address. */
function number(text) {
  if (!text.includes(":")) return [32, text.split(".").reduce((sum, part) => sum * 256n + BigInt(part), 0n)];
  const [head, tail] = text.split("::").map((half) => half.split(":").filter(Boolean));
  const groups = tail === undefined ? head : [...head, ...Array(8 - head.length - tail.length).fill("0"), ...tail];
  return [128, groups.reduce((sum, group) => sum * 65536n + BigInt(`0x${group}`), 0n)];
}

function interval(entry) {
  const [begin, length] = entry.split("/");
  const [first, last] = begin.split("-");
  const [bits, from] = number(first);
  if (last !== undefined) return [bits, from, number(last)[1]];
  return [bits, from, from + (1n << BigInt(bits - Number(length === undefined ? bits : length))) - 1n];
}

/** The Network of a list of addresses, ranges and subnets. */
function network(entries) {
  const found = entries.map(interval).sort((one, other) => (one[1] < other[1] ? -1 : 1));
  const [v4, v6] = [32, 128].map((bits) => found.filter((one) => one[0] === bits));
  const words = [v4.length, v6.length];
  for (const which of [1, 2]) words.push(...v4.map((one) => Number(one[which])));
  for (const which of [1, 2]) {
    for (const one of v6) words.push(...[96n, 64n, 32n, 0n].map((shift) => Number((one[which] >> shift) & 0xffffffffn)));
  }
  const bytes = Buffer.alloc(8 + 4 * words.length);
  bytes.write("RLNET1\n\0", "latin1");
  words.forEach((word, at) => bytes.writeUInt32LE(word, 8 + 4 * at));
  return new Network(bytes);
}

function snapshotOf(body) {
  return {
    ...body,
    devices: new Map(Object.entries(body.devices)),
    networks: new Map(Object.entries(body.networks).map(([name, entries]) => [name, network(entries)])),
    rules: body.rules.map((rule) => ({ ...EMPTY, ...rule })),
  };
}

module.exports = { network, snapshotOf };
