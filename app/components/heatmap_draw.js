// What the heat map looks like. Joined to heatmap.js by app/components/heatmap.py.

// Gives two functions: `layout` measures labels and says where everything goes, `draw` draws `state` there.
function painter(state) {
  const context = state.canvas.getContext("2d");

  const shade = (index) => {
    const at = index * 3;
    return [state.palette[at], state.palette[at + 1], state.palette[at + 2]];
  };

  function layout() {
    const { data } = state;
    context.font = `12px ${data.font}`;
    const widest = (labels) => labels.reduce((most, item) => Math.max(most, context.measureText(item.label).width), 0);
    const band = data.row_groups.length > 1 ? 18 : 0;
    const left = Math.min(190, Math.ceil(widest(data.rows)) + 14 + band);
    const longest = widest(data.columns);
    const available = state.canvas.clientWidth - left - 8;
    const tilt = longest + 10 > Math.min(available / data.columns.length, 132);
    // A tilted label of the last column leans over the edge: leave it room.
    const lean = tilt ? Math.min(80, longest * 0.6) : 0;
    const cell = Math.min((available - lean) / data.columns.length, 132);
    const top = (tilt ? Math.min(130, Math.ceil(longest * 0.82) + 12) : 22) + (data.column_groups.length > 1 ? 18 : 0);
    // Rows stay readable up to about 40; beyond that the picture is the message and a cell may be one pixel high.
    const rowHeight = clamp(Math.min(cell * 0.5, 640 / data.rows.length), data.rows.length > 120 ? 2 : 13, 38);
    const right = left + cell * data.columns.length;
    return { left, top, band, cell, rowHeight, tilt, right, height: Math.ceil(top + rowHeight * data.rows.length + 4) };
  }

  const shorten = (text, room) => {
    if (context.measureText(text).width <= room) return text;
    let cut = text;
    while (cut.length > 2 && context.measureText(`${cut}…`).width > room) cut = cut.slice(0, -1);
    return `${cut}…`;
  };

  // Not measured: hatched, so that it is no step of the scale even to an eye that sees no hue.
  function hatch(x, y, width, height) {
    context.save();
    context.beginPath();
    context.rect(x, y, width, height);
    context.clip();
    context.beginPath();
    for (let at = -height; at < width; at += 6) {
      context.moveTo(x + at, y + height);
      context.lineTo(x + at + height, y);
    }
    context.strokeStyle = state.data.colours.line;
    context.lineWidth = 1;
    context.stroke();
    context.restore();
  }

  function draw() {
    const { data, place } = state;
    if (!data || !state.width) return;
    const ratio = window.devicePixelRatio || 1;
    const { colours } = data;
    const rows = data.rows.length;
    const columns = data.columns.length;
    const { left, top, cell, rowHeight } = place;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = colours.page;
    context.fillRect(0, 0, state.width, state.height);

    const gap = cell > 9 && rowHeight > 9 ? 1 : 0;
    const written = cell >= 36 && rowHeight >= 13;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.font = `${rowHeight > 26 ? 13 : rowHeight > 17 ? 12 : 11}px ${data.font}`;
    for (let r = 0; r < rows; r += 1) {
      for (let c = 0; c < columns; c += 1) {
        const i = r * columns + c;
        const x = left + c * cell;
        const y = top + r * rowHeight;
        const known = state.level[i] > 0;
        const [red, green, blue] = known ? shade(state.level[i] - 1) : [0, 0, 0];
        context.fillStyle = known ? `rgb(${red},${green},${blue})` : data.self[i] ? colours.page : colours.no_data;
        context.fillRect(x, y, cell - gap, rowHeight - gap);
        if (written && known) {
          context.fillStyle = red * 0.299 + green * 0.587 + blue * 0.114 > 140 ? "#10161C" : "#FFFFFF";
          context.fillText(data.texts[i], x + (cell - gap) / 2, y + (rowHeight - gap) / 2 + 0.5);
        } else if (!known && !data.self[i] && cell >= 8 && rowHeight >= 8) hatch(x, y, cell - gap, rowHeight - gap);
      }
    }

    const hot = state.hover;
    context.font = `12px ${data.font}`;
    context.textAlign = "right";
    const everyRow = Math.ceil(12 / rowHeight);
    data.rows.forEach((row, r) => {
      if (r % everyRow && !(hot && hot.r === r)) return;
      context.fillStyle = hot && hot.r === r ? colours.text : colours.muted;
      context.fillText(shorten(row.label, left - place.band - 12), left - 7, top + (r + 0.5) * rowHeight);
    });
    const everyColumn = Math.ceil(11 / cell);
    data.columns.forEach((column, c) => {
      if (c % everyColumn && !(hot && hot.c === c)) return;
      context.fillStyle = hot && hot.c === c ? colours.text : colours.muted;
      const x = left + (c + 0.5) * cell;
      if (place.tilt) {
        context.save();
        context.translate(x, top - 7);
        context.rotate(-0.95);
        context.textAlign = "left";
        context.fillText(column.label, 0, 0);
        context.restore();
      } else {
        context.textAlign = "center";
        context.fillText(column.label, x, top - 10);
      }
    });
    context.textAlign = "left";
    context.font = `600 11px ${data.font}`;
    // One style down and across: the name at the start of a group, a line along it, a line between groups, through the cells alone.
    context.fillStyle = colours.text;
    if (data.column_groups.length > 1) {
      data.column_groups.forEach((group) => context.fillText(shorten(group.name, (group.to - group.from) * cell - 4), left + group.from * cell, 8));
    }
    if (place.band) {
      data.row_groups.forEach((group) => {
        context.save();
        context.translate(8, top + group.from * rowHeight + 2);
        context.rotate(-Math.PI / 2);
        context.textAlign = "right";
        context.fillText(shorten(group.name, (group.to - group.from) * rowHeight - 4), 0, 0);
        context.restore();
      });
    }
    context.fillStyle = colours.muted;
    if (data.column_groups.length > 1) {
      data.column_groups.forEach((group) => {
        context.fillRect(left + group.from * cell, 16, (group.to - group.from) * cell - 4, 1);
        if (group.from > 0) context.fillRect(left + group.from * cell - 1, top, 1, rowHeight * rows);
      });
    }
    if (place.band) {
      data.row_groups.forEach((group) => {
        context.fillRect(16, top + group.from * rowHeight + 2, 1, (group.to - group.from) * rowHeight - 4);
        if (group.from > 0) context.fillRect(left, top + group.from * rowHeight - 1, cell * columns, 1);
      });
    }
    for (const at of [state.cursor, hot]) {
      if (!at) continue;
      context.strokeStyle = colours.text;
      context.lineWidth = 2;
      context.strokeRect(left + at.c * cell - 1, top + at.r * rowHeight - 1, cell + 1 - gap, rowHeight + 1 - gap);
    }
  }

  return { layout, draw };
}
