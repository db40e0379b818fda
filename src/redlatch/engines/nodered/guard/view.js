"use strict";
// What the sidebar is shown of the guard, by way of the state that this process keeps. It looks and cannot touch: each
// answer is a copy, and nothing of it leads back to the guard. (Flows run in this process and can read it too.)

const MAX_CONNECTIONS = 1000;

/** `enforcement` and `published` as guard.js has them. */
function viewOf(enforcement, published) {
  return Object.freeze({
    /** {id, role, base, fingerprint, not_after, from} of the device behind a socket, or null: nobody's word but TLS's. */
    deviceBehind: (socket) => enforcement.deviceBehind(socket),
    connections: () => enforcement.connections(MAX_CONNECTIONS),
    refusals: () => enforcement.claims.refusals(),
    /** Which snapshot is in force (null: none), and what is wrong with the published files, or null. */
    inForce: () => {
      const found = published.snapshot;
      const { site, version } = found === null ? { site: null, version: null } : found.snapshot;
      return { site, version, problem: published.problem };
    },
  });
}

module.exports = { viewOf };
