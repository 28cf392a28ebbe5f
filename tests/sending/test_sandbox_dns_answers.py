"""What the sandbox's DNS says of domains: a return path set in quickstart is found there."""

import pytest

from projects.domains import create_domain
from projects.models import Project
from projects.return_path import set_return_path
from sending import sandbox_inbox
from sending.sandbox_inbox import published_txt
from tests.projects.conftest import NOW, PEM

pytestmark = pytest.mark.django_db


def test_return_paths_have_the_record_that_they_need(settings, monkeypatch):
    monkeypatch.setattr(sandbox_inbox, "close_old_connections", lambda: None)  # the test's transaction lives in it
    settings.INSTANCE_DOMAIN = "relay.test"
    domain = create_domain(Project.objects.create(name="Demo", send_type="transactional"), "demo.test", "sel", PEM)
    assert published_txt("bounces.demo.test") == ["v=spf1 ip4:127.0.0.0/8 ~all"]
    set_return_path(domain, "bounces.demo.test", NOW)
    assert published_txt("Bounces.Demo.Test.") == ["v=spf1 include:relay.test -all"]
    assert published_txt("demo.test") == ["v=spf1 ip4:127.0.0.0/8 ~all"]
    assert published_txt("sel._domainkey.demo.test")[0].startswith("v=DKIM1; k=rsa; p=")
