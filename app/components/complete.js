// Completion for a text area that is already on the page: a list below the caret, chosen by arrows and Enter or Tab, or by mouse.
// `data`: { label: the text area's aria-label, words: [[word, what it is], ...] }. Without this the text area works as it is.

const WORD = /[A-Za-z_][A-Za-z0-9_]*$/;
const SHOWN = 8;

// Where the caret is, in pixels from the text area's corner: a copy of the text before it is laid out the same way.
function caret(area) {
  const style = getComputedStyle(area);
  const copy = document.createElement("div");
  for (const name of ["font", "letterSpacing", "lineHeight", "padding", "border", "boxSizing", "tabSize"]) copy.style[name] = style[name];
  Object.assign(copy.style, { position: "absolute", visibility: "hidden", whiteSpace: "pre-wrap", overflowWrap: "break-word", width: `${area.clientWidth}px` });
  copy.textContent = area.value.slice(0, area.selectionStart);
  const mark = document.createElement("span");
  mark.textContent = "\u200b";
  copy.append(mark);
  document.body.append(copy);
  const spot = { x: mark.offsetLeft, y: mark.offsetTop + mark.offsetHeight - area.scrollTop };
  copy.remove();
  return spot;
}

// React listens to the event and reads the value; it has to be set past React's own setter.
function write(area, value, at) {
  Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, "value").set.call(area, value);
  area.dispatchEvent(new Event("input", { bubbles: true }));
  area.setSelectionRange(at, at);
}

function attach(area, list, words) {
  const state = { found: [], at: 0, stem: "" };
  const close = () => {
    state.found = [];
    list.hidden = true;
    area.removeAttribute("aria-activedescendant");
    area.setAttribute("aria-expanded", "false");
  };
  const show = () => {
    list.replaceChildren(
      ...state.found.map(([word, kind], i) => {
        const row = document.createElement("li");
        row.id = `complete-${i}`;
        row.setAttribute("role", "option");
        row.setAttribute("aria-selected", String(i === state.at));
        const name = document.createElement("b");
        name.textContent = word;
        const what = document.createElement("span");
        what.textContent = kind;
        row.append(name, what);
        row.addEventListener("mousedown", (event) => {
          event.preventDefault();
          take(i);
        });
        return row;
      }),
    );
    const box = area.getBoundingClientRect();
    const spot = caret(area);
    list.style.left = `${Math.min(box.left + spot.x, box.right - 260)}px`;
    list.style.top = `${Math.min(box.top + spot.y + 4, window.innerHeight - 200)}px`;
    list.hidden = false;
    area.setAttribute("aria-expanded", "true");
    area.setAttribute("aria-activedescendant", `complete-${state.at}`);
  };
  const look = () => {
    const before = area.value.slice(0, area.selectionStart);
    const stem = (before.match(WORD) || [""])[0];
    if (stem.length < 2 || area.selectionStart !== area.selectionEnd) return close();
    const low = stem.toLowerCase();
    const starts = words.filter(([word]) => word.toLowerCase().startsWith(low) && word.toLowerCase() !== low);
    const inside = words.filter(([word]) => word.toLowerCase().indexOf(low) > 0);
    Object.assign(state, { found: [...starts, ...inside].slice(0, SHOWN), at: 0, stem });
    return state.found.length ? show() : close();
  };
  const take = (i) => {
    const from = area.selectionStart - state.stem.length;
    const word = state.found[i][0];
    write(area, area.value.slice(0, from) + word + area.value.slice(area.selectionStart), from + word.length);
    close();
  };
  const key = (event) => {
    if (list.hidden || event.ctrlKey || event.metaKey || event.altKey) return;
    const last = state.found.length - 1;
    if (event.key === "ArrowDown") state.at = state.at === last ? 0 : state.at + 1;
    else if (event.key === "ArrowUp") state.at = state.at === 0 ? last : state.at - 1;
    else if (event.key === "Enter" || event.key === "Tab") take(state.at);
    else if (event.key === "Escape") close();
    else return;
    event.preventDefault();
    event.stopPropagation();
    if (!list.hidden) show();
  };
  const typed = (event) => {
    // What `take` writes is an input too, but not one that a person typed.
    if (event.isTrusted) look();
  };
  area.addEventListener("input", typed);
  area.addEventListener("keydown", key, true);
  area.addEventListener("blur", close);
  area.setAttribute("role", "combobox");
  area.setAttribute("aria-autocomplete", "list");
  close();
  return () => {
    area.removeEventListener("input", typed);
    area.removeEventListener("keydown", key, true);
    area.removeEventListener("blur", close);
  };
}

export default function (component) {
  const { data, parentElement } = component;
  const list = parentElement.querySelector(".complete");
  for (const [name, value] of Object.entries(data.colours)) list.style.setProperty(`--${name}`, value);
  // Either may be drawn first: the text area's script comes by itself, and later than this one where this was fetched beside the page.
  const found = () => [...document.querySelectorAll("textarea")].find((one) => one.getAttribute("aria-label") === data.label);
  let area = found();
  let detach = area && attach(area, list, data.words);
  const watch = new MutationObserver(() => {
    if (area?.isConnected) return;
    detach?.();
    area = found();
    detach = area && attach(area, list, data.words);
  });
  watch.observe(document.body, { childList: true, subtree: true });
  return () => {
    watch.disconnect();
    detach?.();
  };
}
