"use strict";
// Stands between the http server and everything that listens to it, as the guard does: the server's `emit` is taken over,
// so editor, /comms, dashboards, http-in, static files and websockets all pass here, whatever order their listeners have.
// It fails closed: an error of ours ends the connection, never lets it through.

const SECRET = "x-redlatch-secret";
const USER = "x-redlatch-user";
const PERMISSION = "x-redlatch-permission";
const USER_NAME = /^[a-z0-9-]{1,64}$/; // Node-RED puts it into paths
const PERMISSIONS = new Set(["*", "read"]);
// Longer than the gateway keeps a connection that nobody uses: it ends it first, never we while a request is on its way
const KEEP_ALIVE_MS = 75000;

const STRANGER = { status: 403, phrase: "Forbidden", text: "This Node-RED answers redlatch's gateway and nobody else.\n" };
const SHUT = {
  status: 503,
  phrase: "Service Unavailable",
  text: "This Node-RED does not know its gateway, and so answers nobody. On its machine: redlatch gateway up\n",
};

class Gate {
  /** `expected` of expected.js; `signOn`: {inject(req, state)} of auth.js, or null where the person's own adminAuth stays. */
  constructor({ expected, signOn }) {
    this.expected = expected;
    this.signOn = signOn;
    this.admitted = new WeakSet(); // requests: a listener may hand one on by the server's emit, without its secret
  }

  takeOver(server) {
    const gate = this;
    const forward = server.emit;
    server.keepAliveTimeout = Math.max(server.keepAliveTimeout, KEEP_ALIVE_MS);
    server.emit = function emit(event, first, second) {
      switch (event) {
        case "request":
        case "checkContinue":
        case "checkExpectation":
          if (!gate.lets(first, (refusal) => answer(second, refusal))) return true;
          break;
        case "upgrade":
        case "connect":
          if (!gate.lets(first, (refusal) => answerUpgrade(second, refusal))) return true;
          break;
        default:
      }
      return forward.apply(this, arguments);
    };
  }

  /** Whether the gateway sent it; then the secret is gone from it, and Node-RED knows the user. */
  lets(req, refuse) {
    try {
      if (this.admitted.has(req)) return true;
      if (!this.expected.isSecret(secretOf(req.rawHeaders))) {
        refuse(this.expected.digest === null ? SHUT : STRANGER);
        return false;
      }
      strip(req);
      // The state is the request's: the gateway's connections carry requests of different people.
      if (this.signOn !== null) this.signOn.inject(req, { ticket: null, user: userOf(req.headers) });
      this.admitted.add(req);
      return true;
    } catch (error) {
      req.socket.destroy();
      process.stderr.write(`redlatch: closed a connection after an error of its own: ${error && error.stack}\n`);
      return false;
    }
  }
}

/** The one secret that was sent, or null: of two, somebody else may have put in the first or the last. */
function secretOf(raw) {
  let found = null;
  for (let at = 0; at < raw.length; at += 2) {
    if (raw[at].length !== SECRET.length || raw[at].toLowerCase() !== SECRET) continue;
    if (found !== null) return null;
    found = raw[at + 1];
  }
  return found;
}

/** Takes the secret out of the request wherever a flow could read it. */
function strip(req) {
  // Node.js makes these two from rawHeaders when they are asked for first, by the number that there was: so before
  delete req.headers[SECRET];
  if (req.headersDistinct !== undefined) delete req.headersDistinct[SECRET];
  const raw = req.rawHeaders;
  for (let at = raw.length - 2; at >= 0; at -= 2) {
    if (raw[at].toLowerCase() === SECRET) raw.splice(at, 2);
  }
}

/** Node-RED's user behind a request, as the gateway says, or null. */
function userOf(headers) {
  const username = headers[USER];
  const permissions = headers[PERMISSION];
  if (typeof username !== "string" || !USER_NAME.test(username) || !PERMISSIONS.has(permissions)) return null;
  return Object.freeze({ username, permissions });
}

function answer(res, { status, text }) {
  res.writeHead(status, {
    "Content-Type": "text/plain; charset=utf-8",
    "Content-Length": Buffer.byteLength(text),
    "Cache-Control": "no-store",
    Connection: "close",
  });
  res.end(text);
}

function answerUpgrade(socket, { status, phrase, text }) {
  socket.on("error", () => socket.destroy()); // Node.js listens no longer, and an error that nobody hears ends Node-RED
  const head = `HTTP/1.1 ${status} ${phrase}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: ${text.length}\r\n`;
  socket.end(`${head}Cache-Control: no-store\r\nConnection: close\r\n\r\n${text}`, () => socket.destroy());
}

module.exports = { Gate };
