"use strict";
// Single sign-on: the role of the device whose certificate stands behind a connection becomes the Node-RED user.
//
// What guard.js does with this module:
//   state.ticket = null            a field of each socket's identity from the start (one hidden class)
//   inject(req, state)             before every `request`, `checkContinue` and `upgrade` that is let in, unless keep_auth
//   signOn(settings, { lookup })   once in wrap(), unless keep_auth: replaces settings.adminAuth, whoever's it was
//   lookup(state) -> {username, permissions} of who the snapshot in force NOW says is behind that socket, frozen, or null
//                                  (see visitor.js). Called per permission check, so a changed rule counts at once.
// The editor loads `theme/scripts/redlatch-editor.js`: a viewer needs GET of it.
//
// How Node-RED 4.1 and 5.0 read it (@node-red/editor-api lib/auth): strategies.js takes `req.headers[tokenHeader]` as it
// is and hands it to `tokens()`; comms.js does the same before it accepts an upgrade. What is handed over here is
// therefore not a secret string but an object that only this process can hold: no client can send one (a header is a
// string, an `auth` packet on /comms is JSON), so a flow that reads the headers of a request can pass nothing on that
// works on another connection. The header's name is random per process and the property not enumerable, so that flows
// that print, store or forward headers never carry it along.
//
// `{module: {tokens}}` rather than `type: "credentials"` or `{tokens}`: index.js mounts passport.initialize() in front
// of every request, http-in included, for those two; for permissions it is not needed. There are no users and no
// password endpoint; bearer tokens of an earlier adminAuth (.sessions.json) name users that no longer exist: refused.

const crypto = require("node:crypto");
const path = require("node:path");

const HEADER = "redlatch-" + crypto.randomBytes(16).toString("hex");
const EDITOR_SCRIPT = path.join(__dirname, "redlatch-editor.js");

// Ticket -> socket identity. A ticket is an empty object: it counts for being itself, not for anything it says, and
// whoever gets hold of one learns nothing from it.
const holders = new WeakMap();

/**
 * Put the socket's ticket into the request's headers, over whatever the client sent under that name.
 * The property descriptor is made once per socket and kept in `state.ticket`.
 */
function inject(req, state) {
  if (state.ticket === null) {
    state.ticket = { value: Object.freeze({}), enumerable: false, configurable: false, writable: false };
    holders.set(state.ticket.value, state);
  }
  Object.defineProperty(req.headers, HEADER, state.ticket);
}

/**
 * settings.adminAuth: permissions by ticket and by nothing else. `lookup` as in the head comment.
 */
function adminAuth({ lookup }) {
  async function tokens(value) {
    const state = holders.get(value);
    return state === undefined ? null : lookup(state);
  }
  return { module: { tokens, tokenHeader: HEADER } };
}

/**
 * Make certificates the only way to sign on in `settings`. A second call changes nothing more.
 */
function signOn(settings, { lookup }) {
  settings.adminAuth = adminAuth({ lookup });
  const theme = { ...settings.editorTheme };
  const scripts = [].concat(theme.page?.scripts ?? []);
  theme.page = { ...theme.page, scripts: scripts.includes(EDITOR_SCRIPT) ? scripts : [EDITOR_SCRIPT, ...scripts] };
  settings.editorTheme = theme;
}

module.exports = { HEADER, adminAuth, inject, signOn };
