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
        (
            "scores: predicted rows and true columns",
            "torch.bincount(truth * L + predicted,",
            "torch.bincount(predicted * L + truth,",
            "tests/inference/test_inference.py::test_scores_equal_an_example_by_hand",
        ),
        (
            "scores: F1 of a class that never occurs is no number",
            ".clamp(min=1)\n    accuracy",
            "\n    accuracy",
            "tests/inference/test_inference.py::test_a_class_that_never_occurs_counts_as_zero_in_macro_f1",
        ),
    ],
    "minibert/inference/jobs.py": [
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
