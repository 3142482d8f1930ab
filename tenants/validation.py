"""A model's own validation, told in our words."""

from __future__ import annotations

from django.core.exceptions import ValidationError

from tenants.errors import Invalid


def clean(instance, *, identified_by: str = "name") -> None:
    """Run the model's own validation and turn its complaints into ours.

    ``identified_by`` is the field to blame where a constraint over the whole row is violated.

    Raises:
        Invalid: a field or a constraint is violated; the message names it.
    """
    try:
        instance.full_clean()
    except ValidationError as error:
        found = {
            (identified_by if field == "__all__" else field): list(texts)
            for field, texts in error.message_dict.items()
        }
        first = next(iter(found.values()))[0]
        raise Invalid(first, errors=found) from error
