"""The client against real sockets: what a peer does to a connection, TLS, and memory."""

import asyncio
import socket
import tracemalloc

import httpx
import pytest

from ipaas_resources.core.errors import (
    ConfigurationError,
    SystemBusyError,
    UnknownOutcomeError,
    UnreachableError,
)
from ipaas_resources.net.client import RetryPolicy, Timeouts
from ipaas_resources.net.content import CHUNK
from tests.net.conftest import read_request

ONCE = RetryPolicy(delays=())
MEBIBYTE = 1 << 20


def answer(body=b"{}", status=b"200 OK", length=None):
    head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % (status, len(body) if length is None else length) + body


def reset(writer):
    """Close with RST, so that the peer sees a reset and not an end."""
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    writer.transport.abort()


@pytest.fixture
def real(rig):
    """A client with the real transport and one attempt, unless told otherwise."""

    def make(url, **options):
        options.setdefault("retry", ONCE)
        return rig([], base_url=url, transport=None, **options)

    return make


async def test_requests_share_a_connection(real, loopback):
    async def talk(reader, writer):
        while True:
            await read_request(reader)
            writer.write(answer())

    async with loopback(talk) as server:
        client = real(server.url).client
        for _ in range(3):
            await client.send("GET", "x", kind="read")
        await client.close()
    assert server.connections == 1


async def test_a_refused_connection_was_not_sent(real, unused_tcp_port):
    client = real(f"http://127.0.0.1:{unused_tcp_port}").client
    with pytest.raises(UnreachableError):
        await client.send("POST", "x", kind="write", content=b"{}")


async def test_an_unknown_host_was_not_sent(real, monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(UnreachableError):
        await real("http://nowhere.invalid").client.send("POST", "x", kind="write", content=b"{}")


async def test_a_reset_before_the_answer_is_unknown_for_a_write_and_busy_for_a_read(real, loopback):
    async def talk(reader, writer):
        await read_request(reader)
        reset(writer)

    async with loopback(talk) as server:
        client = real(server.url).client
        with pytest.raises(UnknownOutcomeError):
            await client.send("POST", "x", kind="write", content=b"{}")
        with pytest.raises(SystemBusyError):
            await client.send("GET", "x", kind="read")


async def test_a_torn_body_is_unknown_for_a_write_and_busy_for_a_read(real, loopback):
    async def talk(reader, writer):
        await read_request(reader)
        writer.write(answer(b'{"id":', length=100))
        await writer.drain()

    async with loopback(talk) as server:
        client = real(server.url).client
        with pytest.raises(UnknownOutcomeError):
            await client.send("POST", "x", kind="write", content=b"{}")
        with pytest.raises(SystemBusyError):
            await client.send("GET", "x", kind="read")


@pytest.mark.parametrize("timeouts", [Timeouts(read=0.05), Timeouts(total=0.05)])
async def test_silence_is_unknown_for_a_write_and_busy_for_a_read(real, loopback, timeouts):
    gone = asyncio.Event()

    async def talk(reader, writer):
        await read_request(reader)
        await gone.wait()

    async with loopback(talk) as server:
        client = real(server.url).client
        with pytest.raises(UnknownOutcomeError):
            await client.send("POST", "x", kind="write", content=b"{}", timeouts=timeouts)
        with pytest.raises(SystemBusyError):
            await client.send("GET", "x", kind="read", timeouts=timeouts)
        gone.set()


async def test_an_answer_that_drips_for_ever_ends_at_the_total_time(real, loopback):
    async def talk(reader, writer):
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"1\r\n \r\n")
            await writer.drain()
            await asyncio.sleep(0.005)

    async with loopback(talk) as server:
        with pytest.raises(SystemBusyError):
            await real(server.url).client.send("GET", "x", kind="read", timeouts=Timeouts(read=5, total=0.1))


async def test_words_that_are_not_http_are_a_lost_answer(real, loopback):
    async def talk(reader, writer):
        await read_request(reader)
        writer.write(b"220 smtp.example ESMTP\r\n")
        await writer.drain()

    async with loopback(talk) as server:
        with pytest.raises(SystemBusyError):
            await real(server.url).client.send("GET", "x", kind="read")


