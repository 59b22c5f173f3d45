"""A label is contradicted by another script or by another language's small words, and by nothing less."""

import pytest

from model.train.data.curation.features import Text
from model.train.data.curation.language import LIMIT, foreign, known

TEXTS = {
    "en": "The ferryman looked at the sky and carried the oars under the roof, for there would be rain when they came "
    "back with the boat, and it was not his habit to leave them there.",
    "de": "Der Fährmann sah in den Himmel und trug die Ruder unter das Dach, weil es regnen würde, und er wollte sie "
    "nicht im Boot lassen, auch wenn es nur für eine Nacht war und sich der Wind legte.",
    "fr": "Le passeur regarda le ciel et porta les rames dans la maison, parce que la pluie viendrait avec le soir, et "
    "il ne voulait pas les laisser dans le bateau, même pour une nuit; elle est dans une caisse des plus grandes.",
    "es": "El barquero miró el cielo y llevó los remos a la casa, porque había nubes y la lluvia vendría con la noche; "
    "no quería dejarlos en el bote, pero su hija le dijo que ya no hay donde ponerlos cuando llueve sin parar.",
    "it": "Il barcaiolo guardò il cielo e portò i remi nella casa, perché le nubi erano nere e la pioggia sarebbe "
    "venuta con la sera; non voleva lasciarli nella barca, anche se era solo per una notte, e gli disse di più.",
    "pt": "O barqueiro olhou para o céu e levou os remos para a casa, porque as nuvens eram negras e a chuva não "
    "tardava; ele não quis deixar isso no barco, mas a filha também disse que já não há lugar quando chove muito.",
    "ru": "Паромщик посмотрел на небо и отнёс вёсла под крышу: к вечеру будет дождь.",
    "ar": "نظر صاحب القارب إلى السماء وحمل المجاديف إلى البيت لأن المطر قادم.",
    "hi": "नाविक ने आकाश की ओर देखा और चप्पू छत के नीचे रख दिए क्योंकि बारिश होने वाली थी।",
    "zh": "船夫看了看天空，把桨搬到屋檐下，因为傍晚要下雨了，他不想把桨留在船上。",
    "ja": "渡し守は空を見て、櫂を軒の下に運んだ。夕方には雨になるだろうから。",
    "ko": "뱃사공은 하늘을 보고 노를 지붕 아래로 옮겼다. 저녁에는 비가 올 것이다.",
}
LATIN = ("en", "de", "fr", "es", "it", "pt")


def test_every_known_language_has_a_text() -> None:
    assert sorted(TEXTS) == known()


@pytest.mark.parametrize("lang", TEXTS)
def test_own_language_is_not_contradicted(lang: str) -> None:
    assert foreign(Text(TEXTS[lang] * 3), lang) < 0.4


@pytest.mark.parametrize("label", TEXTS)
@pytest.mark.parametrize("lang", TEXTS)
def test_plainly_other_language_is(lang: str, label: str) -> None:
    if lang != label:
        assert foreign(Text(TEXTS[lang] * 5), label) > LIMIT


def test_some_english_in_technical_text_is_fine() -> None:
    mixed = f"{TEXTS['ru']}\n    git push --force-with-lease origin main\n    git commit --amend --no-edit\n"
    assert foreign(Text(mixed), "ru") < LIMIT
    assert foreign(Text(f"{TEXTS['de']} {TEXTS['en']}"), "de") < LIMIT


def test_little_text_code_and_other_labels_say_nothing() -> None:
    assert foreign(Text("und"), "en") == 0
    assert foreign(Text(TEXTS["de"] * 3, is_code=True), "en") == 0
    assert foreign(Text(TEXTS["de"] * 3), "und") == 0
