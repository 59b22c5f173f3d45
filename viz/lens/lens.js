// The lens: keeps the run, the view and the pointer, and repaints changes once per frame.
const INSTANCES = new WeakMap();
const SAVED = {}; // state that outlives an instance when the page mounts the lens elsewhere
const NOTHING = { token: -1, key: -1, expert: -1 };
const REPLAY_MS = 120;
const prefersStill = () => matchMedia('(prefers-reduced-motion: reduce)').matches;
const LAG_MS = 200; // tokens of an active run arrive in bursts; the lens shows them one by one, about this late

class Lens {
  constructor(root) {
    this.root = root;
    this.find = (selector) => root.querySelector(selector);
    this.view = { ...FRESH };
    this.hover = NOTHING;
    [this.shown, this.caughtUp, this.talk] = [null, 0, new Talk()];
    this.stats = window.__lens = { frames: 0, tokens: 0, hoverMs: [], lens: this };
    this.strip = new Strip(this.find('.strip'));
    this.twin = new Twin(this.find('.twin'));
    this.plots = { router: new RouterMap(this.find('.router')), attention: new AttentionMap(this.find('.attention')), load: new LoadBars(this.find('.load')) };
    Object.assign(this, SAVED.state);
    if (this.run) this.fill();
    this.listen();
  }

  listen() {
    const stop = (this.stop = new AbortController()), on = (target, name, act) => target.addEventListener(name, act, { signal: stop.signal });
    const ticks = new MutationObserver(() => this.pull());
    ticks.observe(document.querySelector('.stApp') ?? document.body, { subtree: true, childList: true, attributes: true, attributeFilter: ['data-lens-tick'] });
    const sizes = new ResizeObserver(() => this.repaint());
    for (const plot of Object.values(this.plots)) sizes.observe(plot.box);
    on(stop.signal, 'abort', () => { ticks.disconnect(); sizes.disconnect(); });
    this.listenStrip(on);
    for (const [name, plot] of Object.entries(this.plots)) this.listenPlot(on, name, plot);
    for (const name of ['layer', 'head', 'colour', 'map']) {
      on(this.find(`select.${name}`), 'change', (event) => this.set({ [name]: isNaN(event.target.value) ? event.target.value : Number(event.target.value) }));
    }
    on(this.find('.lens'), 'click', (event) => this.act(event.target.closest('[data-do]')));
    on(this.twin.box, 'toggle', () => this.frame());
    on(this.find('.lens'), 'keydown', (event) => this.key(event));
    on(this.find('.lens'), 'pointerenter', () => { this.inside = true; });
    on(this.find('.lens'), 'pointerleave', () => { this.inside = false; });
    on(document, 'keydown', (event) => { if (this.inside && document.activeElement === document.body) this.key(event); });
  }

  listenStrip(on) {
    const { box } = this.strip;
    on(box, 'pointermove', (event) => this.hoverOn({ ...NOTHING, token: this.strip.tokenAt(event) }));
    on(box, 'pointerleave', () => this.hoverOn(NOTHING));
    on(box, 'click', (event) => { const token = this.strip.tokenAt(event); if (token >= 0) this.toggle({ token }); });
  }

  listenPlot(on, name, plot) {
    const hit = (event) => { const cell = this.run && plot.rows && plot.hit(event); return cell ? { ...NOTHING, ...cell } : null; };
    on(plot.box, 'pointermove', (event) => this.hoverOn(hit(event) ?? NOTHING));
    on(plot.box, 'pointerleave', () => this.hoverOn(NOTHING));
    on(plot.box, 'click', (event) => {
      const cell = hit(event);
      if (event.detail === 1) this.before = this.isolated; // what a double click finds: its own clicks release the expert
      if (cell) this.toggle({ ...(cell.token >= 0 && { token: cell.token }), ...(cell.expert >= 0 && { expert: cell.expert }), ...('moe' in cell && { layer: this.run.header.moe_layers[cell.moe] }) });
    });
    on(plot.box, 'dblclick', (event) => this.isolate(name, hit(event)));
  }

  // Takes a message of the page: settings, then a whole run.
  receive(data, setStateValue) {
    this.talk.report = setStateValue;
    const [settings, message] = splitJson(new Uint8Array(data));
    this.palette = settings.palette;
    this.band = settings.band;
    this.saved = settings.saved;
    const request = this.talk.requests(settings.view ?? {});
    Object.assign(this.view, request);
    if (this.run && Object.keys(request).length) this.fill();
    this.readSnapshot(message);
    this.pull();
    this.repaint();
  }

  readSnapshot(message) {
    const [header, blocks] = splitJson(message), known = this.run;
    if (known?.header.run === header.run && !known.header.running && header.running) return; // a late announcement of a finished run
    if (header.running && !blocks.length && known) { this.awaited = header.run; this.running = true; return; }
    if (!header.running || !known || known.header.run !== header.run) this.start(header, blocks);
  }

