"""What the server answers, over a socket."""

import asyncio
import base64
import smtplib

import pytest

from relay_project.mail.reply import Reply
from relay_project.net.smtp_server.model import RcptTo, Service, SmtpReply
from tests.net.smtp_server.conftest import SECRET, insecure, plain


async def test_a_mail_is_taken_as_it_was_sent(serve) -> None:
    async with serve() as served:
        client = await served.connect()
        said = [
            b"MAIL FROM:<a@x.test> SIZE=100 BODY=8BITMIME RET=HDRS ENVID=QQ+2B1\r\n",
            b"RCPT TO:<b@y.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;b@y.test\r\n",
            b"RCPT TO:<@relay.test:c@y.test>\r\n",
            b"DATA\r\n",
        ]
        await client.send(b"".join(said))
        assert await client.codes(4) == [250, 250, 250, 354]
        await client.send("Subject: ü\r\n\r\n..dot\r\n.\r\n".encode())
        assert await client.reply() == Reply(250, "2.0.0", "taken")
        [mail] = served.reception.mails
    assert (mail.mail_from, mail.octets) == ("a@x.test", "Subject: ü\r\n\r\n.dot\r\n".encode())
    assert mail.recipients == (RcptTo("b@y.test", "SUCCESS,FAILURE", "rfc822;b@y.test"), RcptTo("c@y.test"))
    assert (mail.eight_bit, mail.smtputf8, mail.ret, mail.envid) == (True, False, "HDRS", "QQ+2B1")
    assert (mail.peer.helo, mail.peer.tls, mail.peer.service, mail.login) == ("client.test", None, Service.MX, None)


async def test_a_group_of_commands_is_answered_in_order_and_in_one_write(serve) -> None:
    """RFC 2920 §3.2; a second mail may follow the first one's dot at once."""
    async with serve() as served:
        client = await served.connect()
        group = b"MAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\nRCPT TO:<>\r\nDATA\r\n"
        await client.send(group)
        async with asyncio.timeout(5):
            assert (await client._reader.read(1000)).count(b"\r\n") == 4
        await client.send(b"x\r\n.\r\n" + group)
        assert await client.codes(5) == [250, 250, 250, 501, 354]


