"use strict";
// The decision: the compiled form of redlatch.policy.decide (Python), which is the specification. Both run
// tests/vectors/decide.json. Pure: no clock, no file, no socket.
//
// Who asks and from where stay the same for a whole connection. So the rules that apply to it are found once and put
// together as Grants; those are shared by all connections with the same rules, and keep what they reach per path. A
// request then costs one look-up, whatever the number of rules, networks and devices.

const { isIPv4, isIPv6 } = require("node:net");
const { wordsOf } = require("./networks.js");
const { below, classify, isCanonical, isEditors, isTarget, pathOf } = require("./paths.js");

const CACHED = 1024; // paths per generation
const CACHED_LENGTH = 256;
const MOST_GRANTS = 1024; // combinations of rules that are kept

const HOST = /^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::[0-9]{1,5})?$/;

const BITS = { GET: 1, HEAD: 2, POST: 4, PUT: 8, DELETE: 16, PATCH: 32, OPTIONS: 64 };
const READS = BITS.GET | BITS.HEAD;
const OTHER = 128; // any other method: only a rule for all methods lets it through
const EVERY = 255;
const WEBSOCKET = 256;
const BAD = -1;

const bitOf = (method) => (Object.hasOwn(BITS, method) ? BITS[method] : OTHER);
const isEditor = (area) => area === "editor" || area === "editor-read";

/** One rule, ready to be matched. */
class Rule {
  constructor(rule, networks) {
    this.id = rule.id;
    this.roles = new Set(rule.roles);
    this.devices = new Set(rule.devices);
    this.anyDevice = rule.any_device;
    this.anyone = rule.anyone;
    this.everywhere = rule.networks.length === 0;
    // A network that is not there holds nobody
    this.networks = rule.networks.filter((name) => networks.has(name)).map((name) => networks.get(name));
    this.area = rule.area;
    this.path = rule.path;
    this.methods = rule.methods.length === 0 ? EVERY : 0;
    for (const method of rule.methods) this.methods |= method === "GET" ? READS : bitOf(method);
    if (rule.area === "editor-read") this.methods &= READS;
  }

  /** `isNamed`: whether a rule may name this path at all, see mayBeNamed. */
  reaches(path, area, isNamed) {
    if (this.path !== null) return isNamed && below(path, this.path);
    if (this.area === "editor") return isEditor(area);
    return this.area === "all" || this.area === area;
  }
}

/** Only areas reach what the editor owns and what is not canonical. */
const mayBeNamed = (path, adminRoot) => isCanonical(path) && !isEditors(path, adminRoot);

/** What the rules that apply to a connection let through. */
class Grants {
  constructor(snapshot, rules) {
    this.snapshot = snapshot;
    this.rules = rules;
    this.isEmpty = rules.length === 0;
    this.permission = permissionOf(rules);
    this.young = new Map(); // path -> bits, two generations: bounded, and no bookkeeping per look-up
    this.old = new Map();
  }

  /** The methods that may be used on a target (with WEBSOCKET: and an upgrade), or BAD. */
  reach(target) {
    const query = target.indexOf("?");
    if (query < 0) return this.reachOf(target, target);
    return isTarget(target) ? this.reachOf(target.slice(0, query), target) : BAD;
  }

  reachOf(path, target) {
    let found = this.young.get(path);
    if (found !== undefined) return found;
    found = this.old.get(path);
    if (found === undefined) found = this.judge(path);
    if (target.length <= CACHED_LENGTH) { // of the target: its path may be a slice that keeps all of it in memory
      if (this.young.size >= CACHED) {
        this.old = this.young;
        this.young = new Map();
      }
      this.young.set(path, found);
    }
    return found;
  }

  judge(path) {
    if (!isTarget(path)) return BAD;
    const { admin_root: adminRoot, areas } = this.snapshot;
    const plain = classify(path, false, adminRoot, areas);
    const upgraded = classify(path, true, adminRoot, areas);
    const isNamed = mayBeNamed(path, adminRoot);
    let bits = 0;
    for (const rule of this.rules) {
      if (rule.reaches(path, plain, isNamed)) bits |= rule.methods;
      if (rule.reaches(path, upgraded, isNamed) && rule.methods & BITS.GET) bits |= WEBSOCKET;
    }
    return bits;
  }
}

/** What Node-RED's editor is told: "*", "read" or null. */
function permissionOf(rules) {
  const reading = rules.filter((rule) => isEditor(rule.area) || rule.area === "all");
  if (reading.some((rule) => rule.methods === EVERY)) return "*";
  return reading.some((rule) => rule.methods & BITS.GET) ? "read" : null;
}

/** One snapshot, ready to judge. A new snapshot is a new Policy: whoever holds an older one asks again. */
class Policy {
  /** `snapshot` as snapshot.js loads it: `devices` has get(fingerprint), `networks` is a Map of Networks. */
  constructor(snapshot) {
    this.snapshot = snapshot;
    this.names = new Set(snapshot.names);
    this.origins = new Set(snapshot.origins);
    this.rules = snapshot.rules.map((rule) => new Rule(rule, snapshot.networks));
    this.hasAnyone = this.rules.some((rule) => rule.anyone);
    this.likes = new Map(Object.entries(snapshot.roles));
    this.grantsOf = new Map(); // which rules -> Grants
    this.lastHost = undefined; // the Host header seen last, and the origin that it names when it is ours
    this.lastOrigin = undefined;
    this.ancestors = this.origins.size === 0 ? null : `frame-ancestors 'self' ${snapshot.origins.join(" ")}`;
  }

