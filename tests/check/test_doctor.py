"""Proves that the doctor names what is wrong with a model's files or data, names nothing else, and finds nothing in
sound ones. Run: pytest tests/check/test_doctor.py
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import SHARED, needs_shared, small_config, stir
from safetensors.torch import load_file, save_file
from test_train import small, write_rows
from tokenizers import BertWordPieceTokenizer

from minibert import cli
from minibert.check import data_checks, doctor
from minibert.check.doctor import DoctorOptions, diagnose
from minibert.core.files import LIMIT
from minibert.fast.models import BertForMaskedLM, BertForSequenceClassification
from minibert.io.findings import Finding, counted, is_wrong, to_table
from minibert.options import Reading
from minibert.text.tokenizer import Tokenizer
from minibert.training.fine_tuning import train
from minibert.training.options import REVIEWS

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
HANZI = list("白日依山尽黄河入海流欲穷千里目更上一层楼床前明月光疑是地霜举头望低思故乡")
WORDS = ["the", "room", "was", "very", "good", "bad", "clean", "dirty", "film", "book", "again", "not", "a", "of", "to"]
WORDS += ["it", "is", "in", "for", "and"]
VOCAB = SPECIAL + HANZI + WORDS
VOCAB += [f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
VOCAB += [f"[unused{i}]" for i in range(101 - len(VOCAB))]
CLASSIFIER, EMBEDDING = "classifier.weight", "bert.embeddings.word_embeddings.weight"
QUERY = "bert.encoder.layer.0.attention.self.query.weight"


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    """A classifier with stirred weights and a vocabulary of Chinese characters and English words."""
    directory = tmp_path_factory.mktemp("sound") / "model"
    stir(BertForSequenceClassification(small_config())).save_pretrained(directory)
    Tokenizer(VOCAB).save_pretrained(directory)
    return directory


@pytest.fixture
def model(sound, tmp_path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(sound, tmp_path / "model"))


def examine(directory: Path, **options: object) -> list[Finding]:
    return diagnose(DoctorOptions(str(directory), **options))


def names(found: list[Finding], *severities: str) -> set[str]:
    return {finding.name for finding in found if finding.severity in severities}


# ---- broken models ----

BROKEN: dict[str, tuple[str, Callable[[Path], None]]] = {}  # how it is broken -> (the finding's name, what breaks it)


def broken(name: str) -> Callable:
    def add(function: Callable[[Path], None]) -> Callable[[Path], None]:
        BROKEN[function.__name__] = name, function
        return function

    return add


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}), encoding="utf-8")


def edit_weights(directory: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """`change` may edit the dictionary, or give another."""
    weights = load_file(directory / "model.safetensors")
    weights = change(weights) or weights
    save_file({key: tensor.contiguous() for key, tensor in weights.items()}, directory / "model.safetensors")


def write_vocabulary(directory: Path, tokens: list[str]) -> None:
    (directory / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8", newline="")


def recode(directory: Path, change: Callable[[bytes], bytes]) -> None:
    path = directory / "vocab.txt"
    path.write_bytes(change(path.read_bytes()))


@broken("vocabulary-short")
def tokens_lost(directory):
    write_vocabulary(directory, VOCAB[:90])


@broken("vocabulary-size")
def embedding_of_another_model(directory):
    edit_weights(directory, lambda weights: weights.update({EMBEDDING: torch.randn(97, 15)}))


@broken("vocabulary-special-tokens")
def no_mask_token(directory):
    write_vocabulary(directory, ["[gone]" if token == "[MASK]" else token for token in VOCAB])


@broken("vocabulary-special-places")
def sorted_vocabulary(directory):
    write_vocabulary(directory, sorted(VOCAB))
    edit_json(directory / "config.json", pad_token_id=sorted(VOCAB).index("[PAD]"))


@broken("config-pad-id")
def pad_id_of_another_model(directory):
    edit_json(directory / "config.json", pad_token_id=1)


@broken("vocabulary-mojibake")
def read_as_latin_1(directory):
    recode(directory, lambda data: data.decode("latin-1").encode("utf-8"))


@broken("vocabulary-mojibake")
def read_as_gbk(directory):
    recode(directory, lambda data: data.decode("gbk", errors="replace").replace("\ufffd", "?").encode("utf-8"))


@broken("vocabulary-not-utf8")
def saved_in_gb18030(directory):
    recode(directory, lambda data: data.decode("utf-8").encode("gb18030"))


@broken("vocabulary-bom")
def byte_order_mark(directory):
    recode(directory, lambda data: b"\xef\xbb\xbf" + data)


@broken("vocabulary-crlf")
def saved_on_windows(directory):
    recode(directory, lambda data: data.replace(b"\n", b"\r\n"))


@broken("vocabulary-duplicates")
def token_twice(directory):
    write_vocabulary(directory, [*VOCAB[:-1], "good"])


@broken("vocabulary-empty-lines")
def empty_line(directory):
    write_vocabulary(directory, ["" if token == "film" else token for token in VOCAB])


@broken("vocabulary-two")
def another_tokenizer_json(directory):
    shifted = [*SPECIAL, "new", *VOCAB[5:-1]]
    BertWordPieceTokenizer({token: i for i, token in enumerate(shifted)}).save(str(directory / "tokenizer.json"))


@broken("vocabulary-pointer")
def cloned_without_git_lfs(directory):
    recode(directory, lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:07eced\nsize 231508\n")


@broken("tokenizer-lowercases")
def cased_vocabulary(directory):
    write_vocabulary(directory, [token.title() if token in WORDS else token for token in VOCAB])


@broken("tokenizer-keeps-case")
def case_kept_for_an_uncased_vocabulary(directory):
    edit_json(directory / "tokenizer_config.json", do_lower_case=False)


@broken("tokenizer-max-length")
def longer_than_the_positions(directory):
    edit_json(directory / "tokenizer_config.json", model_max_length=1024)


@broken("tokenizer-refused")
def switch_that_is_no_switch(directory):
    edit_json(directory / "tokenizer_config.json", do_lower_case="yes")


@broken("config-refused")
def heads_that_do_not_divide(directory):
    edit_json(directory / "config.json", num_attention_heads=4)


@broken("config-absent")
def config_not_copied(directory):
    (directory / "config.json").unlink()


@broken("config-eps")
def pytorchs_eps(directory):
    edit_json(directory / "config.json", layer_norm_eps=1e-5)


@broken("config-activation")
def tanh_gelu(directory):
    edit_json(directory / "config.json", hidden_act="gelu_new")


@broken("labels-count")
def labels_of_another_task(directory):
    edit_json(directory / "config.json", id2label={"0": "bad", "1": "good"}, label2id={"bad": 0, "good": 1})


@broken("labels-disagree")
def labels_renamed_on_one_side(directory):
    edit_json(directory / "config.json", label2id={f"c{i}": 6 - i for i in range(7)})


@broken("weights-absent")
def weights_not_copied(directory):
    (directory / "model.safetensors").unlink()


@broken("weights-refused")
def download_cut_off(directory):
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


@broken("weights-pointer")
def weights_cloned_without_git_lfs(directory):
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:53aa51\nsize 90868376\n"
    (directory / "model.safetensors").write_text(text, encoding="utf-8")


@broken("weights-missing")
def a_key_lost(directory):
    edit_weights(directory, lambda weights: weights.pop(QUERY) is None)


@broken("weights-unexpected")
def a_layer_too_many(directory):
    edit_json(directory / "config.json", num_hidden_layers=1)


@broken("weights-mismatched")
def wider_than_the_config(directory):
    edit_json(directory / "config.json", intermediate_size=41)


@broken("weights-mismatched")
def single_numbers(directory):
    edit_weights(directory, lambda weights: weights.update({EMBEDDING: torch.ones(()), CLASSIFIER: torch.ones(())}))


@broken("weights-twice")
def both_spellings(directory):
    key = "bert.embeddings.LayerNorm"
    edit_weights(directory, lambda weights: weights.update({f"{key}.gamma": weights[f"{key}.weight"].clone()}))


@broken("weights-nan")
def diverged(directory):
    edit_weights(directory, lambda weights: weights[QUERY][3, 4:6].fill_(float("nan")) is None)


@broken("weights-inf")
def overflowed(directory):
    edit_weights(directory, lambda weights: weights[QUERY][3].fill_(float("inf")) is None)


@broken("weights-zero")
def a_tensor_of_zeros(directory):
    edit_weights(directory, lambda weights: weights[QUERY].zero_() is None)


@broken("weights-fresh-head")
def head_never_trained(directory):
    edit_weights(directory, lambda weights: make_fresh(weights, "classifier"))


@broken("weights-fresh")
def layer_not_loaded(directory):
    edit_weights(directory, lambda weights: make_fresh(weights, "bert.encoder.layer.1."))


def make_fresh(weights: dict[str, torch.Tensor], part: str) -> None:
    """As a model is initialised."""
    generator = torch.Generator().manual_seed(1)
    for key, tensor in weights.items():
        if not key.startswith(part):
            continue
        if key.endswith(".bias"):
            tensor.zero_()
        elif "LayerNorm" in key:
            tensor.fill_(1)
        else:
            tensor.normal_(std=0.02, generator=generator)


@broken("weights-untied")
def decoder_of_its_own(directory):
    model = stir(BertForMaskedLM(small_config()))
    model.save_pretrained(directory)
    key = "cls.predictions.decoder.weight"
    edit_weights(directory, lambda weights: weights.update({key: torch.randn(101, 15)}))


FOREIGN_JSON = [  # a file of a tokenizer, and a value of it that is of another type
    *(("tokenizer_config.json", key, 3) for key in ("added_tokens_decoder", "additional_special_tokens")),
    *(("tokenizer.json", key, value) for key in ("model", "normalizer", "added_tokens") for value in (3, ["x"])),
]


@pytest.mark.parametrize(("file", "key", "value"), FOREIGN_JSON)
def test_a_value_of_another_type_is_a_finding_not_a_crash(model, file, key, value):
    if file == "tokenizer.json":
        BertWordPieceTokenizer({token: i for i, token in enumerate(VOCAB)}).save(str(model / file))
        assert examine(model) == []
    edit_json(model / file, **{key: value})
    assert names(examine(model), "error", "warning") == {"tokenizer-refused"}


@pytest.mark.parametrize("how", BROKEN)
def test_what_is_broken_is_named_and_no_other_error(model, how):
    name, break_it = BROKEN[how]
    break_it(model)
    found = examine(model)
    assert name in names(found, "error", "warning")
    assert names(found, "error") <= {name}
    assert all(finding.remedy for finding in found if finding.severity != "note")


def test_one_cause_is_one_warning_at_most(model):
    causes = {how: None for how in ("byte_order_mark", "saved_on_windows", "pytorchs_eps", "head_never_trained")}
    for how in causes:
        BROKEN[how][1](model)
    assert names(examine(model), "error", "warning") == {BROKEN[how][0] for how in causes}


# ---- sound models ----


def test_a_sound_model_passes(sound):
    assert examine(sound) == []


def test_an_embedding_that_was_filled_up_is_a_note(tmp_path):
    stir(BertForSequenceClassification(small_config(vocab_size=104))).save_pretrained(tmp_path)
    Tokenizer(VOCAB).save_pretrained(tmp_path)
    assert [(f.severity, f.name, f.what) for f in examine(tmp_path)] == [
        (
            "note",
            "vocabulary-padded",
            "3 of the embedding's 104 rows have no token: it was filled up to a multiple of 8",
        )
    ]


def test_minilm_passes(minilm):
    found = examine(minilm)
    assert not is_wrong(found)
    assert [finding.what for finding in found if finding.name == "vocabulary-known"] == [
        "it is that of bert-base-uncased, token for token"
    ]


def test_a_model_that_was_just_trained_passes_with_its_data(tmp_path):
    train_file, dev_file = (str(write_rows(tmp_path / f"{n}.tsv", n, seed=n)) for n in (41, 13))
    _, directory = train(small({"data": train_file, "dev": dev_file}, tmp_path / "run"))
    assert names(examine(directory, max_length=16), "error", "warning") == set()


@needs_shared
@pytest.mark.parametrize("name", ["bert-base-chinese", "bert-base-uncased"])
def test_a_vocabulary_alone_passes_and_is_known(tmp_path, name):
    shutil.copy(SHARED / "vocab" / f"{name}.vocab.txt", tmp_path / "vocab.txt")
    found = examine(tmp_path)
    assert names(found, "error", "warning") == set()
    assert names(found, "note") == {"config-absent", "weights-absent", "vocabulary-known"}
    assert any(name in finding.what for finding in found)


@needs_shared
def test_a_cased_vocabulary_is_known_and_needs_its_switch(tmp_path):
    shutil.copy(SHARED / "vocab" / "bert-base-cased.vocab.txt", tmp_path / "vocab.txt")
    assert names(examine(tmp_path), "error", "warning") == {"tokenizer-lowercases"}
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}', encoding="utf-8")
    assert names(examine(tmp_path), "error", "warning") == set()


@needs_shared
def test_bert_base_chinese_as_the_hub_has_it_gets_a_note_about_capitals(tmp_path):
    shutil.copy(SHARED / "vocab" / "bert-base-chinese.vocab.txt", tmp_path / "vocab.txt")
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}', encoding="utf-8")
    assert "tokenizer-keeps-case" in names(examine(tmp_path), "note")
    assert not is_wrong(examine(tmp_path))


def test_the_old_names_and_a_wrapped_fresh_head_are_seen(model):
    def old(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {key.replace("LayerNorm.weight", "LayerNorm.gamma"): tensor for key, tensor in weights.items()}

    edit_weights(model, old)
    assert names(examine(model), "error", "warning", "note") == {"weights-old-names"}
    BROKEN["head_never_trained"][1](model)
    edit_weights(model, lambda weights: {f"module.{key}": tensor for key, tensor in weights.items()})
    assert names(examine(model), "error", "warning") == {"weights-fresh-head"}
    assert "weights-prefix" in names(examine(model), "note")


def test_fresh_weights_of_googles_kind_look_fresh_too():
    weights = torch.nn.init.trunc_normal_(torch.empty(300, 300), std=0.02, a=-0.04, b=0.04)
    bias = doctor.summarise(torch.zeros(300))
    assert doctor.looks_fresh(doctor.summarise(weights), bias, 0.02)
    assert not doctor.looks_fresh(doctor.summarise(weights * 1.5), bias, 0.02)
    assert not doctor.looks_fresh(doctor.summarise(weights), doctor.summarise(torch.full((300,), 1e-9)), 0.02)


def test_a_fresh_head_of_a_masked_lm_is_seen(tmp_path):
    stir(BertForMaskedLM(small_config())).save_pretrained(tmp_path)
    Tokenizer(VOCAB).save_pretrained(tmp_path)
    edit_weights(tmp_path, lambda weights: make_fresh(weights, "cls.predictions.transform"))
    assert names(examine(tmp_path), "error", "warning") == {"weights-fresh-head"}


def test_fresh_layers_are_counted_among_all(model):
    BROKEN["layer_not_loaded"][1](model)
    (finding,) = (finding for finding in examine(model) if finding.name == "weights-fresh")
    assert finding.what.startswith(f"1 of {small_config().num_hidden_layers} layers (1) look fresh")


def test_several_parts_may_be_broken_at_once(model):
    for how in ("token_twice", "heads_that_do_not_divide", "diverged"):
        BROKEN[how][1](model)
    found = examine(model)
    assert names(found, "error") == {"vocabulary-duplicates", "config-refused", "weights-nan"}


# ---- data ----

GOOD_ROWS = [
    f"{('neg', 'pos')[i % 2]}\t{' '.join(WORDS[j % len(WORDS)] for j in range(i, i + 3 + i % 5))}" for i in range(20)
]


def write_data(path: Path, rows: list[str], encoding: str = "utf-8") -> Path:
    path.write_bytes("\n".join(["label\ttext", *rows, ""]).encode(encoding))
    return path


CHINESE_ROWS = [f"{('neg', 'pos')[i % 2]}\t{''.join(HANZI[i : i + 7])}" for i in range(20)]
BAD_DATA = {  # how it is broken -> (the finding's name, rows, encoding)
    "a column too many": ("data-refused", [*GOOD_ROWS, "pos\tgood\tfilm"], "utf-8"),
    "no label": ("data-refused", [*GOOD_ROWS, "\tgood film"], "utf-8"),
    "cyrillic": ("data-script", [f"{row} хороший фильм" for row in GOOD_ROWS], "utf-8"),
    "unknown words": ("data-unknown", [f"{row} zürich@" for row in GOOD_ROWS], "utf-8"),
    "one label": ("data-one-label", [row.replace("neg", "pos") for row in GOOD_ROWS], "utf-8"),
    "rare label": ("data-balance", [*GOOD_ROWS, "odd\tclean"], "utf-8"),
    "far too long": ("data-truncation", [f"{row}{' the' * 90}" for row in GOOD_ROWS], "utf-8"),
    "rows repeated": ("data-duplicates", [*GOOD_ROWS, *GOOD_ROWS[:5]], "utf-8"),
    "two labels for a text": ("data-contradictions", [*GOOD_ROWS, "pos" + GOOD_ROWS[0][3:]], "utf-8"),
    "empty text": ("data-empty", [*GOOD_ROWS, "pos\t"], "utf-8"),
    "mojibake": (
        "data-mojibake",
        [row.encode().decode("latin-1").replace("\x85", "?") for row in CHINESE_ROWS],
        "utf-8",
    ),
    "quotes that are text": (
        "data-quotes",
        [*GOOD_ROWS[:8], 'pos\t"good', *GOOD_ROWS[8:16], 'the book"', *GOOD_ROWS[16:]],
        "utf-8",
    ),
}


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> Path:
    """A vocabulary alone: its labels cannot contradict the data's."""
    directory = tmp_path_factory.mktemp("bare")
    write_vocabulary(directory, VOCAB)
    return directory


