"use strict";
// Keeps a Node-RED without the guard from opening its port: loaded before everything else by the systemd drop-in
// (NODE_OPTIONS=--require=.../preload.js) and by the guard itself. A settings.js that lost its block (an editor's
// save, `node-red admin init`) then stops Node-RED instead of opening it.
//
// NODE_OPTIONS is inherited by every program that flows or the palette start (npm, node). Those are left alone: what
// counts is the first node process of the tree (the one the unit started; not its worker threads), and any process that
// has loaded Node-RED.

const net = require("net");
const http = require("http");
const https = require("https");
const fs = require("fs");
const { isMainThread } = require("worker_threads");

const GUARD = Symbol.for("redlatch.guard");
const PATCHED = Symbol.for("redlatch.preload");
const PARENT = "REDLATCH_PRELOAD_PID";
// EX_CONFIG of sysexits.h; the drop-in names it in RestartPreventExitStatus=.
const EXIT_CODE = 78;

const NODE_RED = /[\\/](?:node_modules[\\/])?(?:@node-red[\\/](?:runtime|editor-api)[\\/]|node-red[\\/](?:red\.js$|lib[\\/]red\.js$))/;

function isNodeRed() {
  if (first) return true;
  const files = Object.keys(require.cache);
  if (process.argv[1]) files.push(process.argv[1]);
  return files.some((file) => NODE_RED.test(file));
}

function isWebServer(server) {
  return server instanceof http.Server || server instanceof https.Server || server.listenerCount("request") > 0;
}

// listen("/path") and listen({path}) are Unix sockets: not a door to the network. A handle or descriptor may be TCP.
function isLocalSocket(argument) {
  if (argument && typeof argument === "object") {
    return typeof argument.path === "string" && argument.port === undefined && argument.fd === undefined && !argument._handle;
  }
  return typeof argument === "string" && !/^\d+$/.test(argument.trim());
}

function refuse() {
  const state = globalThis[GUARD];
  if (state && state.armed === true) return false;
  return isNodeRed();
}

function stop() {
  const message =
    "[redlatch] Node-RED stopped before it opened its port: the guard is not in its settings.js, so everybody could " +
    "have come in.\n[redlatch] Put it back with: redlatch up    Or take the lock away for good with: redlatch down\n";
  try {
    fs.writeSync(2, message);
  } catch (error) {
    // a full pipe must not keep the port open
  }
  process.exit(EXIT_CODE);
}

let first = false;
if (!net.Server.prototype.listen[PATCHED]) {
  const before = process.env[PARENT];
  first = isMainThread && (!before || before === String(process.pid));
  if (first) process.env[PARENT] = String(process.pid);
  const listen = net.Server.prototype.listen;
  const guarded = function (...args) {
    if (isWebServer(this) && !isLocalSocket(args[0]) && refuse()) {
      stop();
      // process.exit does not return on the main thread; in a worker the server must still not listen.
      throw new Error("redlatch: refused to listen without the guard");
    }
    return listen.apply(this, args);
  };
  Object.defineProperty(guarded, PATCHED, { value: true });
  Object.defineProperty(guarded, "name", { value: "listen" });
  net.Server.prototype.listen = guarded;
}

module.exports = { EXIT_CODE };
