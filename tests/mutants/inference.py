"""Mutations of texts in, answers out."""

MUTATIONS = {
    "minibert/fill_mask.py": [
        (
            "fill-mask: answers of another text",
            "owner = np.repeat(rows, encoding.length[rows])[masks]",
            "owner = np.repeat(np.sort(rows), encoding.length[rows])[masks]",
            "tests/test_fill_mask.py::test_answers_are_those_of_transformers",
        ),
    ],
}