@pytest.mark.parametrize("how", BAD_DATA)
def test_what_is_wrong_with_data_is_named_and_no_other_error(bare, tmp_path, how):
    name, rows, encoding = BAD_DATA[how]
    found = examine(bare, data=str(write_data(tmp_path / "rows.tsv", rows, encoding)), max_length=64)
    assert name in names(found, "error", "warning")
    assert names(found, "error") <= {name}


def test_a_capital_letter_is_held_where_texts_are_lowercased(bare, tmp_path):
    shouted = [row[:4] + row[4:].upper() for row in GOOD_ROWS]
    assert not is_wrong(examine(bare, data=str(write_data(tmp_path / "rows.tsv", shouted))))


def test_sound_data_has_notes_only(bare, tmp_path):
    found = examine(bare, data=str(write_data(tmp_path / "rows.tsv", GOOD_ROWS)))
    assert not is_wrong(found)
    assert {"data-truncation", "data-padding", "data-balance"} <= names(found, "note")


def test_a_vocabulary_without_end_is_a_finding_and_not_read(model, monkeypatch):
    with open(model / "vocab.txt", "r+b") as file:
        file.truncate(LIMIT + 1)
    read = Path.read_bytes
    monkeypatch.setattr(
        Path, "read_bytes", lambda path: pytest.fail(str(path)) if path.suffix == ".txt" else read(path)
    )
    assert any(f"more than the limit of {LIMIT}" in finding.what for finding in examine(model))


