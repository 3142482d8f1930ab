// Loaded in <head> without defer: the chosen theme must be set before the first paint.
(() => {
  "use strict";
  const order = ["auto", "light", "dark"];
  const root = document.documentElement;

  const stored = () => {
    try {
      const theme = localStorage.getItem("berth-theme");
      return order.includes(theme) ? theme : "auto";
    } catch {
      return "auto"; // storage refused by the browser
    }
  };

  const apply = (theme) => {
    if (theme === "auto") delete root.dataset.theme;
    else root.dataset.theme = theme;
  };

  const label = (button, theme) => {
    const next = order[(order.indexOf(theme) + 1) % order.length];
    button.setAttribute("aria-label", `Theme: ${theme}. Switch to ${next}`);
    button.title = `Theme: ${theme}`;
    for (const icon of button.querySelectorAll("[data-icon]")) {
      icon.toggleAttribute("hidden", icon.dataset.icon !== theme);
    }
    button.hidden = false;
  };

  apply(stored());

  document.addEventListener("DOMContentLoaded", () => {
    for (const button of document.querySelectorAll("[data-theme-toggle]")) {
      label(button, stored());
      button.addEventListener("click", () => {
        const theme = order[(order.indexOf(stored()) + 1) % order.length];
        try {
          localStorage.setItem("berth-theme", theme);
        } catch {
          return;
        }
        apply(theme);
        label(button, theme);
        document.dispatchEvent(new CustomEvent("berth:theme"));
      });
    }
  });
})();