  start(header, blocks) {
    const again = this.run?.header.run === header.run;
    if (this.running && !header.running) this.halt();
    this.run = new Run(header);
    [this.awaited, this.running] = [header.run, header.running];
    this.run.add(blocks);
    if (!again) {
      this.strip.reset();
      this.halt();
      this.hover = NOTHING;
      if (this.view.token >= this.run.length && !header.running) this.view.token = null;
    }
    this.stats.tokens = this.run.length;
    this.fill();
  }

  // Reads ticks, hidden elements of the page with the number of their run and their own number; each only once.
  pull() {
    const elements = [...document.querySelectorAll('[data-lens-tick]')];
    if (elements.filter((element) => this.take(element)).length) this.repaint();
  }

  take(element) {
    const [run, number] = element.dataset.lensTick.split('.').map(Number);
    if (run < (this.awaited ?? 0) || (run === this.ticked?.run && number <= this.ticked.number)) return false;
    this.ticked = { run, number };
    if (!this.running && run === this.run?.header.run) return false;
    const [header, blocks] = splitJson(fromBase64(element.dataset.lens));
    if (this.run?.header.run !== run) {
      this.view.token = this.talk.pageView.token ?? null; // a link may lock a token of the run that it starts
      this.start(header, blocks);
    } else this.run.add(blocks);
    this.stats.tokens = this.run.length;
    this.shown ||= this.run.length; // the prompt appears at once
    return true;
  }

  // Shows more of an active run; the more tokens wait, the more appear at a time.
  catchUp(now) {
    const waiting = this.run.length - this.shown, elapsed = prefersStill() ? LAG_MS : Math.min(LAG_MS, now - this.caughtUp);
    this.caughtUp = now;
    if (!waiting) return;
    this.shown += Math.max(1, Math.round((waiting * elapsed) / LAG_MS));
    this.stale = true;
    if (this.shown < this.run.length) this.frame();
  }

  // Fills the menus, and fits the view to the run's axes.
  fill() {
    const { moe_layers: moe, attention_layers: attentive, heads } = this.run.header, { view } = this;
    this.layers = [...new Set([...moe, ...attentive])].sort((a, b) => a - b);
    this.heads = heads.length > 1 ? [...heads, -1] : [...heads];
    if (!this.layers.includes(view.layer)) view.layer = moe[Math.floor((moe.length - 1) / 2)] ?? this.layers[0] ?? null;
    if (!this.heads.includes(view.head)) view.head = this.heads[0] ?? null;
    if (view.expert >= this.run.header.num_experts) view.expert = null;
    const options = (select, values, name) => this.find(select).replaceChildren(...values.map((v) => new Option(name(v), v)));
    options('.layer', this.layers, (l) => `layer ${l}`);
    options('.head', this.heads, (h) => (h < 0 ? 'all heads' : `head ${h}`));
    this.repaint();
  }

  get count() { return this.shown ?? this.run?.length ?? 0; }
  get moe() { return this.run.moe(this.view.layer); }
  get locked() { return this.view.token !== null && this.view.token < this.count ? this.view.token : -1; }
  get focus() {
    if (this.hover.token >= 0 && this.hover.token < this.count) return this.hover.token;
    if (this.locked >= 0) return this.locked;
    return (this.running || this.shown !== null) && this.hover.expert < 0 ? this.count - 1 : -1;
  }
  get isolated() { return this.view.alone === 'yes' ? (this.view.expert ?? -1) : -1; }
  get expert() { return this.hover.expert >= 0 ? this.hover.expert : this.hover.token >= 0 && this.view.expert === null ? -1 : (this.view.expert ?? -1); }

  hoverOn(hover) {
    const same = ['token', 'key', 'expert'].every((name) => hover[name] === this.hover[name]);
    if (same) return;
    this.hover = hover;
    this.frame();
  }

  // Locks the clicked items; a second click releases them.
  toggle(chosen) {
    const same = Object.entries(chosen).every(([name, value]) => this.view[name] === value);
    this.set(same ? Object.fromEntries(Object.keys(chosen).filter((name) => name !== 'layer').map((name) => [name, null])) : chosen);
  }

  set(change) {
    const before = { ...this.view };
    Object.assign(this.view, change);
    if (this.view.expert === null) this.view.alone = 'no';
    if (this.isolated >= 0 || ['layer', 'head', 'map', 'colour', 'alone'].some((name) => change[name] !== undefined)) this.repaint();
    else this.frame();
    const chosen = Object.keys(before).filter((name) => this.view[name] !== before[name] || (name in change && this.talk.differs(name, this.view)));
    this.talk.choose(chosen, this.view, () => this.running);
  }

