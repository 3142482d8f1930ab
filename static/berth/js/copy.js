// <button data-copy="#id" hidden>: copies the text of #id. Shown only where copying works.
(() => {
  "use strict";
  if (!navigator.clipboard) return;

  const reveal = (root) => {
    for (const button of root.querySelectorAll("[data-copy]")) button.hidden = false;
  };

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const source = document.querySelector(button.dataset.copy);
    const label = button.querySelector("[data-copy-label]");
    let said = "Copied";
    try {
      await navigator.clipboard.writeText(source.value ?? source.textContent.trim());
    } catch {
      said = "Copy failed";
    }
    label.textContent = said;
    setTimeout(() => { label.textContent = "Copy"; }, 2000);
  });

  document.addEventListener("DOMContentLoaded", () => reveal(document));
  document.addEventListener("htmx:load", (event) => reveal(event.target.parentElement ?? document));
})();