@pytest.mark.parametrize(
    ("command", "code", "enhanced"),
    [
        (b"RCPT TO:<b@y.test>", 503, "5.5.1"),
        (b"DATA", 503, "5.5.1"),
        (b"MAIL FROM:a b", 501, "5.5.4"),
        (b"MAIL FROM", 501, "5.5.4"),
        (b"MAIL FROM:<a@x.test> SIZE=many", 501, "5.5.4"),
        (b"MAIL FROM:<a@x.test> SIZE=99999999", 552, "5.3.4"),
        (b"MAIL FROM:<a@x.test> BODY=BINARYMIME", 501, "5.5.4"),
        (b"MAIL FROM:<a@x.test> RET=ALL", 501, "5.5.4"),
        (b"MAIL FROM:<a@x.test> HOLDFOR=10", 555, "5.5.4"),
        (b"MAIL FROM:<a@x.test> SIZE=1 SIZE=1", 501, "5.5.4"),
        (b"MAIL FROM:<" + b"a" * 600 + b"@x.test>", 501, "5.1.7"),
        ("MAIL FROM:<ä@x.test>".encode(), 553, "5.6.7"),
        (b"MAIL FROM:<a@x.test>\x00", 500, "5.5.2"),
        (b"MAIL FROM:<a\rRCPT TO:<b@y.test>", 500, "5.5.2"),
        (b"MAIL FROM:<\xff@x.test>", 500, "5.5.2"),
        (b"EHLO", 501, "5.5.4"),
        (b"EHLO \xc3\xa4.test", 501, "5.5.4"),
        (b"FROBNICATE", 500, "5.5.2"),
        (b"", 500, "5.5.2"),
        (b"AUTH PLAIN", 502, "5.5.1"),
        (b"VRFY root", 252, "2.5.2"),
        (b"EXPN all", 502, "5.5.1"),
        (b"NOOP anything", 250, "2.0.0"),
        (b"HELP", 214, "2.0.0"),
        (b"STARTTLS now", 501, "5.5.4"),
        (b"x" * 4000, 500, "5.5.2"),
        (b"MAIL FROM:<> SIZE=10", 250, "2.1.0"),
        (b"mail from: <a@x.test>", 250, "2.1.0"),
        (b"MAIL FROM:a@x.test", 250, "2.1.0"),
        (b'MAIL FROM:<"a b>"@x.test> AUTH=<>', 250, "2.1.0"),
        ("MAIL FROM:<ä@x.test> SMTPUTF8".encode(), 250, "2.1.0"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_command_gets_its_code(serve, command, code, enhanced) -> None:
    async with serve() as served:
        reply = await (await served.connect()).ask(command)
    assert (reply.code, reply.enhanced) == (code, enhanced)


async def test_nothing_goes_before_ehlo(serve) -> None:
    async with serve() as served:
        client = await served.connect(greeted=False)
        assert (await client.reply()).text == "mx.test ESMTP"
        assert (await client.ask(b"MAIL FROM:<a@x.test>")).code == 503


async def test_what_is_offered(serve) -> None:
    async with serve(message_octets=5000) as served:
        mx = await served.connect()
        offers = (await mx.ask(b"EHLO client.test")).text.split("\n")
        assert offers == [
            "mx.test",
            "PIPELINING",
            "SIZE 5000",
            "STARTTLS",
            "ENHANCEDSTATUSCODES",
            "8BITMIME",
            "SMTPUTF8",
        ]
        submission = await served.connect(Service.SUBMISSION)
        await submission.log_in()
        offers = (await submission.ask(b"EHLO client.test")).text.split("\n")
        assert "AUTH PLAIN LOGIN" in offers
        assert "STARTTLS" not in offers


async def test_refusals_of_the_reception_are_said_and_change_nothing_else(serve) -> None:
    async with serve() as served:
        served.reception.refusals = {
            "bad@x.test": SmtpReply(550, "5.7.1", "Not you"),
            "no@y.test": SmtpReply(450, "4.2.1", "Not now\nnot ever"),
        }
        client = await served.connect()
        assert (await client.ask(b"MAIL FROM:<bad@x.test>")).text == "Not you"
        assert (await client.ask(b"MAIL FROM:<a@x.test>")).code == 250
        assert (await client.ask(b"RCPT TO:<no@y.test>")).text == "Not now\nnot ever"
        assert (await client.ask(b"DATA")).code == 554
        assert (await client.ask(b"RCPT TO:<yes@y.test>")).code == 250
        assert (await client.ask(b"DATA")).code == 354
        await client.send(b".\r\n")
        assert (await client.reply()).code == 250
        assert [one.address for one in served.reception.mails[0].recipients] == ["yes@y.test"]


async def test_an_error_of_the_reception_is_a_deferral_and_the_conversation_goes_on(serve) -> None:
    async with serve() as served:
        served.reception.error = RuntimeError("the disk is gone")
        client = await served.connect()
        await client.begin_mail()
        await client.send(b"x\r\n.\r\n")
        reply = await client.reply()
        assert (reply.code, reply.enhanced) == (451, "4.3.0")
        assert "disk" not in reply.text
        served.reception.error = None
        await client.begin_mail()
        await client.send(b"x\r\n.\r\n")
        assert (await client.reply()).code == 250


async def test_a_reception_that_hangs_is_not_waited_for_for_ever(serve) -> None:
    async with serve(store_seconds=0.05) as served:
        served.reception.wait = asyncio.Event()
        client = await served.connect()
        await client.begin_mail()
        await client.send(b"x\r\n.\r\n")
        assert (await client.reply()).code == 451
        served.reception.wait.set()


async def test_postmaster_without_a_domain_is_ours(serve) -> None:
    """RFC 5321 §4.5.1."""
    async with serve() as served:
        client = await served.connect()
        await client.begin_mail(recipient=b"Postmaster")
        await client.send(b".\r\n")
        assert (await client.reply()).code == 250
        assert served.reception.mails[0].recipients == (RcptTo("postmaster@instance.test"),)


async def test_rset_and_ehlo_forget_the_mail(serve) -> None:
    async with serve() as served:
        client = await served.connect()
        for command in (b"RSET", b"EHLO client.test"):
            assert (await client.ask(b"MAIL FROM:<a@x.test>")).code == 250
            assert (await client.ask(command)).code == 250
            assert (await client.ask(b"RCPT TO:<b@y.test>")).code == 503
        assert (await client.ask(b"MAIL FROM:<a@x.test>")).code == 250
        assert (await client.ask(b"MAIL FROM:<b@x.test>")).code == 503


async def test_the_hundred_first_recipient_is_asked_to_come_later(serve) -> None:
    """RFC 5321 §4.5.3.1.10; and it is no error of the peer's."""
    async with serve() as served:
        client = await served.connect()
        await client.send(b"MAIL FROM:<a@x.test>\r\n" + b"RCPT TO:<b@y.test>\r\n" * 150 + b"DATA\r\n")
        assert await client.codes(152) == [250] * 101 + [452] * 50 + [354]


async def test_a_login_may_have_numbers_of_its_own(serve) -> None:
    class Login:
        most_recipients, most_octets = 2, 20

    async with serve() as served:
        served.reception.login_answer = Login()
        client = await served.connect(Service.SUBMISSION)
        await client.log_in()
        assert (await client.ask(b"MAIL FROM:<a@x.test> SIZE=21")).code == 552
        await client.send(
            b"MAIL FROM:<a@x.test>\r\n" + b"RCPT TO:<b@y.test>\r\n" * 3 + b"DATA\r\n" + b"x" * 30 + b"\r\n.\r\n"
        )
        assert await client.codes(6) == [250, 250, 250, 452, 354, 552]


async def test_lines_may_end_in_lf_for_people_at_a_terminal(serve) -> None:
    async with serve() as served:
        client = await served.connect()
        await client.send(b"NOOP\nQUIT\n")
        assert await client.codes(2) == [250, 221]


@pytest.mark.parametrize("service", list(Service))
async def test_the_standard_librarys_client_gets_its_mail_through(serve, service) -> None:
    def send(port: int) -> None:
        make = smtplib.SMTP_SSL if service is Service.SUBMISSIONS else smtplib.SMTP
        options = {"context": insecure()} if service is Service.SUBMISSIONS else {}
        with make("127.0.0.1", port, timeout=5, **options) as client:
            if service is Service.SUBMISSION:
                client.starttls(context=insecure())
            if service is not Service.MX:
                client.login("shop", SECRET)
            client.sendmail("a@x.test", ["b@y.test"], "Subject: x\r\n\r\n" + ".\r\n" * 50_000)

    async with serve() as served:
        await asyncio.to_thread(send, served.port(service))
        [mail] = served.reception.mails
    assert mail.octets == b"Subject: x\r\n\r\n" + b".\r\n" * 50_000
    assert mail.login == (None if service is Service.MX else "login of shop")


# --- AUTH ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("port", [Service.MX, Service.SUBMISSION])
async def test_there_is_no_auth_in_clear_text_and_none_on_port_25(serve, port) -> None:
    """Lesson S6."""
    async with serve() as served:
        client = await served.connect(port)
        offers = (await client.ask(b"EHLO client.test")).text
        assert "AUTH" not in offers
        assert (await client.ask(b"AUTH PLAIN " + plain("shop", SECRET))).code in (502, 530)
        if port is Service.SUBMISSION:
            assert (await client.ask(b"MAIL FROM:<a@x.test>")).enhanced == "5.7.0"
        await client.ask(b"STARTTLS")
        await client.start_tls()
        offers = (await client.ask(b"EHLO client.test")).text
        assert ("AUTH" in offers) is (port is Service.SUBMISSION)
        assert not served.reception.asked


async def test_submission_needs_a_login(serve) -> None:
    async with serve() as served:
        client = await served.connect(Service.SUBMISSIONS)
        await client.ask(b"EHLO client.test")
        assert (await client.ask(b"MAIL FROM:<a@x.test>")).code == 530
        assert (await client.ask(b"AUTH PLAIN " + plain("shop", SECRET))).code == 235
        assert (await client.ask(b"MAIL FROM:<a@x.test>")).code == 250
        assert (await client.ask(b"AUTH PLAIN " + plain("shop", SECRET))).code == 503


def b64(text: str) -> bytes:
    return base64.b64encode(text.encode())


@pytest.mark.parametrize(
    ("lines", "codes"),
    [
        ([b"AUTH PLAIN", plain("shop", SECRET)], [334, 235]),
        ([b"auth plain " + plain("shop", SECRET)], [235]),
        ([b"AUTH LOGIN", b64("shop"), b64(SECRET)], [334, 334, 235]),
        ([b"AUTH LOGIN " + b64("shop"), b64(SECRET)], [334, 235]),
        ([b"AUTH LOGIN =", b64(SECRET)], [334, 235]),
        ([b"AUTH PLAIN " + b64(f"shop\0shop\0{SECRET}")], [235]),
        ([b"AUTH PLAIN " + b64(f"other\0shop\0{SECRET}")], [535]),
        ([b"AUTH PLAIN " + plain("shop", "wrong")], [535]),
        ([b"AUTH PLAIN", b"*"], [334, 501]),
        ([b"AUTH PLAIN !!!"], [501]),
        ([b"AUTH PLAIN " + b64("no separators")], [501]),
        ([b"AUTH LOGIN", b64("a\0b"), b64(SECRET)], [334, 334, 501]),
        ([b"AUTH LOGIN", b"x" * 13_000], [334, 500]),
        ([b"AUTH CRAM-MD5"], [504]),
        ([b"AUTH"], [504]),
    ],
    ids=lambda value: str(value)[:50],
)
async def test_an_exchange_of_auth_ends_with_its_code(serve, lines, codes) -> None:
    async with serve() as served:
        client = await served.connect(Service.SUBMISSIONS)
        await client.ask(b"EHLO client.test")
        assert [(await client.ask(line)).code for line in lines] == codes


async def test_a_failed_login_can_be_tried_again_three_times(serve) -> None:
    """Lesson S6: guesses are throttled. The reply comes, whoever waits for it (aiosmtpd's trap)."""
    async with serve() as served:
        client = await served.connect(Service.SUBMISSIONS)
        await client.ask(b"EHLO client.test")
        wrong = b"AUTH PLAIN " + plain("shop", "wrong")
        assert [(await client.ask(wrong)).code for _ in range(3)] == [535, 535, 535]
        assert (await client.reply()).code == 421
        assert await client.is_hung_up_on()


async def test_a_peer_that_fails_too_often_is_sent_away_for_a_while(serve) -> None:
    """Lesson S6. Port 25 has nothing to do with it, nor have other peers."""
    async with serve(auth_failures=2, auth_pause_seconds=30) as served:
        open_before = await served.connect(Service.SUBMISSIONS)
        await open_before.ask(b"EHLO client.test")
        guesser = await served.connect(Service.SUBMISSION)
        await guesser.ask(b"EHLO client.test")
        await guesser.ask(b"STARTTLS")
        await guesser.start_tls()
        await guesser.ask(b"EHLO client.test")
        wrong = b"AUTH PLAIN " + plain("shop", "wrong")
        assert [(await guesser.ask(wrong)).code for _ in range(2)] == [535, 535]
        assert (await guesser.reply()).enhanced == "4.7.0"
        turned_away = await served.connect(Service.SUBMISSION, greeted=False)
        assert (await turned_away.reply()).code == 421
        assert (await open_before.ask(b"AUTH PLAIN " + plain("shop", SECRET))).code == 421
        await served.connect(Service.MX)
        other = await served.connect(Service.SUBMISSION, source="127.0.0.9")
        await other.log_in()


async def test_trouble_of_our_own_is_no_failure_of_the_peers(serve) -> None:
    async with serve(session_auth_failures=1) as served:
        served.reception.login_answer = SmtpReply(454, "4.7.0", "Try later")
        client = await served.connect(Service.SUBMISSIONS)
        await client.ask(b"EHLO client.test")
        assert (await client.ask(b"AUTH PLAIN " + plain("shop", SECRET))).code == 454
        served.reception.login_answer = None
        assert (await client.ask(b"AUTH PLAIN " + plain("shop", SECRET))).code == 235