  isolate(name, cell) {
    if (name === 'attention' && this.heads.length > 1) {
      const one = this.view.head >= 0;
      if (one) this.alone = this.view.head;
      return this.set({ head: one ? -1 : (this.alone ?? this.heads[0]) });
    }
    if (!(cell?.expert >= 0)) return;
    const release = this.before === cell.expert;
    this.set({ token: null, expert: release ? null : cell.expert, alone: release ? 'no' : 'yes' });
  }

  // Enter: locks or releases the expert or token in focus.
  lock(plot) {
    const { focus, expert } = this;
    if (plot === 'load' && expert >= 0) this.toggle({ expert });
    else if (focus >= 0) this.toggle({ token: focus });
  }

  help() {
    const list = this.find('.help');
    list.hidden = !list.hidden;
    this.find('[data-do=help]').setAttribute('aria-expanded', String(!list.hidden));
  }

  release() {
    if (!this.find('.help').hidden) this.help();
    this.hover = NOTHING;
    this.set({ token: null, expert: null, alone: 'no' });
  }

  step(name, by) {
    const values = name === 'layer' ? this.layers : this.heads;
    const to = Math.min(values.length - 1, Math.max(0, values.indexOf(this.view[name]) + by));
    this.set({ [name]: values[to] });
  }

  move(by) {
    const from = this.focus >= 0 ? this.focus : by > 0 ? -1 : this.count;
    const token = Math.min(this.count - 1, Math.max(0, from + by));
    this.hover = NOTHING;
    this.set({ token });
    this.strip.reveal(token);
  }

  moveExpert(by) {
    const last = this.run.header.num_experts - 1;
    this.hover = NOTHING;
    this.set({ expert: Math.min(last, Math.max(0, (this.view.expert ?? (by > 0 ? -1 : last + 1)) + by)) });
  }

  act(button) {
    if (!button || !this.run) return;
    const what = button.dataset.do;
    if (what === 'save') {
      const name = button.closest('figure').className;
      const { layer } = this.view, all = name === 'router' && this.view.map === 'layers', title = this.find(`.${name} .title`).textContent;
      savePlot(this.plots[name], this.marked, this.running ? { picture: this.saved?.picture } : this.saved, {
        title, note: all ? '' : `layer ${layer}`, file: all ? `${name}-layers` : `${name}-L${layer}` });
    } else if (what === 'help') this.help();
    else if (what === 'play') this.play();
    else this.step(what.slice(0, -1), what.endsWith('+') ? 1 : -1);
  }

  key(event) {
    const inMenu = event.target.closest?.('select, .twin'), onButton = event.target.closest?.('button');
    if (!this.run || event.ctrlKey || event.metaKey || event.altKey || inMenu || (onButton && [' ', 'Enter'].includes(event.key))) return;
    const plot = Object.entries(this.plots).find(([, { box }]) => box === event.target)?.[0];
    const act = keys(this, plot)[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!act) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  }

  // Replays a finished run from the end of its prompt to its last token; a token per call for who prefers no motion.
  play() {
    if (this.running || !this.run?.length) return;
    const goesOn = this.shown !== null && this.shown < this.run.length, more = () => { if (++this.shown >= this.run.length) this.halt(); this.repaint(); };
    if (this.timer) { clearInterval(this.timer); this.timer = null; return this.repaint(); }
    if (!goesOn) this.shown = Math.max(1, this.promptEnd);
    if (!prefersStill()) this.timer = setInterval(more, REPLAY_MS);
    else if (goesOn) return more();
    this.repaint();
  }

  halt() {
    clearInterval(this.timer);
    [this.timer, this.shown] = [null, null];
  }

  get promptEnd() {
    let end = 0;
    while (end < this.run.length && !this.run.generated(end)) end++;
    return end < this.run.length ? end : 0;
  }

  repaint() { this.stale = true; this.frame(); }
  frame() { this.asked ??= requestAnimationFrame((now) => { this.asked = null; this.draw(now); }); }

  theme() {
    const style = getComputedStyle(this.root.host ?? this.root), read = (name, otherwise) => style.getPropertyValue(name).trim() || otherwise;
    const background = toHex(read('--st-background-color', '#ffffff')), ink = toHex(read('--st-text-color', '#24292f'));
    const dark = rgb(background).reduce((sum, part) => sum + part, 0) < 384;
    const palette = this.palette[dark ? 'dark' : 'light'] ?? this.palette;
    this.colors = new Colors(palette, background, ink);
    this.scale = Number(read('--text-scale', '1'));
    for (const plot of Object.values(this.plots)) plot.font = read('--st-font', 'sans-serif');
  }

