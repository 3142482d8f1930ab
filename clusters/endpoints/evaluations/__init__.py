"""Evaluations: prompts with checks that a revision has to answer well enough before it gets traffic."""
