"""Trains and measures the heads of moderation's text classifier; the data lies in `data/`, a prompt a line."""
