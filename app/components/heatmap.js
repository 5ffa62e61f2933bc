// The heat map: one cell for each pair of row and column. `data` is made by app/components/heatmap.py.
// Sends one trigger: `cell` ([row id, column id]).

function mount(parent) {
  const canvas = parent.querySelector("canvas");
  const tip = parent.querySelector(".tip");
  const state = { canvas, tip, hover: null, cursor: null, width: 0, height: 0 };

  const { layout, draw } = painter(state);

  const find = (event) => {
    const box = canvas.getBoundingClientRect();
    const { left, top, cell, rowHeight } = state.place;
    const c = Math.floor((event.clientX - box.left - left) / cell);
    const r = Math.floor((event.clientY - box.top - top) / rowHeight);
    return r >= 0 && c >= 0 && r < state.data.rows.length && c < state.data.columns.length ? { r, c } : null;
  };
  const say = (at) => {
    tip.replaceChildren();
    if (!at) { tip.style.opacity = 0; return; }
    const { data, place } = state;
    const i = at.r * data.columns.length + at.c;
    const add = (text, className) => {
      const line = document.createElement("div");
      line.textContent = text;
      if (className) line.className = className;
      tip.append(line);
    };
    add(`${data.rows[at.r].id} → ${data.columns[at.c].id}`, "head");
    if (data.self[i]) add("the same site");
    else if (state.level[i] > 0) add(`${data.title}: ${data.texts[i]}${data.unit}`);
    else add("no data");
    if (data.notes[i]) add(data.notes[i], "note");
    tip.style.opacity = 1;
    const box = tip.getBoundingClientRect();
    const x = place.left + (at.c + 1) * place.cell + 6;
    const y = place.top + (at.r + 1) * place.rowHeight + 6;
    tip.style.left = `${x + box.width > state.width ? Math.max(4, x - place.cell - 12 - box.width) : x}px`;
    tip.style.top = `${y + box.height > state.height ? Math.max(4, y - place.rowHeight - 12 - box.height) : y}px`;
  };
  const point = (at) => {
    const before = state.hover;
    if ((at === null) === (before === null) && (at === null || (at.r === before.r && at.c === before.c))) return;
    state.hover = at;
    canvas.style.cursor = at ? "pointer" : "default";
    draw();
    say(at);
  };
  const open = (at) => {
    const { data } = state;
    if (at && !data.self[at.r * data.columns.length + at.c]) state.send([data.rows[at.r].id, data.columns[at.c].id]);
  };

  canvas.addEventListener("pointermove", (event) => point(find(event)));
  canvas.addEventListener("pointerleave", () => point(null));
  canvas.addEventListener("click", (event) => open(find(event)));
  canvas.addEventListener("blur", () => { state.cursor = null; draw(); say(null); });
  canvas.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    if (steps[event.key]) {
      const from = state.cursor || { r: 0, c: event.key === "ArrowRight" ? -1 : 0 };
      state.cursor = {
        r: clamp(from.r + steps[event.key][0], 0, state.data.rows.length - 1),
        c: clamp(from.c + steps[event.key][1], 0, state.data.columns.length - 1),
      };
      draw();
      say(state.cursor);
    } else if (event.key === "Enter") open(state.cursor);
    else return;
    event.preventDefault();
  });

  const fit = () => {
    if (!canvas.clientWidth || !state.data) return;
    state.place = layout();
    const ratio = window.devicePixelRatio || 1;
    state.width = canvas.clientWidth;
    state.height = state.place.height;
    canvas.style.height = `${state.height}px`;
    canvas.width = Math.round(state.width * ratio);
    canvas.height = Math.round(state.height * ratio);
    draw();
  };
  let last = 0;
  const observer = new ResizeObserver(() => {
    // Our own change of height must not call us again.
    if (canvas.clientWidth !== last) { last = canvas.clientWidth; fit(); }
  });
  state.fit = fit;
  state.watch = () => observer.observe(canvas);
  state.end = () => observer.disconnect();
  return state;
}

function legend(parent, data, palette) {
  const bar = parent.querySelector(".bar");
  bar.width = palette.length / 3;
  bar.height = 1;
  const context = bar.getContext("2d");
  const image = context.createImageData(bar.width, 1);
  for (let i = 0; i < bar.width; i += 1) {
    image.data.set([palette[i * 3], palette[i * 3 + 1], palette[i * 3 + 2], 255], i * 4);
  }
  context.putImageData(image, 0, 0);
  parent.querySelector(".legend .title").textContent = data.title;
  parent.querySelector(".legend .low").textContent = data.low;
  parent.querySelector(".legend .high").textContent = data.high;
}

export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  let state = mounts.get(parentElement);
  if (!state || !parentElement.contains(state.canvas)) {
    state = mount(parentElement);
    mounts.set(parentElement, state);
  }
  const root = parentElement.querySelector(".heat");
  for (const name of ["text", "muted", "line", "page", "accent", "no_data"]) root.style.setProperty(`--${name}`, data.colours[name]);
  state.canvas.setAttribute("aria-label", data.alt);
  state.data = data;
  state.level = decode(data.levels);
  state.palette = decode(data.palette);
  state.hover = null;
  state.tip.style.opacity = 0;
  state.send = (value) => setTriggerValue("cell", value);
  legend(parentElement, data, state.palette);
  state.watch();
  state.fit();
  return state.end;
}