def test_data_without_a_vocabulary_is_checked_as_far_as_it_goes(model, tmp_path):
    (model / "vocab.txt").unlink()
    file = write_data(tmp_path / "rows.tsv", [*CHINESE_ROWS, *CHINESE_ROWS[:3]])
    assert "data-duplicates" in names(examine(model, data=str(file)), "warning")


def test_a_leak_is_counted_with_its_lines(bare, tmp_path):
    train_file = write_data(tmp_path / "train.tsv", GOOD_ROWS)
    dev_file = write_data(tmp_path / "dev.tsv", ["neg\tclean clean dirty", GOOD_ROWS[6], GOOD_ROWS[9], "pos\tnew"])
    (leak,) = [f for f in examine(bare, data=str(train_file), dev=str(dev_file)) if f.name == "data-leak"]
    assert leak.severity == "error"
    assert leak.what == "dev.tsv: 50.0 % of its rows (2) stand in train.tsv; line 3 is line 8 there"


def test_labels_that_the_training_data_or_the_model_lacks_are_named(sound, bare, tmp_path):
    train_file, dev_file = (
        write_data(tmp_path / "a.tsv", GOOD_ROWS),
        write_data(tmp_path / "b.tsv", ["Pos\tnew", "neg\tnot a of"]),
    )
    found = [f for f in examine(bare, data=str(train_file), dev=str(dev_file)) if f.name == "data-labels"]
    assert [f.what for f in found] == ["b.tsv: a.tsv has no label Pos; it has neg, pos"]
    assert "data-labels" in names(examine(sound, data=str(train_file)), "error")


