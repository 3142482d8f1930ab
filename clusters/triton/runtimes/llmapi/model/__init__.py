"""The front model as Triton's python backend runs it.

These modules are copied as they are into a model repository's version folder, where Triton
imports them as the package ``1``; hence the relative imports and nothing of Berth in them.
"""
