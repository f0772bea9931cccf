"""Mutations of doctor, data checks, course."""

MUTATIONS = {
    "minibert/check/course.py": [
        (
            "lesson: dropout draws what is left over",
            "            torch.manual_seed(0)\n            broken",
            "            broken",
            "tests/check/test_course.py::test_the_lesson_does_not_depend_on_random_numbers_drawn_before",
        ),
        (
            "lesson: infinity in JSON",
            "{who: d if math.isfinite(d) else None for who, d in rung.differences.items()}",
            "dict(rung.differences)",
            "tests/check/test_course.py::test_the_command_lists_and_shows",
        ),
        (
            "lesson: it begins everywhere but there",
            "if rung.stage == first else",
            "if rung.stage != first else",
            "tests/check/test_course.py::test_the_command_lists_and_shows",
        ),
    ],
    "minibert/check/options.py": [
        (
            "course: any option goes with any command",
            "            if getattr(self, name) and command != owner:",
            "            if getattr(self, name) and False:",
            "tests/check/test_building.py::test_a_command_that_makes_no_sense_is_one_line",
        ),
        (
            "course: of several directories the first is taken",
            "len(self.what) != 2:",
            "len(self.what) < 2:",
            "tests/check/test_building.py::test_a_command_that_makes_no_sense_is_one_line",
        ),
    ],
    "minibert/check/data_checks.py": [
        (
            "doctor: files are not compared",
            "yield from leaks(files)",
            "yield from leaks([])",
            "tests/check/test_doctor.py::test_a_leak_is_counted_with_its_lines",
        ),
        (
            "doctor: a leak is looked for in the split itself",
            "in combinations(files, 2):",
            "in zip(files, files, strict=True):",
            "tests/check/test_doctor.py::test_a_leak_is_counted_with_its_lines",
        ),
        (
            "doctor: padding without the longest row",
            "size = sum(len(rows) * int(lengths[list(rows)].max())",
            "size = sum(len(rows) * int(lengths[list(rows)].min())",
            "tests/check/test_doctor.py::test_padding_is_that_of_batches_of_32",
        ),
        (
            "doctor: letters are compared as they are written",
            "wordpiece.normalize(char, *switches)",
            "wordpiece.normalize(char, False)",
            "tests/check/test_doctor.py::test_a_capital_letter_is_held_where_texts_are_lowercased",
        ),
        (
            "doctor: spoiled texts are blamed on the vocabulary",
            "is None or file.damaged:",
            "is None:",
            "tests/check/test_doctor.py::test_what_is_wrong_with_data_is_named_and_no_other_error",
        ),
        (
            "doctor: rows that a quote has joined are refused for no reason of their own",
            "return next((name for sign, name in names.items() if sign in reason), ",
            "return next((name for sign, name in names.items() if sign == reason), ",
            "tests/check/test_doctor.py::test_what_is_wrong_with_data_is_named_and_no_other_error",
        ),
        (
            "doctor: rows without labels are refused",
            "labelled=None)",
            "labelled=True)",
            "tests/check/test_doctor.py::test_rows_without_labels_are_no_error",
        ),
    ],
    "minibert/check/adam.py": [
        (
            "lesson: Adam's second moment corrected like the first",
            "bias_correction(0.999, t)",
            "bias_correction(0.9, t)",
            "tests/check/test_course.py::test_the_losses_and_adam_equal_pytorchs",
        ),
    ],
    "minibert/check/building/functions.py": [
        (
            "course: a docstring is taken out with the body",
            "function.body[ast.get_docstring(function, clean=False) is not None :]",
            "function.body",
            "tests/check/test_building.py::test_a_body_is_taken_out_and_its_docstring_stays",
        ),
        (
            "course: every slip stands in brackets, which betray it",
            "if isinstance(node, ast.stmt) or tree_of(put(text))",
            "if isinstance(node, ast.stmt) or not tree_of(put(text))",
            "tests/check/test_building.py::test_slips_change_one_place_each_and_stay_python",
        ),
        (
            "course: no summand is ever left out",
            "        if isinstance(node.op, ast.Add | ast.Mult):\n            yield node.right",
            "        if isinstance(node.op, ast.Add | ast.Mult):\n            yield node",
            "tests/check/test_building.py::test_slips_change_one_place_each_and_stay_python",
        ),
    ],
    "minibert/check/building/exercises.py": [
        (
            "course: the last stage that differs is called the first",
            "if off and first is None:",
            "if off:",
            "tests/check/test_building.py::test_a_plausible_wrong_body_is_named_at_its_stage",
        ),
        (
            "course: a dropout that is forgotten is not seen",
            "            module.p = 1.0\n",
            "            module.p = 0.0\n",
            "tests/check/test_building.py::test_a_plausible_wrong_body_is_named_at_its_stage",
        ),
        (
            "course: hidden tokens of any share do",
            "5 * (wanted * (1 - wanted) / max(1, count)) ** 0.5",
            "1.0",
            "tests/check/test_building.py::test_a_plausible_wrong_body_is_named_at_its_stage",
        ),
        (
            "course: a loop whose sums are in another order is wrong",
            "close([float(p.detach().norm())], 2e-3)",
            "Found(float(p.detach().norm()))",
            "tests/check/test_building.py::test_a_right_body_that_is_written_otherwise_passes",
        ),
    ],
    "minibert/check/building/examination.py": [
        (
            "course: one unsolved body spoils the others",
            "tree = functions.mixed(source, theirs, names, str(file))",
            "tree = ast.parse(source, str(file))",
            "tests/check/test_building.py::test_an_unsolved_body_fails_its_own_check_and_no_other",
        ),
        (
            "course: fused attention is allowed",
            "                forbid(stack, name)\n",
            "                pass\n",
            "tests/check/test_building.py::test_a_fused_function_of_torch_is_refused_and_its_line_is_named",
        ),
        (
            "course: what a body prints is lost",
            "            stack.enter_context(redirect_stdout(printed))\n",
            "",
            "tests/check/test_building.py::test_what_a_body_prints_is_kept_apart",
        ),
    ],
    "minibert/check/building/workshop.py": [
        (
            "course: of a directory to be mended bodies are put back empty",
            'mending = record.get("kind") == "repair"',
            "mending = False",
            "tests/check/test_building.py"
            "::test_a_file_that_was_removed_from_a_directory_to_be_mended_comes_back_whole_with_its_bug",
        ),
        (
            "course: a slip is put where there is a bug to be mended",
            '    if workshop.record["kind"] == "repair":\n        raise',
            '    if workshop.record["kind"] == "no kind":\n        raise',
            "tests/check/test_building.py"
            "::test_a_file_that_was_removed_from_a_directory_to_be_mended_comes_back_whole_with_its_bug",
        ),
        (
            "course: every hint is the first",
            'workshop.record["hints"][exercise.name] = given + 1',
            'workshop.record["hints"][exercise.name] = 0',
            "tests/check/test_building.py::test_a_hint_follows_the_last_one",
        ),
        (
            "course: a directory of something else is written into",
            "    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):\n        raise",
            "    if directory.exists() and not directory.is_dir():\n        raise",
            "tests/check/test_building.py::test_a_directory_that_holds_something_else_is_left_alone",
        ),
        (
            "course: what a learner has written is written over",
            "if not (directory / place).exists()}",
            "}",
            "tests/check/test_building.py::test_a_file_that_was_removed_is_named_and_put_back",
        ),
        (
            "course: a slip is taken back over later changes",
            '    if workshop.source(file) != slip["source"]:',
            "    if False:",
            "tests/check/test_building.py::test_an_answer_that_is_wrong_says_on_which_side_the_slip_is",
        ),
        (
            "course: any answer is the right one",
            '    if stage == slip["first"]:',
            "    if stage in stages:",
            "tests/check/test_building.py::test_an_answer_that_is_wrong_says_on_which_side_the_slip_is",
        ),
    ],
    "minibert/check/doctor.py": [
        (
            "doctor: a refusal is told where its cause is named",
            "if refused.part not in explained]",
            "if True]",
            "tests/check/test_doctor.py::test_what_is_broken_is_named_and_no_other_error",
        ),
        (
            "doctor: biases may have moved in fresh weights",
            "return bias.zero and (",
            "return (",
            "tests/check/test_doctor.py::test_fresh_weights_of_googles_kind_look_fresh_too",
        ),
        (
            "doctor: a wrong number of labels is told twice",
            "if rows := [row for row in rows if not row.startswith(reported)]:",
            "if rows:",
            "tests/check/test_doctor.py::test_what_is_broken_is_named_and_no_other_error",
        ),
        (
            "doctor: Google's fresh weights are not known",
            "for cut in (1, CUT_NORMAL))",
            "for cut in (1,))",
            "tests/check/test_doctor.py::test_fresh_weights_of_googles_kind_look_fresh_too",
        ),
        (
            "doctor: NaN is not counted",
            "finite = math.isfinite(std)",
            "finite = True",
            "tests/check/test_doctor.py::test_what_is_broken_is_named_and_no_other_error",
        ),
        (
            "doctor: a sorted vocabulary passes",
            "if places[0] != 0 or list(places) != sorted(places):",
            "if places[0] != 0 and False:",
            "tests/check/test_doctor.py::test_what_is_broken_is_named_and_no_other_error",
        ),
        (
            "doctor: all tensors are kept",
            "if key.endswith(SHARED):",
            "if True:",
            "tests/check/test_doctor.py::test_one_tensor_at_a_time_is_held",
        ),
        (
            "doctor: a fresh head of the masked LM is not seen",
            'part.startswith(("classifier", "cls."))',
            'part.startswith("classifier")',
            "tests/check/test_doctor.py::test_a_fresh_head_of_a_masked_lm_is_seen",
        ),
        (
            "doctor: a head of another class passes",
            "if foreign := checked.left & {*other_heads.BY_NAME.values(), *other_heads.BY_CLASS.values()}:",
            "if foreign := set():",
            "tests/io/test_diagnosis.py::test_a_foreign_head_is_a_warning_of_the_doctor_and_parity_compares_the_encoder",
        ),
        (
            "doctor: one layer counts for all",
            "if len(layers) == total",
            "if layers",
            "tests/check/test_doctor.py::test_fresh_layers_are_counted_among_all",
        ),
    ],
    "minibert/io/diagnosis.py": [
        (
            "diagnosis: half a model is taken for a whole one",
            "if config and weights:\n        return None",
            "if config or weights:\n        return None",
            "tests/io/test_diagnosis.py::test_the_loader_and_the_doctor_say_the_same_of_a_directory",
        ),
        (
            "diagnosis: the oldest model below is named",
            "return max(found)[-1]",
            "return min(found)[-1]",
            "tests/io/test_diagnosis.py::test_the_newest_model_below_is_the_last_written_where_no_number_says_so",
        ),
        (
            "diagnosis: advice for all that a file may say",
            "if re.search(sign, reason)",
            "if reason",
            "tests/io/test_diagnosis.py::test_every_sign_is_seen_in_what_a_reader_says",
        ),
    ],
    "minibert/io/findings.py": [
        (
            "doctor: warnings are no reason for status 1",
            'return any(finding.severity != "note"',
            'return any(finding.severity == "error"',
            "tests/check/test_doctor.py::test_json_is_one_object",
        ),
        (
            "doctor: control characters reach the terminal",
            "char if char.isprintable() else repr(char)[1:-1]",
            "char",
            "tests/check/test_doctor.py::test_a_file_cannot_write_on_the_terminal",
        ),
        (
            "doctor: in Chinese a remedy begins at the first semicolon",
            "ends[len(SEMICOLON.findall(finding.what))]",
            "ends[0]",
            "tests/io/test_language.py::test_a_findings_remedy_is_what_stands_behind_the_arrow",
        ),
        (
            "doctor: notes stand before errors",
            "    rows = ordered(findings)\n    width",
            "    rows = list(findings)\n    width",
            "tests/check/test_doctor.py::test_the_command_shows_the_worst_first_and_its_status_tells",
        ),
    ],
}
