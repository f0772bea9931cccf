"""Proves that the tests bite: breaks the package in one place at a time, and expects a named test to fail.

    python tests/mutations.py                   # all, two at a time; exit 1 if one survives
    python tests/mutations.py --only chinese    # those whose name holds the word

Every mutation is made in a fresh copy of minibert/, tests/ and pyproject.toml; the working tree is never touched. The
bugs of `minibert course` are put in too, at run time: each of them names the test that has to fail. The processes that
run the tests are forks of one that has imported torch and transformers already, 5 seconds less for each.
"""

import argparse
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
COURSE = "minibert/course.py"
LIMIT = 300  # seconds for one mutation's test
STATUS = 50  # pytest's exit status counts from here: 1 would be that of any Python error


class Mutation(NamedTuple):
    """`old` stands exactly once in `file`; with `new` in its place `test` must fail."""

    name: str
    file: str
    old: str
    new: str
    test: str


MUTATIONS = [
    Mutation(
        "chinese block one character short",
        "minibert/wordpiece.py",
        "(0x4E00, 0x9FFF)",
        "(0x4E00, 0x9FFE)",
        "tests/test_wordpiece.py::test_every_border_of_the_unicode_tables_agrees_with_tokenizers",
    ),
    Mutation(
        "chinese block as Unicode has it",
        "minibert/wordpiece.py",
        "(0x2B920, 0x2CEAF)",
        "(0x2B820, 0x2CEAF)",
        "tests/test_wordpiece.py::test_where_google_differs_the_words_are_those_of_tokenizers",
    ),
    Mutation(
        "accents stay",
        "minibert/wordpiece.py",
        "if not is_nonspacing_mark(char))",
        "if not is_nonspacing_mark(char) or True)",
        "tests/test_wordpiece.py::test_accents_go_and_case_goes",
    ),
    Mutation(
        "accents stripped in cased text too",
        "minibert/wordpiece.py",
        "if lowercase if strip_accents is None else strip_accents:",
        "if strip_accents is not False:",
        "tests/test_wordpiece.py::test_cased_text_keeps_accents",
    ),
    Mutation(
        "limit of 200 characters, as Google has it",
        "minibert/wordpiece.py",
        "MAX_WORD = 100 ",
        "MAX_WORD = 200 ",
        "tests/test_wordpiece.py::test_a_word_of_100_characters_is_cut_and_one_of_101_is_unknown",
    ),
    Mutation(
        "limit off by one",
        "minibert/wordpiece.py",
        "    if len(word) > MAX_WORD:\n        return",
        "    if len(word) >= MAX_WORD:\n        return",
        "tests/test_wordpiece.py::test_a_word_of_100_characters_is_cut_and_one_of_101_is_unknown",
    ),
    Mutation(
        "## dropped",
        "minibert/wordpiece.py",
        'prefix = CONTINUES if start else ""',
        'prefix = ""',
        "tests/test_wordpiece.py::test_later_pieces_carry_two_hashes",
    ),
    Mutation(
        "shortest match first",
        "minibert/wordpiece.py",
        "in range(min(len(word), start + longest), start, -1)",
        "in range(start + 1, min(len(word), start + longest) + 1)",
        "tests/test_wordpiece.py::test_the_longest_piece_wins",
    ),
    Mutation(
        "pieces before an unknown rest kept",
        "minibert/wordpiece.py",
        "        else:\n            return [Piece(unknown, 0, len(word))]",
        "        else:\n            return [*pieces, Piece(unknown, start, len(word))]",
        "tests/test_wordpiece.py::test_one_unknown_rest_makes_the_word_unknown",
    ),
    Mutation(
        "final sigma as Python's str.lower() has it",
        "minibert/wordpiece.py",
        'yield "".join(word), sources\n            word, sources = [], []',
        'yield re.sub("σ$", "ς", "".join(word)), sources\n            word, sources = [], []',
        "tests/test_wordpiece.py::test_any_text_agrees_with_tokenizers",
    ),
    Mutation(
        "accents not taken apart",
        "minibert/wordpiece.py",
        "chosen += [decompose, drop_accents]",
        "chosen += [drop_accents]",
        "tests/test_wordpiece.py::test_accents_go_and_case_goes",
    ),
    Mutation(
        "punctuation by the running Python",
        "minibert/wordpiece.py",
        "return _inside(char, _PUNCTUATION)",
        'return unicodedata.category(char).startswith("P") or char in "$+<=>^`|~"',
        "tests/test_wordpiece.py::test_where_google_differs_the_words_are_those_of_tokenizers",
    ),
    Mutation(
        "control characters stay",
        "minibert/wordpiece.py",
        "elif not is_removed(char):",
        "else:",
        "tests/test_wordpiece.py::test_control_format_and_private_characters_vanish_without_separating",
    ),
    Mutation(
        "marks not sorted",
        "minibert/wordpiece.py",
        "yield from run if len(run) == 1 else sorted(",
        "yield from run if len(run) <= 2 else sorted(",
        "tests/test_wordpiece.py::test_two_marks_at_the_very_beginning_are_sorted_too",
    ),
    Mutation(
        "offsets one short",
        "minibert/wordpiece.py",
        "sources[end - 1] + 1)",
        "sources[end - 1])",
        "tests/test_wordpiece.py::test_dropped_marks_lie_outside_the_offsets",
    ),
    Mutation(
        "offsets counted from the unit",
        "minibert/tokenizer.py",
        "yield begin + match.start(), ",
        "yield begin, ",
        "tests/test_tokenizer.py::test_offsets_point_into_the_text_they_come_from",
    ),
    Mutation(
        "odd token of a truncated pair to the first text",
        "minibert/encoding.py",
        "np.where(first > second, budget",
        "np.where(first >= second, budget",
        "tests/test_tokenizer.py::test_the_odd_token_stays_with_the_longer_text_where_google_gives_it_to_the_first",
    ),
    Mutation(
        "truncation forgets the special tokens",
        "minibert/encoding.py",
        "truncated_lengths(first, second, max_length - (3 if pairs else 2), truncation)",
        "truncated_lengths(first, second, max_length - 2, truncation)",
        "tests/test_tokenizer.py::test_every_small_pair_is_truncated_as_by_tokenizers",
    ),
    Mutation(
        "special tokens in a text split",
        "minibert/tokenizer.py",
        "for match in () if split_special_tokens else self._special.finditer(text):",
        "for match in ():",
        "tests/test_tokenizer.py::test_special_tokens_in_a_text_are_special_where_google_splits_them",
    ),
    Mutation(
        "special tokens in a text masked",
        "minibert/encoding.py",
        "(~is_text).astype(np.int64), length",
        "np.isin(ids, [cls_id, sep_id, pad_id]).astype(np.int64), length",
        "tests/test_tokenizer.py::test_special_tokens_in_a_text_are_not_masked_as_special",
    ),
    Mutation(
        "one segment for both texts",
        "minibert/encoding.py",
        "types.ravel()[ranges(starts + n + 2, m + 1)] = 1",
        "types.ravel()[ranges(starts + n + 2, m + 1)] = 0",
        "tests/test_tokenizer.py::test_a_pair_has_a_second_segment",
    ),
    Mutation(
        "padding attended to",
        "minibert/encoding.py",
        "length, real.astype(np.int64), offsets",
        "length, np.ones_like(ids), offsets",
        "tests/test_tokenizer.py::test_shorter_rows_are_padded",
    ),
    Mutation(
        "vocabulary cut at U+2028",
        "minibert/tokenizer_files.py",
        'text.rstrip("\\r\\n").split("\\n")',
        'text.rstrip("\\r\\n").splitlines()',
        "tests/test_tokenizer.py::test_only_line_feeds_end_a_vocabularys_line",
    ),
    Mutation(
        "vocabulary in the trainer's own order",
        "minibert/vocab.py",
        "special_tokens=special + alphabet,\n        limit_alphabet=0,",
        "special_tokens=special,\n        limit_alphabet=1000,",
        "tests/test_vocab.py::test_every_process_learns_the_same_list",
    ),
    Mutation(
        "wide characters taken for narrow",
        "minibert/table.py",
        '1 + (unicodedata.east_asian_width(char) in "WF")',
        "1",
        "tests/test_table.py::test_the_picture_is_as_drawn",
    ),
    Mutation(
        "no 1/√D",
        "minibert/attention/eager.py",
        "scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale",
        "scale = 1.0 if scale is None else scale",
        "tests/test_attention.py::test_scores_are_divided_by_the_root_of_the_head_size",
    ),
    Mutation(
        "√ of the number of heads for √D",
        "minibert/attention/eager.py",
        "math.sqrt(q.shape[-1])",
        "math.sqrt(q.shape[1])",
        "tests/test_golden.py::test_the_stirred_model_gives_the_frozen_answer",
    ),
    Mutation(
        "Q and K swapped",
        "minibert/model.py",
        "for project in (self.query, self.key, self.value)",
        "for project in (self.key, self.query, self.value)",
        "tests/test_golden.py::test_the_stirred_model_gives_the_frozen_answer",
    ),
    Mutation(
        "biases of Q and K dropped",
        "minibert/model.py",
        "self.split_heads(project(x)) for",
        "self.split_heads(project(x) - (project is not self.value) * project.bias) for",
        "tests/test_golden.py::test_the_stirred_model_gives_the_frozen_answer",
    ),
    Mutation(
        "bias of V dropped",
        "minibert/model.py",
        "self.split_heads(project(x)) for",
        "self.split_heads(project(x) - (project is self.value) * project.bias) for",
        "tests/test_golden.py::test_the_stirred_model_gives_the_frozen_answer",
    ),
    Mutation(
        "heads merged without transpose",
        "minibert/model.py",
        "context = context.transpose(1, 2).reshape(B, S, E)",
        "context = context.reshape(B, S, E)",
        "tests/test_golden.py::test_the_stirred_model_gives_the_frozen_answer",
    ),
    Mutation(
        "attention a plain mean",
        "minibert/attention/eager.py",
        "return q @ k.transpose(-2, -1) * scale",
        "return q @ k.transpose(-2, -1) * 0",
        "tests/test_golden.py::test_the_stirred_model_gives_the_frozen_answer",
    ),
    Mutation(
        "padding attended to by the model",
        "minibert/layout.py",
        "        return cls(keys)",
        "        return cls(None)",
        "tests/test_golden.py::test_the_stirred_model_gives_the_frozen_answer",
    ),
    Mutation(
        "segments dropped",
        "minibert/model.py",
        " + self.segment(token_type_ids)",
        "",
        "tests/test_golden.py::test_the_stirred_model_gives_the_frozen_answer",
    ),
    Mutation(
        "tanh GELU for erf",
        "minibert/model.py",
        'approximate="none" if name == "gelu" else "tanh"',
        'approximate="tanh"',
        "tests/test_golden.py::test_the_stirred_model_gives_the_frozen_answer",
    ),
    Mutation(
        "LayerNorm eps 1e-5",
        "minibert/model.py",
        "self.norm = nn.LayerNorm(E, eps=config.layer_norm_eps)\n        self.dropout",
        "self.norm = nn.LayerNorm(E, eps=1e-5)\n        self.dropout",
        "tests/test_golden.py::test_the_stirred_model_gives_the_frozen_answer",
    ),
    Mutation(
        "mask on the queries instead of the keys",
        "minibert/attention/eager.py",
        "hidden = ~layout.keys[:, None, None, :]",
        "hidden = ~layout.keys[:, None, :, None]",
        "tests/test_attention.py::test_eager_gives_the_numbers_worked_out_by_hand",
    ),
    Mutation(
        "SDPA without the mask",
        "minibert/attention/torch_backends.py",
        "attn_mask=mask, ",
        "",
        "tests/test_golden.py::test_the_stirred_model_gives_the_frozen_answer",
    ),
    Mutation(
        "pre-LN feed-forward",
        "minibert/model.py",
        "inner = activation(self.act, self.inner(x))",
        "inner = activation(self.act, self.inner(self.norm(x)))",
        "tests/test_golden.py::test_the_stirred_model_gives_the_frozen_answer",
    ),
    Mutation(
        "residual lost",
        "minibert/model.py",
        "return self.norm(x + self.dropout(answer))",
        "return self.norm(self.dropout(answer))",
        "tests/test_golden.py::test_the_stirred_model_gives_the_frozen_answer",
    ),
    Mutation(
        "positions from 1",
        "minibert/model.py",
        "positions = torch.arange(input_ids.shape[1],",
        "positions = 1 + torch.arange(input_ids.shape[1],",
        "tests/test_golden.py::test_the_stirred_model_gives_the_frozen_answer",
    ),
    Mutation(
        "pooler without tanh",
        "minibert/model.py",
        "torch.tanh(self.dense(first))",
        "self.dense(first)",
        "tests/test_golden.py::test_the_stirred_model_gives_the_frozen_answer",
    ),
    Mutation(
        "pooler takes the last token",
        "minibert/model.py",
        "cls = x if first else x[:, 0] if layout is None",
        "cls = x if first else x[:, -1] if layout is None",
        "tests/test_golden.py::test_the_stirred_model_gives_the_frozen_answer",
    ),
    Mutation(
        "masked LM without its bias",
        "minibert/model.py",
        "F.linear(x, token_embedding, self.bias)",
        "F.linear(x, token_embedding)",
        "tests/test_golden.py::test_the_stirred_model_gives_the_frozen_answer",
    ),
    Mutation(
        "attention dropout in eval too",
        "minibert/model.py",
        "self.dropout_p if self.training else 0.0",
        "self.dropout_p",
        "tests/test_model.py::test_dropout_is_on_in_training_and_off_in_eval",
    ),
    Mutation(
        "[PAD]'s embedding trained",
        "minibert/model.py",
        ", padding_idx=config.pad_token_id",
        "",
        "tests/test_model.py::test_every_gradient_equals_transformers",
    ),
    Mutation(
        "reference without 1/√D",
        "minibert/reference.py",
        " / np.sqrt(D)",
        "",
        "tests/test_reference.py::test_reference_equals_transformers_in_float64",
    ),
    Mutation(
        "decay on biases and LayerNorms",
        "minibert/loop.py",
        '{"params": vectors, "weight_decay": 0.0}',
        '{"params": vectors, "weight_decay": weight_decay}',
        "tests/test_loop.py::test_weight_decay_is_for_all_but_biases_and_layer_norms",
    ),
    Mutation(
        "warm-up one step late",
        "minibert/loop.py",
        "return peak * step / rising",
        "return peak * (step - 1) / rising",
        "tests/test_loop.py::test_the_learning_rate_equals_an_example_by_hand",
    ),
    Mutation(
        "Q read as V from a checkpoint",
        "minibert/checkpoint.py",
        'self.query": "layers.{}.attention.query"',
        'self.query": "layers.{}.attention.value"',
        "tests/test_checkpoint.py::test_what_transformers_saves_is_loaded",
    ),
    Mutation(
        "model.eval forgotten in validation",
        "minibert/train.py",
        "    model.eval()\n    if run.ranks",
        "    if run.ranks",
        "tests/test_train.py::test_what_an_epoch_logs_of_dev_equals_the_kept_model_without_dropout",
    ),
    Mutation(
        "zero_grad forgotten",
        "minibert/train.py",
        "                run.optimizer.zero_grad(set_to_none=run.replays is None)\n",
        "",
        "tests/test_train.py::test_a_run_equals_a_plain_loop_over_transformers",
    ),
    Mutation(
        "batch: a word of 100 characters is unknown",
        "minibert/wordpiece_batch.py",
        "known = np.flatnonzero(lengths <= MAX_WORD)",
        "known = np.flatnonzero(lengths < MAX_WORD)",
        "tests/test_wordpiece_batch.py::test_a_word_of_100_characters_is_cut_and_one_of_101_is_unknown",
    ),
    Mutation(
        "batch: a word of 101 characters is cut",
        "minibert/wordpiece_batch.py",
        "lengths.max() > MAX_WORD:",
        "lengths.max() > MAX_WORD + 1:",
        "tests/test_wordpiece_batch.py::test_a_word_of_100_characters_is_cut_and_one_of_101_is_unknown",
    ),
    Mutation(
        "batch: the last symbol of a label is masked away",
        "minibert/wordpiece_batch.py",
        "(1 << 8 * itemsize * n) - 1",
        "(1 << 8 * itemsize * max(n - 1, 0)) - 1",
        "tests/test_wordpiece_batch.py::test_a_table_grows_with_its_words",
    ),
    Mutation(
        "batch: what follows a word belongs to its path",
        "minibert/wordpiece_batch.py",
        '(starts.take(longer) + done).view("<u8") & self.masks.take(left, mode="clip")',
        '(starts.take(longer) + done).view("<u8")',
        "tests/test_wordpiece_batch.py::test_a_word_is_known_again_whatever_follows_it",
    ),
    Mutation(
        "batch: an edge is found by its label alone",
        "minibert/wordpiece_batch.py",
        'rest = np.flatnonzero((edges["label"] != labels) | (edges["node"] != nodes))',
        'rest = np.flatnonzero(edges["label"] != labels)',
        "tests/test_wordpiece_batch.py::test_collisions_change_nothing",
    ),
    Mutation(
        "batch: probing stops after one step",
        "minibert/wordpiece_batch.py",
        "        while len(rest):\n            slots[rest] = after",
        "        if len(rest):\n            slots[rest] = after",
        "tests/test_wordpiece_batch.py::test_collisions_change_nothing",
    ),
    Mutation(
        "batch: an unknown word keeps its first pieces",
        "minibert/wordpiece_batch.py",
        "keep = np.flatnonzero(~unknown[columns[0]])",
        "keep = np.arange(len(columns[0]))",
        "tests/test_wordpiece_batch.py::test_a_word_with_an_unknown_rest_is_unknown_as_a_whole",
    ),
    Mutation(
        "batch: later pieces are looked for among beginnings",
        "minibert/wordpiece_batch.py",
        "BEGINS, CONTINUES = 0, 1",
        "BEGINS, CONTINUES = 0, 0",
        "tests/test_wordpiece_batch.py::test_later_pieces_carry_two_hashes",
    ),
    Mutation(
        "batch: spans count normalised characters",
        "minibert/wordpiece_batch.py",
        "begin, end = sources.take(begin), sources.take(end - 1) + 1",
        "pass",
        "tests/test_wordpiece_batch.py::test_removed_characters_join_and_lie_inside_the_span",
    ),
    Mutation(
        "batch: every piece ends where its word does",
        "minibert/wordpiece_batch.py",
        'end[targets] = begin.take(targets) + known.pieces["end"].take(places)',
        "pass",
        "tests/test_wordpiece_batch.py::test_the_example_of_the_module_holds",
    ),
    Mutation(
        "batch: marks that change places are not seen",
        "minibert/wordpiece_batch.py",
        "if self._has_rare(stream) else ()",
        "if False else ()",
        "tests/test_wordpiece_batch.py::test_only_texts_with_marks_that_change_places_go_through_the_specification",
    ),
    Mutation(
        "batch: a table is used again after an interruption",
        "minibert/wordpiece_batch.py",
        "return self._idle[itemsize].pop()",
        "return self._idle[itemsize][-1]",
        "tests/test_wordpiece_batch.py::test_an_interrupted_table_is_not_used_again",
    ),
    Mutation(
        "batch: a table grows without bounds",
        "minibert/wordpiece_batch.py",
        "if words.edges.count <= MAX_NODES and words.used <= MAX_PIECES:",
        "if True:",
        "tests/test_wordpiece_batch.py::test_a_forgotten_table_changes_nothing",
    ),
    Mutation(
        "batch: spans of a long text count from the last cut",
        "minibert/wordpiece_batch.py",
        "flat._replace(spans=flat.spans + np.int32(begin)) if spans else flat",
        "flat",
        "tests/test_wordpiece_batch.py::test_long_texts_are_cut_where_nothing_joins",
    ),
    Mutation(
        "batch: parts stay in the order they were made",
        "minibert/wordpiece_batch.py",
        "        parts.sort(key=lambda part: part[0])\n",
        "",
        "tests/test_wordpiece_batch.py::test_batches_order_and_history_change_nothing",
    ),
    Mutation(
        "batch: stretches are not parted where one row is elsewhere",
        "minibert/wordpiece_batch.py",
        "np.diff(rows) > 1)",
        "np.diff(rows) > 2)",
        "tests/test_wordpiece_batch.py::test_batches_order_and_history_change_nothing",
    ),
    Mutation(
        "batch: the shorter special token wins",
        "minibert/wordpiece_batch.py",
        "sorted(special, key=len, reverse=True)",
        "sorted(special, key=len)",
        "tests/test_wordpiece_batch.py::test_special_tokens_may_overlap_and_hold_any_character",
    ),
    Mutation(
        "batch: spans given that nobody asked for",
        "minibert/wordpiece_batch.py",
        "return parts[0] if spans else parts[0]._replace(spans=None)",
        "return parts[0]",
        "tests/test_wordpiece_batch.py::test_only_texts_with_marks_that_change_places_go_through_the_specification",
    ),
    Mutation(
        "border: a special token is cut in two",
        "minibert/wordpiece.py",
        "        if match.group() not in but:\n",
        "        if True:\n",
        "tests/test_token_file.py::test_an_extra_special_token_is_not_cut",
    ),
    Mutation(
        "the end of a long text is never read",
        "minibert/tokenizer.py",
        "if flat.lengths[row] < tokens]",
        "if False]",
        "tests/test_tokenizer.py::test_only_the_beginning_of_a_long_text_is_read_and_nothing_shows_it",
    ),
    Mutation(
        "spans of a long text's end count from its cut",
        "minibert/wordpiece_batch.py",
        "places.repeat(rest.lengths)[:, None]",
        "0",
        "tests/test_tokenizer.py::test_only_the_beginning_of_a_long_text_is_read_and_nothing_shows_it",
    ),
    Mutation(
        "batch: a special token of a long text is cut in two",
        "minibert/wordpiece_batch.py",
        "outside = cuts >= np.append(end, 0)[last]",
        "outside = cuts >= 0",
        "tests/test_wordpiece_batch.py::test_special_tokens_may_overlap_and_hold_any_character",
    ),
    Mutation(
        "batch: a long word ends where its first characters do",
        "minibert/wordpiece_batch.py",
        "places[MAX_WORD + 1 :][-1:]",
        "places[:0]",
        "tests/test_wordpiece_batch.py::test_a_word_longer_than_a_block_is_read_as_if_there_were_no_blocks",
    ),
    Mutation(
        "batch: of a long word what becomes nothing is kept",
        "minibert/wordpiece_batch.py",
        "places = np.flatnonzero(stream != self._alphabet.first_rare + 1) + begin",
        "places = np.arange(len(stream)) + begin",
        "tests/test_wordpiece_batch.py::test_a_word_longer_than_a_block_is_read_as_if_there_were_no_blocks",
    ),
    Mutation(
        "triton: keys beyond the row count in backward",
        "minibert/attention/triton_backward.py",
        "        p = tl.where(keys[None, :] < n, _p(q_tile, k_tile, lse_tile, scale), 0.0)  # [TILE, STEP]",
        "        p = _p(q_tile, k_tile, lse_tile, scale)",
        "tests/test_triton.py::test_equal_logits_of_any_size_give_the_mean_and_finite_gradients",
    ),
    Mutation(
        "triton: no scale in dq",
        "minibert/attention/triton_backward.py",
        "    store(dq + at_grad, 0, n, GRAD, dq_tile * scale, TILE, D)",
        "    store(dq + at_grad, 0, n, GRAD, dq_tile, TILE, D)",
        "tests/test_triton.py::test_a_scale_of_ones_own_is_used_in_both_directions",
    ),
    Mutation(
        "triton: backward forgets what dropout dropped",
        "minibert/attention/triton_backward.py",
        "            z = _z(drop, queries[None, :], keys[:, None])",
        "            z = 1.0",
        "tests/test_triton.py::test_backward_drops_what_forward_dropped",
    ),
    Mutation(
        "train: a small model's pooler is drawn anew though a classifier has used it",
        "minibert/train.py",
        'if "BertForSequenceClassification" in str',
        'if "BertForMaskedLM" in str',
        "tests/test_train.py::test_the_pooler_of_a_small_model_is_drawn_anew_unless_it_has_served_a_classifier",
    ),
    Mutation(
        "layout: every bucket has all longer rows",
        "minibert/layout.py",
        "(lengths[rows] <= (lengths.max() if up_to is None else up_to))",
        "(lengths[rows] <= lengths.max())",
        "tests/test_layout.py::test_tiles_of_a_bucket_hold_its_rows_alone",
    ),
    Mutation(
        "layout: padding is not cleared",
        "minibert/layout.py",
        "x = x.new_zeros(B * S, *x.shape[1:])",
        "x = x.new_ones(B * S, *x.shape[1:])",
        "tests/test_layout.py::test_pad_brings_back_what_pack_took_and_zeros_elsewhere",
    ),
    Mutation(
        "sdpa: hidden keys are only disliked",
        "minibert/attention/torch_backends.py",
        "zeros.masked_fill(hidden, torch.finfo(dtype).min / 2)",
        "zeros.masked_fill(hidden, -100)",
        "tests/test_attention.py::test_hidden_keys_stay_hidden_where_real_ones_fit_far_worse",
    ),
    Mutation(
        "sdpa: packed answers stay sorted by length",
        "minibert/attention/torch_backends.py",
        "return out if back is None else out.index_select(0, back)",
        "return out",
        "tests/test_attention.py::test_packed_values_equal_numpy_in_float64",
    ),
    Mutation(
        "packed: positions count through the batch",
        "minibert/model.py",
        "positions = layout.position_ids  # [T]",
        "positions = torch.arange(len(input_ids))",
        "tests/test_model.py::test_a_packed_batch_equals_transformers_and_our_padded_one",
    ),
    Mutation(
        "packed: keys and values change places",
        "minibert/model.py",
        "k, v = project([self.key, self.value], x)",
        "k, v = project([self.value, self.key], x)",
        "tests/test_model.py::test_the_first_tokens_alone_are_those_of_the_whole_batch",
    ),
    Mutation(
        "packed: the residual of [CLS] is another token's",
        "minibert/model.py",
        "x = x.index_select(0, layout.firsts) if first else x",
        "x = x.index_select(0, layout.firsts + 1 - (layout.firsts + 1 == len(x)).long()) if first else x",
        "tests/test_model.py::test_the_first_tokens_alone_are_those_of_the_whole_batch",
    ),
    Mutation(
        "packed: [CLS] attends in the order of lengths",
        "minibert/attention/torch_backends.py",
        "return out if rows is None else torch.empty_like(out).index_copy(0, rows, out)",
        "return out",
        "tests/test_model.py::test_rows_may_come_in_any_order",
    ),
    Mutation(
        "symbols: a special token is one character long",
        "minibert/symbols.py",
        "[len(token) for token in special]",
        "[1] * len(special)",
        "tests/test_wordpiece_batch.py::test_a_special_token_is_one_token_of_its_whole_length",
    ),
    Mutation(
        "symbols: removed characters separate",
        "minibert/symbols.py",
        "becomes[_codes(_chars(unicode_tables.REMOVED))] = NOTHING",
        "becomes[_codes(_chars(unicode_tables.REMOVED))] = SPACE",
        "tests/test_wordpiece_batch.py::test_removed_characters_join_and_lie_inside_the_span",
    ),
    Mutation(
        "symbols: nothing is removed",
        "minibert/symbols.py",
        "    becomes[_codes(_chars(unicode_tables.REMOVED))] = NOTHING\n",
        "",
        "tests/test_wordpiece_batch.py::test_removed_characters_join_and_lie_inside_the_span",
    ),
    Mutation(
        "symbols: control characters separate in ASCII texts",
        "minibert/symbols.py",
        "wide[:128], NARROW_RARE).astype",
        "wide[:128], 0).astype",
        "tests/test_wordpiece_batch.py::test_symbols_of_ascii_are_the_same_in_both_widths",
    ),
    Mutation(
        "symbols: 16 bits for any vocabulary",
        "minibert/symbols.py",
        "np.int16 if largest < 2**15 else np.int32",
        "np.int16",
        "tests/test_wordpiece_batch.py::test_more_characters_than_16_bits_hold",
    ),
    Mutation(
        "symbols: marks change places in cased text too",
        "minibert/symbols.py",
        "    if strip_accents:  # only then are marks sorted\n",
        "    if True:\n",
        "tests/test_wordpiece_batch.py::test_only_texts_with_marks_that_change_places_go_through_the_specification",
    ),
    Mutation(
        "weights stay in the file where nobody asked for it",
        "minibert/checkpoint.py",
        "copy=not mapped",
        "copy=False",
        "tests/test_checkpoint.py::test_overwriting_the_file_does_not_change_the_loaded_model",
    ),
    Mutation(
        "dropout: probabilities are not made up for",
        "minibert/attention/torch_backends.py",
        "v / share, masks",
        "v, masks",
        "tests/test_dropout.py::test_packed_attention_drops_probabilities_as_the_formula_says_forward_and_backward",
    ),
    Mutation(
        "dropout: all groups keep the first one's",
        "minibert/attention/torch_backends.py",
        "for part, shape in zip(stays.split(sizes), shapes, strict=True)]",
        "for part, shape in ((stays[: math.prod(shape)], shape) for shape in shapes)]",
        "tests/test_dropout.py::test_packed_attention_drops_probabilities_as_the_formula_says_forward_and_backward",
    ),
    Mutation(
        "state: moments of AdamW not put back",
        "minibert/state.py",
        '    optimizer.load_state_dict(state["optimizer"])\n',
        "",
        "tests/test_state.py::test_a_run_goes_on_from_a_checkpoint_as_if_nothing_had_happened",
    ),
    Mutation(
        "state: checksums not looked at",
        "minibert/state.py",
        "if (name := archive.testzip()) is not None:",
        "if (name := None) is not None:",
        "tests/test_state.py::test_no_flipped_bit_goes_unnoticed",
    ),
    Mutation(
        "state: a damaged checkpoint counts as the newest",
        "minibert/state.py",
        "[: max(0, len(older) - keep + 1)] + beyond",
        "[: max(0, len(older) + len(beyond) - keep + 1)]",
        "tests/test_state.py::test_a_damaged_newest_checkpoint_is_passed_over_with_a_line",
    ),
    Mutation(
        "state: metrics behind the checkpoint stay",
        "minibert/state.py",
        "        os.truncate(path, length)\n",
        "        pass\n",
        "tests/test_state.py::test_a_run_killed_at_every_place_where_it_writes_ends_with_the_same_bytes",
    ),
    Mutation(
        "state: metrics of a run without a checkpoint stay",
        "minibert/state.py",
        "            path.unlink(missing_ok=True)\n            return\n",
        "            return\n",
        "tests/test_state.py::test_a_run_killed_at_every_place_where_it_writes_ends_with_the_same_bytes",
    ),
    Mutation(
        "state: half-written files stay",
        "minibert/state.py",
        "                if LEFTOVER.fullmatch(path.name):\n",
        "                if False:\n",
        "tests/test_state.py::test_a_run_killed_at_every_place_where_it_writes_ends_with_the_same_bytes",
    ),
    Mutation(
        "state: a lock that lets others in",
        "minibert/state.py",
        "fcntl.LOCK_EX | fcntl.LOCK_NB",
        "fcntl.LOCK_SH | fcntl.LOCK_NB",
        "tests/test_state.py::test_a_second_run_in_a_directory_is_refused_and_a_later_one_is_not",
    ),
    Mutation(
        "state: any version is read",
        "minibert/state.py",
        'if state["version"] != VERSION:',
        "if False:",
        "tests/test_state.py::test_a_checkpoint_of_another_version_is_refused",
    ),
    Mutation(
        "state: changed files are not noticed",
        "minibert/state.py",
        "            check_same(record, command.read_files(stored))\n        continuing",
        "            pass\n        continuing",
        "tests/test_state.py::test_files_that_have_changed_since_a_run_began_are_named",
    ),
    Mutation(
        "seed: ranks draw the same dropout",
        "minibert/loop.py",
        "SeedSequence((seed, step, rank))",
        "SeedSequence((seed, step))",
        "tests/test_loop.py::test_what_dropout_draws_depends_on_seed_step_and_rank_alone",
    ),
    Mutation(
        "seed: a step goes on with what the one before it left",
        "minibert/train.py",
        "                seed_step(options.seed, update, ranks.rank)",
        "                pass",
        "tests/test_state.py::test_a_run_killed_at_every_place_where_it_writes_ends_with_the_same_bytes",
    ),
    Mutation(
        "ranks: rows dealt twice",
        "minibert/ranks.py",
        "== self.rank\n",
        "<= self.rank\n",
        "tests/test_ranks.py::test_a_batch_is_dealt_without_overlap_or_loss_and_evenly",
    ),
    Mutation(
        "ranks: a mean of the ranks' means",
        "minibert/train.py",
        "ranks.world / rows",
        "1 / max(1, mine)",
        "tests/test_ranks.py::test_two_processes_are_one",
    ),
    Mutation(
        "ranks: a row for want of one counts",
        "minibert/train.py",
        "without_labels(dealt(run, order[i][:1]))",
        "dealt(run, order[i][:1])",
        "tests/test_ranks.py::test_two_processes_are_one",
    ),
    Mutation(
        "ranks: gradients are never added up",
        "minibert/ranks.py",
        "engine.require_backward_grad_sync = last",
        "engine.require_backward_grad_sync = False",
        "tests/test_ranks.py::test_two_processes_are_one",
    ),
    Mutation(
        "corpus: a file's end is no document's end",
        "minibert/corpus.py",
        "        yield from (path, blank)",
        "        yield path",
        "tests/test_corpus.py::test_a_blank_line_and_the_end_of_a_file_end_a_document",
    ),
    Mutation(
        "corpus: the hash is not looked at",
        "minibert/corpus.py",
        'if (a["kind"], a["sha256"]) != (b["kind"], b["sha256"])',
        'if (a["kind"], a["bytes"]) != (b["kind"], b["bytes"])',
        "tests/test_corpus.py::test_a_changed_corpus_is_noticed_and_said_though_size_and_date_are_the_same",
    ),
    Mutation(
        "corpus: copies of held-out documents are trained on",
        "minibert/corpus.py",
        "np.unique(self.digests(), ",
        "np.unique(np.arange(len(self.documents)), ",
        "tests/test_corpus.py::test_documents_of_the_same_text_stand_on_one_side",
    ),
    Mutation(
        "replay: rows without tokens reach over the others",
        "minibert/replay.py",
        "put(recording.cu_seqlens, layout.cu_seqlens, len(batch.input_ids))",
        "put(recording.cu_seqlens, layout.cu_seqlens)",
        "tests/test_replay.py::test_batches_of_any_lengths_fit_into_one_recording",
    ),
    Mutation(
        "replay: what a batch lacks has label 0",
        "minibert/replay.py",
        'EMPTY = {"labels": -100, "is_random": -100}',
        'EMPTY = {"labels": 0, "is_random": 0}',
        "tests/test_replay.py::test_batches_of_any_lengths_fit_into_one_recording",
    ),
    Mutation(
        "replay: no room for the last tile of a row",
        "minibert/replay.py",
        "else tokens // tile + longer",
        "else tokens // tile",
        "tests/test_replay.py::test_a_recording_has_room_for_the_tiles_of_any_batch",
    ),
    Mutation(
        "train: the filling row has a label",
        "minibert/data.py",
        "answers = np.append(answers, -100)",
        "answers = np.append(answers, 0)",
        "tests/test_data.py::test_a_row_of_padding_without_a_label_makes_the_tokens_a_multiple",
    ),
    Mutation(
        "train: token dropout hides special tokens",
        "minibert/train.py",
        "dropped & ~torch.isin(ids, special)",
        "dropped",
        "tests/test_train.py::test_token_dropout_hides_its_share_of_real_tokens_anew_in_every_step",
    ),
    Mutation(
        "corpus: held-out documents are counted",
        "minibert/corpus.py",
        "            counts -= np.bincount(",
        "            counts -= 0 * np.bincount(",
        "tests/test_corpus.py::test_token_counts_leave_the_held_out_documents_out",
    ),
    Mutation(
        "instances: a long sentence ends where it is cut",
        "minibert/instances.py",
        "    return np.minimum(np.where(before > begin, before, behind), begin + room)",
        "    return np.where(before > begin, before, behind)",
        "tests/test_instances.py::test_without_pairs_every_token_is_seen_once_and_sentences_are_whole_where_they_fit",
    ),
    Mutation(
        "instances: pieces of one sentence are not counted as random",
        "minibert/instances.py",
        "round(C / 2) - (C - len(free))",
        "round(C / 2)",
        "tests/test_instances.py::test_half_of_the_pairs_are_random_and_those_are_of_two_documents",
    ),
    Mutation(
        "instances: a stranger may be of the same large document",
        "minibert/instances.py",
        "        partner[same] = dice.choice(np.flatnonzero(pieces.document != document), len(same))",
        "        pass",
        "tests/test_instances.py::test_a_document_that_has_nearly_all_text_finds_a_stranger",
    ),
    Mutation(
        "instances: the number of hidden tokens is rounded up",
        "minibert/instances.py",
        "wanted[owner] - before > random[0, first_token[owner]] * ordered",
        "wanted[owner] - before > 0",
        "tests/test_instances.py::test_fifteen_percent_are_hidden_and_become_mask_random_or_stay",
    ),
    Mutation(
        "instances: special tokens are hidden too",
        "minibert/instances.py",
        "    real = ~kinds.special[ids]",
        "    real = ids >= 0",
        "tests/test_instances.py::test_fifteen_percent_are_hidden_and_become_mask_random_or_stay",
    ),
    Mutation(
        "instances: random tokens are any tokens",
        "minibert/instances.py",
        "        self.choices = np.flatnonzero(~self.special & ~unused)",
        "        self.choices = np.arange(len(vocab))",
        "tests/test_instances.py::test_random_tokens_are_drawn_equally_from_all_but_special_and_unused_ones",
    ),
    Mutation(
        "instances: masks depend on the company",
        "minibert/instances.py",
        "counter=[0, 0, 0, row]",
        "counter=[0, 0, 0, len(drawn)]",
        "tests/test_instances.py::test_an_example_is_masked_the_same_in_any_company",
    ),
    Mutation(
        "instances: pieces are hidden without their word",
        "minibert/instances.py",
        "        joined[1:] = kinds.continues[ids[1:]] & real[1:] & real[:-1]",
        "        joined[1:] = False",
        "tests/test_instances.py::test_pieces_are_hidden_with_their_word",
    ),
    Mutation(
        "pretrain: accumulated batches count alike",
        "minibert/pretrain.py",
        "[ranks.world / max(1, count) for count in counts]",
        "[1 / max(1, len(x)) / len(batches) for x in (batches[0].labels, batches[0].is_random)]",
        "tests/test_pretrain.py::test_accumulated_batches_equal_one_large_batch",
    ),
    Mutation(
        "pretrain: the learning rate is a step late",
        "minibert/pretrain.py",
        "learning_rate(progress.step, run.steps",
        "learning_rate(progress.step + 1, run.steps",
        "tests/test_pretrain.py::test_twenty_steps_equal_a_plain_transformers_loop",
    ),
    Mutation(
        "pretrain: dropout does not follow from the step",
        "minibert/pretrain.py",
        "        seed_step(options.seed, progress.step, ranks.rank)\n",
        "",
        "tests/test_pretrain.py::test_the_same_options_give_the_same_bytes_whatever_else_draws_random_numbers",
    ),
    Mutation(
        "pretrain: dropout stays on while measuring",
        "minibert/pretrain.py",
        "    run.model.eval()\n    for rows in token_chunks",
        "    for rows in token_chunks",
        "tests/test_pretrain.py::test_held_out_scores_are_those_of_transformers",
    ),
    Mutation(
        "pretrain: dropout stays off after measuring",
        "minibert/pretrain.py",
        "    run.model.train()\n    loss, hits",
        "    loss, hits",
        "tests/test_pretrain.py::test_measuring_more_often_changes_nothing",
    ),
    Mutation(
        "fill-mask: answers of another text",
        "minibert/fill_mask.py",
        "owner = np.repeat(rows, encoding.length[rows])[masks]",
        "owner = np.repeat(np.sort(rows), encoding.length[rows])[masks]",
        "tests/test_fill_mask.py::test_answers_are_those_of_transformers",
    ),
    Mutation(
        "pretrain: ranks do not know of each other's hidden tokens",
        "minibert/pretrain.py",
        "[ranks.world / max(1, count) for count in counts]",
        "[1 / max(1, n) for n in (sum(len(b.labels) for b in batches), len(batches[0].is_random))]",
        "tests/test_ranks.py::test_two_processes_are_one",
    ),
    Mutation(
        "pretrain: a rank without examples trains on another's",
        "minibert/pretrain.py",
        "return made if len(mine) else made.without_answers()",
        "return made",
        "tests/test_ranks.py::test_two_processes_are_one",
    ),
    Mutation(
        "pretrain: each rank sees all examples",
        "minibert/pretrain.py",
        "mine = self.ranks.deal(rows, planned.lengths)",
        "mine = rows",
        "tests/test_ranks.py::test_two_processes_are_one",
    ),
    Mutation(
        "pretrain: a resumed run forgets how far it was",
        "minibert/pretrain.py",
        "run.progress = restored(run.progress, load_state(out, ranks, run.model, run.optimizer))",
        "load_state(out, ranks, run.model, run.optimizer)",
        "tests/test_state.py::test_pretraining_killed_at_every_place_where_it_writes_ends_with_the_same_bytes",
    ),
    Mutation(
        "pretrain: a resumed run takes half a vocabulary",
        "minibert/pretrain.py",
        '(out / "tokenizer_config.json").is_file()',
        '(out / "vocab.txt").is_file()',
        "tests/test_state.py::test_pretraining_killed_at_every_place_where_it_writes_ends_with_the_same_bytes",
    ),
    Mutation(
        "pretrain: another vocabulary goes unnoticed",
        "minibert/pretrain.py",
        'if record is not None and record["tokenizer"] != description(tokenizer):',
        "if False:",
        "tests/test_pretrain.py::test_other_options_than_those_that_may_change_are_refused_when_resuming",
    ),
    Mutation(
        "corpus: two runs write into one cache",
        "minibert/corpus.py",
        "with guard(cache):",
        "with nullcontext():",
        "tests/test_pretrain.py::test_two_runs_do_not_tokenise_into_one_cache_at_once",
    ),
    Mutation(
        "doctor: a leak is looked for in the split itself",
        "minibert/data_checks.py",
        "for other in data.splits[:later]:",
        "for other in data.splits[later:later]:",
        "tests/test_doctor.py::test_a_leak_is_counted_with_its_lines",
    ),
    Mutation(
        "doctor: the pair does not count",
        "minibert/data_checks.py",
        "return [(text.strip(), pair.strip())",
        "return [(text.strip(), '')",
        "tests/test_doctor.py::test_pairs_count_as_one_row_and_three_special_tokens",
    ),
    Mutation(
        "doctor: padding without the longest row",
        "minibert/data_checks.py",
        "size = sum(len(rows) * int(lengths[list(rows)].max())",
        "size = sum(len(rows) * int(lengths[list(rows)].min())",
        "tests/test_doctor.py::test_padding_is_that_of_batches_of_32",
    ),
    Mutation(
        "doctor: letters are compared as they are written",
        "minibert/data_checks.py",
        "wordpiece.normalize(char, *switches)",
        "wordpiece.normalize(char, False)",
        "tests/test_doctor.py::test_a_capital_letter_is_held_where_texts_are_lowercased",
    ),
    Mutation(
        "doctor: spoiled texts are blamed on the vocabulary",
        "minibert/data_checks.py",
        "        if damaged(split):\n            continue\n",
        "",
        "tests/test_doctor.py::test_what_is_wrong_with_data_is_named_and_no_other_error",
    ),
    Mutation(
        "doctor: a refusal is told where its cause is named",
        "minibert/doctor.py",
        "if not CAUSES[refused.part] & broken]",
        "if True]",
        "tests/test_doctor.py::test_what_is_broken_is_named_and_no_other_error",
    ),
    Mutation(
        "doctor: biases may have moved in fresh weights",
        "minibert/doctor.py",
        "    if not bias.zero:\n        return False\n",
        "",
        "tests/test_doctor.py::test_fresh_weights_of_googles_kind_look_fresh_too",
    ),
    Mutation(
        "doctor: any weights without bias look fresh",
        "minibert/doctor.py",
        "    return any(abs(weight.std / (std * cut) - 1) < spread for cut in (1, CUT_NORMAL)) if std else False",
        "    return True",
        "tests/test_doctor.py::test_fresh_weights_of_googles_kind_look_fresh_too",
    ),
    Mutation(
        "doctor: Google's fresh weights are not known",
        "minibert/doctor.py",
        "for cut in (1, CUT_NORMAL)) if std",
        "for cut in (1,)) if std",
        "tests/test_doctor.py::test_fresh_weights_of_googles_kind_look_fresh_too",
    ),
    Mutation(
        "doctor: NaN is not counted",
        "minibert/doctor.py",
        "finite = math.isfinite(mean)",
        "finite = True",
        "tests/test_doctor.py::test_what_is_broken_is_named_and_no_other_error",
    ),
    Mutation(
        "doctor: a sorted vocabulary passes",
        "minibert/doctor.py",
        "if places[0] != 0 or list(places) != sorted(places):",
        "if places[0] != 0 and False:",
        "tests/test_doctor.py::test_what_is_broken_is_named_and_no_other_error",
    ),
    Mutation(
        "doctor: warnings are no reason for status 1",
        "minibert/findings.py",
        'return any(finding.severity != "note"',
        'return any(finding.severity == "error"',
        "tests/test_doctor.py::test_json_is_one_object",
    ),
    Mutation(
        "doctor: control characters reach the terminal",
        "minibert/findings.py",
        "char if char.isprintable() else repr(char)[1:-1]",
        "char",
        "tests/test_doctor.py::test_a_file_cannot_write_on_the_terminal",
    ),
    Mutation(
        "doctor: GBK mojibake passes",
        "minibert/tokenizer_files.py",
        'text.rstrip("?").encode("gbk")',
        'text.encode("ascii")',
        "tests/test_doctor.py::test_what_is_broken_is_named_and_no_other_error",
    ),
    Mutation(
        "doctor: all tensors are kept",
        "minibert/doctor.py",
        "if name in TIED or name in TIED.values():",
        "if True:",
        "tests/test_doctor.py::test_one_tensor_at_a_time_is_held",
    ),
    Mutation(
        "capture: probabilities of padding queries in a packed batch",
        "minibert/activations.py",
        "if hide and mask.keys is not None:",
        "if False:",
        "tests/test_activations.py::test_nobody_asks_for_the_padding_of_a_packed_batch",
    ),
    Mutation(
        "capture: a classifier's last layer for [CLS] alone",
        "minibert/activations.py",
        "    x = Layer.forward(layer, x, layout)\n    return x.index_select(0, layout.firsts) if first else x",
        "    return Layer.forward(layer, x, layout, first)",
        "tests/test_activations.py::test_every_number_of_a_packed_batch_of_pairs_equals_the_reference",
    ),
    Mutation(
        "capture: scores recomputed in half precision",
        "minibert/activations.py",
        "if fused and q.dtype != torch.float64:",
        "if False:",
        "tests/test_activations.py::test_half_precision_passes_the_check_and_fused_kernels_probabilities_are_exact",
    ),
    Mutation(
        "capture: the formula is not compared",
        "minibert/activations.py",
        "    assert same, f",
        "    assert True, f",
        "tests/test_activations.py::test_a_backend_that_differs_from_the_formula_is_noticed",
    ),
    Mutation(
        "capture: padding is compared too",
        "minibert/activations.py",
        "    if isinstance(layout, Padded) and layout.keys is not None:\n        ours, theirs",
        "    if False:\n        ours, theirs",
        "tests/test_activations.py::test_every_number_of_a_padded_batch_of_pairs_equals_the_reference",
    ),
    Mutation(
        "capture: the formula draws random numbers of the forward pass",
        "minibert/activations.py",
        "v[rows, :, :n], part, hide, keep)",
        "v[rows, :, :n], part, hide, keep, 0.1)",
        "tests/test_activations.py::test_looking_changes_no_digit_and_no_random_number_in_training",
    ),
    Mutation(
        "capture: the graph is kept without being asked for",
        "minibert/activations.py",
        "self.kept[name] = x if self.forms else x.detach()",
        "self.kept[name] = x",
        "tests/test_activations.py::test_without_grad_what_was_seen_holds_no_graph",
    ),
    Mutation(
        "capture: a head beside the graph, without a gradient",
        "minibert/activations.py",
        "if heads[place.head] is before and not (before.requires_grad and torch.is_grad_enabled()):",
        "if heads[place.head] is before:",
        "tests/test_activations.py::test_gradients_are_those_of_autograd_and_the_parameters_keep_theirs",
    ),
    Mutation(
        "capture: hooks stay",
        "minibert/activations.py",
        "        handle.remove()",
        "        pass",
        "tests/test_activations.py::test_a_block_leaves_nothing_on_the_model",
    ),
    Mutation(
        "capture: compiled code runs without hooks",
        "minibert/activations.py",
        "    if module._compiled_call_impl is not None:",
        "    if False:",
        "tests/test_activations.py::test_a_compiled_model_is_looked_into_uncompiled_and_is_compiled_again_afterwards",
    ),
    Mutation(
        "intervene: the fast backend's context is kept",
        "minibert/activations.py",
        "    forms = any(watcher.forms for watcher in watchers)",
        "    forms = False",
        "tests/test_activations.py::test_a_changed_number_counts_with_every_backend",
    ),
    Mutation(
        "intervene: those who look come first",
        "minibert/activations.py",
        "key=lambda watcher: isinstance(watcher, Capture))",
        "key=lambda watcher: isinstance(watcher, Intervention))",
        "tests/test_activations.py::test_a_capture_sees_what_the_model_goes_on_with_whichever_block_stands_outside",
    ),
    Mutation(
        "intervene: the next head",
        "minibert/activations.py",
        'Place(attention.output, "head", h) for h in',
        'Place(attention.output, "head", h - 1) for h in',
        "tests/test_activations.py::test_ablating_a_head_is_zeroing_its_columns_of_the_output_projection",
    ),
    Mutation(
        "rollout: layers in the wrong order",
        "minibert/analysis.py",
        "reached.append(layer @ reached[-1])",
        "reached.append(reached[-1] @ layer)",
        "tests/test_analysis.py::test_rollout_by_hand",
    ),
    Mutation(
        "head contributions: copies and rows mixed up",
        "minibert/analysis.py",
        "without.repeat_interleave(B, dim=0)",
        "without.repeat(B, 1)",
        "tests/test_analysis.py::test_a_heads_contribution_is_what_is_lost_without_it",
    ),
    Mutation(
        "gradient × input: the gradient alone",
        "minibert/analysis.py",
        "(gradient * x).detach()",
        "gradient.detach()",
        "tests/test_analysis.py::test_gradient_times_input_is_the_slope_when_a_token_fades_and_leaves_the_parameters_alone",
    ),
    Mutation(
        "texts can end the page's script",
        "minibert/page.py",
        're.sub("[<>&',
        're.sub("[>&',
        "tests/test_explain.py::test_no_text_breaks_or_scripts_the_page",
    ),
    Mutation(
        "the page runs any script",
        "minibert/page.py",
        "script-src '{fingerprint(script)}'",
        "script-src 'unsafe-inline'",
        "tests/test_explain.py::test_no_text_breaks_or_scripts_the_page",
    ),
    Mutation(
        "large numbers become infinite on the page",
        "minibert/page.py",
        "if width == 2 and np.abs(x).max(initial=0) <= LARGEST_HALF:",
        "if width == 2:",
        "tests/test_explain.py::test_numbers_beyond_half_precision_stay_what_they_are",
    ),
    Mutation(
        "a word's spans counted from itself",
        "minibert/trace.py",
        "begin + sources[start], begin + sources[end - 1] + 1",
        "sources[start], sources[end - 1] + 1",
        "tests/test_explain.py::test_the_traced_pieces_are_those_of_the_tokenizer",
    ),
    Mutation(
        "an unknown word's attempts end where one was found",
        "minibert/trace.py",
        "if len(ends) != len(pieces) or (ends and ends[-1] != len(watched.asked)):",
        "if len(ends) != len(pieces):",
        "tests/test_explain.py::test_an_unknown_word_shows_all_that_was_tried",
    ),
    Mutation(
        "the answer's logit alone is explained",
        "minibert/explain.py",
        "return logits[:, best] - logits.mean(dim=1)",
        "return logits[:, best]",
        "tests/test_explain.py::test_contributions_are_of_the_answers_logit_above_the_mean",
    ),
    Mutation(
        "the masked LM's answer read at the last mask",
        "minibert/explain.py",
        "int(masks[0])",
        "int(masks[-1])",
        "tests/test_explain.py::test_the_answer_of_a_masked_lm_is_at_its_first_mask_and_the_lens_ends_there",
    ),
    Mutation(
        "explaining leaves the model in eval mode",
        "minibert/explain.py",
        "        model.train(training)\n",
        "        pass\n",
        "tests/test_explain.py::test_the_model_is_left_as_it_was",
    ),
    Mutation(
        "heads' gradients summed over the wrong axis",
        "minibert/analysis.py",
        ".sum(dim=(1, 3)).T",
        ".sum(dim=(1, 2))[:, :H].T",
        "tests/test_explain.py::test_a_heads_gradient_is_the_slope_when_it_fades",
    ),
    Mutation(
        "capture: a row with holes is cut after its number of tokens",
        "minibert/activations.py",
        "part.keys[0, : part.keys.sum()].all():",
        "True:",
        "tests/test_activations.py::test_masks_with_holes_and_rows_without_a_token_are_looked_into",
    ),
]


