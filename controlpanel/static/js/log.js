// A container's log: follows while at the bottom, stops when you scroll up and says how much is new, filters, pauses, downloads.
// Bytes come as Docker's 8-byte frames (or raw, of a tty), each line with its time in front. Text only ever becomes text nodes.
import { on, onBytes, watch } from "./page.js";

const box = document.getElementById("log");
const LINES_MAX = 5000;
const decoder = { 1: new TextDecoder(), 2: new TextDecoder() };
// of what terminals understand, colours are shown; the rest that is no text is left out
const COLOUR = /\u001b\[([0-9;]*)m/g;
const ESCAPES = /\u001b\[[0-9;?]*[ -/]*[@-ln-~]|\u001b\][^\u0007\u001b]*(?:\u0007|\u001b\\)|\u001b[@-Z\\^_]|[\u0000-\u0008\u000b-\u001a\u001c-\u001f\u007f]/g;

let tty = false;
let rest = new Uint8Array(0);
let half = { 1: "", 2: "" };
let unseen = 0;
let last = "";
let resuming = false;
let overlaps = false;
let shown = 0;
let ended = false;
let pending = [];
let scheduled = false;

const more = document.getElementById("log-more");
const filter = document.getElementById("log-filter");
const invert = document.getElementById("log-invert");
const times = document.getElementById("log-times");
const wrap = document.getElementById("log-wrap");
const stateWords = document.getElementById("log-state");

function atBottom() {
  return box.scrollHeight - box.scrollTop - box.clientHeight < 24;
}

function matches(text) {
  if (!filter.value) return true;
  let found;
  try {
    found = new RegExp(filter.value, "i").test(text);
  } catch {
    found = text.toLowerCase().includes(filter.value.toLowerCase());
  }
  return found !== invert.checked;
}

/** Text nodes and, where the text asks for a colour, spans with our own classes. */
function coloured(text) {
  const nodes = [];
  let classes = new Set();
  let from = 0;
  const push = (part) => {
    if (!part) return;
    if (!classes.size) return nodes.push(part);
    const span = document.createElement("span");
    span.className = [...classes].join(" ");
    span.textContent = part;
    nodes.push(span);
  };
  for (const match of text.matchAll(COLOUR)) {
    push(text.slice(from, match.index));
    from = match.index + match[0].length;
    for (const code of match[1].split(";").map(Number)) {
      if (code === 0) classes = new Set();
      else if (code === 1) classes.add("ansi-bold");
      else if (code === 2 || code === 90) classes.add("ansi-dim");
      else if (code === 22) classes.delete("ansi-bold");
      else if ((code >= 30 && code <= 39) || (code >= 91 && code <= 97)) {
        for (const name of [...classes]) if (/\d/.test(name)) classes.delete(name);
        if (code % 10 >= 1 && code % 10 <= 6) classes.add(`ansi-${code % 10}`);
      }
    }
  }
  push(text.slice(from));
  return nodes;
}

function line(stream, text) {
  const space = text.indexOf(" ");
  const time = text.slice(0, space);
  if (resuming) {
    if (time <= last) {
      overlaps = true;
      return; // seen before the connection broke
    }
    if (!overlaps) pending.push(note(box.dataset.gap));
    resuming = false;
  }
  last = time;
  const element = document.createElement("span");
  element.className = "log-line";
  element.dataset.stream = stream;
  const stamp = document.createElement("time");
  stamp.className = "log-time";
  stamp.dateTime = time;
  stamp.textContent = new Date(time).toLocaleTimeString(document.documentElement.lang, { hour12: false });
  stamp.title = time;
  const body = text.slice(space + 1).replace(ESCAPES, "");
  const plain = body.replace(COLOUR, "");
  element.append(stamp, ...coloured(body), "\n");
  element.hidden = !matches(plain);
  pending.push(element);
  if (!scheduled) {
    scheduled = true;
    requestAnimationFrame(flush);
  }
}

function flush() {
  scheduled = false;
  const follow = atBottom();
  const dropped = box.childElementCount + pending.length - LINES_MAX;
  const batch = pending.slice(-LINES_MAX);
  const fragment = document.createDocumentFragment();
  fragment.append(...batch);
  box.append(fragment);
  for (let i = 0; i < dropped; i += 1) box.querySelector(".log-line")?.remove();
  shown += batch.length;
  if (dropped > 0 || shown === Number(box.dataset.tail)) noteEarlier();
  if (follow) box.scrollTop = box.scrollHeight;
  else unseen += batch.filter((element) => !element.hidden).length;
  pending = [];
  showMore();
}

function note(text) {
  const element = document.createElement("span");
  element.className = "log-note";
  element.textContent = text;
  return element;
}

/** The beginning is not here: said where it would stand. */
function noteEarlier() {
  if (!box.firstElementChild?.classList.contains("log-note")) box.prepend(note(box.dataset.earlier));
}

function say(what) {
  stateWords.textContent = stateWords.dataset[what];
}

function showMore() {
  if (atBottom()) unseen = 0;
  more.classList.toggle("invisible", unseen === 0);
  more.querySelector(".count").textContent = String(unseen);
}

function lines(stream, bytes) {
  const text = half[stream] + decoder[stream].decode(bytes, { stream: true });
  const parts = text.split("\n");
  half[stream] = parts.pop();
  for (const part of parts) line(stream, part.replace(/\r$/, ""));
}

function frames(bytes) {
  let data = bytes;
  if (rest.length) {
    data = new Uint8Array(rest.length + bytes.length);
    data.set(rest);
    data.set(bytes, rest.length);
  }
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  let at = 0;
  while (at + 8 <= data.length) {
    const size = view.getUint32(at + 4);
    if (at + 8 + size > data.length) break;
    lines(data[at] === 2 ? 2 : 1, data.subarray(at + 8, at + 8 + size));
    at += 8 + size;
  }
  rest = data.slice(at);
}

function refilter() {
  for (const element of box.querySelectorAll(".log-line")) {
    element.hidden = !matches([...element.childNodes].slice(1).map((node) => node.textContent).join("").trimEnd());
  }
  const query = new URLSearchParams(location.search);
  filter.value ? query.set("q", filter.value) : query.delete("q");
  invert.checked ? query.set("not", "1") : query.delete("not");
  wrap.checked ? query.set("wrap", "1") : query.delete("wrap");
  history.replaceState(null, "", `${location.pathname}${query.size ? `?${query}` : ""}`);
}

if (box) {
  on("open", () => {
    overlaps = false;
    resuming = last !== "";
    rest = new Uint8Array(0);
    half = { 1: "", 2: "" };
  });
  on("log", (message) => {
    tty = message.tty;
    ended = false;
    say("following");
  });
  on("log-end", () => {
    ended = true;
    for (const stream of [1, 2]) if (half[stream]) lines(stream, new TextEncoder().encode("\n")); // a last line without its newline
    say("ended");
  });
  on("error", (message) => {
    stateWords.textContent = message.message;
  });
  on("row", (message) => {
    if (message.id === box.dataset.id && ended && message.state === "running") look(); // started again: its log goes on
  });
  onBytes((bytes) => (tty ? lines(1, bytes) : frames(bytes)));
  const look = () => {
    overlaps = false;
    resuming = last !== "";
    watch({ watch: "log", id: box.dataset.id, tail: Number(box.dataset.tail) });
  };
  look();
  box.addEventListener("scroll", showMore);
  more.addEventListener("click", () => {
    box.scrollTop = box.scrollHeight;
    showMore();
  });
  filter.addEventListener("input", refilter);
  invert.addEventListener("change", refilter);
  times.addEventListener("change", () => box.classList.toggle("no-times", !times.checked));
  wrap.addEventListener("change", () => {
    box.classList.toggle("wrap", wrap.checked);
    refilter();
  });
  box.classList.toggle("wrap", wrap.checked);
}
