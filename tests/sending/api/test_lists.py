"""`list` and `list_unsubscribe` in `POST /sends` and `POST /sends/batch`."""

from typing import Any

import pytest
from django.test import Client

from sending.models import Send, Suppression
from tests.sending.api.conftest import Api, mail

pytestmark = pytest.mark.django_db


def test_each_mail_of_a_batch_has_a_link_of_its_own(api: Api) -> None:
    wish = {"list": "News", "mailto": "leave@shop.example.test"}
    messages = [mail(to=f"p{number}@x.example", list_unsubscribe=wish) for number in range(3)]
    response = api.post("/sends/batch", {"messages": messages})
    assert response.status_code == 200, response.content
    values = list(Send.objects.order_by("id").values_list("list", "list_unsubscribe"))
    assert {name for name, _ in values} == {"news"}
    assert len({value for _, value in values}) == 3
    path = values[1][1].partition(">")[0].removeprefix("<http://127.0.0.1:8000")
    assert Client().post(path, {"List-Unsubscribe": "One-Click"}).status_code == 200
    row = Suppression.objects.get()
    assert (row.email, row.list, row.list_project_id) == ("p1@x.example", "news", api.project.pk)


def test_a_mail_names_its_list_in_either_place(api: Api) -> None:
    for fields in (
        {"list": "News"},
        {"list_unsubscribe": {"list": "news"}},
        {"list": "NEWS", "list_unsubscribe": True},
    ):
        assert Send.objects.get(pk=api.send(**fields)).list == "news"
    assert Send.objects.get(pk=api.send(list_unsubscribe=False)).list_unsubscribe is None


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"list": 5}, "list"), ({"list": ""}, "list"), ({"list": "x" * 65}, "list"), ({"list": "a\0b"}, "list"),
        ({"list_unsubscribe": "yes"}, "list_unsubscribe"), ({"list_unsubscribe": []}, "list_unsubscribe"),
        ({"list_unsubscribe": {"mailto": "nobody"}}, "list_unsubscribe[mailto]"),
        ({"list_unsubscribe": {"mailto": "a@b.example\r\nBcc: c@d.example"}}, "list_unsubscribe[mailto]"),
        ({"list_unsubscribe": {"list": []}}, "list_unsubscribe[list]"),
        ({"list": "news", "list_unsubscribe": {"list": "offers"}}, "list_unsubscribe[list]"),
        ({"list_unsubscribe": True, "cc": "erin@example.test"}, "list_unsubscribe"),
        ({"list_unsubscribe": True, "headers": {"List-Unsubscribe": "<https://x.example>"}}, "list_unsubscribe"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(api: Api, fields: dict[str, Any], wrong: str) -> None:
    response = api.post("/sends", mail(**fields))
    assert response.status_code == 422
    assert [one["property"] for one in response.json()["violations"]] == [wrong]
