"""Whatever a peer does, it gets its share and no more; and everything ends."""

import asyncio
import random
import time
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_project.net.smtp_server import wire
from relay_project.net.smtp_server.command import BadCommand, read_command, read_mail, read_rcpt
from relay_project.net.smtp_server.limits import MAX_PEERS, Limits, PeerBook, TurnedAway
from relay_project.net.smtp_server.listener import Listener
from relay_project.net.smtp_server.model import Service, SmtpReply
from relay_project.net.smtp_server.proxy import BadProxyHeader, read_proxy_header
from relay_project.net.smtp_server.server import SmtpServer
from relay_project.net.smtp_server.wire import HIGH_WATER
from tests.net.smtp_server.conftest import Client, Recorder


async def test_a_message_over_the_limit_is_refused_when_it_says_so_and_when_it_is(serve) -> None:
    async with serve(message_octets=100_000) as served:
        client = await served.connect()
        reply = await client.ask(b"MAIL FROM:<a@x.test> SIZE=100001")
        assert (reply.code, reply.enhanced) == (552, "5.3.4")
        await client.begin_mail()
        for _ in range(30):
            await client.send(b"x" * 9_998 + b"\r\n")
        await client.send(b".\r\n")
        assert (await client.reply()).code == 552
        assert not served.reception.mails
        assert (await client.ask(b"NOOP")).code == 250
        assert served.server.house.budget.used == 0


async def test_a_message_that_goes_on_and_on_is_not_read_to_its_end(serve) -> None:
    async with serve(message_octets=10_000) as served:
        client = await served.connect()
        await client.begin_mail()
        for _ in range(10):
            await client.send(b"x" * 9_998 + b"\r\n")
        assert (await client.reply()).code == 552
        assert await client.is_hung_up_on()
        assert served.server.house.budget.used == 0


async def test_all_messages_together_have_a_budget(serve) -> None:
    """A message that does not fit gets 452 and is not kept; when there is room again mail is taken."""
    async with serve(message_octets=50_000, octets_in_flight=100_000) as served:
        held = [await served.connect() for _ in range(2)]
        for client in held:
            await client.begin_mail()
            await client.send(b"x" * 45_000 + b"\r\n")
        async with asyncio.timeout(5):
            while served.server.house.budget.used < 90_000:
                await asyncio.sleep(0.01)
        late = await served.connect()
        assert (await late.ask(b"MAIL FROM:<a@x.test> SIZE=20000")).code == 452
        await late.begin_mail()
        await late.send(b"x" * 20_000 + b"\r\n.\r\n")
        reply = await late.reply()
        assert (reply.code, reply.enhanced) == (452, "4.3.1")
        held[0].hang_up()
        async with asyncio.timeout(5):
            while served.server.house.budget.used > 50_000:
                await asyncio.sleep(0.01)
        await late.begin_mail()
        await late.send(b"x" * 20_000 + b"\r\n.\r\n")
        assert (await late.reply()).code == 250


async def test_a_peer_has_so_many_connections_at_once(serve) -> None:
    async with serve(peer_connections=2) as served:
        first, second = await served.connect(), await served.connect()
        third = await served.connect(greeted=False)
        assert (await third.reply()).code == 421
        assert await third.is_hung_up_on()
        await served.connect(source="127.0.0.9")
        first.hang_up()
        async with asyncio.timeout(5):
            while served.server.open_connections > 2:
                await asyncio.sleep(0.01)
        await served.connect()
        assert (await second.ask(b"NOOP")).code == 250


async def test_a_peer_makes_so_many_connections_a_minute(serve) -> None:
    async with serve(peer_connections_per_minute=2) as served:
        for _ in range(2):
            (await served.connect()).hang_up()
        assert (await (await served.connect(greeted=False)).reply()).enhanced == "4.7.0"


async def test_peers_of_a_setting_have_neither_limit(serve) -> None:
    async with serve(
        peer_connections=1, peer_connections_per_minute=1, unlimited=(ip_network("127.0.0.0/8"),)
    ) as served:
        for _ in range(5):
            await served.connect()


async def test_all_peers_together_have_so_many_connections(serve) -> None:
    async with serve(connections=2) as served:
        await served.connect()
        await served.connect(source="127.0.0.9")
        assert served.server.troubles() == ["All 2 connections are taken."]
        third = await served.connect(greeted=False, source="127.0.0.10")
        assert (await third.reply()).enhanced == "4.3.2"


