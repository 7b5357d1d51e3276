from bintally.learn.published import PUBLISHED


def test_every_result_says_its_split_and_fits_its_counts() -> None:
    for one in PUBLISHED:
        low, high = map(int, one.counts.split("-"))
        assert one.split
        assert 0 < one.accuracy[0] <= one.accuracy[1] < 1
        assert len(one.per_count) in {0, high - low + 1}
        assert (one.leaks is True) == ("shuffled" in one.split)
