// What htmx cannot say by attributes: when to rest, what an error of a poll means, and copying.
"use strict";
(() => {
  let paused = false;

  document.addEventListener("htmx:beforeRequest", (event) => {
    const poll = event.target.hasAttribute("data-poll");
    if (poll && (document.hidden || (paused && event.target.closest("#rows")))) event.preventDefault();
  });

  document.addEventListener("htmx:beforeSwap", (event) => {
    const { xhr, requestConfig } = event.detail;
    if (xhr.status < 400 || !requestConfig.elt.hasAttribute("data-poll")) return;
    event.detail.shouldSwap = false; // an error page is no row of a table
    if (xhr.status === 403) location.reload(); // the key is no longer good: say so
  });

  document.addEventListener("htmx:afterSwap", () => {
    const rows = document.getElementById("rows");
    if (!rows) return;
    while (rows.rows.length > 501) rows.lastElementChild.remove();
    if (rows.rows.length > 1) document.querySelector("[data-until-rows]")?.remove();
  });

  const show = () => document.querySelectorAll("[data-copy], [data-pause]").forEach((one) => (one.hidden = false));
  document.addEventListener("htmx:afterSettle", show);
  show();

  document.addEventListener("click", (event) => {
    const pause = event.target.closest("[data-pause]");
    if (pause) {
      paused = !paused;
      pause.setAttribute("aria-pressed", String(paused));
    }
    const copy = event.target.closest("[data-copy]");
    if (copy) {
      const text = document.querySelector(copy.dataset.copy).textContent;
      navigator.clipboard.writeText(text).then(
        () => (copy.textContent = "Copied"),
        () => (copy.textContent = "Mark it and copy by hand"),
      );
    }
  });
})();
