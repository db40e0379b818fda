"use strict";
// Reads and checks the snapshot: snapshot.json (two lines, the JSON and its SHA-256) and the files that it names, each by
// the SHA-256 of its content. Whatever is not exactly that is refused, so that a torn, garbled or older file changes
// nothing. Parts that the snapshot in force has already are taken from there: one change costs the reading of a few
// small files, however many devices there are.

const crypto = require("node:crypto");
const fs = require("node:fs");
const path = require("node:path");
const { setImmediate } = require("node:timers/promises");
const { Network } = require("./networks.js");
const { isCanonical } = require("./paths.js");

const MAX_BYTES = 256 * 1024 * 1024;
const LONG = 256 * 1024; // bytes of a list of addresses that is worth reading beforehand
const SLICE = 256 * 1024;
const TORN = "a part of it is torn or garbled";
const DIGEST = /^[0-9a-f]{64}$/;
const AREAS = new Set(["all", "editor", "editor-read", "dashboards", "http-in", "static", "websockets"]);
const MODES = new Set(["strict", "explain", "auto"]);
const METHODS = new Set(["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]);

const isText = (value) => typeof value === "string";
const isFlag = (value) => typeof value === "boolean";
const isCount = (value) => Number.isSafeInteger(value) && value >= 0;
const isPort = (value) => value === null || (isCount(value) && value > 0 && value < 65536);
const isTexts = (value) => Array.isArray(value) && value.every(isText);
const isPaths = (value) => isTexts(value) && value.every((one) => one.startsWith("/"));
const isPlain = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const isDigest = (value) => isText(value) && DIGEST.test(value);
const each = (fits) => (value) => isPlain(value) && Object.values(value).every(fits);

const RULE = {
  id: isCount,
  roles: isTexts,
  devices: isTexts,
  any_device: isFlag,
  anyone: isFlag,
  networks: isTexts,
  area: (value) => value === null || AREAS.has(value),
  path: (value) => value === null || (isText(value) && value !== "/" && isCanonical(value)),
  methods: (value) => isTexts(value) && value.every((one) => METHODS.has(one)),
};
const FIELDS = {
  site: (value) => isText(value) && value !== "",
  version: isCount,
  time: isCount,
  mode: (value) => MODES.has(value),
  port: isPort,
  open_port: isPort,
  keep_auth: isFlag,
  names: isTexts,
  origins: isTexts,
  admin_root: (value) => value === null || (isText(value) && value.startsWith("/")),
  areas: (value) =>
    isPlain(value) && ["dashboards", "http_in", "static", "websockets"].every((name) => isPaths(value[name])),
  roles: each(isText),
  rules: (value) => Array.isArray(value) && value.every(isRule),
  networks: each(isDigest),
  devices: (value) => value === null || isDigest(value),
  spool: (value) => isText(value) && value.startsWith("/"),
};

function isRule(rule) {
  return (
    isPlain(rule) && Object.entries(RULE).every(([name, fits]) => fits(rule[name])) && (rule.area === null) !== (rule.path === null)
  );
}

/** The bytes of a plain file, at most `limit` of them; throws with a short reason otherwise. */
function readFile(file, limit) {
  const descriptor = fs.openSync(file, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK);
  try {
    const state = fs.fstatSync(descriptor);
    if (!state.isFile()) throw new Error("it is not a plain file");
    if (state.size > limit) throw new Error("it is too large");
    return fs.readFileSync(descriptor);
  } finally {
    fs.closeSync(descriptor);
  }
}

/**
 * The Network in `file`, whose name is its digest, read beforehand and in slices: a list of a million addresses would hold
 * up the flows for a tenth of a second. Throws as `load` does.
 */
async function readList(file) {
  const handle = await fs.promises.open(file, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK);
  try {
    const state = await handle.stat();
    if (!state.isFile()) throw new Error("it is not a plain file");
    if (state.size > MAX_BYTES) throw new Error("it is too large");
    const bytes = Buffer.from(new ArrayBuffer(state.size));
    const hash = crypto.createHash("sha256");
    for (let at = 0; at < bytes.length; at += SLICE) {
      const slice = bytes.subarray(at, at + SLICE);
      await handle.read(slice, 0, slice.length, at);
      hash.update(slice);
    }
    if (hash.digest("hex") !== path.basename(file)) throw new Error(TORN);
    return await Network.inSlices(bytes, setImmediate);
  } finally {
    await handle.close();
  }
}

/** {head, digest} from snapshot.json's bytes; throws an Error that says what is wrong. */
function parse(bytes) {
  const end = bytes.indexOf(10);
  if (end < 0) throw new Error("it is cut short");
  const line = bytes.subarray(0, end);
  const digest = sha256(line);
  if (bytes.subarray(end + 1).toString("latin1") !== digest + "\n") throw new Error("its digest does not match");
  const head = JSON.parse(textOf(line));
  if (!isPlain(head) || head.format !== 2) throw new Error("its format is not known");
  for (const [name, fits] of Object.entries(FIELDS)) {
    if (!fits(head[name])) throw new Error(`its field ${name} is not as it should be`);
  }
  return { head, digest };
}

/** The devices: a tree by the digits of their fingerprints. Nodes are never changed, so that snapshots share them. */
class Devices {
  constructor(root) {
    this.root = root; // {digest, entries: Map} or {digest, children: 16 nodes or nulls}, or null
  }

  get(fingerprint) {
    let node = this.root;
    for (let at = 0; node && node.children !== undefined; at++) node = node.children[parseInt(fingerprint[at], 16)];
    return node ? node.entries.get(fingerprint) : undefined;
  }
}

/** The tree below `prefix` with this digest; what `old` has of it is taken from there. */
function grow(read, digest, prefix, old) {
  if (digest === null) return null;
  if (old && old.digest === digest) return old;
  const body = JSON.parse(textOf(read(digest)));
  if (isPlain(body) && Array.isArray(body.branch) && body.branch.length === 16 && prefix.length < 64) {
    const before = (old && old.children) || [];
    const children = body.branch.map((child, digit) => {
      if (child !== null && !isDigest(child)) throw new Error("it has a garbled branch");
      return grow(read, child, prefix + digit.toString(16), before[digit]);
    });
    return { digest, children };
  }
  if (!isPlain(body) || !isPlain(body.leaf)) throw new Error("it has a garbled part");
  const entries = new Map();
  for (const [fingerprint, row] of Object.entries(body.leaf)) {
    if (!isDigest(fingerprint) || !fingerprint.startsWith(prefix)) throw new Error("it has a garbled device");
    entries.set(fingerprint, entryOf(row));
  }
  return { digest, entries };
}

/** The text of bytes that are UTF-8; toString alone puts U+FFFD where they are not. */
function textOf(bytes) {
  const text = bytes.toString("utf8");
  if (!Buffer.from(text, "utf8").equals(bytes)) throw new Error("it is no text");
  return text;
}

function entryOf(row) {
  const [id, role, user, not_before, not_after] = Array.isArray(row) && row.length === 5 ? row : [];
  if (!isText(id) || !isText(role) || !isText(user) || !isCount(not_before) || !isCount(not_after)) {
    throw new Error("it has a garbled device");
  }
  return { id, role, user, not_before, not_after };
}

/**
 * Reads snapshot.json in `folder` and its parts; with `current` (what this returned before) only a later one of the same
 * site counts. {snapshot, digest, networks}, or null: the same as before. Throws what is wrong, and then nothing has changed.
 * With `lists` (digest -> Network, read beforehand) also {missing}: the files of those long lists that are not among them.
 */
function load(folder, name, current, lists = null) {
  const { head, digest } = parse(readFile(path.join(folder, name), MAX_BYTES));
  if (current) {
    if (digest === current.digest) return null;
    if (head.site !== current.snapshot.site) throw new Error("it belongs to another site");
    if (head.version <= current.snapshot.version) throw new Error("it is not newer than the one in force");
  }
  const fileOf = (part) => path.join(folder, "snapshot", part);
  const read = (part) => {
    const bytes = readFile(fileOf(part), MAX_BYTES);
    if (sha256(bytes) !== part) throw new Error(TORN);
    return bytes;
  };
  const known = new Map([...(current ? current.networks : []), ...(lists || [])]); // digest -> Network
  const parts = new Set(Object.values(head.networks));
  if (lists !== null) {
    const missing = [...parts].filter((part) => !known.has(part)).map(fileOf).filter((file) => fs.statSync(file).size > LONG);
    if (missing.length > 0) return { missing };
  }
  const networks = new Map([...parts].map((part) => [part, known.get(part) || new Network(read(part))]));
  const devices = new Devices(grow(read, head.devices, "", current && current.snapshot.devices.root));
  const named = new Map(Object.entries(head.networks).map(([one, part]) => [one, networks.get(part)]));
  return { snapshot: { ...head, devices, networks: named }, digest, networks };
}

function sha256(bytes) {
  return crypto.createHash("sha256").update(bytes).digest("hex");
}

module.exports = { Devices, load, parse, readFile, readList };
