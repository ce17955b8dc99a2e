"""Canonical passes, Graph → Graph, each with its before and after in the docstring."""
