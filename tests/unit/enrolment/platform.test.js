"use strict";

const { test } = require("node:test");
const assert = require("node:assert");
const { execFileSync } = require("node:child_process");
const fs = require("node:fs");
const path = require("node:path");

const HOME = path.join(__dirname, "../../../src/redlatch/service/enrolment");
const page = require(path.join(HOME, "static/platform.js"));

const AGENTS = {
  "iPhone, Safari": ["Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1", {}, "ios", "iPhone", null],
  "iPhone, Chrome": ["Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/140.0.7339.39 Mobile/15E148 Safari/604.1", {}, "ios", "iPhone", "safari"],
  "iPhone, Firefox": ["Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) FxiOS/143.0 Mobile/15E148 Safari/605.1.15", {}, "ios", "iPhone", "safari"],
  "iPhone, Edge": ["Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 EdgiOS/140.0 Mobile/15E148 Safari/604.1", {}, "ios", "iPhone", "safari"],
  "iPhone, an app": ["Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 [FBAN/FBIOS]", {}, "ios", "iPhone", "safari"],
  "iPad as an iPad": ["Mozilla/5.0 (iPad; CPU OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1", {}, "ios", "iPad", null],
  "iPad as a Mac": ["Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15", { platform: "MacIntel", maxTouchPoints: 5 }, "ios", "iPad", null],
  "Mac, Safari": ["Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15", { platform: "MacIntel", maxTouchPoints: 0 }, "mac", "Mac", null],
  "Mac, Chrome": ["Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36", { userAgentData: { platform: "macOS" } }, "mac", "Mac", null],
  "Mac, Firefox": ["Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:143.0) Gecko/20100101 Firefox/143.0", {}, "firefox", "Firefox", null],
  "Android, Chrome": ["Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Mobile Safari/537.36", { userAgentData: { platform: "Android" } }, "android", "phone", null],
  "Android tablet": ["Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36", {}, "android", "tablet", null],
  "Android, Samsung": ["Mozilla/5.0 (Linux; Android 14; SAMSUNG SM-S918B) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/28.0 Chrome/130.0.0.0 Mobile Safari/537.36", {}, "android", "phone", null],
  "Android, Firefox": ["Mozilla/5.0 (Android 14; Mobile; rv:143.0) Gecko/143.0 Firefox/143.0", {}, "android", "phone", "chrome"],
  "Android, an app": ["Mozilla/5.0 (Linux; Android 14; Pixel 8; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/140.0.0.0 Mobile Safari/537.36", {}, "android", "phone", "chrome"],
  "Windows, Edge": ["Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0", { maxTouchPoints: 10 }, "windows", "PC", null],
  "Windows, Firefox": ["Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:143.0) Gecko/20100101 Firefox/143.0", {}, "firefox", "Firefox", null],
  "Linux, Chrome": ["Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36", {}, "linux", "computer", null],
  ChromeOS: ["Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36", {}, "linux", "computer", null],
  nothing: ["", {}, "linux", "computer", null],
};

test("devices and browsers are told apart", () => {
  for (const [what, [userAgent, more, platform, name, trouble]] of Object.entries(AGENTS)) {
    assert.deepStrictEqual(page.detect({ userAgent, ...more }), { platform, name, trouble }, what);
  }
  assert.strictEqual(page.detect().platform, "linux");
});

test("a token is 26 characters of base32, and all else needs no server to be none", () => {
  for (const [token, bad] of [
    ["", "missing"], ["a".repeat(26), null], ["ABCDEFGHIJKLMNOPQRSTUVWXYZ", null], ["a".repeat(25), "cut"],
    ["a".repeat(27), "cut"], ["1".repeat(26), "cut"], [`${"a".repeat(25)}\n`, "cut"], ["é".repeat(26), "cut"],
  ]) assert.strictEqual(page.badToken(token), bad, token);
});

test("every way of every platform has its steps and its words in the page", () => {
  const html = fs.readFileSync(path.join(HOME, "templates/enrol.html"), "utf8");
  const there = new Set(Array.from(html.matchAll(/<template id="([a-z0-9-]+)">/g), ([, id]) => id));
  const used = new Set(["step-open", "command-text", "tick-text"]);
  for (const platform of Object.keys(page.PLATFORMS)) {
    assert.match(html, new RegExp(`name="platform" value="${platform}"`));
    for (const crypto of [true, false]) {
      const ways = page.ways(platform, crypto);
      assert.ok(ways.length > 0, platform);
      for (const way of ways) {
        used.add(`way-${way}`);
        assert.ok(crypto || !page.WAYS[way].here, way);
        if (way === "command") continue;
        for (const root of [true, false]) {
          const steps = page.steps(platform, way, root);
          for (const step of steps) used.add(`step-${step}`);
          assert.strictEqual(steps.some((step) => /^(root|trust)-/.test(step)), root && platform !== "script", `${platform} ${way}`);
        }
      }
    }
  }
  assert.deepStrictEqual([...used].sort(), [...there].sort());
});

const HOSTILE = ["it's", "$(id) `id` $HOME", "\\ \" ; & | < > *", "‘typographic’", "a\nb", "'; rm -rf ~; '"];

test("a shell reads back what was quoted for it", () => {
  for (const text of HOSTILE) {
    assert.strictEqual(execFileSync("sh", ["-c", `printf %s ${page.forShell(text)}`], { encoding: "utf8" }), text);
  }
});

test("PowerShell's single quotes are doubled, the typographic ones too", () => {
  assert.strictEqual(page.forPowerShell("it's ‘x’ ‚y‛"), "'it''s ‘‘x’’ ‚‚y‛‛'");
  for (const text of HOSTILE) {
    const inner = page.forPowerShell(text).slice(1, -1);
    assert.ok(!/['‘’‚‛]/.test(inner.replace(/(['‘’‚‛])\1/g, "")), text);
  }
});

test("what is to be copied holds what it needs, and the root only where there is one", () => {
  const lines = page.powershell({ name: "x.p12", secret: "abcde-fghij-kmnpq", root: "server-ca.crt" });
  assert.match(lines, /^Import-PfxCertificate .*Cert:\\CurrentUser\\My -Password \(ConvertTo-SecureString 'abcde-fghij-kmnpq'/);
  assert.match(lines, /\nImport-Certificate .*'Downloads\\server-ca.crt'\) -CertStoreLocation Cert:\\CurrentUser\\Root$/);
  assert.doesNotMatch(page.powershell({ name: "x.p12", secret: "s", root: undefined }), /Root/);
  assert.match(page.nss({ name: "x.p12", secret: "s", root: "ca.crt" }), /pk12util .* -i ~\/Downloads\/'x.p12' -W 's'\ncertutil .* -t C,, /);
  assert.doesNotMatch(page.nss({ name: "x.p12", secret: "s" }), /certutil/);
  const about = { url: "https://pi.local:1882/redeem", pin: "sha256//x=", token: "t" };
  assert.match(page.curl({ ...about, known: false }), /--insecure --pinnedpubkey 'sha256\/\/x='/);
  assert.doesNotMatch(page.curl({ ...about, known: true }), /--insecure/);
});
