"""Mutations of layouts, attention backends, Triton, replays."""

MUTATIONS = {
    "minibert/attention/torch_backends.py": [
        (
            "SDPA without the mask",
            "attn_mask=mask, ",
            "",
            "tests/test_golden.py::test_the_stirred_model_gives_the_frozen_answer",
        ),
        (
            "sdpa: hidden keys are only disliked",
            "zeros.masked_fill(hidden, torch.finfo(dtype).min / 2)",
            "zeros.masked_fill(hidden, -100)",
            "tests/test_attention.py::test_hidden_keys_stay_hidden_where_real_ones_fit_far_worse",
        ),
        (
            "sdpa: packed answers stay sorted by length",
            "return out if back is None else out.index_select(0, back)",
            "return out",
            "tests/test_attention.py::test_packed_values_equal_numpy_in_float64",
        ),
        (
            "packed: [CLS] attends in the order of lengths",
            "return out if rows is None else torch.empty_like(out).index_copy(0, rows, out)",
            "return out",
            "tests/test_model.py::test_rows_may_come_in_any_order",
        ),
        (
            "dropout: probabilities are not made up for",
            "v / share, masks",
            "v, masks",
            "tests/test_dropout.py::test_packed_attention_drops_probabilities_as_the_formula_says_forward_and_backward",
        ),
        (
            "dropout: all groups keep the first one's",
            "for part, shape in zip(stays.split(sizes), shapes, strict=True)]",
            "for part, shape in ((stays[: math.prod(shape)], shape) for shape in shapes)]",
            "tests/test_dropout.py::test_packed_attention_drops_probabilities_as_the_formula_says_forward_and_backward",
        ),
    ],
    "minibert/attention/triton_backward.py": [
        (
            "triton: keys beyond the row count in backward",
            "        p = tl.where(keys[None, :] < n, _p(q_tile, k_tile, lse_tile, scale), 0.0)  # [TILE, STEP]",
            "        p = _p(q_tile, k_tile, lse_tile, scale)",
            "tests/test_triton.py::test_equal_logits_of_any_size_give_the_mean_and_finite_gradients",
        ),
        (
            "triton: no scale in dq",
            "    store(dq + at_grad, 0, n, GRAD, dq_tile * scale, TILE, D)",
            "    store(dq + at_grad, 0, n, GRAD, dq_tile, TILE, D)",
            "tests/test_triton.py::test_a_scale_of_ones_own_is_used_in_both_directions",
        ),
        (
            "triton: backward forgets what dropout dropped",
            "            z = _z(drop, queries[None, :], keys[:, None])",
            "            z = 1.0",
            "tests/test_triton.py::test_backward_drops_what_forward_dropped",
        ),
    ],
    "minibert/layout.py": [
        (
            "padding attended to by the model",
            "        return cls(keys)",
            "        return cls(None)",
            "tests/test_golden.py::test_the_stirred_model_gives_the_frozen_answer",
        ),
        (
            "layout: every bucket has all longer rows",
            "(lengths[rows] <= (lengths.max() if up_to is None else up_to))",
            "(lengths[rows] <= lengths.max())",
            "tests/test_layout.py::test_tiles_of_a_bucket_hold_its_rows_alone",
        ),
        (
            "layout: padding is not cleared",
            "x = x.new_zeros(B * S, *x.shape[1:])",
            "x = x.new_ones(B * S, *x.shape[1:])",
            "tests/test_layout.py::test_pad_brings_back_what_pack_took_and_zeros_elsewhere",
        ),
    ],
    "minibert/replay.py": [
        (
            "replay: rows without tokens reach over the others",
            "put(recording.cu_seqlens, layout.cu_seqlens, len(batch.input_ids))",
            "put(recording.cu_seqlens, layout.cu_seqlens)",
            "tests/test_replay.py::test_batches_of_any_lengths_fit_into_one_recording",
        ),
        (
            "replay: what a batch lacks has label 0",
            'EMPTY = {"labels": -100, "is_random": -100}',
            'EMPTY = {"labels": 0, "is_random": 0}',
            "tests/test_replay.py::test_batches_of_any_lengths_fit_into_one_recording",
        ),
        (
            "replay: no room for the last tile of a row",
            "else tokens // tile + longer",
            "else tokens // tile",
            "tests/test_replay.py::test_a_recording_has_room_for_the_tiles_of_any_batch",
        ),
    ],
}
