"use strict";
// The decision: the compiled form of redlatch.policy.decide (Python), which is the specification. Both run
// tests/vectors/decide.json. Pure: no clock, no file, no socket.

const { isIPv4, isIPv6 } = require("node:net");

const MAX_TARGET = 8192;
const CACHED = 1024; // targets per generation
const CACHED_LENGTH = 256;

// Unambiguous on purpose: a pattern with nested repetition would let one long path stop the flows.
const SEGMENT = "(?:[A-Za-z0-9._~!$&'()*+,=:@-]|%20|%[89A-Fa-f][0-9A-Fa-f])+";
const CANONICAL = new RegExp(`^/(?:${SEGMENT}(?:/${SEGMENT})*/?)?$`);
const DOTS = /\/\.\.?(?:\/|$)/;
const TARGET = /^\/[\x21-\x7e]*$/;
const HOST = /^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::[0-9]{1,5})?$/;

const EDITOR_FILES = new Set([
  "/", "/comms", "/favicon.ico", "/flows", "/flows/state", "/icons", "/nodes", "/plugins",
  "/plugins/messages", "/projects", "/settings", "/settings/user", "/theme", "/auth/login", "/diagnostics",
]);
const EDITOR_FOLDERS = [
  "/red/", "/vendor/", "/core/", "/icons/", "/locales/", "/theme/", "/types/", "/resources/", "/debug/view/",
  "/nodes/", "/flow/", "/library/", "/context/", "/credentials/", "/projects/",
];
const EDITOR_SEGMENTS = new Set([
  "auth", "comms", "context", "core", "credentials", "debug", "diagnostics", "favicon.ico", "flow", "flows",
  "icons", "inject", "library", "locales", "nodes", "plugins", "projects", "red", "resources", "settings",
  "theme", "types", "vendor",
]);

// Classes of a target, strictest first. EDITOR stands for everything unknown.
const BAD = 0;
const EDITOR = 1;
const EDITOR_READ = 2;
const DASHBOARD = 3;

function pathOf(target) {
  const query = target.indexOf("?");
  return query < 0 ? target : target.slice(0, query);
}

function below(path, prefix) {
  return path === prefix || path.startsWith(prefix.endsWith("/") ? prefix : prefix + "/");
}

function isTarget(target) {
  return target.length <= MAX_TARGET && TARGET.test(target);
}

function classify(target, adminRoot, dashboards) {
  if (!isTarget(target)) return BAD;
  const path = pathOf(target);
  if (!CANONICAL.test(path) || DOTS.test(path)) return EDITOR;
  if (adminRoot !== null && below(path, adminRoot)) {
    const inner = adminRoot === "/" ? path : path.slice(adminRoot.length) || "/";
    if (EDITOR_FILES.has(inner) || EDITOR_FOLDERS.some((folder) => inner.startsWith(folder))) return EDITOR_READ;
    if (adminRoot !== "/" || EDITOR_SEGMENTS.has(inner.split("/", 2)[1])) return EDITOR;
  }
  return dashboards.some((prefix) => prefix !== "/" && below(path, prefix)) ? DASHBOARD : EDITOR;
}

/** One snapshot, ready to judge. A new snapshot is a new Policy: whoever holds an older one asks again. */
class Policy {
  constructor(snapshot) {
    this.snapshot = snapshot;
    this.devices = new Map(Object.entries(snapshot.devices));
    this.names = new Set(snapshot.names);
    this.origins = new Set(snapshot.origins);
    this.comms = (snapshot.admin_root || "").replace(/\/$/, "") + "/comms";
    this.lastHost = undefined; // the Host header seen last, and the origin that it names when it is ours
    this.lastOrigin = undefined;
    this.young = new Map(); // target -> class, two generations: bounded, and no bookkeeping per look-up
    this.old = new Map();
  }

  /** The later of clock and snapshot: a clock set back revives nothing. Unix seconds. */
  now(clock) {
    return Math.max(clock, this.snapshot.time);
  }

  entry(fingerprint) {
    return this.devices.get(fingerprint) || null;
  }

