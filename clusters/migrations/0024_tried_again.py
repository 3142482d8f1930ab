"""What revisions failed and gateways tried again: the gate of a rollout counts it."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("clusters", "0023_evaluations")]

    operations = [
        migrations.AddField("endpointsignal", "tried_again", models.JSONField(default=dict)),
    ]
