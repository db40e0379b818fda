"use strict";
// The door with connections that only look like ones: addresses and times that a loopback cannot show.

const { test } = require("node:test");
const assert = require("node:assert");
const { EventEmitter } = require("node:events");
const path = require("node:path");

const GUARD = process.env.REDLATCH_TEST_GUARD || path.join(__dirname, "../../../src/redlatch/engines/nodered/guard");
const { Door } = require(path.join(GUARD, "door.js"));

const TLS = Buffer.from([0x16, 3, 1, 0, 5]);
const HTTP = Buffer.from("GET /x HTTP/1.1\r\nHost: pi\r\n\r\n");

function door() {
  const seen = { shaken: [], refused: [] };
  const made = new Door({
    proceed: (ticket) => seen.shaken.push(ticket.raw),
    refused: (address, reason) => seen.refused.push(reason),
    redirect: (host) => (host === "pi" ? "https://pi" : null),
  });
  return { door: made, seen };
}

function knock(at, address, chunk) {
  const raw = new EventEmitter();
  Object.assign(raw, { remoteAddress: address, sent: "", destroyed: false });
  raw.destroy = () => {
    raw.destroyed = true;
    raw.emit("close");
  };
  raw.read = () => chunk;
  raw.unshift = () => {};
  raw.end = (text) => {
    raw.sent += text;
  };
  at.arrive(raw);
  if (chunk !== undefined) raw.emit("readable");
  return raw;
}

test("plain http is answered on private networks alone", () => {
  const { door: made, seen } = door();
  assert.match(knock(made, "192.168.1.9", HTTP).sent, /^HTTP\/1.1 308 .*\r\nLocation: https:\/\/pi\/x\r\n/s);
  assert.match(knock(made, "::ffff:10.0.0.9", HTTP).sent, /^HTTP\/1.1 308 /);
  for (const address of ["8.8.8.8", "2001:db8::1", "100.64.0.1"]) {
    const raw = knock(made, address, HTTP);
    assert.strictEqual(raw.sent, "");
    assert.ok(raw.destroyed);
  }
  assert.deepStrictEqual(seen.shaken, []);
});

test("strangers of one address get few handshakes, and all strangers together too", () => {
  const { door: made, seen } = door();
  for (let number = 0; number < 200; number++) knock(made, "8.8.8.8", TLS).destroy();
  const ofOne = seen.shaken.length;
  assert.ok(ofOne >= 12 && ofOne <= 30, String(ofOne)); // a browser's first six connections pass twice
  for (let number = 0; number < 400; number++) knock(made, `9.9.9.${number % 250}`, TLS).destroy();
  assert.ok(seen.shaken.length <= 60, String(seen.shaken.length));
});

test("an address that a device came from is not rationed with strangers", () => {
  const { door: made, seen } = door();
  const raw = knock(made, "8.8.8.8", TLS);
  made.admitted(made.ticketOf({ _parent: raw }));
  for (let number = 0; number < 400; number++) knock(made, "9.9.9.9", TLS).destroy();
  const before = seen.shaken.length;
  for (let number = 0; number < 100; number++) knock(made, "8.8.8.8", TLS).destroy();
  assert.strictEqual(seen.shaken.length - before, 100);
  for (let number = 0; number < 400; number++) knock(made, "8.8.8.8", TLS).destroy();
  assert.ok(seen.shaken.length - before < 250); // but not without an end: a stranger may share its NAT
});

test("an admitted connection is not counted as unfinished, also where Node.js has no _parent", () => {
  const { door: made } = door();
  for (let number = 0; number < 40; number++) {
    const raw = knock(made, "8.8.8.8", TLS);
    raw.remotePort = number;
    const ticket = number % 2 ? made.ticketOf({ _parent: raw }) : made.ticketOf(raw);
    assert.strictEqual(ticket.raw, raw);
    made.admitted(ticket);
  }
  assert.strictEqual(made.open.size, 0);
  assert.strictEqual(made.counts.size, 0);
});

test("what is unfinished is counted per address and in all, and the count comes back to nothing", () => {
  const { door: made, seen } = door();
  const some = Array.from({ length: 20 }, () => knock(made, "8.8.8.8"));
  assert.strictEqual(some.filter((raw) => raw.destroyed).length, 4);
  const many = Array.from({ length: 100 }, (_, number) => knock(made, `9.9.9.${number}`));
  assert.strictEqual(made.open.size, 64);
  assert.ok(!many[99].destroyed); // the newest got room
  assert.strictEqual([...some, ...many].filter((raw) => !raw.destroyed).length, 64); // and what made room is gone
  assert.ok(seen.refused.includes("too-many"));
  for (const raw of [...some, ...many]) raw.destroy();
  assert.strictEqual(made.open.size, 0);
  assert.strictEqual(made.counts.size, 0);
});

test("the neighbours in one /64 are one address", () => {
  const { door: made } = door();
  const some = Array.from({ length: 20 }, (_, number) => knock(made, `2001:db8:1:2::${number + 1}`));
  assert.strictEqual(some.filter((raw) => raw.destroyed).length, 4);
});

test("an endless supply of addresses does not fill the memory", () => {
  const { door: made } = door();
  for (let number = 0; number < 6000; number++) {
    made.strangers.level = 40;
    knock(made, `9.${number >> 16}.${(number >> 8) & 255}.${number & 255}`, TLS).destroy();
  }
  assert.ok(made.buckets.size <= 4096);
});
