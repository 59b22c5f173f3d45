// Marks the first use of each word of the glossary on a page, and shows its meaning on hover, focus and tap.
//
// Streamlit's React owns the texts of a page, so they stay as they are. A mark is a button without text that lies over
// the word, the last child of the word's paragraph: it takes no room, and React ignores it. A screen reader meets it
// after the paragraph and reads the word with its meaning. The script runs once per tab, whatever page is open.

const TEXTS = '[data-testid="stMain"] [data-testid="stMarkdownContainer"] :is(p, li, h2, h3)';
const LEFT_OUT = 'a, button, label, summary, table, code, .katex, [role="dialog"], [role="tab"], [role="radio"], '
  + '[data-testid="stWidgetLabel"], [data-testid="stAlert"]';
const READ_MS = 300, LEAVE_MS = 150, EDGE = 8;  // milliseconds between readings, and to move onto the meaning; pixels
const STYLE = `
:is(p, li, h2, h3):has(> .glossary-word) { position: relative; }
.glossary-word { position: absolute; margin: 0; padding: 0; border: 0; border-bottom: 1px dotted currentColor;
  background: none; color: inherit; cursor: help; border-radius: 0; opacity: 0.8; }
.glossary-word:focus-visible { outline: 2px solid currentColor; outline-offset: 2px; opacity: 1; }
.glossary-meaning { position: fixed; z-index: 1000000; box-sizing: border-box; max-width: min(22rem, calc(100vw - 16px));
  padding: 0.5rem 0.75rem; border: 1px solid; border-radius: 0.4rem; font-size: max(14px, 0.9em); line-height: 1.45;
  overflow-wrap: anywhere; }
.glossary-meaning[hidden] { display: none; }
@media print { .glossary-word, .glossary-meaning { display: none; } }`;

class Glossary {
  constructor() {
    this.marks = new Map();  // word -> {element, button}
    this.timer = this.leaving = null;
    document.head.append(Object.assign(document.createElement('style'), { textContent: STYLE }));
    this.meanings = Object.assign(document.createElement('div'), { hidden: true });
    this.tip = Object.assign(document.createElement('div'), { className: 'glossary-meaning', hidden: true });
    this.tip.setAttribute('aria-hidden', 'true');  // a screen reader has the meaning from aria-describedby
    this.tip.onpointerenter = () => clearTimeout(this.leaving);
    this.tip.onpointerleave = () => this.hideSoon();
    document.body.append(this.meanings, this.tip);
    this.sizes = new ResizeObserver(() => this.readSoon());
    this.changes = new MutationObserver((records) => records.some(isOfText) && this.readSoon());
    this.changes.observe(document.body, { childList: true, characterData: true, subtree: true });
    document.addEventListener('keydown', (event) => event.key === 'Escape' && this.hide(), true);
    document.addEventListener('scroll', () => this.follow(), { capture: true, passive: true });
  }

  // Take the words of the page; without any, marks vanish.
  take(words) {
    this.words = new Map(words.flatMap((entry) => entry.forms.map((form) => [form.toLowerCase(), entry])));
    const forms = [...this.words.keys()].sort((a, b) => b.length - a.length);  // the longest spelling first
    const escaped = forms.map((form) => form.replace(/[.*+?^${}()|[\]\\]/g, '\\$&').replace(/ /g, '\\s+'));
    this.pattern = forms.length ? new RegExp(`(?<![\\p{L}\\p{N}_-])(?:${escaped.join('|')})(?![\\p{L}\\p{N}_-])`, 'giu') : null;
    this.meanings.replaceChildren(...words.map((entry) => Object.assign(
      document.createElement('span'), { id: idOf(entry.word), textContent: entry.says })));
    this.readSoon();
  }

  readSoon() {
    this.timer ??= setTimeout(() => { this.timer = null; this.read(); }, READ_MS);
  }

  // Find the first use of each word, and put the marks there.
  read() {
    const found = new Map();
    for (const element of this.pattern ? document.querySelectorAll(TEXTS) : []) {
      if (!element.checkVisibility({ visibilityProperty: true }) || element.closest(LEFT_OUT)) continue;
      for (const [word, use] of this.usesIn(element)) if (!found.has(word)) found.set(word, use);
    }
    for (const [word, mark] of this.marks) {
      if (found.get(word)?.element === mark.element && mark.button.isConnected) continue;
      if (this.shown === mark.button) this.hide();
      mark.button.remove();
      this.sizes.unobserve(mark.element);
      this.marks.delete(word);
    }
    for (const use of found.values()) use.place = placeOf(use);  // all before any mark: the page is laid out once
    for (const [word, use] of found) this.mark(word, use);
    this.changes.takeRecords();  // those of this function
  }