async def test_a_flood_on_port_25_leaves_customers_their_connections(serve) -> None:
    async with serve(connections=3, reserved_connections=1) as served:
        held = [await served.connect() for _ in range(2)]
        flooding = await served.connect(greeted=False)
        assert (await flooding.reply()).enhanced == "4.3.2"
        assert "reserved for customers" in served.server.troubles()[0]
        customer = await served.connect(Service.SUBMISSION)
        assert (await customer.ask(b"EHLO shop.test")).code == 250
        held[0].hang_up()
        async with asyncio.timeout(5):
            while served.server.open_connections > 2:
                await asyncio.sleep(0.01)
        await served.connect()


async def test_errors_end_the_connection(serve) -> None:
    async with serve(errors=5) as served:
        client = await served.connect()
        await client.send(b"NONSENSE\r\n" * 10)
        assert await client.codes(6) == [500] * 5 + [421]
        assert await client.is_hung_up_on()


async def test_commands_that_lead_nowhere_end_the_connection(serve) -> None:
    async with serve(idle_commands=5) as served:
        client = await served.connect()
        await client.send(b"NOOP\r\nRSET\r\n" * 5)
        assert await client.codes(5) == [250] * 4 + [421]


async def test_a_browser_is_sent_away(serve) -> None:
    async with serve() as served:
        client = await served.connect()
        await client.send(b"POST / HTTP/1.1\r\nHost: mx.test\r\n\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\n")
        assert (await client.reply()).code == 421
        assert await client.is_hung_up_on()
        assert not served.reception.asked


@pytest.mark.parametrize("said", [b"", b"EHLO client", b"EHLO client.test\r\nMAIL FROM:<a@x.test>\r\n"])
async def test_silence_ends_the_connection(serve, said) -> None:
    async with serve(command_seconds=0.2) as served:
        client = await served.connect(Service.SUBMISSION)
        await client.send(said)
        async with asyncio.timeout(5):
            last = await client._reader.read()
        assert last.endswith(b"421 4.4.2 Waited too long\r\n")


async def test_a_line_that_drips_is_no_better_than_silence(serve) -> None:
    async with serve(command_seconds=0.3) as served:
        client = await served.connect()
        last = asyncio.create_task(client.reply())
        while not last.done():
            await client.send(b"N")
            await asyncio.wait({last}, timeout=0.05)
        assert (await last).enhanced == "4.4.2"


async def test_a_message_that_stands_still_ends(serve) -> None:
    async with serve(data_seconds=0.2) as served:
        client = await served.connect()
        await client.begin_mail()
        await client.send(b"half a message")
        assert (await client.reply()).enhanced == "4.4.2"
        assert await client.is_hung_up_on()
        assert served.server.house.budget.used == 0


async def test_a_message_that_drips_is_no_better_than_one_that_stands_still(serve) -> None:
    """An octet in time each time would hold a connection for as long as all of them may last."""
    async with serve(data_seconds=0.4, data_rate=1000) as served:
        client = await served.connect()
        await client.begin_mail()
        last = asyncio.create_task(client.reply())
        while not last.done():
            await client.send(b"x\r\n")
            await asyncio.wait({last}, timeout=0.05)
        assert (await last).enhanced == "4.4.2"
        assert await client.is_hung_up_on()
        assert served.server.house.budget.used == 0


async def test_a_message_that_comes_steadily_may_take_longer_than_a_pause(serve) -> None:
    async with serve(data_seconds=0.4, data_rate=1000) as served:
        client = await served.connect()
        await client.begin_mail()
        began = time.monotonic()
        while time.monotonic() - began < 1.2:
            await client.send(b"x" * 500 + b"\r\n")
            await asyncio.sleep(0.1)
        await client.send(b".\r\n")
        assert (await client.reply()).code == 250


async def test_a_connection_that_brings_no_mail_ends_and_one_that_does_stays(serve) -> None:
    async with serve(fruitless_seconds=0.6) as served:
        idle, busy = await served.connect(), await served.connect()
        last = asyncio.create_task(idle.reply())
        began = time.monotonic()
        while time.monotonic() - began < 1.4:
            await busy.begin_mail()
            await busy.send(b"x\r\n.\r\n")
            assert (await busy.reply()).code == 250
            await asyncio.sleep(0.1)
        assert (await last).enhanced == "4.4.2"
        assert (await busy.ask(b"NOOP")).code == 250


