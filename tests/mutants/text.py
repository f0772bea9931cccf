"""Mutations of the fast twin of WordPiece, its files and tables."""

MUTATIONS = {
    "minibert/symbols.py": [
        (
            "symbols: a special token is one character long",
            "[len(token) for token in special]",
            "[1] * len(special)",
            "tests/test_wordpiece_batch.py::test_a_special_token_is_one_token_of_its_whole_length",
        ),
        (
            "symbols: removed characters separate",
            "becomes[_codes(_chars(unicode_tables.REMOVED))] = NOTHING",
            "becomes[_codes(_chars(unicode_tables.REMOVED))] = SPACE",
            "tests/test_wordpiece_batch.py::test_removed_characters_join_and_lie_inside_the_span",
        ),
        (
            "symbols: nothing is removed",
            "    becomes[_codes(_chars(unicode_tables.REMOVED))] = NOTHING\n",
            "",
            "tests/test_wordpiece_batch.py::test_removed_characters_join_and_lie_inside_the_span",
        ),
        (
            "symbols: control characters separate in ASCII texts",
            "wide[:128], NARROW_RARE).astype",
            "wide[:128], 0).astype",
            "tests/test_wordpiece_batch.py::test_symbols_of_ascii_are_the_same_in_both_widths",
        ),
        (
            "symbols: 16 bits for any vocabulary",
            "np.int16 if largest < 2**15 else np.int32",
            "np.int16",
            "tests/test_wordpiece_batch.py::test_more_characters_than_16_bits_hold",
        ),
        (
            "symbols: marks change places in cased text too",
            "    if strip_accents:  # only then are marks sorted\n",
            "    if True:\n",
            "tests/test_wordpiece_batch.py::test_only_texts_with_marks_that_change_places_go_through_the_specification",
        ),
    ],
    "minibert/table.py": [
        (
            "wide characters taken for narrow",
            '1 + (unicodedata.east_asian_width(char) in "WF")',
            "1",
            "tests/test_table.py::test_the_picture_is_as_drawn",
        ),
    ],
    "minibert/tokenizer_files.py": [
        (
            "vocabulary cut at U+2028",
            'text.rstrip("\\r\\n").split("\\n")',
            'text.rstrip("\\r\\n").splitlines()',
            "tests/test_tokenizer.py::test_only_line_feeds_end_a_vocabularys_line",
        ),
        (
            "doctor: GBK mojibake passes",
            'text.rstrip("?").encode("gbk")',
            'text.encode("ascii")',
            "tests/test_doctor.py::test_what_is_broken_is_named_and_no_other_error",
        ),
    ],
    "minibert/vocab.py": [
        (
            "vocabulary in the trainer's own order",
            "special_tokens=special + alphabet,\n        limit_alphabet=0,",
            "special_tokens=special,\n        limit_alphabet=1000,",
            "tests/test_vocab.py::test_every_process_learns_the_same_list",
        ),
    ],
    "minibert/wordpiece_batch.py": [
        (
            "batch: a word of 100 characters is unknown",
            "known = np.flatnonzero(lengths <= MAX_WORD)",
            "known = np.flatnonzero(lengths < MAX_WORD)",
            "tests/test_wordpiece_batch.py::test_a_word_of_100_characters_is_cut_and_one_of_101_is_unknown",
        ),
        (
            "batch: a word of 101 characters is cut",
            "lengths.max() > MAX_WORD:",
            "lengths.max() > MAX_WORD + 1:",
            "tests/test_wordpiece_batch.py::test_a_word_of_100_characters_is_cut_and_one_of_101_is_unknown",
        ),
        (
            "batch: the last symbol of a label is masked away",
            "(1 << 8 * itemsize * n) - 1",
            "(1 << 8 * itemsize * max(n - 1, 0)) - 1",
            "tests/test_wordpiece_batch.py::test_a_table_grows_with_its_words",
        ),
        (
            "batch: what follows a word belongs to its path",
            '(starts.take(longer) + done).view("<u8") & self.masks.take(left, mode="clip")',
            '(starts.take(longer) + done).view("<u8")',
            "tests/test_wordpiece_batch.py::test_a_word_is_known_again_whatever_follows_it",
        ),
        (
            "batch: an edge is found by its label alone",
            'rest = np.flatnonzero((edges["label"] != labels) | (edges["node"] != nodes))',
            'rest = np.flatnonzero(edges["label"] != labels)',
            "tests/test_wordpiece_batch.py::test_collisions_change_nothing",
        ),
        (
            "batch: probing stops after one step",
            "        while len(rest):\n            slots[rest] = after",
            "        if len(rest):\n            slots[rest] = after",
            "tests/test_wordpiece_batch.py::test_collisions_change_nothing",
        ),
        (
            "batch: an unknown word keeps its first pieces",
            "keep = np.flatnonzero(~unknown[columns[0]])",
            "keep = np.arange(len(columns[0]))",
            "tests/test_wordpiece_batch.py::test_a_word_with_an_unknown_rest_is_unknown_as_a_whole",
        ),
        (
            "batch: later pieces are looked for among beginnings",
            "BEGINS, CONTINUES = 0, 1",
            "BEGINS, CONTINUES = 0, 0",
            "tests/test_wordpiece_batch.py::test_later_pieces_carry_two_hashes",
        ),
        (
            "batch: spans count normalised characters",
            "begin, end = sources.take(begin), sources.take(end - 1) + 1",
            "pass",
            "tests/test_wordpiece_batch.py::test_removed_characters_join_and_lie_inside_the_span",
        ),
        (
            "batch: every piece ends where its word does",
            'end[targets] = begin.take(targets) + known.pieces["end"].take(places)',
            "pass",
            "tests/test_wordpiece_batch.py::test_the_example_of_the_module_holds",
        ),
        (
            "batch: marks that change places are not seen",
            "if self._has_rare(stream) else ()",
            "if False else ()",
            "tests/test_wordpiece_batch.py::test_only_texts_with_marks_that_change_places_go_through_the_specification",
        ),
        (
            "batch: a table is used again after an interruption",
            "return self._idle[itemsize].pop()",
            "return self._idle[itemsize][-1]",
            "tests/test_wordpiece_batch.py::test_an_interrupted_table_is_not_used_again",
        ),
        (
            "batch: a table grows without bounds",
            "if words.edges.count <= MAX_NODES and words.used <= MAX_PIECES:",
            "if True:",
            "tests/test_wordpiece_batch.py::test_a_forgotten_table_changes_nothing",
        ),
        (
            "batch: spans of a long text count from the last cut",
            "flat._replace(spans=flat.spans + np.int32(begin)) if spans else flat",
            "flat",
            "tests/test_wordpiece_batch.py::test_long_texts_are_cut_where_nothing_joins",
        ),
        (
            "batch: parts stay in the order they were made",
            "        parts.sort(key=lambda part: part[0])\n",
            "",
            "tests/test_wordpiece_batch.py::test_batches_order_and_history_change_nothing",
        ),
        (
            "batch: stretches are not parted where one row is elsewhere",
            "np.diff(rows) > 1)",
            "np.diff(rows) > 2)",
            "tests/test_wordpiece_batch.py::test_batches_order_and_history_change_nothing",
        ),
        (
            "batch: the shorter special token wins",
            "sorted(special, key=len, reverse=True)",
            "sorted(special, key=len)",
            "tests/test_wordpiece_batch.py::test_special_tokens_may_overlap_and_hold_any_character",
        ),
        (
            "batch: spans given that nobody asked for",
            "return parts[0] if spans else parts[0]._replace(spans=None)",
            "return parts[0]",
            "tests/test_wordpiece_batch.py::test_only_texts_with_marks_that_change_places_go_through_the_specification",
        ),
        (
            "spans of a long text's end count from its cut",
            "places.repeat(rest.lengths)[:, None]",
            "0",
            "tests/test_tokenizer.py::test_only_the_beginning_of_a_long_text_is_read_and_nothing_shows_it",
        ),
        (
            "batch: a special token of a long text is cut in two",
            "outside = cuts >= np.append(end, 0)[last]",
            "outside = cuts >= 0",
            "tests/test_wordpiece_batch.py::test_special_tokens_may_overlap_and_hold_any_character",
        ),
        (
            "batch: a long word ends where its first characters do",
            "places[MAX_WORD + 1 :][-1:]",
            "places[:0]",
            "tests/test_wordpiece_batch.py::test_a_word_longer_than_a_block_is_read_as_if_there_were_no_blocks",
        ),
        (
            "batch: of a long word what becomes nothing is kept",
            "places = np.flatnonzero(stream != self._alphabet.first_rare + 1) + begin",
            "places = np.arange(len(stream)) + begin",
            "tests/test_wordpiece_batch.py::test_a_word_longer_than_a_block_is_read_as_if_there_were_no_blocks",
        ),
    ],
}
