"use strict";
// Run by redlatch as Node-RED's user: loads a settings.js as red.js does and says what is in it, on one line of
// stdout that begins with the word given. Values are described, never copied: passwords, keys and secrets stay here.
//   node - WORD SETTINGS [RED_JS] < inspect.js

const fs = require("fs");
const os = require("os");
const path = require("path");
const Module = require("module");
const crypto = require("crypto");

const [word, file, program] = process.argv.slice(2);
const GUARD = Symbol.for("redlatch.guard");
const write = fs.writeSync;

let said = false;
function say(result) {
  if (said) return;
  said = true;
  const line = Buffer.from("\n" + word + JSON.stringify(result) + "\n");
  for (let at = 0; at < line.length; ) {
    try {
      at += write(1, line, at);
    } catch (error) {
      if (error.code !== "EAGAIN") throw error;
    }
  }
}

function fail(code, error) {
  const text = String((error && error.message) || error).split("\n")[0].slice(0, 300);
  const stack = String((error && error.stack) || "");
  // node prints "FILE:LINE" above a syntax error and puts it into the stack of others
  const at = stack.split("\n").map((line) => line.indexOf(file) >= 0 && /:(\d+)(?::\d+)?\)?$/.exec(line)).find(Boolean);
  say({ ok: false, code, error: text, name: String((error && error.name) || ""), line: at ? Number(at[1]) : null });
  process.exit(0);
}

const text = (value, most) => (typeof value === "string" ? value.slice(0, most || 1024) : null);
const isSet = (value) => value !== undefined && value !== null && value !== false;

function certificate(pem) {
  try {
    const one = Array.isArray(pem) ? pem[0] : pem;
    const cert = new crypto.X509Certificate(one);
    return {
      subject: text(cert.subject, 300), issuer: text(cert.issuer, 300), names: text(cert.subjectAltName, 1000),
      not_after: text(cert.validTo, 60), fingerprint: cert.fingerprint256.replace(/:/g, "").toLowerCase(),
      self_signed: cert.subject === cert.issuer,
    };
  } catch (error) {
    return null;
  }
}

function describeHttps(value) {
  if (!isSet(value)) return { kind: "none" };
  if (typeof value === "function") {
    const source = Function.prototype.toString.call(value);
    return {
      kind: "function", client_ca: /\bca\s*:|["']ca["']/.test(source), request_cert: /\brequestCert\b/.test(source),
      reject_unauthorized: null, certificate: null, passphrase: false, async: value.constructor.name === "AsyncFunction",
    };
  }
  if (typeof value !== "object") return { kind: "other" };
  return {
    kind: typeof value.then === "function" ? "promise" : "object",
    client_ca: isSet(value.ca), request_cert: value.requestCert === true,
    reject_unauthorized: value.rejectUnauthorized !== false, certificate: certificate(value.cert),
    passphrase: isSet(value.passphrase),
  };
}

function describeAuth(value) {
  if (!isSet(value)) return "none";
  if (typeof value === "function") return "function";
  if (typeof value !== "object") return "other";
  if (value.type === "strategy" || value.type === "credentials") return value.type;
  return value.module ? "module" : "other";
}

function describeStatic(settings) {
  const list = Array.isArray(settings.httpStatic) ? settings.httpStatic : [settings.httpStatic];
  return list.filter(isSet).slice(0, 100).map((entry) =>
    typeof entry === "string" ? { path: text(entry), root: "/" } : { path: text(entry.path), root: text(entry.root) || "/" });
}

function describe(settings) {
  const root = (own) => (own === false || settings.httpRoot === false ? false : text(own) || text(settings.httpRoot) || "/");
  const theme = settings.editorTheme || {};
  const port = settings.uiPort === undefined ? null : Number(settings.uiPort);
  const ui = settings.ui && typeof settings.ui === "object" ? settings.ui : {};
  return {
    ui_port: Number.isInteger(port) && port >= 0 && port < 65536 ? port : null,
    ui_port_odd: settings.uiPort !== undefined && !(Number.isInteger(port) && port >= 0 && port < 65536),
    ui_host: text(settings.uiHost), admin_root: root(settings.httpAdminRoot), node_root: root(settings.httpNodeRoot),
    static: describeStatic(settings), static_root: text(settings.httpStaticRoot), dashboard_path: text(ui.path),
    https: describeHttps(settings.https), refresh_interval: isSet(settings.httpsRefreshInterval),
    require_https: settings.requireHttps === true,
    admin_auth: describeAuth(settings.adminAuth), node_auth: isSet(settings.httpNodeAuth),
    static_auth: isSet(settings.httpStaticAuth), old_auth: isSet(settings.httpAuth) || isSet(settings.httpAdminAuth),
    middleware: ["httpAdminMiddleware", "httpNodeMiddleware", "webSocketNodeVerifyClient"].filter((name) => isSet(settings[name])),
    disable_editor: settings.disableEditor === true || root(settings.httpAdminRoot) === false,
    flow_file: text(settings.flowFile), user_dir: text(settings.userDir),
    credential_secret: typeof settings.credentialSecret === "string" && settings.credentialSecret !== "",
    projects: Boolean(theme.projects && theme.projects.enabled), trust_proxy: Boolean((settings.httpServerOptions || {})["trust proxy"]),
    storage_module: isSet(settings.storageModule),
  };
}

// What belongs to the person is described before the guard changes it.
let before = null;
const load = Module._load;
Module._load = function (request) {
  const exported = load.apply(this, arguments);
  if (typeof request !== "string" || !/^(?:guard|behind)\.js$/.test(path.basename(request)) || !exported || typeof exported.wrap !== "function") return exported;
  return Object.assign({}, exported, {
    wrap(settings) {
      if (!before && settings && typeof settings === "object") before = describe(settings);
      return exported.wrap(settings);
    },
  });
};

process.on("exit", () => say({ ok: false, code: "exits", error: "it ends the process while it is being loaded", name: "", line: null }));
process.on("uncaughtException", (error) => fail("throws", error));
process.on("unhandledRejection", (error) => fail("throws", error));
process.argv = [process.argv[0], program || "red.js"];
if (program) process.env.NODE_RED_HOME = process.env.NODE_RED_HOME || path.dirname(program);

let settings;
try {
  settings = require(file);
} catch (error) {
  const syntax = error instanceof SyntaxError || (error && error.name === "SyntaxError");
  fail(error && error.code === "ERR_REQUIRE_ESM" ? "module" : syntax ? "syntax" : "throws", error);
}

try {
  if (!settings || typeof settings !== "object") {
    fail("no-settings", `it exports ${settings === null ? "null" : typeof settings}, not an object with settings`);
  }
  if (typeof settings.then === "function") fail("promise", "it exports a promise, which Node-RED does not wait for");
  const isModule = Object.prototype.toString.call(settings) === "[object Module]";
  if (isModule) fail("module", "it is an ES module with a default export, which Node-RED does not understand");
  const mark = settings[GUARD] || null;
  say({
    ok: true, guarded: Boolean(mark) && (mark.behind === true ? !isSet(settings.https) : typeof settings.https === "function"),
    behind: Boolean(mark) && mark.behind === true, bound: settings.uiHost === "127.0.0.1",
    guard: mark && typeof mark === "object" ? { site: text(mark.site, 64), version: Number(mark.version) || 0 } : null,
    settings: before || describe(settings), empty: Object.keys(settings).length === 0,
    node: process.versions.node, hostname: os.hostname(),
  });
} catch (error) {
  fail("throws", error);
}
process.exit(0);
