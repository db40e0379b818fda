"use strict";
// Networks as redlatch publishes them: a table of sorted intervals in 32-bit words, searched by halving, so that a
// million subnets cost one search (net.BlockList needs 1-3 ms with 100,000: measured).

const { isIPv4, isIPv6 } = require("node:net");
const { endianness } = require("node:os");

const MAGIC = Buffer.from("RLNET1\n\0", "latin1");

/** The address without the IPv6 dress of an IPv4 one. */
function plainAddress(address) {
  return address.startsWith("::ffff:") && isIPv4(address.slice(7)) ? address.slice(7) : address;
}

function words4(text) {
  let value = 0;
  for (const part of text.split(".")) value = value * 256 + Number(part);
  return value;
}

/** A peer's address as its 32-bit words: one for IPv4 (mapped or not), four for IPv6, null for what is none. */
function wordsOf(address) {
  const zone = address.indexOf("%");
  const text = zone < 0 ? address : address.slice(0, zone); // a zone id is the receiver's business
  if (isIPv4(text)) return [words4(text)];
  if (!isIPv6(text)) return null;
  const colon = text.lastIndexOf(":");
  let whole = text;
  if (text.includes(".")) {
    const tail = words4(text.slice(colon + 1));
    whole = `${text.slice(0, colon + 1)}${(tail >>> 16).toString(16)}:${(tail & 0xffff).toString(16)}`;
  }
  const [head, tail] = whole.split("::");
  const left = head === "" ? [] : head.split(":");
  const right = tail === undefined || tail === "" ? [] : tail.split(":");
  const groups = [...left, ...Array(8 - left.length - right.length).fill("0"), ...right].map((one) => parseInt(one, 16));
  const words = [0, 2, 4, 6].map((at) => groups[at] * 65536 + groups[at + 1]);
  return words[0] === 0 && words[1] === 0 && words[2] === 0xffff ? [words[3]] : words;
}

/** Compares the address at `at` of a list of IPv6 addresses with `words`. */
function compare6(list, at, words) {
  for (let index = 0; index < 4; index++) {
    const one = list[4 * at + index];
    if (one !== words[index]) return one < words[index] ? -1 : 1;
  }
  return 0;
}

class Network {
  /** `bytes` as redlatch.policy.networks.encode makes them; throws an Error for anything else. */
  constructor(bytes) {
    if (bytes.length < 16 || bytes.length % 4 !== 0 || !bytes.subarray(0, 8).equals(MAGIC)) {
      throw new Error("a list of addresses is garbled");
    }
    const copy = Buffer.from(new ArrayBuffer(bytes.length - 8)); // aligned, which a slice of a pool need not be
    bytes.copy(copy, 0, 8);
    if (endianness() === "BE") copy.swap32();
    const words = new Uint32Array(copy.buffer, copy.byteOffset, copy.length / 4);
    const [n4, n6] = words;
    if (words.length !== 2 + 2 * n4 + 8 * n6) throw new Error("a list of addresses is garbled");
    const at6 = 2 + 2 * n4;
    this.first4 = words.subarray(2, 2 + n4);
    this.last4 = words.subarray(2 + n4, at6);
    this.first6 = words.subarray(at6, at6 + 4 * n6);
    this.last6 = words.subarray(at6 + 4 * n6);
    this.check();
  }

  check() {
    for (let at = 0; at < this.first4.length; at++) {
      if (this.first4[at] > this.last4[at] || (at > 0 && this.first4[at] <= this.last4[at - 1])) {
        throw new Error("a list of addresses is not sorted");
      }
    }
    for (let at = 0; at < this.first6.length / 4; at++) {
      const first = this.first6.subarray(4 * at, 4 * at + 4);
      if (compare6(this.last6, at, first) < 0 || (at > 0 && compare6(this.last6, at - 1, first) >= 0)) {
        throw new Error("a list of addresses is not sorted");
      }
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
    let low = 0;
    let high = this.first6.length / 4;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (compare6(this.first6, middle, words) <= 0) low = middle + 1;
      else high = middle;
    }
    return low > 0 && compare6(this.last6, low - 1, words) >= 0;
  }
}

module.exports = { Network, plainAddress, wordsOf };
