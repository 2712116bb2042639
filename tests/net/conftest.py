import asyncio
import contextlib
import datetime as dt
import ipaddress
import ssl

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ipaas_resources.core.clock import ManualClock, SeededIds
from ipaas_resources.core.limits import BudgetKey, LimitPolicy, Unlimited
from ipaas_resources.net.client import HttpClient

BASE = "https://bc.example/v2.0/prod/api/v2.0"


class RecordingLimits(Unlimited):
    def __init__(self):
        self.pauses = []
        self.granted = 0

    @contextlib.asynccontextmanager
    async def request(self, key, policy):
        self.granted += 1
        yield

    async def not_before(self, key, seconds):
        self.pauses.append(seconds)


class Rig:
    """A client whose other side is a function or a list of answers, with a clock that moves by itself."""

    def __init__(self, answers, **options):
        self.requests = []
        self.clock = ManualClock()
        self.limits = RecordingLimits()
        self.calls = []
        self._answers = answers if callable(answers) else iter(answers)
        options.setdefault("transport", lambda: httpx.MockTransport(self._handle))
        options.setdefault("base_url", BASE)
        self.client = HttpClient(
            system="bc",
            clock=self.clock,
            ids=SeededIds(1),
            limits=self.limits,
            budget=BudgetKey("bc", "app"),
            policy=LimitPolicy(requests=6000, window=300, concurrency=5),
            count_call=self.calls.append,
            **options,
        )

    async def _handle(self, request):
        # A body that is a stream is read, as a server would.
        await request.aread()
        self.requests.append(request)
        answer = self._answers(request) if callable(self._answers) else next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer) if isinstance(answer, int) else answer


@pytest.fixture
async def rig():
    made = []

    def make(answers, **options):
        made.append(Rig(answers, **options))
        return made[-1]

    yield make
    for each in made:
        await each.client.close()


class Authority:
    """A certificate authority, made for the test, and a server certificate for loopback."""

    def __init__(self, folder):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self.certificate = self._sign(self.name, self.key.public_key(), authority=True)
        self.file = folder / "ca.pem"
        self.file.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))
        key = ec.generate_private_key(ec.SECP256R1())
        server = self._sign(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")]), key.public_key()
        )
        self.server_file = folder / "server.pem"
        self.server_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + server.public_bytes(serialization.Encoding.PEM)
        )

    def _sign(self, subject, public_key, *, authority=False):
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if not authority:
            names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def server_context(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.server_file)
        return context


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


class Loopback:
    """A server that speaks bytes: each connection is handed to `talk(reader, writer)`."""

    def __init__(self, talk, tls=None):
        self.connections = 0
        self._talk = talk
        self._tls = tls
        self._tasks = set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=self._tls)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"{'https' if self._tls else 'http'}://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_):
        self._server.close()
        await self._server.wait_closed()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader, writer):
        self.connections += 1
        self._tasks.add(asyncio.current_task())
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
                await self._talk(reader, writer)
            writer.close()
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
        finally:
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()


@pytest.fixture
def loopback():
    return Loopback


async def read_request(reader):
    """Head and body of one request."""
    head = await reader.readuntil(b"\r\n\r\n")
    headers = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
    length = int(headers.get(b"content-length", b"0"))
    return head, await reader.readexactly(length)
