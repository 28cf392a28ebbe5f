"""How the staff admin looks (django-unfold's UNFOLD setting): the console's petrol blue, our own menu and dashboard."""

from typing import Any

PRIMARY = {
    "50": "#eef7f9",
    "100": "#d5ebf0",
    "200": "#aed8e2",
    "300": "#7cc3d3",
    "400": "#4fb6ca",
    "500": "#3aa3b8",
    "600": "#0a6478",
    "700": "#084f5f",
    "800": "#0a424f",
    "900": "#0c3843",
    "950": "#05222a",
}

UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Relay staff",
    "SITE_HEADER": "Relay",
    "SITE_SUBHEADER": "Staff admin",
    "SITE_URL": "/console/",
    "SITE_SYMBOL": "forward_to_inbox",
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
    "SHOW_BACK_BUTTON": True,
    "DASHBOARD_CALLBACK": "relay_project.dashboard.context",
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "sizes": "any", "href": "relay_project.admin_site.favicon"}
    ],
    "STYLES": ["relay_project.admin_site.stylesheet"],
    "COLORS": {"primary": PRIMARY},
    "SIDEBAR": {"show_search": True, "show_all_applications": False, "navigation": "relay_project.admin_site.menu"},
    "ACCOUNT": {"navigation": [{"title": "Back to the console", "link": "/console/"}]},
}
