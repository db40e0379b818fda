"use strict";
// A clock that stands still while the kernel gives the processor to others: what it shows late is this thread's own doing.

const fs = require("node:fs");

const schedstat = fs.openSync(`/proc/self/task/${process.pid}/schedstat`);
const text = Buffer.alloc(128);

/** Milliseconds, without those that the main thread was ready to run and another one ran. */
function now() {
  const length = fs.readSync(schedstat, text, 0, text.length, 0);
  return performance.now() - Number(text.toString("latin1", 0, length).split(" ")[1]) / 1e6;
}

/** Calls `late(ms)` with how late each tick of a timer of 1 ms comes; returns what ends that. */
function watch(late) {
  let before = now();
  const timer = setInterval(() => {
    const at = now();
    late(Math.max(0, at - before - 1));
    before = at;
  }, 1);
  timer.unref();
  return () => clearInterval(timer);
}

module.exports = { watch };
