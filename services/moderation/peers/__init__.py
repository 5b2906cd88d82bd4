"""Thin ports to the other services."""
