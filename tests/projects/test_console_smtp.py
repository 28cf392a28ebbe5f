"""Where mail can be submitted by SMTP, as the page of keys says it."""

from projects.api_keys import create_key
from projects.console.keys import SmtpPlace, smtp_places


def test_the_page_of_keys_says_where_mail_can_be_submitted(client, alice, project, settings):
    settings.SMTP_HOSTNAME = "mx.relay.example"
    settings.SMTP_SUBMISSION, settings.SMTP_SUBMISSIONS = [("0.0.0.0", 587), ("::", 587)], [("127.0.0.1", 2465)]
    assert smtp_places() == [
        SmtpPlace("STARTTLS", "mx.relay.example", 587),
        SmtpPlace("TLS from the start", "127.0.0.1", 2465),
    ]
    client.force_login(alice, backend="accounts.sign_in.PasswordBackend")
    assert "Send by SMTP" not in client.get(f"/console/{project.pk}/keys").content.decode(), (
        "without a key there is no password"
    )
    create_key(project, "CI", ["project.read"])
    page = client.get(f"/console/{project.pk}/keys").content.decode()
    assert "Send by SMTP" in page
    assert "mx.relay.example" in page


def test_an_installation_without_submission_says_nothing_of_it(client, alice, project, settings):
    settings.SMTP_SUBMISSION = settings.SMTP_SUBMISSIONS = []
    create_key(project, "CI", ["project.read"])
    client.force_login(alice, backend="accounts.sign_in.PasswordBackend")
    assert "Send by SMTP" not in client.get(f"/console/{project.pk}/keys").content.decode()
