"use strict";
// behind.json, followed live: by what the gateway is known. It holds a digest of the secret and not the secret, for flows
// can read the file. Without it, or with one that is not whole, nobody is known.

const crypto = require("node:crypto");
const fs = require("node:fs");
const path = require("node:path");

const NAME = "behind.json";
const POLL_MS = 1000; // catches what fs.watch misses: inotify may run out
const DIGEST = /^[0-9a-f]{64}$/;

class Expected {
  constructor(folder) {
    this.folder = folder;
    this.told = null; // {keep_auth, keep_host}, or null without a file that is whole
    this.digest = null; // of the secret
    this.problem = null;
    this.stamp = null; // what stat said when it was read last
    this.watcher = null;
  }

  /** Reads the file if it changed; whether it did. One that is missing or garbled takes the former one's place. */
  read() {
    const file = path.join(this.folder, NAME);
    const stamp = stampOf(file);
    if (stamp === this.stamp) return false;
    this.stamp = stamp;
    this.told = null;
    this.digest = null;
    try {
      const found = parse(fs.readFileSync(file, "utf8"));
      this.told = Object.freeze({ keep_auth: found.keep_auth, keep_host: found.keep_host });
      this.digest = Buffer.from(found.secret_sha256, "hex");
      this.problem = null;
    } catch (error) {
      this.problem = error.code === undefined ? error.message : error.code;
    }
    return true;
  }

  /** Whether this is the secret; at a mismatch after another look at the file. */
  isSecret(presented) {
    if (presented === null) return false;
    const digest = crypto.createHash("sha256").update(presented, "latin1").digest();
    return this.equals(digest) || (this.look() && this.equals(digest));
  }

  equals(digest) {
    return this.digest !== null && crypto.timingSafeEqual(digest, this.digest);
  }

  /** As `read`, and says what is wrong. */
  look() {
    const before = this.problem;
    const changed = this.read();
    if (this.problem !== before && this.problem !== null) this.tell();
    return changed;
  }

  tell() {
    process.stderr.write(`redlatch: this Node-RED refuses everybody, the gateway too: ${NAME}: ${this.problem}\n`);
  }

  follow() {
    if (this.problem !== null) this.tell();
    this.watch();
    const poll = () => {
      if (this.watcher === null) this.watch();
      this.look();
    };
    setInterval(poll, POLL_MS).unref(); // never keeps a process alive
  }

  watch() {
    try {
      const watcher = fs.watch(this.folder, { persistent: false }, (event, name) => {
        if (name === null || name === NAME) this.look();
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

function stampOf(file) {
  try {
    const state = fs.statSync(file, { bigint: true });
    return `${state.dev}:${state.ino}:${state.size}:${state.mtimeNs}:${state.ctimeNs}`;
  } catch (error) {
    return `missing:${error.code}`;
  }
}

function parse(text) {
  let found;
  try {
    found = JSON.parse(text);
  } catch {
    throw new Error("it is not JSON");
  }
  const whole =
    typeof found === "object" && found !== null && found.format === 1 &&
    typeof found.secret_sha256 === "string" && DIGEST.test(found.secret_sha256) &&
    typeof found.keep_auth === "boolean" && typeof found.keep_host === "boolean";
  if (!whole) throw new Error("it is not what redlatch writes");
  return found;
}

module.exports = { Expected };
