// The page that hands a key over. Whatever comes from the server is set as text, never as markup.
"use strict";

(() => {
  const key = RedlatchKey;
  const { WAYS, badToken, curl, detect, enroll, nss, powershell, steps, ways } = RedlatchPlatform;
  const $ = (id) => document.getElementById(id);
  const renewing = document.body.dataset.mode === "renew";
  const PATHS = renewing
    ? { redeem: "/renew", arrived: "/renew/arrived" }
    : { redeem: "/redeem", arrived: "/arrived", received: "/received" };
  const KEPT = "redlatch handed over"; // in this tab's storage: an iPhone reloads the page after a visit to Settings
  const POLL_MS = 2000;
  const POLLS = 450; // a quarter of an hour: as long as the server remembers
  const MAY = {
    owner: "can do everything, and give keys to others",
    admin: "can look at flows and change them",
    viewer: "can look at flows, and change nothing",
    user: "can open the dashboards",
    thing: "can reach what a rule names for it",
  };

  const token = location.hash.slice(1).trim();
  const here = detect({ ...readable(navigator), userAgentData: navigator.userAgentData });
  let offer = null;
  let lost = false; // a key may have been made whose answer did not arrive

  function readable({ userAgent, platform, maxTouchPoints }) {
    return { userAgent, platform, maxTouchPoints };
  }

  // --- small things

  function fill(root, texts) {
    for (const place of root.querySelectorAll("[data-text]")) {
      const text = texts[place.dataset.text];
      if (text !== undefined && text !== null) place.textContent = text;
    }
  }

  const clone = (id) => $(id).content.cloneNode(true);
  const say = (text) => { $("status").textContent = text; };
  const name = (title) => { $("title").textContent = title; document.title = title; };

  function focusTitle(title) {
    name(title);
    $("title").focus();
    scrollTo(0, 0);
  }

  function problem(title, hint, again = null) {
    $("problem-title").textContent = title;
    $("problem-hint").textContent = hint;
    $("again").hidden = again === null;
    $("again").onclick = () => {
      $("problem").hidden = true;
      again();
    };
    $("problem").hidden = false;
    $("problem").scrollIntoView({ block: "nearest" });
  }

  const sentence = (text) => (text ? `${text[0].toUpperCase()}${text.slice(1)}.` : "");

  // An answer of the server: {status, body}, body being its JSON. Rejects when there was none.
  async function post(path, body) {
    const response = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
      cache: "no-store",
      redirect: "error",
    });
    return { status: response.status, body: response.status === 204 ? null : await response.json() };
  }

  function refused({ status, body }, again) {
    const final = [403, 410].includes(status);
    const hint = body.error === "already-used" && lost
      ? "Its key got lost on the way, or somebody else has it. Say so to whoever sent it, and ask for a new one."
      : sentence(body.hint);
    problem(sentence(body.message || "That did not work"), hint, final ? null : again);
    if (final) $("offer").hidden = true;
  }

  function broke(again) {
    problem(
      navigator.onLine === false ? "This device is offline." : "The connection broke.",
      navigator.onLine === false
        ? "Connect it to the network again. The link waits for you until its end."
        : "Are you still in the right network? A link also ends when it is used or withdrawn, or when its time is over.",
      again,
    );
  }

  // --- the offer

  async function begin() {
    const found = document.body.dataset.offer;
    if (found) return show(JSON.parse(found));
    const bad = badToken(token);
    if (bad === "missing") return resume() || problem("Open the link that you were given.", "This page needs all of it, with what comes after the #.");
    if (bad) return problem("The link is not complete.", "Copy all of it, up to its last letter, or scan the code again.");
    try {
      const answer = await post("/offer", { token });
      if (answer.status !== 200) return refused(answer, begin);
      return show(answer.body);
    } catch {
      return broke(begin);
    }
  }

  const chosen = (what) => document.querySelector(`input[name=${what}]:checked`).value;

  function show(given) {
    offer = given;
    const until = offer.expires ? new Date(offer.expires).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }) : "";
    fill(document.body, { device: offer.device, until, may: MAY[offer.base] ?? "" });
    $("untrusted").hidden = offer.public || renewing;
    if (here.trouble) {
      $(`trouble-${here.trouble}`).hidden = false;
      $("get").className = "quiet";
    }
    document.querySelector(`input[name=platform][value=${here.platform}]`).checked = true;
    for (const input of document.querySelectorAll("input[name=platform]")) input.addEventListener("change", showWays);
    $("ways").addEventListener("change", showWay);
    $("offer").addEventListener("submit", submitted);
    showWays();
    $("offer").hidden = false;
  }

  function showWays() {
    // The commands are for a link; a renewal by a program is `redlatch enroll --renew`
    const found = ways(chosen("platform"), key.available).filter((way) => !(renewing && way === "command"));
    $("ways").replaceChildren(...found.map((way, number) => {
      const label = document.createElement("label");
      const input = Object.assign(document.createElement("input"), { type: "radio", name: "way", value: way });
      input.checked = number === 0;
      const text = document.createElement("span");
      text.append(clone(`way-${way}`));
      label.append(input, text);
      return label;
    }));
    showWay();
  }

  function showWay() {
    const [platform, way] = [chosen("platform"), chosen("way")];
    const command = way === "command";
    $("here").hidden = !WAYS[way].here;
    $("get").hidden = command;
    $("get").textContent = platform === here.platform
      ? `Get the key for this ${here.name}`
      : `Get the key for ${document.querySelector("input[name=platform]:checked + span").textContent}`;
    $("command").hidden = !command;
    if (command) showCommand();
  }

  function showCommand() {
    const text = clone("command-text");
    const about = { url: location.origin + PATHS.redeem, origin: location.origin, pin: offer.pin, token, known: offer.public };
    text.querySelector("#curl").textContent = curl(about);
    text.querySelector("#enroll").textContent = enroll(about);
    $("command").replaceChildren(text);
  }

  // --- the key

  async function submitted(event) {
    event.preventDefault();
    if ($("get").hidden) return;
    const [platform, way] = [chosen("platform"), chosen("way")];
    $("problem").hidden = true;
    $("get").disabled = true;
    say(WAYS[way].here ? "Making the key…" : "Waiting for the key…");
    try {
      await obtain(platform, way);
    } catch {
      lost = true; // or it was never made: the server knows
      broke(renewing ? null : begin);
      $("offer").hidden = !renewing;
    } finally {
      $("get").disabled = false;
      say("");
    }
  }

  async function obtain(platform, way) {
    const { here: pack, kind, format, key: wanted } = WAYS[way];
    const made = pack ? await key.makeKey(kind) : null;
    const asked = made ? { csr: key.base64(made.csr) } : { format, key: wanted };
    const answer = await post(PATHS.redeem, renewing ? asked : { token, ...asked });
    if (answer.status !== 200) {
      refused(answer, () => {});
      return;
    }
    // A used token is worth nothing; still, it need not stay in the history
    history.replaceState(null, "", location.pathname);
    const { body } = answer;
    const handed = made ? await packed(made, pack, body) : { files: body.files.map(fileOf), secret: body.password };
    if (PATHS.received) post(PATHS.received, { receipt: body.receipt }).catch(() => {});
    keep(body);
    present(platform, way, body, handed);
    if (body.profile) location.assign(body.profile);
  }

  const fileOf = ({ name: called, type, base64 }) => ({ name: called, type, bytes: key.fromBase64(base64) });
  const textOf = (file) => new TextDecoder().decode(file.bytes);

  // The files of a key that was made here, from the certificate that came back
  async function packed(made, pack, body) {
    const files = body.files.map(fileOf);
    const [certificate] = key.certificates(textOf(files.find((one) => one.name === "cert.pem")));
    const root = files.find((one) => one.name === "server-ca.pem");
    const trusted = root ? key.certificates(textOf(root)) : [];
    if (pack === "p12") {
      const secret = key.password();
      const bytes = await key.pkcs12({ keys: made.keys, certificate, trusted, name: body.device, secret });
      const out = [{ name: `${slug(body.device)}.p12`, type: "application/x-pkcs12", bytes }];
      trusted.forEach((bytes, number) => {
        out.push({ name: number ? `server-ca-${number + 1}.crt` : "server-ca.crt", type: "application/x-x509-ca-cert", bytes });
      });
      return { files: out, secret };
    }
    const plain = key.pem("PRIVATE KEY", await key.privateKey(made.keys));
    const texts = { client_cert: textOf(files[0]), client_key: plain };
    if (root) texts.server_ca = textOf(root);
    const encode = (called, text) => ({ name: called, type: "application/octet-stream", bytes: new TextEncoder().encode(text) });
    return { files: [encode("key.pem", plain), ...files, encode("redlatch_key.h", key.header(texts))], secret: null };
  }

  // A file name that is one everywhere
  const slug = (text) => text.normalize("NFKD").toLowerCase().replace(/['\u2019\u0300-\u036f]/g, "").replace(/[^a-z0-9]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 32) || "device";

  // --- what to do with it

  function saveLink(file, quiet) {
    const link = document.createElement("a");
    link.className = quiet ? "file quiet" : "file";
    link.href = URL.createObjectURL(new Blob([file.bytes], { type: file.type }));
    link.download = file.name;
    link.textContent = `Save ${file.name}`;
    link.addEventListener("click", () => removeEventListener("beforeunload", hold));
    return link;
  }

  const hold = (event) => event.preventDefault();

  function present(platform, way, body, { files, secret }) {
    const file = (ending) => files.find((one) => one.name.endsWith(ending))?.name;
    const lines = { name: file(".p12") ?? "", secret: secret ?? "", root: file(".crt") };
    const texts = {
      device: body.device,
      rootName: offer.root_name,
      notAfter: new Date(body.not_after).toLocaleDateString(),
      fingerprint: body.fingerprint,
      password: secret,
      powershell: powershell(lines),
      nss: nss(lines),
      use: useOf(body, Boolean(file("server-ca.pem"))),
    };
    const opening = platform !== "script" && body.next ? ["open"] : [];
    // Who renews came here over a connection that it trusts
    for (const step of [...steps(platform, way, offer.root && !renewing), ...opening]) {
      const item = document.createElement("li");
      item.append(clone(`step-${step}`));
      fill(item, texts);
      for (const place of item.querySelectorAll("[data-files]")) {
        const wanted = files.filter((one) => one.name.endsWith(place.dataset.files));
        place.append(...wanted.map((one) => saveLink(one, place.dataset.files !== ".p12")));
      }
      for (const link of item.querySelectorAll("[data-next]")) open(link, body.next);
      $("steps").append(item);
    }
    fill($("handed"), texts);
    $("offer").hidden = true;
    $("handed").hidden = false;
    if (!body.profile) addEventListener("beforeunload", hold);
    focusTitle("Your key is here");
    watch(body.receipt, body.device, POLLS);
  }

  function open(link, url) {
    Object.assign(link, { href: url, target: "_blank", rel: "noopener" });
  }

  function useOf(body, root) {
    const trust = root ? " --cacert server-ca.pem" : "";
    return `curl --cert cert.pem --key key.pem${trust} ${body.next ?? "https://…"}`;
  }

  // --- the tick

  async function watch(receipt, device, left) {
    if (left === 0) return;
    let answer = null;
    try {
      answer = await post(PATHS.arrived, { receipt });
    } catch {
      // Offline, or in Settings: it comes back, or it does not
    }
    if (answer?.status === 404) return;
    if (!answer?.body?.in) {
      setTimeout(() => watch(receipt, device, left - 1), POLL_MS);
      return;
    }
    const text = clone("tick-text");
    fill(text, { device });
    $("tick").replaceChildren(text);
    sessionStorage.removeItem(KEPT);
  }

  function keep(body) {
    const { receipt, device, next } = body;
    try {
      sessionStorage.setItem(KEPT, JSON.stringify({ receipt, device, next }));
    } catch {
      // Storage is switched off: then a reload shows no tick
    }
  }

  // After a reload: the key is out, what remains is to go in with it
  function resume() {
    let kept = null;
    try {
      kept = JSON.parse(sessionStorage.getItem(KEPT));
    } catch {
      return false;
    }
    if (!kept?.receipt) return false;
    const item = document.createElement("li");
    item.append(clone("step-open"));
    fill(item, kept);
    for (const link of item.querySelectorAll("[data-next]")) open(link, kept.next);
    if (kept.next) $("steps").append(item);
    document.querySelector("#handed > p").hidden = true;
    $("handed").hidden = false;
    name("Your key was handed over");
    watch(kept.receipt, kept.device, POLLS);
    return true;
  }

  // --- copying

  async function copy(button, text, place) {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      if (place) getSelection().selectAllChildren(place);
      button.textContent = place ? "Selected: copy it with your device's menu" : "Copy it from the address bar";
    }
  }

  document.addEventListener("click", ({ target }) => {
    if (!(target instanceof HTMLButtonElement)) return;
    if (target.dataset.copy) copy(target, $(target.dataset.copy).textContent, $(target.dataset.copy));
    if (target.hasAttribute("data-copy-link")) copy(target, location.href, null);
  });

  begin();
})();
