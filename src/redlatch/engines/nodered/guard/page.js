"use strict";
// What somebody who is refused gets to read: why, and what to do. It holds nothing but fixed texts of reasons.json
// and the reason code, so there is nothing in it that a stranger could learn or smuggle in.
//
// A browser that once came without a certificate, or with one that has expired since, goes on so at this address until it is
// restarted, whatever was installed since (Chromium: per host and port). What makes it forget is a handshake that fails
// with an alert about the certificate. The button has the guard see to that for a second (again.js), tries until the answer
// is another one, and loads the page again; measured in Chromium 156: 130 of 130. It must not navigate while the guard
// insists: who really has none would end at the browser's own error page.

const crypto = require("node:crypto");
const reasons = require("./reasons.json");

const PLACE = "/.redlatch/";
const AGAIN = `${PLACE}again`; // insist for a while
const PROBE = `${PLACE}probe`; // 204 for a device; 403 and the reason code for others
// Reasons that another certificate changes, and that again.js makes the browser forget
const FORGETTABLE = new Set(["no-certificate", "expired"]);
const NOT_HERE = "Nobody is asked for a certificate at this port. Who has one uses this Node-RED's main port.";

const SCRIPT = `
const button = document.querySelector("button"), said = document.querySelector("[role=status]");
const code = document.querySelector("code").textContent;
button.hidden = false;
button.onclick = async () => {
  button.disabled = true;
  said.textContent = "Asking the browser for it\\u2026";
  let asked = false, end = Date.now() + 3000;
  do {
    try {
      if (asked) {
        if (await (await fetch("${PROBE}", {cache: "no-store"})).text() !== code) return location.reload();
      } else if ((await fetch("${AGAIN}", {method: "POST"})).ok) {
        asked = true;
        end = Date.now() + 1700;
        continue;
      }
    } catch {}
    await new Promise((done) => setTimeout(done, 200));
  } while (Date.now() < end);
  button.disabled = false;
  button.focus();
  said.textContent = "The browser shows no other certificate yet. If you have just installed it, close all windows of the browser and open it again.";
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

// Contrast is at least 7:1 in light and dark; nothing is loaded from elsewhere
const STYLE =
  ":root{color-scheme:light dark;--ink:#1d1d1f;--soft:#555;--paper:#fff;--key:#8f0000;--on:#fff}" +
  "@media(prefers-color-scheme:dark){:root{--ink:#eee;--soft:#b5b5b5;--paper:#161618;--key:#ffb3ab;--on:#3b0000}}" +
  "body{font:1.06em/1.55 system-ui,sans-serif;color:var(--ink);background:var(--paper);margin:0}" +
  "main{max-width:34em;margin:0 auto;padding:12vh 1.25em 2em}" +
  "h1{font-size:1.7em;line-height:1.2;margin:0 0 .6em;padding-left:.5em;border-left:.2em solid var(--key)}" +
  "p{margin:0 0 1em}p:first-of-type{font-weight:600}" +
  "button{font:inherit;font-weight:600;color:var(--on);background:var(--key);border:0;border-radius:.4em;padding:.7em 1.2em;" +
  "cursor:pointer}button:disabled{opacity:.6;cursor:default}:focus-visible{outline:3px solid var(--ink);outline-offset:3px}" +
  ".code{color:var(--soft);font-size:.85em}";

const ESCAPES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
const escape = (text) => text.replace(/[&<>"']/g, (character) => ESCAPES[character]);

function html(code, { text, next }, byOpenPort) {
  const again = FORGETTABLE.has(code) && !byOpenPort
    ? '<p><button type="button" hidden>I have installed it: try again</button></p><p role="status"></p>' +
      "<noscript><p>Have you just installed it? Close all windows of the browser and open it again: it remembers that it " +
      `had none.</p></noscript><script>${SCRIPT}</script>`
    : "";
  return (
    '<!doctype html><html lang="en"><head><meta charset="utf-8">' +
    '<meta name="viewport" content="width=device-width,initial-scale=1"><title>Not let in</title>' +
    `<style>${STYLE}</style></head><body><main><h1>Not let in</h1>` +
    `<p>${escape(text[0].toUpperCase() + text.slice(1))}.</p><p>${escape(next)}</p>` +
    `<p class="code">Reason: <code>${escape(code)}</code></p>${again}</main></body></html>\n`
  );
}

/** {type, body} of a refusal; `accept` is the request's Accept header. */
function render(code, accept, byOpenPort = false) {
  let reason = reasons[code] || { text: "refused", next: "" };
  if (byOpenPort && code === "no-certificate") reason = { text: "this is not open to everybody", next: NOT_HERE };
  if (typeof accept === "string" && accept.includes("text/html")) {
    return { type: "text/html; charset=utf-8", body: html(code, reason, byOpenPort) };
  }
  return { type: "text/plain; charset=utf-8", body: `refused: ${reason.text} (${code})\n${reason.next}\n` };
}

/** Answers a request with 403. */
function answer(req, res, code, { close = false, byOpenPort = false } = {}) {
  const { type, body } = render(code, req.headers.accept, byOpenPort);
  res.writeHead(403, {
    ...HEADERS,
    "Content-Type": type,
    "Content-Length": Buffer.byteLength(body),
    ...(close ? { Connection: "close" } : {}),
  });
  res.end(req.method === "HEAD" ? undefined : body);
}

/** Answers the page's own questions: with 204, or 403 and one word. */
function answerBriefly(res, no) {
  const type = no === null ? {} : { "Content-Type": "text/plain; charset=utf-8", "Content-Length": Buffer.byteLength(no) };
  res.writeHead(no === null ? 204 : 403, { ...HEADERS, Connection: "close", ...type });
  res.end(no === null ? undefined : no);
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
