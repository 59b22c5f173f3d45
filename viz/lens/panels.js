// The router map, attention map and load bars of a layer. Each paints its data once, and marks of the pointer above.
const LEFT = 34, TOP = 20;

function frame(context, x, y, width, height, color, line) {
  context.strokeStyle = css(color);
  context.lineWidth = line;
  context.strokeRect(x - line / 2, y - line / 2, width + line, height + line);
}

function note(context, plot, colors, text) {
  context.fillStyle = css(colors.muted);
  context.textAlign = 'center';
  context.font = `${14 * plot.dpr}px ${plot.font}`;
  context.fillText(text, plot.width / 2, plot.height / 2);
}

// Paints token numbers along the left side, and a dashed line at the end of the prompt.
function tokenMarks(context, plot, rows, colors, end, right) {
  context.fillStyle = css(colors.muted);
  context.textAlign = 'right';
  for (const i of rows.marks(22 * plot.dpr)) {
    context.fillText(i, rows.left - 6 * plot.dpr, Math.min(rows.position(i) + rows.extent(i) / 2, plot.height - 6 * plot.dpr));
  }
  if (end <= 0 || end >= rows.count) return;
  context.strokeStyle = css(colors.muted);
  context.lineWidth = plot.dpr;
  context.setLineDash([3 * plot.dpr, 3 * plot.dpr]);
  context.beginPath();
  context.moveTo(rows.left, rows.position(end) - 0.5);
  context.lineTo(right, rows.position(end) - 0.5);
  context.stroke();
  context.setLineDash([]);
}

function tokenRows(plot, count) {
  const from = TOP * plot.dpr, rows = new Axis(from, plot.height - from, count, { most: 10 * plot.dpr });
  rows.left = LEFT * plot.dpr;
  return rows;
}

class RouterMap extends Plot {
  layout(view) {
    const { header } = view.run, d = this.dpr, from = LEFT * d, room = this.width - from - 2 * d;
    this.byLayer = view.map === 'layers';
    this.rows = tokenRows(this, view.count);
    this.columns = this.byLayer
      ? new Axis(from, room, header.moe_layers.length, { most: 40 * d })
      : new Axis(from, room, header.num_experts, { groups: header.num_groups, gap: Math.round(5 * d), most: 18 * d });
  }

  paint(view) {
    const context = this.clear(this.base), { colors, run, count } = view;
    this.layout(view);
    if (!run.header.top_k) return note(context, this, colors, 'no routing was recorded');
    if (!this.byLayer && view.moe < 0) return note(context, this, colors, `layer ${view.layer} is dense: every token takes the same path`);
    tokenMarks(context, this, this.rows, colors, view.promptEnd, this.columns.end);
    if (this.byLayer) this.paintLayers(context, view);
    else {
      this.paintExperts(context, view);
      this.paintFirst(context, view);
    }
  }

  paintLayers(context, { run, count, colors, layer }) {
    const { rows, columns, dpr } = this, layers = run.header.moe_layers;
    context.textAlign = 'center';
    layers.forEach((number, m) => {
      context.fillStyle = css(number === layer ? colors.ink : colors.muted);
      context.fillText(`L${number}`, columns.position(m) + columns.extent(m) / 2, (TOP * dpr) / 2);
      const gap = columns.step > 6 * dpr ? dpr : 0;
      for (let i = 0; i < count; i++) {
        const top = run.experts(i, m)[0];
        if (top >= 0) context.fillStyle = css(colors.expert(top));
        if (top >= 0) context.fillRect(columns.position(m), rows.position(i), columns.extent(m) - gap, Math.max(1, rows.extent(i) - (rows.step > 4 * dpr ? dpr : 0)));
      }
    });
  }

