"""The pages that every browser test walks through; `{shop}` and the like are filled in by the house."""

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
    "{shop}/sandbox",
    "{empty}/sandbox",
    "{mail}",
    "{shop}/settings",
    "/console/new",
    "/console/projects",
    "/console/account",
)
PLAIN_PAGES = ("/sign-in", "/account/password")
