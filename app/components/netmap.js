// The map of links. `data` is made by app/components/netmap.py; coordinates come projected, y downwards.
// Sends two triggers: `site` (an id, or "" for open water) and `link` ([src, dst]).

function mount(parent) {
  const canvas = parent.querySelector("canvas");
  const tip = parent.querySelector(".tip");
  const state = { canvas, tip, zoom: 1, dx: 0, dy: 0, hover: null, cursor: -1, drag: null, width: 0, height: 0, scene: null, data: null };

  const base = () => {
    // Contain the inhabited world, with a few pixels to spare for labels at its edge.
    const { box } = state.data;
    const scale = Math.min((state.width - 12) / (box[2] - box[0]), (state.height - 12) / (box[3] - box[1]));
    return { scale, x: state.width / 2 - ((box[0] + box[2]) / 2) * scale, y: state.height / 2 - ((box[1] + box[3]) / 2) * scale };
  };
  const view = () => {
    const start = base();
    return { k: start.scale * state.zoom, x: start.x * state.zoom + state.dx, y: start.y * state.zoom + state.dy };
  };
  const zoomAt = (factor, px, py) => {
    const next = clamp(state.zoom * factor, 1, 24);
    const ratio = next / state.zoom;
    state.dx = px - (px - state.dx) * ratio;
    state.dy = py - (py - state.dy) * ratio;
    state.zoom = next;
    hold();
    draw();
  };
  const hold = () => {
    // Keep some of the world in sight.
    const slackX = state.width * (state.zoom - 1);
    const slackY = state.height * (state.zoom - 1);
    const spareX = state.width * 0.4;
    const spareY = state.height * 0.4;
    state.dx = clamp(state.dx, -slackX - spareX, spareX);
    state.dy = clamp(state.dy, -slackY - spareY, spareY);
    if (state.zoom === 1) { state.dx = 0; state.dy = 0; }
  };

  const draw = painter(state, view);

  const same = (a, b) => (a === null) === (b === null) && (a === null || (a.kind === b.kind && a.index === b.index));
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const point = (found, px, py) => {
    const changed = !same(found, state.hover);
    state.hover = found;
    say(state, found, px, py);
    canvas.style.cursor = found ? "pointer" : state.drag ? "grabbing" : "grab";
    if (changed) draw();
  };
  const open = (found) => {
    if (found && found.kind === "link") {
      const link = state.scene.links[found.index];
      state.send("link", [link.src, link.dst]);
    } else {
      const id = found ? state.scene.sites[found.index].id : "";
      if (id || state.data.focus) state.send("site", id === state.data.focus ? "" : id);
    }
  };

  canvas.addEventListener("wheel", (event) => {
    // A page must scroll past the map: the wheel zooms when the map has the focus, or with Ctrl or Shift.
    const focused = (canvas.getRootNode().activeElement || document.activeElement) === canvas;
    if (!focused && !event.ctrlKey && !event.shiftKey) return;
    event.preventDefault();
    zoomAt(Math.exp(-(event.deltaY || event.deltaX) * 0.0016), ...place(event));
  }, { passive: false });
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    state.drag = { x: event.clientX, y: event.clientY, dx: state.dx, dy: state.dy, moved: false };
  });
  canvas.addEventListener("pointermove", (event) => {
    const [px, py] = place(event);
    if (state.drag) {
      const mx = event.clientX - state.drag.x;
      const my = event.clientY - state.drag.y;
      if (Math.hypot(mx, my) > 4) state.drag.moved = true;
      if (state.drag.moved) {
        state.dx = state.drag.dx + mx;
        state.dy = state.drag.dy + my;
        hold();
        say(state, null);
        draw();
      }
      return;
    }
    point(find(state, view(), px, py), px, py);
  });
  canvas.addEventListener("pointerup", (event) => {
    const moved = state.drag && state.drag.moved;
    state.drag = null;
    if (!moved) open(find(state, view(), ...place(event)));
  });
  canvas.addEventListener("pointercancel", () => { state.drag = null; });
  canvas.addEventListener("pointerleave", () => { if (!state.drag) point(null, 0, 0); });
  canvas.addEventListener("keydown", (event) => {
    const centre = [state.width / 2, state.height / 2];
    const total = state.scene.sites.length;
    if (event.key === "+" || event.key === "=") zoomAt(1.4, ...centre);
    else if (event.key === "-") zoomAt(1 / 1.4, ...centre);
    else if (event.key === "0") { state.zoom = 1; hold(); draw(); }
    else if (total && (event.key === "ArrowRight" || event.key === "ArrowDown" || event.key === "ArrowLeft" || event.key === "ArrowUp")) {
      const step = event.key === "ArrowRight" || event.key === "ArrowDown" ? 1 : -1;
      state.cursor = (state.cursor + step + total) % total;
      const site = state.scene.sites[state.cursor];
      const v = view();
      point({ kind: "site", index: state.cursor }, site.x * v.k + v.x, site.y * v.k + v.y);
    } else if (event.key === "Enter" && state.cursor >= 0) open({ kind: "site", index: state.cursor });
    else if (event.key === "Escape") open(null);
    else return;
    event.preventDefault();
  });
  for (const button of parent.querySelectorAll("button")) {
    button.addEventListener("click", () => {
      if (button.dataset.zoom === "0") { state.zoom = 1; hold(); draw(); } else zoomAt(Number(button.dataset.zoom), state.width / 2, state.height / 2);
    });
  }

  const fit = () => {
    if (!canvas.clientWidth || !state.data) return;
    const ratio = window.devicePixelRatio || 1;
    const { box } = state.data;
    const width = canvas.clientWidth;
    const height = Math.min(state.data.height, Math.round((width * (box[3] - box[1])) / (box[2] - box[0])) + 12);
    canvas.style.height = `${height}px`;
    state.dx *= state.width ? width / state.width : 1;
    state.dy *= state.height ? height / state.height : 1;
    state.width = width;
    state.height = height;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    draw();
  };
  let last = 0;
  const observer = new ResizeObserver(() => {
    // Our own change of height must not call us again.
    if (canvas.clientWidth !== last) { last = canvas.clientWidth; fit(); }
  });
  state.fit = fit;
  // Labels are drawn in the page's font, which may come later.
  state.watch = () => { observer.observe(canvas); document.fonts.addEventListener("loadingdone", fit); };
  state.end = () => { observer.disconnect(); document.fonts.removeEventListener("loadingdone", fit); };
  return state;
}

