"""Prices on quantities: plain functions, exact until one rounding at the line."""
