// Reads the messages of wire.py. The arrays are views into the message; no value is copied per expert or key.
const SPECIAL = 1, GENERATED = 2;
const EXPERTS = 1, GROUPS = 2, SCORES = 4, ATTENTION = 8;

function fromBase64(text) {
  const raw = atob(text), bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return bytes;
}

// Splits a message into its JSON, which its length precedes, and the bytes after it.
function splitJson(bytes) {
  const length = new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true);
  const json = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)));
  return [json, bytes.subarray(4 + length)];
}

function readBlock(bytes, at, header) {
  const head = new DataView(bytes.buffer, bytes.byteOffset + at, 24);
  const [size, start, count, present, textLength, namesLength] = [0, 4, 8, 12, 16, 20].map((offset) => head.getUint32(offset, true));
  let offset = bytes.byteOffset + at + 24;
  const take = (Kind, length) => {
    const column = new Kind(bytes.buffer, offset, length);
    offset += Math.ceil(column.byteLength / 4) * 4;
    return column;
  };
  const layers = header.moe_layers.length, perToken = header.attention_layers.length * header.heads.length;
  const block = { start, count };
  [block.id, block.from, block.to] = [take(Int32Array, count), take(Uint32Array, count), take(Uint32Array, count)];
  block.surprisal = take(Float32Array, count);
  if (present & EXPERTS) {
    block.weight = take(Float32Array, count * layers * header.top_k);
    block.expert = take(Int16Array, count * layers * header.top_k);
  }
  if (present & GROUPS) block.kept = take(Uint8Array, count * layers * Math.ceil(header.num_groups / 8));
  if (present & SCORES) block.score = take(Uint8Array, count * layers * header.num_experts);
  if (present & ATTENTION) block.attention = take(Uint8Array, perToken * (count * start + (count * (count + 1)) / 2));
  block.flags = take(Uint8Array, count);
  block.text = take(Uint8Array, textLength);
  block.names = JSON.parse(new TextDecoder().decode(take(Uint8Array, namesLength)));
  return [block, at + size];
}

// The part of a run that has arrived. `rows[i]` has the block of token i and its index there.
class Run {
  constructor(header) {
    this.header = header;
    this.rows = [];
  }

  get length() { return this.rows.length; }

  // Adds blocks that continue or replace known tokens; drops a block after a gap.
  add(bytes) {
    let at = 0, block;
    while (at < bytes.length) {
      [block, at] = readBlock(bytes, at, this.header);
      if (block.start > this.length) continue;
      for (let j = 0; j < block.count; j++) this.rows[block.start + j] = { block, j };
    }
  }

  id(i) { const { block, j } = this.rows[i]; return block.id[j]; }
  bits(i) { const { block, j } = this.rows[i]; return block.surprisal[j]; }
  special(i) { const { block, j } = this.rows[i]; return (block.flags[j] & SPECIAL) !== 0; }
  name(i) {
    const { block, j } = this.rows[i];
    return block.names[block.flags.subarray(0, j).reduce((before, flags) => before + (flags & SPECIAL), 0)] || 'special';
  }
  generated(i) { const { block, j } = this.rows[i]; return (block.flags[j] & GENERATED) !== 0; }
  bytes(i) {
    const { block, j } = this.rows[i], first = block.from[0];
    return block.text.subarray(block.from[j] - first, block.to[j] - first);
  }

  // Index of a model layer on the axis of routers or of attention; -1 for a layer without one.
  moe(layer) { return this.header.moe_layers.indexOf(layer); }
  attentive(layer) { return this.header.attention_layers.indexOf(layer); }

  experts(i, moe) {
    const { block, j } = this.rows[i], k = this.header.top_k;
    const at = (j * this.header.moe_layers.length + moe) * k;
    return moe < 0 || !block.expert ? [] : block.expert.subarray(at, at + k);
  }
  weights(i, moe) {
    const { block, j } = this.rows[i], k = this.header.top_k;
    const at = (j * this.header.moe_layers.length + moe) * k;
    return moe < 0 || !block.weight ? [] : block.weight.subarray(at, at + k);
  }
  scores(i, moe) {
    const { block, j } = this.rows[i], n = this.header.num_experts;
    const at = (j * this.header.moe_layers.length + moe) * n;
    return moe < 0 || !block.score ? null : block.score.subarray(at, at + n);
  }
  kept(i, moe, group) {
    const { block, j } = this.rows[i], size = Math.ceil(this.header.num_groups / 8);
    const at = (j * this.header.moe_layers.length + moe) * size + (group >> 3);
    return !block.kept || ((block.kept[at] >> (group & 7)) & 1) === 1;
  }

  // Companded attention of token i over keys 0..i; head -1 is the mean of all heads.
  attention(i, layer, head) {
    const { block, j } = this.rows[i], { attention_layers: layers, heads } = this.header;
    const l = layers.indexOf(layer), h = heads.indexOf(head), keys = i + 1;
    if (l < 0 || !block.attention) return null;
    const token = layers.length * heads.length * (j * (block.start + 1) + (j * (j - 1)) / 2);
    const row = (head) => block.attention.subarray(token + (l * heads.length + head) * keys, token + (l * heads.length + head + 1) * keys);
    return h >= 0 ? row(h) : meanOf(heads.map((_, index) => row(index)), keys);
  }
}

function meanOf(rows, length) {
  const mean = new Uint8Array(length);
  for (let k = 0; k < length; k++) {
    let sum = 0;
    for (const row of rows) sum += row[k] * row[k];
    mean[k] = Math.round(Math.sqrt(sum / rows.length));
  }
  return mean;
}

// Load of a layer's experts as a ratio to uniform, from the exact ids of the first `count` tokens.
function relativeLoad(run, moe, count) {
  const counts = new Float64Array(run.header.num_experts);
  let routed = 0;
  for (let i = 0; i < count; i++) for (const e of run.experts(i, moe)) if (e >= 0) { counts[e]++; routed++; }
  return counts.map((c) => (routed ? (c * counts.length) / routed : 0));
}