async def test_a_connection_has_its_time(serve) -> None:
    async with serve(session_seconds=0.3) as served:
        client = await served.connect()
        async with asyncio.timeout(5):
            while (reply := await client.ask(b"NOOP")).code == 250:
                await asyncio.sleep(0.05)
        assert reply.enhanced == "4.4.2"


async def test_a_peer_that_does_not_read_is_not_listened_to(serve, monkeypatch) -> None:
    """Its commands wait in its own socket; memory stays, and the time is up some day."""
    monkeypatch.setattr(wire, "LINGER_SECONDS", 0.1)

    async def talk(client: Client) -> None:
        while True:
            await client.send(b"HELP\r\n" * 10_000)

    async with serve(idle_commands=10**9, command_seconds=0.5) as served:
        client = await served.connect()
        client._reader._transport.pause_reading()
        talking = asyncio.create_task(talk(client))
        most = 0
        async with asyncio.timeout(15):
            while wires := list(served.server._wires):
                most = max(most, *(len(one.held) for one in wires))
                await asyncio.sleep(0.01)
        assert 0 < most <= 3 * HIGH_WATER
        talking.cancel()
        await asyncio.gather(talking, return_exceptions=True)


async def test_two_hundred_slow_peers_do_not_slow_a_fast_one(serve) -> None:
    async with serve(peer_connections=1000) as served:
        slow = [await served.connect(greeted=False) for _ in range(200)]
        halves = [b"EHLO cl", b"EHLO c.test\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\nDATA\r\nhalf"]
        for at, client in enumerate(slow):
            await client.send(halves[at % 2])
        fast = await served.connect()
        began = time.monotonic()
        for _ in range(50):
            await fast.begin_mail()
            await fast.send(b"x\r\n.\r\n")
            assert (await fast.reply()).code == 250
        assert time.monotonic() - began < 2.0  # a fiftieth of that where nobody else is at work
        assert len(served.reception.mails) == 50


async def test_random_octets_crash_nothing(serve, caplog) -> None:
    """The long run is `make chaos`."""
    rng = random.Random(5321)
    words = [
        b"EHLO a\r\n",
        b"MAIL FROM:<",
        b">\r\n",
        b"RCPT TO:<b@y>\r\n",
        b"DATA\r\n",
        b"\r\n.\r\n",
        b"\n",
        b"\x00",
        b"AUTH PLAIN ",
    ]
    words += [b"STARTTLS\r\n", b"QUIT\r\n", b"\xff\xfe", b"RSET\r\n", b"\x16\x03\x01\x00\x05", b"x" * 3000]
    async with serve(command_seconds=1.0) as served:
        for _ in range(150):
            client = await served.connect(rng.choice(list(Service)), greeted=False, first=b" ")
            try:
                await client.send(
                    b"".join(rng.choice(words) if rng.random() < 0.8 else rng.randbytes(9) for _ in range(20))
                )
            except ConnectionError:
                pass
            if rng.random() < 0.7:
                client.hang_up()
        client = await served.connect()
        assert (await client.ask(b"NOOP")).code == 250
        for other in served.clients[:-1]:
            other.hang_up()
        async with asyncio.timeout(5):
            while served.server.open_connections > 1:
                await asyncio.sleep(0.01)
        assert served.server.house.budget.used == 0
    assert "Traceback" not in caplog.text


@given(st.binary(max_size=200))
def test_no_line_and_no_header_raises_anything_else(line: bytes) -> None:
    for reader in (read_mail, read_rcpt):
        try:
            _, rest = read_command(line.replace(b"\n", b""))
            reader(rest)
        except BadCommand as bad:
            bad.reply.encode()
    try:
        read_proxy_header(line)
    except BadProxyHeader:
        pass


@given(st.text(alphabet='FROMT:<>@"\\ a.=Z,', max_size=60))
def test_paths_hold_no_brackets_and_no_spaces_outside_of_quotes(rest: str) -> None:
    try:
        address = read_mail("FROM:" + rest).address
    except BadCommand:
        return
    assert '"' in address or not set(address) & set("<> ")


