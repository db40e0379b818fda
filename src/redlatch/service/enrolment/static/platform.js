// Which device this is, which ways there are for it to get its key, and the steps of each. Data, and no more code than
// it takes to tell one browser from another; the same in a page and in Node.js.
"use strict";

const RedlatchPlatform = (() => {
  // What the big button does, by name:
  //   format: the server makes the key, and sends this kind of file; key: which kind of key, where not P-256
  //   here: this page makes the key, and packs it as "p12" or "pem"; kind: which kind of key, where not P-256
  const WAYS = {
    profile: { format: "mobileconfig" },
    p12: { format: "p12" },
    "p12-rsa": { format: "p12", key: "rsa2048" },
    "p12-modern": { format: "p12-modern" },
    page: { here: "p12" },
    "page-rsa": { here: "p12", kind: "rsa2048" },
    command: {},
    "page-pem": { here: "pem" },
    pem: { format: "pem" },
  };

  // The first way is the one that is offered. `steps` name templates in the page; `root` is the step for the server's
  // root, which is left out where the server's certificate is a public one.
  const file = ["save", "password"];
  const PLATFORMS = {
    ios: {
      ways: ["profile", "p12"],
      steps: { profile: ["allow", "profile-ios"], p12: [...file, "p12-ios"] },
      root: { profile: "trust-ios", p12: "root-ios" },
    },
    mac: {
      ways: ["profile", "p12"],
      steps: { profile: ["allow", "profile-mac"], p12: [...file, "p12-mac"] },
      root: { profile: "trust-mac", p12: "root-mac" },
    },
    android: {
      ways: ["p12", "p12-rsa"],
      steps: { p12: [...file, "android"], "p12-rsa": [...file, "android"] },
      root: "root-android",
    },
    windows: {
      ways: ["page", "page-rsa", "p12", "p12-modern"],
      steps: [...file, "windows"],
      root: "root-windows",
    },
    linux: {
      ways: ["page", "page-rsa", "p12-modern", "p12"],
      steps: [...file, "linux"],
      root: "root-linux",
    },
    firefox: {
      ways: ["page", "page-rsa", "p12-modern", "p12"],
      steps: [...file, "firefox"],
      root: "root-firefox",
    },
    script: {
      ways: ["command", "page-pem", "pem"],
      steps: ["pem", "use-pem"],
      root: null,
    },
  };

  // The ways that this browser can go: without WebCrypto (no secure context) the server makes the key
  const ways = (platform, crypto) =>
    PLATFORMS[platform].ways.filter((way) => (WAYS[way].here ? crypto : way !== "pem" || !crypto));

  // The steps after a key was handed over, in their order
  function steps(platform, way, root) {
    const { steps: first, root: trust } = PLATFORMS[platform];
    const last = root && trust !== null ? [typeof trust === "string" ? trust : trust[way]] : [];
    const begin = Array.isArray(first) ? first : first[way];
    // A profile is opened right away and holds the root; elsewhere a device should know the server before it goes there
    return [...begin, ...last];
  }

  // {platform, name, trouble}: `name` is what to call the device, `trouble` a warning that the page shows, or null
  function detect({ userAgent = "", platform = "", maxTouchPoints = 0, userAgentData = null } = {}) {
    const system = userAgentData?.platform || "";
    const says = (pattern) => pattern.test(userAgent);
    // iPadOS says that it is a Mac; no Mac has a touch screen
    const iPad = says(/iPad/) || (says(/Macintosh/) && platform !== "iPhone" && maxTouchPoints > 1);
    if (iPad || says(/iPhone|iPod/)) {
      // Every browser on iOS has its own name in there; Safari alone says Version and nothing else (web views don't)
      const other = says(/CriOS|FxiOS|EdgiOS|OPiOS|OPT\/|OPX\/|GSA\/|DuckDuckGo|Ddg\/|YaBrowser|Brave|Focus\/|FBA[NV]|Instagram|Line\/|MicroMessenger/)
        || !says(/Version\/[\d.]+.* Safari\//);
      return { platform: "ios", name: iPad ? "iPad" : "iPhone", trouble: other ? "safari" : null };
    }
    if (system === "Android" || says(/Android/)) {
      const trouble = says(/Firefox\//) || says(/; wv\)/) ? "chrome" : null;
      return { platform: "android", name: says(/Mobile/) ? "phone" : "tablet", trouble };
    }
    if (says(/Firefox\//) && !says(/Seamonkey/i)) return { platform: "firefox", name: "Firefox", trouble: null };
    if (system === "Windows" || says(/Windows/)) return { platform: "windows", name: "PC", trouble: null };
    if (system === "macOS" || says(/Macintosh/)) return { platform: "mac", name: "Mac", trouble: null };
    if (says(/curl|Wget|python|ESP/i)) return { platform: "script", name: "device", trouble: null };
    return { platform: "linux", name: "computer", trouble: null };
  }

  // A token is 128 bits in base32 (RFC 4648, 6): what is none needs no server to say so. "missing", "cut" or null
  function badToken(token) {
    if (!token) return "missing";
    return /^[a-z2-7]{26}$/i.test(token) ? null : "cut";
  }

  // Quoted for a POSIX shell, and for PowerShell, to which the typographic quotes are quotes too
  const forShell = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const forPowerShell = (text) => `'${text.replace(/['\u2018\u2019\u201a\u201b]/g, "$&$&")}'`;

  // The lines that a person copies. None of them holds the token as a word of a program's command line: printf is the
  // shell's own, and --insecure only leaves to the pin what the pin checks.
  function curl({ url, pin, token, known }) {
    const request = "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -subj /CN=device -out device.csr";
    const trust = known ? "" : "--insecure ";
    return [
      `umask 077 && ${request} &&`,
      `printf 'Authorization: Bearer %s' ${forShell(token)} |`,
      `curl -sS --fail-with-body ${trust}--pinnedpubkey ${forShell(pin)} -H @- -H 'Content-Type: application/pkcs10' --data-binary @device.csr -o cert.pem ${forShell(url)}`,
    ].join(" \\\n  ");
  }
  const enroll = ({ origin, pin, token }) =>
    `printf %s ${forShell(`${origin}/#${token}`)} |\\\n  redlatch enroll - --pin ${forShell(pin)} --out device`;

  function powershell({ name, secret, root }) {
    const path = (one) => `(Join-Path $HOME ${forPowerShell(`Downloads\\${one}`)})`;
    const password = `(ConvertTo-SecureString ${forPowerShell(secret)} -AsPlainText -Force)`;
    const lines = [`Import-PfxCertificate -FilePath ${path(name)} -CertStoreLocation Cert:\\CurrentUser\\My -Password ${password}`];
    if (root) lines.push(`Import-Certificate -FilePath ${path(root)} -CertStoreLocation Cert:\\CurrentUser\\Root`);
    return lines.join("\n");
  }

  function nss({ name, secret, root }) {
    const store = 'sql:"$HOME/.pki/nssdb"';
    const lines = [`pk12util -d ${store} -i ~/Downloads/${forShell(name)} -W ${forShell(secret)}`];
    if (root) lines.push(`certutil -d ${store} -A -n redlatch -t C,, -i ~/Downloads/${forShell(root)}`);
    return lines.join("\n");
  }

  return { PLATFORMS, WAYS, badToken, curl, detect, enroll, forPowerShell, forShell, nss, powershell, steps, ways };
})();

if (typeof module !== "undefined") module.exports = RedlatchPlatform;
