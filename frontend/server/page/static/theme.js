// Loaded before anything is drawn: the chosen theme, so that the page does not flash in the other one.
(() => {
  let chosen = null;
  try {
    chosen = localStorage.getItem("octavo.theme");
  } catch {
    // The browser keeps nothing for this page: follow the system.
  }
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
})();
