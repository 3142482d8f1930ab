"""What a place was when a revision was placed there. Of revisions from before, nobody knows."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("clusters", "0017_approvals")]

    operations = [
        migrations.AddField(
            model_name="revision",
            name="place",
            field=models.JSONField(
                blank=True,
                help_text="Region, country, zones and certifications of its cluster when it was placed there.",
                null=True,
            ),
        ),
    ]
