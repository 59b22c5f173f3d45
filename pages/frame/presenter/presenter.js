// Presenter mode. The page marks one figure and the text that belongs to it, and presenter.css hides everything else.
const MAIN = '[data-testid="stMainBlockContainer"]', CELL = '[data-testid="stElementContainer"]', PANEL = '[role="tabpanel"]';
const FIGURES = ['stPlotlyChart', 'stDataFrame', 'stTable', 'stHtml'].map((name) => `${MAIN} [data-testid="${name}"]`).join();
const LENS = ['router', 'attention', 'load'];
const KEPT = '.st-key-lesson, .st-key-lesson-cover, .st-key-room-question, .st-key-room-ask:has(.st-key-room-end), [data-testid="stAlert"]';
const NO_TEXT = '.st-key-status, .st-key-lesson, [data-testid="stExpander"]'; // where texts belong to no figure
const TEXT = '[data-testid="stMarkdown"]', PLAIN = `${TEXT}:not(:has([data-testid="stCaptionContainer"]))`;
const TYPING = 'input, textarea, select, [contenteditable], [role="listbox"], [role="slider"], [role="combobox"]';
const OVERLAYS = '[role="dialog"], [role="listbox"], [data-testid="stPopoverBody"]';
const SETTLE_MS = 700; // a page that has drawn no figure for this long has none
const LESSON = '.st-key-lesson', SHOWS = { ArrowDown: '[data-presented="figure"]', ArrowUp: LESSON }; // a lesson may fill the screen
const FORWARD = ['ArrowRight', 'PageDown'], BACK = ['ArrowLeft', 'PageUp']; // a presenter's clicker sends the page keys

const visible = (element) => element.closest(PANEL)?.hidden !== true && !element.closest('[data-testid="stExpander"], .st-key-lesson');
const cellOf = (element) => element.closest(CELL);
const keyOf = (cell) => [...cell.classList].find((name) => name.startsWith('st-key-')) ?? '';
const lensOf = (cell) => [...cell.querySelectorAll('*')].find((one) => one.shadowRoot?.querySelector('.lens'));

// The figures of the page in order: charts, tables and strips, each panel of the lens, and an open tab without a figure.
function figures() {
  const lens = document.querySelector(`${MAIN} .st-key-lens`);
  const cells = new Set([...document.querySelectorAll(FIGURES)].filter((one) => visible(one) && !one.querySelector('h1, style, script') && one.textContent.trim()).map(cellOf));
  if (lens && lensOf(lens)) cells.add(lens);
  const open = [...document.querySelectorAll(`${MAIN} ${PANEL}`)].filter((panel) => !panel.hidden && panel.offsetParent !== undefined);
  const bare = open.filter((panel) => panel.textContent.trim() && ![...cells].some((cell) => panel.contains(cell)));
  const found = [...cells, ...bare].sort((a, b) => (a.compareDocumentPosition(b) & Node.DOCUMENT_POSITION_FOLLOWING ? -1 : 1));
  return found.flatMap((cell) => (cell === lens ? LENS.map((panel) => ({ cell, panel, name: `lens-${panel}` })) : [{ cell, panel: '', name: keyOf(cell) }]));
}

// The nearest text before a figure in its part of the page.
function textBefore(cell) {
  for (let node = cell; node && !node.matches(`${MAIN}, ${PANEL}`); node = node.parentElement) {
    for (let before = node.previousElementSibling; before; before = before.previousElementSibling) {
      const next = before === cell.previousElementSibling; // a caption belongs to the figure that follows it at once
      const texts = [...(before.matches(CELL) ? [before] : before.querySelectorAll(CELL))].filter((one) => one.querySelector(next ? TEXT : PLAIN) && !one.closest(NO_TEXT));
      if (texts.length) return texts.at(-1);
      if (before.querySelector(FIGURES)) return null;
    }
  }
  return null;
}

class Presenter {
  constructor() {
    [this.at, this.name, this.turn, this.on] = [0, null, 0, false];
    this.charts = new WeakMap(); // chart -> its height as the page gave it, and the size that it was given here
    const stop = (this.stop = new AbortController());
    addEventListener('keydown', (event) => this.key(event), { capture: true, signal: stop.signal });
    this.changes = new MutationObserver(() => { this.asked ??= requestAnimationFrame(() => { this.asked = null; this.show(); }); });
  }

  receive({ on }, hint, report) {
    [this.hint, this.report] = [hint, report];
    if (on && !this.on) this.changes.observe(document.querySelector('.stApp'), { childList: true, subtree: true });
    if (!on) this.changes.disconnect();
    this.on = on;
    this.show();
  }

