"""Learning a WordPiece vocabulary from texts, through the trainer of Hugging Face's `tokenizers`."""

from collections import Counter
from collections.abc import Iterable

from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.trainers import WordPieceTrainer

from minibert import wordpiece
from minibert.tokenizer import check_text
from minibert.tokenizer_files import SPECIAL_TOKENS

MIN_FREQUENCY = 2  # a piece must join at least so many places to be worth an id


def learn_vocabulary(texts: Iterable[str], size: int, lowercase: bool = True) -> list[str]:
    """At most `size` tokens: [PAD] [UNK] [CLS] [SEP] [MASK], then the characters, then the pieces in the order learned.

    The same texts give the same list in every process. The trainer alone does not: it numbers continuing characters in
    the order of a hash map and breaks ties by those numbers. So they are handed to it as ready tokens, numbered here.
    Where the size does not hold all characters, the rarest are left out and will be [UNK].

    Raises ValueError where a text is not str, the size leaves no room, or there is nothing to learn from.
    """
    texts = list(texts)
    for index, text in enumerate(texts):
        check_text(text, f"text {index}")
    special = list(SPECIAL_TOKENS.values())
    letters = _letters(texts, lowercase)
    if not letters:
        raise ValueError("there is no word in these texts to learn a vocabulary from; give other texts")
    alphabet = _fitting(letters, size - len(special))
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


def _letters(texts: list[str], lowercase: bool) -> Counter[str]:
    """How often each character opens a word, as "a", and continues one, as "##a"."""
    units = Counter(match.group() for text in texts for match in wordpiece.units(text))
    letters: Counter[str] = Counter()
    for unit, count in units.items():
        for word, _ in wordpiece.words(wordpiece.normalize(unit, lowercase)):
            for position, char in enumerate(word):
                letters[wordpiece.CONTINUES + char if position else char] += count
    return letters


def _fitting(letters: Counter[str], room: int) -> list[str]:
    """The most frequent characters there is room for, ties by code point; "a" for each, "##a" for those that continue.

    The trainer learns a word's continuing "a" only where "a" itself has an id.
    """
    chars = sorted({letter[-1] for letter in letters})
    chars.sort(key=lambda char: letters[char] + letters[wordpiece.CONTINUES + char], reverse=True)
    opening: list[str] = []
    continuing: list[str] = []
    for char in chars:
        tokens = [token for token in (char, wordpiece.CONTINUES + char) if token == char or token in letters]
        if len(opening) + len(continuing) + len(tokens) > room:
            break
        opening.append(char)
        continuing += tokens[1:]
    return sorted(opening) + sorted(continuing)