export default function (component) {
  const { parentElement, setTriggerValue } = component;
  let state = mounts.get(parentElement);
  if (!state || !parentElement.contains(state.canvas)) {
    state = mount(parentElement);
    mounts.set(parentElement, state);
  }
  state.send = (name, value) => setTriggerValue(name, value);
  if (equal(state.message, component.data)) {
    // Nothing new: what the pointer is at stays, and nothing is drawn again.
    state.watch();
    return state.end;
  }
  state.message = component.data;
  const data = told(component.data);
  const root = parentElement.querySelector(".map");
  root.style.setProperty("--text", data.colours.text);
  root.style.setProperty("--muted", data.colours.muted);
  root.style.setProperty("--line", data.colours.line);
  root.style.setProperty("--page", data.colours.page);
  root.style.setProperty("--accent", data.colours.accent);
  state.canvas.setAttribute("aria-label", data.alt);
  state.data = data;
  state.hover = null;
  state.tip.style.opacity = 0;
  const pieces = lines(data.paths);
  state.scene = {
    sphere: once(data.sphere),
    land: once(data.land),
    borders: once(data.borders),
    rings: data.rings.map((ring) => ({ text: ring.text, pieces: lines(ring.line) })),
    sites: data.sites.map((site) => ({ ...site, degree: 0 })),
    links: data.links.map((link) => ({ ...link, pieces: pieces.slice(link.first, link.first + link.pieces) })),
  };
  for (const link of state.scene.links) { state.scene.sites[link.a].degree += 1; state.scene.sites[link.b].degree += 1; }
  for (const site of state.scene.sites) if (site.degree || !site.dot) site.tip = [...site.tip, ["links drawn", String(site.degree)]];
  if (state.cursor >= data.sites.length) state.cursor = -1;
  legend(parentElement, data);
  state.watch();
  state.fit();
  // The live map is there: the picture that stood for it goes (app/poster.py).
  if (!parentElement.poster) document.getElementById("iso-poster")?.remove();
  return state.end;
}
