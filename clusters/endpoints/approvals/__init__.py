"""Wishes that somebody has to agree to: which those are, who decides, and carrying out what was agreed to."""
