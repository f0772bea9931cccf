"""Proves that the corpus benchmark runs and says what it measured. Run: pytest tests/bench/test_benchmark_corpus.py"""

from benchmarks import corpus


def test_a_small_corpus_is_measured_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "BATCHES", 3)
    corpus.write_text(tmp_path / "text.txt", 0.05)
    row = corpus.measure(str(tmp_path), 0.05)
    assert row["mb"] >= 0.05
    assert row["tokens"] > 10 * row["examples"] > 0
    assert all(row[name] > 0 for name in ("tokenise", "reopen", "plan", "batches", "ns_per_token", "peak_mb"))
    assert f"| {row['tokens']:,} |" in corpus.table([row])
