"use strict";
// Has a browser forget which certificate it shows to this address, or that it has none: see page.js, whose button asks for
// this. What it takes is a handshake that ends with an alert about the certificate. TLS sends one where a certificate is
// required and none comes. For one that has expired Node.js just closes, which makes no browser forget (measured); there
// the guard answers the first connections with the alert itself.

const crypto = require("node:crypto");
const { performance } = require("node:perf_hooks");
const page = require("./page.js");

const INSIST_MS = 1000; // a browser comes again within 75-680 ms (measured)
const ALERTS = 3; // one would do (measured), were it not for connections that a browser opens in advance
const CERTIFICATE_REQUIRED = Buffer.from([21, 3, 3, 0, 2, 2, 116]); // a TLS record: alert, fatal, certificate_required

class Again {
  /** strangersOf(address): open connections from there that showed no good certificate. server(): the https server. */
  constructor({ strangersOf, server }) {
    this.strangersOf = strangersOf;
    this.server = server;
    this.address = "";
    this.until = -Infinity;
    this.alerts = 0; // left to be sent
  }

  /** Whether the handshake insists on a certificate from this address at present. */
  insists(address) {
    return address === this.address && performance.now() < this.until;
  }

  /** Ends a connection from this address with the alert, true when that is what is to be done. */
  turnsBack(address, raw) {
    if (this.alerts === 0 || !this.insists(address)) return false;
    this.alerts -= 1;
    raw.end(CERTIFICATE_REQUIRED, () => raw.destroy());
    return true;
  }

  /**
   * Answers the page's own two questions, true when `req` was one. A stranger who asks from elsewhere than the page gains
   * nothing: the guard then insists on a certificate for a second, at the stranger's own address.
   */
  answers(visitor, policy, req, res) {
    if (visitor.byOpenPort || policy === null || !policy.isOwnPage(req.headers)) return false;
    if (req.url === page.PROBE) page.answerBriefly(res, visitor.stranger);
    else if (req.url === page.AGAIN && req.method === "POST" && visitor.stranger !== null) {
      page.answerBriefly(res, this.insist(visitor, req.socket) ? null : "busy");
    } else return false;
    return true;
  }

  /** One address at a time, so that nobody can have the tickets of devices thrown away more often than once a second. */
  insist({ address, stranger }, asking) {
    const now = performance.now();
    if (now < this.until) return address === this.address;
    this.address = address;
    this.until = now + INSIST_MS;
    // Devices at the same address are turned back with it: only the holder of a device's key has that done
    this.alerts = stranger === "expired" ? ALERTS : 0;
    // A session without a certificate that is resumed needs none (it would "succeed", and the browser forget nothing), and
    // a connection that is open already would be used instead of a new one.
    this.server().setTicketKeys(crypto.randomBytes(48));
    for (const socket of this.strangersOf(address)) if (socket !== asking) socket.destroy();
    return true;
  }
}

module.exports = { Again };
