"""The command line: `minibert COMMAND …`, the same as `python -m minibert COMMAND …`.

Every command's options are the fields of a dataclass in its folder's options.py. What a command computes with is
imported when it runs: PyTorch takes seconds, which a help text or `encode` need not wait for. Results go to stdout, all
else to stderr. Exit status: 0 done, 1 `parity` found a difference or `doctor` something wrong, 2 a mistake that one
line explains, 130 interrupted, 141 the output's reader has gone.
"""

from __future__ import annotations

import argparse
import errno
import io
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from minibert.check.options import CourseOptions, DoctorOptions
from minibert.inference.options import EmbedOptions, EvaluateOptions, FillMaskOptions, JobOptions, PredictOptions
from minibert.io import language
from minibert.look.options import ExplainOptions, ParityOptions
from minibert.options import add_options
from minibert.text.options import EncodeOptions, VocabOptions
from minibert.training.options import PretrainOptions, TrainOptions

if TYPE_CHECKING:
    from minibert.inference.jobs import Done

# ---- commands: what to do with their options ----


def run_train(options: TrainOptions) -> None:
    """Fine-tune a classifier or a regression by the explicit loop; without options, on the bundled reviews."""
    from minibert.inference.scores import numbers_of, told
    from minibert.training.fine_tuning import train

    if (done := train(options)) is None:
        return  # of several processes the main one prints
    scores, out = done
    print(f"{told(numbers_of(scores))}  {out}")


def run_evaluate(options: EvaluateOptions) -> None:
    """Score a trained model on a labelled file: classes, several labels at once, or numbers, as it was trained."""
    from minibert.training.evaluation import evaluate

    answer, lines = evaluate(options)
    show(options, answer, lines)


def run_predict(options: PredictOptions) -> None:
    """Classify texts: label, probability (or score) and text, a line each; of a multi-label model all its labels,
    joined by |. Or a file of any size, --data FILE --out FILE.tsv (.csv .jsonl): row, label and probability, a line
    each, and of a multi-label model a probability a label; row counts the data's rows from 1, without header."""
    from minibert.inference import answers, jobs, text_models
    from minibert.text.data_doubts import tell

    if options.data is not None:
        show_job(options, jobs.predict_file(options))
        return
    texts, classifier = options.text or read_stdin(), load(text_models.TextClassifier, options)
    pairs, config = repeat_pair(options.pair, texts), classifier.config
    answers.check_asked(config, options.top, options.threshold)
    tell(classifier.doubts("texts", texts, pairs, options.max_length))
    logits = classifier.logits(texts, pairs, options.max_length, options.tokens_per_batch)
    given = answers.answers(config, logits, options.top, options.threshold)
    found = list(zip(texts, given, strict=True))
    rows = [{"text": text, **answers.to_dict(config, answer)} for text, answer in found]
    shown = 2 if options.top is None else None  # the answer, or the best ones too
    lines = ("\t".join([*answers.to_cells(config, answer, digits=4)[:shown], text]) for text, answer in found)
    show(options, {"predictions": rows}, lines)


def run_embed(options: EmbedOptions) -> None:
    """Sentence vectors of texts, a line of numbers each. Or of a file of any size: --data FILE --out FILE.npy writes
    float32, vector i for row i; NaN where a broken row is skipped."""
    from minibert.inference import jobs, text_encoder

    said = options.normalize or options.no_normalize
    how = {"pooling": options.pooling, "normalize": options.normalize if said else None}
    if options.data is not None:
        show_job(options, jobs.embed_file(options, **how))
        return
    texts, encoder = options.text or read_stdin(), load(text_encoder.TextEncoder, options, **how)
    encoder.check_shape(False, "texts")
    rows = encoder.embed(texts, None, options.tokens_per_batch, options.max_length).tolist()
    show(options, {"embeddings": rows}, ("\t".join(f"{number:.6g}" for number in row) for row in rows))


def run_encode(options: EncodeOptions) -> None:
    """Show how texts become numbers: tokens, ids, segments, masks, and the text decoded back."""
    from minibert.text.encode_table import encoding_dict, encoding_table
    from minibert.text.tokenizer import Tokenizer

    texts = options.text or read_stdin()
    inputs = Tokenizer.from_pretrained(options.model), texts, repeat_pair(options.pair, texts)
    names = ("max_length", "truncation", "padding", "split_special_tokens")
    how = {name: getattr(options, name) for name in names}
    if options.json:
        show(options, encoding_dict(*inputs, **how), ())
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None  # a file needs no line breaks
        print(encoding_table(*inputs, width=width, **how))


