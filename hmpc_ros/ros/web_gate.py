"""A small check before a web page that has none of its own: who may get in, and from where.

The page listens on this machine's own address at a port that is not told; this gate listens where
it is to be reached, reads the head of every request, and hands on what passes:

* ``Host`` must be how this gate is addressed, so that a name that is made to point here by somebody
  else (DNS rebinding) does not open it;
* ``Origin``, which browsers send with every WebSocket, must be the same place: another page that is
  open in the same browser cannot press the buttons;
* with a token: the cookie that a first visit with ``?token=...`` sets.

It does not encrypt. Whoever can log in to this machine is not kept out.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import secrets
import threading
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

COOKIE = 'hmpc_watch'
LOCAL = ('127.0.0.1', 'localhost', '::1')
MOST_HEAD = 32 * 1024  # bytes
PATIENCE = 10.0  # s, for the head of a request
_CHUNK = 64 * 1024


class Gate:
    """Listens at ``host:port`` and hands on to ``127.0.0.1:inner``.

    Args:
        host: where to listen; any but an address of this machine alone makes a token.
        port: 0: any that is free.
        inner: the port of the page.

    Raises:
        ValueError: it cannot listen there.

    Attributes:
        token: that a visitor must give, empty for none.
        url: what to open, with the token.
    """

    def __init__(self, host: str, port: int, inner: int) -> None:
        self.token = '' if host in LOCAL else secrets.token_urlsafe(18)
        self._host, self._inner = host, inner
        self._loop = asyncio.new_event_loop()
        try:
            self._server = self._loop.run_until_complete(
                asyncio.start_server(self._serve, host, port, limit=MOST_HEAD)
            )
        except OSError as error:
            self._loop.close()
            raise ValueError(
                f'the page cannot listen at {host}:{port} ({error.strerror}): is another one '
                'open? choose another port'
            ) from error
        self.port = int(self._server.sockets[0].getsockname()[1])
        shown = f'[{host}]' if ':' in host else host
        shown = 'THIS_MACHINE' if host in ('0.0.0.0', '::') else shown
        self.url = f'http://{shown}:{self.port}/' + (f'?token={self.token}' * bool(self.token))
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Let nobody in any more."""
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=2.0)

    def judge(self, head: bytes) -> tuple[str, bytes]:
        """Return a verdict on the head of a request: ``pass``, or a status and the rest of it."""
        line, *lines = head.decode('latin-1').split('\r\n')
        headers: dict[str, str] = {}
        for each in lines:
            name, _, value = each.partition(':')
            headers.setdefault(name.strip().lower(), value.strip())
        host = headers.get('host', '')
        try:
            name = urlsplit(f'//{host}').hostname or ''
            target = line.split(' ')[1]
            asked = parse_qs(urlsplit(target).query).get('token', [''])[0]
            origin = headers.get('origin')
            elsewhere = origin is not None and urlsplit(origin).netloc != host
            cookies = SimpleCookie(headers.get('cookie', ''))
        except (IndexError, ValueError, CookieError):
            return '400 Bad Request', b''
        if elsewhere or (not self.token and name not in LOCAL):
            return '403 Forbidden', b''
        if not self.token:
            return 'pass', b''
        if asked and hmac.compare_digest(asked.encode(), self.token.encode()):
            cookie = f'{COOKIE}={self.token}; HttpOnly; SameSite=Strict; Path=/'
            return '303 See Other', f'Set-Cookie: {cookie}\r\nLocation: /\r\n'.encode()
        given = cookies[COOKIE].value if COOKIE in cookies else ''
        if hmac.compare_digest(given.encode(), self.token.encode()):
            return 'pass', b''
        return '401 Unauthorized', b''

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(
            OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError
        ):
            head = await asyncio.wait_for(reader.readuntil(b'\r\n\r\n'), PATIENCE)
            verdict, more = self.judge(head)
            if verdict != 'pass':
                words = f'{verdict}: open the address that hmpc watch --web printed\n'.encode()
                writer.write(
                    f'HTTP/1.1 {verdict}\r\nContent-Length: {len(words)}\r\n'
                    'Connection: close\r\n'.encode() + more + b'\r\n' + words
                )
                await writer.drain()
            else:
                await self._hand_on(head, reader, writer)
        writer.close()

    async def _hand_on(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        # One request per connection, as the page's server answers: none slips through unread.
        page_reader, page_writer = await asyncio.open_connection('127.0.0.1', self._inner)
        page_writer.write(head)
        pipes = [
            asyncio.ensure_future(_pipe(reader, page_writer)),
            asyncio.ensure_future(_pipe(page_reader, writer)),
        ]
        try:
            await asyncio.wait(pipes, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pipe in pipes:
                pipe.cancel()
            page_writer.close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
