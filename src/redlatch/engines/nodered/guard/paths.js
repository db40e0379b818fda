"use strict";
// Paths and what they belong to: the compiled form of redlatch.policy.paths (Python), which is the specification.

const MAX_TARGET = 8192;

// Unambiguous on purpose: a pattern with nested repetition would let one long path stop the flows.
const SEGMENT = "(?:[A-Za-z0-9._~!$&'()*+,=:@-]|%20|%[89A-Fa-f][0-9A-Fa-f])+";
const CANONICAL = new RegExp(`^/(?:${SEGMENT}(?:/${SEGMENT})*/?)?$`);
const DOTS = /\/\.\.?(?:\/|$)/;
const TARGET = /^\/[\x21-\x7e]*$/;

const EDITOR_FILES = new Set([
  "/", "/comms", "/favicon.ico", "/flows", "/flows/state", "/icons", "/nodes", "/plugins",
  "/plugins/messages", "/projects", "/settings", "/settings/user", "/theme", "/auth/login", "/diagnostics",
  "/redlatch/state",
]);
const EDITOR_FOLDERS = [
  "/red/", "/vendor/", "/core/", "/icons/", "/locales/", "/theme/", "/types/", "/resources/", "/debug/view/",
  "/nodes/", "/flow/", "/library/", "/context/", "/credentials/", "/projects/",
];
const EDITOR_SEGMENTS = new Set([
  "auth", "comms", "context", "core", "credentials", "debug", "diagnostics", "favicon.ico", "flow", "flows",
  "icons", "inject", "library", "locales", "nodes", "plugins", "projects", "red", "redlatch", "resources",
  "settings", "theme", "types", "udp-ports", "vendor",
]);
const EDITOR_PREFIXES = ["/dashboard/api", "/dashboard/chart"];

const EDITOR = "editor"; // the strictest: stands for everything unknown
const EDITOR_READ = "editor-read";
const DASHBOARDS = "dashboards";
const HTTP_IN = "http-in";
const STATIC = "static";
const WEBSOCKETS = "websockets";

function pathOf(target) {
  const query = target.indexOf("?");
  return query < 0 ? target : target.slice(0, query);
}

function isTarget(target) {
  return target.length <= MAX_TARGET && TARGET.test(target);
}

function isCanonical(path) {
  return CANONICAL.test(path) && !DOTS.test(path);
}

function below(path, prefix) {
  return path === prefix || path.startsWith(prefix.endsWith("/") ? prefix : prefix + "/");
}

/** `parts` are the segments of a path without its last slash. */
function matches(parts, pattern) {
  const wanted = pattern.split("/");
  return (
    parts.length === wanted.length &&
    wanted.every((one, at) => one === parts[at] || one.startsWith(":"))
  );
}

/** ASCII alone, as Python's lower() differs from JavaScript's elsewhere; a canonical path has nothing else. */
function isEditors(path, adminRoot) {
  if (adminRoot === null) return false;
  const lower = path.toLowerCase();
  const root = adminRoot.toLowerCase();
  if (!below(lower, root)) return false;
  if (root !== "/") return true;
  return (
    lower === "/" || EDITOR_SEGMENTS.has(lower.split("/", 2)[1]) || EDITOR_PREFIXES.some((prefix) => below(lower, prefix))
  );
}

/** The area of a path. Unknown is EDITOR; what the editor owns is never anything else. */
function classify(path, websocket, adminRoot, areas) {
  if (!isCanonical(path)) return EDITOR;
  if (isEditors(path, adminRoot)) {
    // What only reads is known in its own case and below the root in its own case alone
    const inner = below(path, adminRoot) ? (adminRoot === "/" ? path : path.slice(adminRoot.length) || "/") : "";
    const reads = websocket
      ? inner === "/comms"
      : EDITOR_FILES.has(inner) || EDITOR_FOLDERS.some((folder) => inner.startsWith(folder));
    return reads ? EDITOR_READ : EDITOR;
  }
  if (websocket) {
    if (areas.websockets.includes(path)) return WEBSOCKETS;
  } else {
    const parts = (path.endsWith("/") ? path.slice(0, -1) : path).split("/");
    if (areas.http_in.some((pattern) => matches(parts, pattern))) return HTTP_IN;
  }
  const inside = (prefix) => prefix !== "/" && below(path, prefix);
  if (areas.dashboards.some(inside)) return DASHBOARDS;
  return !websocket && areas.static.some(inside) ? STATIC : EDITOR;
}

module.exports = { below, classify, isCanonical, isEditors, isTarget, pathOf };
