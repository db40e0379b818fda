"use strict";
// Networks as redlatch publishes them: a table of sorted intervals in 32-bit words, searched by halving, so that a
// million subnets cost one search (net.BlockList needs 1-3 ms with 100,000: measured).

const { isIPv4, isIPv6 } = require("node:net");
const { endianness } = require("node:os");

const SLICE = 16384; // intervals that are checked in one go
const ZONE = /^%[^%/]+$/;
const MAGIC = Buffer.from("RLNET1\n\0", "latin1");

/** The address without the IPv6 dress of an IPv4 one. */
function plainAddress(address) {
  return address.startsWith("::ffff:") && isIPv4(address.slice(7)) ? address.slice(7) : address;
}

// By hand, one character after the other: split and parseInt take five times as long.
const DOT = 46;
const COLON = 58;

function words4(text) {
  let value = 0;
  let part = 0;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === DOT) {
      value = value * 256 + part;
      part = 0;
    } else part = part * 10 + code - 48;
  }
  return value * 256 + part;
}

function words6(text) {
  const groups = [0, 0, 0, 0, 0, 0, 0, 0];
  let count = 0;
  let gap = -1; // where "::" stands
  let group = 0;
  let afterColon = false;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === COLON) {
      if (afterColon) gap = count;
      else if (at > 0) groups[count++] = group;
      group = 0;
    } else group = group * 16 + (code <= 57 ? code - 48 : (code | 32) - 87);
    afterColon = code === COLON;
  }
  if (!afterColon) groups[count++] = group;
  if (gap >= 0) {
    for (let from = count - 1, to = 7; from >= gap && from < to; from--, to--) {
      groups[to] = groups[from];
      groups[from] = 0;
    }
  }
  const [a, b, c, d, e, f, g, h] = groups;
  return [a * 65536 + b, c * 65536 + d, e * 65536 + f, g * 65536 + h];
}

/** A peer's address as its 32-bit words: one for IPv4 (mapped or not), four for IPv6, null for what is none. */
function wordsOf(address) {
  if (isIPv4(address)) return [words4(address)];
  const zone = address.indexOf("%");
  // A zone id is the receiver's business; Node.js does not know all that an interface may be called (br_lan)
  if (zone >= 0 && !ZONE.test(address.slice(zone))) return null;
  const text = zone < 0 ? address : address.slice(0, zone);
  if (!isIPv6(text)) return null;
  let whole = text;
  if (text.includes(".")) {
    const colon = text.lastIndexOf(":");
    const tail = words4(text.slice(colon + 1));
    whole = `${text.slice(0, colon + 1)}${(tail >>> 16).toString(16)}:${(tail & 0xffff).toString(16)}`;
  }
  const words = words6(whole);
  return words[0] === 0 && words[1] === 0 && words[2] === 0xffff ? [words[3]] : words;
}

/** Compares the address at `at` of a list of IPv6 addresses with `words`. */
function compare6(list, at, words) {
  for (let index = 0; index < 4; index++) {
    const one = list[4 * at + index];
    const other = words[index];
    if (one !== other) return one < other ? -1 : 1;
  }
  return 0;
}

// One function for lists and for words would be slow: they are other kinds of arrays
/** Whether the address at `at` of a list of IPv6 addresses is lower than the one at `there` of another. */
function isLower6(list, at, other, there) {
  for (let index = 0; index < 4; index++) {
    const one = list[4 * at + index];
    const two = other[4 * there + index];
    if (one !== two) return one < two;
  }
  return false;
}

/** The 32-bit words of `bytes`: those bytes themselves where that can be. */
function wordsIn(bytes) {
  let own = bytes;
  if (bytes.byteOffset % 4 !== 0 || endianness() === "BE") {
    own = Buffer.from(new ArrayBuffer(bytes.length)); // a slice of a pool need not be aligned
    bytes.copy(own);
    if (endianness() === "BE") own.swap32();
  }
  return new Uint32Array(own.buffer, own.byteOffset, own.length / 4);
}

class Network {
  /** `bytes` as redlatch.policy.networks.encode makes them, kept; throws an Error for anything else. */
  constructor(bytes) {
    for (const _ of this.reading(bytes));
  }

  /** The same, with pauses of the caller's between two slices: a million addresses take longer than flows may wait. */
  static async inSlices(bytes, pause) {
    const made = Object.create(Network.prototype);
    for (const _ of made.reading(bytes)) await pause();
    return made;
  }

  *reading(bytes) {
    if (bytes.length < 16 || bytes.length % 4 !== 0 || !bytes.subarray(0, 8).equals(MAGIC)) {
      throw new Error("a list of addresses is garbled");
    }
    const words = wordsIn(bytes.subarray(8));
    const [n4, n6] = words;
    if (words.length !== 2 + 2 * n4 + 8 * n6) throw new Error("a list of addresses is garbled");
    const at6 = 2 + 2 * n4;
    this.first4 = words.subarray(2, 2 + n4);
    this.last4 = words.subarray(2 + n4, at6);
    this.first6 = words.subarray(at6, at6 + 4 * n6);
    this.last6 = words.subarray(at6 + 4 * n6);
    this.heads6 = new Uint32Array(n6); // the first words of first6, side by side: they tell nearly always
    const { first4, last4, first6, last6, heads6 } = this;
    for (let at = 0; at < n4; at++) {
      if (first4[at] > last4[at] || (at > 0 && first4[at] <= last4[at - 1])) throw new Error("a list of addresses is not sorted");
      if (at % SLICE === SLICE - 1) yield;
    }
    for (let at = 0; at < n6; at++) {
      if (isLower6(last6, at, first6, at) || (at > 0 && !isLower6(last6, at - 1, first6, at))) {
        throw new Error("a list of addresses is not sorted");
      }
      heads6[at] = first6[4 * at];
      if (at % SLICE === SLICE - 1) yield;
    }
  }

  /** Whether an address, as `wordsOf` gives it, is in it. */
  has(words) {
    return words.length === 1 ? this.has4(words[0]) : this.has6(words);
  }

  has4(value) {
    const { first4, last4 } = this;
    let low = 0;
    let high = first4.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (first4[middle] <= value) low = middle + 1;
      else high = middle;
    }
    return low > 0 && value <= last4[low - 1];
  }

  has6(words) {
    const { heads6, first6, last6 } = this;
    const [head] = words;
    let low = 0;
    let high = heads6.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const one = heads6[middle];
      if (one < head || (one === head && compare6(first6, middle, words) <= 0)) low = middle + 1;
      else high = middle;
    }
    return low > 0 && compare6(last6, low - 1, words) >= 0;
  }
}

module.exports = { Network, plainAddress, wordsOf };
