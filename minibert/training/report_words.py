"""The words of a report, from assets/report-words.json. All stand on the page in both languages, each in an element
with its `lang`; the style sheet shows those of the chosen language alone.
"""

import json

from minibert.io.bundled import ASSETS

SAID = json.loads((ASSETS / "report-words.json").read_text(encoding="utf-8"))  # key -> language -> markup
LANGUAGES = {"en": "en", "zh": "zh-Hans"}  # and what HTML calls them

Both = dict[str, str]  # language -> markup


def say(key: str, tag: str = "span", **values: str | Both) -> str:
    """Words as markup of both languages; see `both`. tag: that of each, in SVG "tspan"."""
    return pair(both(key, **values), tag)


def both(key: str, **values: str | Both) -> Both:
    """Words in each language. values: markup for their {places}, one for both languages or one for each."""
    said = {}
    for language, text in SAID[key].items():
        here = {}
        for name, value in values.items():
            here[name] = value[language] if isinstance(value, dict) else value
        said[language] = text.format(**here)
    return said


def named(kind: str, name: str) -> Both:
    """A name in each language where it is among the words of this kind; any other, which is markup, as it is."""
    key = f"{kind}.{name}"
    if key in SAID:
        return both(key)
    return dict.fromkeys(LANGUAGES, name)


def pair(said: Both, tag: str = "span") -> str:
    """Both languages one after the other; what is the same in both, once."""
    if said["en"] == said["zh"]:
        return said["en"]
    parts = []
    for language, text in said.items():
        parts.append(f'<{tag} lang="{LANGUAGES[language]}">{text}</{tag}>')
    return "".join(parts)
