// A classic script, so that the right theme is there before the first paint. The rest is lib/theme.js.
(() => {
  const stored = localStorage.getItem("streambroker.theme");
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  document.documentElement.dataset.theme = stored === "dark" || stored === "light" ? stored : system;
})();
