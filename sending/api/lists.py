"""`list` and `list_unsubscribe` of `POST /sends`: which list a mail is for, and the link that ends it."""

from relay_project.mail.address import InvalidAddress, parse_mailbox
from sending.accept.request import ListUnsubscribe
from sending.api.reading import Noting
from sending.suppress import InvalidList, list_key

NOT_A_WISH = "This value should be true, false or an object."
OTHER_LIST = "This is another list than the mail is for."


def read_list(body: Noting) -> tuple[str | None, ListUnsubscribe | None]:
    """The list's name and the wish for a link; `list_unsubscribe` may name the list as well as `list` does."""
    name = _read_name(body, "list", body.data.get("list"))
    wish = body.data.get("list_unsubscribe")
    if wish is None or wish is False:
        return name, None
    if wish is True:
        return name, ListUnsubscribe()
    if not isinstance(wish, dict):
        body.note("list_unsubscribe", NOT_A_WISH)
        return name, None
    other = _read_name(body, "list_unsubscribe[list]", wish.get("list"))
    if name is not None and other is not None and name != other:
        body.note("list_unsubscribe[list]", OTHER_LIST)
    return name or other, ListUnsubscribe(_read_mailto(body, wish.get("mailto")))


def _read_name(body: Noting, field: str, value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        body.note(field, "This value should be of type string.")
        return None
    try:
        return list_key(value)
    except InvalidList as wrong:
        body.note(field, str(wrong))
        return None


def _read_mailto(body: Noting, value: object) -> str | None:
    """An address, with or without the scheme that it has in the header."""
    if value is None:
        return None
    try:
        if isinstance(value, str):
            return parse_mailbox(value.removeprefix("mailto:")).address
    except InvalidAddress:
        pass
    body.note("list_unsubscribe[mailto]", "This value is not a valid email address.")
    return None
