// What is under the pointer on the map of links, what is said of it, and what its colours mean. Joined to netmap.js by
// app/components/netmap.py.

// The site within 11 pixels of a point, else the link within 6, else nothing.
function find(state, v, px, py) {
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

// A tip beside the pointer: the head, then names and values.
function say(state, found, px, py) {
  const { tip } = state;
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
      const border = item.ring ? `1.6px solid ${item.colour}` : "0";
      Object.assign(line.style, { width: size, height: size, border, borderRadius: "50%", background: item.ring ? "none" : item.colour });
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
