"use strict";
// Reads and checks snapshot.json: two lines, the JSON and its SHA-256. Whatever is not exactly that is refused,
// so that a torn, garbled or older file changes nothing.

const crypto = require("node:crypto");
const fs = require("node:fs");

const MAX_BYTES = 256 * 1024 * 1024;
const FINGERPRINT = /^[0-9a-f]{64}$/;

const isText = (value) => typeof value === "string";
const isCount = (value) => Number.isSafeInteger(value) && value >= 0;
const isTexts = (value) => Array.isArray(value) && value.every(isText);
const isPlain = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

const FIELDS = {
  site: (value) => isText(value) && value !== "",
  version: isCount,
  time: isCount,
  mode: (value) => value === "strict" || value === "explain",
  port: (value) => value === null || (isCount(value) && value > 0 && value < 65536),
  keep_auth: (value) => typeof value === "boolean",
  names: isTexts,
  origins: isTexts,
  admin_root: (value) => value === null || (isText(value) && value.startsWith("/")),
  dashboards: (value) => isTexts(value) && value.every((path) => path.startsWith("/")),
  spool: (value) => isText(value) && value.startsWith("/"),
  devices: isPlain,
};

/** The bytes of a plain file, at most `limit` of them; throws with a short reason otherwise. */
function readFile(path, limit) {
  const descriptor = fs.openSync(path, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK);
  try {
    const state = fs.fstatSync(descriptor);
    if (!state.isFile()) throw new Error("it is not a plain file");
    if (state.size > limit) throw new Error("it is too large");
    return fs.readFileSync(descriptor);
  } finally {
    fs.closeSync(descriptor);
  }
}

function isEntry(entry) {
  return (
    isPlain(entry) && isText(entry.id) && isText(entry.role) && isText(entry.user) &&
    isCount(entry.not_before) && isCount(entry.not_after)
  );
}

/** {snapshot, digest} from the file's bytes; throws an Error that says what is wrong. */
function parse(bytes) {
  const end = bytes.indexOf(10);
  if (end < 0) throw new Error("it is cut short");
  const line = bytes.subarray(0, end);
  const digest = crypto.createHash("sha256").update(line).digest("hex");
  if (bytes.subarray(end + 1).toString("latin1") !== digest + "\n") throw new Error("its digest does not match");
  const snapshot = JSON.parse(line.toString("utf8"));
  if (!isPlain(snapshot) || snapshot.format !== 1) throw new Error("its format is not known");
  for (const [name, fits] of Object.entries(FIELDS)) {
    if (!fits(snapshot[name])) throw new Error(`its field ${name} is not as it should be`);
  }
  for (const [fingerprint, entry] of Object.entries(snapshot.devices)) {
    if (!FINGERPRINT.test(fingerprint) || !isEntry(entry)) throw new Error("it has a garbled device");
  }
  return { snapshot, digest };
}

/** Reads the file; with `current` ({snapshot, digest}) only a later one of the same site counts. null: the same. */
function load(path, current) {
  const found = parse(readFile(path, MAX_BYTES));
  if (current) {
    if (found.digest === current.digest) return null;
    if (found.snapshot.site !== current.snapshot.site) throw new Error("it belongs to another site");
    if (found.snapshot.version <= current.snapshot.version) throw new Error("it is not newer than the one in force");
  }
  return found;
}

module.exports = { load, parse, readFile };
