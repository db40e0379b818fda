// The page of a link that works once. Whatever comes from the server is set as text, never as markup.
"use strict";

(() => {
  const $ = (id) => document.getElementById(id);
  const show = (id) => { $(id).hidden = false; };
  const hide = (id) => { $(id).hidden = true; };

  function problem(text) {
    $("problem").textContent = text;
    show("problem");
  }

  const HOW = {
    ios: [
      "Open the .p12 in Files, then Settings, Profile Downloaded, Install, and type the password.",
      "Use Safari: on iPhone and iPad other browsers do not see installed keys.",
    ],
    android: [
      "Open the .p12 from your downloads, type the password and choose “VPN and app user certificate”.",
    ],
    mac: ["Open the .p12. Keychain Access asks for the password; choose the keychain “login”."],
    windows: ["Open the .p12, choose “Current user” and type the password. Firefox has its own list: Settings, Certificates."],
    other: ["In the browser: Settings, search for “certificates”, Your certificates, Import, and type the password."],
  };
  const TRUST = {
    ios: "To be rid of the browser's warning install server-ca.crt too, then switch it on under Settings, General, About, Certificate Trust Settings.",
    android: "To be rid of the browser's warning install server-ca.crt too: Settings, search for “CA certificate”.",
    other: "To be rid of the browser's warning import server-ca.crt as an authority for websites too. It can vouch for this site only.",
  };

  function platform() {
    const agent = navigator.userAgent;
    if (/iPhone|iPad|iPod/.test(agent)) return "ios";
    if (/Android/.test(agent)) return "android";
    if (/Macintosh/.test(agent)) return navigator.maxTouchPoints > 1 ? "ios" : "mac";
    if (/Windows/.test(agent)) return "windows";
    return "other";
  }

  function post(path, body) {
    return fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
      cache: "no-store",
      redirect: "error",
    });
  }

  function fileLink(file, quiet) {
    const bytes = Uint8Array.from(atob(file.base64), (c) => c.charCodeAt(0));
    const link = document.createElement("a");
    link.className = quiet ? "file quiet" : "file";
    link.href = URL.createObjectURL(new Blob([bytes], { type: file.type }));
    link.download = file.name;
    link.textContent = `Save ${file.name}`;
    return link;
  }

  function paragraphs(parent, texts) {
    for (const text of texts) {
      const p = document.createElement("p");
      p.textContent = text;
      parent.append(p);
    }
  }

  function handed(answer) {
    const pem = answer.password === null;
    answer.files.forEach((file) => $("files").append(fileLink(file, !pem && file.name.endsWith(".crt"))));
    $("password").textContent = answer.password ?? "";
    $("device").textContent = answer.device;
    $("until").textContent = new Date(answer.not_after).toLocaleDateString();
    $("fingerprint").textContent = answer.fingerprint;
    if (pem) {
      hide("password-step");
      hide("install-step");
    } else {
      const here = platform();
      paragraphs($("how"), HOW[here]);
      if (answer.files.some((file) => file.name.endsWith(".crt"))) paragraphs($("how"), [TRUST[here] ?? TRUST.other]);
    }
    if (answer.next) {
      $("next").href = answer.next;
      $("next").textContent = answer.next;
    } else {
      hide("next-step");
    }
    $("title").textContent = "Your key is here";
    document.title = "Your key is here";
    hide("offer");
    hide("problem");
    show("handed");
    $("title").tabIndex = -1;
    $("title").focus();
  }

  const token = location.hash.slice(1);
  if (!token) {
    problem("The link is not complete: take all of it from the terminal, up to its last letter.");
    return;
  }
  show("offer");

  $("get").addEventListener("click", async () => {
    $("get").disabled = true;
    try {
      const format = document.querySelector("input[name=format]:checked").value;
      const response = await post("/redeem", { token, format });
      const answer = await response.json();
      if (!response.ok) {
        problem(answer.message);
        $("get").disabled = response.status === 410;
        return;
      }
      // A used token is worth nothing; still, it need not stay in the history.
      history.replaceState(null, "", location.pathname);
      handed(answer);
      await post("/received", { receipt: answer.receipt }).catch(() => {});
    } catch {
      problem("The link cannot be reached any more: it was used, it has expired, or it was stopped in the terminal.");
      $("get").disabled = false;
    }
  });

  $("copy").addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText($("password").textContent);
      $("copy").textContent = "Copied";
    } catch {
      getSelection().selectAllChildren($("password"));
      $("copy").textContent = "Selected: copy it with your device's menu";
    }
  });
})();
