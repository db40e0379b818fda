"use strict";
// The server's key and certificate, and the CA of the devices: checked before Node.js gets them, because
// setSecureContext takes a garbled `ca` without a word and then refuses everybody (measured, Node.js 20 to 24).

const crypto = require("node:crypto");
const tls = require("node:tls");
const { readFile } = require("./snapshot.js");

const MAX_BYTES = 1024 * 1024;
const CERTIFICATE = /-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----/g;
const KEY = /-----BEGIN (?:EC |RSA )?PRIVATE KEY-----[A-Za-z0-9+/=\s]+-----END (?:EC |RSA )?PRIVATE KEY-----/;

/** server.pem -> {key, cert, notAfter (Unix seconds)}; throws an Error without anything of the key in it. */
function loadServer(path) {
  const text = readFile(path, MAX_BYTES).toString("latin1");
  const key = KEY.exec(text);
  const chain = text.match(CERTIFICATE);
  if (key === null) throw new Error("it holds no private key");
  if (chain === null) throw new Error("it holds no certificate");
  const pair = { key: key[0], cert: chain.join("\n") + "\n" };
  let notAfter;
  try {
    tls.createSecureContext(pair); // also finds a key that does not belong to the certificate
    notAfter = Date.parse(new crypto.X509Certificate(chain[0]).validTo);
  } catch {
    throw new Error("its key and certificate cannot be used together");
  }
  if (Number.isNaN(notAfter)) throw new Error("its certificate has no end that can be read");
  return { ...pair, notAfter: Math.floor(notAfter / 1000) };
}

/** device-ca.pem -> the CA certificates, PEM, one string each, never none. */
function loadDeviceCa(path) {
  const found = readFile(path, MAX_BYTES).toString("latin1").match(CERTIFICATE);
  if (found === null) throw new Error("it holds no certificate");
  for (const pem of found) {
    let certificate;
    try {
      certificate = new crypto.X509Certificate(pem);
    } catch {
      throw new Error("it holds a certificate that cannot be read");
    }
    if (!certificate.ca) throw new Error("it holds a certificate that is no CA's");
  }
  return found;
}

module.exports = { loadServer, loadDeviceCa };
