"use strict";
// Who may begin a TLS handshake. A P-256 handshake takes more than a millisecond of the thread that runs the flows, so
// strangers get few of them: unfinished connections are capped per address and in all, and handshakes of addresses from
// which no device came in lately are rationed. The first byte tells plain http, which costs no handshake at all.

const net = require("node:net");
const { performance } = require("node:perf_hooks");
const { plainAddress } = require("./networks.js");

const PER_ADDRESS = 16; // unfinished connections; a browser opens 6 at once
const IN_ALL = 64;
const DEADLINE_MS = 5000; // from the first packet to a finished handshake
const STRANGER_MS = 10000; // how long a stranger may read the page that says why
const MAX_HEAD = 8192;
const REMEMBERED_MS = 3600e3; // an address counts as known for so long after a device came in from it
const MAX_ADDRESSES = 4096;

const STRANGERS = { rate: 20, burst: 40 }; // handshakes per second, all unknown addresses together: 3 % of a Pi's core
const STRANGER = { rate: 8, burst: 24 }; // of one unknown address
const KNOWN = { rate: 100, burst: 200 }; // known addresses together: somebody may sit behind the same NAT as a device

const TLS_HANDSHAKE = 0x16;

class Bucket {
  constructor({ rate, burst }) {
    this.rate = rate;
    this.burst = burst;
    this.level = burst;
    this.at = performance.now();
  }

  refill() {
    const now = performance.now();
    this.level = Math.min(this.burst, this.level + ((now - this.at) / 1000) * this.rate);
    this.at = now;
    return this.level;
  }

  give() {
    this.level = Math.min(this.burst, this.level + 1);
  }
}

const private_ = new net.BlockList();
for (const [address, prefix] of [["10.0.0.0", 8], ["127.0.0.0", 8], ["169.254.0.0", 16], ["172.16.0.0", 12], ["192.168.0.0", 16]]) {
  private_.addSubnet(address, prefix, "ipv4");
}
for (const [address, prefix] of [["::1", 128], ["fc00::", 7], ["fe80::", 10]]) private_.addSubnet(address, prefix, "ipv6");

function isPrivate(address) {
  const bare = address.split("%", 1)[0];
  return net.isIPv4(bare) ? private_.check(bare, "ipv4") : net.isIPv6(bare) && private_.check(bare, "ipv6");
}

/** What counts as one address: an IPv4 address, or the /64 that an IPv6 host can choose freely from. */
function groupOf(address) {
  if (!address.includes(":")) return address;
  const [head, tail] = address.split("%", 1)[0].split("::");
  const left = head === "" ? [] : head.split(":");
  const right = tail === undefined || tail === "" ? [] : tail.split(":");
  const groups = [...left, ...Array(Math.max(0, 8 - left.length - right.length)).fill("0"), ...right];
  return groups.slice(0, 4).join(":");
}

const TICKET = Symbol("redlatch.ticket");

class Door {
  /**
   * proceed(ticket): hand the connection to TLS. refused(address, reason): for the log.
   * redirect(host): our https origin for this Host header, or null.
   */
  constructor({ proceed, refused, redirect }) {
    this.proceed = proceed;
    this.refused = refused;
    this.redirect = redirect;
    this.open = new Set(); // tickets, oldest first
    this.counts = new Map(); // group -> unfinished connections
    this.known = new Map(); // group -> when a device came in last
    this.buckets = new Map(); // group -> bucket of an unknown address
    this.strangers = new Bucket(STRANGERS);
    this.familiar = new Bucket(KNOWN);
    this.sweeper = null;
  }

  /** `byOpenPort`: it came by the port that asks nobody for a certificate. */
  arrive(raw, byOpenPort) {
    raw.on("error", ignore); // a reset must not end the process
    if (raw.remoteAddress === undefined) {
      raw.destroy();
      return;
    }
    const address = plainAddress(raw.remoteAddress);
    const group = groupOf(address);
    if ((this.counts.get(group) || 0) >= PER_ADDRESS || (this.open.size >= IN_ALL && !this.makeRoom(group))) {
      this.turnAway(raw, address);
      return;
    }
    const deadline = performance.now() + DEADLINE_MS;
    // `optional`, once the handshake begins: it does not insist on a certificate
    const ticket = { raw, address, group, deadline, bucket: null, byOpenPort, optional: false };
    raw[TICKET] = ticket;
    this.open.add(ticket);
    this.counts.set(group, (this.counts.get(group) || 0) + 1);
    raw.once("close", () => this.release(ticket));
    raw.once("readable", () => this.peek(ticket));
    if (this.sweeper === null) this.sweepLater();
  }

  /** A ticket of a stranger makes room for the newest: a slow one cannot keep the quick ones out. */
  makeRoom(group) {
    for (const ticket of this.open) {
      if (!this.isKnown(ticket.group)) {
        this.release(ticket);
        ticket.raw.destroy();
        return true;
      }
    }
    return this.isKnown(group);
  }

