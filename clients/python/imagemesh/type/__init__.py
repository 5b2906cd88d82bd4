"""Stubs generated from protos/."""
