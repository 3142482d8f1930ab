"""A wait for capacity as JSON."""

from __future__ import annotations

from rest_framework import serializers


class AtOnceSerializer(serializers.Serializer):
    """What could be had at once if the order gave up one demand."""

    relaxation = serializers.CharField()
    value = serializers.CharField()
    message = serializers.CharField()
    cluster = serializers.CharField()
    region = serializers.CharField()
    gpu = serializers.CharField()
    gpus = serializers.IntegerField()
    precision = serializers.CharField()
    price_per_hour = serializers.CharField()


class CapacitySerializer(serializers.Serializer):
    """A place in the queue for free GPUs: classes of higher priority first, then who has waited longer."""

    since = serializers.DateTimeField(allow_null=True, help_text="Null for what was not ordered yet.")
    pools = serializers.ListField(child=serializers.CharField(), help_text="Any of them would do.")
    position = serializers.IntegerField()
    waiting = serializers.IntegerField(help_text="That could use the same pools, this one included.")
    estimate = serializers.CharField(help_text="How long it may take, in words.")
    estimate_s = serializers.FloatField(allow_null=True, help_text="Seconds from now; null: nothing says.")
    at_most_s = serializers.FloatField(allow_null=True, help_text="What nine of ten keep to.")
    sample = serializers.IntegerField(help_text="Waits of the last 30 days that say so.")
    alternatives = AtOnceSerializer(many=True)
