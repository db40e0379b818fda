// A key made where it stays: WebCrypto makes it, a PKCS#10 request (RFC 2986) leaves, a PKCS#12 file (RFC 7292) is
// built from what comes back. No dependency; the same in a page and in Node.js.
"use strict";

const RedlatchKey = (() => {
  const { subtle } = globalThis.crypto ?? {};

  // --- DER (X.690): what is written, and the little that is read

  const join = (parts) => {
    const all = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
    let at = 0;
    for (const part of parts) {
      all.set(part, at);
      at += part.length;
    }
    return all;
  };
  const der = (tag, ...parts) => {
    const content = join(parts);
    const { length } = content;
    if (length < 128) return join([[tag, length], content]);
    const octets = [];
    for (let rest = length; rest > 0; rest = Math.floor(rest / 256)) octets.unshift(rest % 256);
    return join([[tag, 0x80 | octets.length, ...octets], content]);
  };
  const sequence = (...parts) => der(0x30, ...parts);
  const set = (...parts) => der(0x31, ...parts);
  const octetString = (...parts) => der(0x04, ...parts);
  const bitString = (bytes) => der(0x03, [0], bytes);
  const NULL = [0x05, 0];

  // A positive INTEGER from its big-endian bytes: no needless zeros, and one where the first bit is set
  const integer = (bytes) => {
    let from = 0;
    while (from < bytes.length - 1 && bytes[from] === 0) from += 1;
    const kept = bytes.slice(from);
    return der(0x02, kept[0] > 127 ? [0, ...kept] : kept);
  };
  const number = (value) => {
    const octets = [];
    for (let rest = value; rest > 0; rest = Math.floor(rest / 256)) octets.unshift(rest % 256);
    return integer(octets.length ? octets : [0]);
  };
  const oid = (text) => {
    const [first, second, ...rest] = text.split(".").map(Number);
    const base128 = (value) => {
      const digits = [value % 128];
      for (let left = Math.floor(value / 128); left > 0; left = Math.floor(left / 128)) {
        digits.unshift(0x80 | (left % 128));
      }
      return digits;
    };
    return der(0x06, [first * 40 + second, ...rest.flatMap(base128)]);
  };
  const utf8 = (text) => new TextEncoder().encode(text);
  const bmp = (text) => [...Array(text.length).keys()].flatMap((at) => {
    const unit = text.charCodeAt(at);
    return [unit >> 8, unit & 255];
  });

  const OID = {
    commonName: "2.5.4.3",
    ecdsaSha256: "1.2.840.10045.4.3.2",
    rsaSha256: "1.2.840.113549.1.1.11",
    sha256: "2.16.840.1.101.3.4.2.1",
    hmacSha256: "1.2.840.113549.2.9",
    aes256: "2.16.840.1.101.3.4.1.42",
    pbkdf2: "1.2.840.113549.1.5.12",
    pbes2: "1.2.840.113549.1.5.13",
    data: "1.2.840.113549.1.7.1",
    encryptedData: "1.2.840.113549.1.7.6",
    friendlyName: "1.2.840.113549.1.9.20",
    localKeyId: "1.2.840.113549.1.9.21",
    x509Certificate: "1.2.840.113549.1.9.22.1",
    shroudedKeyBag: "1.2.840.113549.1.12.10.1.2",
    certBag: "1.2.840.113549.1.12.10.1.3",
  };

  // --- PEM (RFC 7468)

  const base64 = (bytes) => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
  const fromBase64 = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const pem = (label, bytes) => {
    const lines = base64(bytes).match(/.{1,64}/g);
    return [`-----BEGIN ${label}-----`, ...lines, `-----END ${label}-----`, ""].join("\n");
  };
  // Every certificate in a PEM text, as DER
  const certificates = (text) => {
    const found = text.matchAll(/-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----/g);
    return Array.from(found, ([, body]) => fromBase64(body.replace(/\s/g, "")));
  };

  // --- the key and its request

  // "p256", which all browsers can use, or "rsa2048" for what does not show other keys
  const KINDS = {
    p256: {
      make: { name: "ECDSA", namedCurve: "P-256" },
      sign: { name: "ECDSA", hash: "SHA-256" },
      algorithm: () => sequence(oid(OID.ecdsaSha256)),
      // WebCrypto gives r and s one after the other; X.509 has them as two INTEGERs (RFC 3279, 2.2.3)
      signature: (raw) => sequence(integer(raw.slice(0, 32)), integer(raw.slice(32))),
    },
    rsa2048: {
      make: {
        name: "RSASSA-PKCS1-v1_5", modulusLength: 2048, publicExponent: new Uint8Array([1, 0, 1]), hash: "SHA-256",
      },
      sign: { name: "RSASSA-PKCS1-v1_5" },
      algorithm: () => sequence(oid(OID.rsaSha256), NULL),
      signature: (raw) => raw,
    },
  };

  // A new pair of keys and the request that asks for its certificate: {keys, csr}, csr in DER.
  // The name in it is a constant: the server takes the public key and nothing else.
  async function makeKey(kind = "p256") {
    const { make, sign, algorithm, signature } = KINDS[kind];
    const keys = await subtle.generateKey(make, true, ["sign", "verify"]);
    const publicKey = new Uint8Array(await subtle.exportKey("spki", keys.publicKey));
    const subject = sequence(set(sequence(oid(OID.commonName), der(0x0c, utf8("device")))));
    const wanted = sequence(number(0), subject, publicKey, der(0xa0));
    const signed = new Uint8Array(await subtle.sign(sign, keys.privateKey, wanted));
    return { keys, csr: sequence(wanted, algorithm(), bitString(signature(signed))) };
  }

  // The private key as PKCS#8. Nothing in this file gives it to anybody but its caller.
  const privateKey = async (keys) => new Uint8Array(await subtle.exportKey("pkcs8", keys.privateKey));

  // --- the password: as pki.bundles.generate_password makes it, 15 of 24 letters, 68 bits

  const LETTERS = "abcdefghijkmnpqrstuvwxyz";

  function password() {
    const letters = [];
    while (letters.length < 15) {
      const [byte] = globalThis.crypto.getRandomValues(new Uint8Array(1));
      // 240 is ten times 24: what lies above would make some letters likelier than others
      if (byte < 240) letters.push(LETTERS[byte % 24]);
    }
    return letters.join("").match(/.{5}/g).join("-");
  }

  // --- PKCS#12

  // As pki.bundles: no emoji, nothing invisible, nothing beyond 16 bits (a friendlyName is a BMPString); never empty
  const friendly = (name) => {
    const kept = name.normalize("NFC").replace(/[\p{So}\p{Cc}\p{Cf}\p{Cs}\u{10000}-\u{10ffff}\ufe0e\ufe0f\u20e3]/gu, " ");
    return kept.split(/\s+/).filter(Boolean).join(" ").slice(0, 64) || "redlatch device";
  };

  const ROUNDS = 20000; // of PBKDF2; what guards the file is the password, for the MAC has fewer
  const MAC_ROUNDS = 2048; // as OpenSSL and pki.bundles write it: some readers take no more

  // PBES2 (RFC 8018, 6.2) with PBKDF2, HMAC-SHA-256 and AES-256-CBC
  async function encrypt(plain, secret) {
    const salt = globalThis.crypto.getRandomValues(new Uint8Array(16));
    const iv = globalThis.crypto.getRandomValues(new Uint8Array(16));
    const from = await subtle.importKey("raw", utf8(secret), "PBKDF2", false, ["deriveKey"]);
    const way = { name: "PBKDF2", hash: "SHA-256", salt, iterations: ROUNDS };
    const key = await subtle.deriveKey(way, from, { name: "AES-CBC", length: 256 }, false, ["encrypt"]);
    const sealed = new Uint8Array(await subtle.encrypt({ name: "AES-CBC", iv }, key, plain));
    const kdf = sequence(
      oid(OID.pbkdf2), sequence(octetString(salt), number(ROUNDS), number(32), sequence(oid(OID.hmacSha256), NULL)),
    );
    const cipher = sequence(oid(OID.aes256), octetString(iv));
    return { algorithm: sequence(oid(OID.pbes2), sequence(kdf, cipher)), sealed };
  }

  // The key of the MAC (RFC 7292, appendix B.2, ID 3): one block of SHA-256 is all that is needed
  async function macKey(secret, salt) {
    const fill = (bytes) => Uint8Array.from({ length: 64 * Math.ceil(bytes.length / 64) }, (_, at) => bytes[at % bytes.length]);
    let block = join([new Uint8Array(64).fill(3), fill(salt), fill(bmp(`${secret}\0`))]);
    for (let round = 0; round < MAC_ROUNDS; round += 1) block = new Uint8Array(await subtle.digest("SHA-256", block));
    return block;
  }

  // A PKCS#12 file: `keys` as makeKey gave them, `certificate` and `trusted` (a list, may be empty) in DER
  async function pkcs12({ keys, certificate, trusted, name, secret }) {
    const shownName = sequence(oid(OID.friendlyName), set(der(0x1e, bmp(friendly(name)))));
    const id = new Uint8Array(await subtle.digest("SHA-256", certificate)).slice(0, 20);
    const attributes = set(shownName, sequence(oid(OID.localKeyId), set(octetString(id))));
    const bag = (bytes, ...more) => sequence(
      oid(OID.certBag), der(0xa0, sequence(oid(OID.x509Certificate), der(0xa0, octetString(bytes)))), ...more,
    );
    const plainKey = await privateKey(keys);
    const key = await encrypt(plainKey, secret);
    plainKey.fill(0);
    const keyBag = sequence(
      oid(OID.shroudedKeyBag), der(0xa0, sequence(key.algorithm, octetString(key.sealed))), attributes,
    );
    const certs = await encrypt(sequence(bag(certificate, attributes), ...trusted.map((one) => bag(one))), secret);
    const encrypted = sequence(number(0), sequence(oid(OID.data), certs.algorithm, der(0x80, certs.sealed)));
    const safe = sequence(
      sequence(oid(OID.encryptedData), der(0xa0, encrypted)),
      sequence(oid(OID.data), der(0xa0, octetString(sequence(keyBag)))),
    );
    const salt = globalThis.crypto.getRandomValues(new Uint8Array(16));
    const hmac = { name: "HMAC", hash: "SHA-256" };
    const mac = await subtle.importKey("raw", await macKey(secret, salt), hmac, false, ["sign"]);
    const digest = new Uint8Array(await subtle.sign("HMAC", mac, safe));
    return sequence(
      number(3),
      sequence(oid(OID.data), der(0xa0, octetString(safe))),
      sequence(sequence(sequence(oid(OID.sha256), NULL), octetString(digest)), octetString(salt), number(MAC_ROUNDS)),
    );
  }

  // --- for microcontrollers: the PEM texts as C strings, name -> text

  function header(texts) {
    const lines = Object.entries(texts).flatMap(([name, text]) => [
      `static const char ${name}[] PROGMEM =`,
      ...text.trim().split("\n").map((line) => `  "${line.replace(/[^A-Za-z0-9+/= -]/g, "")}\\n"`),
      "  ;",
      "",
    ]);
    return [
      "// A key and its certificate: whoever has this file can do what the device may.",
      "#pragma once",
      "#ifndef PROGMEM",
      "#define PROGMEM",
      "#endif",
      "",
      ...lines,
    ].join("\n");
  }

  return { available: Boolean(subtle), base64, certificates, friendly, fromBase64, header, makeKey, password, pem, pkcs12, privateKey };
})();

if (typeof module !== "undefined") module.exports = RedlatchKey;