def run_parity(options: ParityOptions) -> int:
    """Compare a model with the float64 reference (and transformers), stage by stage."""
    from minibert.look.parity import failures, ladder, to_dict, to_table

    rungs = ladder(options)
    show(options, to_dict(rungs), [to_table(rungs, options.layers)])
    return 1 if failures(rungs) else 0


def run_vocab(options: VocabOptions) -> None:
    """Learn a WordPiece vocabulary from text files, and say how well it covers them."""
    from minibert.io.stderr import say
    from minibert.text.vocab import vocabulary_of_files

    tokenizer, found = vocabulary_of_files(options, say)
    without = ", ".join(f"{char} {count:,}×" for char, count in found.missing)
    lines = [
        f"characters with an id  {found.characters:.4%}{'  without: ' * bool(without)}{without}",
        f"words of one piece     {found.whole:.2%}",
        f"pieces per word        {found.pieces:.3f}",
        f"{tokenizer.vocab_size} tokens  {options.out}",
    ]
    show(options, {"tokens": tokenizer.vocab_size, **found._asdict(), "out": options.out}, lines)


def run_pretrain(options: PretrainOptions) -> None:
    """Pretrain a BERT on text files: masked LM and next-sentence prediction, from corpus to model."""
    from minibert.training.pretraining import pretrain

    if (done := pretrain(options)) is None:
        return  # of several processes the main one prints
    scores, out = done
    print("  ".join([*(f"{name.replace('_', ' ')} {value:.4f}" for name, value in scores.items()), str(out)]))


def run_fill_mask(options: FillMaskOptions) -> None:
    """Show what a pretrained model would put in the place of [MASK]."""
    from minibert.inference.fill_mask import fill, fills_table

    texts = options.text or read_stdin()
    fills = [{"text": text, "masks": masks} for text, masks in zip(texts, fill(options, texts), strict=True)]
    show(options, {"fills": fills}, ["\n\n".join(fills_table(**row) for row in fills)])


def run_explain(options: ExplainOptions) -> None:
    """Draw a page of every number of a forward pass: pieces, embeddings, attention, what led to the answer."""
    from minibert.look.explanation import explained, in_words, write_page

    explanation = explained(options)
    page = None if options.json and options.out is None else write_page(explanation, options.out)
    layers, heads = explanation.config["num_hidden_layers"], explanation.config["num_attention_heads"]
    cut = f"  {explanation.left_out} tokens left out" if explanation.left_out else ""
    line = (
        f"{in_words(explanation.answer)}{len(explanation.tokens)} tokens{cut}  {layers} layers × {heads} heads  {page}"
    )
    show(options, explanation.to_dict() if options.json else {}, [line])


def run_doctor(options: DoctorOptions) -> int:
    """Say what is wrong with a model's files, its vocabulary or data, and what to do."""
    from minibert.check.doctor import diagnose
    from minibert.io import findings

    found = diagnose(options)
    show(options, findings.to_dict(found), [findings.to_table(found)])
    return 1 if findings.is_wrong(found) else 0


def run_course(options: CourseOptions) -> int:
    """Write a BERT of your own: course build DIR, course check DIR; course break DIR puts a slip into it, course grade
    DIR… looks at a class. Or the bugs that people make: course lists them, course 3 --answer shows at which stage one
    begins, course 3 --repair DIR has you mend it."""
    from minibert.check import course

    chinese = options.chinese or language.is_chinese()
    if options.command or options.repair:
        from minibert.check.building import workshop

        status, answer, lines = workshop.commanded(options, chinese)
        for line in [json.dumps(answer, ensure_ascii=False)] if options.json else lines:
            print(line, flush=True)  # a class takes a while
        return status
    bugs = [course.chosen(name) for name in options.what]
    if options.json:
        show(options, {"bugs": [course.to_dict(bug) for bug in bugs or course.BUGS]}, ())
    elif not bugs:
        print(course.contents(chinese))
    else:
        print("\n\n".join(course.lesson(bug, chinese, options.answer) for bug in bugs))
    return 0