def run_tests(root: Path, tests: list[str], bug: str | None, output: Path) -> None:
    """Ends this process with STATUS + pytest's own; the package is the one at `root`, the output goes to a file."""
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.chdir(root)
    paths = [str(root), str(root / "tests")]
    sys.path[:0] = paths
    os.environ.update(PYTHONPATH=os.pathsep.join(paths), PYTHONDONTWRITEBYTECODE="1")
    # plain: pytest need not explain failures; with CI set it takes minutes for those of large files
    command = ["-x", "-q", "-m", "", "-p", "no:cacheprovider", "--assert=plain", *tests]
    if bug is not None:
        command += ["-p", "course_plugin"]
        os.environ["MINIBERT_BUG"] = bug
    sys.exit(STATUS + pytest.main(command))


def passes(root: Path, tests: list[str], bug: str | None = None, limit: float | None = LIMIT) -> bool:
    """Whether all tests pass in the copy at `root`, whose package is the one imported; `bug`: one of the course.

    Raises RuntimeError where pytest could not run them at all or did not end, which must not count as caught.
    """
    output = root.parent / "output"
    process = multiprocessing.get_context("forkserver").Process(target=run_tests, args=(root, tests, bug, output))
    process.start()
    process.join(limit)
    said = output.read_text(errors="replace")[-4000:] if output.exists() else ""
    if process.exitcode not in (STATUS, STATUS + 1):  # + 2 and above: interrupted, wrong usage, nothing collected
        process.kill()
        raise RuntimeError(f"pytest ended with {process.exitcode} (None: not in {limit} s) on {tests}\n{said}")
    if process.exitcode != STATUS and limit is None:
        print(said)  # of the tests without any mutation
    return process.exitcode == STATUS


