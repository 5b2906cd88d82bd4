"""Makes the sentence encoder of the text classifier from weights that an installed package carries."""
