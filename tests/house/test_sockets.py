"""The network is closed, and says so."""

import asyncio
import socket

import httpx
import pytest

from tests.house.plugin import NetworkClosedError


def test_a_host_of_the_internet_cannot_be_reached():
    with pytest.raises(NetworkClosedError, match=r"example\.com"):
        socket.create_connection(("example.com", 80))


def test_an_address_of_the_internet_cannot_be_reached():
    with socket.socket() as client, pytest.raises(NetworkClosedError, match=r"192\.0\.2\.1"):
        client.connect(("192.0.2.1", 80))


async def test_the_http_client_of_the_platform_cannot_leave_either():
    async with httpx.AsyncClient() as client:
        with pytest.raises(NetworkClosedError):
            await client.get("https://example.com/")


async def test_this_machine_can_be_reached():
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("localhost", port)
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
