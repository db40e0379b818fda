"use strict";
// What somebody who is refused gets to read: why, and what to do. It holds nothing but fixed texts of reasons.json
// and the reason code, so there is nothing in it that a stranger could learn or smuggle in.
//
// A browser that once came without a certificate shows none to this address until it is restarted, whatever was installed
// since (Chromium: per host and port). What makes it forget is a handshake that fails for want of one. The button has the
// guard insist for a second, tries until it did, and loads the page again; measured in Chromium 156: 130 of 130. It must
// not navigate while the guard insists: who really has none would end at the browser's own error page.

const crypto = require("node:crypto");
const reasons = require("./reasons.json");

const PLACE = "/.redlatch/";
const AGAIN = `${PLACE}again`; // insist for a while
const PROBE = `${PLACE}probe`; // 204 with a certificate, whichever; 403 without
// Reasons that another certificate may change, and that a failed handshake makes the browser forget
const FORGETTABLE = new Set(["no-certificate", "untrusted-certificate", "expired", "not-yet-valid"]);

const SCRIPT = `
const button = document.querySelector("button"), said = document.querySelector("[role=status]");
button.hidden = false;
button.onclick = async () => {
  button.disabled = true;
  said.textContent = "Asking the browser for it\\u2026";
  try { await fetch("${AGAIN}", {method: "POST"}); } catch {}
  const end = Date.now() + 1700;
  do {
    try { if ((await fetch("${PROBE}", {cache: "no-store"})).ok) return location.reload(); } catch {}
    await new Promise((done) => setTimeout(done, 200));
  } while (Date.now() < end);
  button.disabled = false;
  said.textContent = "The browser still has none for this address. If you have just installed it, close all windows of the browser and open it again.";
};
`;

const HEADERS = {
  "Cache-Control": "no-store",
  "Content-Security-Policy":
    "default-src 'none'; style-src 'unsafe-inline'; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; " +
    `form-action 'none'; script-src 'sha256-${crypto.createHash("sha256").update(SCRIPT).digest("base64")}'`,
  "X-Content-Type-Options": "nosniff",
  "Referrer-Policy": "no-referrer",
};

const ESCAPES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
const escape = (text) => text.replace(/[&<>"']/g, (character) => ESCAPES[character]);

function html(code, { text, next }) {
  const again = FORGETTABLE.has(code)
    ? '<p><button hidden>I have installed it: try again</button> <span role="status"></span></p>' +
      "<noscript><p>Have you just installed it? Close all windows of the browser and open it again: it remembers that it " +
      `had none.</p></noscript><script>${SCRIPT}</script>`
    : "";
  return (
    '<!doctype html><html lang="en"><head><meta charset="utf-8">' +
    '<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark"><title>Not let in</title>' +
    "<style>body{font:1.1em/1.5 system-ui,sans-serif;max-width:34em;margin:15vh auto;padding:0 1em}" +
    "button{font:inherit;padding:.5em 1em}code{opacity:.7}</style></head><body><h1>Not let in</h1>" +
    `<p>${escape(text[0].toUpperCase() + text.slice(1))}.</p><p>${escape(next)}</p>${again}` +
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

/** Answers the page's own questions: yes (204) or no (403), and nothing else. */
function answerBriefly(res, yes) {
  res.writeHead(yes ? 204 : 403, { ...HEADERS, Connection: "close", ...(yes ? {} : { "Content-Length": 0 }) });
  res.end();
}

/** Answers an upgrade, for which there is only the bare socket, with 403 and closes. */
function answerUpgrade(socket, code) {
  const { type, body } = render(code, "");
  const head = { ...HEADERS, "Content-Type": type, "Content-Length": Buffer.byteLength(body), Connection: "close" };
  const lines = Object.entries(head).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.on("error", () => {});
  socket.end(`HTTP/1.1 403 Forbidden\r\n${lines.join("")}\r\n${body}`, () => socket.destroy());
}

module.exports = { AGAIN, PLACE, PROBE, answer, answerBriefly, answerUpgrade, render };