COMMANDS: dict[str, tuple[type, Callable[[Any], int | None]]] = {
    "train": (TrainOptions, run_train),
    "evaluate": (EvaluateOptions, run_evaluate),
    "predict": (PredictOptions, run_predict),
    "embed": (EmbedOptions, run_embed),
    "encode": (EncodeOptions, run_encode),
    "parity": (ParityOptions, run_parity),
    "vocab": (VocabOptions, run_vocab),
    "pretrain": (PretrainOptions, run_pretrain),
    "fill-mask": (FillMaskOptions, run_fill_mask),
    "explain": (ExplainOptions, run_explain),
    "doctor": (DoctorOptions, run_doctor),
    "course": (CourseOptions, run_course),
}

# ---- parsing and running ----


class Parser(argparse.ArgumentParser):
    """Says a mistake in one line, without the whole usage before it."""

    def error(self, message: str) -> NoReturn:
        line = language.translated(f"{message}; see {self.prog} --help")
        self.exit(2, f"{self.prog}: {line}\n")


class Speak(argparse.Action):
    """--lang: the language from here on, of mistakes in what follows too. No option of a run, so it is not recorded."""

    def __call__(self, parser: object, namespace: object, values: Any, option_string: object = None) -> None:
        language.use(values)


def parse(arguments: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """The command and the values of its options, which may stand before, between and after its texts."""
    parser = Parser(prog="minibert", description="BERT from scratch: train it, use it, look inside it.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (options, run) in COMMANDS.items():
        command = commands.add_parser(name, help=run.__doc__, description=run.__doc__)
        add_options(command, options)
        text = "language of messages: zh or en (default: the locale's)"
        command.add_argument("--lang", choices=language.LANGUAGES, action=Speak, default=argparse.SUPPRESS, help=text)
    command = arguments[0] if arguments else ""
    if command not in COMMANDS:
        parser.parse_args(arguments)  # prints the help or the mistake, and exits
    return command, vars(commands.choices[command].parse_intermixed_args(arguments[1:]))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")  # Chinese output also where the locale is C
    language.use(language.chosen())
    command, values = parse(sys.argv[1:] if arguments is None else arguments)
    if language.is_chinese() and logging.lastResort is not None:
        from minibert.io.stderr import Translated

        logging.lastResort.setFormatter(Translated())
    options, run = COMMANDS[command]
    try:
        status = run(options(**values)) or 0
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # as with `minibert encode … | head -1`: nobody is left to be told
        for stream in (sys.stdout, sys.stderr):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # or Python complains when it flushes at exit
        return 141  # 128 + SIGPIPE
    except (ValueError, OSError) as error:
        from minibert.io.stderr import one_line

        print(f"minibert: {one_line(with_remedy(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"minibert: {language.translated('interrupted')}", file=sys.stderr)
        return 130


# ---- small helpers ----


def with_remedy(error: Exception) -> str:
    """An error's text; of a full disk, which the system tells, with what to do."""
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", None))
    return f"{error}; make room, then type the command again" if full and "make room" not in str(error) else str(error)


def read_stdin() -> list[str]:
    """One text a line.

    Raises:
        ValueError: nothing there, or not UTF-8.
    """
    if sys.stdin.isatty():
        raise ValueError("no text given; write it after the command, or pipe texts in, one a line")
    try:
        text = sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"standard input is not UTF-8 (byte {error.start})") from None
    if not text:
        raise ValueError("standard input is empty; give one text a line")
    return text.replace("\r\n", "\n").removesuffix("\n").split("\n")


def repeat_pair(pair: str | None, texts: Sequence[str]) -> list[str] | None:
    return None if pair is None else [pair] * len(texts)


def load(kind: Any, options: Any, **more: Any) -> Any:
    """A TextClassifier or TextEncoder from the options' directory, its weights mapped and not copied."""
    loaded = options.directory, options.attention, options.device
    return kind.from_pretrained(*loaded, mapped=True, precision=options.precision, **more)


def show(options: Any, answer: object, lines: Iterable[str]) -> None:
    """A command's result on stdout: with --json `answer` as one JSON object, else the lines."""
    print(json.dumps(answer, ensure_ascii=False) if options.json else "\n".join(lines))


def show_job(options: JobOptions, done: Done) -> None:
    """How a job has ended; what it left out is said on stderr too."""
    from minibert.io.stderr import say

    if done.left_out:
        say(f"{done.left_out} rows left out; the first: {done.first_left_out}")
    counts = {name: getattr(done, name) for name in ("rows", "left_out", "first_left_out")}
    line = f"rows {done.rows}  left out {done.left_out}  {options.out}"
    show(options, {**counts, "out": options.out}, [line])
