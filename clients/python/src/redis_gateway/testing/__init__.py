"""A fake of the server, in memory, with a clock that tests set: for the tests of applications that use a gateway.

    fake = FakeRedis()
    with Gateway(fake) as gateway:
        ...
        fake.advance(60)  # seconds
        fake.away = True  # as if the server did not answer

It has the commands that `Gateway` and `AsyncGateway` use, and says of any other that it does not have it (NotInFake).
"""

from ._server import FakeRedis, NotInFake

__all__ = ["FakeRedis", "NotInFake"]
