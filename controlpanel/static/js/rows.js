// Live rows of the containers table: changed rows morph in place (focus and scroll stay), figures tick.
import { bytes, percent } from "./format.js";
import { announce, morph, on, refresh, watch } from "./page.js";

const rows = () => document.getElementById("rows");
const row = (id) => document.getElementById(`container-${id}`);
const figures = new Map(); // id → the last figures, so that a morphed row does not fall back to "…"
let watched = "";

function element(html) {
  const holder = document.createElement("tbody");
  holder.innerHTML = html;
  return holder.firstElementChild;
}

function flash(cell) {
  cell.classList.remove("cell-changed");
  void cell.offsetWidth;
  cell.classList.add("cell-changed");
}

function put(target, name, text, title) {
  const cell = target?.querySelector(`[data-figure="${name}"]`);
  if (!cell) return;
  cell.textContent = text;
  if (title) cell.title = title;
}

function show(id) {
  const known = figures.get(id);
  const target = row(id);
  if (!known || target?.dataset.status !== "running") return;
  const [, cpu, memory] = known;
  put(target, "cpu", percent(cpu));
  put(target, "memory", bytes(memory), `${memory} B`);
}

function watchStats() {
  const ids = [...(rows()?.querySelectorAll('tr[data-status="running"]') ?? [])].map((item) => item.dataset.id);
  for (const id of ids) show(id);
  const key = [...ids].sort().join();
  if (key === watched) return; // the server keeps the streams it has
  watched = key;
  watch({ watch: "stats", ids: document.hidden ? [] : ids });
}

async function reload() {
  await refresh(["list"]);
  watchStats();
}

function isPlain() {
  return new URLSearchParams(location.search).toString() === "";
}

if (document.getElementById("list")) {
  on("row", (message) => {
    const old = row(message.id);
    const fresh = element(message.html);
    if (!old) {
      // a filtered, sorted or paged list shows what was asked for: newcomers wait for the next look
      if (!isPlain()) return;
      if (!rows()) return reload();
      rows().prepend(fresh);
      window.htmx?.process(fresh);
      flash(fresh.querySelector(".cell-state"));
      return watchStats();
    }
    const changed = old.dataset.state !== fresh.dataset.state;
    morph(old, fresh);
    const now = row(message.id);
    window.htmx?.process(now);
    if (fresh.dataset.status !== "running") figures.delete(message.id);
    if (changed) {
      flash(now.querySelector(".cell-state"));
      announce(`${now.dataset.name}: ${now.dataset.state}`);
    }
    watchStats();
  });
  on("gone", (message) => {
    row(message.id)?.remove();
    if (rows()?.childElementCount === 0) reload();
  });
  on("back", reload);
  on("stats", (message) => {
    figures.set(message.id, message.samples.at(-1));
    show(message.id);
  });
  document.addEventListener("visibilitychange", () => {
    watched = "hidden"; // hidden tabs stop the figures; a visible one asks again
    watchStats();
  });
  document.addEventListener("htmx:after:swap", watchStats);
  watch({ watch: "rows" });
  watchStats();
}
