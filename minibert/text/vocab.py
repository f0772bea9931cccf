"""Learning a WordPiece vocabulary from texts, through the trainer of Hugging Face's `tokenizers`; what it covers."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.trainers import WordPieceTrainer

from minibert.core import wordpiece
from minibert.core.tokenizer import check_text
from minibert.core.vocabulary import SPECIAL_TOKENS
from minibert.io.locks import held_directory
from minibert.text import cuts
from minibert.text.corpus import Sentences
from minibert.text.options import VocabOptions
from minibert.text.tokenizer import Tokenizer as OurTokenizer

MIN_FREQUENCY = 2  # a piece must join at least so many places to be worth an id


def learn_vocabulary(
    texts: Iterable[str], size: int, lowercase: bool = True, character_coverage: float = 1.0
) -> list[str]:
    """At most `size` tokens: [PAD] [UNK] [CLS] [SEP] [MASK], then the characters, then the pieces in the order learned.

    The same texts give the same list in every process. The trainer alone does not: it numbers continuing characters in
    the order of a hash map and breaks ties by those numbers. So they are handed to it as ready tokens, numbered here.
    Where the size does not hold all characters, the rarest are left out and will be [UNK].

    texts: gone through twice, and held in memory only if that is an iterator.
    character_coverage: share of the text whose characters get an id. Chinese has thousands that occur once or twice;
        without them there is room for pieces of words (0.9995 in SentencePiece, Kudo & Richardson 2018).

    Raises ValueError where a text is not str, the size leaves no room, or there is nothing to learn from.
    """
    if isinstance(texts, Iterator):
        texts = list(texts)
    return _learn(texts, count_words(texts, lowercase), size, lowercase, character_coverage)


def count_words(texts: Iterable[str], lowercase: bool = True) -> Counter[str]:
    """How often each word occurs, normalised: all that is held in memory of a corpus."""
    units: Counter[str] = Counter()
    for index, text in enumerate(texts):
        check_text(text, f"text {index}")
        units.update(map(re.Match.group, cuts.units(text)))
    words: Counter[str] = Counter()
    for unit, count in units.items():
        for word, _ in wordpiece.words(wordpiece.normalize(unit, lowercase)):
            words[word] += count
    return words


def _learn(texts: Iterable[str], words: Counter[str], size: int, lowercase: bool, share: float) -> list[str]:
    special = list(SPECIAL_TOKENS.values())
    if not words:
        raise ValueError("there is no word in these texts to learn a vocabulary from; give other texts")
    alphabet = _alphabet(words, size - len(special), share)
    if not alphabet:
        raise ValueError(f"size {size} is too small: the special tokens take {len(special)}, a character up to 2")
    trainer = WordPieceTrainer(
        vocab_size=size,
        min_frequency=MIN_FREQUENCY,
        special_tokens=special + alphabet,
        limit_alphabet=0,  # all that is wanted of it is among the special tokens
        show_progress=False,
    )
    learner = Tokenizer(WordPiece(unk_token=SPECIAL_TOKENS["unk_token"]))
    learner.normalizer = BertNormalizer(lowercase=lowercase)
    learner.pre_tokenizer = BertPreTokenizer()
    learner.train_from_iterator(texts, trainer)
    ids = learner.get_vocab()
    return sorted(ids, key=ids.__getitem__)


def _alphabet(words: Counter[str], room: int, share: float) -> list[str]:
    """The most frequent characters that make up this share of the text, as far as there is room; ties by code point.
    "a" for each, "##a" for those that continue a word.

    The trainer learns a word's continuing "a" only where "a" itself has an id.
    """
    counts = _count_chars(words)
    continuing = {char for word in words for char in word[1:]}
    chosen: list[str] = []
    left = share * counts.total()
    for char in sorted(sorted(counts), key=counts.__getitem__, reverse=True):
        room -= 1 + (char in continuing)
        if left <= 0 or room < 0:
            break
        left -= counts[char]
        chosen.append(char)
    return sorted(chosen) + sorted(wordpiece.CONTINUES + char for char in chosen if char in continuing)


def _count_chars(words: Counter[str]) -> Counter[str]:
    chars: Counter[str] = Counter()
    for word, count in words.items():
        for char in word:
            chars[char] += count
    return chars


# ---- from files, with a report ----


class Coverage(NamedTuple):
    """How well a vocabulary fits a text. Shares lie between 0 and 1 and count every occurrence.

    characters: share that have an id. missing: the most frequent that have none, with their counts.
    whole: share of words that are one piece. pieces: their mean for a word.
    """

    characters: float
    missing: list[tuple[str, int]]
    whole: float
    pieces: float


def vocabulary_of_files(options: VocabOptions, say: Callable[[str], None]) -> tuple[OurTokenizer, Coverage]:
    """Learns a vocabulary and writes it to `options.out`.

    A size that the text does not support is no error: sizes are round numbers, and a smaller vocabulary is the right
    one for a smaller text. But it is said, since a model's size follows from it.

    Raises:
        ValueError: a file cannot be read, there is nothing to learn from, or another process is writing there; nothing
            is written.
        OSError: the directory cannot be written.
    """
    texts, out = Sentences(options.files, options.encoding), Path(options.out)
    with held_directory(out):
        words = count_words(texts, not options.cased)
        for file in texts.files:
            say(f"{file.path.name}: {file.said()}")
        vocabulary = _learn(texts, words, options.size, not options.cased, options.character_coverage)
        if len(vocabulary) < options.size:
            say(
                f"the text supports {len(vocabulary)} tokens, not {options.size}: a piece must occur at least"
                f" {MIN_FREQUENCY} times to be worth an id"
            )
        tokenizer = OurTokenizer(vocabulary, lowercase=not options.cased)
        tokenizer.save_pretrained(out)
    return tokenizer, coverage(words, tokenizer)


def coverage(words: Counter[str], tokenizer: OurTokenizer, most: int = 10) -> Coverage:
    """words: of a text, from `count_words`."""
    known, total, chars = set(tokenizer.vocab), words.total(), _count_chars(words)
    missing = Counter({c: n for c, n in chars.items() if not {c, wordpiece.CONTINUES + c} & known})
    whole = sum(count for word, count in words.items() if word in known)
    pieces = sum(count * len(tokenizer.tokenize(word)) for word, count in words.items())
    covered = 1 - missing.total() / chars.total()
    return Coverage(covered, missing.most_common(most), whole / total, pieces / total)
