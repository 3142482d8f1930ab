"""What keys, projects and tenants may use of gateways, and what tenants choose of them."""

import django.core.validators
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("tenants", "0003_operator_answers"),
    ]

    operations = [
        migrations.AddField(
            model_name="apikey",
            name="context_tokens",
            field=models.PositiveIntegerField(
                blank=True, null=True, validators=[django.core.validators.MinValueValidator(2)]
            ),
        ),
        migrations.AddField(
            model_name="apikey",
            name="requests_per_minute",
            field=models.PositiveIntegerField(
                blank=True, null=True, validators=[django.core.validators.MinValueValidator(1)]
            ),
        ),
        migrations.AddField(
            model_name="apikey",
            name="slo_class",
            field=models.CharField(blank=True, max_length=40),
        ),
        migrations.AddField(
            model_name="apikey",
            name="tokens_per_minute",
            field=models.PositiveIntegerField(
                blank=True,
                help_text="Input and output together.",
                null=True,
                validators=[django.core.validators.MinValueValidator(1)],
            ),
        ),
        migrations.AddField(
            model_name="project",
            name="requests_per_minute",
            field=models.PositiveIntegerField(
                blank=True, null=True, validators=[django.core.validators.MinValueValidator(1)]
            ),
        ),
        migrations.AddField(
            model_name="project",
            name="tokens_per_minute",
            field=models.PositiveIntegerField(
                blank=True,
                help_text="Input and output together.",
                null=True,
                validators=[django.core.validators.MinValueValidator(1)],
            ),
        ),
        migrations.AddField(
            model_name="tenant",
            name="files_days",
            field=models.PositiveSmallIntegerField(
                default=7,
                help_text="How long files and batches are kept.",
                validators=[
                    django.core.validators.MinValueValidator(1),
                    django.core.validators.MaxValueValidator(30),
                ],
            ),
        ),
        migrations.AddField(
            model_name="tenant",
            name="refuse_after_s",
            field=models.PositiveIntegerField(
                blank=True,
                help_text="How long a gateway that hears nothing of Berth goes on serving it. Empty: for ever.",
                null=True,
                validators=[
                    django.core.validators.MinValueValidator(60),
                    django.core.validators.MaxValueValidator(31622400),
                ],
            ),
        ),
        migrations.AddField(
            model_name="tenant",
            name="requests_per_minute",
            field=models.PositiveIntegerField(
                blank=True, null=True, validators=[django.core.validators.MinValueValidator(1)]
            ),
        ),
        migrations.AddField(
            model_name="tenant",
            name="share",
            field=models.FloatField(
                default=1,
                help_text="Its weight beside other tenants on shared endpoints.",
                validators=[
                    django.core.validators.MinValueValidator(0.01),
                    django.core.validators.MaxValueValidator(100.0),
                ],
            ),
        ),
        migrations.AddField(
            model_name="tenant",
            name="tokens_per_minute",
            field=models.PositiveIntegerField(
                blank=True,
                help_text="Input and output together.",
                null=True,
                validators=[django.core.validators.MinValueValidator(1)],
            ),
        ),
        migrations.AddConstraint(
            model_name="apikey",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("scope", "inference"),
                    models.Q(
                        ("context_tokens", None),
                        ("requests_per_minute", None),
                        ("slo_class", ""),
                        ("tokens_per_minute", None),
                    ),
                    _connector="OR",
                ),
                name="key_limits_are_of_inference",
                violation_error_message="Only inference keys have limits.",
            ),
        ),
    ]
