// Text of tokens: visible white space, and characters of several tokens kept whole.
const GRAPHEMES = new Intl.Segmenter(undefined, { granularity: 'grapheme' });

// Returns whether the bytes end inside a UTF-8 character.
function endsInside(bytes) {
  for (let back = 1; back <= Math.min(3, bytes.length); back++) {
    const byte = bytes[bytes.length - back];
    if (byte >= 0xc0) return back < (byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2);
    if (byte < 0x80) return false;
  }
  return false;
}

// Returns whether a token's bytes continue the last character of the bytes before it.
function continues(before, bytes) {
  if (!before.length || !bytes.length || bytes[0] < 0x80) return false;
  if ((bytes[0] & 0xc0) === 0x80) return endsInside(before);
  // A control character never joins its neighbours; neither does a broken byte.
  const characters = (part) => decoded(part).replace(/[\udc80-\udcff]/gu, '\0');
  const left = characters(before).slice(-16), right = characters(bytes).slice(0, 8);
  for (const { index } of GRAPHEMES.segment(left + right)) if (index === left.length) return false;
  return true;
}

function joined(parts) {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) { all.set(part, at); at += part.length; }
  return all;
}

// Invisible characters, as in viz/tokens.py: half a surrogate pair represents a broken byte.
const INVISIBLE = /((?:[\x00-\x20\x7f-\xa0\xad\u061c\u1680\u180e\u2000-\u200b\u200e\u200f\u2028-\u202f\u205f-\u206f\u3000\u3164\ufeff\ufff9-\ufffb\udc80-\udcff]|^[\u200c\u200d])+)/u;
const PICTURES = { ' ': '·', '\t': '→', '\n': '⏎', '\x7f': '␡' };

function sign(character) {
  const code = character.codePointAt(0);
  if (code >= 0xdc80 && code <= 0xdcff) return `\\x${(code - 0xdc00).toString(16)}`;
  if (code < 0x20) return PICTURES[character] ?? String.fromCodePoint(0x2400 + code);
  return PICTURES[character] ?? `\\u${code.toString(16).padStart(4, '0')}`;
}

function decodeStrictly(bytes) {
  try { return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes); } catch { return null; }
}

// Decodes bytes; if they are not all UTF-8, character by character.
function decoded(bytes) {
  const whole = decodeStrictly(bytes);
  if (whole !== null) return whole;
  let text = '';
  for (let at = 0; at < bytes.length;) {
    const size = [1, 2, 3, 4].find((size) => at + size <= bytes.length && decodeStrictly(bytes.subarray(at, at + size)) !== null);
    text += size ? decodeStrictly(bytes.subarray(at, at + size)) : String.fromCharCode(0xdc00 + bytes[at]);
    at += size ?? 1;
  }
  return text;
}

// Writes text into a chip, with grey signs for invisible characters.
function writeVisible(element, text) {
  element.replaceChildren();
  text.split(INVISIBLE).forEach((part, index) => {
    if (!part) return;
    const span = document.createElement(index % 2 ? 'i' : 'bdi');
    span.textContent = index % 2 ? [...part].map(sign).join('') : part;
    element.append(span);
  });
}

function number(value, digits = 3) {
  if (!Number.isFinite(value)) return '–';
  if (value !== 0 && Math.abs(value) < 0.001) return '<0.001';
  return String(Number(value.toPrecision(Math.abs(value) >= 1 ? digits : 2)));
}
