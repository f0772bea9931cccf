"""Mutations of the command line and its options."""

MUTATIONS = {}
