// Saves a map for print: 170 mm wide, with its title above and what it shows below, as SVG or PNG.
const PRINT = { width: 640, height: 480, title: 26, note: 20, dots: 3, millimetres: 170 };

// Records drawing as SVG elements: those methods of a canvas context that the maps use.
class SvgContext {
  constructor() {
    this.parts = [];
    this.ruler = document.createElement('canvas').getContext('2d');
    Object.assign(this, { globalAlpha: 1, lineWidth: 1, textAlign: 'left', dash: [], path: '' });
  }

  // Older readers of SVG know no `rgb(r g b / a)`.
  color(name, style) {
    const [r, g, b, alpha = 1] = style.match(/[\d.]+/g).map(Number);
    return `${name}="rgb(${r},${g},${b})" ${name}-opacity="${alpha * this.globalAlpha}"`;
  }

  line() { return `fill="none" ${this.color('stroke', this.strokeStyle)} stroke-width="${this.lineWidth}" stroke-dasharray="${this.dash.join(' ') || 'none'}"`; }

  clearRect() {}
  fillRect(x, y, width, height) { this.parts.push(`<rect x="${x}" y="${y}" width="${Math.max(0, width)}" height="${height}" ${this.color('fill', this.fillStyle)}/>`); }
  strokeRect(x, y, width, height) { this.parts.push(`<rect x="${x}" y="${y}" width="${width}" height="${height}" ${this.line()}/>`); }
  setLineDash(dash) { this.dash = dash; }
  beginPath() { this.path = ''; }
  moveTo(x, y) { this.path += `M${x} ${y}`; }
  lineTo(x, y) { this.path += `L${x} ${y}`; }
  stroke() { this.parts.push(`<path d="${this.path}" ${this.line()}/>`); }
  measureText(text) { return Object.assign(this.ruler, { font: this.font }).measureText(text); }

  fillText(text, x, y) {
    const [, size, family] = this.font.match(/([\d.]+)px (.*)/), anchor = { left: 'start', center: 'middle', right: 'end' }[this.textAlign];
    this.parts.push(`<text x="${x}" y="${y + size * 0.35}" font-size="${size}" font-family="${escaped(family)}" text-anchor="${anchor}" ${this.color('fill', this.fillStyle)}>${escaped(text)}</text>`);
  }

  // Enlarges the image first: some readers of SVG would blur its cells.
  drawImage(image, x, y, width, height) {
    const sheet = document.createElement('canvas');
    [sheet.width, sheet.height] = [Math.max(1, Math.round(width)), Math.max(1, Math.round(height))];
    const context = sheet.getContext('2d');
    context.imageSmoothingEnabled = false;
    context.drawImage(image, 0, 0, sheet.width, sheet.height);
    this.parts.push(`<image x="${x}" y="${y}" width="${width}" height="${height}" preserveAspectRatio="none" href="${sheet.toDataURL()}"/>`);
  }
}

function escaped(text) {
  const signs = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };
  return String(text).replace(/[&<>"]/g, (sign) => signs[sign]).replace(/[^\P{C}\n\t]/gu, '\ufffd');
}

// Paints a plot at print size: data and marks into one context each, which `contextOf` makes from a size.
function paintedForPrint(plot, scene, contextOf) {
  const [width, height] = [PRINT.width * PRINT.dots, PRINT.height * PRINT.dots];
  const [base, over] = [0, 1].map(() => { const context = contextOf(width, height); return { width, height, context, getContext: () => context }; });
  const copy = Object.assign(Object.create(plot), { base, over, width, height, dpr: PRINT.dots });
  copy.paint(scene);
  copy.point(scene);
  return [base.context, over.context];
}

// Writes title and note around a painted plot.
function writeAround(context, plot, { background, ink, muted }, title, note) {
  const { dots } = PRINT, height = PRINT.title + PRINT.height + PRINT.note;
  context.fillStyle = css(background);
  context.fillRect(0, 0, PRINT.width * dots, height * dots);
  context.textBaseline = 'middle';
  [[title, 14, PRINT.title / 2, ink], [note, 11, height - PRINT.note / 2, muted]].forEach(([text, size, y, color]) => {
    context.fillStyle = css(color);
    context.font = `${size * dots}px ${plot.font ?? 'sans-serif'}`;
    context.textAlign = 'left';
    context.fillText(text, 4 * dots, y * dots);
  });
}

function asSvg(plot, scene, title, note) {
  const layers = paintedForPrint(plot, scene, () => new SvgContext()), around = new SvgContext(), { dots } = PRINT;
  writeAround(around, plot, scene.colors, title, note);
  const [width, height] = [PRINT.width, PRINT.title + PRINT.height + PRINT.note], tall = (PRINT.millimetres * height) / width;
  const body = layers.map((layer) => layer.parts.join('')).join('');
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${PRINT.millimetres}mm" height="${tall}mm" viewBox="0 0 ${width * dots} ${height * dots}">`
    + `${around.parts.join('')}<g transform="translate(0 ${PRINT.title * dots})">${body}</g></svg>`;
}

function asPng(plot, scene, title, note) {
  const canvasOf = (width, height) => Object.assign(document.createElement('canvas'), { width, height });
  const layers = paintedForPrint(plot, scene, (width, height) => canvasOf(width, height).getContext('2d')), { dots } = PRINT;
  const sheet = canvasOf(PRINT.width * dots, (PRINT.title + PRINT.height + PRINT.note) * dots), context = sheet.getContext('2d');
  writeAround(context, plot, scene.colors, title, note);
  for (const layer of layers) context.drawImage(layer.canvas, 0, PRINT.title * dots);
  return sheet.toDataURL('image/png');
}

// Saves a plot. `about`: { note, file, picture } of the run and the page; then title, note and part of the name of the map.
function savePlot(plot, scene, about, { title, note, file }) {
  const day = new Date().toISOString().slice(0, 10), picture = about?.picture ?? 'svg', link = document.createElement('a');
  const line = [about?.note, note, day].filter(Boolean).join(' · ');
  link.href = picture === 'png' ? asPng(plot, scene, title, line) : URL.createObjectURL(new Blob([asSvg(plot, scene, title, line)], { type: 'image/svg+xml' }));
  link.download = `${[about?.file ?? 'moe-loupe', file, day].join('-')}.${picture}`;
  link.click();
  if (picture !== 'png') setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}
