"""The audit: what was done, by whom, from where, before and after; append-only, one hash chain for each tenant.

Rows of the tables in :mod:`tenants.audit.registry` are audited by triggers, in the transaction of the change and
whatever statement made it. :func:`audit` adds acts that change no row, or that say more than the row does.
"""

from tenants.audit.writing import access, audit

__all__ = ["access", "audit"]
