import numpy as np
import pytest

from guardlib.data.minhash import Index, cluster_ids, shares_band, shingles, signatures

RNG = np.random.default_rng(0)
WORDS = ["".join(RNG.choice(list("abcdefghijklmnop"), size=RNG.integers(3, 9))) for _ in range(400)]


def sentence(seed: int, length: int = 40) -> str:
    return " ".join(np.random.default_rng(seed).choice(WORDS, size=length))


def jaccard(a: str, b: str) -> float:
    first, second = ({text[i : i + 5] for i in range(len(text) - 4)} for text in (a, b))
    return len(first & second) / len(first | second)


def test_shingles_do_not_depend_on_the_neighbours_of_a_text():
    texts = ["abcdefgh", "", "ab", "abcdefgh" * 500, "日本語のテキスト"]
    together = shingles(texts)
    for text, hashes in zip(texts, together, strict=True):
        assert np.array_equal(hashes, shingles([text])[0])
        assert len(hashes) >= 1
    assert len(shingles(["abcdefgh"])[0]) == 4


def test_signatures_estimate_similarity_and_are_stable():
    base = sentence(1)
    other = base.rsplit(" ", 6)[0] + " " + sentence(2, 6)
    signed = signatures(shingles([base, other, sentence(3)]))
    assert abs(np.mean(signed[0] == signed[1]) - jaccard(base, other)) < 0.15
    assert np.mean(signed[0] == signed[2]) < 0.2
    assert np.array_equal(signed[1:2], signatures(shingles([other])))


def test_near_copies_cluster_and_others_do_not():
    texts = []
    for number in range(60):
        base = sentence(number)
        texts += [base, base[:-3] + "zzz", base + " ok"]
    ids = cluster_ids(texts, 0.8)
    assert ids.tolist() == [3 * (row // 3) for row in range(len(texts))]


def test_similarity_decides_not_the_candidates():
    base = sentence(7)
    half = " ".join(base.split()[:24]) + " " + sentence(8, 16)
    assert 0.35 < jaccard(base, half) < 0.75
    assert cluster_ids([base, half], 0.8).tolist() == [0, 1]
    assert cluster_ids([base, half], 0.5)[0] == 0


def test_a_row_with_several_texts_links_by_any_of_them():
    a, b = sentence(11), sentence(12)
    assert cluster_ids([a, b, a], 0.8, owners=[0, 1, 1]).tolist() == [0, 0]
    assert cluster_ids([], 0.8).tolist() == []


def test_index_reports_exact_similarity():
    base = sentence(20)
    near = base[:-2] + "qq"
    found = shingles([base, near, sentence(21)])
    signed = signatures(found)
    index = Index(0.8)
    index.add(5, found[0], signed[0])
    ((key, score),) = index.near(found[1], signed[1])
    assert key == 5
    assert score == pytest.approx(jaccard(base, near))
    assert list(index.near(found[2], signed[2])) == []
    assert list(index.near(found[1], signed[1], wanted=lambda key: False)) == []
    assert shares_band(signed).tolist() == [True, True, False]
    assert shares_band(signed[1:], signed[:1]).tolist() == [True, False]


def test_thresholds_that_lsh_cannot_serve_are_refused():
    with pytest.raises(ValueError, match=r"0\.3"):
        Index(0.3)


@pytest.mark.parametrize(("delay", "shown"), [(0.0, True), (60.0, False)])
def test_a_bar_is_shown_where_clustering_takes_long(monkeypatch, capsys, delay, shown):
    monkeypatch.setattr("guardlib.data.minhash.BAR_DELAY", delay)
    texts = [sentence(1), sentence(1)]
    assert cluster_ids(texts, 0.8, progress=True).tolist() == [0, 0]
    assert ("clustering" in capsys.readouterr().err) is shown
    cluster_ids(texts, 0.8)
    assert capsys.readouterr().err == ""
