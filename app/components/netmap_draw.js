// What the map of links looks like. Joined to netmap.js by app/components/netmap.py.

// Packed lines (app/projection.py) as views on their points.
const lines = (packed) => {
  const xy = decode(packed.xy, "f4");
  let at = 0;
  return packed.sizes.map((size) => {
    const piece = xy.subarray(at * 2, (at + size) * 2);
    at += size;
    return piece;
  });
};

// What is the same on every map of the page is decoded once.
const world = new Map();
const once = (packed) => {
  if (!world.has(packed.xy)) world.set(packed.xy, lines(packed));
  return world.get(packed.xy);
};

// Gives the function that draws `state`: the world, isochrones, links, sites, and as many labels as fit without touching.
function painter(state, view) {
  const context = state.canvas.getContext("2d");

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

    // What failed is drawn over its neighbours, and so is what stands out among dots.
    const over = (site) => (site.failed ? 2 : site.dot ? (site.dot.ring ? 0.5 : 0) : 1);
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
        if (site.dot.ring) {
          context.fillStyle = colours.page;
          context.fill();
          context.strokeStyle = site.dot.colour;
          context.lineWidth = 1.6;
          context.stroke();
          return;
        }
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

  return draw;
}