def test_rows_without_labels_are_no_error(bare, tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(json.dumps({"text": row[4:]}) for row in GOOD_ROWS), encoding="utf-8")
    assert not is_wrong(examine(bare, data=str(file)))


def test_pairs_count_as_one_row_and_three_special_tokens(bare, tmp_path):
    file = tmp_path / "rows.tsv"
    file.write_text("label\ttext\ttext_b\n0\tgood film\tbook\n1\tgood film\tbad\n", encoding="utf-8")
    found = {finding.name: finding.what for finding in examine(bare, data=str(file))}
    assert "p50 6," in found["data-truncation"]
    assert "data-duplicates" not in found


def test_padding_is_that_of_batches_of_32():
    lengths = torch.tensor([10] * 32 + [20] * 32).numpy()
    assert data_checks.waste(lengths, list(range(64))) == 0
    mixed = [row for pair in zip(range(32), range(32, 64), strict=True) for row in pair]
    assert data_checks.waste(lengths, mixed) == pytest.approx(0.25)


@needs_shared
def test_the_leak_of_chnsenticorp_is_named(tmp_path):
    shutil.copy(SHARED / "vocab" / "bert-base-chinese.vocab.txt", tmp_path / "vocab.txt")
    files = {split: str(SHARED / "chnsenticorp" / f"{name}.tsv") for split, name in (("data", "train"), ("dev", "dev"))}
    found = examine(tmp_path, **files, quoting="none")
    (leak,) = [finding.what for finding in found if finding.name == "data-leak"]
    assert "28.2 % of its rows (338) stand in train.tsv" in leak
    assert names(found, "error") == {"data-leak"}


