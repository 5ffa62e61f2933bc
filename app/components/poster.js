// The opening picture: draws the map of app/poster.py once, then waits until it is no longer wanted. `show` is the map's.

const poster = document.getElementById("iso-poster");
const root = poster.shadowRoot;
const WAIT_MS = 30000;

// Streamlit keeps the theme that was chosen in its menu; where none was, the browser's wish counts.
const theme = () => {
  const kept = Object.keys(localStorage).find((key) => key.startsWith("stActiveTheme-"));
  const name = kept ? localStorage.getItem(kept) : "";
  for (const one of ["dark", "light"]) if (name.includes(one[0].toUpperCase() + one.slice(1))) return one;
  return window.matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
};

const chosen = theme();
root.querySelector(`style[data-theme=${chosen}]`).media = "all";
// White all around it would be a flash on a dark screen.
document.documentElement.style.background = getComputedStyle(poster).getPropertyValue("--page");
const width = Number(localStorage.getItem("sidebarWidth"));
if (width) poster.style.setProperty("--sidebar", `${width}px`);
const place = root.querySelector(".iso-map");
place.poster = true;
const drawn = JSON.parse(root.querySelector("script").textContent);
const forget = show({ parentElement: place, setTriggerValue() {}, data: { ...drawn.both, ...drawn[chosen] } });
performance.mark("isochrone-poster");

// The live map takes it away when it has drawn. So does whatever else a page has to say, and any other page.
const gone = new MutationObserver(() => {
  if (!poster.isConnected || location.pathname !== "/" || document.querySelector("[data-testid=stAlert],[data-testid=stException],[role=dialog]")) end();
});
const end = () => { gone.disconnect(); forget(); poster.remove(); };
gone.observe(document.body, { childList: true, subtree: true });
setTimeout(end, WAIT_MS);
