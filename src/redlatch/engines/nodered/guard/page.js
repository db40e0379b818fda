"use strict";
// What somebody who is refused gets to read: why, and what to do. It holds nothing but fixed texts of reasons.json
// and the reason code, so there is nothing in it that a stranger could learn or smuggle in.

const reasons = require("./reasons.json");

const ESCAPES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
const escape = (text) => text.replace(/[&<>"']/g, (character) => ESCAPES[character]);

function html(code, { text, next }) {
  return (
    '<!doctype html><html lang="en"><head><meta charset="utf-8">' +
    '<meta name="viewport" content="width=device-width"><title>Not let in</title>' +
    "<style>body{font:1.1em/1.5 system-ui,sans-serif;max-width:34em;margin:15vh auto;padding:0 1em}" +
    "code{color:#777}</style></head><body><h1>Not let in</h1>" +
    `<p>${escape(text[0].toUpperCase() + text.slice(1))}.</p><p>${escape(next)}</p>` +
    `<p><code>${escape(code)}</code></p></body></html>\n`
  );
}

/** {type, body} of a refusal; `accept` is the request's Accept header. */
function render(code, accept) {
  const reason = reasons[code] || { text: "refused", next: "" };
  if (typeof accept === "string" && accept.includes("text/html")) {
    return { type: "text/html; charset=utf-8", body: html(code, reason) };
  }
  return { type: "text/plain; charset=utf-8", body: `refused: ${reason.text} (${code})\n${reason.next}\n` };
}

const HEADERS = {
  "Cache-Control": "no-store",
  "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
  "X-Content-Type-Options": "nosniff",
  "Referrer-Policy": "no-referrer",
};

/** Answers a request with 403. */
function answer(req, res, code, close) {
  const { type, body } = render(code, req.headers.accept);
  res.writeHead(403, {
    ...HEADERS,
    "Content-Type": type,
    "Content-Length": Buffer.byteLength(body),
    ...(close ? { Connection: "close" } : {}),
  });
  res.end(req.method === "HEAD" ? undefined : body);
}

/** Answers an upgrade, for which there is only the bare socket, with 403 and closes. */
function answerUpgrade(socket, code) {
  const { type, body } = render(code, "");
  const head = { ...HEADERS, "Content-Type": type, "Content-Length": Buffer.byteLength(body), Connection: "close" };
  const lines = Object.entries(head).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.on("error", () => {});
  socket.end(`HTTP/1.1 403 Forbidden\r\n${lines.join("")}\r\n${body}`, () => socket.destroy());
}

module.exports = { answer, answerUpgrade, render };
