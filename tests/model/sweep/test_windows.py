import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from model.sweep.windows import batches, windows_of


@given(st.integers(1, 200), st.integers(8, 40), st.integers(0, 3))
def test_windows_count_each_token_once(size: int, length: int, num_first: int) -> None:
    ids = np.arange(1000, 1000 + max(size, num_first))
    windows = windows_of(7, ids, num_first, length)
    counted = np.concatenate([window.token_ids[window.start :] for window in windows])
    assert counted.tolist() == ids.tolist()
    for window in windows:
        assert len(window.token_ids) <= length
        assert window.token_ids[window.start] == ids[window.position]
        if window.position:
            assert window.token_ids[:num_first].tolist() == ids[:num_first].tolist()
            context = window.token_ids[num_first : window.start]
            assert context.tolist() == ids[window.position - length // 2 : window.position].tolist()
    assert len(windows) == 1 or len(ids) > length


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.integers(1, 120))
def test_batches_hold_every_window_and_few_tokens(sizes: list[int], most: int) -> None:
    windows = [windows_of(number, np.arange(size), 0, 64)[0] for number, size in enumerate(sizes)]
    made = list(batches(windows, most))
    assert sorted(window.document for batch in made for window in batch) == list(range(len(sizes)))
    for batch in made:
        assert len(batch) == 1 or len(batch) * max(len(window.token_ids) for window in batch) <= most
