"""Check digits of numbers that name a person or an account; pure arithmetic over digits and letters.

Sources: ISO/IEC 7812-1 (cards), ISO 13616 and ISO 7064 (IBAN, mod 11-10, mod 11-2), and each country's published rule
for its national number. Every function takes the number without separators, letters in upper case, and says whether
it is one.
"""

from __future__ import annotations

from collections.abc import Sequence

_LENGTHS = (
    (15, "NO"), (16, "BE"), (18, "DK FI FO GL NL"), (19, "MK SI"), (20, "AT BA EE KZ LT LU XK"), (21, "CH HR LI LV"),
    (22, "BG BH CR DE GB GE IE ME RS VA"), (23, "AE GI IL IQ TL"), (24, "AD CZ ES MD PK RO SA SE SK TN VG"),
    (25, "LY PT ST"), (26, "IS TR"), (27, "FR GR IT MC MR SM"), (28, "AL AZ BY CY DO GT HU LB PL SV"),
    (29, "BR EG PS QA UA"), (30, "JO KW MU"), (31, "MT SC"), (32, "LC"),
)  # fmt: skip
IBAN_LENGTHS = {country: length for length, countries in _LENGTHS for country in countries.split()}
_VERHOEFF_D = (
    "0123456789", "1234067895", "2340178956", "3401289567", "4012395678",
    "5987604321", "6598710432", "7659821043", "8765932104", "9876543210",
)  # fmt: skip
_VERHOEFF_P = (
    "0123456789", "1576283094", "5803796142", "8916043527",
    "9453126870", "4286573901", "2793806415", "7046913258",
)  # fmt: skip
_CODICE_ODD = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)
_CARD_LENGTHS = {"3": (14, 15, 16), "4": (13, 16, 19), "5": (16,), "6": (16, 19), "2": (16,)}


def luhn(digits: str) -> bool:
    """Modulo 10 with every second digit doubled."""
    doubled = (int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits)))
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0


def card(digits: str) -> bool:
    """A payment card: issuer, length, Luhn, and not one digit over and over."""
    fits = len(digits) in _CARD_LENGTHS.get(digits[0], ())
    if digits[0] == "2":
        fits = fits and 2221 <= int(digits[:4]) <= 2720
    if digits[0] == "3":
        fits = fits and digits[:2] in ("30", "34", "35", "36", "37", "38", "39")
    return fits and len(set(digits)) > 1 and luhn(digits)


def iban(text: str) -> bool:
    """An account of a country that has IBANs."""
    if IBAN_LENGTHS.get(text[:2]) != len(text):
        return False
    return int("".join(str(int(character, 36)) for character in text[4:] + text[:4])) % 97 == 1


def us_ssn(digits: str) -> bool:
    """Areas, groups and serials that were never given out are none."""
    area = int(digits[:3])
    return area not in (0, 666) and area < 900 and digits[3:5] != "00" and digits[5:] != "0000"


def uk_nino(text: str) -> bool:
    """Prefixes that are never given out are none."""
    prefix = text[:2]
    if prefix in ("BG", "GB", "NK", "KN", "TN", "NT", "ZZ") or prefix[1] == "O":
        return False
    return not set(prefix) & set("DFIQUV") and text[8] in "ABCD"


def es_dni(text: str) -> bool:
    """Spain, DNI and NIE: a letter from the number modulo 23."""
    number = text[:-1].translate(str.maketrans("XYZ", "012"))
    return "TRWAGMYFPDXBNJZSQVHLCKE"[int(number) % 23] == text[-1]


def it_codice_fiscale(text: str) -> bool:
    """Italy: the last letter is a weighted sum modulo 26."""
    values = [int(character) if character.isdigit() else ord(character) - ord("A") for character in text[:15]]
    total = sum(_CODICE_ODD[value] if place % 2 == 0 else value for place, value in enumerate(values))
    return chr(ord("A") + total % 26) == text[15]


def fr_nir(text: str) -> bool:
    """France: 97 less the number modulo 97; Corsica's departments are 19 and 18."""
    number = text[:13].replace("2A", "19").replace("2B", "18")
    return number.isdigit() and 97 - int(number) % 97 == int(text[13:])


