"""WordPiece's fast twin: many texts at once, as numpy arrays, with the ids and spans of wordpiece.py.

Nothing is done character by character in Python: every step below is a few numpy calls over a block of texts.

    texts     "Née ok", "naïvely, 北京!"                     joined by line breaks, which are white space
    symbols   n e e 0 o k 0 n a i v e l y , 0 北 京 ! 0      small integers (symbols.py): 0 is a space, > 0 a part of a
                                                             word, < 0 stands alone; é and e are the same
    units     ^       ^     ^             ^   ^  ^  ^        where a run of symbols > 0 begins, and every symbol < 0
    values    7663    7929  ~k          1010 1781 1755 999   what `_Words` knows of a word, `Alphabet` of a single one:
                                                             its id, or ~k where its pieces stand at place k of a pool
    pool                    15743 2135                       naive ##ly, cut once, when the word was new
    ids       7663 7929 15743 2135 1010 1781 1755 999        each value as often as it has pieces, the pieces over it
    lengths   2, 6                                           counted between the borders of the texts

The ids are bert-base-uncased's. Eight symbols of ASCII (four others) are one 64-bit integer, so a word is a short path
of such integers, and a table of paths finds it without making a Python object of it. The words that are new are cut
together, along the vocabulary's trie, one symbol a step. Both the paths and the trie are `_Edges`, a hash table that
answers an array of questions.

Why a unit may be encoded apart from its neighbours is said in cuts.py. Where marks change places it may not
be cut by symbols: a text with one of the few marks that stripping leaves goes through the specification, by itself.
"""

import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from minibert.core.encoding import Flat
from minibert.core.wordpiece import CONTINUES, MAX_WORD
from minibert.text import symbols
from minibert.text.arranging import ranges
from minibert.text.cuts import border

BLOCK = 1 << 18  # characters at once: too many to feel numpy's overhead, few enough for the cache
PART = 1 << 20  # symbols of a block at once, where some are put in the place of others: a block has fewer, but for one
MIXED = 1 << 15  # fewer characters are not worth telling ASCII from other texts, which are read more slowly
FEW_ASCII = 8  # of how many characters one at most stands in an ASCII text, where those are not read by themselves
EDGES = 2  # of the trie for each token of a vocabulary: bert-base-uncased has 61,894 for 30,522
MAX_NODES, MAX_PIECES = 1 << 18, 1 << 19  # a table of words that has grown beyond is forgotten: it takes up to 24 MB

Ints = NDArray[np.integer]


