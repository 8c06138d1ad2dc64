"""Writes what a client sends as a file of this folder: point the client at PORT instead of the server.

    record.py PORT SERVER_PORT > client.sql      both on 127.0.0.1, without TLS; it runs until it is ended

Statements that were seen before are left out. The head, and what to compare of each answer, are for a person to write.
"""

import asyncio
import struct
import sys

TLS, GSSAPI = 80877103, 80877104
# What is sent again because it changes the session's state.
STATE = ("BEGIN", "START", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "DECLARE", "FETCH", "CLOSE")
seen = set()


async def pump(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def start_up(client, answer, server):
    """The messages before the first that has a type; TLS is refused, so that what follows can be read."""
    while True:
        length, code = struct.unpack("!II", await client.readexactly(8))
        rest = await client.readexactly(length - 8)
        if code not in (TLS, GSSAPI):
            server.write(struct.pack("!II", length, code) + rest)
            return
        answer.write(b"N")


def take(data, form, at):
    size = struct.calcsize(form)
    return struct.unpack(form, data[at:at + size]), at + size


def name(data, at):
    end = data.index(b"\0", at)
    return data[at:end].decode(), end + 1


def parse(data):
    statement, at = name(data, 0)
    text, at = name(data, at)
    (count,), at = take(data, "!H", at)
    return statement, text, take(data, f"!{count}I", at)[0]


def bind(data):
    portal, at = name(data, 0)
    statement, at = name(data, at)
    (count,), at = take(data, "!H", at)
    formats, at = take(data, f"!{count}H", at)
    (count,), at = take(data, "!H", at)
    values = []
    for index in range(count):
        (size,), at = take(data, "!i", at)
        value = None if size < 0 else data[at:at + size]
        at += max(size, 0)
        binary = formats and formats[min(index, len(formats) - 1)] == 1
        values.append("NULL" if value is None else "binary " + value.hex() if binary else value.decode())
    (count,), at = take(data, "!H", at)
    return portal, statement, values, 1 in take(data, f"!{count}H", at)[0]


def write(protocol, text, parameters=()):
    lines = [f"-- send: {protocol}", *(f"-- parameter: {oid} {value}" for oid, value in parameters), text.strip()]
    block = "\n".join(lines)
    again = block in seen and not text.lstrip().upper().startswith(STATE)
    if text.strip() and not again:
        seen.add(block)
        print(block, end="\n\n", flush=True)


async def listen(client, server):
    statements, portals = {}, {}
    while True:
        try:
            kind = await client.readexactly(1)
        except asyncio.IncompleteReadError:
            server.close()
            return
        (length,) = struct.unpack("!I", head := await client.readexactly(4))
        data = await client.readexactly(length - 4)
        server.write(kind + head + data)
        if kind == b"Q":
            write("simple", name(data, 0)[0])
        elif kind == b"P":
            statement, text, oids = parse(data)
            statements[statement] = text, oids
        elif kind == b"B":
            portal, statement, values, binary = bind(data)
            text, oids = statements.get(statement, ("", ()))
            portals[portal] = text, [*zip([*oids, *[0] * (len(values) - len(oids))], values)], binary
        elif kind == b"E":
            text, parameters, binary = portals[name(data, 0)[0]]
            write("extended binary" if binary else "extended", text, parameters)


async def serve(port, server_port):
    async def handle(client, answer):
        server_reader, server = await asyncio.open_connection("127.0.0.1", server_port)
        await start_up(client, answer, server)
        await asyncio.gather(pump(server_reader, answer), listen(client, server), return_exceptions=True)

    async with await asyncio.start_server(handle, "127.0.0.1", port) as listener:
        await listener.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(serve(*map(int, sys.argv[1:])))
    except KeyboardInterrupt:
        pass
