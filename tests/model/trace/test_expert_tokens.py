import dataclasses

from model.trace import chance, expert_tokens, routing
from tests.traces import random_trace, routed, spelling


def test_kinds_of_tokens() -> None:
    words = ("On", "ce", " upon", "7", ",", "\n", "The", "é", "—", " ", "(b", "b")
    trace = spelling(*(word.encode() for word in words))
    kinds = [expert_tokens.kind(trace, index) for index in range(trace.num_tokens)]
    word, part = "begins a word", "goes on a word"
    assert kinds[:7] == ["special", word, part, word, "number", "punctuation", "white space"]
    assert kinds[7:] == [word, part, "punctuation", "white space", "punctuation", part]


def test_shares_worked_out_by_hand() -> None:
    """Expert 0 took two of the three tokens, all of the prompt."""
    trace = routed([0, 1], [0, 2], [3, 4])
    shares = {row.name: row for row in expert_tokens.shares(trace, 1, 0, trace.prompt_mask)}
    assert shares["all"][1:4] == (2, 3, 2 / 3)
    assert shares["prompt"][1:] == shares["all"][1:]
    assert (shares["all"].low, shares["all"].high) == routing.share_interval(2, 3)
    assert "generated" not in shares


def test_kinds_and_parts_divide_the_tokens() -> None:
    trace = random_trace(num_prompt=30)
    shares = expert_tokens.shares(trace, 1, 3, trace.prompt_mask | True)
    for names in (expert_tokens.PARTS, expert_tokens.KINDS):
        rows = [row for row in shares if row.name in names]
        assert sum(row.taken for row in rows) == shares[0].taken
        assert sum(row.total for row in rows) == shares[0].total == trace.num_tokens


def test_a_share_is_beyond_chance_only_if_the_rows_of_a_fair_expert_rarely_are() -> None:
    """Of 30 tokens all took expert 0 and none expert 4; by chance a quarter would."""
    trace = random_trace(num_prompt=30, num_new=0)
    ids = trace.data["expert_id"].values.copy()
    ids[:, 0] = [[0, 1 + token % 3] for token in range(30)]
    trace = dataclasses.replace(trace, data=trace.data.assign(expert_id=(trace.data["expert_id"].dims, ids)))
    busy, idle = (
        {row.name: row for row in expert_tokens.shares(trace, 1, expert, trace.prompt_mask)} for expert in (0, 4)
    )
    assert busy["all"].beyond
    assert busy["prompt"].beyond
    assert chance.count_bounds(30, 0.25, 1 - 0.05 / len(idle))[0] == 2
    assert idle["all"].beyond
    assert not any(row.beyond for row in idle.values() if row.total < 20)
