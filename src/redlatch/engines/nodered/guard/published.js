"use strict";
// The published folder, followed live: snapshot, server certificate, device CA. Each file is checked before it counts;
// a bad one is reported and the last good one stays. fs.watch tells within milliseconds, polling catches what it misses
// (measured: watch 18-25 ms, polling alone 350-955 ms; inotify may run out).

const fs = require("node:fs");
const path = require("node:path");
const { performance } = require("node:perf_hooks");
const { load } = require("./snapshot.js");
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
        if (this.take(name, file)) changed.push(name);
        this.problems.delete(name);
      } catch (error) {
        this.problems.set(name, `${name}: ${explain(error)}`);
      }
    }
    return changed;
  }

  take(name, file) {
    if (name === SNAPSHOT) {
      const found = load(this.folder, name, this.snapshot);
      if (found === null) return false;
      this.snapshot = found;
    } else if (name === SERVER) {
      this.server = loadServer(file);
    } else {
      this.deviceCa = loadDeviceCa(file);
    }
    return true;
  }

  /** What is wrong with the files at present, in one line, or null. */
  get problem() {
    return this.problems.size === 0 ? null : [...this.problems.values()].join("; ");
  }

  /** Calls `changed(names, noticedAt)` after each change, and `troubled()` when only the problem changed. */
  follow(changed, troubled) {
    const look = () => {
      const noticed = performance.now();
      const before = this.problem;
      const names = this.read();
      if (names.length > 0) changed(names, noticed);
      else if (this.problem !== before) troubled();
    };
    const poll = () => {
      if (this.watcher === null) this.watch(look);
      look();
    };
    this.watch(look);
    this.timer = setInterval(poll, POLL_MS);
    this.timer.unref(); // the guard never keeps a process alive
  }

  watch(look) {
    try {
      const watcher = fs.watch(this.folder, { persistent: false }, (event, name) => {
        if (name === null || name === SNAPSHOT || name === SERVER || name === DEVICE_CA) look();
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
