"""Characters that look like Latin letters and are not decomposed to them by Unicode's compatibility forms.

Ours, by alphabet; each pair of strings maps character by character. Kept to look-alikes that a reader takes for the
letter, since every entry also touches honest text in that alphabet.
"""

from __future__ import annotations

_ALPHABETS: tuple[tuple[str, str], ...] = (
    # Cyrillic, small and capital
    ("абвгеёзіїјкӏмнорсѕтухһѡԁԛԝүҮьъыпиґ", "a6breezi" + "ijklmhopcstyxhwdqwyyb" + "bbnnr"),
    ("АВЕЁЅІЇЈКМНОРСТУХҺԌԚԜӀѴ", "abeesiijkmhopctyxhgqwlv"),
    # Greek
    ("αβγεζηικνορστυχωϲϳ", "abyeznikvopotuxwcj"),
    ("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧϹͿ", "abezhikmnoptyxcj"),
    # Armenian
    ("ոսօհցքզեԼՕՍԱ", "nuohgpqtlous"),
    # Latin letters that do not decompose
    ("ıȷɑɡɩʟɢɪʀʏʙʜɴøłđħŧƀƃɓɖɗɠɦƙɱɲŋɵþßʋʌʍɯəɛɜǝɐɹʇʞɔ", "ijagilgirybhnoldhtbbbddghkmnnopsvvmweeeeartkc"),
    ("ØŁĐĦŦƁƉƊƓƘƝŊƟƤƬƲƳƵ", "oldhtbddgknnoptvyz"),
    # Small capitals
    ("ᴀᴄᴅᴇᴊᴋᴍᴏᴘᴛᴜᴠᴡᴢꜱꜰ", "acdejkmoptuvwzsf"),
    # Cherokee and Lisu capitals often used as Latin
    ("ᎪᏴᏟᎠᎬᎻᎫᏦᏞᎷᎾᏢᎡᏚᎢᏙᎳᎩᏃ", "abcdehjklmoprstvwyz"),
    ("ꓮꓐꓚꓓꓰꓝꓖꓧꓲꓙꓗꓡꓟꓠꓳꓑꓣꓢꓔꓴꓦꓪꓫꓬꓜ", "abcdefghijklmnoprstuvwxyz"),
    # Signs that stand for letters
    ("∂∅∈∩∪ℓ℮∣│", "doenulell"),
)
_RANGES: tuple[tuple[int, int, int], ...] = (
    # first, last, first target: regional indicators, negative circled and squared letters, tag characters
    (0x1F1E6, 0x1F1FF, ord("a")),
    (0x1F150, 0x1F169, ord("a")),
    (0x1F170, 0x1F189, ord("a")),
    (0xE0020, 0xE007E, 0x20),
)
# Letters by category that show as nothing
_INVISIBLE = "\u115f\u1160\u3164\uffa0\u17b4\u17b5\u2800"


def table() -> dict[str, str]:
    """Look-alike to lower-case Latin letter; invisible letters to nothing."""
    pairs: dict[str, str] = dict.fromkeys(_INVISIBLE, "")
    for alike, latin in _ALPHABETS:
        pairs.update(zip(alike, latin, strict=True))
    for first, last, target in _RANGES:
        pairs.update({chr(code): chr(target + code - first) for code in range(first, last + 1)})
    return pairs
