// The page's one websocket: connects, says what the page watches, hands messages to the modules, reconnects.
// A module registers with on(kind, handler) and watch(request); binary messages go to onBytes.

const root = document.querySelector("[data-live]");
const handlers = new Map();
const watches = new Map();
let bytesHandler = null;
let socket = null;
let delay = 500;
let opened = false;

document.querySelector(".slipway-menu [aria-current]")?.scrollIntoView({ inline: "center", block: "nearest" }); // on a small screen it is a row that scrolls

/** kind "back" is ours: something was missed (the connection was away, or the server says "lost"), and what is shown may be old. */
export function on(kind, handler) {
  handlers.set(kind, [...(handlers.get(kind) ?? []), handler]);
}
export function onBytes(handler) {
  bytesHandler = handler;
}
export function watch(request) {
  watches.set(request.watch, request);
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(request));
}
export function announce(text) {
  document.getElementById("announce").textContent = text;
}

/** Make ``old`` look like ``fresh``: focus, scroll and what is being typed stay. */
export function morph(old, fresh) {
  Idiomorph.morph(old, fresh, { ignoreActiveValue: Boolean(document.activeElement?.matches("input, textarea, select")) });
}

let asked = 0;
const shownBy = new Map(); // id → number of the question that its content answers

/** Ask the server for this page again and morph the elements with these ids. Of answers that overtake each other the newest counts. */
export async function refresh(ids) {
  const mine = ++asked;
  let reply;
  try {
    reply = await fetch(location.href, { headers: { Accept: "text/html" } });
  } catch {
    return null; // the socket's loss is shown already, and its return refreshes
  }
  if (!reply.ok || reply.redirected) return reply;
  const fresh = new DOMParser().parseFromString(await reply.text(), "text/html");
  for (const id of ids) {
    const [old, now] = [document.getElementById(id), fresh.getElementById(id)];
    if (old && now && mine > (shownBy.get(id) ?? 0)) {
      shownBy.set(id, mine);
      morph(old, now);
      window.htmx?.process(document.getElementById(id));
    }
  }
  return reply;
}

/** At most one call each ``ms``, the last one always. */
export function throttle(ms, act) {
  let timer = 0;
  let again = false;
  const run = async () => {
    again = false;
    timer = -1;
    await act();
    timer = setTimeout(() => {
      timer = 0;
      if (again) run();
    }, ms);
  };
  return () => {
    if (timer === 0) run();
    else again = true;
  };
}

function tell(kind, message) {
  for (const handler of handlers.get(kind) ?? []) handler(message);
}

function show(state) {
  for (const dot of document.querySelectorAll(".live-dot")) {
    if (dot.dataset.state === state) continue;
    dot.dataset.state = state;
    const time = new Date().toLocaleTimeString(document.documentElement.lang, { hour12: false });
    dot.textContent = state === "live" ? dot.dataset.live : `${dot.dataset.reconnecting} · ${dot.dataset.stale} ${time}`;
  }
  document.body.classList.toggle("offline", state !== "live");
}

/** Between the reading of a page and its first watch things happen, too. */
function askMissed() {
  if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ watch: "missed", seen: root.dataset.seen }));
  else opened = false; // gone again: the next connection asks
}

function connect() {
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  socket = new WebSocket(`${scheme}//${location.host}${root.dataset.live}`);
  socket.binaryType = "arraybuffer";
  socket.addEventListener("open", () => {
    delay = 500;
    show("live");
    tell("open");
    for (const request of watches.values()) socket.send(JSON.stringify(request));
    if (opened) tell("back");
    else if (document.readyState === "complete") askMissed();
    else addEventListener("load", askMissed, { once: true }); // then every module has said what it watches
    opened = true;
  });
  socket.addEventListener("message", (event) => {
    if (typeof event.data !== "string") return bytesHandler?.(new Uint8Array(event.data));
    const message = JSON.parse(event.data);
    tell(message.kind === "lost" ? "back" : message.kind, message);
  });
  socket.addEventListener("close", (event) => {
    if (event.code === 4401 || event.code === 4404) return location.reload(); // logged out or no member any more: the page says it
    show("reconnecting");
    setTimeout(connect, delay + Math.random() * 250);
    delay = Math.min(delay * 2, 8000);
  });
}

// rows that came by the socket hold no token of their own
document.addEventListener("htmx:config:request", (event) => {
  event.detail.ctx.request.headers["X-CSRFToken"] = document.querySelector('[name="csrfmiddlewaretoken"]').value;
});

if (root) connect();
