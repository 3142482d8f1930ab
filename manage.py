#!/usr/bin/env python
"""Berth's command line."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings.embedded")
    from django.core.management import execute_from_command_line

    if sys.argv[1:2] == ["watch_clusters"]:  # the one command that runs as a process of production
        import django

        from portal.checks import refuse_to_start

        django.setup()
        refuse_to_start()
    from tenants import acting

    with acting.command(sys.argv[1] if len(sys.argv) > 1 else "manage.py"):
        execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