  key(event) {
    const { key } = event, target = event.composedPath()[0];
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector(OVERLAYS) || target.closest?.(TYPING)) return;
    const inLens = target.closest?.('.lens') && key.startsWith('Arrow'); // the lens moves from token to token
    const turn = inLens ? 0 : FORWARD.includes(key) - BACK.includes(key);
    if (key.toLowerCase() === 'p' || (this.on && key === 'Escape')) this.report(!this.on);
    else if (this.on && turn) this.step(turn, event.shiftKey);
    else if (this.on && !inLens && key in SHOWS && document.querySelector(LESSON)) document.querySelector(SHOWS[key])?.scrollIntoView({ block: 'start' });
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  // In a lesson the keys step the lesson, and with Shift the figures.
  step(turn, shift) {
    const lesson = document.querySelector('.st-key-lesson-next, .st-key-lesson-back');
    if (lesson && !shift) return document.querySelector(`.st-key-lesson-${turn > 0 ? 'next' : 'back'} button`)?.click();
    const found = figures(), to = this.at + turn, panel = found[this.at]?.cell.closest(PANEL) ?? document.querySelector(PANEL);
    const leaves = found[this.at] && panel?.contains(found[this.at].cell) && !(found[to] && panel.contains(found[to].cell));
    const tabs = [...document.querySelectorAll(`${MAIN} [role="tablist"]`)].at(0)?.querySelectorAll('[role="tab"]') ?? [];
    const next = leaves && tabs[[...tabs].findIndex((tab) => tab.getAttribute('aria-selected') === 'true') + turn];
    if (next) {
      [this.turn, this.left, this.until] = [turn, found[this.at].cell, performance.now() + SETTLE_MS];
      next.click();
    } else if (found[to]) [this.at, this.name] = [to, found[to].name];
    this.show();
  }

  // After a tab was opened: its first figure on the way forward, its last one on the way back.
  enter(found) {
    const inside = found.map((figure, at) => at).filter((at) => found[at].cell.closest(PANEL) || found[at].cell.matches(PANEL));
    const changed = !this.left.isConnected || this.left.closest(PANEL)?.hidden || this.left.hidden;
    if (changed && inside.length) {
      this.at = this.turn > 0 ? inside[0] : inside.at(-1);
      [this.name, this.turn] = [found[this.at].name, 0];
    } else if (performance.now() > this.until) this.turn = 0;
    else setTimeout(() => this.show(), 50);
  }

  show() {
    const root = document.documentElement;
    for (const marked of document.querySelectorAll('[data-presented]')) marked.removeAttribute('data-presented');
    root.toggleAttribute('data-presenting', this.on);
    root.removeAttribute('data-lens-panel');
    this.hint.hidden = !this.on;
    if (!this.on) return;
    const found = figures();
    if (this.turn) this.enter(found);
    const same = found.findIndex(({ name }) => name && name === this.name);
    this.at = same >= 0 ? same : Math.max(0, Math.min(this.at, found.length - 1));
    for (const { cell } of found) cell.dataset.presented = 'away';
    for (const kept of document.querySelectorAll(KEPT)) (kept.matches('[data-testid="stAlert"]') ? cellOf(kept) : kept).dataset.presented = 'kept';
    this.mark(found[this.at]);
    this.tell(found);
    this.fit(found[this.at]?.cell.querySelector('.js-plotly-plot'));
  }

  // Says which figure is shown, of those of the open tab.
  tell(found) {
    const tabs = [...document.querySelectorAll(`${MAIN} [role="tablist"]`)].at(0)?.querySelectorAll('[role="tab"]') ?? [];
    const open = [...tabs].find((tab) => tab.getAttribute('aria-selected') === 'true'), inTab = found[this.at]?.cell.closest(PANEL);
    const place = found.length > 1 ? `${this.at + 1} of ${found.length}` : '';
    this.hint.querySelector('output').textContent = [inTab && open?.textContent, place].filter(Boolean).join(' \u00b7 ');
    this.hint.querySelector('i').hidden = !document.querySelector(LESSON)?.checkVisibility();
  }

  mark(figure) {
    const root = document.documentElement, main = document.querySelector(MAIN);
    root.toggleAttribute('data-no-figure', !figure);
    if (!figure || !main) return;
    figure.cell.dataset.presented = 'figure';
    if (figure.panel) root.dataset.lensPanel = figure.panel;
    const question = main.querySelector(`${CELL}:has([data-testid="stMarkdown"])`);
    for (const text of [question, textBefore(figure.cell)]) if (text && text !== figure.cell) text.dataset.presented = 'text';
  }

  // Gives a chart the width of its place, and the height that the window leaves, but not so little that its parts meet.
  fit(chart) {
    if (!chart?._fullLayout?.height || !window.Plotly) return;
    const known = this.charts.get(chart) ?? { whole: chart._fullLayout.height };
    const { top } = chart.getBoundingClientRect(), width = chart.parentElement.clientWidth;
    const height = Math.round(Math.min(known.whole, Math.max(0.6 * known.whole, innerHeight - top - scrollY - 48)));
    if (known.size === `${width} ${height}`) return; // or every change of a chart would cause the next
    this.charts.set(chart, { ...known, size: `${width} ${height}` });
    window.Plotly.relayout(chart, { width, height });
  }

  end() {
    this.stop.abort();
    this.changes.disconnect();
    cancelAnimationFrame(this.asked);
  }
}

const INSTANCES = new WeakMap();
export default function ({ data, parentElement, setTriggerValue }) {
  if (!INSTANCES.has(parentElement)) INSTANCES.set(parentElement, new Presenter());
  INSTANCES.get(parentElement).receive(data, parentElement.querySelector('p'), (on) => setTriggerValue('present', on));
  return () => { INSTANCES.get(parentElement)?.end(); INSTANCES.delete(parentElement); };
}
