"""Measurements: ``make bench``, or ``make bench BENCH=name``. Speed is measured here and never in a timed test."""
