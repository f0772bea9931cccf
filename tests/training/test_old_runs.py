"""Proves that a run which release 0.1.0 began goes on here and ends with the bytes of one that nothing disturbed.

The directory is built by hand: names and keys below are those that 0.1.0 wrote, so that a change which would no longer
read them fails here. What has been added since is taken out, and so has to have a default. Run: pytest
tests/training/test_old_runs.py
"""

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest
import torch
from test_state import contents, small

import minibert.training.engine
from minibert.training.fine_tuning import TrainOptions, train
from minibert.training.pretraining import PretrainOptions, pretrain

LAYER = [
    *(
        f"attention.{name}.{kind}"
        for name in ("query", "key", "value", "output", "norm")
        for kind in ("weight", "bias")
    ),
    *(f"ffn.{name}.{kind}" for name in ("inner", "output", "norm") for kind in ("weight", "bias")),
]
ENCODER = [
    *(f"bert.embeddings.{name}" for name in ("token.weight", "position.weight", "segment.weight")),
    *("bert.embeddings.norm.weight", "bert.embeddings.norm.bias"),
]
RECORD = "command options sources versions device threads processes parameters"
MEANS = "loss_sum hits rows"
COMMON_OPTIONS = (
    "accumulation attention batch_size clip compile device dropout epochs graphs keep layout log_every lr max_length"
    " model out parallel precision preset resume save_every seed threads tokens_per_batch vocab_size warmup"
    " weight_decay"
)


@dataclasses.dataclass(frozen=True)
class Format:
    """What 0.1.0 had written of a run when it was stopped."""

    files: str
    record: str  # keys of run.json
    options: str  # keys of "options" in it
    layers: int
    heads: str  # weights beside the encoder's
    progress: str  # keys of "progress" in a state; "name:" for running means
    metrics: set[str]  # keys of the lines of metrics.jsonl


FORMATS = {
    "train": Format(
        files="config.json metrics.jsonl model.safetensors run.json state-000000005.pt state-000000006.pt"
        " tokenizer_config.json vocab.txt",
        record=f"{RECORD} rows rows_at_max_length",
        options=f"{COMMON_OPTIONS} columns data dev pooler quoting test token_dropout",
        layers=2,
        heads="bert.pooler.dense.weight bert.pooler.dense.bias classifier.weight classifier.bias",
        progress="epoch batch step best_epoch best_accuracy metrics_bytes window: whole:",
        metrics={"step loss accuracy lr", "epoch train_loss train_accuracy dev_loss dev_accuracy"},
    ),
    "pretrain": Format(
        files="corpus metrics.jsonl run.json state-000000004.pt state-000000006.pt tokenizer_config.json vocab.txt",
        record=f"{RECORD} tokenizer documents steps",
        options=f"{COMMON_OPTIONS} cache cased character_coverage corpus eval_every held_out layers nsp schedule steps"
        " vocab whole_word_mask width",
        layers=1,
        heads="mlm.bias mlm.dense.weight mlm.dense.bias mlm.norm.weight mlm.norm.bias",
        progress="step epoch batch tokens metrics_bytes window: pairs:",
        metrics={
            "step loss accuracy lr tokens",
            "measured loss accuracy word_accuracy unigram_accuracy unigram_word_accuracy",
        },
    ),
}
RUNS = {"train": train, "pretrain": pretrain}


def options_for(command: str, out: Path) -> TrainOptions | PretrainOptions:
    if command == "train":
        return small(out, threads=1)
    text = out.parent / "text.txt"
    lines = [f"the {('cat', 'dog')[i % 2]} sees {i % 7} of them." + "\n" * (i % 3 == 0) for i in range(60)]
    text.write_text("\n".join(lines) + "\n", encoding="utf-8")
    sizes = dict(steps=8, batch_size=4, max_length=32, vocab_size=60, layers=1, width=64, threads=1, device="cpu")
    every = dict(log_every=1, save_every=2, eval_every=4, nsp="off")
    return PretrainOptions(corpus=(str(text),), out=str(out), cased=True, **sizes, **every)


def stop_behind(step: int, run, options: TrainOptions | PretrainOptions) -> None:
    """Stops the run as soon as it has saved so many steps."""
    save_state = minibert.training.engine.save_state

    def stopping(*arguments):
        save_state(*arguments)
        if arguments[4].step == step:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(minibert.training.engine, "save_state", stopping)
        with pytest.raises(KeyboardInterrupt):
            run(options)


def only(found: dict, names: str) -> dict:
    """These entries, in this order. KeyError: one has been renamed."""
    return {name: found[name] for name in names.split()}


def rewrite_as_0_1(directory: Path, form: Format, read: Path) -> None:
    """Makes run.json, metrics.jsonl and the states what 0.1.0 wrote. read: the data file of the run."""
    record = only(json.loads((directory / "run.json").read_text(encoding="utf-8")), form.record)
    record["options"] = only(record["options"], form.options)
    record["sources"] = {str(read): hashlib.sha256(read.read_bytes()).hexdigest()}
    (directory / "run.json").write_text(json.dumps(record), encoding="utf-8")
    weights = [*ENCODER, *(f"bert.layers.{k}.{name}" for k in range(form.layers) for name in LAYER)]
    for path in directory.glob("state-*.pt"):
        state = torch.load(path, weights_only=True)
        progress = only(state["progress"], form.progress.replace(":", ""))
        for means in (name for name in progress if f"{name}:" in form.progress):
            progress[means] = only(progress[means], MEANS)
        old = {
            "version": 1,
            "model": only(state["model"], " ".join([*weights, form.heads])),
            "optimizer": only(state["optimizer"], "state param_groups"),
            "progress": progress,
        }
        torch.save(old, path)


@pytest.mark.parametrize("command", FORMATS)
def test_a_run_begun_by_release_0_1_ends_with_the_bytes_of_an_undisturbed_one(tmp_path, command):
    form, run = FORMATS[command], RUNS[command]
    run(options_for(command, tmp_path / "whole"))
    options = options_for(command, tmp_path / "run")
    stop_behind(6, run, options)
    directory = tmp_path / "run"
    assert {path.name for path in directory.iterdir()} == set(form.files.split())
    lines = (directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert {" ".join(json.loads(line)) for line in lines} == form.metrics
    rewrite_as_0_1(directory, form, Path(options.data if command == "train" else options.corpus[0]))
    run(type(options)(resume=options.out))
    assert contents(directory) == contents(tmp_path / "whole")


def test_a_run_with_pairs_that_an_older_release_began_is_refused_as_its_examples_were_others(tmp_path):
    options = dataclasses.replace(options_for("pretrain", tmp_path / "run"), nsp="on")
    stop_behind(2, pretrain, options)
    path = tmp_path / "run/run.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    del record["scheme"]
    path.write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(ValueError, match=r"begun by an older minibert.*go on with that one, or begin a new run"):
        pretrain(PretrainOptions(resume=options.out))