  // Paints one image per group: the affinity to every expert, paler if the group was not kept, and on it the selected
  // experts in their own colours, more opaque with a larger weight.
  paintExperts(context, { run, count, colors, moe, isolated }) {
    const { rows, columns, dpr } = this, { num_experts: experts, num_groups: groups } = run.header, size = experts / groups;
    // A cell holds what is drawn, and what wins where several share a pixel: nothing (0), affinity of a group that was not
    // kept (1 to 256), of a kept one (257 to 512), the weight of a selected expert (513 to 768); each times SPAN plus expert.
    const images = Array.from({ length: groups }, () => new Int32Array(size * count)), SPAN = 4096;
    const color = (cell) => {
      const kind = Math.floor(cell / SPAN), e = cell % SPAN;
      if (kind > 512) return pack(mixed(colors.background, colors.expert(e), 0.45 + 0.55 * ((kind - 513) / 255)));
      return kind > 256 ? colors.affinity[kind - 257] : kind ? colors.unkept[kind - 1] : 0;
    };
    const shown = (e) => e >= 0 && (isolated < 0 || isolated === e);
    for (let i = 0; i < count; i++) {
      const scores = run.scores(i, moe), chosen = run.experts(i, moe), weights = run.weights(i, moe), heaviest = Math.max(...weights) || 1;
      images.forEach((pixels, g) => {
        const kind = run.kept(i, moe, g) ? 257 : 1;
        if (scores) for (let e = 0; e < size; e++) if (shown(g * size + e)) pixels[i * size + e] = (kind + scores[g * size + e]) * SPAN + g * size + e;
      });
      chosen.forEach((e, rank) => {
        const share = Number.isFinite(weights[rank]) ? weights[rank] / heaviest : 1;
        if (shown(e)) images[Math.floor(e / size)][i * size + (e % size)] = (513 + Math.round(255 * share)) * SPAN + e;
      });
    }
    context.textAlign = 'left';
    images.forEach((pixels, g) => {
      const first = g * size, x = columns.position(first), width = columns.position(first + size - 1) + columns.extent(first + size - 1) - x;
      context.fillStyle = css(colors.muted);
      if (width > 30 * dpr) context.fillText(`E${first}–${first + size - 1}`.slice(0, width > 52 * dpr ? 12 : `E${first}`.length), x, (TOP * dpr) / 2 - 2 * dpr);
      context.fillStyle = css(colors.group(g));
      context.fillRect(x, TOP * dpr - 4 * dpr, width, 2 * dpr);
      paintCells(context, pixels, size, count, color, x, rows.from, width, rows.end - rows.from);
    });
  }

  // Outlines each token's expert of the largest weight, if it is known and cells are large enough.
  paintFirst(context, { run, count, colors, moe, isolated }) {
    const { rows, columns, dpr } = this;
    if (rows.step < 4 * dpr || columns.step < 5 * dpr) return;
    for (let i = 0; i < count; i++) {
      const e = run.experts(i, moe)[0], unweighed = !Number.isFinite(run.weights(i, moe)[0]);
      if (!(e >= 0) || unweighed || (isolated >= 0 && isolated !== e)) continue;
      frame(context, columns.position(e) + dpr, rows.position(i) + dpr, columns.extent(e) - 2 * dpr, rows.extent(i) - 2 * dpr, colors.ink, dpr);
    }
  }

  point({ focus, expert, colors, run, layer }) {
    const context = this.clear(this.over), { rows, columns, dpr } = this, from = columns.from;
    if (!run.header.top_k) return;
    const column = this.byLayer ? run.moe(layer) : expert;
    if (column >= 0 && column < columns.count && rows.count) frame(context, columns.position(column), rows.from, columns.extent(column), rows.end - rows.from, colors.ink, dpr);
    if (focus >= 0 && focus < rows.count) frame(context, from, rows.position(focus), columns.end - from, rows.extent(focus), colors.ink, Math.round(1.5 * dpr));
  }

  hit(event) {
    const [x, y] = this.at(event), token = this.rows.index(y), column = this.columns.index(x);
    if (column < 0) return null;
    return this.byLayer ? token >= 0 && { token, moe: column } : { token, expert: column };
  }
}

class AttentionMap extends Plot {
  paint(view) {
    const context = this.clear(this.base), { colors, count } = view, d = this.dpr, from = LEFT * d;
    this.rows = tokenRows(this, count);
    this.columns = new Axis(from, this.width - from - 2 * d, count, { most: 10 * d });
    if (!view.run.header.heads.length) return note(context, this, colors, 'attention was not recorded');
    if (view.run.attentive(view.layer) < 0) return note(context, this, colors, `attention of layer ${view.layer} was not recorded`);
    const cells = new Uint16Array(count * count), future = pack(mixed(colors.background, colors.grid, 0.3)); // 0: the future
    for (let i = 0; i < count; i++) {
      const row = view.run.attention(i, view.layer, view.head);
      for (let k = 0; k <= i; k++) cells[i * count + k] = row ? 2 + row[k] : 1;
    }
    const color = (cell) => (cell > 1 ? colors.attention[cell - 2] : cell ? 0 : future);
    paintCells(context, cells, count, count, color, from, this.rows.from, this.columns.end - from, this.rows.end - this.rows.from);
    tokenMarks(context, this, this.rows, colors, view.promptEnd, this.columns.end);
    context.textAlign = 'left';
    context.fillStyle = css(colors.muted);
    for (const i of this.columns.marks(34 * d)) context.fillText(i, Math.min(this.columns.position(i), this.width - 24 * d), (TOP * d) / 2);
  }

  point({ focus, key, colors, run, layer }) {
    const context = this.clear(this.over), { rows, columns, dpr } = this;
    if (run.attentive(layer) < 0 || !run.header.heads.length) return;
    if (key >= 0 && key < columns.count) frame(context, columns.position(key), rows.position(key), columns.extent(key), rows.end - rows.position(key), colors.muted, dpr);
    if (focus >= 0 && focus < rows.count) frame(context, columns.from, rows.position(focus), columns.position(focus) + columns.extent(focus) - columns.from, rows.extent(focus), colors.ink, Math.round(1.5 * dpr));
  }