  peek(ticket) {
    const { raw } = ticket;
    const chunk = raw.read();
    if (chunk === null) {
      raw.destroy(); // closed without a word
    } else if (chunk[0] === TLS_HANDSHAKE) {
      if (!this.mayShake(ticket)) {
        this.turnAway(raw, ticket.address);
        return;
      }
      raw.unshift(chunk);
      this.proceed(ticket);
    } else if (isPrivate(ticket.address)) {
      this.readHead(ticket, chunk);
    } else {
      raw.destroy();
      this.refused(ticket.address, "bad-handshake");
    }
  }

  mayShake(ticket) {
    if (this.isKnown(ticket.group)) {
      ticket.bucket = null;
      if (this.familiar.refill() < 1) return false;
      this.familiar.level -= 1;
      return true;
    }
    let bucket = this.buckets.get(ticket.group);
    if (bucket === undefined) {
      bucket = new Bucket(STRANGER);
      forgetOldest(this.buckets);
      this.buckets.set(ticket.group, bucket);
    }
    if (bucket.refill() < 1 || this.strangers.refill() < 1) return false;
    bucket.level -= 1;
    this.strangers.level -= 1;
    ticket.bucket = bucket;
    return true;
  }

  /** Plain http from a private network: read its head, answer with the https address. */
  readHead(ticket, first) {
    const { raw } = ticket;
    let head = first;
    const answer = () => {
      if (head.length > MAX_HEAD) return this.drop(ticket);
      const end = head.indexOf("\r\n\r\n");
      if (end < 0) return raw.once("readable", more);
      const location = this.locationOf(head.subarray(0, end).toString("latin1"));
      this.refused(ticket.address, location === null ? "bad-handshake" : "plain-http");
      if (location === null) return raw.destroy();
      return raw.end(
        `HTTP/1.1 308 Permanent Redirect\r\nLocation: ${location}\r\nCache-Control: no-store\r\n` +
          "Content-Length: 0\r\nConnection: close\r\n\r\n",
        () => raw.destroy(),
      );
    };
    const more = () => {
      const chunk = raw.read();
      if (chunk === null) return raw.destroy();
      head = Buffer.concat([head, chunk]);
      return answer();
    };
    if (first[0] < 0x41 || first[0] > 0x5a) return this.drop(ticket); // no method begins like that
    return answer();
  }

  drop(ticket) {
    ticket.raw.destroy();
    this.refused(ticket.address, "bad-handshake");
  }

  locationOf(head) {
    const [line, ...fields] = head.split("\r\n");
    const request = /^[A-Z]{1,16} (\/[\x21-\x7e]{0,2047}) HTTP\/1\.[01]$/.exec(line);
    const hosts = fields.map((field) => /^host:[ \t]*([^ \t]*)[ \t]*$/i.exec(field)).filter(Boolean);
    if (request === null || hosts.length !== 1) return null;
    const origin = this.redirect(hosts[0][1]);
    return origin === null ? null : origin + request[1];
  }

  /**
   * The ticket behind a TLS socket, or null. `_parent` is not documented but has been there since Node.js 0.11; should
   * it go, the ports tell.
   */
  ticketOf(socket) {
    const raw = socket._parent;
    if (raw && raw[TICKET]) return raw[TICKET];
    const { remoteAddress, remotePort } = socket;
    for (const ticket of this.open) {
      if (ticket.raw.remotePort === remotePort && ticket.raw.remoteAddress === remoteAddress) return ticket;
    }
    return null;
  }

  /** The handshake behind this ticket is done and a device holds the other end. */
  admitted(ticket) {
    if (ticket === null) return;
    if (ticket.bucket !== null) {
      ticket.bucket.give();
      this.strangers.give();
    } else {
      this.familiar.give();
    }
    this.known.delete(ticket.group);
    forgetOldest(this.known);
    this.known.set(ticket.group, performance.now());
    this.release(ticket);
  }

  /** The handshake is done, a stranger holds the other end and may read why: still counted, and not for long. */
  lingers(ticket) {
    if (ticket !== null) ticket.deadline = performance.now() + STRANGER_MS;
  }

  isKnown(group) {
    const at = this.known.get(group);
    return at !== undefined && performance.now() - at < REMEMBERED_MS;
  }

  turnAway(raw, address) {
    raw.destroy();
    this.refused(address, "too-many");
  }

  release(ticket) {
    if (!this.open.delete(ticket)) return;
    const left = this.counts.get(ticket.group) - 1;
    if (left > 0) this.counts.set(ticket.group, left);
    else this.counts.delete(ticket.group);
  }

  sweepLater() {
    this.sweeper = setTimeout(() => {
      const now = performance.now();
      for (const ticket of [...this.open]) if (ticket.deadline <= now) ticket.raw.destroy();
      this.sweeper = null;
      if (this.open.size > 0) this.sweepLater();
    }, 1000);
    this.sweeper.unref();
  }
}

function ignore() {}

function forgetOldest(map) {
  if (map.size >= MAX_ADDRESSES) map.delete(map.keys().next().value);
}

module.exports = { Door, groupOf, isPrivate, DEADLINE_MS };
