// The text as chips. A chip is one token, or the tokens that share a character; bands at its bottom show each token.
// A line runs as its first letter does; in it, chips of one direction form a run, which the browser orders.
const RIGHT_TO_LEFT = /^[\p{Script=Arabic}\p{Script=Hebrew}\p{Script=Syriac}\p{Script=Thaana}\p{Script=Nko}\p{Script=Adlam}]/u;
const directionOf = (text) => { const letter = text.match(/\p{L}/u); return letter && (RIGHT_TO_LEFT.test(letter[0]) ? 'rtl' : 'ltr'); };

class Strip {
  constructor(box) {
    this.box = box;
    this.reset();
  }

  reset() {
    this.box.replaceChildren();
    this.chips = [];   // { element, bands, first, parts }
    this.chipOf = [];  // token -> chip
    this.marked = [];  // elements with a mark of the pointer
    this.line = this.runOfChips = null;
  }

  get length() { return this.chipOf.length; }

  // Shows the first `count` tokens of the run; fewer than before rebuild the strip.
  show(run, count) {
    if (count < this.length) this.reset();
    for (let i = this.length; i < count; i++) this.add(run, i);
  }

  add(run, i) {
    const bytes = run.bytes(i), last = this.chips.at(-1);
    const chip = last && !run.special(i) && continues(joined(last.parts), bytes) ? last : this.addChip(run, i);
    this.chipOf.push(this.extend(chip, bytes));
    this.label(run, i);
  }

  extend(chip, bytes) {
    chip.parts.push(bytes);
    chip.bands.append(document.createElement('b'));
    return chip;
  }

  // Writes the chip's text. A chip that turns out to combine with the character before it joins that chip.
  label(run, i) {
    const before = this.chips.at(-2), bytes = run.bytes(i);
    if (before && this.chips.at(-1).parts.length > 1 && continues(joined(before.parts), joined(this.chips.at(-1).parts))) {
      const tail = this.chips.pop();
      tail.element.remove();
      for (const [part, of] of tail.parts.entries()) this.chipOf[tail.first + part] = this.extend(before, of);
    }
    const chip = this.chipOf[i];
    const text = decoded(joined(chip.parts));
    if (bytes.length) writeVisible(chip.label, text);
    chip.element.setAttribute('aria-label', `token ${chip.first}: ${text || chip.label.textContent}`);
    this.place(chip, run.special(i) ? null : directionOf(text));
    if (text.endsWith('\n')) this.line = null;
  }

  // Puts a chip at the end of the text: in the last run, or in a new one if its letters run the other way. A chip whose
  // letter became complete may have to leave the run that it is in.
  place(chip, direction) {
    const turns = direction && this.runOfChips?.dir && this.runOfChips.dir !== direction;
    if (!chip.element.parentElement && !this.line) {
      this.line = this.box.appendChild(Object.assign(document.createElement('div'), { className: 'line' }));
      this.runOfChips = null;
    }
    if (!this.line) return;
    if (!this.runOfChips || turns) this.runOfChips = this.line.appendChild(document.createElement('span'));
    if (chip.element.parentElement !== this.runOfChips) this.runOfChips.append(chip.element);
    if (!direction) return;
    this.runOfChips.dir = direction;
    this.line.dir ||= direction;
  }

  addChip(run, i) {
    const element = document.createElement('span'), label = document.createElement('span'), bands = document.createElement('span');
    element.className = `chip${run.special(i) ? ' special' : ''}${run.generated(i) ? ' generated' : ''}`;
    [label.className, bands.className, element.id] = ['label', 'bands', `chip-${i}`];
    element.setAttribute('role', 'option');
    if (!run.bytes(i).length) label.textContent = run.special(i) ? run.name(i) : `#${run.id(i)}`;
    element.append(label, bands);
    const chip = { element, label, bands, first: i, parts: [] };
    this.chips.push(chip);
    return chip;
  }

  band(i) { const chip = this.chipOf[i]; return chip.bands.children[i - chip.first]; }

  // Token under the pointer; a chip of several tokens is divided evenly by its width.
  tokenAt(event) {
    const element = event.target.closest?.('.chip');
    const chip = element && this.chips.find((c) => c.element === element);
    if (!chip) return -1;
    const box = element.getBoundingClientRect(), count = chip.parts.length;
    const from = getComputedStyle(element).direction === 'rtl' ? box.right - event.clientX : event.clientX - box.left;
    return chip.first + Math.min(count - 1, Math.max(0, Math.floor((from / box.width) * count)));
  }

  paint(from, colorOf) {
    for (let i = from; i < this.length; i++) {
      const color = colorOf(i), chip = this.chipOf[i];
      this.band(i).style.backgroundColor = color ? css(color) : '';
      if (i === chip.first) chip.element.style.setProperty('--tint', color ? css(color, 0.22) : 'transparent');
    }
  }

  // Marks the focus, the keys that it attends to (companded bytes), and the tokens routed to an expert.
  mark({ focus, locked, attention, colors, took }) {
    for (const element of this.marked) { element.classList.remove('focus', 'locked', 'took'); element.style.removeProperty('--shade'); }
    this.marked = [];
    const touch = (i, name) => { const { element } = this.chipOf[i]; element.classList.add(name); this.marked.push(element); };
    if (attention) {
      attention.forEach((value, key) => {
        if (value < 20 || key >= this.length) return;
        const { element } = this.chipOf[key];
        element.style.setProperty('--shade', css(colors.shade, Math.min(0.85, value / 255)));
        this.marked.push(element);
      });
    }
    this.box.classList.toggle('shaded', Boolean(attention));
    this.box.classList.toggle('taken', Boolean(took));
    for (const i of took ?? []) touch(i, 'took');
    if (focus >= 0 && focus < this.length) touch(focus, 'focus');
    if (locked >= 0 && locked < this.length) touch(locked, 'locked');
    for (const chip of this.chips) if (chip.parts.length > 1) {
      [...chip.bands.children].forEach((band, part) => band.classList.toggle('at', chip.first + part === focus));
    }
  }

  reveal(i) {
    const element = this.chipOf[i]?.element;
    if (!element) return;
    const above = element.offsetTop - this.box.offsetTop, below = above + element.offsetHeight;
    if (above < this.box.scrollTop) this.box.scrollTop = above - 4;
    else if (below > this.box.scrollTop + this.box.clientHeight) this.box.scrollTop = below - this.box.clientHeight + 6;
  }
}