  // Maps are painted before the text changes: after a change, text on a canvas makes the browser restyle the page.
  draw(now) {
    if (!this.run || !this.palette) return;
    if (this.running && this.shown !== null) this.catchUp(now);
    const began = performance.now(), full = this.stale;
    this.stats.frames++;
    if (full) this.paint();
    this.point();
    if (full) this.showText();
    this.mark(full);
    if (!full) this.stats.hoverMs = [...this.stats.hoverMs.slice(-199), performance.now() - began];
    else this.stats.paintMs = performance.now() - began;
  }

  scene() {
    const { run, count, colors, view, moe, isolated } = this;
    const band = this.running || count < run.length ? null : this.band; // it holds for all tokens of a finished run only
    return { run, count, band, colors, moe, isolated, layer: view.layer, head: view.head, map: view.map, promptEnd: this.promptEnd };
  }

  paint() {
    this.stale = false;
    this.theme();
    for (const plot of Object.values(this.plots)) plot.fit(this.scale);
    for (const plot of Object.values(this.plots)) plot.paint(this.scene());
  }

  // The scene with the marks of the pointer.
  get marked() { return { ...this.scene(), focus: this.focus, expert: this.expert, key: this.hover.key }; }

  point() {
    for (const plot of Object.values(this.plots)) plot.point(this.marked);
  }

  showText() {
    const before = this.strip.length, { view } = this, coloured = [view.colour, view.layer, this.run.header.run, css(this.colors.background)].join();
    this.strip.box.classList.toggle('growing', this.running || this.shown !== null);
    this.strip.show(this.run, this.count);
    this.strip.paint(coloured === this.coloured && before <= this.count ? before : 0, (i) => this.tokenColor(i));
    this.coloured = coloured;
    this.caption();
  }

  tokenColor(i) {
    const { run, view, colors, moe } = this;
    if (view.colour === 'surprisal') return Number.isFinite(run.bits(i)) ? colors.surprisal(run.bits(i) / 12) : null;
    const top = run.experts(i, moe)[0];
    if (view.colour === 'none' || !(top >= 0)) return null;
    return view.colour === 'group' ? colors.group(Math.floor((top * run.header.num_groups) / run.header.num_experts)) : colors.expert(top);
  }

  caption() {
    const { view, run, count } = this, title = (name, text) => this.write(`.${name} .title`, text);
    for (const name of ['layer', 'head', 'colour', 'map']) {
      const select = this.find(`select.${name}`);
      if (select.value !== String(view[name])) select.value = String(view[name]);
    }
    title('router', view.map === 'layers' ? 'Top expert in every layer' : `Router, layer ${view.layer}`);
    title('attention', `Attention, layer ${view.layer}, ${view.head < 0 ? `mean of ${run.header.heads.length} heads` : `head ${view.head ?? '–'}`}`);
    title('load', `Load, layer ${view.layer}; 1 is a fair share`);
    this.write('.count', `n = ${count} tokens`);
    this.write('.play', this.timer ? '❚❚' : '▷');
    this.find('.play').disabled = this.running;
  }

  // Writes a text only if it changed, because every write causes a layout.
  write(selector, text) {
    const element = this.find(selector);
    if (element.textContent !== text) element.textContent = text;
  }

  mark(full) {
    const { focus, expert, locked, moe, run, view, colors, hover, count } = this;
    const attention = focus >= 0 ? run.attention(focus, view.layer, view.head) : null;
    const took = expert >= 0 ? Array.from({ length: count }, (_, i) => i).filter((i) => run.experts(i, moe).includes(expert)) : null;
    this.strip.mark({ focus, locked, attention: expert >= 0 && hover.token < 0 ? null : attention, colors, took: hover.token >= 0 && hover.expert < 0 ? null : took });
    this.strip.box.setAttribute('aria-activedescendant', focus >= 0 ? this.strip.chipOf[focus].element.id : '');
    this.write('.info', sentence(this, focus, expert, took));
    this.twin.show(this);
    if (full && locked < 0 && hover === NOTHING && (this.running || this.shown !== null)) this.strip.reveal(count - 1);
  }

  destroy() {
    const { view, run, running, awaited, ticked, talk } = this;
    SAVED.state = { view, run, running, awaited, ticked, talk };
    talk.leave();
    this.halt();
    cancelAnimationFrame(this.asked);
    this.stop.abort();
  }
}

// Streamlit calls this for new data too. It cleans up after a call whose data changed while the script was being loaded,
// perhaps after the next call; only the cleanup of the newest call ends the lens.
export default function ({ data, parentElement, setStateValue }) {
  let lens = INSTANCES.get(parentElement);
  if (lens && !parentElement.contains(lens.strip.box)) { lens.destroy(); lens = null; } // Streamlit wrote the HTML anew
  if (!lens) INSTANCES.set(parentElement, (lens = new Lens(parentElement)));
  const call = (lens.call = {});
  if (data) lens.receive(data, setStateValue);
  return () => { if (lens.call === call) { lens.destroy(); INSTANCES.delete(parentElement); } };
}