  hit(event) {
    const [x, y] = this.at(event), token = this.rows.index(y), key = this.columns.index(x);
    return token >= 0 && key >= 0 && { token, key: key <= token ? key : -1 };
  }
}

class LoadBars extends Plot {
  paint(view) {
    const context = this.clear(this.base), { colors, run, count, moe } = view, d = this.dpr, from = LEFT * d;
    const { num_experts: experts, num_groups: groups } = run.header;
    this.rows = new Axis(TOP * d, this.height - TOP * d, experts, { groups, gap: Math.round(5 * d), most: 18 * d });
    this.load = moe < 0 ? [] : relativeLoad(run, moe, count);
    if (moe < 0 || !run.header.top_k) return note(context, this, colors, 'no experts here');
    const most = Math.max(2, Math.ceil(Math.max(...this.load))), room = this.width - from - 12 * d;
    this.x = (ratio) => from + (ratio / most) * room;
    this.paintBand(context, view, most);
    this.load.forEach((ratio, e) => this.paintBar(context, view, ratio, e));
    this.paintScale(context, colors, most);
  }

  // Paints the range by chance alone for this many tokens, faint behind the bars.
  paintBand(context, { band, colors }, most) {
    if (!band) return;
    const [low, high] = band.map((ratio) => this.x(Math.min(ratio, most))), top = TOP * this.dpr;
    context.fillStyle = css(colors.muted, 0.18);
    context.fillRect(low, top, high - low, this.rows.end - top);
  }

  paintBar(context, { colors, isolated, run }, ratio, e) {
    const { rows, dpr: d } = this, height = rows.extent(e) - (rows.step > 5 * d ? d : 0), size = run.header.num_experts / run.header.num_groups;
    context.globalAlpha = isolated < 0 || isolated === e ? 1 : 0.2;
    context.fillStyle = css(colors.ratio(ratio));
    context.fillRect(this.x(0), rows.position(e), this.x(ratio) - this.x(0), height);
    context.fillStyle = css(colors.expert(e));
    context.fillRect(this.x(0) - 4 * d, rows.position(e), 3 * d, height);
    context.globalAlpha = 1;
    context.textAlign = 'right';
    context.fillStyle = css(colors.muted);
    if (e % size === 0 && size * rows.step > 12 * d) context.fillText(`E${e}`, this.x(0) - 6 * d, Math.max(rows.position(e) + 6 * d, rows.position(e) + height / 2));
  }

  paintScale(context, colors, most) {
    const { dpr: d } = this, y = TOP * d;
    context.fillStyle = css(colors.muted);
    context.textAlign = 'center';
    for (let ratio = 0; ratio <= most; ratio += Math.ceil(most / 4)) context.fillText(ratio, this.x(ratio), y / 2 - 2 * d);
    if (most > 4) context.fillText('1', this.x(1), y / 2 - 2 * d);
    context.strokeStyle = css(colors.ink);
    context.lineWidth = d;
    context.setLineDash([4 * d, 3 * d]);
    context.beginPath();
    context.moveTo(Math.round(this.x(1)) + 0.5, y - 4 * d);
    context.lineTo(Math.round(this.x(1)) + 0.5, this.rows.end);
    context.stroke();
    context.setLineDash([]);
  }

  point({ expert, focus, run, moe, colors }) {
    const context = this.clear(this.over), { rows, dpr: d } = this;
    if (moe < 0 || !run.header.top_k) return;
    const marked = expert >= 0 ? [expert] : focus >= 0 ? [...run.experts(focus, moe)] : [];
    let free = 0;
    for (const e of marked.filter((e) => e >= 0 && e < rows.count).sort((a, b) => a - b)) {
      const top = rows.position(e), height = rows.extent(e) - (rows.step > 5 * d ? d : 0);
      frame(context, this.x(0) - 4 * d, top, Math.max(this.x(this.load[e]) - this.x(0), 2 * d) + 4 * d, height, colors.ink, d);
      if (top < free) continue;
      this.label(context, colors, e);
      free = top + 14 * d;
    }
  }

  label(context, colors, e) {
    const { dpr: d, rows } = this, text = `E${e} ${number(this.load[e])}×`, width = context.measureText(text).width + 6 * d;
    const x = Math.min(this.x(this.load[e]) + 5 * d, this.width - width), y = rows.position(e) + rows.extent(e) / 2;
    context.fillStyle = css(colors.background, 0.85);
    context.fillRect(x, y - 7 * d, width, 14 * d);
    context.fillStyle = css(colors.ink);
    context.textAlign = 'left';
    context.fillText(text, x + 3 * d, y);
  }

  hit(event) {
    const expert = this.rows.index(this.at(event)[1]);
    return expert >= 0 && { expert };
  }
}
