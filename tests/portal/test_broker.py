"""A worker outlives its broker."""

from __future__ import annotations

import kombu
from kombu.transport.redis import Channel

from portal.celery import app


def test_a_connection_to_a_broker_that_died_is_closed_though_messages_are_unfinished():
    """Closing it must raise nothing: Celery ends a worker whose connection cannot be closed."""
    with app.connection_for_write() as connection:
        queue = kombu.Queue("test-broker", routing_key="test-broker")
        bound = queue(connection.default_channel)
        bound.declare()
        kombu.Producer(connection).publish({"a": 1}, routing_key="test-broker", exchange="")
        try:
            channel = connection.channel()
            assert isinstance(channel, Channel)
            message = channel.basic_get("test-broker")
            assert message is not None
            assert not message.acknowledged
            transport, client = channel.connection, channel.connection.client
            channel._disconnect_pools()
            transport.client = None  # as after the connection was collected
            try:
                channel.close()
            finally:
                transport.client = client
        finally:
            queue(connection.channel()).delete()
