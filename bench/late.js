"use strict";
// Loaded into Node-RED by bench/change.py: notes how late a timer of 1 ms comes, while something changes and while
// nothing does. SIGWINCH begins the one, then the other, then ends both and writes the file BENCH_LATE.

const fs = require("node:fs");
const { watch } = require("./clock.js");

const late = { change: [], nothing: [] };
const PHASES = [null, "change", "nothing"];
let phase = 0;

watch((ms) => {
  if (PHASES[phase] !== null) late[PHASES[phase]].push(ms);
});

// Node-RED ends on SIGUSR2
process.on("SIGWINCH", () => {
  phase = (phase + 1) % PHASES.length;
  if (phase !== 0) return;
  fs.writeFileSync(process.env.BENCH_LATE + ".new", JSON.stringify(late));
  fs.renameSync(process.env.BENCH_LATE + ".new", process.env.BENCH_LATE);
  late.change = [];
  late.nothing = [];
});
