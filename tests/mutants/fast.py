"""Mutations of layouts, attention backends, Triton, replays."""

MUTATIONS = {
    "minibert/fast/batches.py": [
        (
            "train: the filling row has a label",
            "np.append(lengths, rest), np.append(answers, -100)",
            "np.append(lengths, rest), np.append(answers, 0)",
            "tests/io/test_data.py::test_a_row_of_padding_without_a_label_makes_the_tokens_a_multiple",
        ),
        (
            "data: one row more than the tokens allow",
            "if lengths[row] > room or not runs:",
            "if room <= 0 or not runs:",
            "tests/io/test_data.py::test_batches_by_tokens_hold_every_row_once_and_no_more_tokens_than_asked_for",
        ),
    ],
    "minibert/fast/attention/__init__.py": [
        (
            "attend: a scale of one's own is lost where a padded batch is packed",
            "attend(*rows, packed, name, dropout_p, scale)",
            "attend(*rows, packed, name, dropout_p, None)",
            "tests/fast/test_attention.py::test_the_scale_can_be_given",
        ),
        (
            "attend: nobody asks whether a gradient is wanted",
            "layout, dropout_p, needs_grad(q, k, v), elements)",
            "layout, dropout_p, False, elements)",
            "tests/fast/test_attention.py::test_flex_on_the_cpu_refuses_what_wants_a_gradient_and_runs_without",
        ),
        (
            "attention: auto prefers PyTorch's kernel to ours",
            '("triton", "varlen", "sdpa") if packed_on_gpu',
            '("varlen", "triton", "sdpa") if packed_on_gpu',
            "tests/fast/test_attention.py::test_auto_takes_what_suits_the_batch",
        ),
    ],
    "minibert/fast/attention/backend.py": [
        (
            "attention: tokens beyond the lengths are not noticed",
            "if q.dim() != 3 or len(q) != T:",
            "if q.dim() != 3:",
            "tests/fast/test_attention.py::test_inputs_that_do_not_fit_are_named",
        ),
        (
            "backends: any GPU will do",
            "        if found < capability:",
            "        if False:",
            "tests/fast/test_attention.py::test_a_gpu_without_bf16_is_named",
        ),
        (
            "backends: head sizes of any multiple",
            "self.head_size % multiple == 0 and self.head_size <= limit",
            "self.head_size <= limit",
            "tests/fast/test_attention.py::test_a_backend_that_cannot_run_says_why_and_which_can",
        ),
        (
            "backends: no_grad counts as training",
            "return torch.is_grad_enabled() and any(",
            "return any(",
            "tests/fast/test_attention.py::test_flex_on_the_cpu_refuses_what_wants_a_gradient_and_runs_without",
        ),
    ],
    "minibert/fast/attention/flex.py": [
        (
            "flex: the last tokens of a long document see its first block",
            "first + full), table(full, first)",
            "first), table(full, first)",
            "tests/fast/test_attention.py::test_flex_sees_each_document_alone",
        ),
        (
            "flex: a document of whole blocks has one more, without tokens",
            "counts = -(-lengths // BLOCK)  # blocks",
            "counts = lengths // BLOCK + 1  # blocks",
            "tests/fast/test_attention.py::test_flex_sees_each_document_alone",
        ),
        (
            "flex: padding keys are seen",
            "return keys[b, s] & keys[b, t]",
            "return keys[b, s] & (t >= 0)",
            "tests/fast/test_attention.py::test_padded_values_equal_numpy_in_float64",
        ),
    ],
    "minibert/fast/attention/torch_backends.py": [
        (
            "attention: of short rows the scores are not scaled",
            "b.transpose(1, 2), beta=0, alpha=scale)",
            "b.transpose(1, 2), beta=0, alpha=1.0)",
            "tests/fast/test_attention.py::test_on_several_threads_short_rows_are_computed_by_the_formula_and_equal_it",
        ),
        (
            "attention: few rows are taken head by head in a row's order",
            "torch.stack([answer.transpose(0, 1) for answer in answers])",
            "torch.stack(answers).unflatten(1, (-1, q.shape[1])).flatten(1, 2)",
            "tests/fast/test_attention.py::test_on_several_threads_short_rows_are_computed_by_the_formula_and_equal_it",
        ),
        (
            "attention: the formula with gradients too",
            "        and not torch.is_grad_enabled()\n        and torch.get_num_threads() > 1",
            "        and torch.get_num_threads() > 1",
            "tests/fast/test_attention.py::test_elsewhere_pytorch_chooses_the_kernel",
        ),
        (
            "sdpa: packed answers stay sorted by length",
            "index_copy(0, rows, out) if first else out.index_select(0, back)",
            "index_copy(0, rows, out) if first else out",
            "tests/fast/test_attention.py::test_packed_values_equal_numpy_in_float64",
        ),
        (
            "packed: [CLS] attends in the order of lengths",
            "return torch.empty_like(out).index_copy(0, rows, out) if first else",
            "return out if first else",
            "tests/core/test_model.py::test_rows_may_come_in_any_order",
        ),
        (
            "dropout: probabilities are not made up for",
            "v / share  # fewer",
            "v  # fewer",
            "tests/fast/test_dropout.py"
            "::test_packed_attention_drops_probabilities_as_the_formula_says_forward_and_backward",
        ),
        (
            "dropout: all groups keep the first one's",
            "masks = stays.split(sizes)",
            "masks = [stays[:size] for size in sizes]",
            "tests/fast/test_dropout.py"
            "::test_packed_attention_drops_probabilities_as_the_formula_says_forward_and_backward",
        ),
    ],
    "minibert/fast/attention/triton_kernel.py": [
        (
            "triton: a long row's answer is not divided by its sum",
            "store(out + at_out, start, n, H * D, o * share[:, None], TILE, D)",
            "store(out + at_out, start, n, H * D, o, TILE, D)",
            "tests/fast/test_triton.py::test_output_and_gradients_equal_float64",
        ),
        (
            "triton: keys of the next row in the last step",
            "whole = n // STEP * STEP",
            "whole = (n + STEP - 1) // STEP * STEP",
            "tests/fast/test_triton.py::test_output_and_gradients_equal_float64",
        ),
        (
            "triton: what was added up before a larger score is not made smaller",
            "l = l * shrink + tl.sum(p, 1)",
            "l = l + tl.sum(p, 1)",
            "tests/fast/test_triton.py::test_output_and_gradients_equal_float64",
        ),
        (
            "triton: keys of the next row in a short one",
            's = tl.where(keys[None, :] < n, dot(q_tile, tl.trans(k_tile)), float("-inf"))',
            "s = dot(q_tile, tl.trans(k_tile))",
            "tests/fast/test_triton.py::test_equal_logits_of_any_size_give_the_mean_and_finite_gradients",
        ),
        (
            "triton: keys beyond the row count in backward",
            "        p = tl.where(keys[None, :] < n, _p(q_tile, k_tile, lse_tile, scale), 0.0)  # [TILE, STEP]",
            "        p = _p(q_tile, k_tile, lse_tile, scale)",
            "tests/fast/test_triton.py::test_equal_logits_of_any_size_give_the_mean_and_finite_gradients",
        ),
        (
            "triton: no scale in dq",
            "    store(dq + at_out, 0, n, OUT, dq_tile * scale, TILE, D)",
            "    store(dq + at_out, 0, n, OUT, dq_tile, TILE, D)",
            "tests/fast/test_triton.py::test_a_scale_of_ones_own_is_used_in_both_directions",
        ),
        (
            "triton: backward forgets what dropout dropped",
            "            z = _z(drop, queries[None, :], keys[:, None])",
            "            z = 1.0",
            "tests/fast/test_triton.py::test_backward_drops_what_forward_dropped",
        ),
        (
            "triton: dropout of query i at key j is that of j at i",
            "place = queries.to(tl.uint32) * 0x9E3779B1 +",
            "place = queries.to(tl.uint32) * 0x85EBCA77 +",
            "tests/fast/test_triton.py::test_decisions_of_dropout_do_not_know_of_their_neighbours",
        ),
        (
            "triton: all heads drop the same",
            "tl.philox(tl.load(seed), row, head, 0, 0)",
            "tl.philox(tl.load(seed), row, 0, 0, 0)",
            "tests/fast/test_triton.py::test_dropout_keeps_its_share_and_is_another_for_each_row_head_and_seed",
        ),
        (
            "triton: the next row is read as this one's",
            "return tl.load(at) if WHOLE else tl.load(at, mask=inside, other=0.0)",
            "return tl.load(at)",
            "tests/fast/test_triton.py::test_nan_stays_in_its_row",
        ),
    ],
    "minibert/fast/attention/triton_launch.py": [
        (
            "triton: lengths of a variant that is left out have none",
            "            found.append((variant, longer_than))\n            longer_than",
            "            found.append((variant, longer_than))\n        if variant[:2] == (head_size, element_size):\n"
            "            longer_than",
            "tests/fast/test_triton.py::test_every_length_has_exactly_one_variant_of_a_direction",
        ),
        (
            "triton: tokens that lie at odd places are read as they lie",
            "return x.stride()[1:] == (x.shape[2], 1) and x.stride(0) % 16 == 0 and x.data_ptr() % 16 == 0",
            "return x.stride()[1:] == (x.shape[2], 1)",
            "tests/fast/test_triton.py::test_kernels_are_given_nothing_that_is_not_aligned",
        ),
        (
            "triton: dropout drops the same in every step",
            "seed = torch.randint(2**31 - 1, (1,), dtype=torch.int32, device=q.device)",
            "seed = torch.zeros(1, dtype=torch.int32, device=q.device)",
            "tests/fast/test_triton.py::test_dropout_is_drawn_from_torchs_generator",
        ),
    ],
    "minibert/fast/loading.py": [
        (
            "loading: weights that do not fit are not explained",
            "    with explained(directory):\n",
            "    if True:\n",
            "tests/core/test_checkpoint.py::test_a_robertas_name_is_no_wrapper",
        ),
        (
            "loading: a config is not explained",
            "    with explained(Path(path)):\n",
            "    if True:\n",
            "tests/io/test_diagnosis.py::test_a_config_is_read_with_the_same_words",
        ),
    ],
    "minibert/fast/layout.py": [
        (
            "packed: positions count through the batch",
            "        return self.position_ids\n",
            "        return torch.arange(len(input_ids))\n",
            "tests/core/test_model.py::test_a_packed_batch_equals_transformers_and_our_padded_one",
        ),
        (
            "packed: the residual of [CLS] is another token's",
            "return x.index_select(0, self.firsts) if last and self.first_only else x",
            "return x.index_select(0, (self.firsts + 1).clamp(max=len(x) - 1)) if last and self.first_only else x",
            "tests/core/test_model.py::test_the_first_tokens_alone_are_those_of_the_whole_batch",
        ),
        (
            "layout: columns count through the batch",
            "return np.stack([rows, np.arange(len(rows)) - starts(counts)[rows]])",
            "return np.stack([rows, np.arange(len(rows))])",
            "tests/fast/test_layout.py::test_the_tensors_are_those_of_the_picture",
        ),
        (
            "layout: every bucket has all longer rows",
            "(lengths[rows] <= (lengths.max() if up_to is None else up_to))",
            "(lengths[rows] <= lengths.max())",
            "tests/fast/test_layout.py::test_tiles_of_a_bucket_hold_its_rows_alone",
        ),
        (
            "layout: padding is not cleared",
            "x = x.new_zeros(B * S, *x.shape[1:])",
            "x = x.new_ones(B * S, *x.shape[1:])",
            "tests/fast/test_layout.py::test_pad_brings_back_what_pack_took_and_zeros_elsewhere",
        ),
        (
            "layout: a rectangle narrower than its longest row",
            "if (width := longest if width is None else width) < longest:\n",
            "if (width := longest if width is None else width) < 0:\n",
            "tests/fast/test_layout.py::test_impossible_lengths_are_named",
        ),
    ],
    "minibert/fast/prepacked.py": [
        (
            "prepacked: no layer is known to be the last",
            "last=layer is encoder.layers[-1])",
            "last=False)",
            "tests/fast/test_prepacked.py::test_texts_of_any_length_have_their_answers_whatever_is_filled_up",
        ),
        (
            "prepacked: the zeros below a sentence stay",
            "return products.cut(self.norm(self.output(products.filled(context), plus=rows)), asking)",
            "return self.norm(self.output(products.filled(context), plus=rows))",
            "tests/fast/test_prepacked.py::test_texts_of_any_length_have_their_answers_whatever_is_filled_up",
        ),
        (
            "prepacked: keys for queries",
            "q, k, v = products.cut(self.inputs[0](rows), x).chunk(3, -1)",
            "k, q, v = products.cut(self.inputs[0](rows), x).chunk(3, -1)",
            "tests/fast/test_prepacked.py::test_a_prepacked_model_answers_as_it_did",
        ),
        (
            "prepacked: relu is left out",
            "return y if act is None or act in products.ACTIVATIONS else activation(act, y)",
            "return y",
            "tests/fast/test_prepacked.py::test_a_prepacked_model_answers_as_it_did",
        ),
        (
            "prepacked: a layer with hooks is taken too",
            "if not all(map(joinable, linears)):",
            "if False:",
            "tests/fast/test_prepacked.py::test_elsewhere_a_layer_stays_as_it_is",
        ),
        (
            "prepacked: gradients are lost without a word",
            "if x.requires_grad and torch.is_grad_enabled():",
            "if False:",
            "tests/fast/test_prepacked.py::test_what_needs_the_weights_is_refused_in_a_line_with_the_remedy",
        ),
    ],
    "minibert/fast/products.py": [
        (
            "products: every kernel there was is kept",
            '"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "24"',
            '"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "1024"',
            "tests/fast/test_products.py::test_only_a_few_kernels_are_kept_however_many_numbers_of_rows_there_were",
        ),
        (
            "products: a sentence of every length has kernels of its own",
            "if x.dim() == 2 and len(x) <= FEW",
            "if x.dim() == 2 and len(x) <= 0",
            "tests/fast/test_products.py::test_sentences_of_nearly_one_length_share_their_kernels",
        ),
        (
            "products: the zeros below a sentence stay",
            "    return y if len(y) == len(x) else y[: len(x)]",
            "    return y",
            "tests/fast/test_products.py::test_a_product_and_its_activation_are_those_of_linear",
        ),
        (
            "products: the gradient of x is made by the weight unturned",
            "dx = OPERATOR(g, weight.t(), None",
            "dx = OPERATOR(g, weight.t().contiguous().view(weight.shape).t(), None",
            "tests/fast/test_products.py::test_gradients_are_those_of_linear_and_no_others_are_made",
        ),
        (
            "products: GELU by tanh for GELU by erf",
            '"gelu": ("gelu", "none")',
            '"gelu": ("gelu", "tanh")',
            "tests/fast/test_products.py::test_a_product_and_its_activation_are_those_of_linear",
        ),
        (
            "products: operations are passed over where they are counted",
            "        and not torch._C._len_torch_dispatch_stack()",
            "",
            "tests/fast/test_products.py::test_elsewhere_it_is_linear_itself",
        ),
        (
            "products: relu makes 0 of what is no number",
            '    "gelu": ("gelu", "none"),\n',
            '    "relu": ("relu", ""),\n    "gelu": ("gelu", "none"),\n',
            "tests/fast/test_products.py::test_no_activation_hides_what_is_no_number",
        ),
        (
            "products: vmap is passed over",
            "        and torch._C._functorch.maybe_current_level() is None\n",
            "",
            "tests/fast/test_products.py::test_elsewhere_it_is_linear_itself",
        ),
        (
            "products: a tangent is lost",
            "        and forward_ad._current_level < 0\n",
            "",
            "tests/fast/test_products.py::test_elsewhere_it_is_linear_itself",
        ),
        (
            "products: autocast is passed over",
            '        and not torch.is_autocast_enabled("cpu")\n',
            "",
            "tests/fast/test_products.py::test_elsewhere_it_is_linear_itself",
        ),
    ],
    "minibert/fast/twins.py": [
        (
            "prepare: a sum passes over what is attached to the Linear",
            "    if still and joinable(part.output):",
            "    if still:",
            "tests/fast/test_prepare.py::test_what_is_attached_shows_in_packed_rows_as_in_padded_ones",
        ),
        (
            "prepare: dropout before a sum is lost",
            "    still = untouched(part.dropout, nn.Dropout) and not (part.dropout.training and part.dropout.p)\n",
            "    still = untouched(part.dropout, nn.Dropout)\n",
            "tests/fast/test_prepare.py::test_cheap_dropout_of_packed_rows_keeps_its_share_and_the_mean",
        ),
        (
            "prepare: a twin has a state of its own",
            "return _object(twin, vars(model))",
            "return _object(twin, dict(vars(model)))",
            "tests/fast/test_prepare.py::test_train_of_either_begins_every_dropout_in_both",
        ),
        (
            "prepare: the model itself is exchanged",
            "    return _object(type(model), {",
            "    model._modules.update(children)\n    return _object(type(model), {",
            "tests/fast/test_prepare.py::test_the_model_itself_stays_plain",
        ),
        (
            "prepare: what is attached to a Linear is passed over",
            "    if joinable(linear):\n        own",
            "    if True:\n        own",
            "tests/fast/test_prepare.py::test_what_is_attached_shows_in_packed_rows_as_in_padded_ones",
        ),
        (
            "packed: keys and values change places",
            "q, (k, v) = applied(self.query, asking), project(",
            "q, (v, k) = applied(self.query, asking), project(",
            "tests/fast/test_prepare.py::test_a_prepared_model_gives_the_same_values_of_packed_rows",
        ),
        (
            "packed: as many as all are taken for all in their order",
            "if asking is x:",
            "if len(asking) == len(x):",
            "tests/fast/test_prepare.py::test_a_batch_of_ones_own_may_ask_in_any_order",
        ),
        (
            "prepare: backward hooks are no hooks",
            '        and not (state["_backward_hooks"] or state["_backward_pre_hooks"])\n',
            "",
            "tests/fast/test_prepare.py::test_a_backward_hook_changes_packed_gradients_as_padded_ones",
        ),
        (
            "prepare: hooks of all modules are no hooks",
            "and not every_module._has_any_global_hook()",
            "",
            "tests/fast/test_prepare.py::test_a_global_hook_sees_every_linear_of_packed_rows",
        ),
        (
            "prepare: a weight of any kind is joined",
            'type(own.get("weight")) is type(own.get("bias")) is nn.Parameter',
            'own.get("bias") is not None',
            "tests/fast/test_prepare.py::test_what_is_attached_shows_in_packed_rows_as_in_padded_ones",
        ),
        (
            "prepare: a dropout's hook is passed over",
            "if cheap and part.dropout.training and untouched(part.dropout, nn.Dropout):",
            "if cheap and part.dropout.training:",
            "tests/fast/test_prepare.py::test_a_global_hook_sees_every_linear_of_packed_rows",
        ),
    ],
    "minibert/fast/replay.py": [
        (
            "replay: rows without tokens reach over the others",
            "put(room.cu_seqlens, layout.cu_seqlens, len(batch.input_ids))",
            "put(room.cu_seqlens, layout.cu_seqlens)",
            "tests/fast/test_replay.py::test_batches_of_any_lengths_fit_into_one_recording",
        ),
        (
            "replay: what a batch lacks has label 0",
            'EMPTY = {"labels": -100, "is_random": -100}',
            'EMPTY = {"labels": 0, "is_random": 0}',
            "tests/fast/test_replay.py::test_batches_of_any_lengths_fit_into_one_recording",
        ),
        (
            "replay: no room for the last tile of a row",
            "else tokens // tile + longer",
            "else tokens // tile",
            "tests/fast/test_replay.py::test_a_recording_has_room_for_the_tiles_of_any_batch",
        ),
        (
            "replay: there is room for batches like the first alone",
            "batch._replace(layout=layout, **fields)",
            "batch._replace(layout=layout)",
            "tests/fast/test_replay.py::test_batches_of_any_lengths_fit_into_one_recording",
        ),
    ],
    "minibert/fast/old_arguments.py": [
        (
            "models: layout= is quiet",
            "DeprecationWarning, stacklevel=4",
            "PendingDeprecationWarning, stacklevel=4",
            "tests/test_old_names.py::test_layout_is_batch_under_its_old_name",
        ),
        (
            "models: first= of the old encoder is lost",
            "first_only=first or layout.first_only",
            "first_only=layout.first_only",
            "tests/test_old_names.py::test_first_asks_the_encoder_for_the_first_tokens_alone",
        ),
    ],
}
