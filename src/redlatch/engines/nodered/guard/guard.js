"use strict";
// The lock of redlatch, inside Node-RED. The last lines of settings.js hand the settings to wrap(); from then on this
// Node-RED serves https that asks for a device's certificate, or it does not serve. What it protects is the door: whoever
// writes settings.js or runs flows can take it away.

const https = require("node:https");
const fs = require("node:fs");
const path = require("node:path");
const { Published } = require("./published.js");
const { Enforcement } = require("./enforce.js");
const { Claims } = require("./claims.js");
const { viewOf } = require("./view.js");

const KEY = Symbol.for("redlatch.guard");
const FOLDER = path.dirname(__dirname);
const HASH = (/^guard-([0-9a-f]{12})$/.exec(path.basename(__dirname)) || [])[1] || "unpublished";
const SIDEBAR = path.join(__dirname, "plugin");
const STARTED = Math.floor(Date.now() / 1000);

/** The state that guard and preload share in one process. */
function processState() {
  if (globalThis[KEY] === undefined) globalThis[KEY] = { armed: false, server: null, view: null };
  return globalThis[KEY];
}

/**
 * Puts the lock into the settings and returns them. Whatever fails here or later ends with Node-RED not serving
 * (an error thrown) or refusing everybody. Loads files, starts nothing: a health check may load settings.js too.
 */
function wrap(settings) {
  if (typeof settings !== "object" || settings === null) throw new Error("redlatch: settings.js exports no settings");
  if (settings[KEY] !== undefined) return settings;
  require("./preload.js"); // no server of this process listens unless it has been taken over
  const published = new Published(FOLDER);
  published.read();
  const snapshot = published.snapshot === null ? null : published.snapshot.snapshot;

  const auth = snapshot !== null && snapshot.keep_auth ? null : require("./auth.js");
  let enforcement;
  const claims = new Claims({
    state: () => inForce(published, enforcement),
    connections: (most) => enforcement.connections(most),
  });
  enforcement = new Enforcement({ published, claims, signOn: auth });
  if (auth !== null) auth.signOn(settings, { lookup: (visitor) => enforcement.lookup(visitor) });
  if (snapshot !== null && snapshot.port !== null) settings.uiPort = snapshot.port;
  delete settings.httpsRefreshInterval; // renewed certificates are taken up by the guard
  // Without npm. What Node-RED cannot load it leaves out, and the lock is none of it.
  settings.nodesDir = [].concat(settings.nodesDir || [], SIDEBAR);
  settings.https = () => serve(enforcement);
  settings[KEY] = { version: snapshot === null ? null : snapshot.version, site: snapshot === null ? null : snapshot.site };
  return settings;
}

/**
 * The options that Node-RED makes its server from; the server that is made from them is taken over. Throws at once when
 * there is no key or CA: a rejected promise or a bad PEM would end Node-RED with exit code 0 (measured), and something
 * falsy would make it serve plain http.
 */
function serve(enforcement) {
  const { published, claims } = enforcement;
  published.read();
  enforcement.adopt();
  if (published.server === null || published.deviceCa === null) {
    throw new Error(`redlatch: Node-RED is not started, because it could not be protected: ${published.problem}`);
  }
  const options = enforcement.tlsOptions();
  const createServer = https.createServer;
  https.createServer = function createGuardedServer(given, listener) {
    const server = createServer.call(https, given, listener);
    if (given === options) {
      https.createServer = createServer;
      arm(server, enforcement);
      // Without a snapshot the place beside us is the likely one: somebody should learn that there is none.
      claims.start(published.snapshot === null ? path.join(FOLDER, "../spool") : published.snapshot.snapshot.spool);
      published.follow(
        (names, noticed) => enforcement.changed(names, noticed),
        () => claims.inForce(),
      );
    }
    return server;
  };
  return options;
}

function arm(server, enforcement) {
  enforcement.takeOver(server);
  const state = processState();
  state.armed = true;
  state.server = server;
  state.view = viewOf(enforcement, enforcement.published);
}

function inForce(published, enforcement) {
  const { server } = enforcement;
  const address = server === null ? null : server.address();
  const found = published.snapshot;
  return {
    format: 1,
    // Version 0 stands for none: nobody waits for it, and `problem` says why
    site: found === null ? "" : found.snapshot.site,
    version: found === null ? 0 : found.snapshot.version,
    digest: found === null ? "" : found.digest,
    pid: process.pid,
    started: STARTED,
    at: Date.now() / 1000,
    port: address === null ? null : address.port,
    node_red: nodeRedVersion(),
    guard: HASH,
    closed: enforcement.lastChange.closed,
    ms: enforcement.lastChange.ms,
    problem: [published.problem, enforcement.openPort.problem].filter(Boolean).join("; ") || null,
    server_not_after: published.server === null ? null : published.server.notAfter,
  };
}

function nodeRedVersion() {
  try {
    const about = JSON.parse(fs.readFileSync(path.join(path.dirname(require.main.filename), "package.json"), "utf8"));
    return about.name === "node-red" ? about.version : null;
  } catch {
    return null;
  }
}

module.exports = { wrap };
