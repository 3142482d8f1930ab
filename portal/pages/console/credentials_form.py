"""The fields by which a cluster's credentials are given: a kubeconfig, or its parts one by one."""

from __future__ import annotations

from typing import Any, Final

from django import forms

from clusters.inventory import registration
from portal.pages.console.forms import ConsoleForm
from portal.pages.secrets import SecretArea, SecretForm, text_of
from tenants.errors import Invalid

KUBECONFIG: Final = ("kubeconfig", "kubeconfig_file", "context")
BY_HAND: Final = ("server", "ca_data", "token", "client_certificate", "client_key")

CREDENTIAL_GROUPS: Final = (
    (
        "Credentials from a kubeconfig",
        "It is read as data: programs and files that it names are never run or opened. "
        "Make one that stands alone with kubectl config view --raw --flatten --minify.",
        KUBECONFIG,
    ),
    ("Or its parts by hand", "Leave these empty when you gave a kubeconfig.", BY_HAND),
)


class CredentialsForm(SecretForm, ConsoleForm):
    """One way or the other of giving credentials; :meth:`credentials` reads them."""

    kubeconfig = forms.CharField(
        required=False, strip=False, max_length=512 * 1024, widget=SecretArea(rows=6),
        help_text="Paste it whole, or choose its file.",
    )  # fmt: skip
    kubeconfig_file = forms.FileField(required=False, label="Kubeconfig file")
    context = forms.CharField(
        required=False, max_length=200, help_text="Of the kubeconfig. Empty: its current one."
    )
    server = forms.CharField(
        required=False, max_length=300, label="API server",
        help_text="For instance https://10.0.0.10:6443.",
    )  # fmt: skip
    ca_data = forms.CharField(
        required=False, strip=False, max_length=64 * 1024, widget=SecretArea(rows=4),
        label="Certificate authority", help_text="PEM. Empty: the public authorities.",
    )  # fmt: skip
    token = forms.CharField(
        required=False, max_length=64 * 1024, widget=SecretArea(rows=3),
        help_text="Of the ServiceAccount that deploy/cluster/ makes.",
    )  # fmt: skip
    client_certificate = forms.CharField(
        required=False, strip=False, max_length=64 * 1024, widget=SecretArea(rows=4),
        help_text="PEM, in place of a token.",
    )  # fmt: skip
    client_key = forms.CharField(
        required=False, strip=False, max_length=64 * 1024, widget=SecretArea(rows=4),
        help_text="PEM of the certificate's key, unencrypted.",
    )  # fmt: skip

    groups = CREDENTIAL_GROUPS
    wide = (CREDENTIAL_GROUPS[0][0],)

    def clean_kubeconfig_file(self) -> str:
        upload = self.cleaned_data["kubeconfig_file"]
        return text_of(upload) if upload else ""

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        pasted, uploaded = values.get("kubeconfig", "").strip(), values.get("kubeconfig_file")
        by_hand = [name for name in BY_HAND if values.get(name, "").strip()]
        if self.errors.keys() & {*KUBECONFIG, *BY_HAND}:
            return values
        if pasted and uploaded:
            self.add_error("kubeconfig_file", "Paste the kubeconfig or choose its file, not both.")
        elif (pasted or uploaded) and by_hand:
            self.add_error(by_hand[0], "The kubeconfig says this already; give one or the other.")
        elif not pasted and not uploaded and not by_hand:
            self.add_error("kubeconfig", "Give a kubeconfig, or the server and a token below.")
        elif by_hand and "server" not in by_hand:
            self.add_error("server", "Say where the API server is.")
        return values

    def credentials(self) -> Any:
        """Read the credentials of the valid form.

        Raises:
            Invalid: they cannot be used; it names the field of this form.
        """
        values = self.cleaned_data
        text = values["kubeconfig"] if values["kubeconfig"].strip() else values["kubeconfig_file"]
        if not text:
            return registration.credentials_given(
                **{name: values[name].strip() for name in BY_HAND if values[name].strip()}
            )
        try:
            return registration.credentials_from_kubeconfig(text, context=values["context"])
        except Invalid as error:
            field = "kubeconfig" if values["kubeconfig"].strip() else "kubeconfig_file"
            raise Invalid(error.message, errors={field: [error.message]}) from error
