"""Money that endpoints could save: found from what they held and served, kept as rows, put off by people."""
