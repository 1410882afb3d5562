// Files into a container or a volume: each is one REST request whose body is the file, so that nobody holds it in memory; one after the other.
import { quote } from "./words.js";

const form = document.getElementById("upload");
const sent = document.getElementById("sent");

/** Resolves to "" or to why it failed. ``tell`` gets the part that is through, 0 to 1. */
function put(url, file, tell) {
  return new Promise((resolve) => {
    const request = new XMLHttpRequest(); // fetch tells nothing of how far an upload is
    request.open("PUT", url);
    request.setRequestHeader("X-CSRFToken", form.elements.csrfmiddlewaretoken.value);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.addEventListener("progress", (event) => tell(event.loaded / event.total));
    request.addEventListener("load", () => {
      if (request.status < 300) return resolve("");
      try {
        resolve(JSON.parse(request.responseText).error.message);
      } catch {
        resolve(`${request.status} ${request.statusText}`);
      }
    });
    request.addEventListener("error", () => resolve(form.dataset.broken));
    request.send(file);
  });
}

function show(file) {
  const line = document.createElement("li");
  const name = document.createElement("span");
  const state = document.createElement("span");
  const bar = document.createElement("progress");
  name.className = "mono text-break";
  name.textContent = `${file.name} `;
  bar.className = "w-100";
  bar.setAttribute("aria-label", file.name);
  line.append(name, state, bar);
  sent.append(line);
  return {
    tell: (part) => (bar.value = part),
    end: (failure) => {
      bar.remove();
      state.className = failure ? "text-danger" : "text-secondary";
      state.textContent = failure || form.dataset.copied;
    },
  };
}

form?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const { files, folder, extract } = form.elements;
  const missing = [files, folder].find((field) => !field.value.trim());
  const button = form.querySelector(".btn-primary");
  if (missing) {
    button.removeAttribute("aria-busy");
    return missing.focus();
  }
  sent.replaceChildren();
  const place = folder.value.trim().replace(/\/+$/, "");
  let failed = false;
  for (const file of files.files) {
    const line = show(file);
    const path = encodeURIComponent(extract.checked ? place || "/" : `${place}/${file.name}`);
    const failure = await put(`${form.dataset.url}${extract.checked ? "" : "/content"}?path=${path}`, file, line.tell);
    line.end(failure);
    failed ||= Boolean(failure);
  }
  button.removeAttribute("aria-busy");
  if (!form.dataset.after && !failed) location.reload(); // the page shows the folder
});

/** docker cp takes one file at a time, and a tar from its standard input. */
function update() {
  const { files, folder, extract } = form.elements;
  const target = quote(`${form.dataset.after}:${folder.value.trim() || "/"}`);
  const names = files.files.length ? [...files.files].map((file) => quote(file.name)) : ["FILE"];
  const lines = names.map((name) => (extract.checked ? `docker cp - ${target} < ${name}` : `docker cp ${name} ${target}`));
  form.querySelector(".command code").textContent = lines.join(" && ");
}
if (form?.dataset.after) {
  form.addEventListener("input", update);
  update();
}
