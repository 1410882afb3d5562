// A container's page: its header, its buttons and its facts follow what the engine reports.
import { announce, on, refresh, watch } from "./page.js";

document.querySelector(".nav-tabs .active")?.scrollIntoView({ inline: "center", block: "nearest" }); // on a small screen the row is cut

const state = () => document.getElementById("state");
const id = state()?.dataset.container;

async function follow() {
  const before = state().querySelector(".word").textContent;
  const reply = await refresh(["state", "actions", "facts", "health"]);
  if (reply?.status === 404) return removed();
  const now = state().querySelector(".word").textContent;
  if (now !== before) announce(now);
}

/** What is shown (a log that was being read) stays; what can no longer be done goes. */
function removed() {
  const status = state().querySelector(".status");
  status.className = "status status-secondary";
  status.querySelector(".status-dot").className = "status-dot";
  status.querySelector(".word").textContent = state().dataset.removed;
  state().querySelector("time")?.remove();
  document.getElementById("actions").replaceChildren();
  announce(state().dataset.removed);
}

if (id) {
  on("row", (message) => message.id === id && follow());
  on("gone", (message) => message.id === id && removed());
  on("back", follow);
  watch({ watch: "rows", id });
}
