// A shell in the container: xterm.js on a websocket of its own. The page's other socket goes on telling what the container does.
import { on } from "./page.js";

const box = document.getElementById("terminal");
const form = document.getElementById("terminal-form");
const words = document.getElementById("terminal-state");
const encoder = new TextEncoder();
let socket = null;

// xterm.js writes style elements; the page's policy takes none without its nonce
const create = document.createElement.bind(document);
document.createElement = (name, options) => {
  const element = create(name, options);
  if (name === "style") element.nonce = box.dataset.nonce;
  return element;
};

const terminal = new Terminal({ fontSize: 13, cursorBlink: true, scrollback: 5000 });
const fit = new FitAddon.FitAddon();
terminal.loadAddon(fit);

function colours() {
  const style = getComputedStyle(document.documentElement);
  const [background, foreground] = ["--slipway-log-bg", "--slipway-log-fg"].map((name) => style.getPropertyValue(name).trim());
  const named = {};
  for (const colour of ["red", "green", "yellow", "blue", "magenta", "cyan"]) {
    named[colour] = style.getPropertyValue(`--slipway-${colour}`).trim() || undefined;
  }
  terminal.options.theme = { background, foreground, cursor: foreground, cursorAccent: background, selectionBackground: "#7aa2f766", ...named };
  terminal.options.fontFamily = style.getPropertyValue("--tblr-font-monospace").trim() || "monospace";
}

function say(what, more = "") {
  words.textContent = `${words.dataset[what]}${more && ` ${more}`}`;
  box.dataset.state = what;
}

function connect() {
  socket?.close();
  terminal.reset();
  say("connecting");
  fit.fit();
  const query = new URLSearchParams({ shell: form.shell.value, user: form.user.value, rows: terminal.rows, columns: terminal.cols });
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  const own = (socket = new WebSocket(`${scheme}//${location.host}${box.dataset.live}?${query}`));
  let last = null;
  own.binaryType = "arraybuffer";
  own.addEventListener("message", (event) => {
    if (own !== socket) return;
    if (typeof event.data !== "string") return terminal.write(new Uint8Array(event.data));
    last = JSON.parse(event.data);
    if (last.kind === "open") {
      say("open");
      terminal.focus();
    } else if (last.kind === "exit") say("exit", String(last.code ?? ""));
    else if (last.kind === "error") {
      words.textContent = last.message;
      box.dataset.state = "error";
    }
  });
  own.addEventListener("close", (event) => {
    if (own !== socket) return;
    socket = null;
    if (event.code === 4401 || event.code === 4404) return location.reload(); // logged out or not allowed any more: the page says it
    if (last === null || last.kind === "open") say("broken");
  });
}

if (box) {
  colours();
  terminal.open(box);
  terminal.onData((text) => socket?.readyState === WebSocket.OPEN && socket.send(encoder.encode(text)));
  terminal.onBinary((text) => socket?.readyState === WebSocket.OPEN && socket.send(Uint8Array.from(text, (char) => char.charCodeAt(0))));
  terminal.onResize(({ rows, cols }) => socket?.readyState === WebSocket.OPEN && socket.send(JSON.stringify({ size: [rows, cols] })));
  new ResizeObserver(() => fit.fit()).observe(box);
  document.documentElement.addEventListener("slipway:theme", colours);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    connect();
  });
  on("row", (message) => {
    if (message.id === box.dataset.id && message.state === "running" && box.dataset.state === "stopped") connect();
  });
  if (box.dataset.running) connect();
  else say("stopped");
}
