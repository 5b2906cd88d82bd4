"""Personal data: what is found, what is not, and what the text is without it. The tables are the specification."""

from __future__ import annotations

import base64
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.moderation import check_digits, pii
from services.moderation.normalise import normalise

# Numbers made up for documentation and tests: published examples, or computed from the countries' rules.
FOUND = {
    "write to jane.doe@mail.org today": "email",
    "logo with jane (at) mail (dot) org": "email",
    "card 4111 1111 1111 1111 on a table": "card",
    "card 5500-0000-0000-0004": "card",
    "amex 378282246310005": "card",
    "IBAN GB29 NWBK 6016 1331 9268 19 please": "iban",
    "DE89370400440532013000": "iban",
    "FR1420041010050500013M02606": "iban",
    "NO93 8601 1117 947 on paper": "iban",
    "SSN 078-05-1120": "us-ssn",
    "social security 219099999": "us-ssn",
    "NINO AB123456C": "uk-nino",
    "nino ab 12 34 56 c": "uk-nino",
    "DNI 12345678Z": "es-dni",
    "NIE X1234567L": "es-dni",
    "codice RSSMRA85T10A562S": "it-codice-fiscale",
    "NIR 2 55 08 14 168 025 38": "fr-nir",
    "steuer-id 86095742719": "de-tax-id",
    "BSN 111222333": "nl-bsn",
    "85.07.30-033.28": "be-national",
    "PESEL 44051401359": "pl-pesel",
    "NIF 123456789": "pt-nif",
    "811218-9876": "se-personnummer",
    "131052-308T": "fi-hetu",
    "fødselsnummer 01010750160": "no-birth-number",
    "CPF 529.982.247-25": "br-cpf",
    "SIN 046 454 286": "ca-sin",
    "aadhaar 2341 2341 2346": "in-aadhaar",
    "id 11010519491231002X": "cn-resident",
    "S1234567D": "sg-nric",
    "TFN 123 456 782": "au-tfn",
    "passport number L898902C3 no, passport no 123456789": "passport",
    "call +44 20 7946 0958": "phone",
    "(212) 555-0143": "phone",
    "212-555-0143": "phone",
    "tel 030 1234567": "phone",
    "phone 5551234567": "phone",
    "06 12 34 56 78": "phone",
    "07700 900123": "phone",
    "０７７００ ９００１２３": "phone",
    "card ４１１１ １１１１ １１１１ １１１１": "card",
    base64.b64encode(b"card 4111111111111111").decode(): "card",
    "jane\u200b.doe@ma\u200bil.org": "email",
}
NOT_FOUND = (
    "a castle, 1920x1080, 4k, 8k uhd, hdr10+",
    "seed 1234567890, steps 30, cfg 7.5",
    "seed: 4111111111111111, sampler euler",
    "--seed 3141592653 --ar 16:9 --v 6.1 --stylize 750",
    "shot on Canon EOS 5D Mark IV, 85mm f/1.4, ISO 100, 1/250s",
    "Nikon D850, 24-70mm, 2019-05-14 12:30:45",
    "world war 1914-1918, 1939-1945",
    "version 2.5.1-rc3, build 20240131",
    "colours #ff00aa #1a2b3c4d rgb(255, 120, 30)",
    "hex 0xdeadbeef and 123e4567-e89b-12d3-a456-426614174000",
    "pi is 3.14159265358979323846",
    "a population of 7 900 000 000 people",
    "1 000 000 000 stars in a galaxy",
    "a box of 123-45 pencils, 10-20-30 pattern",
    "coordinates 52.520008, 13.404954",
    "masterpiece, (best quality:1.4), (detailed:1.2), <lora:add_detail:0.8>",
    "isbn 9783161484100",
    "model sd_xl_base_1.0, clip skip 2, denoise 0.35",
    "an @ sign made of neon, c@t",
    "timestamp 1700000000000",
    "a 50 year old man, 180 cm, 75 kg",
    "phone wallpaper, 1080 x 2400",
    "Boeing 747-400, F-16, Apollo 11, 1969",
    "license plate, highway 101, route 66",
    "the number 5551234 on a door",
    "grid 1 2 3 4 5 6 7 8 9 10 11 12",
    "girl (at the beach), boy (at school. in the sun)",
    "a sin of pride, 3 of 7",
)


def kinds(text: str) -> list[str]:
    return [hit.kind for hit in pii.find(normalise(text))]


@pytest.mark.parametrize(("text", "kind"), FOUND.items())
def test_found(text: str, kind: str) -> None:
    assert set(kinds(text)) == {kind}


@pytest.mark.parametrize("text", NOT_FOUND)
def test_not_found(text: str) -> None:
    assert kinds(text) == []


SCRUBBED = {
    "mail jane.doe@mail.org or call +44 20 7946 0958, ok?": "mail [email] or call [phone], ok?",
    "pay GB29 NWBK 6016 1331 9268 19 now": "pay [iban] now",
    "card ４１１１ １１１１ １１１１ １１１１!": "card [card]!",
    "a castle, 1920x1080": "a castle, 1920x1080",
    "": "",
    "\ud800 jane@mail.org": "\ud800 [email]",
}


@pytest.mark.parametrize(("text", "expected"), SCRUBBED.items())
def test_scrub(text: str, expected: str) -> None:
    assert pii.scrub(text) == expected


@given(st.text(max_size=200), st.sampled_from(sorted(FOUND)))
def test_nothing_is_left_after_scrubbing(around: str, text: str) -> None:
    scrubbed = pii.scrub(f"{around}\n{text}")
    assert pii.scrub(scrubbed) == scrubbed


@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=300))
def test_any_text_is_taken(text: str) -> None:
    end = 0
    for hit in pii.find(normalise(text)):
        assert end <= hit.start < hit.end <= len(text)
        end = hit.end


def test_a_typing_mistake_fails_the_check() -> None:
    """One changed digit is always told by the checks of cards, IBANs and Aadhaar numbers."""
    for good, valid in (
        ("4111111111111111", check_digits.card),
        ("234123412346", check_digits.in_aadhaar),
        ("GB29NWBK60161331926819", check_digits.iban),
    ):
        assert valid(good)
        last = len(good) - 1
        for digit in set("0123456789") - {good[last]}:
            assert not valid(good[:last] + digit)


def test_hits_point_at_the_original() -> None:
    text = "so: ＊jane.doe@mail.org＊"
    (hit,) = pii.find(normalise(text))
    assert text[hit.start : hit.end] == "jane.doe@mail.org"


HOSTILE = {
    "digits": "1" * 32_000,
    "single digits": "1 " * 16_000,
    "groups": "1234 " * 6_400,
    "dashes": "1-" * 16_000,
    "cards": "4111111111111111 " * 1_800,
    "numbers": "078-05-1120 " * 2_600,
    "mail": "a" * 15_000 + "@" + "b." * 8_000,
    "signs": "a@" * 16_000,
    "letters and digits": "gb29nwbk6016 " * 2_400,
    "plus": "+1" * 16_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_texts_take_bounded_time(text: str) -> None:
    normalised, begun = normalise(text), time.process_time()
    pii.find(normalised)
    assert time.process_time() - begun < 2.0
