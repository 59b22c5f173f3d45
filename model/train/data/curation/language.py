"""Measures whether a text contradicts its language label.

Russian, Arabic, Hindi, Chinese, Japanese and Korean are recognised by their script. English, German, French, Spanish,
Italian and Portuguese are recognised by small words, such as articles. Other labels, such as `und`, are not checked.
"""

import re

from model.train.data.curation.features import Text

WORDS = {
    "en": "the of and to in is it that was for with as his her he she on be at by this had not but from have they you"
    " are which were their there would who will what when if or an all been has its than then them my your can",
    "de": "der die das und ist nicht ein eine einen dem den des ich er sie es wir mit auf zu von für auch sich war im"
    " wie dass aber noch nach bei aus werden wird sind hat haben oder wenn nur kann über durch zum zur mehr",
    "fr": "le la les des et est une un dans que qui ne pas pour sur avec il elle au aux du ce cette nous vous je se"
    " son sa ses leur plus par était être sont ou mais comme tout en même fait votre où",
    "es": "el la los las de y que en un una es no por con para se su lo como más pero del al sus este esta son si ya"
    " había era ser está o le me muy cuando sin sobre también hay donde todo",
    "it": "il lo la gli le di e che un una non per con si del della dei nel sono era ma come più anche questo questa"
    " alla al da se ha suo sua mi ci delle essere o quando perché dal nella",
    "pt": "o a os as de e que em um uma não para com se do da dos das no na por mais é como mas foi ao ele ela seu sua"
    " ou ser são está pelo pela isso este esta também já muito quando você",
}
SCRIPTS = {
    "ru": r"[\u0400-\u04ff]",
    "ar": r"[\u0600-\u06ff]",
    "hi": r"[\u0900-\u097f]",
    "zh": r"[\u3400-\u9fff]",
    "ja": r"[\u3040-\u30ff\u3400-\u9fff]",
    "ko": r"[\uac00-\ud7af]",
}
_OWN = {lang: re.compile(pattern) for lang, pattern in SCRIPTS.items()}
_BEYOND_LATIN = re.compile(r"[^\W\d_\u0000-\u036f]")
_KANA = re.compile(r"[\u3040-\u30ff]")
_PROFILES = {lang: frozenset(words.split()) for lang, words in WORDS.items()}
_OWNER = {  # words of one language only
    word: lang
    for lang, words in _PROFILES.items()
    for word in words
    if sum(word in other for other in _PROFILES.values()) == 1
}
LIMIT = 0.9  # drop a text above this share of contradicting evidence
_SMALLEST = 20  # lowest number of letters or small words for a verdict


def known() -> list[str]:
    """Return the languages that can be checked, in alphabetical order."""
    return sorted([*_PROFILES, *_OWN])


def foreign(text: Text, lang: str) -> float:
    """Return the share of the evidence that contradicts the label, from 0 to 1.

    It is 0 for code, for a label that is not checked, and if there is too little evidence. For a language with its own
    script, the letters of the text are the evidence. A text labelled with a language in Latin script is judged by its
    letters only if more than half of them are of another script. Otherwise the evidence is small words that belong to
    a single language: those of the label's language support the label, and those of the other language with the most
    small words contradict it. `LIMIT` is high, because texts on software contain much English in any language.
    """
    if text.is_code:
        return 0.0
    if lang in _OWN:
        return _by_script(text, lang)
    return _by_words(text, lang) if lang in _PROFILES else 0.0


def _by_script(text: Text, lang: str) -> float:
    if text.letters < _SMALLEST:
        return 0.0
    own = len(_OWN[lang].findall(text.text))
    kana = len(_KANA.findall(text.text)) if lang in ("ja", "zh") else 0
    if lang == "zh" and kana > own / 4 or lang == "ja" and own > text.letters / 2 and not kana:
        return 1.0
    return max(0.0, 1 - own / text.letters)


def _by_words(text: Text, lang: str) -> float:
    if text.letters < _SMALLEST:
        return 0.0
    if (other := 0 if text.text.isascii() else len(_BEYOND_LATIN.findall(text.text))) > text.letters / 2:
        return other / text.letters
    counts = _small_words(text)
    rivals = {name: count for name, count in counts.items() if name != lang}
    strongest = max(rivals.values())
    if strongest < _SMALLEST:
        return 0.0
    return strongest / (strongest + counts[lang])


def _small_words(text: Text) -> dict[str, int]:
    """Return by language the number of units that are small words of that language and of no other."""
    counts = dict.fromkeys(_PROFILES, 0)
    for unit in text.units:
        if owner := _OWNER.get(unit):
            counts[owner] += 1
    return counts
