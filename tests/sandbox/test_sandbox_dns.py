"""sandbox.dns as seen on the wire; the resolver's tests ask it for all its troubles."""

import asyncio

import dns.asyncquery
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import pytest

from relay_project.sandbox.dns import SandboxDns

LONG = "k" * 2_000


async def ask(server: SandboxDns, name: str, rdtype: str, *, tcp: bool = False) -> dns.message.Message:
    query = dns.message.make_query(name, rdtype)
    exchange = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
    return await exchange(query, server.address, port=server.port, timeout=2)


@pytest.mark.parametrize("tcp", [False, True])
async def test_any_domain_has_mail_on_this_machine(tcp: bool) -> None:
    async with SandboxDns(zone="zone.test", ttl=7) as server:
        [mx] = (await ask(server, "Any.example", "MX", tcp=tcp)).answer
        assert mx.ttl == 7
        assert mx.to_text().endswith("IN MX 10 mx.zone.test.")
        [a] = (await ask(server, "mx.zone.test", "A", tcp=tcp)).answer
        assert a[0].to_text() == "127.0.0.1"


async def test_what_does_not_exist_is_empty_with_a_soa() -> None:
    async with SandboxDns() as server:
        response = await ask(server, "mx.sandbox.test", "AAAA")
        assert response.rcode() == dns.rcode.NOERROR
        assert not response.answer
        assert response.authority[0].rdtype == dns.rdatatype.SOA


async def test_a_long_txt_record_is_truncated_over_udp_and_whole_over_tcp() -> None:
    async with SandboxDns(txt=lambda name: [LONG]) as server:
        response = await ask(server, "a.test", "TXT")
        assert response.flags & dns.flags.TC
        [txt] = (await ask(server, "a.test", "TXT", tcp=True)).answer
        assert b"".join(txt[0].strings).decode() == LONG


async def test_junk_is_not_answered_and_does_no_harm() -> None:
    async with SandboxDns() as server:
        assert await server.respond(b"junk", 512) is None
        response = dns.message.make_response(dns.message.make_query("a.test", "A"))
        assert await server.respond(response.to_wire(), 512) is None
        assert (await ask(server, "a.test", "A")).answer


async def test_several_questions_share_a_tcp_connection() -> None:
    async with SandboxDns() as server:
        reader, writer = await asyncio.open_connection(server.address, server.port)
        for _ in range(2):
            wire = dns.message.make_query("a.test", "MX").to_wire()
            writer.write(len(wire).to_bytes(2, "big") + wire)
            size = int.from_bytes(await reader.readexactly(2), "big")
            assert dns.message.from_wire(await reader.readexactly(size)).answer
        writer.close()
        await writer.wait_closed()


async def test_a_taken_port_is_an_error() -> None:
    async with SandboxDns() as server:
        with pytest.raises(OSError, match="in use"):
            await SandboxDns(port=server.port).start()
