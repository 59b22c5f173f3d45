// Keeps the view of lens and page in agreement: the page may request a view, the lens reports the visitor's choice.
const FRESH = { layer: null, head: null, token: null, expert: null, colour: 'expert', map: 'experts', alone: 'no' };
const REPORT_MS = 200, ANSWER_MS = 3000;
const alike = (a, b) => (a ?? null) === (b ?? null);

class Talk {
  constructor() {
    [this.pageView, this.reports, this.lastReport] = [{}, [], ''];
  }

  // Returns what the page newly requests of the view. The page's answer to a report is no request, even where it differs:
  // a page need not know every choice of the lens.
  requests(view) {
    const names = Object.keys(FRESH).filter((name) => name in view), now = performance.now();
    const answered = this.reports.findLastIndex((report) => names.every((name) => alike(report.view[name], view[name])));
    const awaited = this.reports.some((report) => now - report.at < ANSWER_MS);
    const requested = answered >= 0 || awaited ? [] : names.filter((name) => !alike(view[name], this.pageView[name]));
    this.reports = answered >= 0 ? this.reports.slice(answered + 1) : [];
    this.pageView = view;
    return Object.fromEntries(requested.map((name) => [name, view[name] ?? FRESH[name]]));
  }

  // Reports a changed view to the page after a pause. Never while `busy`: a report reruns the page, which would send the
  // active run from its start again.
  send(view, busy) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      const text = JSON.stringify(view);
      if (busy() || text === this.lastReport || !this.report) return;
      this.lastReport = text;
      this.reports.push({ view: { ...view }, at: performance.now() });
      this.report('view', { ...view });
    }, REPORT_MS);
  }
}
