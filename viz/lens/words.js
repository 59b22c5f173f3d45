// The line below the text: numbers for the token, expert or cell under the pointer.
// Keeps right-to-left text from turning the numbers beside it.
const isolated = (text) => (directionOf(text) === 'rtl' ? `\u2068${text}\u2069` : text);

function tokenName(lens, i) {
  const { run, strip } = lens, decode = (bytes) => isolated(JSON.stringify(new TextDecoder().decode(bytes)));
  const chip = strip.chipOf[i], parts = chip?.parts.length ?? 1;
  if (parts > 1) return `#${i} part ${i - chip.first + 1} of ${parts} of ${decode(joined(chip.parts))}`;
  if (run.special(i)) return `#${i} ${run.name(i)} (special)`;
  return run.bytes(i).length ? `#${i} ${decode(run.bytes(i))}` : `#${i} id ${run.id(i)}`;
}

// A token's experts with their exact weights, largest first.
function routing(run, i, moe) {
  const weights = run.weights(i, moe);
  const parts = [...run.experts(i, moe)].map((e, rank) => (e < 0 ? '' : `E${e} ${Number.isFinite(weights[rank]) ? weights[rank].toFixed(2) : ''}`));
  return parts.length ? parts.join('  ') : 'dense';
}

// Affinity and attention come from eight-bit pixels, so they are approximate.
const about = (pixel) => `≈ ${((pixel / 255) ** 2).toFixed(2)}`;

function affinity({ run, moe }, i, expert) {
  const scores = run.scores(i, moe), group = Math.floor((expert * run.header.num_groups) / run.header.num_experts);
  return scores && `E${expert} affinity ${about(scores[expert])}${run.kept(i, moe, group) ? '' : ', group not kept'}`;
}

function attended({ run, view, hover }, i, lens) {
  const row = run.attention(i, view.layer, view.head);
  return row && `looks at ${tokenName(lens, hover.key)} ${about(row[hover.key])}`;
}

function sentence(lens, focus, expert, took) {
  const { run, view, moe, hover, count, running } = lens, layer = `L${view.layer}`;
  if (focus < 0 && expert < 0) return running ? 'running' : 'Point at a token, an expert or a cell; click to lock it.';
  if (focus < 0) return `${layer}E${expert}: took ${took.length} of ${count} tokens, ${number(lens.plots.load.load?.[expert] ?? NaN)}× a fair share`;
  return [
    `${tokenName(lens, focus)}  ${layer}: ${routing(run, focus, moe)}`,
    Number.isFinite(run.bits(focus)) && `${run.bits(focus).toFixed(1)} bit`,
    hover.expert >= 0 && affinity(lens, focus, hover.expert),
    hover.key >= 0 && attended(lens, focus, lens),
  ].filter(Boolean).join('  |  ');
}
