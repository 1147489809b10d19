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
// The log page goes on by itself: new lines come first, as the server sends them.
(() => {
  const button = document.querySelector("[data-tail]");
  const table = document.querySelector("[data-lines]");
  if (!button || !table || !window.EventSource) return;
  const most = 1000;
  let source = null;
  const cell = (label, kind) => {
    const td = document.createElement("td");
    td.dataset.label = label;
    if (kind) td.className = kind;
    return td;
  };
  const add = (row) => {
    document.querySelector("[data-empty]")?.remove();
    table.prepend(row);
    while (table.rows.length > most) table.deleteRow(-1);
  };
  const line = (entry) => {
    const row = document.createElement("tr");
    const time = document.createElement("time");
    time.dateTime = entry.timestamp;
    time.textContent = entry.timestamp.slice(0, 19).replace("T", " ");
    const badge = document.createElement("span");
    badge.className = "badge log-" + entry.level;
    badge.textContent = entry.level;
    const when = cell("Time", "when");
    when.append(time);
    const level = cell("Level");
    level.append(badge);
    const component = cell("Component");
    component.textContent = entry.component;
    const message = cell("Line", "message");
    message.textContent = entry.message;
    for (const [name, value] of Object.entries(entry.fields)) {
      const field = document.createElement("span");
      field.className = "dim small mono";
      field.textContent = name + "=";
      if (name === "event.id") {
        const link = document.createElement("a");
        link.href = "/events/" + encodeURIComponent(value);
        link.textContent = value;
        field.append(link);
      } else {
        field.append(String(value));
      }
      message.append(" ", field);
    }
    row.append(when, level, component, message);
    return row;
  };
  const missed = (count) => {
    const row = document.createElement("tr");
    const td = cell("Line", "dim");
    td.colSpan = 4;
    td.textContent = count + " lines went before they could be shown";
    row.append(td);
    return row;
  };
  const stop = () => { source?.close(); source = null; button.setAttribute("aria-pressed", "false"); };
  const start = () => {
    source = new EventSource(button.dataset.tail);
    source.addEventListener("line", (event) => add(line(JSON.parse(event.data))));
    source.addEventListener("missed", (event) => add(missed(JSON.parse(event.data).missed)));
    button.setAttribute("aria-pressed", "true");
  };
  button.hidden = false;
  button.addEventListener("click", () => { if (source) stop(); else start(); });
})();