  /** The later of clock and snapshot: a clock set back revives nothing. Unix seconds. */
  now(clock) {
    return Math.max(clock, this.snapshot.time);
  }

  entry(fingerprint) {
    return this.snapshot.devices.get(fingerprint) || null;
  }

  /** Why this certificate makes its holder no device, or null. Identity is the fingerprint alone. */
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

  /** Whether a rule speaks of who asks: `entry` of a device, null of anybody else. */
  speaksOf(rule, entry, byOpenPort) {
    if (rule.anyone && (entry !== null || byOpenPort || this.snapshot.open_port === null)) return true;
    if (entry === null) return false;
    return (
      rule.anyDevice || rule.devices.has(entry.id) || rule.roles.has(entry.role) ||
      rule.roles.has(this.likes.get(entry.role))
    );
  }

  /** The Grants of whoever asks from `address`. */
  grants(entry, address, byOpenPort) {
    let words; // of the address, once a rule asks for it
    const applying = this.rules.filter((rule) => {
      if (!this.speaksOf(rule, entry, byOpenPort)) return false;
      if (rule.everywhere) return true;
      if (words === undefined) words = wordsOf(address);
      return words !== null && rule.networks.some((network) => network.has(words));
    });
    const key = applying.map((rule) => rule.id).join();
    let found = this.grantsOf.get(key);
    if (found === undefined) {
      found = new Grants(this.snapshot, applying);
      if (this.grantsOf.size >= MOST_GRANTS) this.grantsOf.delete(this.grantsOf.keys().next().value);
      this.grantsOf.set(key, found);
    }
    return found;
  }

  /** Whether somebody without a certificate may have business here: then the handshake must not insist on one. */
  mayComeWithout(address, byOpenPort) {
    return this.hasAnyone && !this.grants(null, address, byOpenPort).isEmpty;
  }

  /**
   * "ok", or why nobody may send this, or null where no rule admits it. `upgrade` is the Upgrade header, undefined when
   * there is none. The line that every request runs through: keep it short.
   */
  verdict(grants, method, target, headers, upgrade) {
    const host = headers.host;
    const own = host !== undefined && host === this.lastHost ? this.lastOrigin : this.originOf(host);
    if (own === null) return "foreign-host";
    const reach = grants.reach(target);
    if (reach === BAD) return "bad-target";
    if (upgrade !== undefined || method === "CONNECT") {
      if (method !== "GET" || upgrade.toLowerCase() !== "websocket") return "bad-upgrade";
    }
    const { origin } = headers;
    if (origin !== undefined) {
      if (origin !== own && !this.origins.has(origin)) return "cross-origin";
    } else {
      const site = headers["sec-fetch-site"];
      if (site !== undefined && site !== "same-origin" && site !== "none") {
        if (!this.isNavigation(method, headers, upgrade)) return "cross-origin";
      }
    }
    return (upgrade === undefined ? reach & bitOf(method) : reach & WEBSOCKET) === 0 ? null : "ok";
  }

  /** Whether a request comes from a page of ours: nothing of this is a permission. */
  isOwnPage(headers) {
    const own = this.originOf(headers.host);
    return own !== null && (headers.origin === undefined ? headers["sec-fetch-site"] === "same-origin" : headers.origin === own);
  }

  /** Another page may send a person here (a link), never write or load us into itself, but for the origins named. */
  isNavigation(method, headers, upgrade) {
    const dest = headers["sec-fetch-dest"];
    const shown = dest === "document" || (dest === "iframe" && this.origins.size > 0);
    const navigates = headers["sec-fetch-mode"] === "navigate" && shown;
    return navigates && (method === "GET" || method === "HEAD") && upgrade === undefined;
  }

  /** Why a device that no rule admits is refused: the nearest rule says it best. */
  refusal(entry, grants, byOpenPort, method, target, upgrade) {
    const path = pathOf(target);
    const { admin_root: adminRoot, areas } = this.snapshot;
    const area = classify(path, upgrade !== undefined, adminRoot, areas);
    if (!(bitOf(method) & READS) && isEditor(area) && grants.rules.some((rule) => rule.area === "editor-read")) {
      return "read-only";
    }
    const isNamed = mayBeNamed(path, adminRoot);
    const reaching = this.rules.filter(
      (rule) => this.speaksOf(rule, entry, byOpenPort) && rule.reaches(path, area, isNamed),
    );
    if (reaching.some((rule) => grants.rules.includes(rule))) return "wrong-method";
    return reaching.some((rule) => rule.methods & bitOf(method)) ? "wrong-network" : "no-rule";
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
  const stranger = policy.certificate(facts.certificate, facts.verified, facts.now);
  const entry = stranger === null ? policy.entry(facts.certificate) : null;
  const grants = policy.grants(entry, facts.peer, facts.by_open_port);
  if (stranger !== null && grants.isEmpty) return stranger;
  return (
    policy.verdict(grants, facts.method, facts.target, headers, upgrade) ||
    stranger ||
    policy.refusal(entry, grants, facts.by_open_port, facts.method, facts.target, upgrade)
  );
}

module.exports = { Policy, decide, pathOf };
