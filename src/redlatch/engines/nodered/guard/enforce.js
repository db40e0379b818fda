"use strict";
// Stands between the https server and everything that listens to it. The server's `emit` is taken over before any other
// listener exists, so editor, /comms, dashboards, http-in, static files and websockets all pass here, whatever order
// their listeners have (engine.io takes 'request' listeners away and puts them back: a listener of ours could be
// passed by). It fails closed: an error of ours ends the connection, never lets it through.

const { performance } = require("node:perf_hooks");
const { Again } = require("./again.js");
const { Policy, pathOf } = require("./decide.js");
const { Door, isPrivate } = require("./door.js");
const { plainAddress } = require("./networks.js");
const page = require("./page.js");
const { SNAPSHOT, SERVER, DEVICE_CA } = require("./published.js");
const { OpenPort } = require("./openport.js");
const { Visitor } = require("./visitor.js");

const VISITOR = Symbol("redlatch.visitor");
const NO_RENEGOTIATION = 0x40000000; // OpenSSL's SSL_OP_NO_RENEGOTIATION; not every Node.js names it
const SWEEP_MS = 30000; // at the latest: a clock that jumps forward does not tell timers
const SOONEST_MS = 50;
const REFUSED_BY_TLS = { CERT_HAS_EXPIRED: "expired", CERT_NOT_YET_VALID: "not-yet-valid" };

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
    this.again = new Again({ strangersOf: (address) => this.strangersOf(address), server: () => this.server });
    this.openPort = new OpenPort({ arrive: (raw) => this.arrives(raw, true), changed: () => this.claims.inForce() });
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

  /** What the handshake does about a certificate: "required", "optional", "none" (not even asked for), or null: no talk. */
  asks(address, byOpenPort) {
    const { policy } = this;
    if (policy === null) return "required";
    const without = policy.mayComeWithout(address, byOpenPort);
    if (byOpenPort) return without ? "none" : null;
    if (this.again.insists(address)) return "required";
    return without || this.explainsTo(address) ? "optional" : "required";
  }

  /** Whether a stranger from there gets to read why. Chosen before the handshake: afterwards there is no "nothing". */
  explainsTo(address) {
    if (this.policy === null) return false;
    const { mode } = this.policy.snapshot;
    return mode === "explain" || (mode === "auto" && isPrivate(address));
  }

  tlsOptions() {
    const { server, deviceCa } = this.published;
    return {
      key: server.key,
      cert: server.cert,
      ca: deviceCa,
      requestCert: true,
      rejectUnauthorized: true, // both are set anew for each connection, see begin()
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
      proceed: (ticket) => this.begin(ticket, (raw) => forward.call(server, "connection", raw)),
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
        this.followOpenPort();
        this.claims.inForce();
        break;
      default:
    }
    return forward.call(server, event, first, second, third);
  }

  arrives(raw, byOpenPort = false) {
    try {
      this.door.arrive(raw, byOpenPort);
    } catch (error) {
      raw.destroy();
      this.report(error);
    }
  }

  /** Begins the handshake. Node.js reads these two properties of the server once per connection, here and now. */
  begin(ticket, proceed) {
    const { server } = this;
    try {
      const asks = this.asks(ticket.address, ticket.byOpenPort);
      if (asks === null) {
        ticket.raw.destroy();
        this.logRefusal(ticket.address, null, "no-certificate");
        return;
      }
      if (!ticket.byOpenPort && this.again.turnsBack(ticket.address, ticket.raw)) return;
      ticket.optional = asks !== "required";
      server.requestCert = asks !== "none";
      server.rejectUnauthorized = asks === "required";
      proceed(ticket.raw);
    } catch (error) {
      ticket.raw.destroy();
      this.report(error);
    } finally {
      server.requestCert = true;
      server.rejectUnauthorized = true;
    }
  }

  report(error) {
    process.stderr.write(`redlatch: closed a connection after an error of its own: ${error && error.stack}\n`);
  }

  // --- one connection ----------------------------------------------------------------------------------------------

  greets(socket) {
    try {
      const ticket = this.door.ticketOf(socket);
      const visitor = new Visitor(ticket);
      socket[VISITOR] = visitor;
      const certificate = socket.getPeerX509Certificate();
      if (certificate !== undefined) {
        visitor.fingerprint = certificate.fingerprint256.replaceAll(":", "").toLowerCase();
        visitor.verified = socket.authorized === true;
        visitor.dates = REFUSED_BY_TLS[socket.authorizationError] || null;
      }
      visitor.refresh(this.policy);
      // A resumed TLS 1.3 session without a certificate says authorized (nodejs/node #35317), and flows read that.
      if (visitor.stranger !== null) socket.authorized = false;
      return visitor.refused === null ? this.welcome(socket, visitor) : this.turnsAway(socket, visitor);
    } catch (error) {
      socket.destroy();
      this.report(error);
      return false;
    }
  }

  welcome(socket, visitor) {
    visitor.comesIn();
    if (visitor.stranger === null) {
      this.door.admitted(visitor.counted);
      visitor.counted = null;
      this.sweepBy(visitor.until);
    } else {
      this.door.lingers(visitor.counted);
    }
    this.keep(socket);
    this.claims.connectionsChanged();
    return true;
  }

  turnsAway(socket, visitor) {
    this.logRefusal(visitor.address, visitor, visitor.refused);
    if (visitor.counted === null || !visitor.counted.optional || !this.explainsTo(visitor.address)) {
      socket.destroy();
      return false;
    }
    this.door.lingers(visitor.counted);
    this.keep(socket);
    return true;
  }

  keep(socket) {
    this.sockets.add(socket);
    socket.once("close", this.forget);
  }

  isAdmitted(socket) {
    const visitor = socket[VISITOR];
    return visitor !== undefined && visitor.isLetIn(this.policy);
  }

  /** Node-RED's user behind this visitor now, for single sign-on, or null. */
  lookup(visitor) {
    return visitor.isLetIn(this.policy) ? visitor.user : null;
  }

  /** The device that is let in on this socket, as the snapshot in force knows it, or null. */
  deviceBehind(socket) {
    const visitor = socket[VISITOR];
    if (visitor === undefined || !visitor.isLetIn(this.policy) || visitor.entry === null) return null;
    const { id, role, not_after: end } = visitor.entry;
    const base = this.policy.likes.get(role) || role;
    return { id, role, base, fingerprint: visitor.fingerprint, not_after: end, from: visitor.address };
  }

  // --- one request -------------------------------------------------------------------------------------------------

  admits(req, res) {
    const { socket } = req;
    try {
      const visitor = socket[VISITOR];
      if (visitor === undefined) throw new Error("a request on a connection that nobody looked at");
      // An Upgrade that Connection does not ask for comes as a plain request, which no right to a websocket lets through
      const reason = visitor.judge(this.policy, req, req.headers.upgrade === undefined ? undefined : "");
      if (req.url.startsWith(page.PLACE) && this.isTold(visitor) && this.again.answers(visitor, this.policy, req, res)) {
        return false;
      }
      if (reason === "ok") {
        if (visitor.request === null || (req.method !== "GET" && req.method !== "HEAD")) {
          this.log(visitor, req, true, reason, false);
        }
        if (visitor.counted !== null) this.isWelcome(visitor);
        visitor.request = req;
        visitor.target = req.url;
        if (visitor.response !== null && !visitor.response.writableEnded) visitor.pipelines = true;
        visitor.response = res;
        if (visitor.policy.ancestors !== null) res.setHeader("Content-Security-Policy", visitor.policy.ancestors);
        if (this.signOn !== null) this.signOn.inject(req, visitor);
        return true;
      }
      this.log(visitor, req, false, reason, false);
      if (this.isTold(visitor)) page.answer(req, res, reason, { close: visitor.refused !== null, byOpenPort: visitor.byOpenPort });
      else socket.destroy();
    } catch (error) {
      socket.destroy();
      this.report(error);
    }
    return false;
  }

  /** Whether this visitor is told why something is refused: devices, and strangers that a rule or the mode knows. */
  isTold(visitor) {
    return visitor.refused === null || this.explainsTo(visitor.address);
  }

  admitsUpgrade(event, req, socket) {
    try {
      const visitor = req.socket[VISITOR];
      if (visitor === undefined) throw new Error("an upgrade on a connection that nobody looked at");
      const upgrade = req.headers.upgrade === undefined ? "" : req.headers.upgrade;
      let reason = visitor.judge(this.policy, req, upgrade);
      if (reason === "ok" && event !== "upgrade") reason = "bad-upgrade";
      this.log(visitor, req, reason === "ok", reason, true);
      if (reason === "ok") {
        if (visitor.counted !== null) this.isWelcome(visitor);
        visitor.request = req;
        visitor.target = req.url;
        visitor.websocket = true;
        this.claims.connectionsChanged();
        if (this.signOn !== null) this.signOn.inject(req, visitor);
        return true;
      }
      if (this.isTold(visitor)) page.answerUpgrade(socket, reason);
      else socket.destroy();
    } catch (error) {
      socket.destroy();
      this.report(error);
    }
    return false;
  }

  strangersOf(address) {
    return [...this.sockets].filter((socket) => {
      const visitor = socket[VISITOR];
      return visitor.address === address && visitor.stranger !== null && !visitor.websocket;
    });
  }

  /** Something of a connection without a certificate was let in: it no longer takes a stranger's place at the door. */
  isWelcome(visitor) {
    this.door.release(visitor.counted);
    visitor.counted = null;
  }

  followOpenPort() {
    const address = this.server.address();
    if (address !== null && this.policy !== null) this.openPort.follow(this.policy.snapshot.open_port, address.address);
  }

  // --- changes -----------------------------------------------------------------------------------------------------

  /** The published folder changed: `names` of its files count in a new form. */
  changed(names, noticed) {
    try {
      if (names.includes(SNAPSHOT)) {
        this.adopt();
        this.claims.start(this.policy.snapshot.spool);
        this.followOpenPort();
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
      const { policy } = this;
      if (!visitor.isLetIn(policy)) return visitor.admitted === null && this.explainsTo(visitor.address); // reads why
      if (!visitor.isWhoCameIn()) return false;
      const { request } = visitor;
      if (request === null) return true;
      if (visitor.pipelines) return false; // what is still being answered before the last request cannot be judged
      const upgrade = visitor.websocket ? request.headers.upgrade || "" : undefined;
      return visitor.judge(policy, request, upgrade, visitor.target) === "ok";
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
      if (visitor.refused !== null) continue;
      if (list.length >= most) break;
      list.push({ id: visitor.entry === null ? "" : visitor.entry.id, from: visitor.address, since: visitor.since, websocket: visitor.websocket });
    }
    return list;
  }
}

module.exports = { Enforcement };
