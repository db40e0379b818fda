"use strict";
// Stands between the https server and everything that listens to it. The server's `emit` is taken over before any other
// listener exists, so editor, /comms, dashboards, http-in, static files and websockets all pass here, whatever order
// their listeners have (engine.io takes 'request' listeners away and puts them back: a listener of ours could be
// passed by). It fails closed: an error of ours ends the connection, never lets it through.

const { performance } = require("node:perf_hooks");
const { Policy, pathOf } = require("./decide.js");
const { Door, plainAddress } = require("./door.js");
const page = require("./page.js");
const { SNAPSHOT, SERVER, DEVICE_CA } = require("./published.js");

const VISITOR = Symbol("redlatch.visitor");
const NO_RENEGOTIATION = 0x40000000; // OpenSSL's SSL_OP_NO_RENEGOTIATION; not every Node.js names it
const SWEEP_MS = 30000; // at the latest: a clock that jumps forward does not tell timers
const SOONEST_MS = 50;
const REFUSED_BY_TLS = { CERT_HAS_EXPIRED: "expired", CERT_NOT_YET_VALID: "not-yet-valid" };

/** Who holds the other end of one connection. Made once, at the end of its handshake. */
class Visitor {
  constructor(address) {
    this.address = address;
    this.fingerprint = null; // proved by the handshake, also on a resumed session
    this.verified = false;
    this.policy = undefined; // the one that the next three are from
    this.entry = null;
    this.admitted = null; // the entry that it came in by
    this.refused = "no-certificate"; // why nothing of this connection is let in, or null
    this.from = Infinity; // [from, until) of the certificate in ms of the clock
    this.until = -Infinity;
    this.ticket = null; // of auth.js
    this.request = null; // the last one let in: judged again when the snapshot changes
    this.websocket = false;
    this.since = Math.floor(Date.now() / 1000);
  }
}

class Enforcement {
  /** `signOn`: {inject(req, visitor)} of auth.js, or null where the person's own adminAuth stays. */
  constructor({ published, claims, signOn }) {
    this.published = published;
    this.claims = claims;
    this.signOn = signOn;
    this.server = null;
    this.policy = null;
    this.sockets = new Set();
    this.sweeper = null;
    this.sweepAt = Infinity;
    this.lastChange = { closed: 0, ms: null };
    this.door = null;
    const guard = this;
    this.forget = function forget() {
      guard.sockets.delete(this);
      guard.claims.connectionsChanged();
    };
    this.adopt();
  }

  adopt() {
    const found = this.published.snapshot;
    this.policy = found === null ? null : new Policy(found.snapshot);
  }

  get strict() {
    return this.policy === null || this.policy.snapshot.mode === "strict";
  }

  tlsOptions() {
    const { server, deviceCa } = this.published;
    return {
      key: server.key,
      cert: server.cert,
      ca: deviceCa,
      requestCert: true,
      rejectUnauthorized: this.strict,
      minVersion: "TLSv1.2",
      secureOptions: NO_RENEGOTIATION, // the certificate of a connection is the one that it began with
      handshakeTimeout: 5000,
    };
  }

  // --- taking over -------------------------------------------------------------------------------------------------

  takeOver(server) {
    const forward = server.emit;
    const guard = this;
    this.server = server;
    this.door = new Door({
      proceed: (raw) => forward.call(server, "connection", raw),
      refused: (address, reason) => this.logRefusal(address, null, reason),
      redirect: (host) => (this.policy === null ? null : this.policy.originOf(host)),
    });
    server.emit = function emit(event, first, second, third) {
      if (event === "request") return guard.admits(first, second) ? forward.call(this, event, first, second) : true;
      return guard.other(this, forward, event, first, second, third);
    };
  }

  other(server, forward, event, first, second, third) {
    switch (event) {
      case "connection":
        this.arrives(first);
        return true;
      case "secureConnection":
        return this.greets(first) ? forward.call(server, event, first) : true;
      case "checkContinue":
      case "checkExpectation":
        return this.admits(first, second) ? forward.call(server, event, first, second) : true;
      case "upgrade":
      case "connect":
        return this.admitsUpgrade(event, first, second) ? forward.call(server, event, first, second, third) : true;
      case "tlsClientError":
        this.noteTlsError(first, second);
        break;
      case "clientError":
        if (!this.isAdmitted(second)) {
          second.destroy(); // not even a 400 for strangers
          return true;
        }
        break;
      case "listening":
        this.claims.inForce();
        break;
      default:
    }
    return forward.call(server, event, first, second, third);
  }

  arrives(raw) {
    try {
      this.door.arrive(raw);
    } catch (error) {
      raw.destroy();
      this.report(error);
    }
  }

