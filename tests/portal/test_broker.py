"""A worker outlives its broker."""

from __future__ import annotations

import kombu
import pytest
from kombu.transport.redis import Channel

from portal.celery import app


@pytest.mark.parametrize("does", ["acknowledges", "puts back"])
def test_what_was_in_hand_when_the_broker_died_fails_as_a_lost_connection_does(does):
    """Celery goes on after a lost connection, and ends after anything else."""
    with app.connection_for_write() as connection:
        queue = kombu.Queue("test-broker", routing_key="test-broker")
        queue(connection.default_channel).declare()
        kombu.Producer(connection).publish({"a": 1}, routing_key="test-broker", exchange="")
        try:
            channel = connection.channel()
            assert isinstance(channel, Channel)
            message = channel.basic_get("test-broker")
            assert message is not None
            transport, client = channel.connection, channel.connection.client
            channel._disconnect_pools()
            transport.client = None  # as after the connection was collected
            try:
                with pytest.raises(connection.connection_errors):
                    message.ack() if does == "acknowledges" else channel.close()
            finally:
                transport.client = client
        finally:
            queue(connection.channel()).delete()
