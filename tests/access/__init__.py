"""Who may do what: every operation of the API and every page, by every kind of caller.

``expected.py`` is the table, ``callers.py`` has the callers, ``world.py`` the rows that are asked for.
"""