class BatchEncoder:
    """Encodes texts with one vocabulary.

    vocab, special: {token: id}. Special tokens are found in the raw text, whatever stands around them.
    specification: gives the ids and spans of texts (and whether "[SEP]" is plain text in them); asked for what cannot
    be treated as symbols.

    Threads may share it: each takes a table of known words for itself, and gives it back. The table never changes the
    result, only the time.
    """

    def __init__(
        self,
        vocab: Mapping[str, int],
        special: Mapping[str, int],
        unknown_id: int,
        lowercase: bool,
        strip_accents: bool,
        tokenize_chinese_chars: bool,
        specification: Callable[[list[str], bool], Flat],
    ) -> None:
        switches = lowercase, strip_accents, tokenize_chinese_chars
        self._alphabet = symbols.alphabet(vocab, special, unknown_id, *switches)
        self._vocabulary = _Vocabulary(vocab, self._alphabet.of_tokens, unknown_id)
        self._specification = specification
        self._special = re.compile("|".join(map(re.escape, sorted(special, key=len, reverse=True))))
        self._inside_special = "".join(token[1:] for token in special)
        self._tokenize_chinese_chars = tokenize_chinese_chars
        self._idle: dict[int, list[_Words]] = {1: [], self._alphabet.wide.itemsize: []}  # by bytes a symbol

    def encode(self, texts: Sequence[str], spans: bool = False, split_special_tokens: bool = False) -> Flat:
        """The texts must be str without lone surrogates (UnicodeEncodeError)."""
        rows = np.arange(len(texts))
        chars = np.fromiter(map(len, texts), np.int64, len(texts))
        if chars.sum() + len(texts) <= MIXED:
            blocks, long = [rows], rows[:0]
        else:
            ascii_only = np.fromiter(map(str.isascii, texts), np.bool_, len(texts))
            if chars[ascii_only].sum() * FEW_ASCII < chars.sum():
                ascii_only[:] = False  # to part them would cost more than it gains
            is_long = chars > BLOCK
            kinds = ascii_only & ~is_long, ~ascii_only & ~is_long
            blocks = [block for kind in kinds for block in _blocks(rows[kind], chars)]
            long = rows[is_long]
        parts = []  # with the numbers of the texts that each holds
        for block in blocks:
            parts += self._encode_rows(texts, block, chars[block], spans, split_special_tokens)
        for row in long:
            parts += self._encode_long(texts, row, spans, split_special_tokens)
        return assembled(parts, spans)

    def _encode_long(
        self, texts: Sequence[str], row: int, spans: bool, split_special_tokens: bool
    ) -> Iterator[tuple[Ints, Flat]]:
        """texts[row] in parts of about a block, cut where nothing joins; one word without end is held whole."""
        text, begin = texts[row], 0
        while begin < len(text):
            end = border(text, begin + BLOCK, self._tokenize_chinese_chars, self._inside_special)
            only, chars = np.zeros(1, np.int64), np.array([end - begin])
            for _, flat in self._encode_rows([text[begin:end]], only, chars, spans, split_special_tokens):
                yield only + row, flat._replace(spans=flat.spans + np.int32(begin)) if spans else flat
            begin = end

    def _encode_rows(
        self, texts: Sequence[str], rows: NDArray[np.int64], chars: Ints, spans: bool, split_special_tokens: bool
    ) -> Iterator[tuple[Ints, Flat]]:
        """texts[rows], which have so many chars, in one or more parts, each with the numbers of its texts."""
        block = map(texts.__getitem__, rows.tolist())
        joined = "\n".join(["", *block, "\n" * 7])  # words are read up to 8 symbols at a time
        starts = np.ones(len(rows) + 1, np.int64)  # of the texts in `joined`, and the end of the last
        starts[1:] += np.cumsum(chars + 1)
        stream = self._read(joined, split_special_tokens)
        hard = np.flatnonzero(stream == self._alphabet.first_rare) if self._has_rare(stream) else ()
        if len(hard):
            hard = np.unique(np.searchsorted(starts, hard, side="right") - 1)
            chosen = [texts[row] for row in rows[hard].tolist()]
            yield rows[hard], self._specification(chosen, split_special_tokens)
            if len(hard) < len(rows):
                rows, chars = np.delete(rows, hard), np.delete(chars, hard)
                yield from self._encode_rows(texts, rows, chars, spans, split_special_tokens)
            return
        yield rows, self._encode_stream(stream, starts, spans)

    def _read(self, joined: str, split_special_tokens: bool) -> NDArray[np.signedinteger]:
        """One symbol for each character, those of the alphabet's rare ones included."""
        special = [] if split_special_tokens else list(self._special.finditer(joined))
        if not special and joined.isascii():
            stream = np.frombuffer(joined.encode("ascii").translate(self._alphabet.narrow), np.int8)
            if stream.max() < symbols.NARROW_RARE:
                return stream
        stream = self._alphabet.wide.take(np.frombuffer(joined.encode("utf-32-le"), np.uint32))
        for match in special:
            stream[match.start() : match.end()] = 0
            stream[match.start()] = self._alphabet.special[match.group()]
        narrow = stream.min() >= -128 and stream.max() < min(self._alphabet.first_rare, symbols.NARROW_RARE)
        return stream.astype(np.int8) if narrow else stream  # "é" is "e": then the words are known from ASCII texts

    def _has_rare(self, stream: NDArray[np.signedinteger]) -> bool:
        return stream.itemsize > 1 and stream.max() >= self._alphabet.first_rare  # ASCII has none

    def _encode_stream(self, stream: NDArray[np.signedinteger], starts: NDArray[np.int64], spans: bool) -> Flat:
        """stream: symbols of texts that begin at `starts`, each with one more behind it, a space."""
        if expanded := self._has_rare(stream):
            stream, sources = self._expand(stream)  # sources: the index that each symbol had before
        is_word = stream > 0
        changes = np.flatnonzero(is_word[1:] != is_word[:-1]) + 1  # from outside a word to inside, and back, in turn
        word_starts, word_stops = changes[0::2].copy(), changes[1::2]
        is_unit = stream < 0
        is_unit[word_starts] = True
        units = np.flatnonzero(is_unit)  # [U] index of each unit's first symbol
        kinds = stream.take(units)
        words, single = np.flatnonzero(kinds > 0), kinds < 0

        known = self._borrow(stream.itemsize)
        values = np.empty(len(units), np.int32)
        values[words] = known.values(stream, word_starts, word_stops)
        values[single] = self._alphabet.alone_ids.take(~kinds[single])

        several = np.flatnonzero(values < 0)  # units of several pieces
        places, counts = divmod(~values.take(several), 128)  # see _Words._learn
        pieces = np.ones(len(units), np.uint8)  # no word has more than 100
        pieces[several] = counts
        ends = np.zeros(len(units) + 1, np.int64)  # tokens before each unit, and before the end
        pieces.cumsum(dtype=np.int64, out=ends[1:])
        ids = np.empty(ends[-1], np.int32)
        ids[ends[:-1]] = values
        firsts = ends.take(several)
        targets = ranges(firsts, counts)
        places = targets + (places - firsts).repeat(counts)
        ids[targets] = known.pieces["id"].take(places)

        borders = ends.take((sources.take(units) if expanded else units).searchsorted(starts))
        lengths = borders[1:] - borders[:-1]
        if not spans:
            self._give_back(known)
            return Flat(ids, lengths)
        stops = units.copy()
        stops[words] = word_stops
        stops[single] += self._alphabet.alone_lengths.take(~kinds[single])
        begin, end = np.repeat(units, pieces), np.repeat(stops, pieces)
        end[targets] = begin.take(targets) + known.pieces["end"].take(places)
        begin[targets] += known.pieces["begin"].take(places)
        self._give_back(known)
        if expanded:
            begin, end = sources.take(begin), sources.take(end - 1) + 1
        shift = np.repeat(starts[:-1], lengths)
        both = np.empty((len(ids), 2), np.int32)
        np.subtract(begin, shift, out=both[:, 0], casting="same_kind")
        np.subtract(end, shift, out=both[:, 1], casting="same_kind")
        return Flat(ids, lengths, both)

    def _expand(self, stream: NDArray[np.signedinteger]) -> tuple[NDArray[np.signedinteger], Ints]:
        """Puts in the place of each rare symbol what becomes of it: nothing, or several symbols; and the index that
        each symbol had before. In parts: one word may be millions of characters, and counts take many bytes each."""
        if len(stream) <= PART:
            return self._expand_part(stream, 0)
        rare = stream[stream >= self._alphabet.first_rare] - self._alphabet.first_rare - 1
        size, end = len(stream) - len(rare) + self._alphabet.several_lengths.take(rare).sum(), 0
        expanded, sources = np.empty(size, stream.dtype), np.empty(size, np.int32)
        for first in range(0, len(stream), PART):
            part, places = self._expand_part(stream[first : first + PART], first)
            begin, end = end, end + len(part)
            expanded[begin:end], sources[begin:end] = part, places
        return expanded, sources

    def _expand_part(self, stream: NDArray[np.signedinteger], first: int) -> tuple[NDArray[np.signedinteger], Ints]:
        """first: the index of stream[0]."""
        table = self._alphabet
        rare = np.flatnonzero(stream >= table.first_rare)
        which = stream[rare] - table.first_rare - 1
        counts = np.ones(len(stream), np.int64)
        counts[rare] = lengths = table.several_lengths[which]
        targets = ranges((np.cumsum(counts) - counts)[rare], lengths)
        sources = np.repeat(np.arange(len(stream), dtype=np.int32), counts)
        expanded = stream.take(sources)
        expanded[targets] = table.several[ranges(table.several_starts[which], lengths)]
        sources += np.int32(first)
        return expanded, sources

    def _borrow(self, itemsize: int) -> "_Words":
        """A table of known words that no other thread has; never given back half-written, after an error."""
        try:
            return self._idle[itemsize].pop()
        except IndexError:
            return _Words(self._vocabulary, itemsize)

    def _give_back(self, words: "_Words") -> None:
        if words.edges.count <= MAX_NODES and words.used <= MAX_PIECES:
            self._idle[words.itemsize].append(words)