async def test_a_connection_that_was_closed_while_idle_costs_nothing(real, loopback):
    closed = asyncio.Event()

    async def talk(reader, writer):
        await read_request(reader)
        writer.write(answer())
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        closed.set()

    async with loopback(talk) as server:
        client = real(server.url).client
        for _ in range(3):
            closed.clear()
            response = await client.send("POST", "x", kind="write", content=b"{}")
            assert response.status == 200
            await closed.wait()
    assert server.connections == 3


async def test_a_server_is_believed_only_with_a_certificate_of_a_known_authority(real, loopback, authority):
    async def talk(reader, writer):
        await read_request(reader)
        writer.write(answer())
        await writer.drain()

    async with loopback(talk, tls=authority.server_context()) as server:
        trusting = real(server.url, ca_file=str(authority.file)).client
        assert (await trusting.send("GET", "x", kind="read")).status == 200
        with pytest.raises(UnreachableError):
            await real(server.url).client.send("POST", "x", kind="write", content=b"{}")


async def test_a_certificate_for_another_name_is_not_believed(real, loopback, authority):
    async def talk(reader, writer):
        await read_request(reader)

    async with loopback(talk, tls=authority.server_context()) as server:
        other_name = server.url.replace("127.0.0.1", "127.0.0.2")
        with pytest.raises(UnreachableError):
            await real(other_name, ca_file=str(authority.file)).client.send("GET", "x", kind="read")


async def test_an_authority_that_cannot_be_read_is_a_wrong_setting(real, tmp_path):
    broken = tmp_path / "ca.pem"
    broken.write_text("no certificate")
    for path in (broken, tmp_path / "absent.pem"):
        client = real("https://127.0.0.1:1", ca_file=str(path)).client
        with pytest.raises(ConfigurationError):
            await client.send("GET", "x", kind="read")


async def test_no_proxy_of_the_environment_is_used(real, loopback, monkeypatch, unused_tcp_port):
    async def talk(reader, writer):
        head, _ = await read_request(reader)
        assert head.startswith(b"GET /x ")
        writer.write(answer())
        await writer.drain()

    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{unused_tcp_port}")
    async with loopback(talk) as server:
        assert (await real(server.url).client.send("GET", "x", kind="read")).status == 200


async def test_waiting_for_a_connection_too_long_was_not_sent(rig, loopback):
    # The pool is as large as the budget's concurrency, so this needs a pool that is smaller.
    gone = asyncio.Event()

    async def talk(reader, writer):
        await read_request(reader)
        await gone.wait()
        writer.write(answer())
        await writer.drain()

    async with loopback(talk) as server:
        client = rig(
            [],
            base_url=server.url,
            retry=ONCE,
            transport=lambda: httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=1)),
        ).client
        first = asyncio.create_task(client.send("GET", "x", kind="read"))
        await asyncio.sleep(0)
        with pytest.raises(UnreachableError):
            await client.send("POST", "x", kind="write", content=b"{}", timeouts=Timeouts(pool=0.05))
        gone.set()
        assert (await first).status == 200


class File:
    """200 MiB that never lie in memory together."""

    size = 200 * MEBIBYTE

    async def __aiter__(self):
        block = bytes(MEBIBYTE)
        for _ in range(200):
            yield block


async def test_a_file_of_200_mb_goes_up_and_comes_down_in_under_50_mb_of_memory(real, loopback):
    received = 0

    async def talk(reader, writer):
        nonlocal received
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"PUT"):
            assert b"content-length: %d\r\n" % File.size in head.lower()
            while received < File.size:
                received += len(await reader.read(MEBIBYTE))
            writer.write(answer())
        else:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % File.size)
            block = bytes(MEBIBYTE)
            for _ in range(200):
                writer.write(block)
                await writer.drain()
        await writer.drain()

    async with loopback(talk) as server:
        client = real(server.url).client
        tracemalloc.start()
        await client.send(
            "PUT", "file", kind="write", content=File(), headers={"content-length": str(File.size)}
        )
        size, largest = 0, 0
        async for piece in client.stream("file"):
            size += len(piece)
            largest = max(largest, len(piece))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert (received, size) == (File.size, File.size)
    assert largest <= CHUNK
    assert peak < 50 * MEBIBYTE
