"""Mutations of the command line and its options."""

MUTATIONS = {
    "minibert/cli.py": [
        (
            "cli: every label is printed though none was asked for",
            "shown = 2 if options.top is None else None",
            "shown = None",
            "tests/inference/test_answers.py::test_predict_prints_label_value_and_text_a_line_each",
        ),
        (
            "cli: length and tokens of a batch change places",
            "logits(texts, pairs, options.max_length, options.tokens_per_batch)",
            "logits(texts, pairs, options.tokens_per_batch, options.max_length)",
            "tests/test_cli.py::test_predict_reads_as_many_tokens_as_asked",
        ),
        (
            "cli: what is wrong with a model is told with status 0",
            "return 1 if findings.is_wrong(found) else 0",
            "return 0",
            "tests/check/test_doctor.py::test_the_command_shows_the_worst_first_and_its_status_tells",
        ),
        (
            "cli: an error of several lines",
            "{one_line(with_remedy(error))}",
            "{error}",
            "tests/test_cli.py::test_errors_of_several_lines_become_one",
        ),
        (
            "cli: the locale's language is not asked for",
            "language.use(language.chosen())",
            'language.use("en")',
            "tests/io/test_language.py::test_a_process_speaks_the_language_of_its_locale",
        ),
        (
            "cli: U+2028 ends a text of stdin",
            '.removesuffix("\\n").split("\\n")',
            '.removesuffix("\\n").splitlines()',
            "tests/test_cli.py::test_empty_lines_of_stdin_are_texts_and_line_separators_are_none",
        ),
        (
            "cli: options stand behind the texts alone",
            ".parse_intermixed_args(",
            ".parse_args(",
            "tests/test_cli.py::test_options_may_stand_before_between_and_after_texts",
        ),
        (
            "cli: a help text waits for torch",
            "from minibert.options import add_options\n",
            "import torch\nfrom minibert.options import add_options\n",
            "tests/test_structure.py::test_help_loads_neither_torch_nor_numpy",
        ),
    ],
    "minibert/training/options.py": [
        (
            "options: steps and epochs are both taken",
            '("batch_size", "tokens_per_batch", 64), ("steps", "epochs", None)):',
            '("batch_size", "tokens_per_batch", 64),):',
            "tests/training/test_pretrain.py::test_options_that_no_run_can_have_are_refused",
        ),
        (
            "train: a small model's pooler is drawn anew though a classifier has used it",
            'trained = "BertForSequenceClassification" in str',
            'trained = "BertForMaskedLM" in str',
            "tests/training/test_train.py"
            "::test_the_pooler_of_a_small_model_is_drawn_anew_unless_it_has_served_a_classifier",
        ),
    ],
    "minibert/fast/options.py": [
        (
            "cli: a backend that no help text tells",
            '*("flex", "varlen", "triton")',
            '*("flex", "varlen")',
            "tests/test_structure.py::test_the_names_that_help_texts_list_are_all_there_are",
        ),
    ],
    "minibert/options.py": [
        (
            "options: names with underscores",
            "flag, many = f\"--{f.name.replace('_', '-')}\",",
            'flag, many = f"--{f.name}",',
            "tests/test_cli.py::test_help_shows_every_option_and_no_other",
        ),
        (
            "options: a text is always asked for",
            'nargs="*" if many',
            'nargs="+" if many',
            "tests/test_cli.py::test_encode_reads_stdin_where_no_text_is_given",
        ),
        (
            "options: the recorded command is not quoted",
            "return shlex.join(words)",
            'return " ".join(words)',
            "tests/training/test_train.py::test_the_recorded_command_is_read_back_as_the_same_options",
        ),
        (
            "options: shares below 0 pass",
            "and not 0 <= getattr(options, name) <= high:",
            "and not getattr(options, name) <= high:",
            "tests/training/test_train.py::test_an_option_out_of_range_is_told_with_its_range",
        ),
    ],
    "minibert/__init__.py": [
        (
            "names: nobody looks for old modules",
            "sys.meta_path.insert(0, old_names.OldNames())\n",
            "",
            "tests/test_old_names.py"
            "::test_a_module_is_found_by_its_old_name_with_its_names_and_a_warning_that_tells_the_new",
        ),
        (
            "names: an old module is no attribute of the package",
            "if name in old_names.PLACES:",
            "if name is None:",
            "tests/test_old_names.py::test_each_form_of_import_gives_the_same_class_and_warns_where_it_stands",
        ),
    ],
    "minibert/old_names.py": [
        (
            "names: a module found by its old name takes it on",
            "module.__spec__ = module.__spec__.loader_state",
            "pass",
            "tests/test_old_names.py"
            "::test_a_module_is_found_by_its_old_name_with_its_names_and_a_warning_that_tells_the_new",
        ),
        (
            "names: an old name is quiet",
            "DeprecationWarning, stacklevel=3",
            "PendingDeprecationWarning, stacklevel=3",
            "tests/test_old_names.py"
            "::test_a_module_is_found_by_its_old_name_with_its_names_and_a_warning_that_tells_the_new",
        ),
    ],
    "minibert/lazy.py": [
        (
            "faces: the known names are not told",
            "', '.join(sorted(home))",
            "', '.join([])",
            "tests/test_structure.py::test_an_unknown_name_of_a_folder_is_an_attribute_error_that_lists_the_known",
        ),
    ],
}
