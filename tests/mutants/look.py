"""Mutations of capture, analysis, the page, parity."""

MUTATIONS = {
    "minibert/look/activations.py": [
        (
            "capture: a classifier's last layer for [CLS] alone",
            "return batch.asking(Layer.forward(layer, x, batch), last)",
            "return Layer.forward(layer, x, batch, last)",
            "tests/look/test_activations.py::test_where_first_tokens_alone_are_wanted_the_answer_keeps_its_shape",
        ),
        (
            "capture: probabilities of padding queries in a packed batch",
            "if packed and mask.keys is not None:",
            "if False:",
            "tests/look/test_activations.py::test_nobody_asks_for_the_padding_of_a_packed_batch",
        ),
        (
            "capture: scores recomputed in half precision",
            "if fused and q.dtype != torch.float64:",
            "if False:",
            "tests/look/test_activations.py"
            "::test_half_precision_passes_the_check_and_fused_kernels_probabilities_are_exact",
        ),
        (
            "capture: the formula is not compared",
            "    assert same, f",
            "    assert True, f",
            "tests/look/test_activations.py::test_a_backend_that_differs_from_the_formula_is_noticed",
        ),
        (
            "capture: padding is compared too",
            "    if isinstance(batch, Padded) and batch.keys is not None:\n        ours, theirs",
            "    if False:\n        ours, theirs",
            "tests/look/test_activations.py::test_every_number_of_a_padded_batch_of_pairs_equals_the_reference",
        ),
        (
            "capture: the formula draws random numbers of the forward pass",
            "v[rows, :, :n], part, packed, keep)",
            "v[rows, :, :n], part, packed, keep, 0.1)",
            "tests/look/test_activations.py::test_looking_changes_no_digit_and_no_random_number_in_training",
        ),
        (
            "capture: the graph is kept without being asked for",
            "self.captured[name] = x if self.replaces else x.detach()",
            "self.captured[name] = x",
            "tests/look/test_activations.py::test_without_grad_what_was_seen_holds_no_graph",
        ),
        (
            "capture: a head beside the graph, without a gradient",
            "heads[place.head] is before and not before.requires_grad",
            "heads[place.head] is before",
            "tests/look/test_activations.py::test_gradients_are_those_of_autograd_and_the_parameters_keep_theirs",
        ),
        (
            "lesson: a bug stays where its method was inherited",
            "delattr(owner, name) if inherited else setattr(owner, name, before)",
            "setattr(owner, name, before)",
            "tests/check/test_course.py::test_nothing_of_a_bug_stays_not_even_after_an_exception",
        ),
        (
            "capture: hooks stay",
            "hooked(name, place, self.tap, self.encoder.config.head_size).remove)",
            "hooked(name, place, self.tap, self.encoder.config.head_size).__repr__)",
            "tests/look/test_activations.py::test_a_block_leaves_nothing_on_the_model",
        ),
        (
            "capture: compiled code runs without hooks",
            "    if module._compiled_call_impl is not None:",
            "    if False:",
            "tests/look/test_activations.py"
            "::test_a_compiled_model_is_looked_into_uncompiled_and_is_compiled_again_afterwards",
        ),
        (
            "intervene: the fast backend's context is kept",
            "    replaces = any(block.replaces for block in blocks)",
            "    replaces = False",
            "tests/look/test_activations.py::test_a_changed_number_counts_with_every_backend",
        ),
        (
            "intervene: those who look come first",
            "key=lambda block: isinstance(block, Capture))",
            "key=lambda block: isinstance(block, Intervention))",
            "tests/look/test_activations.py"
            "::test_a_capture_sees_what_the_model_goes_on_with_whichever_block_stands_outside",
        ),
        (
            "intervene: the next head",
            'Place(attention.output, "head", h) for h in',
            'Place(attention.output, "head", h - 1) for h in',
            "tests/look/test_activations.py::test_ablating_a_head_is_zeroing_its_columns_of_the_output_projection",
        ),
        (
            "capture: a row with holes is cut after its number of tokens",
            "part.keys[0, : part.keys.sum()].all():",
            "True:",
            "tests/look/test_activations.py::test_masks_with_holes_and_rows_without_a_token_are_looked_into",
        ),
    ],
    "minibert/look/analysis.py": [
        (
            "rollout: layers in the wrong order",
            "reached.append(layer @ reached[-1])",
            "reached.append(reached[-1] @ layer)",
            "tests/look/test_analysis.py::test_rollout_by_hand",
        ),
        (
            "head contributions: copies and rows mixed up",
            "without.repeat_interleave(B, dim=0)",
            "without.repeat(B, 1)",
            "tests/look/test_analysis.py::test_a_heads_contribution_is_what_is_lost_without_it",
        ),
        (
            "gradient × input: the gradient alone",
            "(gradient * x).detach()",
            "gradient.detach()",
            "tests/look/test_analysis.py"
            "::test_gradient_times_input_is_the_slope_when_a_token_fades_and_leaves_the_parameters_alone",
        ),
        (
            "heads' gradients summed over the wrong axis",
            ".sum(dim=(1, 3)).T",
            ".sum(dim=(1, 2))[:, :H].T",
            "tests/look/test_explain.py::test_a_heads_gradient_is_the_slope_when_it_fades",
        ),
    ],
    "minibert/look/explanation.py": [
        (
            "explain: two write one page",
            "    with held(path):",
            "    if path:",
            "tests/look/test_explain.py::test_a_page_that_another_process_writes_is_refused",
        ),
        (
            "explain: a score by itself is compared with the others",
            'if activation != "softmax":',
            'if activation == "none":',
            "tests/look/test_explain.py::test_contributions_to_a_label_by_itself_are_of_its_logit",
        ),
        (
            "explain: the target is not measured",
            "best[0] if target is None else names.index(target)",
            "best[0]",
            "tests/look/test_explain.py::test_a_target_is_measured_and_said_in_the_place_of_the_best_label",
        ),
        (
            "explain: every head is a softmax",
            "ACTIVATIONS[activation_for(model)](logits.float())",
            'ACTIVATIONS["softmax"](logits.float())',
            "tests/look/test_explain.py::test_one_score_is_not_a_softmax_of_itself",
        ),
        (
            "explain: a head that nobody has trained is explained",
            "fresh_heads=False, mapped=True",
            "mapped=True",
            "tests/look/test_explain.py::test_no_label_is_explained_of_a_head_that_is_not_for_texts",
        ),
        (
            "the answer's logit alone is explained",
            "return found[:, chosen] - found.mean(dim=1)",
            "return found[:, chosen]",
            "tests/look/test_explain.py::test_contributions_are_of_the_answers_logit_above_the_mean",
        ),
        (
            "the masked LM's answer read at the last mask",
            "int(masked.argmax())",
            "int(masked.nonzero()[0][-1])",
            "tests/look/test_explain.py::test_the_answer_of_a_masked_lm_is_at_its_first_mask_and_the_lens_ends_there",
        ),
        (
            "explaining leaves the model in eval mode",
            "        model.train(training)\n",
            "        pass\n",
            "tests/look/test_explain.py::test_the_model_is_left_as_it_was",
        ),
    ],
    "minibert/look/page.py": [
        (
            "texts can end the page's script",
            're.sub("[<>&',
            're.sub("[>&',
            "tests/look/test_explain.py::test_no_text_breaks_or_scripts_the_page",
        ),
        (
            "the page runs any script",
            "script-src '{fingerprint(script)}'",
            "script-src 'unsafe-inline'",
            "tests/look/test_explain.py::test_no_text_breaks_or_scripts_the_page",
        ),
        (
            "the page leaves probabilities out where room is short",
            "if part <= 1 or len(data) <= room:",
            "if len(data) <= room:",
            "tests/look/test_explain.py::test_where_room_is_short_numbers_are_rounded_and_then_left_out",
        ),
        (
            "bytes on the page wrap around",
            "largest, 1) * 127)",
            "largest, 1) * 128)",
            "tests/look/test_explain.py::test_a_byte_is_a_share_of_the_largest_number_in_its_row",
        ),
    ],
    "minibert/look/parity.py": [
        (
            "parity: what stands at padding is compared",
            "        stage = stage[real]\n",
            "        pass\n",
            "tests/look/test_parity.py::test_what_a_backend_gives_at_padding_does_not_count",
        ),
        (
            "parity: hooks stay on transformers' model",
            "module.register_forward_hook(partial(keep, stage)).remove)",
            "module.register_forward_hook(partial(keep, stage)).__repr__)",
            "tests/look/test_parity.py::test_recording_leaves_no_hook_behind",
        ),
        (
            "parity: what modules of transformers take is not compared",
            'seen[f"{part}.{taken}"] = inputs[0]',
            "pass",
            "tests/look/test_parity.py::test_of_transformers_all_is_compared_but_what_it_does_not_show",
        ),
        (
            "parity: a head that was drawn for it is compared",
            "attention=who, fresh_heads=False)",
            "attention=who)",
            "tests/io/test_diagnosis.py::test_parity_compares_no_classifier_that_was_drawn_for_it",
        ),
        (
            "parity: what transformers does not show counts as equal",
            "{who: largest(seen[stage] - value, real)} if stage in seen else {}",
            "{who: largest(seen.get(stage, value) - value, real)}",
            "tests/look/test_parity.py::test_of_transformers_all_is_compared_but_what_it_does_not_show",
        ),
        (
            "parity: NaN passes",
            "and not difference <= rung.limit  #",
            "and difference > rung.limit  #",
            "tests/look/test_parity.py::test_nan_is_a_failure",
        ),
        (
            "parity: only the last length counts",
            "float(np.maximum(difference, into.differences.get(who, 0)))",
            "float(difference)",
            "tests/look/test_parity.py::test_the_worst_of_all_lengths_counts",
        ),
        (
            "parity: length 0 is tried",
            "if not all(1 <= length <= limit for",
            "if not all(length <= limit for",
            "tests/look/test_parity.py::test_impossible_lengths_are_named",
        ),
    ],
    "minibert/look/wordpiece_trace.py": [
        (
            "a word's spans counted from itself",
            "zip(unit, range(begin, end), strict=True)",
            "zip(unit, range(len(unit)), strict=True)",
            "tests/look/test_explain.py::test_the_traced_pieces_are_those_of_the_tokenizer",
        ),
        (
            "an unknown word's attempts end where one was found",
            "if len(ends) != len(pieces) or (ends and ends[-1] != len(recording.asked)):",
            "if len(ends) != len(pieces):",
            "tests/look/test_explain.py::test_an_unknown_word_shows_all_that_was_tried",
        ),
    ],
}
