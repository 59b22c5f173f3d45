"""The text that the command `plan` prints."""

from collections.abc import Mapping
from typing import Any

from model.atlas.plan_file import Plan, agreement

_LISTED = 12


def lines_of(plan: Plan) -> list[str]:
    """Return a plan as lines of text."""
    entries = plan.entries
    sweep, keep, cut = entries["sweep"], entries["keep"], int(plan.cut_LE.sum())
    num_experts = plan.cut_LE.shape[1]
    lines = [
        f"{entries['model']['name']}, sweep of {sweep['documents']:,} documents, {sweep['tokens']:,} tokens",
        f"cuts {plan.number} of {num_experts} experts in each of {len(plan.layers)} layers by the rule "
        f"{entries['rule']}; at most {entries['groups']['most_cut']} can be cut",
    ]
    if abs(keep["share"] - keep["asked"]) > 1e-9:
        lines.append(
            f"keeps {keep['share']:.3g} instead of {keep['asked']:g}: whole experts, equally many in each group"
        )
    lines += [f"note: {note}" for note in entries["notes"]]
    lines += ["", f"{'rule':<13} cuts too  (of {cut:,}; by chance about {cut * plan.number / num_experts:.0f})"]
    shared = agreement(plan)
    for name, meaning in entries["rules"].items():
        lines.append(f"{name:<13} {shared[name]:>8,}  {meaning}")
    lines += [f"{name:<13} {'-':>8}  {reason}" for name, reason in entries["missing_rules"].items()]
    lines += ["", *_layers(plan), "", *_coverage(entries["coverage"])]
    return [*lines, entries["bits"]["note"]] if "bits" in entries["layers"][0] else lines


def _layers(plan: Plan) -> list[str]:
    rows = plan.entries["layers"]
    has_bits = "bits" in rows[0]
    lines = [f"{'layer':>5}  " + ("bits  experts: fewest to most bits  " if has_bits else "") + "cut"]
    for row in rows:
        cut = " ".join(f"E{expert}" for expert in row["cut"][:_LISTED])
        rest = len(row["cut"]) - _LISTED
        bits = (
            f"{row['bits']:>4}  {min(row['bits_per_expert'])} to {max(row['bits_per_expert']):<26}  "
            if has_bits
            else ""
        )
        lines.append(f"{row['layer']:>5}  {bits}{cut}" + (f" and {rest} more" if rest > 0 else ""))
    return lines


def _coverage(coverage: Mapping[str, Any]) -> list[str]:
    under, fewest = coverage["under"], coverage["fewest"]
    lines = [
        f"coverage: the fewest tokens of an expert are {fewest['tokens']:,}, the fewest documents "
        f"{fewest['documents']:,}; fewer than {coverage['threshold']} tokens: {coverage['share_under']:.1%} of experts"
    ]
    for row in under[:_LISTED]:
        lines.append(f"  L{row['layer']} E{row['expert']}: {row['tokens']:,} tokens in {row['documents']:,} documents")
    if len(under) > _LISTED:
        lines.append(f"  and {len(under) - _LISTED:,} more, in the file")
    return [*lines, coverage["note"]] if under else lines


def lines_of_check(check: Mapping[str, Any]) -> list[str]:
    """Return the results of a check as lines of text."""
    own, rows = check["plan"], check["random"]
    lines = [
        "",
        f"checked on {check['documents']:,} documents, {check['tokens']:,} tokens that the sweep does not hold",
    ]
    if not check["same_weights"]:
        lines.append("note: the weights are not those that were swept")
    lines += [f"{'bits per byte':<17} {'':>7}  {'harm':>8}  95 % over documents",
              f"{'as trained':<17} {check['as_trained']:>7.4f}", _harm("plan", own)]  # fmt: skip
    lines += [_harm(row["plan"], row) for row in sorted(rows, key=lambda row: row["harm"])]
    if rows:
        closest, average = check["closest"], check["average"]
        lines.append(f"the plan harms less than {check['beaten']} of {len(rows)} random plans of its size")
        lines.append(
            f"on average they harm {average['harm']:+.4f} more than the plan"
            f" ({average['low']:+.4f} to {average['high']:+.4f})"
        )
        lines.append(
            f"{closest['plan']}, the closest, harms {closest['harm']:+.4f} more than the plan"
            f" ({closest['low']:+.4f} to {closest['high']:+.4f})"
        )
    lines += ["", f"{'routing damage':<22}  {'plan':>8}  {'95 %':>17}  {'random plans':>17}"]
    for row in check["damage"]:
        known = row["low"] is not None
        interval = f"{row['low']:.3g} to {row['high']:.3g}" if known else "-"
        others = f"{row['random_low']:.3g} to {row['random_high']:.3g}" if rows else "-"
        lines.append(f"{row['figure']:<22}  {row['value']:>8.3g}  {interval:>17}  {others:>17}")
    shares = ", ".join(f"L{layer} {share:.1%}" for layer, share in check["split_share_by_layer"].items())
    return [
        *lines,
        f"decisions that differ by layer: {shares}",
        "Damage says where routing moves, not how much it harms.",
    ]


def _harm(name: str, row: Mapping[str, Any]) -> str:
    interval = f"{row['low']:+.4f} to {row['high']:+.4f}" if row["low"] is not None else "-"
    return f"{name:<17} {row['bits_per_byte']:>7.4f}  {row['harm']:>+8.4f}  {interval}"
