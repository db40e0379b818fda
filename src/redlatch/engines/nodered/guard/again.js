"use strict";
// Has a browser forget that it has no certificate for this address: see page.js, whose button asks for this.

const crypto = require("node:crypto");
const { performance } = require("node:perf_hooks");
const page = require("./page.js");

const INSIST_MS = 1000; // a browser comes again within 75-680 ms (measured)

class Again {
  /** strangersOf(address): open connections from there that showed no good certificate. server(): the https server. */
  constructor({ strangersOf, server }) {
    this.strangersOf = strangersOf;
    this.server = server;
    this.address = "";
    this.until = -Infinity;
  }

  /** Whether the handshake insists on a certificate from this address at present. */
  insists(address) {
    return address === this.address && performance.now() < this.until;
  }

  /**
   * Answers the page's own two questions, true when `req` was one. A stranger who asks from elsewhere than the page gains
   * nothing: the guard then insists on a certificate for a second, at the stranger's own address.
   */
  answers(visitor, policy, req, res) {
    if (visitor.byOpenPort || policy === null || !policy.isOwnPage(req.headers)) return false;
    if (req.url === page.PROBE) page.answerBriefly(res, visitor.fingerprint !== null);
    else if (req.url === page.AGAIN && req.method === "POST" && visitor.stranger !== null) {
      page.answerBriefly(res, this.insist(visitor.address, req.socket));
    } else return false;
    return true;
  }

  /** One address at a time, so that nobody can have the tickets of devices thrown away more often than once a second. */
  insist(address, asking) {
    const now = performance.now();
    if (now < this.until) return address === this.address;
    this.address = address;
    this.until = now + INSIST_MS;
    // A session without a certificate that is resumed needs none (it would "succeed", and the browser forget nothing), and
    // a connection that is open already would be used instead of a new one.
    this.server().setTicketKeys(crypto.randomBytes(48));
    for (const socket of this.strangersOf(address)) if (socket !== asking) socket.destroy();
    return true;
  }
}

module.exports = { Again };