def de_tax_id(digits: str) -> bool:
    """Germany: ISO 7064 mod 11-10, and a digit that comes twice or three times in the first ten."""
    rest = 10
    for digit in digits[:10]:
        rest = ((int(digit) + rest) % 10 or 10) * 2 % 11
    return digits[0] != "0" and len(set(digits[:10])) in (8, 9) and (11 - rest) % 10 == int(digits[10])


def nl_bsn(digits: str) -> bool:
    """The Netherlands: the eleven test."""
    return _weighed(digits[:8], range(9, 1, -1)) % 11 == int(digits[8]) and len(set(digits)) > 1


def be_national(digits: str) -> bool:
    """Belgium: 97 less the number modulo 97, with a 2 before it for births from 2000 on."""
    check = int(digits[9:])
    return any(97 - int(prefix + digits[:9]) % 97 == check for prefix in ("", "2"))


def pl_pesel(digits: str) -> bool:
    """Poland: weights 1, 3, 7, 9 over and over; a month of one of five centuries."""
    return _month(int(digits[2:4]) % 20) and (10 - _weighed(digits[:10], (1, 3, 7, 9) * 3) % 10) % 10 == int(digits[10])


def pt_nif(digits: str) -> bool:
    """Portugal: weights 9 to 2, modulo 11."""
    return (11 - _weighed(digits[:8], range(9, 1, -1)) % 11) % 11 % 10 == int(digits[8])


def se_personnummer(digits: str) -> bool:
    """Sweden: Luhn over a birth date with serial; the century may be before it."""
    digits = digits[-10:]
    return _month(int(digits[2:4])) and luhn(digits)


def fi_hetu(text: str) -> bool:
    """Finland: a character from the number modulo 31."""
    return "0123456789ABCDEFHJKLMNPRSTUVWXY"[int(text[:6] + text[-4:-1]) % 31] == text[-1]


def no_birth_number(digits: str) -> bool:
    """Norway: two weighted sums modulo 11."""
    first = (11 - _weighed(digits[:9], (3, 7, 6, 1, 8, 9, 4, 5, 2)) % 11) % 11
    second = (11 - _weighed(digits[:10], (5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11) % 11
    return [first, second] == [int(digits[9]), int(digits[10])]


def br_cpf(digits: str) -> bool:
    """Brazil: two weighted sums modulo 11."""
    first = _weighed(digits[:9], range(10, 1, -1)) * 10 % 11 % 10
    second = _weighed(digits[:10], range(11, 1, -1)) * 10 % 11 % 10
    return len(set(digits)) > 1 and [first, second] == [int(digits[9]), int(digits[10])]


def ca_sin(digits: str) -> bool:
    """Canada: Luhn; 8 begins none, 0 those of examples."""
    return digits[0] != "8" and luhn(digits)


def in_aadhaar(digits: str) -> bool:
    """India: Verhoeff's dihedral check; 0 and 1 begin none."""
    check = 0
    for place, digit in enumerate(reversed(digits)):
        check = int(_VERHOEFF_D[check][int(_VERHOEFF_P[place % 8][int(digit)])])
    return digits[0] not in "01" and check == 0


def cn_resident(text: str) -> bool:
    """China: ISO 7064 mod 11-2 over region, birth date and serial."""
    weights = tuple(pow(2, 17 - place, 11) for place in range(17))
    return _month(int(text[10:12])) and "10X98765432"[_weighed(text[:17], weights) % 11] == text[17]


def kr_rrn(digits: str) -> bool:
    """South Korea: weights 2 to 9 and 2 to 5, modulo 11."""
    total = _weighed(digits[:12], (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5))
    return _month(int(digits[2:4])) and (11 - total % 11) % 10 == int(digits[12])


def sg_nric(text: str) -> bool:
    """Singapore: a letter from a weighted sum modulo 11, by series."""
    total = _weighed(text[1:8], (2, 7, 6, 5, 4, 3, 2)) + (4 if text[0] in "TG" else 0)
    letters = "JZIHGFEDCBA" if text[0] in "ST" else "XWUTRQPNMLK"
    return letters[total % 11] == text[8]


def au_tfn(digits: str) -> bool:
    """Australia: a weighted sum that eleven divides."""
    return _weighed(digits, (1, 4, 3, 7, 5, 8, 6, 9, 10)) % 11 == 0


def _weighed(digits: str, weights: Sequence[int]) -> int:
    return sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=False))


def _month(number: int) -> bool:
    return 1 <= number <= 12
