"""Mutations of texts in, answers out."""

MUTATIONS = {
    "minibert/inference/fill_mask.py": [
        (
            "fill-mask: answers of another text",
            "owner = np.repeat(rows, encoding.length[rows])[masks]",
            "owner = np.repeat(np.sort(rows), encoding.length[rows])[masks]",
            "tests/inference/test_fill_mask.py::test_answers_are_those_of_transformers",
        ),
        (
            "fill-mask: texts longer than the model are not refused",
            "        if length > max_length:\n",
            "        if length > max_length + 1_000:\n",
            "tests/inference/test_fill_mask.py::test_mistakes_cost_one_line",
        ),
        (
            "fill-mask: rows without a token are offered",
            "[:, : tokenizer.vocab_size]",
            "",
            "tests/inference/test_fill_mask.py::test_rows_without_a_token_are_never_an_answer",
        ),
        (
            "fill-mask: more answers are asked for than there are tokens",
            ".topk(min(options.top_k, tokenizer.vocab_size), dim=1)",
            ".topk(options.top_k, dim=1)",
            "tests/inference/test_fill_mask.py::test_there_are_no_more_answers_than_tokens",
        ),
    ],
    "minibert/inference/sentence_files.py": [
        (
            "sentences: a step that is not followed is passed over",
            '        if kind != wanted:\n            raise ValueError(f"{path}: step',
            '        if False:\n            raise ValueError(f"{path}: step',
            "tests/inference/test_text_encoder.py::test_a_pooling_that_is_not_followed_is_named_and_the_remedy_works",
        ),
        (
            "sentences: a foreign class counts by its last name",
            'kind.rpartition(".")[2] if own else kind,',
            'kind.rpartition(".")[2],',
            "tests/inference/test_text_encoder.py::test_a_pooling_that_is_not_followed_is_named_and_the_remedy_works",
        ),
        (
            "sentences: the flags of older releases are not read",
            'said = [flags.get(key, key) for key in on] or ["mean"]',
            'said = ["mean"]',
            "tests/inference/test_text_encoder.py::test_flags_of_older_releases_say_the_same",
        ),
        (
            "sentences: of several poolings the first is taken",
            "    if len(modes) != 1:\n",
            "    if not modes:\n",
            "tests/inference/test_text_encoder.py::test_a_pooling_that_is_not_followed_is_named_and_the_remedy_works",
        ),
        (
            "sentences: max_seq_length is not read",
            'length, lowercase = found.get("max_seq_length"), ',
            "length, lowercase = None, ",
            "tests/inference/test_text_encoder.py::test_a_max_seq_length_goes_before_what_the_tokenizer_says",
        ),
        (
            "sentences: a normalisation of tokens counts as one of texts",
            '"Normalize": NORMALIZE,',
            '"Normalize": {},',
            "tests/inference/test_text_encoder.py::test_a_setting_that_is_not_followed_costs_one_line_with_the_file_and_the_value",
        ),
        (
            "sentences: the modules of a cross-encoder are asked for a pooling",
            'if settings.get("model_type") == "CrossEncoder":',
            "if False:",
            "tests/inference/test_text_encoder.py::test_a_cross_encoders_directory_says_nothing_of_vectors",
        ),
        (
            "sentences: a path leads out of the directory",
            ' or ".." in Path(place).parts:',
            ":",
            "tests/inference/test_text_encoder.py::test_a_setting_that_is_not_followed_costs_one_line_with_the_file_and_the_value",
        ),
        (
            "sentences: a prompt is applied that the pooling leaves out",
            '{"include_prompt": (True,)} if prompt else {}',
            "{}",
            "tests/inference/test_text_encoder.py::test_a_prompt_that_the_pooling_leaves_out_is_refused",
        ),
    ],
    "minibert/inference/text_encoder.py": [
        (
            "sentences: lowercasing takes the accents too",
            "bool(tokenizer.strip_accents)",
            "tokenizer.strip_accents",
            "tests/inference/test_text_encoder.py::test_lowercasing_takes_the_case_and_leaves_the_accents",
        ),
        (
            "sentences: --no-normalize does not go before the files",
            "encoder.normalize = said.normalize if normalize is None else normalize",
            "encoder.normalize = said.normalize or normalize",
            "tests/inference/test_text_encoder.py::test_options_go_before_the_files",
        ),
        (
            "sentences: the prompt is left out",
            "        if self.prompt:\n            texts",
            "        if False:\n            texts",
            "tests/inference/test_text_encoder.py::test_the_default_prompt_stands_before_every_text",
        ),
        (
            "sentences: weights of the weighted mean begin at 0",
            "(layout.position_ids[:, None] + 1).float()",
            "(layout.position_ids[:, None]).float()",
            "tests/inference/test_text_encoder.py::test_vectors_are_those_of_sentence_transformers_for_every_pooling",
        ),
        (
            "sentences: the last token is the first of the next row",
            "layout.cu_seqlens[1:].long() - 1)",
            "layout.cu_seqlens[:-1].long())",
            "tests/inference/test_text_encoder.py::test_vectors_are_those_of_sentence_transformers_for_every_pooling",
        ),
        (
            "sentences: vectors in the order of lengths",
            "vectors[rows] = (hidden",
            "vectors[sorted(rows)] = (hidden",
            "tests/inference/test_text_encoder.py::test_vectors_are_those_of_sentence_transformers_for_every_pooling",
        ),
        (
            "sentences: the length that is read is not saved",
            "self.normalize, self.max_length, self.prompt, E",
            "self.normalize, 512, self.prompt, E",
            "tests/inference/test_text_encoder.py::test_sentence_transformers_loads_what_is_saved_with_equal_vectors",
        ),
    ],
    "minibert/io/bundled.py": [
        (
            "sentences: what sentence-transformers adds is not fetched",
            "    PATTERNS.extend(SENTENCES)\n",
            "",
            "tests/inference/test_text_encoder.py::test_what_sentence_transformers_adds_to_a_model_is_fetched_from_the_hub",
        ),
        (
            "sentences: a model is not looked for in its folder",
            "return folders[0] if inside else directory",
            "return directory",
            "tests/inference/test_text_encoder.py::test_a_classifier_is_trained_from_the_model_in_its_folder",
        ),
    ],
    "minibert/inference/text_models.py": [
        (
            "inference: a device is not tried",
            "        torch.empty(0, device=device)\n",
            "",
            "tests/inference/test_inference.py::test_a_device_that_is_not_here_is_refused_in_one_line",
        ),
        (
            "inference: dropout stays on",
            "self.model = model.to(self.device).eval()",
            "self.model = model.to(self.device)",
            "tests/inference/test_inference.py::test_a_classifier_answers_without_dropout",
        ),
        (
            "inference: answers in the order of lengths",
            "logits[rows] = model(",
            "logits[sorted(rows)] = model(",
            "tests/inference/test_inference.py::test_logits_come_in_the_order_of_the_texts_whatever_the_batches",
        ),
        (
            "inference: more tokens of a text than in training",
            "return self.tokens_read(self.tokenizer.model_max_length)",
            "return self.config.max_position_embeddings",
            "tests/inference/test_inference.py::test_as_many_tokens_of_a_text_are_read_as_in_training",
        ),
    ],
    "minibert/inference/scores.py": [
        (
            "scores: predicted rows and true columns",
            "torch.bincount(truth * L + predicted,",
            "torch.bincount(predicted * L + truth,",
            "tests/inference/test_scores.py::test_scores_equal_an_example_by_hand",
        ),
        (
            "scores: F1 of a class that never occurs is no number",
            ".clamp(min=1)\n    accuracy",
            "\n    accuracy",
            "tests/inference/test_scores.py::test_a_class_that_never_occurs_counts_as_zero_in_macro_f1",
        ),
        (
            "scores: F1 of all answers together is the mean of the labels'",
            "micro_f1=(2 * hits.sum() / sums.sum().clamp(min=1)).item()",
            "micro_f1=(2 * hits / sums.clamp(min=1)).mean().item()",
            "tests/inference/test_scores.py::test_scores_of_several_labels_equal_an_example_by_hand",
        ),
        (
            "scores: one right label of a row is enough",
            "right.all(dim=1)",
            "right.any(dim=1)",
            "tests/inference/test_scores.py::test_scores_of_several_labels_equal_an_example_by_hand",
        ),
        (
            "scores: equal numbers have the rank of the last",
            "np.cumsum(counts) - (counts - 1) / 2",
            "np.cumsum(counts)",
            "tests/inference/test_scores.py::test_equal_numbers_share_their_rank",
        ),
        (
            "scores: a correlation without a spread is 0 / 0",
            "if (x == x[0]).all() or (y == y[0]).all():",
            "if False:",
            "tests/inference/test_scores.py"
            "::test_a_correlation_with_numbers_that_are_all_equal_is_undefined_and_null_in_json",
        ),
    ],
    "minibert/inference/answers.py": [
        (
            "answers: a CrossEncoder's length is not read",
            "        tokenizer.model_max_length = length\n",
            "",
            "tests/inference/test_answers.py::test_as_many_tokens_are_read_as_a_cross_encoders_files_say",
        ),
        (
            "answers: one label is a softmax of itself",
            'return "sigmoid" if task == "multi-label" or config.num_labels == 1 else "softmax"',
            'return "sigmoid" if task == "multi-label" else "softmax"',
            "tests/inference/test_answers.py::test_the_config_says_task_and_activation",
        ),
        (
            "answers: a regression's score goes through a sigmoid",
            '        if config.problem_type == "regression":\n            return "none"\n',
            "",
            "tests/inference/test_answers.py::test_the_config_says_task_and_activation",
        ),
        (
            "answers: a label of probability 0.5 is left out",
            "(shares >= THRESHOLD)",
            "(shares > THRESHOLD)",
            "tests/inference/test_answers.py::test_several_labels_are_all_of_probability_one_half_and_more_in_the_order_of_the_ids",
        ),
        (
            "answers: the most certain decision counts",
            ".amin(dim=1)",
            ".amax(dim=1)",
            "tests/inference/test_answers.py::test_the_value_of_several_labels_is_the_probability_of_the_least_certain_decision",
        ),
        (
            "answers: a CrossEncoder's own file is not read",
            'return with_activation(config, values["activation_fn"])',
            "return config",
            "tests/inference/test_answers.py::test_what_a_cross_encoder_saves_is_answered_as_it_does",
        ),
        (
            "answers: a regression is saved as a CrossEncoder's sigmoid",
            "return with_activation(config, CROSS_ENCODERS[activation]) if differs else config",
            "return config",
            "tests/inference/test_answers.py::test_a_cross_encoder_loads_what_is_saved_and_gives_the_same",
        ),
        (
            "answers: the older field comes first",
            '    if isinstance(newer, dict) and "activation_fn" in newer:',
            '    if isinstance(newer, dict) and "activation_fn" in newer and len(config.others) == 1:',
            "tests/inference/test_answers.py::test_a_cross_encoders_own_activation_comes_first",
        ),
    ],
    "minibert/inference/jobs.py": [
        (
            "jobs: another activation goes on with a job",
            'settings["activation"] = activation',
            "pass",
            "tests/inference/test_answers.py::test_a_job_begun_with_another_activation_is_not_gone_on_with",
        ),
        (
            "jobs: a continued job reads its rows from the first",
            "            skip_done(rows, lines, output)\n",
            "",
            "tests/inference/test_jobs.py::test_a_row_mended_after_a_stop_is_gone_on_from",
        ),
        (
            "jobs: rows that the model could not answer are not counted",
            "answers[good], sorted(window.problems + lost)",
            "answers[good], window.problems",
            "tests/inference/test_jobs.py::test_rows_without_a_finite_answer_are_named_and_not_written",
        ),
        (
            "jobs: a continued job does not look whether the rows are the same",
            " or lines.digest.hexdigest() != output.done.digest):",
            "):",
            "tests/inference/test_jobs.py::test_other_rows_do_not_go_on_with_it",
        ),
        (
            "jobs: other weights go on with a job",
            'digest.update(path.name.encode() + hashlib.file_digest(file, "blake2b").digest())',
            "digest.update(path.name.encode())",
            "tests/inference/test_jobs.py::test_other_settings_do_not_go_on_with_it",
        ),
        (
            "jobs: the journal knows of answers that a power failure takes",
            "            os.fsync(self.file.fileno())\n",
            "",
            "tests/inference/test_jobs.py::test_answers_are_on_the_disk_before_the_journal_tells_of_them",
        ),
        (
            "jobs: vectors behind a row left out move up",
            "rows[np.array(numbers, np.int64) - window.begin - 1] = vectors",
            "rows[: len(numbers)] = vectors",
            "tests/inference/test_jobs.py::test_vectors_of_rows_left_out_are_nan_so_that_the_others_keep_their_place",
        ),
    ],
    "minibert/inference/options.py": [
        (
            "predict: texts beside --data are dropped",
            "if self.data is not None and self.text:",
            "if False:",
            "tests/inference/test_jobs.py::test_options_that_do_not_go_together_are_refused",
        ),
        (
            "predict: --data without --out",
            "if (self.data is None) != (self.out is None):",
            "if self.data is None and self.out is not None:",
            "tests/inference/test_jobs.py::test_options_that_do_not_go_together_are_refused",
        ),
    ],
}
