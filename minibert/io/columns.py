"""Which column of a data file is the text, the pair and the label: by the names in use, or as the user says."""

from __future__ import annotations

from collections.abc import Sequence

from minibert.options import Reading

# Names of GLUE, CLUE, Kaggle and the common Chinese sets, compared in lower case. Of a group the first that is there is
# taken; of the next groups only one may be there, or the user has to choose.
TEXTS = """
content message comment comments comment_text tweet body document sms utterance reviewtext review_text review_body
question question1 query premise text1 sent1 文本 内容 评论 正文 句子 评价 评论内容 文本内容
"""
LABELS = """
labels target category class sentiment polarity gold_label label_name class_label is_duplicate
标签 类别 情感 分类 情感倾向 情感极性
"""
COLUMNS = {
    "text": (
        ("text", "text_a", "sentence", "sentence1", "review", "#1 string"),
        tuple(TEXTS.split()),
        ("title", "headline", "标题"),
    ),
    "label": (
        ("label", "quality"),
        tuple(LABELS.split()),
        ("score", "stars", "rating", "similarity", "评分"),
    ),
    "pair": (("text_b", "sentence2", "#2 string"),),
}
COUPLES = (
    ("question1", "question2"),
    ("premise", "hypothesis"),
    ("query", "title"),
    ("question", "sentence"),
    ("text1", "text2"),
    ("sent1", "sent2"),
    ("question", "answer"),
    ("query", "passage"),
    ("文本1", "文本2"),
)


def find_columns(columns: Sequence[str], labelled: bool | str | None, how: Reading | None = None) -> dict[str, str]:
    """Which column is the text, the pair and the label. labelled: see `read_rows`.

    Raises ValueError: one is missing, or several may be meant.
    """
    how = how or Reading()
    present = {name.strip().lower(): name for name in columns}
    found: dict[str, str] = {}
    if how.label_column is not None and labelled is not False:
        found["label"] = chosen("label", how.label_column, columns)
    elif labelled is not False and (name := known("label", present)) is not None:
        found["label"] = name
    if how.text_column is not None:
        found["text"] = chosen("text", how.text_column, columns)
    else:
        found |= texts_of(present)
    if how.pair_column is not None:
        found["pair"] = chosen("pair", how.pair_column, columns)
    for kind in ("text", "label"):
        if kind not in found and (kind == "text" or labelled):
            names = ", ".join(COLUMNS[kind][0] + COLUMNS[kind][1][:4])
            raise ValueError(
                f"has no {kind} column; its columns are {', '.join(map(repr, columns))[:300]}. A header must name one"
                f" of {names} …; for other names use --{kind}-column, without a header --columns"
            )
    for name in filter(str.strip, found.values()):  # some columns may have no name
        if len(alike := [other for other in columns if other.strip().lower() == name.strip().lower()]) > 1:
            raise ValueError(f"several columns are called alike: {', '.join(map(repr, alike))}; rename all but one")
    if len(set(found.values())) < len(found):
        raise ValueError(f"one column is named twice, as {', '.join(found)}; name different ones")
    return {kind: found[kind] for kind in ("label", "text", "pair") if kind in found}


def texts_of(present: dict[str, str]) -> dict[str, str]:
    """The text, and the pair that goes with it."""
    for couple in COUPLES:
        first = [name for name in COLUMNS["text"][0] if name in present and name not in couple]
        if all(name in present for name in couple) and not first:
            return {"text": present[couple[0]], "pair": present[couple[1]]}
    found = {"text": known("text", present), "pair": known("pair", present)}
    return {kind: name for kind, name in found.items() if name is not None}


def known(kind: str, present: dict[str, str]) -> str | None:
    """A column by the names in use. ValueError: several may be meant."""
    for number, group in enumerate(COLUMNS[kind]):
        names = [present[name] for name in group if name in present]
        if number and len(names) > 1:
            raise ValueError(
                f"has several columns that may be its {kind}: {', '.join(names)}; type --{kind}-column {names[0]}, or"
                " another of them"
            )
        if names:
            return names[0]
    return None


def chosen(kind: str, asked: str, columns: Sequence[str]) -> str:
    """The column that the user names, or numbers from 1."""
    if asked.isdecimal():
        if 1 <= int(asked) <= len(columns):
            return columns[int(asked) - 1]
    elif (name := {name.strip().lower(): name for name in columns}.get(asked.strip().lower())) is not None:
        return name
    raise ValueError(
        f"has no column {asked!r} for --{kind}-column; its {len(columns)} columns are"
        f" {', '.join(map(repr, columns))[:300]}"
    )


def is_like_label(name: str) -> bool:
    """Whether a name holds one of a label's, as airline_sentiment does."""
    return any(known in name.strip().lower() for known in COLUMNS["label"][0] + COLUMNS["label"][1])


def is_header(fields: Sequence[str], *kinds: str) -> bool:
    """Whether a row names columns of these kinds."""
    names = {name.strip().lower() for name in fields}
    return all(any(names & set(group) for group in COLUMNS[kind]) for kind in kinds)