def _blocks(rows: NDArray[np.int64], chars: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The rows in runs of about BLOCK characters."""
    numbers = np.cumsum(chars[rows] + 1) // BLOCK
    return np.split(rows, np.flatnonzero(np.diff(numbers)) + 1) if len(rows) else []


def assembled(parts: list[tuple[Ints, Flat]], spans: bool) -> Flat:
    """Texts in the order of their numbers, 0 … N - 1, of which each part comes with its own; a text that has several
    parts is their tokens in turn."""
    numbers, flats = zip(*parts, strict=True)
    if len(parts) == 1:
        flat, numbers = flats[0] if spans else flats[0]._replace(spans=None), numbers[0]
    else:
        ids, lengths, places = zip(*flats, strict=True)
        flat = Flat(np.concatenate(ids), np.concatenate(lengths), np.concatenate(places) if spans else None)
        numbers = np.concatenate(numbers)
    if (numbers[1:] < numbers[:-1]).any():
        order = numbers.argsort(kind="stable")
        lengths, numbers = flat.lengths[order], numbers[order]
        source = ranges((flat.lengths.cumsum() - flat.lengths)[order], lengths)
        flat = Flat(flat.ids.take(source), lengths, flat.spans.take(source, axis=0) if spans else None)
    firsts = np.flatnonzero(np.diff(numbers, prepend=-1))
    return flat if len(firsts) == len(numbers) else flat._replace(lengths=np.add.reduceat(flat.lengths, firsts))


# --- Words ------------------------------------------------------------------------------------------------------------


class _Vocabulary:
    """The tokens as a trie: from node to node by symbols, from BEGINS for a word's start, from CONTINUES behind it."""

    BEGINS, CONTINUES = 0, 1

    def __init__(self, vocab: Mapping[str, int], of_tokens: NDArray[np.signedinteger], unknown_id: int) -> None:
        self.unknown_id = unknown_id
        self.edges = _Edges(roots=2, room=4, expected=EDGES * len(vocab))
        tokens = [token.removeprefix(CONTINUES) for token in vocab]
        ids = np.fromiter(vocab.values(), np.int32, len(vocab))
        lengths = np.fromiter(map(len, tokens), np.int64, len(vocab))
        whole = np.fromiter(map(len, vocab), np.int64, len(vocab))
        nodes = np.where(lengths < whole, self.CONTINUES, self.BEGINS).astype(np.int32)
        letters = of_tokens.take(np.frombuffer("".join(tokens).encode("utf-32-le", "surrogatepass"), np.uint32))
        firsts = np.cumsum(lengths) - lengths
        not_word = np.concatenate([[0], np.cumsum(letters <= 0)])
        in_words = (lengths > 0) & (lengths <= MAX_WORD) & (not_word[firsts] == not_word[firsts + lengths])
        alive = np.flatnonzero(in_words)
        depth = 0
        while len(alive):
            labels = letters.take(firsts[alive] + depth).astype(np.uint64)
            nodes[alive] = self.edges.add(nodes[alive], labels)
            depth += 1
            alive = alive[lengths[alive] > depth]
        self.tokens = np.full(self.edges.count, -1, np.int32)  # of each node: the token that ends there, or -1
        self.tokens[nodes[in_words]] = ids[in_words]

    def cut(self, stream: NDArray[np.signedinteger], starts: Ints, stops: Ints) -> tuple[Ints, Ints, Ints, Ints]:
        """Cuts words into pieces, always the longest that the vocabulary has, all words at once.

        Returns word, id, begin and end of every piece, in order; a word that cannot be cut to its end is unknown.
        """
        words = np.arange(len(starts))
        begin, at, nodes = starts.copy(), starts.copy(), np.zeros(len(starts), np.int32)
        ids, end = np.full(len(starts), -1, np.int32), starts.copy()  # of the longest piece so far, -1: none
        unknown = np.zeros(len(starts), bool)
        found = []
        while len(words):
            nodes, _ = self.edges.search(nodes, stream.take(at).astype(np.uint64))
            at += 1
            token = self.tokens.take(nodes)  # node 0: there is no edge, and no token
            better = np.flatnonzero(token >= 0)
            ids[better], end[better] = token[better], at[better]
            stuck = np.flatnonzero(nodes == 0)
            if not len(stuck):
                continue
            lost = stuck[ids[stuck] < 0]
            unknown[words[lost]] = True
            ready = stuck[ids[stuck] >= 0]
            found.append((words[ready], ids[ready], begin[ready], end[ready]))
            begin[ready] = at[ready] = end[ready]
            nodes[ready], ids[ready] = self.CONTINUES, -1
            going = np.ones(len(words), bool)
            going[lost] = False
            going[ready[end[ready] == stops[words[ready]]]] = False
            words, begin, at, nodes, ids, end = (array[going] for array in (words, begin, at, nodes, ids, end))
        lost = np.flatnonzero(unknown)
        columns = [np.concatenate(column) for column in zip(*found, strict=True)] if found else [lost[:0]] * 4
        keep = np.flatnonzero(~unknown[columns[0]])
        whole = lost, np.full(len(lost), self.unknown_id), starts[lost], stops[lost]
        words, ids, begin, end = (
            np.concatenate([column[keep], more]) for column, more in zip(columns, whole, strict=True)
        )
        order = np.argsort(words, kind="stable")
        words = words[order]
        return words, ids[order], begin[order] - starts[words], end[order] - starts[words]


class _Words:
    """The words met so far, in symbols of one width, and what they are encoded to."""

    UNSEEN = np.iinfo(np.int32).max

    def __init__(self, vocabulary: _Vocabulary, itemsize: int) -> None:
        self.vocabulary = vocabulary
        self.itemsize = itemsize
        self.per_label = 8 // itemsize  # symbols
        self.masks = np.array([(1 << 8 * itemsize * n) - 1 for n in range(self.per_label + 1)], np.uint64)
        self.edges = _Edges(roots=1, room=8)
        self.of_nodes = np.empty(0, np.int32)  # value of the word that ends at a node, or UNSEEN
        self.pieces = np.empty(0, np.dtype([("id", np.int32), ("begin", np.uint8), ("end", np.uint8)]))
        self.used = 0  # of self.pieces, which has room for more

    def values(self, stream: NDArray[np.signedinteger], starts: Ints, stops: Ints) -> NDArray[np.int32]:
        """For each word its id, or ~(128 p + n) where its n pieces begin at place p of self.pieces."""
        lengths = stops - starts
        if len(lengths) and lengths.max() > MAX_WORD:
            values = np.full(len(starts), self.vocabulary.unknown_id, np.int32)
            known = np.flatnonzero(lengths <= MAX_WORD)
            values[known] = self.values(stream, starts[known], stops[known])
            return values
        nodes = self._nodes(stream, starts, stops, lengths)
        if len(self.of_nodes) < self.edges.count:
            self.of_nodes = _grown(self.of_nodes, self.edges.count, self.UNSEEN)
        values = self.of_nodes.take(nodes)
        if values.max(initial=0) == self.UNSEEN:
            unseen = np.flatnonzero(values == self.UNSEEN)
            self._learn(stream, starts[unseen], stops[unseen], nodes[unseen])
            values[unseen] = self.of_nodes.take(nodes[unseen])
        return values

    def _nodes(self, stream: NDArray[np.signedinteger], starts: Ints, stops: Ints, lengths: Ints) -> NDArray[np.int32]:
        """The node at the end of each word's path: "tokenization" is the path "tokeniza", "tion"."""
        step = self.per_label
        window = np.ndarray(len(stream) - step + 1, "V8", stream, strides=(stream.itemsize,))  # 8 bytes from any index
        labels = _chosen(window, starts)
        labels &= self.masks.take(lengths, mode="clip")
        nodes = self.edges.add(np.zeros(len(starts), np.int32), labels)
        longer = np.flatnonzero(lengths > step)
        done = step
        while len(longer):
            left = lengths.take(longer) - done
            labels = _chosen(window, starts.take(longer) + done) & self.masks.take(left, mode="clip")
            nodes[longer] = self.edges.add(nodes.take(longer), labels)
            longer = longer[left > step]
            done += step
        return nodes

    def _learn(self, stream: NDArray[np.signedinteger], starts: Ints, stops: Ints, nodes: Ints) -> None:
        numbers = np.arange(len(nodes), dtype=np.int32)
        self.of_nodes[nodes] = numbers  # of the occurrences of one word the last one stays: that one is cut
        chosen = np.flatnonzero(self.of_nodes.take(nodes) == numbers)
        words, ids, begin, end = self.vocabulary.cut(stream, starts[chosen], stops[chosen])
        counts = np.bincount(words, minlength=len(chosen))
        firsts = np.cumsum(counts) - counts
        values = ids[firsts].astype(np.int32)
        several = np.flatnonzero(counts > 1)
        copied = ranges(firsts[several], counts[several])
        self.pieces = _grown(self.pieces, self.used + len(copied), 0)
        for name, column in (("id", ids), ("begin", begin), ("end", end)):
            self.pieces[name][self.used : self.used + len(copied)] = column[copied]
        places = self.used + np.cumsum(counts[several]) - counts[several]
        values[several] = ~(places * 128 + counts[several])  # a word has at most 100 pieces
        self.used += len(copied)
        self.of_nodes[nodes[chosen]] = values


def _chosen(window: NDArray, places: Ints) -> NDArray[np.uint64]:
    """window[places] as integers; `take` is faster for many, though it first copies all of a window that overlaps."""
    return (window.take(places) if len(places) * 8 > len(window) else window[places]).view("<u8")


def _grown(array: NDArray, size: int, fill: int) -> NDArray:
    """The array with room for `size` elements; at least doubled, so that growing costs little in the end."""
    if size <= len(array):
        return array
    grown = np.full(max(size, 2 * len(array), 1024), fill, array.dtype)
    grown[: len(array)] = array
    return grown


# --- The hash table ---------------------------------------------------------------------------------------------------

_EDGE = np.dtype([("label", np.uint64), ("node", np.int32), ("target", np.int32)])  # target 0: the slot is free
_MIX_LABEL, _MIX_NODE = (np.uint64(secrets.randbits(64) | 1) for _ in range(2))  # so nobody can prepare collisions


class _Edges:
    """A tree as a hash table of (node, label) -> node, with linear probing, for arrays of them.

    roots: nodes without an edge to them, numbered from 0; count: nodes in all. room: slots for each edge, at least.
    expected: how many edges there will be, so that it need not grow.
    """

    def __init__(self, roots: int, room: int, expected: int = 0) -> None:
        self.count = roots
        self._room = room
        self._bits = max(12, (expected * room).bit_length())
        self._slots = np.zeros(1 << self._bits, _EDGE)

    def add(self, nodes: NDArray[np.int32], labels: NDArray[np.uint64]) -> NDArray[np.int32]:
        """Where the edges lead, new ones to new nodes."""
        targets, slots = self.search(nodes, labels)
        if np.count_nonzero(targets) == len(targets):
            return targets
        new = np.flatnonzero(targets == 0)
        while len(new):
            won = new[self._winners(slots[new])]
            if (self.count + len(won)) * self._room > len(self._slots):
                self._grow(self.count + len(won))
            else:
                edges = np.empty(len(won), _EDGE)
                edges["label"], edges["node"] = labels[won], nodes[won]
                edges["target"] = self.count + np.arange(len(won))
                self._slots[slots[won]] = edges
                self.count += len(won)
            targets[new], slots[new] = self.search(nodes[new], labels[new])
            new = new[targets[new] == 0]
        return targets

    def search(
        self, nodes: NDArray[np.int32], labels: NDArray[np.uint64]
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Where the edges lead, 0 where there is none; and the slot where each is or could be."""
        slots = self._hash(nodes, labels)
        edges = self._slots.take(slots)
        targets = edges["target"].copy()
        rest = np.flatnonzero((edges["label"] != labels) | (edges["node"] != nodes))
        rest = rest[targets[rest] != 0]  # another edge has the slot
        while len(rest):
            slots[rest] = after = (slots[rest] + 1) & (len(self._slots) - 1)
            edges = self._slots.take(after)
            targets[rest] = edges["target"]
            other = (edges["label"] != labels[rest]) | (edges["node"] != nodes[rest])
            rest = rest[other & (edges["target"] != 0)]
        return targets, slots

    def _hash(self, nodes: NDArray[np.int32], labels: NDArray[np.uint64]) -> NDArray[np.int64]:
        mixed = (labels + nodes.astype(np.uint64) * _MIX_NODE) * _MIX_LABEL
        return (mixed >> np.uint64(64 - self._bits)).view(np.int64)

    def _grow(self, count: int) -> None:
        old = self._slots[self._slots["target"] > 0]
        self._bits = max(self._bits, (count * self._room - 1).bit_length())
        self._slots = np.zeros(1 << self._bits, _EDGE)
        while len(old):
            _, slots = self.search(old["node"], old["label"])
            winners = self._winners(slots)
            self._slots[slots[winners]] = old[winners]
            old = np.delete(old, winners)

    def _winners(self, slots: NDArray[np.int64]) -> NDArray[np.int64]:
        """Several may want one free slot, for the same edge or for different ones: who gets it; then all look again."""
        numbers, claims = np.arange(len(slots), dtype=np.int32), np.empty(len(self._slots), np.int32)
        claims[slots] = numbers
        return np.flatnonzero(claims.take(slots) == numbers)
