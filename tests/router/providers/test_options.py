"""What an option's rule takes; numbers come from JSON, whole ones as integers."""

import pytest

from services.router.providers.options import OptionRule


@pytest.mark.parametrize(
    ("rule", "taken", "refused"),
    [
        (OptionRule(int, low=0, high=20), (0, 20), (-1, 21, 5.5, True, "5")),
        (OptionRule(float, low=0.2, high=0.5), (0.2, 0.5), (0.1, 1, False, "0.3")),
        (OptionRule(bool), (True, False), (1, "true", None)),
        (OptionRule(str, ("on", "off")), ("on",), ("auto", "", True)),
        (OptionRule(str), ("a dog",), ("", "x" * 201, 3)),
    ],
)
def test_rules(rule: OptionRule, taken: tuple[object, ...], refused: tuple[object, ...]) -> None:
    assert all(map(rule.takes, taken))
    assert not any(map(rule.takes, refused))
