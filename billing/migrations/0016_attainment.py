"""What was kept lies within what was counted; a tenant's days of a month are read at once."""

from django.db import migrations, models
from django.db.models import F, Q


class Migration(migrations.Migration):
    dependencies = [("billing", "0015_reports")]

    operations = [
        migrations.AddConstraint(
            model_name="attainment",
            constraint=models.CheckConstraint(
                condition=Q(failed__lte=F("requests"), ttft_met__lte=F("hours"), itl_met__lte=F("hours")),
                name="attainment_within_what_was_counted",
            ),
        ),
        migrations.AddIndex(
            model_name="attainment",
            index=models.Index(fields=["tenant", "day"], name="attainment_days"),
        ),
    ]
