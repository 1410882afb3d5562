// Pull and push: one REST request each, whose answer is Docker's progress lines as they happen. A row for each layer.
import { quote } from "./words.js";

/** Lines of a stream that has JSON in each. */
async function* linesOf(body) {
  const decoder = new TextDecoder();
  let rest = "";
  for (const reader = body.getReader(); ; ) {
    const { done, value } = await reader.read();
    rest += decoder.decode(value, { stream: !done });
    const lines = rest.split("\n");
    rest = lines.pop();
    for (const line of done ? [...lines, rest] : lines) if (line) yield JSON.parse(line);
    if (done) return;
  }
}

/** Shows lines; the last status of a layer stands in its row, whatever has no layer below. */
class Board {
  constructor(place) {
    this.rows = new Map();
    this.table = document.createElement("table");
    this.table.className = "table table-sm m-0";
    this.body = this.table.createTBody();
    this.words = document.createElement("div");
    this.words.className = "text-break mt-2";
    place.replaceChildren(this.table, this.words);
  }

  line(line) {
    if (!line.id || !("progressDetail" in line)) {
      if (line.status) this.say(line.id ? `${line.id}: ${line.status}` : line.status);
      return;
    }
    let row = this.rows.get(line.id);
    if (!row) {
      const element = this.body.insertRow();
      const name = document.createElement("th");
      name.scope = "row";
      name.className = "mono fw-normal fit";
      name.textContent = line.id;
      const bar = document.createElement("progress");
      element.append(name);
      row = { status: element.insertCell(), bar };
      element.insertCell().append(bar);
      bar.hidden = true;
      bar.setAttribute("aria-label", line.id);
      this.rows.set(line.id, row);
    }
    row.status.textContent = line.status;
    const { current, total } = line.progressDetail;
    row.bar.hidden = !total;
    if (total) Object.assign(row.bar, { max: total, value: current });
  }

  say(text, failed = false) {
    const line = document.createElement("div");
    line.textContent = text;
    if (failed) line.className = "text-danger";
    this.words.append(line);
  }
}

async function transfer(form, signal, board) {
  const fields = Object.fromEntries([...new FormData(form)].filter(([name, value]) => name !== "csrfmiddlewaretoken" && value));
  const answer = await fetch(form.dataset.transfer, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-CSRFToken": form.elements.csrfmiddlewaretoken.value },
    body: JSON.stringify(fields),
    signal,
  });
  let failed = false;
  for await (const line of linesOf(answer.body)) {
    if (line.error) {
      failed = true;
      board.say(line.error.message, true);
    } else board.line(line);
  }
  if (!failed) board.say(form.dataset.done);
}

for (const form of document.querySelectorAll("form[data-transfer]")) {
  const [button, cancel] = [form.querySelector(".btn-primary"), form.querySelector("[data-cancel]")];
  let stop = new AbortController();
  cancel.addEventListener("click", () => stop.abort());
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (!form.elements.ref.value.trim()) {
      button.removeAttribute("aria-busy");
      return form.elements.ref.focus();
    }
    stop = new AbortController();
    const board = new Board(form.querySelector("[data-said]"));
    button.disabled = true;
    cancel.hidden = false;
    try {
      await transfer(form, stop.signal, board);
    } catch {
      board.say(form.dataset.broken, true);
    }
    button.disabled = false;
    cancel.hidden = true;
    button.removeAttribute("aria-busy");
  });
  form.addEventListener("input", () => {
    const platform = form.elements.platform?.value.trim();
    const words = [form.dataset.command, ...(platform ? ["--platform", quote(platform)] : []), quote(form.elements.ref.value.trim() || "HOST/PATH:TAG")];
    form.querySelector(".command code").textContent = words.join(" ");
  });
}
