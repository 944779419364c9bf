"""The floor: what plain Python can do at best. Accept, greet, and one ``send`` per client and event, nothing else.

No limits, identities, slow readers, heartbeats or hang-ups: it shows the price of the machine, not a server to use.
"""

from __future__ import annotations

import resource
import select
import socket
import sys

import redis

CHANNEL = "bench:floor"
# gunicorn's own, as in deploy/gunicorn.conf.py.
_BACKLOG = 4096
_REQUEST_BYTES = 4096
_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
_REQUEST_WAIT_S = 5.0


def serve(port: int, redis_url: str) -> None:
    """Serve until killed."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    redis_client = redis.Redis.from_url(redis_url)
    pubsub = redis_client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]  # redis-py
    pubsub.subscribe(CHANNEL)
    pubsub.get_message(timeout=_REQUEST_WAIT_S)
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(_BACKLOG)
    news: int = pubsub.connection._sock.fileno()  # redis-py has no public way to wait for it beside other sockets
    poll = select.epoll()
    poll.register(listener, select.EPOLLIN)
    poll.register(news, select.EPOLLIN)
    greeting = _chunk(b'event: leaderboard:initial\ndata: {"version":0}\n\n')
    clients: list[socket.socket] = []
    print("ready", flush=True)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == news:
                while message := pubsub.get_message():
                    frame = _chunk(b"event: leaderboard:update\ndata: " + message["data"] + b"\n\n")
                    for client in clients:
                        client.send(frame)
            else:
                clients.append(_greet(listener, greeting))


def _greet(listener: socket.socket, greeting: bytes) -> socket.socket:
    client, _ = listener.accept()
    client.settimeout(_REQUEST_WAIT_S)
    client.recv(_REQUEST_BYTES)
    client.sendall(_HEAD + greeting)
    client.setblocking(False)
    return client


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2])