def copied(target: Path) -> Path:
    """A copy of what the tests need, with the shared data beside it where there are any."""
    for name in ("minibert", "tests"):
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", target)
    if (shared := ROOT.parent / "shared").is_dir():
        (target.parent / "shared").symlink_to(shared)
    return target


def caught(mutation: Mutation) -> bool:
    with tempfile.TemporaryDirectory() as directory:
        root = copied(Path(directory) / "copy")
        if mutation.file == COURSE:
            return not passes(root, [mutation.test], bug=mutation.old)
        file = root / mutation.file
        text = file.read_text(encoding="utf-8")
        assert text.count(mutation.old) == 1, f"{mutation.name}: {text.count(mutation.old)} times in {mutation.file}"
        file.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")
        return not passes(root, [mutation.test])


def timed(mutation: Mutation) -> tuple[bool, float]:
    begin = time.monotonic()
    return caught(mutation), time.monotonic() - begin


def bugs() -> list[Mutation]:
    """Those of the course. `minibert` is imported here, not above: the tests' processes begin with what is above."""
    sys.path.insert(0, str(ROOT))
    from minibert.course import BUGS

    return [Mutation(f"course: {bug.name}", COURSE, bug.name, bug.title, bug.test) for bug in BUGS]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="SUBSTRING", help="mutations whose name, file or test holds it")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="how many at a time (default: 2)")
    options = parser.parse_args()
    os.environ.setdefault("TRITON_INTERPRET", "1")  # before anything imports Triton, as transformers does
    multiprocessing.get_context("forkserver").set_forkserver_preload(
        ["numpy", "pytest", "tokenizers", "torch", "transformers.models.bert.modeling_bert"]
    )
    chosen = [mutation for mutation in MUTATIONS + bugs() if any(options.only in field for field in mutation)]
    with tempfile.TemporaryDirectory() as directory:
        named = sorted({mutation.test for mutation in chosen})
        if not passes(copied(Path(directory) / "copy"), named, limit=None):
            print("a named test fails without any mutation: run pytest first")
            return 1
    score = 0
    with ThreadPoolExecutor(options.jobs) as pool:
        for mutation, (good, seconds) in zip(chosen, pool.map(timed, chosen), strict=True):
            score += good
            verdict = "caught" if good else "SURVIVED"
            print(f"{verdict:10}{seconds:4.0f} s  {mutation.name}  ({mutation.test})", flush=True)
    print(f"{score}/{len(chosen)} mutations caught")
    return 0 if score == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
