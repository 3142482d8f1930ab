"""Keys that one revision answers, for evaluations."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("tenants", "0010_identity")]

    operations = [
        migrations.AddField(
            model_name="apikey",
            name="revision",
            field=models.UUIDField(
                blank=True,
                editable=False,
                help_text="The one revision that answers its requests, for evaluations. Empty: any.",
                null=True,
            ),
        ),
        migrations.AlterField(
            model_name="apikey",
            name="ephemeral",
            field=models.BooleanField(
                default=False, help_text="Minted by the portal for its playground, or for an evaluation."
            ),
        ),
        migrations.AddConstraint(
            model_name="apikey",
            constraint=models.CheckConstraint(
                condition=models.Q(("revision", None))
                | models.Q(("ephemeral", True), ("scope", "inference")),
                name="key_of_a_revision_is_ephemeral",
            ),
        ),
    ]
