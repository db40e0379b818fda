"use strict";
// The sidebar's half inside Node-RED: one route that answers what the editor may show. It holds no authority. What it
// says comes from the published sidebar.json and from what the guard shows (guard/view.js); whom it says it to is decided
// by the certificate that the guard knows behind the very socket, never by a header. Without the guard it says nothing.

const fs = require("node:fs");
const path = require("node:path");

const GUARD = Symbol.for("redlatch.guard");
const FILE = path.join(__dirname, "../../sidebar.json");
const MAX_BYTES = 4 * 1024 * 1024;
const SEES_ALL = new Set(["owner", "admin"]);
const SEES_ITSELF = new Set(["viewer"]);

const isText = (value) => typeof value === "string";
const isCount = (value) => Number.isSafeInteger(value) && value >= 0;
const isPlain = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const isDevice = (value) =>
  isPlain(value) && ["id", "name", "role", "base"].every((key) => isText(value[key])) &&
  (value.owner === null || isText(value.owner)) && (value.not_after === null || isCount(value.not_after));
const isDevices = (value) => Array.isArray(value) && value.every(isDevice);
const FIELDS = {
  format: (value) => value === 1,
  site: isText,
  version: isCount,
  total: isCount,
  devices: isDevices,
  ending: isDevices,
  console: (value) =>
    isPlain(value) && isCount(value.port) && value.port > 0 && value.port < 65536 &&
    Array.isArray(value.listen) && value.listen.every(isText),
};

/** The published list, read again only when the file is another one. */
class List {
  constructor(file) {
    this.file = file;
    this.seen = null;
    this.found = { list: null, problem: "missing" };
  }

  /** {list, problem}: one of them is null. A problem is "missing", "unreadable" or "garbled". */
  read() {
    let descriptor = null;
    try {
      descriptor = fs.openSync(this.file, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK);
      const state = fs.fstatSync(descriptor, { bigint: true });
      const stamp = `${state.dev}:${state.ino}:${state.size}:${state.mtimeNs}:${state.ctimeNs}`;
      if (stamp === this.seen) return this.found;
      if (!state.isFile() || state.size > MAX_BYTES) return this.became(stamp, null, "garbled");
      const list = parse(fs.readFileSync(descriptor, "utf8"));
      return this.became(stamp, list, list === null ? "garbled" : null);
    } catch (error) {
      return this.became(null, null, error.code === "ENOENT" ? "missing" : "unreadable");
    } finally {
      if (descriptor !== null) fs.closeSync(descriptor);
    }
  }

  became(stamp, list, problem) {
    this.seen = stamp;
    this.found = { list, problem };
    return this.found;
  }
}

/** What sidebar.json says, or null when anything of it is not as it should be. */
function parse(text) {
  try {
    const found = JSON.parse(text);
    return isPlain(found) && Object.entries(FIELDS).every(([name, fits]) => fits(found[name])) ? found : null;
  } catch {
    return null;
  }
}

/** Open connections by who has them: [{id, from, since, count, websockets}], the newest first. */
function gathered(connections) {
  const found = new Map();
  for (const { id, from, since, websocket } of connections) {
    const key = `${id} ${from}`;
    const one = found.get(key) || { id, from, since, count: 0, websockets: 0 };
    one.count += 1;
    if (websocket) one.websockets += 1;
    one.since = Math.min(one.since, since);
    found.set(key, one);
  }
  return [...found.values()].sort((a, b) => b.since - a.since);
}

/** What the device behind a socket may see, or null: nothing. `view` is the guard's, undefined where there is none. */
function stateFor(socket, view, published) {
  const own = view ? view.deviceBehind(socket) : null;
  if (own === null || !(SEES_ALL.has(own.base) || SEES_ITSELF.has(own.base))) return null;
  const inForce = view.inForce();
  const { list, problem } = mine(published.read(), inForce.site);
  const all = list === null ? [] : [...list.devices, ...list.ending];
  const named = all.find((device) => device.id === own.id);
  const state = {
    now: Math.floor(Date.now() / 1000),
    own: { ...own, name: named ? named.name : null },
    console: list === null ? null : list.console,
    problem,
  };
  if (!SEES_ALL.has(own.base)) return state;
  return {
    ...state,
    guard: inForce,
    list: list === null ? null : { version: list.version, total: list.total, devices: list.devices, ending: list.ending },
    connections: gathered(view.connections()),
    refusals: view.refusals(),
  };
}

/** A list of another site (a folder put back from a backup) is none. */
function mine(read, site) {
  return read.list !== null && read.list.site !== site ? { list: null, problem: "garbled" } : read;
}

module.exports = function plugin(RED) {
  const published = new List(FILE);
  if (!RED.httpAdmin) return; // httpAdminRoot: false, there is no editor
  RED.httpAdmin.get("/redlatch/state", RED.auth.needsPermission("redlatch.read"), (req, res) => {
    res.set({ "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff" });
    const guard = globalThis[GUARD];
    const state = stateFor(req.socket, guard && guard.view, published);
    if (state === null) res.status(403).json({ error: "not-for-this-role" });
    else res.json(state);
  });
};
Object.assign(module.exports, { List, gathered, parse, stateFor });
