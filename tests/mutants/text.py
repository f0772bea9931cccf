"""Mutations of the fast twin of WordPiece, its files and tables."""

MUTATIONS = {
    "minibert/text/cuts.py": [
        (
            "border: a special token is cut in two",
            "if text[end : end + 1] not in but)",
            "if end < len(text))",
            "tests/text/test_wordpiece_batch.py::test_special_tokens_may_overlap_and_hold_any_character",
        ),
    ],
    "minibert/io/examples.py": [
        (
            "examples: labels that mean the same are several",
            "first.setdefault(meant(part), spelling(part))",
            "spelling(part)",
            "tests/io/test_data.py::test_labels_that_mean_the_same_are_one",
        ),
        (
            "examples: a pipe is what a file must have",
            "    if not rows:\n",
            "    if len(rows) < 2:\n",
            "tests/io/test_data.py::test_what_was_read_is_said_in_a_line",
        ),
        (
            "examples: nan is a class",
            "            if absent := next((part for part in parts if part in MISSING), None):\n",
            "            if absent := None:\n",
            "tests/io/test_data.py::test_a_label_that_says_that_there_is_none_has_its_line_and_a_remedy",
        ),
        (
            "examples: joined rows of a .csv are a text",
            "if len(labels) == len(parts) - 1 and known",
            "if len(labels) < len(parts) - 1 and known",
            "tests/io/test_data.py::test_rows_that_a_quote_has_joined_are_refused_and_quoting_none_reads_them",
        ),
        (
            "data: broken rows are left out without a word",
            "raise ValueError(row.problem)",
            "continue",
            "tests/io/test_data.py::test_an_unclosed_quote_has_the_line_where_it_opens",
        ),
        (
            "data: rows held out are trained on too",
            "take(examples, sorted(order[count:]))",
            "take(examples, sorted(order))",
            "tests/io/test_data.py::test_holding_out_is_reproducible_disjoint_and_complete",
        ),
    ],
    "minibert/io/columns.py": [
        (
            "columns: a file without a text is read",
            '(kind == "text" or labelled)',
            "labelled",
            "tests/inference/test_jobs.py::test_a_broken_row_stops_or_costs_itself_alone",
        ),
        (
            "columns: the first of several labels is taken",
            "if number and len(names) > 1:",
            "if number > 2:",
            "tests/io/test_data.py::test_several_columns_that_may_be_meant_are_named",
        ),
        (
            "columns: numbers count from 0",
            "columns[int(asked) - 1]",
            "columns[int(asked) - 2]",
            "tests/io/test_data.py::test_a_column_is_named_or_numbered",
        ),
    ],
    "minibert/io/encodings.py": [
        (
            "encodings: any Chinese is the first",
            "beyond >= FEW and scores[best] >= 2 * scores[second]",
            "True",
            "tests/io/test_files_people_have.py::test_a_file_as_people_have_it_is_read_or_its_remedy_works",
        ),
        (
            "encodings: what decodes is Chinese",
            "if scores[best] >= SURE:",
            "if scores[best] >= 0:",
            "tests/io/test_data.py::test_what_is_neither_chinese_nor_western_is_not_taken_for_it",
        ),
        (
            "encodings: a broken line changes the whole file's",
            "if valid > len(others):",
            "if valid > 9 * len(others):",
            "tests/io/test_data.py::test_lines_that_are_broken_in_a_file_of_utf8_are_named",
        ),
    ],
    "minibert/io/layout.py": [
        (
            "layout: quotes of a .txt join rows",
            'quoting = "none" if kind == "txt" else how.quoting',
            "quoting = how.quoting",
            "tests/io/test_data.py::test_quotes_of_a_txt_are_text",
        ),
        (
            "layout: numbers of columns take the first row for a header",
            "return None if named else numbered",
            "return None",
            "tests/io/test_data.py::test_numbers_of_columns_mean_that_there_is_no_header_unless_there_is_one",
        ),
        (
            "layout: the ending decides",
            "    return alike[0] if alike else own\n",
            "    return own\n",
            "tests/io/test_files_people_have.py::test_a_file_as_people_have_it_is_read_or_its_remedy_works",
        ),
    ],
    "minibert/io/rows.py": [
        (
            "rows: joined rows of a .tsv are a text",
            'and layout.delimiter == "\\t" and',
            'and layout.delimiter == "," and',
            "tests/io/test_data.py::test_rows_of_a_tsv_that_a_quote_has_joined_are_refused_without_labels_too",
        ),
        (
            "rows: a header in the middle is a row",
            "elif fields == first and columns is None:",
            "elif fields is first:",
            "tests/io/test_data.py::test_a_header_that_stands_in_the_middle_again_is_no_row",
        ),
        (
            "rows: lines of an array are not counted",
            '        yield "\\n" * max(0, here - line)\n',
            "",
            "tests/io/test_data.py::test_rows_of_an_indented_array_have_the_line_on_which_they_begin",
        ),
        (
            "data: labels keep the spaces around them",
            'value.strip() if kind == "label" else value',
            "value",
            "tests/io/test_data.py::test_a_label_has_no_spaces_around_it",
        ),
        (
            "rows: a row stands on the line that it ends on",
            'place = f"{lines.path}:{line}"',
            'place = f"{lines.path}:{line + 1}"',
            "tests/io/test_data.py::test_an_unclosed_quote_has_the_line_where_it_opens",
        ),
        (
            "rows: two columns have one name",
            "if name and header.count(name) > 1]",
            "if name and header.count(name) > 2]",
            "tests/io/test_data.py::test_a_column_that_stands_twice_is_refused",
        ),
        (
            "rows: a line that is too long is taken for a text",
            "        if len(line) == LONGEST:\n",
            "        if len(line) > LONGEST:\n",
            "tests/inference/test_jobs.py::test_a_line_without_end_is_not_read_into_memory",
        ),
        (
            "rows: lines are given back in the wrong order",
            "self.returned.extendleft(reversed(self.row[1:]))",
            "self.returned.extendleft(self.row[1:])",
            "tests/inference/test_jobs.py::test_the_hash_is_that_of_all_lines_however_they_are_given_back",
        ),
    ],
    "minibert/text/symbols.py": [
        (
            "symbols: a special token is one character long",
            "[len(token) for token in special]",
            "[1] * len(special)",
            "tests/text/test_wordpiece_batch.py::test_a_special_token_is_one_token_of_its_whole_length",
        ),
        (
            "symbols: removed characters separate",
            "becomes[_codes(_chars(unicode_tables.REMOVED))] = NOTHING",
            "becomes[_codes(_chars(unicode_tables.REMOVED))] = SPACE",
            "tests/text/test_wordpiece_batch.py::test_removed_characters_join_and_lie_inside_the_span",
        ),
        (
            "symbols: nothing is removed",
            "    becomes[_codes(_chars(unicode_tables.REMOVED))] = NOTHING\n",
            "",
            "tests/text/test_wordpiece_batch.py::test_removed_characters_join_and_lie_inside_the_span",
        ),
        (
            "symbols: control characters separate in ASCII texts",
            "wide[:128], NARROW_RARE).astype",
            "wide[:128], 0).astype",
            "tests/text/test_wordpiece_batch.py::test_symbols_of_ascii_are_the_same_in_both_widths",
        ),
        (
            "symbols: 16 bits for any vocabulary",
            "np.int16 if largest < 2**15 else np.int32",
            "np.int16",
            "tests/text/test_wordpiece_batch.py::test_more_characters_than_16_bits_hold",
        ),
        (
            "symbols: marks change places in cased text too",
            "    if strip_accents:  # only then are marks sorted\n",
            "    if True:\n",
            "tests/text/test_wordpiece_batch.py"
            "::test_only_texts_with_marks_that_change_places_go_through_the_specification",
        ),
    ],
    "minibert/text/encode_table.py": [
        (
            "wide characters taken for narrow",
            '1 + (unicodedata.east_asian_width(char) in "WF")',
            "1",
            "tests/text/test_table.py::test_the_picture_is_as_drawn",
        ),
        (
            "table: no line between two texts",
            'return "\\n\\n".join(',
            'return "\\n".join(',
            "tests/text/test_table.py::test_the_picture_is_as_drawn",
        ),
        (
            "table: spaces between columns take no room",
            "used += size + 1",
            "used += size",
            "tests/text/test_table.py::test_a_narrow_terminal_breaks_the_rows_between_tokens",
        ),
    ],
    "minibert/text/token_file.py": [
        (
            "token file: reading runs away from encoding",
            "len(window) == 2 * processes",
            "len(window) == 9 * processes",
            "tests/text/test_token_file.py::test_reading_waits_for_the_workers",
        ),
        (
            "token file: what failed stays beside the result",
            "        shutil.rmtree(temporary, ignore_errors=True)  # after",
            "        pass  # after",
            "tests/text/test_token_file.py::test_an_error_on_the_way_leaves_nothing_where_nothing_was",
        ),
        (
            "token file: the old result is lost when the new one cannot be moved",
            "            old.rename(out)\n",
            "            pass\n",
            "tests/text/test_token_file.py::test_the_old_result_comes_back_when_the_new_one_cannot_be_moved",
        ),
        (
            "token file: the name moves before the ids are on the disk",
            "            os.fsync(file.fileno())\n",
            "",
            "tests/text/test_token_file.py::test_all_is_on_the_disk_before_the_name_moves",
        ),
        (
            "token file: 65536 tokens take 32 bits",
            "if vocab_size <= 1 << 16",
            "if vocab_size < 1 << 16",
            "tests/text/test_token_file.py::test_a_vocabulary_of_65536_tokens_has_narrow_ids",
        ),
        (
            "token file: a bad byte's line is counted from its stretch",
            "line += error.object.count",
            "line = 1 + error.object.count",
            "tests/text/test_token_file.py::test_bytes_that_are_not_utf_8_are_located",
        ),
        (
            "token file: strip_accents left open is another tokenizer",
            "tokenizer.lowercase if tokenizer.strip_accents is None else tokenizer.strip_accents",
            "tokenizer.strip_accents",
            "tests/text/test_token_file.py::test_the_same_tokenizer_passes_the_check",
        ),
    ],
    "minibert/text/tokenizer.py": [
        (
            "tokenizer: True is no word of transformers",
            "if habits.are_theirs(options, theirs):",
            "if theirs:",
            "tests/text/test_habits.py::test_an_attribute_that_was_not_asked_for_names_those_there_are",
        ),
        (
            "offsets counted from the unit",
            "yield begin + match.start(), ",
            "yield begin, ",
            "tests/text/test_tokenizer.py::test_offsets_point_into_the_text_they_come_from",
        ),
        (
            "the end of a long text is never read",
            "if flat.lengths[row] < tokens]",
            "if False]",
            "tests/text/test_tokenizer.py::test_only_the_beginning_of_a_long_text_is_read_and_nothing_shows_it",
        ),
        (
            "spans of a long text's end count from its cut",
            "spans=rest.spans + shifts[:, None].astype(np.int32)",
            "spans=rest.spans",
            "tests/text/test_tokenizer.py::test_only_the_beginning_of_a_long_text_is_read_and_nothing_shows_it",
        ),
        (
            "tokenizer: only the first text with a lone surrogate is seen",
            '        for row in cut:\n            check_text(texts[row], f"text {row}")\n',
            "",
            "tests/text/test_tokenizer.py::test_a_lone_surrogate_is_found_behind_the_tokens_that_are_kept",
        ),
        (
            "tokenizer: of a large batch no text is named in errors",
            "            check_texts(texts, names)\n            raise",
            "            raise",
            "tests/core/test_core_tokenizer.py::test_bad_input_is_refused_with_the_same_words",
        ),
    ],
    "minibert/text/tokenizer_files.py": [
        (
            "doctor: GBK mojibake passes",
            'text.rstrip("?").encode("gbk")',
            'text.encode("ascii")',
            "tests/check/test_doctor.py::test_what_is_broken_is_named_and_no_other_error",
        ),
        (
            "tokenizer files: an added_tokens.json is not read",
            "in files.added.items():",
            "in ():",
            "tests/text/test_added_tokens.py::test_the_oldest_layout_is_read_as_transformers_reads_it",
        ),
        (
            "tokenizer files: the configuration goes before the map of special tokens",
            "return [config] if self.is_numbered else",
            "return [config] if True else",
            "tests/text/test_tokenizer.py"
            "::test_the_map_of_special_tokens_goes_before_a_configuration_without_added_tokens",
        ),
        (
            "tokenizer files: an added word becomes a piece of WordPiece",
            '        settings["pieces"] = pieces\n',
            "        pass\n",
            "tests/text/test_added_tokens.py::test_an_added_word_is_no_piece_for_wordpiece",
        ),
        (
            "tokenizer files: added tokens are lost in saving",
            "if all(token.is_plain for token in tokens) and not any",
            "if not any",
            "tests/text/test_added_tokens.py::test_what_is_saved_is_read_by_transformers_and_by_itself",
        ),
        (
            "tokenizer files: an id of an added token is not what the file says",
            "        if number != known[token.content]:",
            "        if False:",
            "tests/text/test_added_tokens.py::test_a_broken_file_is_one_line",
        ),
    ],
    "minibert/text/added_tokens.py": [
        (
            "added tokens: one is found inside a word",
            "if token.single_word and any",
            "if False and any",
            "tests/text/test_added_tokens.py::test_random_texts_agree_with_transformers",
        ),
        (
            "added tokens: the white space behind one stays",
            "while token.rstrip and",
            "while False and",
            "tests/text/test_added_tokens.py::test_random_texts_agree_with_transformers",
        ),
        (
            "added tokens: what normalisation takes away hides one from the quick look",
            'between = f"[{one_of(becomes, [NOTHING, SPACE, REORDERS], exact=True)}]*+"',
            'between = ""',
            "tests/text/test_added_tokens.py::test_random_texts_agree_with_transformers",
        ),
        (
            "added tokens: every text goes the slow way",
            'return re.compile(f"[{wild}{firsts}]',
            'return re.compile("") or re.compile(f"[{wild}{firsts}]',
            "tests/text/test_added_tokens.py::test_other_texts_go_the_fast_way",
        ),
    ],
    "minibert/text/habits.py": [
        (
            "habits: special tokens are taken out and their room is not given back",
            "length + spare, **chosen",
            "length, **chosen",
            "tests/text/test_habits.py::test_a_call_gives_what_transformers_gives",
        ),
        (
            "habits: a length alone truncates nothing",
            "        truncation = True  # so it is there\n",
            "        truncation = None\n",
            "tests/text/test_habits.py::test_a_call_gives_what_transformers_gives",
        ),
        (
            "habits: padding is no special token",
            '"special_tokens_mask": 1}',
            '"special_tokens_mask": 0}',
            "tests/text/test_habits.py::test_a_call_gives_what_transformers_gives",
        ),
    ],
    "minibert/text/tokenizer_doubts.py": [
        (
            "doubts: a foreign post_processor is no news",
            "    if found in (template",
            "    if True or found in (template",
            "tests/text/test_added_tokens.py::test_a_foreign_post_processor_is_a_line_and_a_finding",
        ),
        (
            "doubts: white space alone counts as behind a token",
            "if token.removeprefix(CONTINUES) and token",
            "if token",
            "tests/text/test_added_tokens.py::test_white_space_in_a_vocabulary_is_a_line_and_a_finding",
        ),
    ],
    "minibert/text/vocab.py": [
        (
            "vocabulary in the trainer's own order",
            "special_tokens=special + alphabet,\n        limit_alphabet=0,",
            "special_tokens=special,\n        limit_alphabet=1000,",
            "tests/text/test_vocab.py::test_every_process_learns_the_same_list",
        ),
        (
            "vocab: every character gets an id, however rare",
            "        left -= counts[char]\n",
            "",
            "tests/text/test_vocab.py::test_the_rarest_characters_are_left_out_where_less_than_all_is_to_be_covered",
        ),
        (
            "vocab: characters in the order of their counts",
            "return sorted(chosen) + ",
            "return chosen + ",
            "tests/text/test_vocab.py::test_special_tokens_come_first_then_characters_then_pieces",
        ),
        (
            "vocab: a size that the text does not support is not said",
            "if len(vocabulary) < options.size:",
            "if not vocabulary:",
            "tests/text/test_vocab.py::test_a_size_larger_than_the_text_supports_is_said",
        ),
        (
            "vocab: coverage counts each word once",
            "pieces = sum(count * len(tokenizer.tokenize(word)) for word, count in words.items())",
            "pieces = sum(len(tokenizer.tokenize(word)) for word in words)",
            "tests/text/test_vocab.py::test_coverage_counts_by_hand",
        ),
    ],
    "minibert/text/wordpiece_batch.py": [
        (
            "batch: a word of 100 characters is unknown",
            "known = np.flatnonzero(lengths <= MAX_WORD)",
            "known = np.flatnonzero(lengths < MAX_WORD)",
            "tests/text/test_wordpiece_batch.py::test_a_word_of_100_characters_is_cut_and_one_of_101_is_unknown",
        ),
        (
            "batch: a word of 101 characters is cut",
            "lengths.max() > MAX_WORD:",
            "lengths.max() > MAX_WORD + 1:",
            "tests/text/test_wordpiece_batch.py::test_a_word_of_100_characters_is_cut_and_one_of_101_is_unknown",
        ),
        (
            "batch: the last symbol of a label is masked away",
            "(1 << 8 * itemsize * n) - 1",
            "(1 << 8 * itemsize * max(n - 1, 0)) - 1",
            "tests/text/test_wordpiece_batch.py::test_a_table_grows_with_its_words",
        ),
        (
            "batch: what follows a word belongs to its path",
            '(starts.take(longer) + done).view("<u8") & self.masks.take(left, mode="clip")',
            '(starts.take(longer) + done).view("<u8")',
            "tests/text/test_wordpiece_batch.py::test_a_word_is_known_again_whatever_follows_it",
        ),
        (
            "batch: an edge is found by its label alone",
            'rest = np.flatnonzero((edges["label"] != labels) | (edges["node"] != nodes))',
            'rest = np.flatnonzero(edges["label"] != labels)',
            "tests/text/test_wordpiece_batch.py::test_collisions_change_nothing",
        ),
        (
            "batch: probing stops after one step",
            "        while len(rest):\n            slots[rest] = after",
            "        if len(rest):\n            slots[rest] = after",
            "tests/text/test_wordpiece_batch.py::test_collisions_change_nothing",
        ),
        (
            "batch: an unknown word keeps its first pieces",
            "keep = np.flatnonzero(~unknown[columns[0]])",
            "keep = np.arange(len(columns[0]))",
            "tests/text/test_wordpiece_batch.py::test_a_word_with_an_unknown_rest_is_unknown_as_a_whole",
        ),
        (
            "batch: later pieces are looked for among beginnings",
            "BEGINS, CONTINUES = 0, 1",
            "BEGINS, CONTINUES = 0, 0",
            "tests/text/test_wordpiece_batch.py::test_later_pieces_carry_two_hashes",
        ),
        (
            "batch: spans count normalised characters",
            "begin, end = sources.take(begin), sources.take(end - 1) + 1",
            "pass",
            "tests/text/test_wordpiece_batch.py::test_removed_characters_join_and_lie_inside_the_span",
        ),
        (
            "batch: every piece ends where its word does",
            'end[targets] = begin.take(targets) + known.pieces["end"].take(places)',
            "pass",
            "tests/text/test_wordpiece_batch.py::test_the_example_of_the_module_holds",
        ),
        (
            "batch: marks that change places are not seen",
            "if self._has_rare(stream) else ()",
            "if False else ()",
            "tests/text/test_wordpiece_batch.py"
            "::test_only_texts_with_marks_that_change_places_go_through_the_specification",
        ),
        (
            "batch: a table is used again after an interruption",
            "return self._idle[itemsize].pop()",
            "return self._idle[itemsize][-1]",
            "tests/text/test_wordpiece_batch.py::test_an_interrupted_table_is_not_used_again",
        ),
        (
            "batch: a table grows without bounds",
            "if words.edges.count <= MAX_NODES and words.used <= MAX_PIECES:",
            "if True:",
            "tests/text/test_wordpiece_batch.py::test_a_forgotten_table_changes_nothing",
        ),
        (
            "batch: spans of a long text count from the last cut",
            "flat._replace(spans=flat.spans + np.int32(begin)) if spans else flat",
            "flat",
            "tests/text/test_wordpiece_batch.py::test_long_texts_are_cut_where_nothing_joins",
        ),
        (
            "batch: parts stay in the order they were made",
            "    if (numbers[1:] < numbers[:-1]).any():\n",
            "    if False:\n",
            "tests/text/test_wordpiece_batch.py::test_batches_order_and_history_change_nothing",
        ),
        (
            "batch: parts of one text are taken for texts",
            "return flat if len(firsts) == len(numbers) else",
            "return flat if True else",
            "tests/text/test_wordpiece_batch.py::test_long_texts_are_cut_where_nothing_joins",
        ),
        (
            "batch: the shorter special token wins",
            "sorted(special, key=len, reverse=True)",
            "sorted(special, key=len)",
            "tests/text/test_wordpiece_batch.py::test_special_tokens_may_overlap_and_hold_any_character",
        ),
        (
            "batch: spans given that nobody asked for",
            "flats[0] if spans else flats[0]._replace(spans=None)",
            "flats[0]",
            "tests/text/test_wordpiece_batch.py"
            "::test_only_texts_with_marks_that_change_places_go_through_the_specification",
        ),
        (
            "batch: a special token of a long text is cut in two",
            'self._inside_special = "".join(token[1:] for token in special)',
            'self._inside_special = ""',
            "tests/text/test_wordpiece_batch.py::test_special_tokens_may_overlap_and_hold_any_character",
        ),
    ],
    "minibert/io/stderr.py": [
        (
            "stderr: a terminal obeys what a file says",
            'char if char.isprintable() else "\\N{REPLACEMENT CHARACTER}"',
            "char",
            "tests/io/test_stderr.py::test_an_error_is_one_line_without_control_characters",
        ),
        (
            "stderr: the remedy of a long error is cut",
            'f"{text[: limit - 203]} … {text[-200:]}"',
            "text[:limit]",
            "tests/io/test_stderr.py::test_of_a_long_error_the_beginning_and_the_remedy_stay",
        ),
    ],
}
