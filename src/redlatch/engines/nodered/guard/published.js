"use strict";
// The published folder, followed live: snapshot, server certificate, device CA. Each file is checked before it counts;
// a bad one is reported and the last good one stays. fs.watch tells within milliseconds, polling catches what it misses
// (measured: watch 18-25 ms, polling alone 350-955 ms; inotify may run out).

const fs = require("node:fs");
const path = require("node:path");
const { performance } = require("node:perf_hooks");
const { load, readList } = require("./snapshot.js");
const { loadServer, loadDeviceCa } = require("./credentials.js");

const POLL_MS = 1000;
const SNAPSHOT = "snapshot.json";
const SERVER = "server.pem";
const DEVICE_CA = "device-ca.pem";

class Published {
  constructor(folder) {
    this.folder = folder;
    this.snapshot = null; // {snapshot, digest, networks}: the last good one, or none ever
    this.server = null;
    this.deviceCa = null;
    this.problems = new Map();
    this.seen = new Map(); // file -> what stat said when it was read last
    this.watcher = null;
    this.timer = null;
    this.lists = null; // digest -> Network, read beforehand; null as long as nobody waits for us
    this.preparing = false;
  }

  /** Reads every file that changed. Returns the names of those that now count in a new form. */
  read() {
    const changed = [];
    for (const name of [SNAPSHOT, SERVER, DEVICE_CA]) {
      const file = path.join(this.folder, name);
      let stamp;
      try {
        const state = fs.statSync(file, { bigint: true });
        stamp = `${state.dev}:${state.ino}:${state.size}:${state.mtimeNs}:${state.ctimeNs}`;
      } catch (error) {
        stamp = `missing:${error.code}`;
      }
      // A file with a problem is tried again each time: it may be in the middle of being written.
      if (this.seen.get(name) === stamp && !this.problems.has(name)) continue;
      this.seen.set(name, stamp);
      try {
        const taken = this.take(name, file);
        if (taken === null) continue;
        if (taken) changed.push(name);
        this.problems.delete(name);
      } catch (error) {
        this.problems.set(name, `${name}: ${explain(error)}`);
      }
    }
    return changed;
  }

  /** Whether the file counts in a new form; null: that is not known yet. */
  take(name, file) {
    if (name === SNAPSHOT) {
      const found = load(this.folder, name, this.snapshot, this.lists);
      if (found === null) return false;
      if (found.missing !== undefined) {
        this.prepare(found.missing);
        return null;
      }
      this.snapshot = found;
      if (this.lists !== null) this.lists.clear();
    } else if (name === SERVER) {
      this.server = loadServer(file);
    } else {
      this.deviceCa = loadDeviceCa(file);
    }
    return true;
  }

  /** Reads long lists of addresses while the flows go on, and then takes up the newest snapshot. */
  async prepare(files) {
    if (this.preparing) return;
    this.preparing = true;
    try {
      for (const file of files) this.lists.set(path.basename(file), await readList(file));
      this.seen.delete(SNAPSHOT);
    } catch (error) {
      this.problems.set(SNAPSHOT, `${SNAPSHOT}: ${explain(error)}`); // and so it is tried again when we poll
    }
    this.preparing = false;
    if (!this.seen.has(SNAPSHOT)) this.look();
  }

  /** What is wrong with the files at present, in one line, or null. */
  get problem() {
    return this.problems.size === 0 ? null : [...this.problems.values()].join("; ");
  }

  /** Calls `changed(names, noticedAt)` after each change, and `troubled()` when only the problem changed. */
  follow(changed, troubled) {
    let told = this.problem;
    this.lists = new Map();
    this.look = () => {
      const noticed = performance.now();
      const names = this.read();
      if (names.length > 0) changed(names, noticed);
      else if (this.problem !== told) troubled();
      told = this.problem;
    };
    const poll = () => {
      if (this.watcher === null) this.watch();
      this.look();
    };
    this.watch();
    this.timer = setInterval(poll, POLL_MS);
    this.timer.unref(); // the guard never keeps a process alive
  }

  watch() {
    try {
      const watcher = fs.watch(this.folder, { persistent: false }, (event, name) => {
        if (name === null || name === SNAPSHOT || name === SERVER || name === DEVICE_CA) this.look();
      });
      watcher.on("error", () => {
        watcher.close();
        this.watcher = null;
      });
      this.watcher = watcher;
    } catch {
      this.watcher = null; // polling goes on, and tries again
    }
  }
}

function explain(error) {
  if (error.code === "ENOENT") return "it is missing";
  if (error.code === "EACCES" || error.code === "EPERM") return "it may not be read";
  if (error instanceof SyntaxError) return "it is not JSON";
  return error.message;
}

module.exports = { Published, SNAPSHOT, SERVER, DEVICE_CA };
