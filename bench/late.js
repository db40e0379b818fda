"use strict";
// Loaded into Node-RED by bench/change.py: notes how late a timer of 1 ms comes, while something changes and while
// nothing does. Time for which the kernel gave the processor to others does not count: it says nothing of Node-RED. SIGWINCH begins the one, then the other, then ends both and writes the file BENCH_LATE.

const fs = require("node:fs");

const late = { change: [], nothing: [] };
const PHASES = [null, "change", "nothing"];
let phase = 0;
const schedstat = fs.openSync(`/proc/self/task/${process.pid}/schedstat`);
const text = Buffer.alloc(128);

/** Milliseconds since the start, without those that this thread was ready to run and another one ran. */
function mine() {
  const length = fs.readSync(schedstat, text, 0, text.length, 0);
  return performance.now() - Number(text.toString("latin1", 0, length).split(" ")[1]) / 1e6;
}

let before = mine();

setInterval(() => {
  const now = mine();
  if (PHASES[phase] !== null) late[PHASES[phase]].push(Math.max(0, now - before - 1));
  before = now;
}, 1).unref();

// Node-RED ends on SIGUSR2
process.on("SIGWINCH", () => {
  phase = (phase + 1) % PHASES.length;
  if (phase !== 0) return;
  fs.writeFileSync(process.env.BENCH_LATE + ".new", JSON.stringify(late));
  fs.renameSync(process.env.BENCH_LATE + ".new", process.env.BENCH_LATE);
  late.change = [];
  late.nothing = [];
});