  /** Why this certificate does not let its holder in, or null. Identity is the fingerprint alone. */
  certificate(fingerprint, verified, clock) {
    if (!fingerprint) return "no-certificate";
    if (!verified) return "untrusted-certificate";
    const entry = this.entry(fingerprint);
    if (entry === null) return "unknown-certificate";
    const now = this.now(clock);
    if (now < entry.not_before) return "not-yet-valid";
    if (now > entry.not_after) return "expired";
    return null;
  }

  /** Why no device may send this, or null. `upgrade` is the Upgrade header, undefined when there is none. */
  request(method, target, headers, upgrade) {
    const host = headers.host;
    const origin = host !== undefined && host === this.lastHost ? this.lastOrigin : this.originOf(host);
    if (origin === null) return "foreign-host";
    if (this.class(target) === BAD) return "bad-target";
    if (upgrade !== undefined || method === "CONNECT") {
      if (method !== "GET" || upgrade.toLowerCase() !== "websocket") return "bad-upgrade";
    }
    if (headers.origin !== undefined) {
      return headers.origin === origin || this.origins.has(headers.origin) ? null : "cross-origin";
    }
    const site = headers["sec-fetch-site"];
    if (site === undefined || site === "same-origin" || site === "none") return null;
    // Another page may send a person here (a link), never load us into itself or write.
    const navigates = headers["sec-fetch-mode"] === "navigate" && headers["sec-fetch-dest"] === "document";
    return navigates && (method === "GET" || method === "HEAD") && upgrade === undefined ? null : "cross-origin";
  }

  /** "ok", or why this role does not reach the target. No rule, no entry. */
  role(role, method, target, upgrade) {
    if (role === "admin" || role === "owner") return "ok";
    const area = this.class(target);
    if (role === "user") return area === DASHBOARD ? "ok" : "no-rule";
    if (role === "viewer" && area !== DASHBOARD) {
      if (method !== "GET" && method !== "HEAD") return "read-only";
      if (area === EDITOR_READ && (upgrade === undefined || pathOf(target) === this.comms)) return "ok";
    }
    return "no-rule";
  }

  /** Our own origin in the words of this Host header, or null when the host is not ours. */
  originOf(host) {
    const match = HOST.exec(host === undefined ? "" : host);
    if (match === null) return null;
    const name = match[1].toLowerCase();
    const own = name.startsWith("[")
      ? isIPv6(name.slice(1, -1))
      : this.names.has(name.endsWith(".") ? name.slice(0, -1) : name) || isIPv4(name);
    if (!own) return null;
    this.lastHost = host;
    this.lastOrigin = "https://" + host.toLowerCase();
    return this.lastOrigin;
  }

  class(target) {
    let found = this.young.get(target);
    if (found !== undefined) return found;
    found = this.old.get(target);
    if (found === undefined) found = classify(target, this.snapshot.admin_root, this.snapshot.dashboards);
    if (target.length <= CACHED_LENGTH) {
      if (this.young.size >= CACHED) {
        this.old = this.young;
        this.young = new Map();
      }
      this.young.set(target, found);
    }
    return found;
  }
}

/** The whole decision as one pure function, as in Python; `facts` in Python's words, null where absent. */
function decide(facts, policy) {
  if (policy === null) return "no-snapshot";
  const headers = {
    host: facts.host === null ? undefined : facts.host,
    origin: facts.origin === null ? undefined : facts.origin,
    "sec-fetch-site": facts.fetch_site === null ? undefined : facts.fetch_site,
    "sec-fetch-mode": facts.fetch_mode,
    "sec-fetch-dest": facts.fetch_dest,
  };
  const upgrade = facts.upgrade === null ? undefined : facts.upgrade;
  return (
    policy.certificate(facts.certificate, facts.verified, facts.now) ||
    policy.request(facts.method, facts.target, headers, upgrade) ||
    policy.role(policy.entry(facts.certificate).role, facts.method, facts.target, upgrade)
  );
}

module.exports = { Policy, decide, pathOf };
