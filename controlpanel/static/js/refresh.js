// Parts of a page that follow the tenant: <div id="operations" data-refresh="operation"> is asked for again when one changes.
import { on, refresh, throttle, watch } from "./page.js";

const parts = [...document.querySelectorAll("[data-refresh]")].filter((part) => part.dataset.refresh);
const dirty = new Set();
const send = throttle(1000, async () => {
  const ids = [...dirty];
  dirty.clear();
  await refresh(ids);
});

function changed(what) {
  for (const part of parts) if (!what || part.dataset.refresh.split(" ").includes(what)) dirty.add(part.id);
  if (dirty.size) send();
}

if (parts.length) {
  on("changed", (message) => changed(message.what));
  on("back", () => changed(""));
  watch({ watch: "changes", kinds: [...new Set(parts.flatMap((part) => part.dataset.refresh.split(" ")))] });
}
