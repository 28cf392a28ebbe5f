"""URLs of signing in; included at the root, before the admin's, whose own sign-in pages they replace."""

from django.urls import path
from django.views.generic import RedirectView

from accounts import console
from accounts.oidc import CallbackView, StartView

urlpatterns = [
    path("sign-in", console.sign_in, name="sign_in"),
    path("sign-in/oidc", StartView.as_view(), name="oidc_authentication_init"),
    path("api/oidc/callback", CallbackView.as_view(), name="oidc_authentication_callback"),
    path("sign-in/link/<str:token>", console.sign_in_link, name="sign_in_link"),
    path("sign-out", console.sign_out, name="sign_out"),
    path("account/password", console.password, name="password"),
    path("admin/login/", console.admin_sign_in),
    path("admin/logout/", console.sign_out),
    path("admin/password_change/", RedirectView.as_view(pattern_name="password")),
]
