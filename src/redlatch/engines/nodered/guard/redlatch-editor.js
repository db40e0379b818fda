"use strict";
// Runs in the editor's page, before the editor starts. Where people signed on with a password before, their browsers
// still keep that token and the editor would offer it on /comms: Node-RED refuses it, closes the connection and asks
// for a password that no longer exists. The certificate has taken its place, so the token goes.

for (const key of Object.keys(localStorage)) {
  if (key.startsWith("auth-tokens")) {
    localStorage.removeItem(key);
  }
}
