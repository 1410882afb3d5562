// A build from the browser: a folder becomes a tar without being read into memory, and goes to the host as one request's body.
import { quote } from "./words.js";

const form = document.getElementById("build");
const said = document.getElementById("build-said");
const BLOCK = 512;
const text = new TextEncoder();

function field(block, at, value) {
  block.set(text.encode(value), at);
}

/** A ustar header; names beyond its room get a pax header in front. tar(5) */
function header(name, size, mtime, kind) {
  const bytes = text.encode(name);
  const parts = [];
  if (bytes.length > 100) {
    const body = ` path=${name}\n`;
    let length = text.encode(body).length + 1;
    while (String(length).length + text.encode(body).length !== length) length += 1;
    const record = text.encode(`${length}${body}`);
    parts.push(plain(text.encode("pax"), record.length, mtime, "x"), record, new Uint8Array(-record.length & (BLOCK - 1)));
  }
  parts.push(plain(bytes.slice(0, 100), size, mtime, kind));
  return parts;
}

function plain(name, size, mtime, kind) {
  const block = new Uint8Array(BLOCK);
  const octal = (value, width) => `${value.toString(8).padStart(width - 1, "0")}\0`;
  block.set(name, 0);
  field(block, 100, octal(0o644, 8));
  field(block, 108, octal(0, 8));
  field(block, 116, octal(0, 8));
  field(block, 124, octal(size, 12));
  field(block, 136, octal(mtime, 12));
  field(block, 148, "        ");
  field(block, 156, kind);
  field(block, 257, "ustar\x0000");
  const sum = block.reduce((total, byte) => total + byte, 0);
  field(block, 148, `${sum.toString(8).padStart(6, "0")}\0 `);
  return block;
}

/** The chosen folder itself is not in the names. */
function tar(files) {
  const parts = [];
  for (const file of files) {
    const name = file.webkitRelativePath.split("/").slice(1).join("/") || file.name;
    parts.push(...header(name, file.size, Math.floor(file.lastModified / 1000), "0"), file, new Uint8Array(-file.size & (BLOCK - 1)));
  }
  return new Blob([...parts, new Uint8Array(2 * BLOCK)]);
}

function lines(area) {
  return area.value.split("\n").map((line) => line.trim()).filter(Boolean);
}

function query() {
  const { ref, dockerfile, args, labels, target, platform, no_cache, pull, offline } = form.elements;
  const words = new URLSearchParams();
  if (ref.value.trim()) words.append("ref", ref.value.trim());
  for (const line of lines(args)) words.append("arg", line);
  for (const line of lines(labels)) words.append("label", line);
  for (const each of [dockerfile, target, platform]) if (each.value.trim()) words.append(each.name, each.value.trim());
  if (no_cache.checked) words.append("no_cache", "true");
  if (pull.checked) words.append("pull", "true");
  if (offline.checked) words.append("network", "none");
  return words;
}

function pairs(found) {
  return Object.fromEntries(found.map((line) => [line.split("=", 1)[0], line.slice(line.indexOf("=") + 1)]));
}

/** What is for no address and no log. */
function hidden() {
  const { secrets, ssh } = form.elements;
  return { secrets: pairs(lines(secrets)), ssh: ssh.value.trim() ? { default: `${ssh.value.trim()}\n` } : {} };
}

/** The same as headers of an upload: base64 of JSON. */
function headers() {
  const { secrets, ssh } = hidden();
  const encoded = (found) => btoa(String.fromCharCode(...text.encode(JSON.stringify(found))));
  const given = Object.entries({ "X-Build-Secrets": secrets, "X-Build-Ssh": ssh }).filter(([, found]) => Object.keys(found).length);
  return given.map(([name, found]) => [name, encoded(found)]);
}

