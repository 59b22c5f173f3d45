"""Texts as lists of grapheme clusters (UAX 29): Python and the browser must both split them in this way.

One case is missing, because libraries differ on it: a virama without a consonant before it joins the next consonant in
the `regex` package and is a separate cluster in a browser. Half of a surrogate pair represents a broken byte.
"""

CHARACTERS = [
    ["a", "b"],
    ["e\u0301\u0323", "n\u0303", "é"],
    ["\r", "\n", "\u0301", "\t", "é"],
    ["👩‍👩‍👧‍👦", "👩🏽‍🚀", "❤️‍🔥", "👍🏽", "🚀"],
    ["a\u200d", "🔥", "#\ufe0f\u20e3"],
    ["🇫🇷", "🇩🇪", "🇫"],
    ["🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", "x"],
    ["गाँ", "व", " ", "के", " ", "पा", "स", " ", "क्ष", "त्रि", "य"],
    ["क\u094d\u0937", "क\u094d\u200dष", "क\u093c\u094dष", "क\u094d\u200c", "ष"],
    ["स\u094dत\u094dर\u0940", "द\u094d", " ", "द"],
    ["স্ত্রী", "க்", "ஷ", "ക്ഷ"],
    ["한", "국", "어", " ", "각", "ᄒ\u1161\u11ab", "가\u11ab", "ᄀ", "a"],
    ["שָׁ", "ל", "וֹ", "ם"],
    ["ف", "ي", " ", "ص", "ب", "ا", "حٍ"],
    ["น้ำ", "กำ", "春", "か\u3099"],
    ["\udcff", "\u0301", "a\u0301"],
]
