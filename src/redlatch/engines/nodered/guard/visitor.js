"use strict";
// Who holds the other end of one connection, and what the rules let them do.

const ANYONE = "anyone"; // the Node-RED user of who is let in without a certificate; no device has that name

class Visitor {
  /** `ticket` of the door, null where none was found: then from nowhere. Made once, at the end of the handshake. */
  constructor(ticket) {
    this.address = ticket === null ? "" : ticket.address;
    this.byOpenPort = ticket !== null && ticket.byOpenPort;
    this.counted = ticket; // at the door; null once it is a device, or a rule let something of it in
    this.fingerprint = null; // proved by the handshake, also on a resumed session
    this.verified = false;
    this.dates = null; // "expired" or "not-yet-valid", when TLS did not verify it for its dates
    this.policy = undefined; // the one that the next five are from
    this.entry = null; // of a device
    this.stranger = "no-certificate"; // why it is no device, or null
    this.grants = null;
    this.refused = "no-certificate"; // why nothing of this connection is let in, or null
    this.user = null; // that Node-RED's editor is told, {username, permissions}, or null
    this.from = Infinity; // [from, until): the clock in ms for which the above holds
    this.until = -Infinity;
    this.admitted = null; // the entry and permission that it came in by
    this.ticket = null; // of auth.js
    this.request = null; // the last one let in: judged again when the snapshot changes
    this.target = ""; // of it: Express leaves a shorter req.url behind, without the path that a handler is mounted at
    this.response = null; // to it
    this.pipelines = false; // a request came in before the one before was answered
    this.websocket = false;
    this.since = Math.floor(Date.now() / 1000);
  }

  /** Brings what is known to `policy` and the clock. */
  refresh(policy) {
    this.policy = policy;
    this.entry = null;
    this.grants = null;
    this.user = null;
    this.from = Infinity;
    this.until = -Infinity;
    if (policy === null) {
      this.refused = this.stranger = "no-snapshot";
      return;
    }
    this.stranger = policy.certificate(this.fingerprint, this.verified, Math.floor(Date.now() / 1000));
    if (this.stranger === "untrusted-certificate" && this.dates !== null) {
      this.stranger = policy.entry(this.fingerprint) === null ? "unknown-certificate" : this.dates; // no less refused
    }
    if (this.stranger === null) this.entry = policy.entry(this.fingerprint);
    this.grants = policy.grants(this.entry, this.address, this.byOpenPort);
    this.refused = this.grants.isEmpty ? this.stranger : null;
    if (this.entry !== null) {
      this.from = this.entry.not_before * 1000;
      this.until = (this.entry.not_after + 1) * 1000;
    } else if (this.fingerprint === null) {
      this.from = -Infinity; // no clock makes a device of who showed no certificate
      this.until = Infinity;
    }
    const { permission } = this.grants;
    const username = this.entry === null ? ANYONE : this.entry.user;
    // Node-RED puts the name into paths (projects, user settings): without one there is no user.
    this.user = permission !== null && username ? Object.freeze({ username, permissions: permission }) : null;
  }

  isCurrent(policy) {
    const now = Date.now();
    return this.policy === policy && now < this.until && now >= this.from;
  }

  /** "ok", or why not. This is the line that every request of a keep-alive connection runs through: keep it short. */
  judge(policy, req, upgrade, target = req.url) {
    if (!this.isCurrent(policy)) this.refresh(policy);
    if (this.refused !== null) return this.refused;
    return (
      policy.verdict(this.grants, req.method, target, req.headers, upgrade) ||
      this.stranger ||
      policy.refusal(this.entry, this.grants, this.byOpenPort, req.method, target, upgrade)
    );
  }

  isLetIn(policy) {
    if (!this.isCurrent(policy)) this.refresh(policy);
    return this.refused === null;
  }

  comesIn() {
    this.admitted = { entry: this.entry, permission: this.grants.permission };
  }

  /** Whether this is still who came in, as Node-RED knows them: the same device, or nobody known as before. */
  isWhoCameIn() {
    if (this.admitted === null) return false;
    const { entry, permission } = this.admitted;
    // Node-RED knows an open /comms by the permissions that it had when it opened.
    if (this.websocket && permission !== this.grants.permission) return false;
    if (entry === null || this.entry === null) return entry === this.entry;
    return entry.id === this.entry.id && entry.user === this.entry.user;
  }
}

module.exports = { Visitor };
