// An archive into the image store: one REST request whose body is the file. What the host says while it loads comes back as JSON lines.
import { quote } from "./words.js";

const form = document.getElementById("bring");
const said = document.getElementById("loaded");

/** Resolves to [lines that were said, why it failed or ""]. ``tell`` gets the part that is through, 0 to 1. */
function load(file, tell) {
  return new Promise((resolve) => {
    const request = new XMLHttpRequest(); // fetch tells nothing of how far an upload is
    request.open("PUT", form.dataset.url);
    request.setRequestHeader("X-CSRFToken", form.elements.csrfmiddlewaretoken.value);
    request.setRequestHeader("Content-Type", "application/x-tar");
    request.upload.addEventListener("progress", (event) => tell(event.loaded / event.total));
    request.addEventListener("load", () => {
      let lines = [];
      try {
        lines = request.responseText.split("\n").filter(Boolean).map((line) => JSON.parse(line));
      } catch {
        return resolve([[], `${request.status} ${request.statusText}`]);
      }
      const failed = lines.find((line) => line.error);
      resolve([lines.flatMap((line) => line.stream ?? []), failed ? failed.error.message : ""]);
    });
    request.addEventListener("error", () => resolve([[], form.dataset.broken]));
    request.send(file);
  });
}

form?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const { archive } = form.elements;
  const button = form.querySelector(".btn-primary");
  const file = archive.files[0];
  if (!file) {
    button.removeAttribute("aria-busy");
    return archive.focus();
  }
  const bar = document.createElement("progress");
  bar.className = "w-100";
  bar.setAttribute("aria-label", file.name);
  said.replaceChildren(bar);
  const [lines, failure] = await load(file, (part) => (part < 1 ? (bar.value = part) : bar.removeAttribute("value")));
  const text = document.createElement("div");
  text.className = failure ? "text-danger text-break" : "text-break";
  text.textContent = failure || lines.join("").trim();
  said.replaceChildren(text);
  button.removeAttribute("aria-busy");
});
form?.addEventListener("input", () => {
  form.querySelector(".command code").textContent = `docker load -i ${quote(form.elements.archive.files[0]?.name ?? "image.tar")}`;
});

const tag = document.querySelector("form[data-tag]");
tag?.addEventListener("input", () => {
  tag.querySelector(".command code").textContent = `docker tag ${quote(tag.dataset.tag)} ${quote(tag.elements.ref.value.trim() || "NAME:TAG")}`;
});
