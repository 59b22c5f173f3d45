// Tokens as characters to be seen: white space made visible, a character of several tokens never split.
const GRAPHEMES = new Intl.Segmenter(undefined, { granularity: 'grapheme' });

// Whether the bytes end inside a UTF-8 character.
function endsInside(bytes) {
  for (let back = 1; back <= Math.min(3, bytes.length); back++) {
    const byte = bytes[bytes.length - back];
    if (byte >= 0xc0) return back < (byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2);
    if (byte < 0x80) return false;
  }
  return false;
}

// Whether a token's bytes go on with the last character of the bytes before it.
function continues(before, bytes) {
  if (!before.length || !bytes.length || bytes[0] < 0x80) return false;
  if ((bytes[0] & 0xc0) === 0x80) return endsInside(before);
  const decode = (part) => new TextDecoder().decode(part);
  const left = decode(before).slice(-16), right = decode(bytes).slice(0, 8);
  for (const { index } of GRAPHEMES.segment(left + right)) if (index === left.length) return false;
  return true;
}

function joined(parts) {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) { all.set(part, at); at += part.length; }
  return all;
}

// Puts text into a chip; white space and control characters are shown by grey signs.
const VISIBLE = { ' ': '·', '\t': '→', '\n': '⏎', '\r': '␍', '\x7f': '␡' };
const visible = (character) => VISIBLE[character] ?? String.fromCodePoint(0x2400 + character.codePointAt(0));

function writeVisible(element, text) {
  element.replaceChildren();
  for (const part of text.split(/([\x00-\x20\x7f]+)/)) {
    if (!part) continue;
    const white = /^[\x00-\x20\x7f]/.test(part), span = document.createElement(white ? 'i' : 'bdi');
    span.textContent = white ? [...part].map(visible).join('') : part;
    element.append(span);
  }
}

function number(value, digits = 3) {
  if (!Number.isFinite(value)) return '–';
  if (value !== 0 && Math.abs(value) < 0.001) return '<0.001';
  return String(Number(value.toPrecision(Math.abs(value) >= 1 ? digits : 2)));
}
