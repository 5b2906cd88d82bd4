"""Thin ports to the services that a job's pipeline talks to."""
