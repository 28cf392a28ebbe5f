"""The pages that every browser test walks through; `{shop}` and the like are filled in by the house."""

from tests.browser.seed import INVITATION_TOKEN

PAGES = (
    "{shop}",
    "{empty}",
    "{shop}/sends",
    "{shop}/sends?status=complained&to_text=nobody",
    "{empty}/sends",
    "{send}",
    "{given_up}",
    "{send}/preview",
    "{send}/raw",
    "{shop}/domains",
    "{empty}/domains",
    "{shop}/domains/new",
    "{domain}",
    "{pending}",
    "{shop}/keys",
    "{empty}/keys",
    "{shop}/keys/new",
    "{shop}/webhooks",
    "{empty}/webhooks",
    "{shop}/webhooks/new",
    "{webhook}",
    "{shop}/sandbox",
    "{empty}/sandbox",
    "{mail}",
    "{shop}/members",
    "{shop}/invitations/new",
    "{shop}/members/new",
    "{member}",
    "{shop}/settings",
    "/console/new",
    "/console/projects",
    "/console/account",
)
PLAIN_PAGES = ("/sign-in", "/account/password", f"/console/invitation/{INVITATION_TOKEN}")