function wanted() {
  const { ref, dockerfile, args, labels, target, platform, no_cache, pull, offline, address, branch, subfolder } = form.elements;
  return {
    refs: ref.value.trim() ? [ref.value.trim()] : [],
    dockerfile: dockerfile.value.trim(),
    args: pairs(lines(args)),
    labels: pairs(lines(labels)),
    ...hidden(),
    target: target.value.trim(),
    platform: platform.value.trim(),
    network: offline.checked ? "none" : "",
    no_cache: no_cache.checked,
    pull: pull.checked,
    text: form.elements.text.value.trim() ? form.elements.text.value : "",
    address: address.value.trim(),
    branch: branch.value.trim(),
    folder: subfolder.value.trim(),
  };
}

/** Resolves to [the build or null, why not]. */
function send(method, url, body, kind, more, tell) {
  return new Promise((resolve) => {
    const request = new XMLHttpRequest(); // fetch tells nothing of how far an upload is
    request.open(method, url);
    request.setRequestHeader("X-CSRFToken", form.elements.csrfmiddlewaretoken.value);
    request.setRequestHeader("Content-Type", kind);
    for (const [name, value] of more) request.setRequestHeader(name, value);
    request.upload.addEventListener("progress", (event) => tell(event.loaded / event.total));
    request.addEventListener("load", () => {
      let answer = null;
      try {
        answer = JSON.parse(request.responseText);
      } catch {
        return resolve([null, `${request.status} ${request.statusText}`]);
      }
      resolve(request.status < 300 ? [answer, ""] : [null, answer.error.message]);
    });
    request.addEventListener("error", () => resolve([null, form.dataset.broken]));
    request.send(body);
  });
}

form?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const { folder, archive, address } = form.elements;
  const button = form.querySelector(".btn-primary");
  const body = folder.files.length ? tar(folder.files) : archive.files[0];
  if (!body && !address.value.trim() && !form.elements.text.value.trim()) {
    button.removeAttribute("aria-busy");
    said.className = "mt-3 text-danger";
    said.textContent = form.dataset.missing;
    return folder.focus();
  }
  const bar = document.createElement("progress");
  bar.className = "w-100";
  bar.setAttribute("aria-label", button.textContent.trim());
  said.className = "mt-3";
  said.replaceChildren(bar);
  const tell = (part) => (part < 1 ? (bar.value = part) : bar.removeAttribute("value"));
  const [build, failure] = body
    ? await send("PUT", `${form.dataset.url}?${query()}`, body, "application/x-tar", headers(), tell)
    : await send("POST", form.dataset.url, JSON.stringify(wanted()), "application/json", [], tell);
  button.removeAttribute("aria-busy");
  if (build) {
    window.location.assign(form.dataset.page + build.id);
    return;
  }
  said.className = "mt-3 text-danger text-break";
  said.textContent = failure;
});

/** The same by docker. */
function update() {
  const { ref, dockerfile, target, platform, no_cache, pull, offline, address, branch, subfolder } = form.elements;
  const words = ["docker", "build", "-t", quote(ref.value.trim() || "NAME")];
  if (dockerfile.value.trim()) words.push("-f", quote(dockerfile.value.trim()));
  for (const line of lines(form.elements.args)) words.push("--build-arg", quote(line));
  for (const line of lines(form.elements.labels)) words.push("--label", quote(line));
  for (const id of Object.keys(hidden().secrets)) words.push("--secret", quote(`id=${id}`));
  if (form.elements.ssh.value.trim()) words.push("--ssh", "default");
  if (target.value.trim()) words.push("--target", quote(target.value.trim()));
  if (platform.value.trim()) words.push("--platform", quote(platform.value.trim()));
  if (no_cache.checked) words.push("--no-cache");
  if (pull.checked) words.push("--pull");
  if (offline.checked) words.push("--network", "none");
  const fragment = branch.value.trim() + (subfolder.value.trim() ? `:${subfolder.value.trim()}` : "");
  words.push(address.value.trim() ? quote(address.value.trim() + (fragment ? `#${fragment}` : "")) : ".");
  form.querySelector(".command code").textContent = words.join(" ");
}
form?.addEventListener("input", update);