def test_peers_are_forgotten_when_there_are_too_many() -> None:
    book = PeerBook(Limits())
    assert book.admit("192.0.2.1", Service.MX, 0.0) is None
    for number in range(MAX_PEERS + 10):
        address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        assert book.admit(address, Service.MX, 1.0) is None
        book.leave(address)
    assert len(book._peers) == MAX_PEERS
    assert "192.0.2.1" in book._peers


def test_an_ipv6_customer_is_one_peer_and_the_allowance_comes_back() -> None:
    book = PeerBook(Limits(peer_connections_per_minute=1))
    assert book.admit("2001:db8::1", Service.MX, 0.0) is None
    assert book.admit("2001:db8::2", Service.MX, 30.0) is TurnedAway.PEER_RATE
    assert book.admit("2001:db8:0:1::2", Service.MX, 30.0) is None
    assert book.admit("2001:db8::3", Service.MX, 61.0) is None


# --- Beginning and end ------------------------------------------------------------------------------------------------


async def test_a_busy_port_is_tried_until_it_is_free(certificates) -> None:
    """Lesson C18: logged, told by health, and never given up."""
    squatter = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = squatter.sockets[0].getsockname()[1]
    listener = Listener(Service.MX, "127.0.0.1", port)
    listener.first_pause_seconds = 0.02
    server = SmtpServer({Service.MX: Recorder()}, [listener], Limits(), certificates)
    await server.start()
    try:
        assert str(port) in server.troubles()[0]
        squatter.close()
        await squatter.wait_closed()
        async with asyncio.timeout(5):
            while server.troubles():
                await asyncio.sleep(0.01)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert (await reader.readline()).startswith(b"220 ")
        writer.transport.abort()
    finally:
        await server.stop(0)


async def test_a_stop_lets_a_message_end_and_sends_the_idle_away(serve) -> None:
    async with serve() as served:
        idle, busy = await served.connect(), await served.connect()
        await busy.begin_mail()
        await busy.send(b"half\r\n")
        await busy.send(b"")
        stop = asyncio.create_task(served.server.stop(5.0))
        assert (await idle.reply()) == (await idle_reply())
        assert await idle.is_hung_up_on()
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", served.port(Service.MX))
        assert not stop.done()
        await busy.send(b"and half\r\n.\r\n")
        assert await busy.codes(2) == [250, 421]
        await stop
        assert [mail.octets for mail in served.reception.mails] == [b"half\r\nand half\r\n"]


async def idle_reply():
    from relay_project.mail.reply import Reply

    return Reply(421, "4.3.2", "The server is stopping")


async def test_a_stop_waits_for_a_mail_that_is_being_stored(serve) -> None:
    async with serve() as served:
        served.reception.wait = asyncio.Event()
        client = await served.connect()
        await client.begin_mail()
        await client.send(b"x\r\n.\r\n")
        async with asyncio.timeout(5):
            while not served.server.house.storing:
                await asyncio.sleep(0.01)
        client.hang_up()
        stop = asyncio.create_task(served.server.stop(5.0))
        await asyncio.sleep(0.05)
        assert not stop.done()
        served.reception.wait.set()
        await stop
        assert len(served.reception.mails) == 1


async def test_a_stop_cuts_who_does_not_end(serve) -> None:
    async with serve() as served:
        client = await served.connect()
        await client.begin_mail()
        began = time.monotonic()
        await served.server.stop(0.1)
        assert time.monotonic() - began < 3
        assert await client.is_hung_up_on()
        assert served.server.open_connections == 0


async def test_a_loop_that_stands_still_is_not_alive(serve, monkeypatch) -> None:
    async with serve() as served:
        assert served.server.is_alive()
        monkeypatch.setattr(served.server, "_ticked", time.monotonic() - 60)
        assert not served.server.is_alive()


async def test_a_reply_of_421_hangs_up(serve) -> None:
    async with serve() as served:
        served.reception.answer = SmtpReply(421, "4.3.2", "The database is away")
        client = await served.connect()
        await client.begin_mail()
        await client.send(b"x\r\n.\r\n")
        assert (await client.reply()).code == 421
        assert await client.is_hung_up_on()
