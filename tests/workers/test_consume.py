"""What a worker's end of the queue does when Redis is gone."""

from __future__ import annotations

import pytest
from kombu import Connection
from kombu.transport import redis as kombu_redis

from tests.workers.conftest import RedisServer
from workers import consume
from workers.app import broker_url, transport_options
from workers.resp import Address


@pytest.mark.guest
def test_what_can_not_be_acknowledged_takes_no_place_for_ever(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kombu_redis.Channel, "QoS", consume.ForgivingQoS)
    with Connection(broker_url(redis_server.url), transport_options=transport_options("test")) as connection:
        channel = connection.channel()
        channel.basic_qos(0, 1, False)
        queue = connection.SimpleQueue("test", channel=channel, queue_opts={"exclusive": False})
        queue.put({"one": 1})
        message = queue.get(timeout=5)
        assert not channel.qos.can_consume()
        redis_server.kill()
        with pytest.raises(connection.connection_errors):
            message.ack()
        assert channel.qos.can_consume()
        redis_server.start()


@pytest.mark.guest
def test_an_index_without_messages_does_not_stay(redis_server: RedisServer) -> None:
    address, redis = Address.parse(redis_server.url), redis_server.client()
    redis.execute(("ZADD", "unacked.test.index", "1.5", "5edc65a2"))
    assert consume.restore_unacked(address, "test") == 0
    assert redis.execute(("EXISTS", "unacked.test.index"), ("LLEN", "test")) == [0, 0]
