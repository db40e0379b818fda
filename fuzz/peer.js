"use strict";
// The JavaScript half of the targets that ask both: reads a question a line (JSON), writes an answer a line.
// {"ok": value} or {"refused": why}; {"failed": stack} for what is no refusal but a fault of this file.

const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const readline = require("node:readline");
const vm = require("node:vm");

const GUARD = process.env.REDLATCH_TEST_GUARD;
const { Policy, decide } = require(path.join(GUARD, "decide.js"));
const { Network, wordsOf } = require(path.join(GUARD, "networks.js"));
const { classify, isCanonical, isEditors, isTarget, pathOf } = require(path.join(GUARD, "paths.js"));
const { load } = require(path.join(GUARD, "snapshot.js"));

const bytes = (text) => Buffer.from(text, "base64");

const QUESTIONS = {
  /** What paths.js says of one target. */
  path({ target, admin_root: root, areas }) {
    const of = pathOf(target);
    return {
      target: isTarget(target),
      path: of,
      canonical: isCanonical(of),
      editors: isEditors(of, root),
      areas: [false, true].map((websocket) => classify(of, websocket, root, areas)),
    };
  },

  /** The reason for each of the facts. */
  decide({ snapshot, tables, devices, facts }) {
    const networks = new Map(Object.entries(tables).map(([name, table]) => [name, new Network(bytes(table))]));
    return decide(facts, new Policy({ ...snapshot, devices: new Map(Object.entries(devices)), networks }));
  },

  /** Which of the addresses are in a table; null where one is no address. */
  table({ table, addresses }) {
    const network = new Network(bytes(table));
    return addresses.map((one) => {
      const words = wordsOf(one);
      return words === null ? null : network.has(words);
    });
  },

  /** A published snapshot: what it says, devices as a list. */
  snapshot({ head, parts }) {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), "redlatch-fuzz-"));
    try {
      fs.mkdirSync(path.join(folder, "snapshot"));
      for (const [name, part] of Object.entries(parts)) fs.writeFileSync(path.join(folder, "snapshot", name), bytes(part));
      fs.writeFileSync(path.join(folder, "snapshot.json"), bytes(head));
      const { snapshot } = load(folder, "snapshot.json", null);
      const devices = [];
      const walk = (node) => {
        if (node && node.entries) devices.push(...node.entries.keys());
        else if (node) node.children.forEach(walk);
      };
      walk(snapshot.devices.root);
      new Policy(snapshot); // what it is loaded for
      return { version: snapshot.version, devices: devices.sort(), rules: snapshot.rules.length, names: snapshot.names };
    } finally {
      fs.rmSync(folder, { recursive: true, force: true });
    }
  },

  /** Whether each text is a program as Node.js reads a settings.js, and what the wrap in it is given. */
  programs({ texts }) {
    return texts.map((text) => {
      try {
        new vm.Script(`(function (exports, require, module) {${bytes(text).toString("utf8")}\n})`);
        return true;
      } catch {
        return false;
      }
    });
  },
};

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const question = JSON.parse(line);
  let answer;
  try {
    answer = { ok: QUESTIONS[question.name](question) };
  } catch (error) {
    // Plain errors, and what reading a file or JSON throws, are how the guard refuses; anything else is a fault
    const refuses = error.constructor === Error || error instanceof SyntaxError;
    answer = refuses ? { refused: error.message } : { failed: error.stack };
  }
  process.stdout.write(JSON.stringify(answer) + "\n");
});
