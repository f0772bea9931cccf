"""Mutations of the training engine, its tasks, their state, ranks, corpora and reports."""

MUTATIONS = {
    "minibert/text/corpus.py": [
        (
            "corpus: a file's end is no document's end",
            '        yield from lines_of(path, tell)\n    yield [""]',
            "        yield from lines_of(path, tell)",
            "tests/text/test_corpus.py::test_a_blank_line_and_the_end_of_a_file_end_a_document",
        ),
        (
            "corpus: the hash is not looked at",
            'if (a["kind"], a["sha256"]) != (b["kind"], b["sha256"])',
            'if (a["kind"], a["bytes"]) != (b["kind"], b["bytes"])',
            "tests/text/test_corpus.py::test_a_changed_corpus_is_noticed_and_said_though_size_and_date_are_the_same",
        ),
        (
            "corpus: copies of held-out documents are trained on",
            "np.unique(self.digests(), ",
            "np.unique(np.arange(len(self.documents)), ",
            "tests/text/test_corpus.py::test_documents_of_the_same_text_stand_on_one_side",
        ),
        (
            "corpus: held-out documents are counted",
            "            counts -= np.bincount(",
            "            counts -= 0 * np.bincount(",
            "tests/text/test_corpus.py::test_token_counts_leave_the_held_out_documents_out",
        ),
        (
            "corpus: two runs write into one cache",
            "with guard(cache):",
            "with nullcontext():",
            "tests/training/test_pretrain.py::test_two_runs_do_not_tokenise_into_one_cache_at_once",
        ),
    ],
    "minibert/training/engine.py": [
        (
            "seed: ranks draw the same dropout",
            "SeedSequence((seed, step, rank))",
            "SeedSequence((seed, step))",
            "tests/training/test_loop.py::test_what_dropout_draws_depends_on_seed_step_and_rank_alone",
        ),
        (
            "compile: the compiler that CXX names is not looked for",
            'os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")',
            '("clang++" if sys.platform == "darwin" else "g++")',
            "tests/training/test_loop.py::test_compiling_without_a_compiler_is_refused_before_the_first_step",
        ),
        (
            "compile: a GPU's code is compiled without Triton",
            'if importlib.util.find_spec("triton") is None:',
            'if importlib.util.find_spec("torch") is False:',
            "tests/training/test_loop.py::test_compiling_for_a_gpu_needs_triton_and_no_compiler_of_c",
        ),
        (
            "engine: accumulated batches count alike",
            "+= compute(batch, weights)",
            "+= compute(batch, weights * 0 + ranks.world / step.size / max(1, len(batch.labels)))",
            "tests/training/test_pretrain.py::test_accumulated_batches_equal_one_large_batch",
        ),
        (
            "engine: the learning rate is a step late",
            "learning_rate(step.number, task.steps",
            "learning_rate(step.number + 1, task.steps",
            "tests/training/test_pretrain.py::test_twenty_steps_equal_a_plain_transformers_loop",
        ),
        (
            "engine: dropout does not follow from the step",
            "        seed_step(options.seed, step.number, ranks.rank)\n",
            "",
            "tests/training/test_pretrain.py"
            "::test_the_same_options_give_the_same_bytes_whatever_else_draws_random_numbers",
        ),
        (
            "engine: a step goes on with what the one before it drew",
            "        seed_step(options.seed, step.number, ranks.rank)\n",
            "        pass\n",
            "tests/training/test_state.py::test_a_run_killed_at_every_place_where_it_writes_ends_with_the_same_bytes",
        ),
        (
            "engine: dropout stays off after measuring",
            "        model.train()\n",
            "",
            "tests/training/test_pretrain.py::test_measuring_more_often_changes_nothing",
        ),
        (
            "engine: zero_grad forgotten",
            "        optimizer.zero_grad(set_to_none=task.replays is None)\n",
            "",
            "tests/training/test_train.py::test_a_run_equals_a_plain_loop_over_transformers",
        ),
        (
            "engine: gradients are not clipped",
            "            nn.utils.clip_grad_norm_(model.parameters(), options.clip)",
            "            pass",
            "tests/training/test_train.py::test_gradients_are_clipped_before_every_step",
        ),
        (
            "engine: batches within a step are logged with the rate that follows",
            '[optimizer.param_groups[0]["lr"]] * (len(sums) - 1)',
            "[learning_rate(step.number, task.steps, options.lr, options.warmup)] * (len(sums) - 1)",
            "tests/training/test_train.py::test_a_batch_that_ends_no_step_is_logged_with_the_rate_of_the_step_before",
        ),
        (
            "engine: the state is saved before it is measured",
            "        if step.evaluates:\n            task.evaluate()\n        if stop",
            "        if stop",
            "tests/training/test_train.py::test_a_signal_in_the_last_step_of_an_epoch_waits_for_the_validation",
        ),
        (
            "engine: a resumed run forgets how far it was",
            "task.progress = restored(task.progress, load_state(out, ranks, task.model, task.optimizer))",
            "load_state(out, ranks, task.model, task.optimizer)",
            "tests/training/test_state.py"
            "::test_pretraining_killed_at_every_place_where_it_writes_ends_with_the_same_bytes",
        ),
        (
            "engine: texts longer than the model are not refused",
            "    if options.max_length > config.max_position_embeddings:\n",
            "    if False:\n",
            "tests/training/test_train.py::test_texts_longer_than_the_pretrained_model_goes_are_refused",
        ),
        (
            "engine: a loss that is no number goes on",
            "    if np.isfinite(loss):\n",
            "    if True:\n",
            "tests/training/test_train.py::test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_good_model",
        ),
        (
            "threads: their number stays changed",
            "        torch.set_num_threads(before)",
            "        pass",
            "tests/training/test_train.py"
            "::test_a_small_model_trains_on_one_thread_unless_told_and_the_number_is_put_back",
        ),
        (
            "threads: a small model takes all",
            "task.parameters < ONE_THREAD_BELOW",
            "task.parameters < 0",
            "tests/training/test_train.py"
            "::test_a_small_model_trains_on_one_thread_unless_told_and_the_number_is_put_back",
        ),
    ],
    "minibert/training/instances.py": [
        (
            "instances: a long sentence ends where it is cut",
            "    return np.minimum(np.where(before > begin, before, behind), begin + room)",
            "    return np.where(before > begin, before, behind)",
            "tests/training/test_instances.py"
            "::test_without_pairs_every_token_is_seen_once_and_sentences_are_whole_where_they_fit",
        ),
        (
            "instances: pieces of one sentence are not counted as random",
            "round(C / 2) - (C - len(free))",
            "round(C / 2)",
            "tests/training/test_instances.py::test_half_of_the_pairs_are_random_and_those_are_of_two_documents",
        ),
        (
            "instances: a random second sentence may be of the same large document",
            "        partner[same] = rng.choice(np.flatnonzero(pieces.document != document), len(same))",
            "        pass",
            "tests/training/test_instances.py::test_a_document_that_has_nearly_all_text_finds_a_stranger",
        ),
        (
            "instances: the number of hidden tokens is rounded up",
            "wanted[owner] - before > random[0, first_token[owner]] * ordered",
            "wanted[owner] - before > 0",
            "tests/training/test_instances.py::test_fifteen_percent_are_hidden_and_become_mask_random_or_stay",
        ),
        (
            "instances: special tokens are hidden too",
            "    real = ~tables.special[ids]",
            "    real = ids >= 0",
            "tests/training/test_instances.py::test_fifteen_percent_are_hidden_and_become_mask_random_or_stay",
        ),
        (
            "instances: random tokens are any tokens",
            "        self.choices = np.flatnonzero(~self.special & ~unused)",
            "        self.choices = np.arange(len(vocab))",
            "tests/training/test_instances.py"
            "::test_random_tokens_are_drawn_equally_from_all_but_special_and_unused_ones",
        ),
        (
            "instances: masks depend on the company",
            "counter=[0, 0, 0, row]",
            "counter=[0, 0, 0, len(drawn)]",
            "tests/training/test_instances.py::test_an_example_is_masked_the_same_in_any_company",
        ),
        (
            "instances: pieces are hidden without their word",
            "        joined[1:] = tables.continues[ids[1:]] & real[1:] & real[:-1]",
            "        joined[1:] = False",
            "tests/training/test_instances.py::test_pieces_are_hidden_with_their_word",
        ),
    ],
    "minibert/io/locks.py": [
        (
            "locks: a run's directory is gone after a power cut",
            "            sync_directory(path.parent)\n",
            "            pass\n",
            "tests/io/test_locks.py::test_the_names_of_directories_that_are_made_are_on_the_disk",
        ),
        (
            "locks: a lock that lets others in",
            "        lock.acquire(timeout=0)\n",
            "        pass\n",
            "tests/training/test_state.py::test_a_second_run_in_a_directory_is_refused_and_a_later_one_is_not",
        ),
        (
            "locks: a mistake leaves a directory above its own",
            "(directory, *directory.parents)",
            "(directory,)",
            "tests/training/test_train.py::test_a_mistake_leaves_no_directory",
        ),
    ],
    "minibert/io/signals.py": [
        (
            "signals: nohup is of no use",
            " and signal.getsignal(SIGHUP) is not signal.SIG_IGN:",
            ":",
            "tests/training/test_loop.py::test_a_run_under_nohup_goes_on_when_its_terminal_is_closed",
        ),
        (
            "signals: the second is like the first",
            "        if self.requested:\n",
            "        if False:\n",
            "tests/training/test_loop.py::test_the_second_signal_stops_at_once",
        ),
    ],
    "minibert/training/pretraining.py": [
        (
            "pretrain: dropout stays on while measuring",
            "        self.model.eval()\n        for rows in token_chunks",
            "        for rows in token_chunks",
            "tests/training/test_pretrain.py::test_held_out_scores_are_those_of_transformers",
        ),
        (
            "pretrain: ranks do not know of each other's hidden tokens",
            "        return counts\n",
            "        return [hidden, pairs]\n",
            "tests/training/test_ranks.py::test_two_processes_are_one",
        ),
        (
            "pretrain: an epoch's last batch is left out",
            "if progress.batch == len(order):",
            "if progress.batch >= len(order) - 1:",
            "tests/training/test_pretrain.py::test_no_position_and_no_epoch_is_left_out",
        ),
        (
            "pretrain: a rank without examples trains on another's",
            "return made if len(mine) else made.without_answers()",
            "return made",
            "tests/training/test_ranks.py::test_two_processes_are_one",
        ),
        (
            "pretrain: each rank sees all examples",
            "mine = self.ranks.own_rows(rows, planned.lengths)",
            "mine = rows",
            "tests/training/test_ranks.py::test_two_processes_are_one",
        ),
        (
            "pretrain: a resumed run takes half a vocabulary",
            '(out / "tokenizer_config.json").is_file()',
            '(out / "vocab.txt").is_file()',
            "tests/training/test_state.py"
            "::test_pretraining_killed_at_every_place_where_it_writes_ends_with_the_same_bytes",
        ),
        (
            "pretrain: another vocabulary goes unnoticed",
            'if record is not None and record["tokenizer"] != description(tokenizer):',
            "if False:",
            "tests/training/test_pretrain.py::test_other_options_than_those_that_may_change_are_refused_when_resuming",
        ),
        (
            "pretrain: a next-sentence head that is not asked for",
            'BertForPreTraining if options.nsp == "on" else BertForMaskedLM, options',
            "BertForPreTraining, options",
            "tests/training/test_pretrain.py::test_without_pairs_there_is_no_head_that_nothing_trains",
        ),
    ],
    "minibert/training/ranks.py": [
        (
            "ranks: rows dealt twice",
            "== self.rank\n",
            "<= self.rank\n",
            "tests/training/test_ranks.py::test_a_batch_is_dealt_without_overlap_or_loss_and_evenly",
        ),
        (
            "ranks: gradients are never added up",
            "wrapped.require_backward_grad_sync = last",
            "wrapped.require_backward_grad_sync = False",
            "tests/training/test_ranks.py::test_two_processes_are_one",
        ),
        (
            "ranks: Ctrl-C looks like a mistake",
            "raise SystemExit(130 if isinstance(error, KeyboardInterrupt) else 2)",
            "raise SystemExit(2)",
            "tests/training/test_ranks.py::test_a_mistake_and_ctrl_c_end_all_but_the_first_with_its_status_alone",
        ),
    ],
    "minibert/training/report.py": [
        (
            "report: points of the dev split stand at the first steps",
            'dev = [(e["epoch"] * every, e[f"dev_{metric}"], e)',
            'dev = [(e["epoch"], e[f"dev_{metric}"], e)',
            "tests/training/test_report.py::test_the_dev_points_stand_at_the_ends_of_their_epochs",
        ),
        (
            "report: texts are markup",
            "return html.escape(re.sub(",
            "return str(re.sub(",
            "tests/training/test_report.py::test_hostile_text_is_shown_and_not_run",
        ),
        (
            "report: the value of an option is markup",
            "<code>{_esc(value)}</code>",
            "<code>{value}</code>",
            "tests/training/test_report.py::test_hostile_text_is_shown_and_not_run",
        ),
        (
            "report: precision and recall change places",
            "ratios = ((hits, predicted), (hits, true),",
            "ratios = ((hits, true), (hits, predicted),",
            "tests/training/test_report.py::test_the_scores_of_a_class_are_those_computed_by_hand",
        ),
        (
            "report: the last of the best epochs is marked",
            "return max(run.epochs,",
            "return max(reversed(run.epochs),",
            "tests/training/test_report.py::test_the_first_of_the_best_epochs_is_marked",
        ),
    ],
    "minibert/training/state.py": [
        (
            "state: moments of AdamW not put back",
            '        optimizer.load_state_dict(state["optimizer"])\n',
            "",
            "tests/training/test_state.py::test_a_run_goes_on_from_a_checkpoint_as_if_nothing_had_happened",
        ),
        (
            "state: checksums not looked at",
            "if (name := archive.testzip()) is not None:",
            "if (name := None) is not None:",
            "tests/training/test_state.py::test_no_flipped_bit_goes_unnoticed",
        ),
        (
            "state: a damaged checkpoint counts as the newest",
            "[: max(0, len(older) - keep + 1)] + beyond",
            "[: max(0, len(older) + len(beyond) - keep + 1)]",
            "tests/training/test_state.py::test_a_damaged_newest_checkpoint_is_passed_over_with_a_line",
        ),
        (
            "state: metrics behind the checkpoint stay",
            "        os.truncate(path, length)\n",
            "        pass\n",
            "tests/training/test_state.py::test_a_run_killed_at_every_place_where_it_writes_ends_with_the_same_bytes",
        ),
        (
            "state: metrics of a run without a checkpoint stay",
            "            path.unlink(missing_ok=True)\n            return\n",
            "            return\n",
            "tests/training/test_state.py::test_a_run_killed_at_every_place_where_it_writes_ends_with_the_same_bytes",
        ),
        (
            "state: half-written files stay",
            "                if LEFTOVER.fullmatch(path.name):\n",
            "                if False:\n",
            "tests/training/test_state.py::test_a_run_killed_at_every_place_where_it_writes_ends_with_the_same_bytes",
        ),
        (
            "state: any version is read",
            'if state["version"] != VERSION:',
            "if False:",
            "tests/training/test_state.py::test_a_checkpoint_of_another_version_is_refused",
        ),
        (
            "state: changed files are not noticed",
            "        check_same(record, command.read_files(stored))\n",
            "        pass\n",
            "tests/training/test_state.py::test_files_that_have_changed_since_a_run_began_are_named",
        ),
        (
            "state: a run of FSDP is resumed without a word",
            'if record["options"].get("parallel") == "fsdp" and options.parallel is None:',
            "if False:",
            "tests/training/test_state.py::test_a_run_that_was_begun_with_fsdp_says_what_to_type_and_then_goes_on",
        ),
        (
            "state: options of any type are read",
            "        check_types(options)\n",
            "        pass\n",
            "tests/training/test_state.py::test_a_record_of_the_wrong_types_is_none",
        ),
        (
            "state: a full disk is a mistake of PyTorch",
            "        raise cause or error from None\n",
            "        raise\n",
            "tests/training/test_state.py::test_a_full_disk_while_writing_a_checkpoint_leaves_the_one_before",
        ),
        (
            "state: a run's own options may not be repeated",
            "if value not in (getattr(blank, n), getattr(stored, n))",
            "if value != getattr(blank, n)",
            "tests/training/test_state.py::test_a_runs_own_options_may_be_repeated_and_nothing_is_said",
        ),
        (
            "state: a run takes a directory that another has just taken",
            "    except FileExistsError:\n        return False\n",
            "    except FileExistsError:\n        return True\n",
            "tests/training/test_state.py::test_of_two_runs_without_an_output_each_gets_one_of_its_own",
        ),
    ],
    "minibert/training/fine_tuning.py": [
        (
            "train: the last epoch's model is scored",
            "model = BertForSequenceClassification.from_pretrained(self.out, self.options.attention).to(self.device)",
            "model = self.model",
            "tests/training/test_train.py::test_the_best_epoch_is_kept_also_when_a_later_one_is_worse_or_as_good",
        ),
        (
            "model.eval forgotten in validation",
            "self.predict(self.model.eval(), split,",
            "self.predict(self.model, split,",
            "tests/training/test_train.py::test_what_an_epoch_logs_of_dev_equals_the_kept_model_without_dropout",
        ),
        (
            "ranks: a mean of the ranks' means",
            "[(len(part),) for part in rows]",
            "[(max(1, len(self.ranks.own_rows(part, self.train.encoding.length))),) for part in rows]",
            "tests/training/test_ranks.py::test_two_processes_are_one",
        ),
        (
            "ranks: a row for want of one counts",
            "        if not mine:\n            none =",
            "        if False:\n            none =",
            "tests/training/test_ranks.py::test_two_processes_are_one",
        ),
        (
            "train: an epoch that release 0.1.0 left without validation stays without",
            "                self.evaluate()\n                continue",
            "                progress.epoch, progress.batch = progress.epoch + 1, 0\n                continue",
            "tests/training/test_train.py::test_an_epoch_that_release_0_1_left_without_validation_has_it_first",
        ),
        (
            "train: token dropout hides special tokens",
            "dropped & ~torch.isin(ids, special)",
            "dropped",
            "tests/training/test_train.py::test_token_dropout_hides_its_share_of_real_tokens_anew_in_every_step",
        ),
        (
            "train: classes of the held-out rows are unknown",
            '= hold_out(read["data"], 0.1, options.seed)\n',
            '= hold_out(read["data"], 0.1, options.seed)\n        names = label_names(read["data"])\n',
            "tests/training/test_train.py::test_without_dev_a_tenth_is_held_out_and_its_classes_are_known",
        ),
        (
            "train: a later epoch that is as good takes the best one's place",
            "if (value, -loss) <= (progress",
            "if (value, -loss) < (progress",
            "tests/training/test_train.py::test_the_best_epoch_is_kept_also_when_a_later_one_is_worse_or_as_good",
        ),
        (
            "train: equals are not told apart by their loss",
            "if (value, -loss) <= (progress.best_accuracy, -progress.best_loss):",
            "if value <= progress.best_accuracy:",
            "tests/training/test_tasks.py"
            "::test_the_epoch_that_is_kept_is_the_best_by_the_score_and_of_equals_by_the_loss",
        ),
        (
            "train: the epoch of the largest loss is the best by loss",
            "value = -loss if self.options",
            "value = loss if self.options",
            "tests/training/test_tasks.py"
            "::test_the_epoch_that_is_kept_is_the_best_by_the_score_and_of_equals_by_the_loss",
        ),
        (
            "train: the loss of an old run's best epoch is that of its last",
            'epochs[progress.best_epoch]["dev_loss"]',
            'epochs[-1]["dev_loss"]',
            "tests/training/test_tasks.py"
            "::test_the_loss_of_the_best_epoch_of_a_run_that_release_0_1_began_is_the_logged_one",
        ),
        (
            "train: patience counts from the first epoch",
            "progress.epoch - 1 - progress.best_epoch >= patience",
            "progress.epoch > patience",
            "tests/training/test_tasks.py::test_patience_ends_a_run_after_so_many_epochs_that_were_not_better",
        ),
        (
            "train: an old run goes on with the model's order of labels",
            'or (record is not None and "labels" not in record)',
            "",
            "tests/training/test_tasks.py::test_a_run_that_began_before_labels_had_an_order_goes_on_in_the_old_one",
        ),
    ],
    "minibert/training/mistakes.py": [
        (
            "train: the least sure mistakes first",
            "wrong.sort(key=lambda row: -sure[row])",
            "wrong.sort(key=lambda row: sure[row])",
            "tests/training/test_train.py::test_the_worst_mistakes_are_the_surest_first",
        ),
        (
            "mistakes: rows that are right are shown",
            "(predicted != wanted.bool()).any(dim=1).tolist()",
            "[True] * len(loss)",
            "tests/training/test_tasks.py::test_the_worst_rows_of_several_labels_are_those_of_the_largest_loss",
        ),
        (
            "mistakes: the smallest errors first",
            "-abs(answers[row] - wanted[row])",
            "abs(answers[row] - wanted[row])",
            "tests/training/test_tasks.py::test_the_worst_rows_of_a_regression_are_the_furthest_off",
        ),
    ],
    "minibert/training/losses.py": [
        (
            "losses: rows that are none count",
            "return (losses * real).sum() / logits.shape[1]",
            "return losses.sum() / logits.shape[1]",
            "tests/training/test_tasks.py::test_rows_that_are_none_count_for_no_task",
        ),
        (
            "losses: a row's losses are added up",
            "(losses * real).sum() / logits.shape[1]",
            "(losses * real).sum()",
            "tests/training/test_tasks.py::test_thirty_steps_of_each_task_equal_a_plain_transformers_loop",
        ),
        (
            "losses: balanced weights do not know how many classes there are",
            "len(labels) / (count * np.maximum(1, rows))",
            "len(labels) / np.maximum(1, rows)",
            "tests/training/test_tasks.py::test_balanced_weights_of_classes_are_scikit_learns",
        ),
        (
            "losses: labels are smoothed on one side",
            "labels * (1 - self.smoothing) + self.smoothing / 2",
            "labels * (1 - self.smoothing)",
            "tests/training/test_tasks.py::test_smoothing_gives_a_share_of_each_label_to_all",
        ),
    ],
    "minibert/training/start.py": [
        (
            "start: a score behind a sigmoid goes on as a number",
            'config.problem_type == "regression" if said is None else str(said).endswith("Identity")',
            "True",
            "tests/training/test_tasks.py::test_a_score_behind_a_sigmoid_gets_a_new_head_for_a_regression",
        ),
        (
            "start: the order of a model's labels is the file's",
            "        return own, True\n",
            "        return names, True\n",
            "tests/training/test_tasks.py::test_a_classifier_with_the_same_names_keeps_their_order_and_its_head",
        ),
        (
            "start: a head for other labels goes on",
            "if options.model is None or kept:",
            "if True:",
            "tests/training/test_tasks.py::test_other_names_or_another_count_get_a_new_head_which_is_said_in_a_line",
        ),
        (
            "start: a head of another task goes on",
            "if task_of(config) != task or len(own)",
            "if len(own)",
            "tests/training/test_tasks.py::test_another_task_gets_a_new_head",
        ),
        (
            "start: the embeddings are not frozen",
            "(model.bert.embeddings, *model.bert.layers[:layers])",
            "model.bert.layers[:layers]",
            "tests/training/test_tasks.py::test_frozen_parts_stay_and_the_others_move",
        ),
        (
            "start: a CrossEncoder's activation is kept",
            "for_cross_encoders(without_activation(config))",
            "for_cross_encoders(config)",
            "tests/training/test_tasks.py::test_what_a_cross_encoder_said_of_its_logits_is_no_more_true_after_training",
        ),
    ],
    "minibert/io/labels.py": [
        (
            "labels: a number is a class",
            "if None not in numbers and not WHOLE",
            "if None in numbers and not WHOLE",
            "tests/training/test_tasks.py::test_labels_of_another_task_are_refused_with_file_line_and_remedy",
        ),
        (
            "labels: several of a row stand in the row of the last",
            "for row, labels in enumerate(sets) for _ in labels]",
            "for row, labels in enumerate(sets, -1) for _ in labels]",
            "tests/training/test_tasks.py::test_lists_in_json_lines_are_several_labels",
        ),
        (
            "labels: what float32 does not hold becomes infinity",
            "and abs(number) <= LARGEST",
            "",
            "tests/training/test_tasks.py::test_labels_of_another_task_are_refused_with_file_line_and_remedy",
        ),
    ],
}
