// Keeps the view of lens and page in agreement: the page may request a view, the lens reports the visitor's choices.
const FRESH = { layer: null, head: null, token: null, expert: null, colour: 'expert', map: 'experts', alone: 'no' };
const REPORT_MS = 200;
const UNREPORTED = 0, UNKNOWN = {};
const alike = (a, b) => (a ?? null) === (b ?? null);

class Talk {
  constructor() {
    // open: name of a choice that the page has not answered -> number of its report. Reports are numbered from 1.
    [this.pageView, this.open, this.number] = [{}, new Map(), 0];
  }

  // Returns what the page newly requests of the view. A page names the last report that it has received. An older
  // message says nothing about a choice made since, and the answer is no request even where it differs: a page need not
  // know every choice of the lens.
  requests(view) {
    const names = Object.keys(FRESH).filter((name) => name in view);
    const requested = names.filter((name) => !this.open.has(name) && !alike(view[name], this.pageView[name]));
    for (const [name, report] of this.open) if (report && report === view.report) this.open.delete(name);
    this.pageView = view;
    return Object.fromEntries(requested.map((name) => [name, view[name] ?? FRESH[name]]));
  }

  // Returns whether the page does not show this choice, or not yet.
  differs(name, view) { return !alike(view[name], this.pageView[name] ?? FRESH[name]); }

  // Reports the choices `names` to the page after a pause. Never while `busy`, but after it: a report reruns the page,
  // which would send the active run from its start again.
  choose(names, view, busy) {
    for (const name of names) this.open.set(name, UNREPORTED);
    if (names.length) this.wait(view, busy);
  }

  wait(view, busy) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => (busy() ? this.wait(view, busy) : this.send(view)), REPORT_MS);
  }

  // A report repeats the choices that have no answer yet: the page reads only the last of several reports.
  send(view) {
    this.number++;
    for (const name of this.open.keys()) this.open.set(name, this.number);
    this.report('view', { ...Object.fromEntries([...this.open.keys()].map((name) => [name, view[name]])), report: this.number });
  }

  // Gives up what has no answer when the page takes the lens away: on its return the page's view counts.
  leave() {
    clearTimeout(this.timer);
    for (const name of this.open.keys()) this.pageView[name] = UNKNOWN;
    this.open.clear();
  }
}
