// Colours, sharp canvases and axes.
const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
const pack = ([r, g, b]) => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
const mixed = (a, b, share) => a.map((v, i) => Math.round(v + (b[i] - v) * share));
const css = (color, alpha = 1) => `rgb(${color.join(' ')} / ${alpha})`;

// Converts a computed colour (hex or rgb()) to hex.
function toHex(color) {
  if (/^#[0-9a-f]{6}/i.test(color)) return color.slice(0, 7);
  const context = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  context.fillStyle = color;
  context.fillRect(0, 0, 1, 1);
  return '#' + [...context.getImageData(0, 0, 1, 1).data].slice(0, 3).map((v) => v.toString(16).padStart(2, '0')).join('');
}

function scale(stops) {
  const colors = stops.map(rgb);
  return (share) => {
    const at = Math.min(Math.max(share, 0), 1) * (colors.length - 1), left = Math.min(colors.length - 2, Math.floor(at));
    return mixed(colors[left], colors[left + 1], at - left);
  };
}

// A palette ready to use: scales as functions, and pixel tables for companded bytes.
class Colors {
  constructor(palette, background, ink) {
    this.background = rgb(background);
    this.ink = rgb(ink);
    this.muted = rgb(palette.muted ?? '#5e6771');
    this.grid = rgb(palette.grid ?? '#d0d3d6');
    this.experts = palette.experts.map(rgb);
    this.groups = palette.groups.map(rgb);
    // Zero has the colour of the page, whatever it is.
    [this.sequential, this.surprisal] = [palette.sequential, palette.surprisal].map((stops) => scale([background, ...stops.slice(1)]));
    this.load = scale(palette.load);
    const table = (color) => Uint32Array.from({ length: 256 }, (_, v) => pack(color(v / 255)));
    this.attention = table(this.sequential);
    // Affinity is grey, so that the experts' own colours stand out; paler if the group was not kept.
    this.affinity = table((share) => mixed(this.background, this.ink, 0.5 * share));
    this.unkept = table((share) => mixed(this.background, this.ink, 0.14 * share));
    this.shade = this.sequential(0.62);
  }
  expert(e) { return this.experts[e % this.experts.length]; }
  group(g) { return this.groups[g % this.groups.length]; }
  // Colour of a ratio to uniform; the scale ends at 1/4 and 4.
  ratio(value) { return this.load(value > 0 ? (Math.log2(value) + 2) / 4 : 0); }
}

// Two canvases on top of each other: the data, and above it the marks of the pointer. Both in device pixels.
class Plot {
  constructor(figure) {
    this.figure = figure;
    this.box = figure.querySelector('.plot');
    [this.base, this.over] = [0, 1].map(() => this.box.appendChild(document.createElement('canvas')));
    this.fit();
  }

  // Fits the canvases to the box; returns whether their size changed, so that both must be painted again.
  // `scale` is the size of text and marks over the usual size.
  fit(scale = 1) {
    const ratio = window.devicePixelRatio || 1, dpr = ratio * scale;
    const width = Math.round(this.box.clientWidth * ratio), height = Math.round(this.box.clientHeight * ratio);
    if (this.base.width === width && this.base.height === height && this.dpr === dpr) return false;
    for (const canvas of [this.base, this.over]) [canvas.width, canvas.height] = [width, height];
    [this.ratio, this.dpr, this.width, this.height] = [ratio, dpr, width, height];
    return true;
  }

  clear(canvas) {
    const context = canvas.getContext('2d');
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.font = `${12 * this.dpr}px ${this.font ?? 'sans-serif'}`;
    context.textBaseline = 'middle';
    return context;
  }

  // Pointer position in device pixels.
  at(event) {
    const box = this.box.getBoundingClientRect();
    return [(event.clientX - box.left) * this.ratio, (event.clientY - box.top) * this.ratio];
  }
}

// Positions along an axis: whole pixels if that wastes little space, else an even spread; gaps between groups.
class Axis {
  constructor(from, length, count, { most = Infinity, groups = 1, gap = 0 } = {}) {
    const room = length - gap * (groups - 1), even = count ? room / count : 0;
    this.step = Math.min(most, Math.floor(even) > 0.85 * even ? Math.floor(even) : even);
    Object.assign(this, { from, count, gap, size: Math.max(1, count / groups) });
  }
  position(i) { return Math.round(this.from + i * this.step + this.gap * Math.floor(i / this.size)); }
  extent(i) { return Math.max(1, Math.round(this.from + (i + 1) * this.step + this.gap * Math.floor(i / this.size)) - this.position(i)); }
  get end() { return this.count ? this.position(this.count - 1) + this.extent(this.count - 1) : this.from; }
  // Index at a position; -1 outside. A gap belongs to the group before it.
  index(position) {
    const group = Math.floor((position - this.from) / (this.size * this.step + this.gap));
    const within = Math.min(this.size - 1, Math.floor((position - this.from - group * (this.size * this.step + this.gap)) / this.step));
    const i = group * this.size + within;
    return position >= this.from && position < this.end && i < this.count ? i : -1;
  }
  // Indices to label, at least `apart` pixels from each other.
  marks(apart) {
    const steps = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000];
    const every = steps.find((step) => step * this.step >= apart) ?? 10000;
    return Array.from({ length: Math.ceil(this.count / every) }, (_, i) => i * every);
  }
}

// Reduces rows x columns values to at most height x width, each the largest of those in its place: no value is averaged.
function reduced(values, columns, rows, width, height) {
  const [w, h] = [Math.min(columns, Math.max(1, Math.floor(width))), Math.min(rows, Math.max(1, Math.floor(height)))];
  if (w === columns && h === rows) return { values, columns, rows };
  const largest = new values.constructor(w * h), column = Array.from({ length: columns }, (_, c) => Math.floor((c * w) / columns));
  for (let r = 0; r < rows; r++) {
    const from = Math.floor((r * h) / rows) * w;
    for (let c = 0; c < columns; c++) largest[from + column[c]] = Math.max(largest[from + column[c]], values[r * columns + c]);
  }
  return { values: largest, columns: w, rows: h };
}

// Paints columns x rows values as sharp cells into a rectangle, in the packed colours of `color`; the largest wins a pixel.
function paintCells(context, values, columns, rows, color, x, y, width, height) {
  if (!columns || !rows) return;
  const cells = reduced(values, columns, rows, width, height), sheet = document.createElement('canvas');
  [sheet.width, sheet.height] = [cells.columns, cells.rows];
  const pixels = Uint32Array.from(cells.values, color);
  sheet.getContext('2d').putImageData(new ImageData(new Uint8ClampedArray(pixels.buffer), cells.columns, cells.rows), 0, 0);
  context.imageSmoothingEnabled = false;
  context.drawImage(sheet, x, y, width, height);
}
