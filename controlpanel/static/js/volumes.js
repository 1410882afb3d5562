// What the form for a new volume would be on the command line.
import { quote } from "./words.js";

const form = document.getElementById("make");
form?.addEventListener("input", () => {
  const { name, size } = form.elements;
  const limit = size.value.trim() ? `-o size=${quote(size.value.trim())} ` : "";
  form.querySelector(".command code").textContent = `docker volume create ${limit}${quote(name.value.trim() || "NAME")}`;
});
