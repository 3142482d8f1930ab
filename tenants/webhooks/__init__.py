"""Telling tenants' own systems and people of what happened: signed webhooks and e-mail, by an outbox of rows."""

from tenants.webhooks.mailing import mail
from tenants.webhooks.publishing import publish

__all__ = ["mail", "publish"]
