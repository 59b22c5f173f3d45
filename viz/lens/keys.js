// Actions of the keys. Arrows move along the axes of the focused map, elsewhere from token to token.
function keys(lens, plot) {
  const token = (by) => () => lens.move(by), expert = (by) => () => lens.moveExpert(by);
  const [across, along] = { router: [expert, token], load: [expert, expert] }[plot] ?? [token, token];
  return {
    ArrowRight: across(1), ArrowLeft: across(-1), ArrowDown: along(1), ArrowUp: along(-1),
    j: token(1), k: token(-1), Home: token(-lens.count), End: token(lens.count),
    '[': () => lens.step('layer', -1), ']': () => lens.step('layer', 1),
    '{': () => lens.step('head', -1), '}': () => lens.step('head', 1),
    ' ': () => lens.play(), Enter: () => lens.lock(plot), Escape: () => lens.release(), '?': () => lens.help(),
  };
}
