// Optional comfort: reloads the overview while it is being looked at. Every page works without this file.
"use strict";
(() => {
  const button = document.querySelector("[data-refresh]");
  if (!button) return;
  const seconds = Number(button.dataset.refresh);
  const key = "muttd-refresh";
  let timer = 0;
  const read = () => { try { return sessionStorage.getItem(key) === "on"; } catch { return false; } };
  const keep = (on) => { try { sessionStorage.setItem(key, on ? "on" : "off"); } catch { /* private mode */ } };
  const show = (on) => {
    button.setAttribute("aria-pressed", String(on));
    clearInterval(timer);
    if (on) timer = setInterval(() => { if (document.visibilityState === "visible") location.reload(); }, seconds * 1000);
  };
  button.hidden = false;
  button.addEventListener("click", () => { const on = button.getAttribute("aria-pressed") !== "true"; keep(on); show(on); });
  show(read());
})();
