"use strict";
// For a Node-RED that stands behind redlatch's gateway: HAProxy ends TLS, judges who comes, and passes on plain http. The
// last lines of settings.js hand the settings to wrap(); from then on this Node-RED listens on loopback, answers nobody
// who does not know the gateway's secret, and believes the gateway who a device is. What it protects is the door:
// whoever writes settings.js or runs flows can take it away.
//
// This file and its neighbours of the same folder are published beside the guard's, whose auth.js and preload.js they use.

const path = require("node:path");
const auth = require("./auth.js");
const { Expected } = require("./expected.js");
const { Gate } = require("./gate.js");

const KEY = Symbol.for("redlatch.guard");
const FOLDER = path.dirname(__dirname);
const NODE_RED = /[\\/]node-red[\\/]lib[\\/]red\.js$/;
const LOOPBACK = "127.0.0.1";

/** The state that this, the guard and preload share in one process. */
function processState() {
  if (globalThis[KEY] === undefined) globalThis[KEY] = { armed: false, server: null, view: null };
  return globalThis[KEY];
}

/**
 * Puts the settings behind the gateway and returns them. Whatever fails here or later ends with Node-RED not serving or
 * refusing everybody. Loads files, starts nothing: a health check may load settings.js too.
 */
function wrap(settings) {
  if (typeof settings !== "object" || settings === null) throw new Error("redlatch: settings.js exports no settings");
  if (settings[KEY] !== undefined) return settings;
  require("./preload.js"); // no server of this process listens unless it has been taken over
  const expected = new Expected(FOLDER);
  expected.read();
  const told = expected.told; // what follows is for as long as this process runs; the secret may change meanwhile
  const mark = { behind: true, told };
  settings[KEY] = mark;
  apply(settings, told);
  beforeInit(mark, (server, given) => {
    apply(given, told); // anew, over what the command line (-D) and launchers have set since
    arm(server, expected, told);
  });
  return settings;
}

/** `told` null: nobody is let in, and so on loopback. */
function apply(settings, told) {
  delete settings.https; // the gateway ends TLS
  delete settings.httpsRefreshInterval;
  delete settings.requireHttps; // every page would send the browser to where it is already
  if (told === null || !told.keep_host) settings.uiHost = LOOPBACK;
  if (told === null || !told.keep_auth) auth.signOn(settings, { lookup: (state) => state.user });
}

/**
 * Calls `then(server, settings)` before Node-RED is initialised with our settings. RED.init is where any launcher hands
 * over the server, documented and unlike http.createServer never called for another one's. Node-RED that is loaded later
 * or elsewhere is not found: its server then is not taken over, and preload.js keeps it from listening.
 */
function beforeInit(mark, then) {
  for (const [file, module] of Object.entries(require.cache)) {
    const red = NODE_RED.test(file) && module ? module.exports : null;
    if (red === null || typeof red.init !== "function") continue;
    const init = red.init;
    red.init = function initBehind(server, settings) {
      if (settings && settings[KEY] === mark) then(server, settings);
      return init.apply(this, arguments);
    };
  }
}

function arm(server, expected, told) {
  const state = processState();
  if (state.server === server) return;
  new Gate({ expected, signOn: told === null || !told.keep_auth ? auth : null }).takeOver(server);
  expected.follow();
  state.server = server;
  state.armed = true;
}

module.exports = { wrap };
