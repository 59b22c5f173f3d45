// The lens and its page agree on the view: the page may wish for one, the lens says what the visitor chose.
const FRESH = { layer: null, head: null, token: null, expert: null, colour: 'expert', map: 'experts' };
const REPORT_MS = 200, ANSWER_MS = 3000;
const alike = (a, b) => (a ?? null) === (b ?? null);

class Talk {
  constructor() {
    [this.heard, this.said, this.told] = [{}, [], ''];
  }

  // What in the page's view is a new wish. Its answer to what was said here is none, even where it differs: a page may
  // not know every choice of the lens.
  hear(view) {
    const names = Object.keys(FRESH).filter((name) => name in view), now = performance.now();
    const answered = this.said.findLastIndex((told) => names.every((name) => alike(told.view[name], view[name])));
    const awaited = this.said.some((told) => now - told.at < ANSWER_MS);
    const wished = answered >= 0 || awaited ? [] : names.filter((name) => !alike(view[name], this.heard[name]));
    this.said = answered >= 0 ? this.said.slice(answered + 1) : [];
    this.heard = view;
    return Object.fromEntries(wished.map((name) => [name, view[name] ?? FRESH[name]]));
  }

  // Says the view to the page once the hand rests, and only what it does not know. Never while `busy`: it would end a
  // run that goes on.
  say(view, busy) {
    clearTimeout(this.saying);
    this.saying = setTimeout(() => {
      const text = JSON.stringify(view);
      if (busy() || text === this.told || !this.report) return;
      this.told = text;
      this.said.push({ view: { ...view }, at: performance.now() });
      this.report('view', { ...view });
    }, REPORT_MS);
  }
}
