// What every page has: copy buttons, dialogs, menus, toasts that go away, ages that go on, keys. Each key has a button that shows it.

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = document.createElement("textarea"); // plain http has no clipboard API
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

document.addEventListener("click", async (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
  if (event.target.closest("[data-theme-choice]")) event.target.closest("details.menu").open = false;
  const opener = event.target.closest("[data-dialog]");
  if (opener) {
    const dialog = document.getElementById(opener.dataset.dialog);
    dialog.showModal();
    dialog.querySelector("[autofocus], [data-close]")?.focus(); // what is to be filled in, else what changes nothing
    opener.closest("details.menu")?.removeAttribute("open");
  }
  const closer = event.target.closest("[data-close]");
  if (closer?.closest("dialog")) closer.closest("dialog").close();
  else closer?.closest(".toast").remove();
  const copier = event.target.closest("[data-copy]");
  if (copier) {
    await copy(copier.dataset.copy || document.querySelector(copier.dataset.copyFrom).textContent.trim());
    copier.classList.add("copied");
    setTimeout(() => copier.classList.remove("copied"), 1000);
  }
});

// a success toast stays five seconds, longer under the pointer; a failure stays until it is closed
const toasts = document.getElementById("toasts");
new MutationObserver((changes) => {
  for (const toast of changes.flatMap((change) => [...change.addedNodes])) {
    if (toast.dataset?.stay === "no") {
      setTimeout(function leave() {
        if (toast.matches(":hover, :focus-within")) setTimeout(leave, 1000);
        else toast.remove();
      }, 5000);
    }
  }
  while (toasts.childElementCount > 3) toasts.firstElementChild.remove();
}).observe(toasts, { childList: true });

// a pressed button says so until the answer is here
document.addEventListener("submit", (event) => {
  const button = event.submitter;
  if (!button || event.target.method === "dialog") return;
  button.setAttribute("aria-busy", "true");
  event.target.closest("dialog")?.close();
  setTimeout(() => button.removeAttribute("aria-busy"), 10000);
});
document.addEventListener("htmx:finally:request", () => {
  for (const button of document.querySelectorAll('[aria-busy="true"]')) button.removeAttribute("aria-busy");
});

// ages go on by themselves, in the words the server used; the exact time on hover is the reader's own
const ages = document.body.dataset.ages.split("|");
const agoWords = ages.pop();
const units = ages.map((unit) => [Number(unit.slice(0, unit.indexOf(":"))), unit.slice(unit.indexOf(":") + 1)]);

function tick() {
  for (const element of document.querySelectorAll("time.age")) {
    const moment = new Date(element.dateTime);
    const seconds = Math.max(0, (Date.now() - moment) / 1000);
    const [unit, words] = units.find(([size]) => seconds >= size) ?? units.at(-1);
    const text = words.replace("%(n)d", String(Math.floor(seconds / unit)));
    const whole = element.dataset.ago ? agoWords.replace("%s", text) : text;
    if (element.textContent !== whole) element.textContent = whole;
    const exact = moment.toLocaleString(document.documentElement.lang);
    if (element.title !== exact) element.title = exact;
  }
}
tick();
setInterval(() => document.hidden || tick(), 1000);

const keysOn = document.getElementById("keys-on");
if (keysOn) {
  keysOn.checked = localStorage.getItem("slipway.keys") !== "off";
  keysOn.addEventListener("change", () => localStorage.setItem("slipway.keys", keysOn.checked ? "on" : "off"));
}

let chord = "";
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  }
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, dialog")) return;
  if (keysOn && !keysOn.checked) return;
  const target = document.querySelector(`[data-key="${CSS.escape(chord + event.key)}"]`);
  chord = event.key === "g" && !chord ? "g" : "";
  if (chord) return setTimeout(() => (chord = ""), 1000);
  if (!target) return;
  event.preventDefault();
  if (target.matches("input")) target.focus();
  else target.click();
});
