"""The radio link between gateway and broker: a TCP proxy that can be cut and can freeze."""

import asyncio
import contextlib


class Link:
    """Carries connections to `port` while it is up; a cut breaks all of them and takes no new ones."""

    def __init__(self, port):
        self.target = port
        self.port = None
        self.moving = asyncio.Event()  # cleared: bytes wait, as on a radio without signal
        self.moving.set()
        self.is_cut = False
        self.writers = set()

    async def start(self):
        server = await asyncio.start_server(self.carry, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]

    async def carry(self, near_reader, near_writer):
        if self.is_cut:
            return near_writer.close()
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            return near_writer.close()
        ends = {near_writer, far_writer}
        self.writers |= ends
        await asyncio.gather(self.pump(near_reader, far_writer), self.pump(far_reader, near_writer))
        self.writers -= ends

    async def pump(self, reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self.moving.wait()
                writer.write(data)
                await writer.drain()
        writer.close()

    def cut(self):
        self.is_cut = True
        for writer in self.writers:
            writer.transport.abort()

    def mend(self):
        self.is_cut = False
        self.moving.set()
