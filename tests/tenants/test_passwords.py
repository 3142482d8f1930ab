"""Which passwords may be chosen, as the form that changes one says."""

from __future__ import annotations

import pytest
from django.urls import reverse

from tenants.models import User

pytestmark = pytest.mark.django_db
OLD = "correct horse battery staple"


@pytest.fixture
def ada(client) -> User:
    user = User.objects.create_user("ada@acme.example", OLD)
    assert client.login(email=user.email, password=OLD)
    return user


def change(client, password: str, *, old: str = OLD):
    return client.post(
        reverse("account_change_password"),
        {"oldpassword": old, "password1": password, "password2": password},
    )


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("short-1", "at least 12"),
        ("123456789012345", "entirely numeric"),
        ("1q2w3e4r5t6y", "too common"),
        ("Berth-2026-Portal!", "easy to guess here"),
        ("nvidia_triton_42", "easy to guess here"),
        ("ada@acme.example", "too similar"),
    ],
)
def test_what_is_easily_guessed_is_refused(client, ada, password, why):
    page = change(client, password)
    assert page.status_code == 200
    assert why in page.content.decode().replace("’", "'")
    ada.refresh_from_db()
    assert ada.check_password(OLD)


@pytest.mark.parametrize(
    "password",
    [
        "twelve words",
        "all lower case letters of any kind",
        "ünïcödé pässwörter",
        "x7" * 60,
        "the berth of a small boat",
    ],
)
def test_length_alone_makes_a_password(client, ada, password):
    """No rule asks for kinds of characters; 64 and more are taken, and kept as they were typed."""
    assert change(client, password).status_code == 302
    ada.refresh_from_db()
    assert ada.check_password(password)
    assert not ada.check_password(password.upper())


def test_the_current_one_is_asked_for(client, ada):
    assert change(client, "another horse and another staple", old="wrong").status_code == 200
    ada.refresh_from_db()
    assert ada.check_password(OLD)


def test_the_form_lets_managers_of_passwords_work(client, ada):
    page = client.get(reverse("account_change_password")).content.decode()
    assert page.count('type="password"') == 3
    assert 'autocomplete="current-password"' in page
    assert page.count('autocomplete="new-password"') == 2
    assert "onpaste" not in page
