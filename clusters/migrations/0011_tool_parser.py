"""Which of the engine's parsers reads a model's calls of tools."""

import django.core.validators
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("clusters", "0010_signals"),
    ]

    operations = [
        migrations.AddField(
            model_name="catalogmodel",
            name="tool_parser",
            field=models.CharField(
                blank=True,
                help_text="How trtllm-serve reads calls of tools in this model's answers. Empty: it takes no tools.",
                max_length=40,
                validators=[
                    django.core.validators.RegexValidator(
                        "^[a-z0-9][a-z0-9_.-]*$",
                        "Use the name of one of the engine's tool parsers, for instance qwen3.",
                    )
                ],
            ),
        ),
    ]
