// The table twin of the maps, for readers who hear the page: each token with its experts and weights in the layer on show.
function cell(tag, text) { return Object.assign(document.createElement(tag), { textContent: text }); }

// A token as a screen reader can say it: text in quotation marks, bytes that are no whole character as numbers.
function spoken(run, i) {
  const bytes = run.bytes(i), text = decodeStrictly(bytes);
  if (run.special(i)) return `${run.name(i)} (special)`;
  if (!bytes.length) return `id ${run.id(i)}`;
  return text === null ? `bytes ${[...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join(' ')}` : isolated(JSON.stringify(text));
}

function twinRow(run, i, moe) {
  const weights = run.weights(i, moe), row = document.createElement('tr');
  row.append(Object.assign(cell('th', i), { scope: 'row' }), cell('td', spoken(run, i)));
  [...run.experts(i, moe)].forEach((e, rank) => row.append(cell('td', e < 0 ? 'unknown' : `E${e} ${Number.isFinite(weights[rank]) ? weights[rank].toFixed(2) : ''}`)));
  return row;
}

class Twin {
  constructor(box) {
    [this.box, this.title, this.head, this.body] = [box, ...['caption', 'thead', 'tbody'].map((part) => box.querySelector(part))];
  }

  // Shows the first `count` tokens and marks the locked one. A folded table is not drawn; the lens draws it when it opens.
  show({ run, view, moe, count, locked }) {
    if (!this.box.open) return;
    const drawn = [run.header.run, run.header.running, view.layer].join();
    if (drawn !== this.drawn || count < this.body.rows.length) this.begin(run, view.layer, moe);
    this.drawn = drawn;
    for (let i = this.body.rows.length; i < count; i++) this.body.append(twinRow(run, i, moe));
    const row = this.body.rows[locked];
    if (row === this.marked) return;
    this.marked?.removeAttribute('aria-current');
    row?.setAttribute('aria-current', 'true');
    this.marked = row;
    if (row) this.reveal(row);
  }

  // Scrolls the table, not the page, to a row.
  reveal(row) {
    const rows = row.closest('.rows'), above = row.offsetTop - row.offsetHeight, below = row.offsetTop + row.offsetHeight;
    if (above < rows.scrollTop) rows.scrollTop = above;
    else if (below > rows.scrollTop + rows.clientHeight) rows.scrollTop = below - rows.clientHeight;
  }

  begin(run, layer, moe) {
    const ranks = moe < 0 ? [] : Array.from({ length: run.header.top_k }, (_, rank) => `Expert ${rank + 1} and its weight`);
    this.title.textContent = moe < 0 ? `Layer ${layer} is dense: it has no experts.` : `Layer ${layer}: each token's experts and their weights, the largest first`;
    const names = document.createElement('tr');
    names.append(...['Number', 'Token', ...ranks].map((name) => Object.assign(cell('th', name), { scope: 'col' })));
    this.head.replaceChildren(names);
    this.body.replaceChildren();
  }
}