  *usesIn(element) {
    const texts = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
      const node = texts.currentNode;
      if (node.parentElement !== element && node.parentElement.closest(`${LEFT_OUT}, li li`)) continue;
      for (const match of node.data.matchAll(this.pattern)) {
        const entry = this.words.get(match[0].toLowerCase().replace(/\s+/g, ' '));
        yield [entry.word, { element, node, start: match.index, spelled: match[0] }];
      }
    }
  }

  mark(word, { element, spelled, place }) {
    if (!place) return;
    let mark = this.marks.get(word);
    if (!mark) {
      const button = Object.assign(document.createElement('button'), { type: 'button', className: 'glossary-word' });
      button.setAttribute('aria-describedby', idOf(word));
      button.onpointerenter = (event) => event.pointerType !== 'touch' && this.show(word);
      button.onpointerleave = () => this.hideSoon();
      button.onfocus = () => this.show(word);
      button.onblur = () => this.hide();
      button.onclick = () => this.show(word);
      mark = { element, button };
      this.marks.set(word, mark);
      element.append(button);
      this.sizes.observe(element);
    }
    mark.button.setAttribute('aria-label', spelled);
    Object.assign(mark.button.style, place);
  }

  show(word) {
    clearTimeout(this.leaving);
    const mark = this.marks.get(word), entry = this.words.get(word.toLowerCase());
    if (!mark || !entry) return;
    const look = getComputedStyle(mark.element), page = getComputedStyle(document.querySelector('.stApp'));
    Object.assign(this.tip.style, { color: page.color, background: page.backgroundColor, fontFamily: look.fontFamily,
      fontSize: look.fontSize, borderColor: 'color-mix(in srgb, currentColor 45%, transparent)' });
    this.tip.replaceChildren(Object.assign(document.createElement('strong'), { textContent: `${entry.word}: ` }), entry.says);
    this.tip.hidden = false;
    this.shown = mark.button;
    this.place();
  }

  place() {
    const at = this.shown.getBoundingClientRect(), size = this.tip.getBoundingClientRect();
    const left = Math.min(Math.max(EDGE, at.left), innerWidth - size.width - EDGE);
    const below = at.bottom + EDGE + size.height <= innerHeight;
    this.tip.style.left = `${Math.max(EDGE, left)}px`;
    this.tip.style.top = `${below ? at.bottom + EDGE / 2 : Math.max(EDGE, at.top - size.height - EDGE / 2)}px`;
  }

  // A scroll leaves the pointer behind, but not the focus, which may itself have caused it.
  follow() {
    if (this.shown && this.shown === document.activeElement) this.place();
    else if (this.shown) this.hide();
  }

  hideSoon() {
    clearTimeout(this.leaving);
    this.leaving = setTimeout(() => this.shown !== document.activeElement && this.hide(), LEAVE_MS);
  }

  hide() {
    clearTimeout(this.leaving);
    this.tip.hidden = true;
    this.shown = null;
  }
}

const idOf = (word) => `glossary-${word.replace(/[^A-Za-z0-9]/g, '-')}`;

// Where a word stands in its paragraph; of a word over two lines, its first part.
function placeOf({ element, node, start, spelled }) {
  const range = document.createRange();
  range.setStart(node, start);
  range.setEnd(node, start + spelled.length);
  const [first] = range.getClientRects(), frame = element.getBoundingClientRect();
  return first && { left: `${first.left - frame.left}px`, top: `${first.top - frame.top}px`,
    width: `${first.width}px`, height: `${first.height}px` };
}

// Whether a change may concern a text: not the ticks of a run, which come many times a second, and not a mark.
function isOfText(record) {
  const at = record.target.nodeType === Node.ELEMENT_NODE ? record.target : record.target.parentElement;
  return at && !at.closest('.st-key-ticks, .glossary-meaning');
}

export default function ({ data }) {
  window.moeLoupeGlossary ??= new Glossary();
  window.moeLoupeGlossary.take(data.words);
}
