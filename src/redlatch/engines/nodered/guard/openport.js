"use strict";
// A second port that asks nobody for a certificate, for what rules open to anyone. The main port can then go on to
// insist on one: a browser that was once let in without remembers to show none there until it is restarted (measured,
// Chromium). Its connections go to the same server, past the same decision.

const net = require("node:net");

class OpenPort {
  /** arrive(raw): a connection. changed(): whether it listens has changed. */
  constructor({ arrive, changed }) {
    this.arrive = arrive;
    this.changed = changed;
    this.server = null;
    this.port = null; // that it shall listen on
    this.problem = null;
  }

  /** Listens on `port` of `host` (where the main server listens) or, for null, not at all. */
  follow(port, host) {
    if (port === this.port && this.problem === null) return;
    if (this.server !== null) this.server.close();
    this.server = null;
    this.port = port;
    this.problem = null;
    if (port === null) return;
    const server = net.createServer({ noDelay: true }, this.arrive);
    server.on("error", (error) => {
      if (this.server !== server) return;
      this.problem = `the open port ${port} cannot be opened: ${error.code === "EADDRINUSE" ? "it is in use" : error.message}`;
      this.changed();
    });
    server.on("listening", () => this.changed());
    this.server = server;
    server.listen(port, host);
  }
}

module.exports = { OpenPort };
