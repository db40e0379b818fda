"use strict";
// key.js as a page uses it, for a test in another language: one JSON document a line in, one a line out.
//   {make: KIND}                              -> {csr}
//   {name, certificate, trusted, secret?}     -> {p12, secret, key, header}      (everything in base64 but header)

const readline = require("node:readline");
const key = require(process.argv[2]);

let made;
const answers = {
  async make({ make }) {
    made = await key.makeKey(make);
    return { csr: key.base64(made.csr) };
  },
  async pack({ name, certificate, trusted, secret = key.password() }) {
    const p12 = await key.pkcs12({
      keys: made.keys, certificate: key.fromBase64(certificate), trusted: trusted.map(key.fromBase64), name, secret,
    });
    const plain = await key.privateKey(made.keys);
    const header = key.header({ client_key: key.pem("PRIVATE KEY", plain) });
    return { p12: key.base64(p12), secret, key: key.base64(plain), header };
  },
};

readline.createInterface({ input: process.stdin }).on("line", async (line) => {
  const asked = JSON.parse(line);
  process.stdout.write(`${JSON.stringify(await answers[asked.make ? "make" : "pack"](asked))}\n`);
});
