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
// The live view of events: rows come in at the top as they are judged. Texts are put in as texts, never as markup.
(() => {
  const button = document.querySelector("[data-live]");
  const box = document.querySelector("[data-live-rows]");
  const state = document.querySelector("[data-live-state]");
  if (!button || !box || !state || !window.EventSource) return;
  const body = box.querySelector("tbody");
  const most = 200;
  let source = null;
  let missed = 0;
  const tell = (text) => { state.hidden = false; state.textContent = text; };
  const cell = (row, label, content, kind) => {
    const td = row.insertCell();
    td.dataset.label = label;
    if (kind) td.className = kind;
    td.append(content);
  };
  const link = (href, text) => Object.assign(document.createElement("a"), { href, textContent: text });
  const show = (event) => {
    const row = body.insertRow(0);
    cell(row, "Received", link("/events/" + encodeURIComponent(event.id), event.received_at.slice(5, 19).replace("T", " ")), "when");
    cell(row, "Host", link("/events?hostname=" + encodeURIComponent(event.hostname), event.hostname), "host");
    cell(row, "Severity", event.severity === null ? "none" : String(event.severity));
    cell(row, "Message", event.message.slice(0, 300), "message");
    cell(row, "Source", event.source.protocol, "dim");
    cell(row, "Decision", event.matched ? "rule " + event.rule_id + " " + event.handling : "no rule", "decision");
    while (body.rows.length > most) body.deleteRow(-1);
  };
  const stop = () => {
    if (source) source.close();
    source = null;
    button.setAttribute("aria-pressed", "false");
    tell("The live view is stopped.");
  };
  const start = () => {
    source = new EventSource(button.dataset.live);
    button.setAttribute("aria-pressed", "true");
    box.hidden = false;
    tell("Waiting for events.");
    source.onopen = () => tell("Events are shown as they come.");
    source.onerror = () => { if (source && source.readyState === EventSource.CLOSED) stop(); else tell("The connection is made again."); };
    source.addEventListener("event", (frame) => show(JSON.parse(frame.data)));
    source.addEventListener("missed", (frame) => {
      missed += JSON.parse(frame.data).missed;
      tell(missed + " events came too fast to be shown; filter, or search for them.");
    });
  };
  button.hidden = false;
  button.addEventListener("click", () => (source ? stop() : start()));
})();
