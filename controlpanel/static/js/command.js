// Keeps the docker line under each form up to date while it is filled in. What it says is what the form sends: a test compares.
// Each field says its flag and how its value is spelled; a form with data-after is about a container that exists, and says only
// what was changed. With data-tail, that and the field spelled "last" stand behind the flags.

import { quote, split } from "./words.js";

const lines = (text) => text.split("\n").map((each) => each.trim()).filter(Boolean);
const bare = (size) => size.replace(/\s+/g, "");

const SPELLED = {
  word: (flag, value) => [flag, value],
  option: (flag, value) => `${flag}=${bare(value)}`.split(" "),
  network: (flag, value) => [flag, value],
  size: (flag, value) => [flag, bare(value)],
  seconds: (flag, value) => [flag, `${value}s`],
  switch: (flag) => flag.split(" "),
  unticked: (flag) => [flag],
  lines: (flag, value) => lines(value).flatMap((each) => [flag, each]),
  seccomp: (flag, value) => [flag, `seccomp=${value.startsWith("{") ? "profile.json" : value}`],
  restart: (flag, value, form) => [flag, value + (value === "on-failure" && retries(form) > 0 ? `:${retries(form)}` : "")],
};
const retries = (form) => Number(form.elements.restart_max_retries.value);

function isChanged(field) {
  if (field.name === "restart_policy" && isChanged(field.form.elements.restart_max_retries)) return true;
  return field.options ? !field.selectedOptions[0].defaultSelected : field.value !== field.defaultValue;
}

/** Whether the field asks for something: the first choice of a list is what comes without it. */
function says(field) {
  if (field.type === "checkbox") return field.checked === (field.dataset.as !== "unticked");
  if ("after" in field.form.dataset) return field.value.trim() !== "" && isChanged(field);
  if (field.dataset.as === "network" && field.form.elements.networks?.value.trim()) return true; // with others the first is named, too
  return field.options ? field.selectedIndex > 0 : field.value.trim() !== "";
}

function spell(field) {
  return says(field) ? (SPELLED[field.dataset.as]?.(field.dataset.flag, field.value.trim(), field.form) ?? []) : [];
}

/** A greater memory takes its swap along, as the server does: docker would refuse it until it is told. */
function swap(form) {
  const { memory, memory_swap: own } = form.elements;
  const found = /^([\d.]+)([kmgt]?)/i.exec(bare(memory?.value ?? ""));
  if (!found || !says(memory) || says(own)) return [];
  const bytes = Math.floor(Number(found[1]) * 1024 ** " kmgt".indexOf(found[2].toLowerCase() || " "));
  return Number(form.dataset.swap) >= 0 && bytes > Number(form.dataset.swap) ? ["--memory-swap", String(2 * bytes)] : [];
}

/** What stands behind the flags. */
function rest(form) {
  const { image, entrypoint, command } = form.elements;
  if ("after" in form.dataset || "tail" in form.dataset) {
    const last = form.querySelector('[data-as="last"]')?.value.trim();
    return [...swap(form), form.dataset.after ?? form.dataset.tail, last].filter(Boolean);
  }
  const [first, ...more] = split(entrypoint.value) ?? ["…"];
  const words = first === undefined ? [] : ["--entrypoint", first];
  return [...words, image.value.trim() || "IMAGE", ...more, ...(split(command.value) ?? ["…"])];
}

function update(form) {
  const words = form.dataset.docker.split(" ");
  for (const field of form.elements) if (field.dataset.flag) words.push(...spell(field));
  form.querySelector(".command code").textContent = [...words, ...rest(form)].map(quote).join(" ");
  for (const group of form.querySelectorAll("details")) {
    const count = [...group.querySelectorAll("[data-as]")].filter(says).length;
    const badge = group.querySelector("[data-filled]");
    badge.firstChild.data = count;
    badge.hidden = !count;
  }
}

for (const form of document.querySelectorAll("form[data-docker]")) {
  form.addEventListener("input", () => update(form));
  update(form);
  form.querySelector('[aria-invalid="true"]')?.focus();
}
