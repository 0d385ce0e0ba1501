"""Policies: one protocol, a folder or file a family, made by name."""
