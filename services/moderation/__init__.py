"""Judges prompts and pictures under versioned policies, and keeps the record of every verdict."""
