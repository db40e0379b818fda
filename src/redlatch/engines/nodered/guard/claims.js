"use strict";
// What the guard tells redlatch, through the spool folder: in force, connections, access log. These are claims: nothing
// is decided by them. Nothing here may stop, delay or open anything, so every method swallows what goes wrong; what is
// too much is dropped and what cannot be written is forgotten.
//
// The access log holds every refusal (those of one address and reason folded per second), and of what is let in: the
// first request of a connection, every upgrade and every write (not each GET).

const fs = require("node:fs");
const path = require("node:path");

const { O_WRONLY, O_APPEND, O_CREAT, O_EXCL, O_NOFOLLOW, O_NONBLOCK } = fs.constants;
// The folder's group is that of redlatch's own user, who may read; without root only its owner gets into it anyway.
const READABLE = 0o640;
const MAX_LOG = 4 * 1024 * 1024;
const MAX_LINES = 2000; // per flush
const MAX_CONNECTIONS = 1000;
const MAX_RECENT = 50;
const FLUSH_MS = 1000;
const HEARTBEAT_MS = 30000;

function safely(work) {
  try {
    work();
  } catch {
    // a claim that cannot be made is not made
  }
}

class Claims {
  /** state(): the in-force claim; connections(): the list of connections. Both are asked when they are written. */
  constructor({ state, connections }) {
    this.state = state;
    this.connections = connections;
    this.folder = null;
    this.lines = new Map();
    this.recent = new Map(); // refusals for the sidebar, by who and why: the latest of each, oldest first
    this.dropped = 0;
    this.flushTimer = null;
    this.connectionsTimer = null;
    this.heartbeat = null;
    this.writing = false;
    this.again = new Map(); // name -> function that yields the content, newest wins
    this.logging = false;
  }

  start(folder) {
    safely(() => {
      this.folder = folder;
      if (this.heartbeat !== null) return;
      this.heartbeat = setInterval(() => this.inForce(), HEARTBEAT_MS);
      this.heartbeat.unref();
    });
  }

  inForce() {
    this.replace("in-force.json", () => JSON.stringify(this.state()) + "\n");
  }

  connectionsChanged() {
    if (this.connectionsTimer !== null) return;
    this.connectionsTimer = setTimeout(() => {
      this.connectionsTimer = null;
      this.replace("connections.json", () => {
        const list = this.connections(MAX_CONNECTIONS);
        return JSON.stringify({ format: 1, at: Date.now() / 1000, connections: list }) + "\n";
      });
    }, FLUSH_MS);
    this.connectionsTimer.unref();
  }

  /** One access; `fold` joins it to an equal one of the same second. */
  access(record, fold) {
    safely(() => {
      if (!record.allow) this.remember(record);
      const key = fold ? `${record.from}|${record.reason}|${record.device}|${record.method}` : Symbol("line");
      const known = this.lines.get(key);
      if (known !== undefined) known.count += 1;
      else if (this.lines.size < MAX_LINES) this.lines.set(key, { ...record, count: 1 });
      else this.dropped += 1;
      if (this.flushTimer !== null) return;
      this.flushTimer = setTimeout(() => {
        this.flushTimer = null;
        this.flush();
      }, FLUSH_MS);
      this.flushTimer.unref();
    });
  }

  /** Keeps the refusals of the MAX_RECENT latest of who and why: somebody who knocks all day pushes nobody out. */
  remember(record) {
    const key = `${record.from}|${record.reason}|${record.device}`;
    const known = this.recent.get(key);
    if (known !== undefined) this.recent.delete(key);
    else if (this.recent.size >= MAX_RECENT) this.recent.delete(this.recent.keys().next().value);
    this.recent.set(key, { ...record, count: known === undefined ? 1 : known.count + 1 });
  }

  /** The latest refusals, newest first; `count` is how often since it is kept. */
  refusals() {
    return [...this.recent.values()].reverse().map((record) => ({ ...record }));
  }

  flush() {
    safely(() => {
      if (this.folder === null || this.logging || this.lines.size === 0) return;
      const text = [...this.lines.values()].map((record) => JSON.stringify(record) + "\n").join("");
      this.lines.clear();
      this.logging = true;
      append(path.join(this.folder, "access.jsonl"), text, () => {
        this.logging = false;
      });
    });
  }

  /** Writes a file anew by rename, one at a time, the newest content last. */
  replace(name, content) {
    if (this.folder === null) return;
    this.again.set(name, content);
    if (!this.writing) this.next();
  }

  next() {
    const first = this.again.entries().next();
    if (first.done) return;
    const [name, content] = first.value;
    this.again.delete(name);
    this.writing = true;
    const done = () => {
      this.writing = false;
      this.next();
    };
    try {
      const file = path.join(this.folder, name);
      const temporary = path.join(this.folder, `.${name}.${process.pid}`);
      const text = content();
      // What an earlier process of this id left behind goes first: in a container the id is always the same.
      fs.unlink(temporary, () => {
        fs.open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600, (problem, descriptor) => {
          if (problem) return done();
          // fchmod: the mode of open() is cut by the umask
          return fs.fchmod(descriptor, READABLE, () => {
            fs.write(descriptor, text, (failed) => {
              fs.close(descriptor, () => {
                if (failed) fs.unlink(temporary, done);
                else fs.rename(temporary, file, done);
              });
            });
          });
        });
      });
    } catch {
      this.writing = false;
    }
  }
}

function append(file, text, done) {
  fs.open(file, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0o600, (problem, descriptor) => {
    if (problem) return done();
    return fs.fstat(descriptor, (unknown, state) => {
      if (unknown || !state.isFile()) return fs.close(descriptor, done);
      const write = () =>
        fs.write(descriptor, text, () => {
          fs.close(descriptor, () => {
            if (state.size + text.length < MAX_LOG) return done();
            return fs.rename(file, file.replace(/\.jsonl$/, ".1.jsonl"), done);
          });
        });
      return (state.mode & 0o777) === READABLE ? write() : fs.fchmod(descriptor, READABLE, write);
    });
  });
}

module.exports = { Claims };