def test_the_bundled_reviews_hold_nothing_wrong():
    splits = {split: str(REVIEWS / f"{name}.tsv") for split, name in (("data", "train"), ("dev", "dev"))}
    found = data_checks.check_data(list(splits.values()), Reading(), None, 128)
    assert not is_wrong(found)


# ---- the command ----


def test_the_command_shows_the_worst_first_and_its_status_tells(model, sound, capsys):
    BROKEN["pytorchs_eps"][1](model)
    BROKEN["diverged"][1](model)
    assert cli.main(["doctor", str(model)]) == 1
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first.split()[:2] == ["error", "weights-nan"]
    assert last == "something is wrong: 1 error, 1 warning, 0 notes"
    assert cli.main(["doctor", str(sound)]) == 0
    assert capsys.readouterr().out == "nothing is wrong: 0 errors, 0 warnings, 0 notes\n"


def test_json_is_one_object(model, capsys):
    BROKEN["pytorchs_eps"][1](model)
    assert cli.main(["doctor", str(model), "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert (answer["wrong"], answer["warning"]) == (True, 1)
    assert set(answer["findings"][0]) == {"severity", "name", "what", "remedy"}


@pytest.mark.parametrize("words", [["nowhere/at/all"], [".", "--data", "no.tsv"], [".", "--quoting", "some"], ["."]])
def test_misuse_is_one_line_and_status_2(words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["doctor", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1


def test_a_file_cannot_write_on_the_terminal(model):
    write_vocabulary(model, [*VOCAB[:-2], "\x1b[31m", "\x1b[31m"])
    shown = to_table(examine(model))
    assert "\x1b" not in shown
    assert counted(examine(model))["error"] == 1
    said = to_table([Finding("error", "data-text", "a file says \x1b[31m", "two\nlines")])
    assert "says \\x1b[31m" in said
    assert "two\\nlines" in said


def test_one_tensor_at_a_time_is_held(sound, monkeypatch):
    """What is kept of a checkpoint is its summaries and what may be shared; the rest is let go."""
    kept = doctor.read_files(sound)
    assert set(kept.shared) <= {EMBEDDING, "cls.predictions.bias"}
    assert not any(isinstance(value, torch.Tensor) for summary in kept.weights.values() for value in summary)
