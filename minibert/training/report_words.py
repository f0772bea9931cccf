"""The words of a report, from assets/report-words.json. All stand on the page in both languages, each in an element
with its `lang`; the style sheet shows those of the chosen language alone.
"""

import json

from minibert.io.bundled import ASSETS

SAID = json.loads((ASSETS / "report-words.json").read_text(encoding="utf-8"))  # key -> language -> markup
LANGUAGES = {"en": "en", "zh": "zh-Hans"}  # and what HTML calls them


def say(key: str, tag: str = "span", **values: str | dict[str, str]) -> str:
    """Words as markup of both languages; see `both`. tag: that of each, in SVG "tspan"."""
    return pair(both(key, **values), tag)


def both(key: str, **values: str | dict[str, str]) -> dict[str, str]:
    """Words in each language. values: markup for their {places}, one for both languages or one for each."""
    said = {}
    for language, text in SAID[key].items():
        here = {name: value if isinstance(value, str) else value[language] for name, value in values.items()}
        said[language] = text.format(**here)
    return said


def named(kind: str, name: str) -> dict[str, str]:
    """A name in each language where it is among the words of this kind; any other, which is markup, as it is."""
    return both(f"{kind}.{name}") if f"{kind}.{name}" in SAID else dict.fromkeys(LANGUAGES, name)


def pair(said: dict[str, str], tag: str = "span") -> str:
    """Both languages one after the other; what is the same in both, once."""
    if len({*said.values()}) == 1:
        return said["en"]
    return "".join(f'<{tag} lang="{LANGUAGES[language]}">{text}</{tag}>' for language, text in said.items())
