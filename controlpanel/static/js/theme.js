// Runs before first paint (a plain script in <head>), so that no page flashes in the wrong colours.
// The choice ("light", "dark" or "system") lives in localStorage: it belongs to the screen, not to the account.
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const choice = () => localStorage.getItem("slipway.theme") || "system";
  const apply = () => {
    const theme = choice() === "system" ? (dark.matches ? "dark" : "light") : choice();
    document.documentElement.setAttribute("data-bs-theme", theme);
    document.documentElement.dispatchEvent(new CustomEvent("slipway:theme", { detail: theme }));
    for (const button of document.querySelectorAll("[data-theme-choice]")) {
      button.setAttribute("aria-pressed", String(button.dataset.themeChoice === choice()));
    }
  };
  apply();
  dark.addEventListener("change", apply);
  document.addEventListener("DOMContentLoaded", apply);
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-theme-choice]");
    if (!button) return;
    localStorage.setItem("slipway.theme", button.dataset.themeChoice);
    apply();
  });
})();
