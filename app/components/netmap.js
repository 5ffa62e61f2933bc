// The map of links. `data` is made by app/components/netmap.py; coordinates come projected, y downwards.
// Sends two triggers: `site` (an id, or "" for open water) and `link` ([src, dst]).

const decode = (text) => {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i += 1) bytes[i] = raw.charCodeAt(i);
  return new Float32Array(bytes.buffer);
};

const lines = (packed) => {
  const xy = decode(packed.xy);
  let at = 0;
  return packed.sizes.map((size) => {
    const piece = xy.subarray(at * 2, (at + size) * 2);
    at += size;
    return piece;
  });
};

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

// What outlives a rerun: the view, the pointer and the listeners. One per mounted element.
const mounts = new WeakMap();

function mount(parent) {
  const canvas = parent.querySelector("canvas");
  const tip = parent.querySelector(".tip");
  const state = { canvas, tip, zoom: 1, dx: 0, dy: 0, hover: null, cursor: -1, drag: null, width: 0, height: 0, scene: null, data: null };
  const context = canvas.getContext("2d");

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

  const trace = (piece, v) => {
    context.moveTo(piece[0] * v.k + v.x, piece[1] * v.k + v.y);
    for (let i = 2; i < piece.length; i += 2) context.lineTo(piece[i] * v.k + v.x, piece[i + 1] * v.k + v.y);
  };

  function draw() {
    const { data, scene } = state;
    if (!data || !state.width) return;
    const colours = data.colours;
    const ratio = window.devicePixelRatio || 1;
    const v = view();
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = colours.page;
    context.fillRect(0, 0, state.width, state.height);
    context.beginPath();
    for (const piece of scene.sphere) { trace(piece, v); context.closePath(); }
    context.fillStyle = colours.ocean;
    context.fill();
    context.strokeStyle = colours.line;
    context.lineWidth = 1;
    context.stroke();

    context.beginPath();
    for (const piece of scene.land) { trace(piece, v); context.closePath(); }
    context.fillStyle = colours.land;
    context.fill("evenodd");
    context.beginPath();
    for (const piece of scene.borders) trace(piece, v);
    context.strokeStyle = colours.border;
    context.lineWidth = 0.8;
    context.stroke();

    context.font = `11px ${data.font}`;
    context.textBaseline = "middle";
    for (const ring of scene.rings) {
      context.setLineDash([2, 4]);
      context.beginPath();
      for (const piece of ring.pieces) trace(piece, v);
      context.strokeStyle = colours.accent;
      context.globalAlpha = 0.75;
      context.lineWidth = 1;
      context.stroke();
      context.setLineDash([]);
      context.globalAlpha = 1;
    }

    const lit = state.hover && state.hover.kind === "site" ? state.hover.index : -1;
    const hotLink = state.hover && state.hover.kind === "link" ? state.hover.index : -1;
    context.lineCap = "round";
    for (let i = scene.links.length - 1; i >= 0; i -= 1) {
      const link = scene.links[i];
      const near = lit < 0 || link.a === lit || link.b === lit;
      context.globalAlpha = near ? (i === hotLink ? 1 : 0.82) : 0.1;
      context.strokeStyle = link.colour;
      context.lineWidth = link.width * (i === hotLink ? 1.9 : 1);
      context.setLineDash(link.dash ? [5, 4] : []);
      context.beginPath();
      for (const piece of link.pieces) trace(piece, v);
      context.stroke();
    }
    context.setLineDash([]);
    context.globalAlpha = 1;

    // What failed is drawn over its neighbours.
    const over = (site) => (site.failed ? 2 : site.dot ? 0 : 1);
    const order = scene.sites.map((site, i) => [site, i]).sort((a, b) => over(a[0]) - over(b[0]));
    order.forEach(([site, i]) => {
      const x = site.x * v.k + v.x;
      const y = site.y * v.k + v.y;
      const size = (site.kind === "pop" ? 3.6 : 3.1) * (i === lit ? 1.35 : 1);
      context.lineWidth = 1.4;
      if (site.failed) {
        context.strokeStyle = colours.warning;
        context.lineWidth = 2.4;
        context.beginPath();
        context.moveTo(x - 6, y - 6); context.lineTo(x + 6, y + 6);
        context.moveTo(x + 6, y - 6); context.lineTo(x - 6, y + 6);
        context.stroke();
        return;
      }
      if (site.id === data.focus) {
        context.beginPath();
        context.arc(x, y, 8, 0, 7);
        context.strokeStyle = colours.accent;
        context.lineWidth = 2;
        context.stroke();
      }
      context.beginPath();
      if (site.dot) {
        context.arc(x, y, site.dot.size * (i === lit ? 1.35 : 1), 0, 7);
        context.fillStyle = site.dot.colour;
        context.fill();
        context.strokeStyle = colours.land;
        context.lineWidth = 0.6;
        context.stroke();
        return;
      }
      if (site.kind === "pop") context.arc(x, y, size, 0, 7);
      else if (site.kind === "metro") { context.moveTo(x, y - size - 1); context.lineTo(x + size + 1, y + size); context.lineTo(x - size - 1, y + size); context.closePath(); }
      else context.rect(x - size, y - size, size * 2, size * 2);
      context.fillStyle = site.kind === "pop" ? colours.pop : colours.ocean;
      context.fill();
      context.strokeStyle = site.kind === "pop" ? colours.ocean : colours.region;
      context.stroke();
    });

    label(v, lit);
  }

  function label(v, lit) {
    const { data, scene } = state;
    const colours = data.colours;
    const taken = [];
    const order = scene.sites.map((site, i) => i).sort((a, b) => rank(b, lit) - rank(a, lit));
    const many = scene.sites.length > 150 && state.zoom < 2.5;
    context.lineJoin = "round";
    const put = (text, x, y, colour, must) => {
      const width = context.measureText(text).width;
      for (const [left, top] of [[x + 7, y - 7], [x - 7 - width, y - 7], [x - width / 2, y - 20], [x - width / 2, y + 6]]) {
        const box = [left - 2, top, left + width + 2, top + 14];
        if (box[0] < 2 || box[2] > state.width - 2 || box[1] < 2 || box[3] > state.height - 2) continue;
        if (!must && taken.some((t) => box[0] < t[2] && box[2] > t[0] && box[1] < t[3] && box[3] > t[1])) continue;
        taken.push(box);
        context.strokeStyle = colours.ocean;
        context.lineWidth = 3;
        context.globalAlpha = 0.85;
        context.strokeText(text, left, top + 7);
        context.globalAlpha = 1;
        context.fillStyle = colour;
        context.fillText(text, left, top + 7);
        return;
      }
    };
    scene.sites.forEach((site) => {
      const x = site.x * v.k + v.x;
      const y = site.y * v.k + v.y;
      taken.push([x - 4, y - 4, x + 4, y + 4]);
    });
    for (const ring of scene.rings) {
      const piece = ring.pieces[0];
      let top = 0;
      for (let i = 2; i < piece.length; i += 2) if (piece[i + 1] < piece[top + 1]) top = i;
      put(ring.text, piece[top] * v.k + v.x, piece[top + 1] * v.k + v.y, colours.accent, false);
    }
    for (const i of order) {
      const site = scene.sites[i];
      const must = i === lit || site.id === data.focus || site.failed;
      if (many && !must && (site.kind !== "pop" || site.dot)) continue;
      context.font = `${site.kind === "pop" || must ? 600 : 400} ${site.kind === "pop" || must ? 12 : 11}px ${data.font}`;
      put(site.label, site.x * v.k + v.x, site.y * v.k + v.y, site.kind === "pop" || must ? colours.text : colours.muted, must);
    }
  }

  const rank = (i, lit) => {
    const site = state.scene.sites[i];
    return (i === lit ? 8 : 0) + (site.id === state.data.focus || site.failed ? 4 : 0) + (site.kind === "pop" ? 2 : 0) + Math.min(site.degree, 99) / 100;
  };

  function find(px, py) {
    const v = view();
    let best = null;
    let least = 11;
    state.scene.sites.forEach((site, index) => {
      const d = Math.hypot(site.x * v.k + v.x - px, site.y * v.k + v.y - py);
      if (d < least) { least = d; best = { kind: "site", index }; }
    });
    if (best) return best;
    least = 6;
    state.scene.links.forEach((link, index) => {
      for (const piece of link.pieces) {
        for (let i = 2; i < piece.length; i += 2) {
          const ax = piece[i - 2] * v.k + v.x;
          const ay = piece[i - 1] * v.k + v.y;
          const ex = piece[i] * v.k + v.x - ax;
          const ey = piece[i + 1] * v.k + v.y - ay;
          const t = clamp(((px - ax) * ex + (py - ay) * ey) / (ex * ex + ey * ey || 1), 0, 1);
          const d = Math.hypot(ax + t * ex - px, ay + t * ey - py);
          if (d < least) { least = d; best = { kind: "link", index }; }
        }
      }
    });
    return best;
  }

  function say(found, px, py) {
    tip.replaceChildren();
    if (!found) { tip.style.opacity = 0; return; }
    const thing = found.kind === "site" ? state.scene.sites[found.index] : state.scene.links[found.index];
    thing.tip.forEach((row, i) => {
      const line = document.createElement("div");
      if (i === 0) line.className = "head";
      if (Array.isArray(row)) {
        for (const cell of row) { const span = document.createElement("span"); span.textContent = cell; line.append(span); }
      } else line.textContent = row;
      tip.append(line);
    });
    tip.style.opacity = 1;
    const box = tip.getBoundingClientRect();
    tip.style.left = `${px + 16 + box.width > state.width ? Math.max(4, px - 12 - box.width) : px + 14}px`;
    tip.style.top = `${py + 16 + box.height > state.height ? Math.max(4, py - 10 - box.height) : py + 14}px`;
  }

  const same = (a, b) => (a === null) === (b === null) && (a === null || (a.kind === b.kind && a.index === b.index));
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const point = (found, px, py) => {
    const changed = !same(found, state.hover);
    state.hover = found;
    say(found, px, py);
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
        say(null);
        draw();
      }
      return;
    }
    point(find(px, py), px, py);
  });
  canvas.addEventListener("pointerup", (event) => {
    const moved = state.drag && state.drag.moved;
    state.drag = null;
    if (!moved) open(find(...place(event)));
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
  state.watch = () => observer.observe(canvas);
  state.end = () => observer.disconnect();
  return state;
}

function legend(parent, data) {
  const box = parent.querySelector(".legend .keys");
  box.replaceChildren();
  const add = (tag, text, className) => {
    const node = document.createElement(tag);
    if (text) node.textContent = text;
    if (className) node.className = className;
    box.append(node);
    return node;
  };
  if (data.legend.title) add("span", data.legend.title, "title");
  for (const item of data.legend.items) {
    const key = add("span", "", "key");
    const line = document.createElement("i");
    if (item.dot) {
      const size = `${item.dot * 2}px`;
      Object.assign(line.style, { width: size, height: size, border: "0", borderRadius: "50%", background: item.colour });
    } else {
      line.style.borderTopColor = item.colour;
      line.style.borderTopWidth = `${item.width}px`;
      line.style.borderTopStyle = item.dash ? "dashed" : "solid";
    }
    key.append(line, document.createTextNode(item.text));
  }
  for (const mark of data.legend.marks) {
    const key = add("span", "", "key");
    const shape = document.createElement("b");
    shape.className = mark.shape;
    shape.style.setProperty("--c", mark.colour);
    key.append(shape, document.createTextNode(mark.text));
  }
}

export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  let state = mounts.get(parentElement);
  if (!state || !parentElement.contains(state.canvas)) {
    state = mount(parentElement);
    mounts.set(parentElement, state);
  }
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
    sphere: lines(data.sphere),
    land: lines(data.land),
    borders: lines(data.borders),
    rings: data.rings.map((ring) => ({ text: ring.text, pieces: lines(ring.line) })),
    sites: data.sites,
    links: data.links.map((link) => ({ ...link, pieces: pieces.slice(link.first, link.first + link.pieces) })),
  };
  if (state.cursor >= data.sites.length) state.cursor = -1;
  state.send = (name, value) => setTriggerValue(name, value);
  legend(parentElement, data);
  state.watch();
  state.fit();
  return state.end;
}