  report(error) {
    process.stderr.write(`redlatch: closed a connection after an error of its own: ${error && error.stack}\n`);
  }

  // --- one connection ----------------------------------------------------------------------------------------------

  greets(socket) {
    try {
      const ticket = this.door.ticketOf(socket);
      const visitor = new Visitor(ticket === null ? "" : ticket.address);
      socket[VISITOR] = visitor;
      const certificate = socket.getPeerX509Certificate();
      if (certificate !== undefined) {
        visitor.fingerprint = certificate.fingerprint256.replaceAll(":", "").toLowerCase();
        visitor.verified = socket.authorized === true;
      }
      this.refresh(visitor);
      return visitor.refused === null ? this.welcome(socket, visitor, ticket) : this.turnsAway(socket, visitor, ticket);
    } catch (error) {
      socket.destroy();
      this.report(error);
      return false;
    }
  }

  welcome(socket, visitor, ticket) {
    visitor.admitted = visitor.entry;
    this.door.admitted(ticket);
    this.sweepBy(visitor.until);
    this.keep(socket);
    this.claims.connectionsChanged();
    return true;
  }

  turnsAway(socket, visitor, ticket) {
    // A resumed TLS 1.3 session without a certificate says authorized (nodejs/node #35317), and flows read that.
    socket.authorized = false;
    this.logRefusal(visitor.address, visitor, visitor.refused);
    if (this.strict) {
      socket.destroy();
      return false;
    }
    this.door.lingers(ticket);
    this.keep(socket);
    return true;
  }

  keep(socket) {
    this.sockets.add(socket);
    socket.once("close", this.forget);
  }

  /** Brings what is known of the visitor to the present snapshot and clock. */
  refresh(visitor) {
    const { policy } = this;
    visitor.policy = policy;
    visitor.entry = null;
    visitor.from = Infinity;
    visitor.until = -Infinity;
    if (policy === null) {
      visitor.refused = "no-snapshot";
      return;
    }
    visitor.refused = policy.certificate(visitor.fingerprint, visitor.verified, Math.floor(Date.now() / 1000));
    if (visitor.refused !== null) return;
    visitor.entry = policy.entry(visitor.fingerprint);
    visitor.from = visitor.entry.not_before * 1000;
    visitor.until = (visitor.entry.not_after + 1) * 1000;
  }

  isCurrent(visitor) {
    const now = Date.now();
    return visitor.policy === this.policy && now < visitor.until && now >= visitor.from;
  }

  isAdmitted(socket) {
    const visitor = socket[VISITOR];
    return visitor !== undefined && this.lookup(visitor) !== null;
  }

  /** The entry in force now behind this visitor, or null. */
  lookup(visitor) {
    if (!this.isCurrent(visitor)) this.refresh(visitor);
    return visitor.refused === null ? visitor.entry : null;
  }

  // --- one request -------------------------------------------------------------------------------------------------

  /** "ok", or why not. This is the line that every request of a keep-alive connection runs through: keep it short. */
  judge(visitor, req, upgrade) {
    if (!this.isCurrent(visitor)) this.refresh(visitor);
    if (visitor.refused !== null) return visitor.refused;
    const { policy } = visitor;
    return (
      policy.request(req.method, req.url, req.headers, upgrade) ||
      policy.role(visitor.entry.role, req.method, req.url, upgrade)
    );
  }

  admits(req, res) {
    const { socket } = req;
    try {
      const visitor = socket[VISITOR];
      if (visitor === undefined) throw new Error("a request on a connection that nobody looked at");
      const reason = this.judge(visitor, req, req.headers.upgrade);
      if (reason === "ok") {
        if (visitor.request === null || (req.method !== "GET" && req.method !== "HEAD")) {
          this.log(visitor, req, true, reason, false);
        }
        visitor.request = req;
        if (this.signOn !== null) this.signOn.inject(req, visitor);
        return true;
      }
      this.log(visitor, req, false, reason, false);
      const stranger = visitor.refused !== null;
      if (stranger && this.strict) socket.destroy();
      else page.answer(req, res, reason, stranger);
    } catch (error) {
      socket.destroy();
      this.report(error);
    }
    return false;
  }

  admitsUpgrade(event, req, socket) {
    try {
      const visitor = req.socket[VISITOR];
      if (visitor === undefined) throw new Error("an upgrade on a connection that nobody looked at");
      const upgrade = req.headers.upgrade === undefined ? "" : req.headers.upgrade;
      let reason = this.judge(visitor, req, upgrade);
      if (reason === "ok" && event !== "upgrade") reason = "bad-upgrade";
      this.log(visitor, req, reason === "ok", reason, true);
      if (reason === "ok") {
        visitor.request = req;
        visitor.websocket = true;
        this.claims.connectionsChanged();
        if (this.signOn !== null) this.signOn.inject(req, visitor);
        return true;
      }
      if (visitor.refused !== null && this.strict) socket.destroy();
      else page.answerUpgrade(socket, reason);
    } catch (error) {
      socket.destroy();
      this.report(error);
    }
    return false;
  }

  // --- changes -----------------------------------------------------------------------------------------------------

  /** The published folder changed: `names` of its files count in a new form. */
  changed(names, noticed) {
    try {
      if (names.includes(SNAPSHOT)) {
        this.adopt();
        this.server.rejectUnauthorized = this.strict;
        this.claims.start(this.policy.snapshot.spool);
        this.lastChange = { closed: this.review(), ms: null };
        this.lastChange.ms = Math.round((performance.now() - noticed) * 1000) / 1000;
      }
      if (names.includes(SERVER) || names.includes(DEVICE_CA)) this.server.setSecureContext(this.tlsOptions());
    } catch (error) {
      this.report(error);
    }
    this.claims.inForce();
  }

  /** Judges every open connection anew; returns how many were cut. */
  review() {
    let closed = 0;
    for (const socket of this.sockets) {
      if (this.stays(socket[VISITOR])) continue;
      socket.destroy();
      closed += 1;
    }
    return closed;
  }

  stays(visitor) {
    try {
      const before = visitor.admitted;
      const entry = this.lookup(visitor);
      if (entry === null) return before === null && !this.strict; // a stranger who reads the page may go on
      if (before === null) return false;
      // Node-RED knows an open /comms by the user and permissions that it had when it opened.
      if (entry.id !== before.id || entry.role !== before.role || entry.user !== before.user) return false;
      const { request } = visitor;
      if (request === null) return true;
      const upgrade = visitor.websocket ? request.headers.upgrade || "" : request.headers.upgrade;
      return this.judge(visitor, request, upgrade) === "ok";
    } catch (error) {
      this.report(error);
      return false;
    }
  }

  /** A certificate that expires closes nothing by itself: sweep when the earliest of them does. */
  sweepBy(until) {
    const at = Math.min(until, Date.now() + SWEEP_MS);
    if (this.sweeper !== null && at >= this.sweepAt) return;
    if (this.sweeper !== null) clearTimeout(this.sweeper);
    this.sweepAt = at;
    this.sweeper = setTimeout(() => this.sweep(), Math.max(SOONEST_MS, at - Date.now()));
    this.sweeper.unref();
  }

  sweep() {
    this.sweeper = null;
    const closed = this.review();
    if (closed > 0) {
      this.lastChange = { closed, ms: null };
      this.claims.inForce();
    }
    let next = Infinity;
    for (const socket of this.sockets) {
      const visitor = socket[VISITOR];
      if (visitor.entry !== null) next = Math.min(next, visitor.until);
    }
    if (next < Infinity) this.sweepBy(next);
  }

  // --- telling -----------------------------------------------------------------------------------------------------

  log(visitor, req, allow, reason, upgrade) {
    this.claims.access(
      {
        at: Date.now() / 1000,
        from: visitor.address,
        device: visitor.entry === null ? null : visitor.entry.id,
        fp: visitor.fingerprint === null ? null : visitor.fingerprint.slice(0, 12),
        method: req.method,
        path: pathOf(req.url).slice(0, 256),
        allow,
        reason,
        upgrade,
      },
      !allow,
    );
  }

  logRefusal(address, visitor, reason) {
    const fp = visitor === null || visitor.fingerprint === null ? null : visitor.fingerprint.slice(0, 12);
    const record = { at: Date.now() / 1000, from: address, device: null, fp, method: null, path: null };
    this.claims.access({ ...record, allow: false, reason, upgrade: false }, true);
  }

  /** Node.js says nothing of a handshake that failed unless somebody listens. */
  noteTlsError(error, socket) {
    try {
      const address = socket.remoteAddress || (socket._parent && socket._parent.remoteAddress) || "";
      let reason = "bad-handshake";
      if (error && error.code === "ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE") reason = "no-certificate";
      else if (socket.authorizationError) {
        reason = REFUSED_BY_TLS[socket.authorizationError] || "untrusted-certificate";
      }
      this.logRefusal(plainAddress(address), null, reason);
    } catch (unexpected) {
      this.report(unexpected);
    }
  }

  connections(most) {
    const list = [];
    for (const socket of this.sockets) {
      const visitor = socket[VISITOR];
      if (visitor.entry === null) continue;
      if (list.length >= most) break;
      list.push({ id: visitor.entry.id, from: visitor.address, since: visitor.since, websocket: visitor.websocket });
    }
    return list;
  }
}

module.exports = { Enforcement };
